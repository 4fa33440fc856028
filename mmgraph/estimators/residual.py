"""Evidence first: a pool of unimodal experts, and what the graph adds to it.

Letters: ``B`` samples, ``M`` modalities, ``X`` experts a modality, ``F`` features,
``K`` outputs, ``E`` members.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmgraph.batch import Batch
from mmgraph.model import FusionModel
from mmgraph.nn.pool import EvidencePool, interaction_share


class ResidualFusion(nn.Module):
    """``activate(pool + beta * share * graph)``, averaged over the graph's members.

    With ``beta = 0`` this is the evidence pool, a learned late fusion. A sample with
    nothing observed gets the prior of the pool and nothing else.

    Args:
        experts: ``M`` lists of ``X`` modules that map features ``[B, F_m]`` to scores.
        pool: What adds up the evidence of the experts.
        graph: An ensemble of fusion models, fitted to what the pool leaves over.
    """

    beta: Tensor

    def __init__(
        self, experts: nn.ModuleList, pool: EvidencePool, graph: FusionModel
    ) -> None:
        super().__init__()
        self.experts, self.pool, self.graph = experts, pool, graph
        self.register_buffer("beta", torch.zeros(()))

    @property
    def expert_lists(self) -> list[nn.ModuleList]:
        """The experts of each modality."""
        return [each for each in self.experts if isinstance(each, nn.ModuleList)]

    def evidence(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Ask the experts.

        Args:
            features: ``[B, F_m]`` for each modality; a missing one is an all-NaN row.

        Returns:
            ``[B, M, X, K]`` scores beyond the prior, zero where the modality is
            missing, and ``[B, M]`` Bool presence.
        """
        present = torch.stack([~x.isnan().all(1) for x in features], dim=1)
        said = []
        for m, (x, experts) in enumerate(zip(features, self.expert_lists, strict=True)):
            rows = torch.nonzero(present[:, m])[:, 0]
            scores = torch.stack([expert(x[rows]) for expert in experts], dim=1)
            beyond = scores - self.pool.prior
            zeros = beyond.new_zeros(len(x), *beyond.shape[1:])
            said.append(zeros.index_copy(0, rows, beyond))
        return torch.stack(said, dim=1), present

    def forward(self, batch: Batch, features: Sequence[Tensor]) -> Tensor:
        """Predict: probabilities, or values for regression, ``[B, K]``.

        Args:
            batch: Packed rows of the samples.
            features: Their features, for the experts; see :meth:`evidence`.
        """
        evidence, present = self.evidence(features)
        offset = self.pool(evidence, present)
        logits = offset[None]
        if float(self.beta):
            joint = self.graph(batch, self.pool.by_modality(evidence)).logits
            logits = logits + self.beta * interaction_share(present) * joint
        result: Tensor = self.graph.task.activate(logits).mean(0)
        return result

    def states(self, batch: Batch, features: Sequence[Tensor]) -> Tensor:
        """Return the members' states of the samples side by side, ``[B, E D]``.

        Members start from different parameters, so that their axes have nothing in
        common: a mean over them would cancel what each has learned.

        Args:
            batch: Packed rows of the samples.
            features: Their features, for the experts; see :meth:`evidence`.
        """
        evidence, _ = self.evidence(features)
        z = self.graph(batch, self.pool.by_modality(evidence)).z
        return z.movedim(0, 1).flatten(1)
