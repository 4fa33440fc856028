"""Modalities whose vectors lie in one space of a pretrained model.

Letters: ``N`` samples, ``n`` rows of a modality, ``M`` modalities, ``F`` features,
``G`` channels of the shared space.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHRINKAGE = 10  # number of rows whose mean moves the center by one half


class AlignedMap(nn.Module):
    """Centering and normalization of vectors of aligned modalities.

    Vectors of images and texts from one model such as CLIP lie in separate cones (the
    modality gap); subtracting the mean of the modality makes their cosines comparable.
    The center is shrunk towards zero if there are few rows.

    References:
        Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive
        Representation Learning, Liang, Zhang, Kwon, Yeung, Zou, 2022.

    Args:
        aligned: ``M`` booleans, True for modalities in the shared space.
        channels: ``G``; 0 without such modalities.
    """

    centre: Tensor

    def __init__(self, aligned: Sequence[bool], channels: int) -> None:
        super().__init__()
        self.aligned, self.channels = tuple(aligned), channels
        self.register_buffer("centre", torch.zeros(len(self.aligned), channels))

    def fit(self, features: Sequence[Tensor]) -> None:
        """Fit the centers to features ``[N, F_m]`` of each modality, NaN if missing."""
        for m, x in enumerate(features):
            if self.aligned[m]:
                count = (~x.isnan()).sum(0)
                self.centre[m] = x.nansum(0) / (count + SHRINKAGE)

    def evidence(self, features: Sequence[Tensor]) -> Tensor:
        """Map features ``[N, F_m]`` to unit vectors ``[N, M, G]``, zero if missing."""
        return torch.stack([self(m, x) for m, x in enumerate(features)], dim=1)

    def forward(self, m: int, x: Tensor) -> Tensor:
        """Map rows ``[n, F]`` of modality m to unit vectors ``[n, G]``.

        Rows of other modalities are mapped to zero. NaN cells are imputed with the
        center.
        """
        if not self.aligned[m]:
            return x.new_zeros(len(x), self.channels)
        centered = torch.where(x.isnan(), 0, x - self.centre[m])
        largest = centered.abs().amax(1, keepdim=True)  # its square may overflow
        return F.normalize(centered / torch.where(largest > 0, largest, 1), dim=1)


def fit_aligned(features: Mapping[str, Tensor], names: Sequence[str]) -> AlignedMap:
    """Fit the map of the named modalities, given features ``[N, F_m]`` of all."""
    channels = features[names[0]].shape[1] if names else 0
    fitted = AlignedMap([name in names for name in features], channels)
    fitted.fit(list(features.values()))
    return fitted
