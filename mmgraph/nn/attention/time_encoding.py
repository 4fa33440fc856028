"""Attention logits from the time difference of two nodes.

Letters: ``E`` edges, ``R`` relations, ``H`` heads, ``K`` frequencies.
"""

import math
from collections.abc import Collection

import torch
from torch import Tensor, nn

from mmgraph.nn.linear import parameter

NUM_FREQUENCIES = 8


class TimeEncoding(nn.Module):
    """Learned time encoding: the logit ``w[r,h] . [dt, sin(omega dt + p)]``.

    The periods of the sine terms are initialized geometrically between 0.1 and 1000
    seconds, and the weights close to zero, so that time has little influence at first.
    The logit of a symmetric relation is ``w[r,h] . cos(omega dt)``, the same before and
    after the target: an offset of the times is then not the same as another phase.

    References:
        Time2Vec: Learning a Vector Representation of Time, Kazemi et al., 2019,
        arXiv 1907.05321.

    Args:
        num_relations: ``R``.
        num_heads: ``H``.
        symmetric: Indices of symmetric relations.
        members: Ensemble members, or None for a single model.
    """

    def __init__(
        self,
        num_relations: int,
        num_heads: int,
        *,
        symmetric: Collection[int] = (),
        members: int | None = None,
    ) -> None:
        super().__init__()
        self.symmetric = frozenset(symmetric)
        self.frequency = parameter(num_relations, NUM_FREQUENCIES, members=members)
        self.phase = parameter(
            num_relations, NUM_FREQUENCIES, members=members, bound=math.pi
        )
        self.weight = parameter(
            num_relations, NUM_FREQUENCIES + 1, num_heads, members=members, bound=0.01
        )
        periods = torch.logspace(-1, 3, NUM_FREQUENCIES)
        with torch.no_grad():
            self.frequency.copy_((2 * math.pi / periods).expand_as(self.frequency))

    def forward(self, delta: Tensor, number: int) -> Tensor:
        """Return the logits ``[..., E, H]`` of differences ``[E]`` in seconds.

        Args:
            delta: Time of the target minus time of the source.
            number: Index of the relation.
        """
        omega = self.frequency.select(-2, number)[..., None, :]
        phase = self.phase.select(-2, number)[..., None, :]
        weight = self.weight.select(-3, number)  # [..., K + 1, H]
        # at least float32: seconds have more digits than features
        delta = delta.to(torch.promote_types(weight.dtype, torch.float32))[:, None]
        if number in self.symmetric:
            return torch.cos(delta * omega).to(weight.dtype) @ weight[..., 1:, :]
        waves = torch.sin(delta * omega + phase).to(weight.dtype)  # [..., E, K]
        linear = delta.to(weight.dtype) @ weight[..., :1, :]
        return linear + waves @ weight[..., 1:, :]
