"""Fine-tuning of pretrained encoders as part of a fusion model.

Letters: ``N`` values, ``L`` rows of all values together, ``C`` channels, ``D`` width,
``B`` samples.
"""

import numpy as np
import torch
from torch import Tensor, nn

from mmgraph._random import separate_draws
from mmgraph.data.column import Column, lengths_to_offsets
from mmgraph.errors import ConfigError
from mmgraph.nn.encoders import EmbeddingEncoder, Encoded
from mmgraph.pretrained import PretrainedEncoder
from mmgraph.pretrained.backbone import Backbone
from mmgraph.pretrained.encoder import MINIMAL_INPUT
from mmgraph.pretrained.processor import pad_tokens


class FineTunedEncoder(nn.Module):
    """Trainable transformers model, followed by a linear map to node states.

    The model stays in evaluation mode, without dropout and with fixed statistics of
    batch normalization, so that the states of a sample do not depend on other samples
    of the batch. Its input are the rows that :meth:`prepare` returns: one row per token
    of a text, one row per point of a waveform, and one flat row for anything else.

    Args:
        encoder: Pretrained model. With ``lora_rank``, low-rank adapters are trained and
            its weights are frozen.
        hidden_channels: ``D``.
        members: Ensemble members, which share the model and have separate linear maps;
            or None for a single model.

    References:
        LoRA: Low-Rank Adaptation of Large Language Models. Hu, Shen, Wallis, Allen-Zhu,
        Li, Wang, Wang, Chen, 2021, arXiv 2106.09685.

    Raises:
        ConfigError: If the model is not found; or ``lora_rank`` is given and peft is
            not installed or finds no linear layer.
    """

    def __init__(
        self,
        encoder: PretrainedEncoder,
        hidden_channels: int,
        *,
        members: int | None = None,
    ) -> None:
        super().__init__()
        self.backbone, self.processor = encoder.load()
        (row,) = self.processor([MINIMAL_INPUT[self.backbone.kind]])
        self.shape = row.shape
        x = torch.from_numpy(row)
        x = x[:, None] if self._ragged else x.reshape(1, -1)
        with torch.no_grad():
            z = self._forward(x, [len(row)])
        if encoder.lora_rank is not None:
            add_adapters(self.backbone, encoder.lora_rank)
        if self.backbone.pooling != "pooler":  # unused, so it would have no gradient
            for name, weight in self.backbone.model.named_parameters():
                weight.requires_grad_(weight.requires_grad and "pooler" not in name)
        self.channels = z.shape[1]
        self.map = EmbeddingEncoder(self.channels, hidden_channels, members=members)

    @property
    def _ragged(self) -> bool:
        """Whether a value has one row per token or point."""
        return len(self.shape) == 1

    def prepare(self, column: Column) -> Column:
        """Return the input rows of a column of texts, or of image or audio files.

        Raises:
            DataError: If a file cannot be read.
        """
        rows = self.processor(column.values)
        if self._ragged:
            lengths = np.zeros(len(column), dtype=np.int64)
            lengths[column.present] = [len(row) for row in rows]
            kind = np.int64 if self.backbone.kind == "text" else np.float32
            values = np.concatenate([np.empty(0, kind), *rows])[:, None]
            return Column(values, lengths_to_offsets(lengths), ragged=True)
        width = int(np.prod(self.shape))
        values = np.array([row.reshape(-1) for row in rows], dtype=np.float32)
        return Column(values.reshape(-1, width), column.offsets)

    def forward(
        self, x: Tensor, sample: Tensor, time: Tensor | None, num_samples: int
    ) -> Encoded:
        """Return one node for each value, from rows ``[L, C]``."""
        if not x.shape[0]:
            weight = self.map.linear.weight
            return self.map(
                weight.new_zeros(0, self.channels), sample, time, num_samples
            )
        if not self._ragged:
            return self.map(self._forward(x, []), sample, time, num_samples)
        owner, counts = torch.unique_consecutive(sample, return_counts=True)
        z = self._forward(x, counts.tolist())
        if time is not None:
            time = time[counts.cumsum(0) - counts]
        return self.map(z, owner, time, num_samples)

    def _forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        """Return the vectors ``[N, C]`` of the model."""
        weight = next(self.backbone.parameters())
        if not self._ragged:
            return self.backbone(x.to(weight.dtype).view(-1, *self.shape))
        if self.backbone.kind == "text":
            return self.backbone(*pad_tokens(x[:, 0], lengths))
        parts = x[:, 0].split(lengths)
        groups: dict[int, list[int]] = {}
        for i, length in enumerate(lengths):
            groups.setdefault(length, []).append(i)
        z = [
            self.backbone(torch.stack([parts[i] for i in same]).to(weight.dtype))
            for same in groups.values()
        ]
        order = torch.tensor([i for same in groups.values() for i in same])
        return torch.cat(z)[order.argsort().to(x.device)]


def add_adapters(backbone: Backbone, rank: int) -> None:
    """Freeze a model and add trainable low-rank adapters to its linear layers.

    Args:
        backbone: Model; changed in place.
        rank: Rank of the adapters.

    Raises:
        ConfigError: If peft is not installed, or the model has no linear layer.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise ConfigError(
            "lora_rank needs peft, which is not installed. Install mmgraph[lora]."
        ) from None
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        exclude_modules=None if backbone.pooling == "pooler" else r".*pooler.*",
    )
    try:
        with separate_draws():  # other weights do not depend on the adapters
            inject_adapter_in_model(config, backbone.model)
    except ValueError as error:
        raise ConfigError(
            f"lora_rank needs a model with linear layers, got: {error}. Omit lora_rank."
        ) from None
    backbone.eval()
