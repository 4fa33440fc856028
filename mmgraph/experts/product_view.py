"""Product of the kernels of two views, by random features.

Letters: ``B`` samples of a batch, ``E`` and ``F`` features of two views.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmgraph.data.batch import Batch


class ProductView(nn.Module):
    """Interaction of a vector with sequences: the product of their kernels.

    The linear kernel ``k`` of the view of sequences is multiplied by the Gaussian
    kernel ``exp(-|u - u'|^2 / 2)`` of the view of a vector. Feature ``f`` is that of
    the sequences times ``sqrt(2) cos(w_f u + b_f)`` with standard normal ``w_f`` and
    uniform ``b_f``: the expected inner product of two samples is the product of both
    kernels. A model of the sequences can thus depend on the vector, such as that of a
    light curve on the distance.

    Args:
        names: Names of all modalities, that of the vector first.
        vector: Index of the table of the vector among the tables before this one.
        sequences: Index of the table of the sequences.
        in_features: ``E``, width of the table of the vector.
        out_features: ``F``, width of the table of the sequences.

    References:
        Random Features for Large-Scale Kernel Machines, Rahimi, Recht, 2007.
    """

    frequency: Tensor
    phase: Tensor

    def __init__(
        self,
        names: Sequence[str],
        vector: int,
        sequences: int,
        in_features: int,
        out_features: int,
    ) -> None:
        super().__init__()
        self.names, self.vector, self.sequences = tuple(names), vector, sequences
        self.in_features, self.out_features = in_features, out_features
        self.register_buffer("frequency", torch.zeros(in_features, out_features))
        self.register_buffer("phase", torch.zeros(out_features))

    @property
    def is_single_sequence(self) -> bool:
        """False: the view reads several modalities."""
        return False

    @torch.no_grad()
    def fit(
        self, batch: Batch, tables: Sequence[Tensor], generator: torch.Generator
    ) -> Tensor:
        """Draw the random features, and return the table of training samples."""
        shape = self.frequency.shape
        self.frequency.copy_(torch.randn(shape, generator=generator))
        self.phase.copy_(2 * math.pi * torch.rand(shape[1], generator=generator))
        return self(batch, tables)

    def forward(self, batch: Batch, tables: Sequence[Tensor]) -> Tensor:
        """Return the table ``[B, F]``, NaN where a modality is missing.

        Args:
            batch: Not read.
            tables: Description tables of the modalities, then those of earlier views.
        """
        wave = torch.cos(tables[self.vector] @ self.frequency + self.phase)
        return 2**0.5 * wave * tables[self.sequences]
