"""Embeddings: the closed-form space, and what the graph moves in it.

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
    """``normalise(space + beta * graph)``, the graph averaged over its members.

    Args:
        space: Closed-form embeddings of any subset of modalities.
        graph: An ensemble that gives ``W`` outputs from evidence of ``C`` channels.
    """

    beta: Tensor

    def __init__(self, space: EmbeddingSpace, graph: FusionModel) -> None:
        super().__init__()
        self.space, self.graph = space, graph
        self.register_buffer("beta", torch.zeros(()))

    def forward(self, batch: Batch, features: Sequence[Tensor]) -> Tensor:
        """Embed the samples of a batch: ``[B, W]`` of unit length.

        A sample with nothing observed is all zero.
        """
        evidence, present = self.space.evidence(features)
        z = self.space(evidence, present)
        if float(self.beta):
            moved = self.graph(batch, self.space.by_modality(evidence)).logits.mean(0)
            z = shift(z, self.beta * moved)
        return z


def shift(z: Tensor, by: Tensor) -> Tensor:
    """Move unit vectors ``[B, W]`` on the sphere; what is zero stays zero."""
    seen = z.ne(0).any(-1, keepdim=True)
    return F.normalize(z + torch.where(seen, by, 0), dim=-1)
