"""Evidence first: a pool of unimodal experts, and what the graph adds to it.

Letters: ``B`` samples, ``M`` modalities, ``F`` features, ``K`` outputs, ``E`` members.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmgraph.data.batch import Batch
from mmgraph.experts.ensemble import ExpertEnsemble
from mmgraph.model import FusionModel
from mmgraph.nn.evidence_pool import interaction_weight


class ResidualFusion(nn.Module):
    """``activate(pool + beta * share * graph)``, averaged over the graph's members.

    With ``beta = 0`` this is the evidence pool, a learned late fusion. A sample with
    nothing observed gets the prior of the pool and nothing else.

    Args:
        ensemble: The experts and their pool.
        graph: An ensemble of fusion models, fitted to what the pool leaves over.
    """

    beta: Tensor

    def __init__(self, ensemble: ExpertEnsemble, graph: FusionModel) -> None:
        super().__init__()
        self.ensemble, self.graph = ensemble, graph
        self.register_buffer("beta", torch.zeros(()))

    def forward(self, batch: Batch, features: Sequence[Tensor]) -> Tensor:
        """Predict: probabilities, or values for regression, ``[B, K]``.

        Shapes are free of the data where the batch is regular.

        Args:
            batch: Packed rows of the samples.
            features: Their features, for the experts: ``[B, F_m]`` for each modality;
                a missing one is an all-NaN row.
        """
        regular = batch.missing is not None
        offset, said, present = self.ensemble(features, regular=regular)
        logits = offset[None]
        if float(self.beta):
            added = self.graph(batch, said).logits
            logits = logits + self.beta * interaction_weight(present) * added
        result: Tensor = self.graph.task.activate(logits).mean(0)
        return result

    def states(self, batch: Batch, features: Sequence[Tensor]) -> Tensor:
        """Return the members' states of the samples side by side, ``[B, E D]``.

        Members start from different parameters, so that their axes have nothing in
        common: a mean over them would cancel what each has learned.

        Args:
            batch: Packed rows of the samples.
            features: As in :meth:`forward`.
        """
        _, said, _ = self.ensemble(features)
        z = self.graph(batch, said).z
        return z.movedim(0, 1).flatten(1)
