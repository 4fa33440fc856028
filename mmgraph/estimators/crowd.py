"""What is usual for a side of a pair, told from training samples.

Letters: ``P`` pairs, ``D`` coordinates, ``L`` samples of the crowd.
"""

import math

import torch
from torch import Tensor, nn

from mmgraph.estimators.hubness import NEIGHBOURS

MAX_CROWD = 2000
PIECE = 4096  # rows that are compared at once


class Crowd(nn.Module):
    """Training samples, embedded from either side, to compare a side with.

    Some rows are near to everything, others to nothing: how near two sides are says
    more when it is known how near each is to the sides that it does not belong to.

    References:
        Word Translation Without Parallel Data, Conneau, Lample, Ranzato, Denoyer,
        Jegou, 2018 (CSLS; here a pair depends on no other that is asked).

    Args:
        channels: ``D``.
        num_samples: ``L``.
    """

    sides: Tensor

    def __init__(self, channels: int, num_samples: int = 0) -> None:
        super().__init__()
        self.register_buffer("sides", torch.zeros(2, num_samples, channels))

    @property
    def num_samples(self) -> int:
        """L."""
        return self.sides.shape[1]

    def keep(self, left: Tensor, right: Tensor) -> Tensor:
        """Take the crowd from both sides ``[n, D]`` of samples; return which, ``[L]``.

        Evenly spaced ones of more than two thousand.
        """
        step = max(1, math.ceil(len(left) / MAX_CROWD))
        rows = torch.arange(0, len(left), step, device=left.device)
        self.sides = torch.stack([left[rows], right[rows]])
        return rows

    def nearness(self, z: Tensor, side: int, own: Tensor | None = None) -> Tensor:
        """Average the likeness of ``[P, D]`` to the ten nearest of a side, ``[P]``.

        Args:
            z: Sides of pairs; of those that are zero it is zero, as without a crowd.
            side: Of the crowd: 0 left, 1 right.
            own: ``[P, L]`` Bool, who is left out; default: nobody.
        """
        crowd, found = self.sides[side], []
        for rows in torch.arange(len(z), device=z.device).split(PIECE):
            near = z[rows] @ crowd.T
            if own is not None:
                near = near.masked_fill(own[rows], -torch.inf)
            top = near.topk(min(NEIGHBOURS, len(crowd)), dim=1).values
            known = top > -torch.inf
            total = torch.where(known, top, 0).sum(1)
            found.append(total / known.sum(1).clamp(min=1))
        return torch.cat(found)
