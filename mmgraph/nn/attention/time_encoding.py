"""What the time between two nodes does to the attention between them.

Letters: ``E`` edges, ``R`` relations, ``H`` heads, ``K`` frequencies.
"""

import math

import torch
from torch import Tensor, nn

from mmgraph.nn.linear import parameter

NUM_FREQUENCIES = 8


class TimeEncoding(nn.Module):
    """A logit for the time between two nodes: ``w[r,h] . [dt, sin(omega dt + p)]``.

    Frequencies begin geometrically between periods of 0.1 and 1000 seconds; weights
    begin at zero, so that time enters only where it helps.
    """

    def __init__(
        self, num_relations: int, num_heads: int, *, members: int | None = None
    ) -> None:
        super().__init__()
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
        """Map ``[E]`` seconds to ``[..., E, H]`` logits of relation ``number``."""
        omega = self.frequency.select(-2, number)[..., None, :]
        phase = self.phase.select(-2, number)[..., None, :]
        weight = self.weight.select(-3, number)  # [..., K + 1, H]
        # differences are exact first: seconds have more digits than features
        delta = delta.to(torch.promote_types(weight.dtype, torch.float32))[:, None]
        waves = torch.sin(delta * omega + phase).to(weight.dtype)  # [..., E, K]
        linear = delta.to(weight.dtype) @ weight[..., :1, :]
        return linear + waves @ weight[..., 1:, :]
