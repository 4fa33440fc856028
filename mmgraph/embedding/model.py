"""Embedding model: closed-form space plus an ensemble of graph networks.

Letters: ``B`` samples, ``C`` channels of evidence, ``W`` width of an embedding.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgraph.data.batch import Batch
from mmgraph.embedding.space import EmbeddingSpace
from mmgraph.model import FusionModel


class EmbeddingFusion(nn.Module):
    """``normalize(space + beta * graph)``, with the graph averaged over its members.

    Args:
        space: Closed-form embeddings of any subset of modalities.
        graph: Ensemble of graph networks with ``W`` outputs, on evidence of ``C``
            channels.
    """

    beta: Tensor

    def __init__(self, space: EmbeddingSpace, graph: FusionModel) -> None:
        super().__init__()
        self.space, self.graph = space, graph
        self.register_buffer("beta", torch.zeros(()))

    def forward(self, batch: Batch, features: Sequence[Tensor]) -> Tensor:
        """Return unit vectors ``[B, W]`` of the samples of a batch.

        The vector of a sample with nothing observed is zero.

        Args:
            batch: Packed rows of the samples.
            features: ``[B, F_m]`` for each modality; a missing one is an all-NaN row.
        """
        evidence, present = self.space.evidence(self.space.tables(batch, features))
        z = self.space(evidence, present)
        if float(self.beta):
            offset = self.graph(batch, self.space.by_modality(evidence)).logits.mean(0)
            z = shift(z, self.beta * offset)
        return z


def shift(z: Tensor, offset: Tensor) -> Tensor:
    """Add an offset to unit vectors ``[B, W]``, and normalize; zero stays zero."""
    seen = z.ne(0).any(-1, keepdim=True)
    return F.normalize(z + torch.where(seen, offset, 0), dim=-1)
