"""What a fitted estimator says of samples: its answers, and states of its graph.

Letters: ``N`` samples, ``E`` members, ``D`` width of a member's state.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from mmgraph.data import MultimodalStream
from mmgraph.estimators.base import FloatArray, FusionEstimator
from mmgraph.estimators.residual import ResidualFusion


class StateTransformer(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, FusionEstimator
):
    """Gives each sample an answer, and scikit-learn's ``transform`` its state."""

    def _predict(self, X: Any) -> FloatArray:  # noqa: ANN401, N803
        """Return the model's outputs ``[N, K]``."""
        said: FloatArray = self._ask(X, lambda model: model).double().numpy()
        return said

    def _ask(
        self,
        X: Any,  # noqa: ANN401, N803
        question: Callable[[ResidualFusion], Callable[..., Tensor]],
    ) -> Tensor:
        """Return what a method of the fitted model says of each sample, ``[N, D]``."""
        check_is_fitted(self, "model_")
        if isinstance(X, MultimodalStream):
            return torch.cat([self._ask(chunk, question) for chunk in X.chunks()])
        return self._answer(self._read(X, reset=False), question(self.model_))

    def transform(self, X: Any) -> npt.NDArray[np.float32]:  # noqa: ANN401, N803
        """Return what the graph's readout holds of each sample, ``[N, E D]``.

        The states of the members stand side by side: their axes have nothing in
        common, so a mean over them would cancel what each has learned. A sample with
        nothing observed has the learned state of an empty graph.

        Args:
            X: The data, with any of the modalities of the training.

        Raises:
            DataError: A modality that the training did not have, or of another width.
        """
        z: npt.NDArray[np.float32] = self._ask(X, lambda model: model.states).numpy()
        return z

    @property
    def _n_features_out(self) -> int:
        check_is_fitted(self, "model_")
        graph = self.model_.graph
        return int(self.members) * graph.readout.out_channels

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags
