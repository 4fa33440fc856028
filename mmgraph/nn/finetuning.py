"""A pretrained model as a part of a model that is trained.

Letters: ``N`` values, ``L`` rows of all values together, ``C`` channels, ``D`` width,
``B`` samples.
"""

import numpy as np
import torch
from torch import Tensor, nn

from mmgraph.data.column import Column, offsets_of
from mmgraph.errors import ConfigError
from mmgraph.nn.encoders import EmbeddingEncoder, Encoded
from mmgraph.pretrained import PretrainedEncoder
from mmgraph.pretrained.backbone import Backbone
from mmgraph.pretrained.encoder import SMALLEST
from mmgraph.pretrained.processor import pad_tokens


class FineTunedEncoder(nn.Module):
    """A model of `transformers` whose weights are trained, and a map to node states.

    It stays in evaluation mode: without dropout, and with the statistics of batch
    normalization that it has learned, a sample alone is what it is among others. It
    reads the rows that :meth:`prepare` makes: tokens of a text, one row each; a
    waveform, one row for each of its samples; anything else as one flat row.

    Args:
        encoder: The model. With ``lora_rank``, low-rank adapters are trained in place
            of its weights.
        hidden_channels: ``D``.
        members: Ensemble members that share the model and have a map each, or None.

    References:
        LoRA: Low-Rank Adaptation of Large Language Models. Hu, Shen, Wallis, Allen-Zhu,
        Li, Wang, Wang, Chen, 2021, arXiv 2106.09685.

    Raises:
        ConfigError: The model is not there; peft is not installed, or finds no layer.
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
        (row,) = self.processor([SMALLEST[self.backbone.kind]])
        self.shape = row.shape
        x = torch.from_numpy(row)
        x = x[:, None] if self._ragged else x.reshape(1, -1)
        with torch.no_grad():
            z = self._forward(x, [len(row)])
        if encoder.lora_rank is not None:
            add_adapters(self.backbone, encoder.lora_rank)
        if self.backbone.pooling != "pooler":  # it is not read, so it learns nothing
            for name, weight in self.backbone.model.named_parameters():
                weight.requires_grad_(weight.requires_grad and "pooler" not in name)
        self.channels = z.shape[1]
        self.map = EmbeddingEncoder(self.channels, hidden_channels, members=members)

    @property
    def _ragged(self) -> bool:
        """Whether a value has a row for each of its parts."""
        return len(self.shape) == 1

    def prepare(self, column: Column) -> Column:
        """Return the rows of texts, or of paths of pictures or sounds.

        Raises:
            DataError: A file that cannot be read.
        """
        rows = self.processor(column.values)
        if self._ragged:
            lengths = np.zeros(len(column), dtype=np.int64)
            lengths[column.present] = [len(row) for row in rows]
            kind = np.int64 if self.backbone.kind == "text" else np.float32
            values = np.concatenate([np.empty(0, kind), *rows])[:, None]
            return Column(values, offsets_of(lengths), ragged=True)
        width = int(np.prod(self.shape))
        values = np.array([row.reshape(-1) for row in rows], dtype=np.float32)
        return Column(values.reshape(-1, width), column.offsets)

    def forward(
        self, x: Tensor, sample: Tensor, time: Tensor | None, num_samples: int
    ) -> Encoded:
        """Encode rows ``[L, C]``, one node for each value."""
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
        """Return the model's vectors ``[N, C]``."""
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
    """Freeze a model and give its linear layers low-rank adapters that are trained.

    Raises:
        ConfigError: peft is not installed, or the model has no linear layer.
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
        with torch.random.fork_rng(devices=[]):  # the rest is drawn as without it
            inject_adapter_in_model(config, backbone.model)
    except ValueError as error:
        raise ConfigError(
            f"lora_rank must be of a model with linear layers, got: {error}"
        ) from None
    backbone.eval()
