"""Smooth functions of one modality's features: kernel machines as plain tensors.

Letters: ``N`` rows, ``F`` features, ``L`` landmarks, ``D`` outputs.
"""

import torch
from torch import Tensor, nn

from mmgraph.nn.scaling import Standardiser

__all__ = ["RadialMap"]

SCALES = (1.5, 3.0, 6.0)  # in units of one over the mean squared distance
PIECE = 4096


class RadialMap(nn.Module):
    """A linear map of radial functions around landmarks, at three scales.

    Features are drawn towards zero by the square root of their size, then
    standardised; the distance of two rows counts their missing cells as a difference.
    A kernel is the mean of ``exp(-s d^2 / mean d^2)`` over the scales s, so that no
    width has to be chosen.

    References:
        Improving the Fisher Kernel for Large-Scale Image Classification, Perronnin,
        Sanchez, Mensink, 2010 (the signed square root). Using the Nystroem Method to
        Speed Up Kernel Machines, Williams, Seeger, 2000 (landmarks).

    Args:
        in_features: ``F``.
        out_channels: ``D``.
        num_landmarks: ``L``.
    """

    landmark: Tensor
    spread: Tensor
    weight: Tensor

    def __init__(self, in_features: int, out_channels: int, num_landmarks: int) -> None:
        super().__init__()
        self.scaler = Standardiser(in_features)
        width = self.scaler.out_channels
        self.register_buffer("landmark", torch.zeros(num_landmarks, width))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("weight", torch.zeros(num_landmarks, out_channels))

    def fit(self, x: Tensor, landmarks: Tensor) -> None:
        """Set scales and landmarks from rows ``[N, F]`` and ``[L]`` row numbers."""
        self.scaler.fit(_drawn_in(x))
        self.landmark.copy_(self._inputs(x[landmarks]))
        square = _squared_distances(self.landmark, self.landmark).mean()
        self.spread.copy_(torch.where(square > 0, square, 1))

    def kernel(self, x: Tensor) -> Tensor:
        """Compare features ``[N, F]`` (NaN cells allowed) with landmarks: ``[N, L]``.

        Computed in double precision, so that a row does not depend on its mates.
        """
        square = _squared_distances(self._inputs(x), self.landmark)
        near = square / self.spread.double()
        return torch.stack([(-s * near).exp() for s in SCALES]).mean(0)

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``[N, F]`` (NaN cells allowed) to ``[N, D]``."""
        pieces = [self.kernel(p) @ self.weight.double() for p in x.split(PIECE)]
        return torch.cat(pieces).to(self.weight.dtype)

    def _inputs(self, x: Tensor) -> Tensor:
        return self.scaler(_drawn_in(x))


def _drawn_in(x: Tensor) -> Tensor:
    return x.sign() * x.abs().sqrt()


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    a, b = a.double(), b.double()
    squares = a.square().sum(1)[:, None] + b.square().sum(1)
    return (squares - 2 * a @ b.T).clamp(min=0)
