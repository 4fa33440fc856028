"""Baselines with a network trained with modality dropout.

Letters: `N` samples, `M` modalities.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from mmgraph.baselines.architectures import ConcatMLP, TokenTransformer, train_network
from mmgraph.baselines.base import Baseline, Inputs
from mmgraph.baselines.inputs import (
    FloatArray,
    IntArray,
    filled_table,
    fit_scalers,
)


class _NetworkBaseline(Baseline):
    """Base class: a network on imputed inputs, trained with modality dropout."""

    _network: Callable[[Sequence[int], int], nn.Module]

    def _fit(self, x: Inputs, y: IntArray, groups: NDArray[Any] | None) -> None:
        self._scalers = fit_scalers(x)
        widths = [len(s.mean) + len(s.flags) for s in self._scalers.values()]
        self._net = train_network(
            lambda: type(self)._network(widths, len(self.classes_)),
            *self._tensors(x),
            torch.from_numpy(y),
            self.seed,
        )

    def _predict(self, x: Inputs) -> FloatArray:
        with torch.no_grad():
            logits: torch.Tensor = self._net(*self._tensors(x))
        proba: FloatArray = logits.double().softmax(dim=1).numpy()
        return proba

    def _tensors(self, x: Inputs) -> tuple[torch.Tensor, torch.Tensor]:
        """Return concatenated inputs, zero where missing, and availability [N, M]."""
        table = torch.from_numpy(filled_table(x, self._scalers))
        missing = table[:, -len(x) :].bool()
        return table[:, : -len(x)].float(), ~missing


class ConcatMLPBaseline(_NetworkBaseline):
    """Multilayer perceptron on all modalities and indicators, with modality dropout.

    References:
        ModDrop: adaptive multi-modal gesture recognition. Neverova et al., 2015.
        arXiv:1501.00102.
    """

    _network = ConcatMLP


class TokenTransformerBaseline(_NetworkBaseline):
    """Transformer over one token per present modality, with modality dropout.

    References:
        Revisiting deep learning models for tabular data. Gorishniy et al., 2021.
        arXiv:2106.11959.
    """

    _network = TokenTransformer
