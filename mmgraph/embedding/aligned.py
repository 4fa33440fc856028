"""Vectors of modalities that are comparable before anything is learned.

Letters: ``N`` samples, ``n`` rows of a modality, ``M`` modalities, ``F`` features,
``G`` channels of the space that they share.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEW_ROWS = 10  # about as many rows as move the centre half of the way to their mean


class AlignedMap(nn.Module):
    """Centre the vectors of modalities that share a space, and give them unit length.

    Pictures and texts of one model such as CLIP lie in cones of their own: without the
    mean of its modality a vector says more. Few rows move the centre little.

    References:
        Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive
        Representation Learning, Liang, Zhang, Kwon, Yeung, Zou, 2022.

    Args:
        aligned: ``M`` booleans, which modalities share the space.
        channels: ``G``; 0 where none do.
    """

    centre: Tensor

    def __init__(self, aligned: Sequence[bool], channels: int) -> None:
        super().__init__()
        self.aligned, self.channels = tuple(aligned), channels
        self.register_buffer("centre", torch.zeros(len(self.aligned), channels))

    def fit(self, features: Sequence[Tensor]) -> None:
        """Set the centres from ``[N, F_m]`` of each modality; NaN is no value."""
        for m, x in enumerate(features):
            if self.aligned[m]:
                count = (~x.isnan()).sum(0)
                self.centre[m] = x.nansum(0) / (count + FEW_ROWS)

    def evidence(self, features: Sequence[Tensor]) -> Tensor:
        """Map ``[N, F_m]`` of each modality to ``[N, M, G]``: zero where missing."""
        return torch.stack([self(m, x) for m, x in enumerate(features)], dim=1)

    def forward(self, m: int, x: Tensor) -> Tensor:
        """Map rows ``[n, F]`` of modality m to ``[n, G]``: zero if it shares nothing.

        A NaN cell is taken for the centre.
        """
        if not self.aligned[m]:
            return x.new_zeros(len(x), self.channels)
        beyond = torch.where(x.isnan(), 0, x - self.centre[m])
        largest = beyond.abs().amax(1, keepdim=True)  # its square may be no number
        return F.normalize(beyond / torch.where(largest > 0, largest, 1), dim=1)


def fit_aligned(features: Mapping[str, Tensor], names: Sequence[str]) -> AlignedMap:
    """Fit the map of the modalities named, to ``[N, F_m]`` of all."""
    channels = features[names[0]].shape[1] if names else 0
    fitted = AlignedMap([name in names for name in features], channels)
    fitted.fit(list(features.values()))
    return fitted
