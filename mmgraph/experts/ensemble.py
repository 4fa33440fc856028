"""Stacked ensemble: base learners and the pool of their evidence.

Letters: ``B`` samples, ``M`` modalities, ``X`` base learners of a modality, ``Y`` base
learners of all modalities together, ``F`` features, ``K`` outputs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmgraph.experts.joint import JointForest
from mmgraph.nn.evidence_pool import EvidencePool
from mmgraph.ops import present_rows


def predict_joint(
    experts: nn.ModuleList,
    features: Sequence[Tensor],
    present: Tensor,
    prior: Tensor,
    fold: Tensor | None = None,
) -> Tensor | None:
    """Return the evidence of base learners of all modalities, ``[B, Y, K]``.

    Evidence is a score minus the prior.

    Args:
        experts: ``Y`` base learners.
        features: ``[B, F_m]`` for each modality.
        present: ``[B, M]`` Bool; features of missing modalities are not read.
        prior: ``[K]`` scores of the prior.
        fold: ``[B]`` folds of training samples; only models that were fitted without
            the fold of a sample are evaluated for it. Default: all models.

    Returns:
        The evidence, or None without base learners.
    """
    evidence = [expert(features, present, fold) - prior for expert in experts]
    return torch.stack(evidence, dim=1) if evidence else None


class ExpertEnsemble(nn.Module):
    """Base learners and the log-linear pool of their evidence.

    Args:
        experts: ``M`` lists of ``X`` base learners, which map features ``[B, F_m]`` to
            scores.
        joint: ``Y`` base learners, which map the features of all modalities to scores.
        pool: Pool of the evidence.
    """

    def __init__(
        self, experts: nn.ModuleList, joint: nn.ModuleList, pool: EvidencePool
    ) -> None:
        super().__init__()
        self.experts, self.joint, self.pool = experts, joint, pool

    @property
    def expert_lists(self) -> list[nn.ModuleList]:
        """Base learners of each modality."""
        return [each for each in self.experts if isinstance(each, nn.ModuleList)]

    @property
    def forests(self) -> list[JointForest]:
        """Base learners of all modalities together."""
        return [each for each in self.joint if isinstance(each, JointForest)]

    def evidence(
        self, features: Sequence[Tensor], *, regular: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the evidence of the base learners of each modality.

        Args:
            features: ``[B, F_m]`` for each modality; a missing one is an all-NaN row.
            regular: Evaluate base learners on missing modalities, too, and discard
                the result: slower, but shapes do not depend on the data.

        Returns:
            ``[B, M, X, K]`` scores minus the prior, zero where the modality is missing,
            and ``[B, M]`` Bool presence.
        """
        present = present_rows(features)
        predict = self._predict_dense if regular else self._predict_present
        evidence = [
            predict(x, seen, experts)
            for x, seen, experts in zip(
                features, present.unbind(1), self.expert_lists, strict=True
            )
        ]
        return torch.stack(evidence, dim=1), present

    def _predict_present(
        self, x: Tensor, seen: Tensor, experts: nn.ModuleList
    ) -> Tensor:
        rows = torch.nonzero(seen)[:, 0]
        evidence = self._evidence(x[rows], experts)
        zeros = evidence.new_zeros(len(x), *evidence.shape[1:])
        return zeros.index_copy(0, rows, evidence)

    def _predict_dense(self, x: Tensor, seen: Tensor, experts: nn.ModuleList) -> Tensor:
        return torch.where(seen[:, None, None], self._evidence(x, experts), 0)

    def _evidence(self, x: Tensor, experts: nn.ModuleList) -> Tensor:
        scores = torch.stack([expert(x) for expert in experts], dim=1)
        return scores - self.pool.prior

    def forward(
        self, features: Sequence[Tensor], *, regular: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return pooled scores, evidence of each modality, and presence.

        Args:
            features: See :meth:`evidence`.
            regular: See :meth:`evidence`.

        Returns:
            ``[B, K]`` scores, ``[B, M, K]`` weighted evidence, ``[B, M]`` Bool.
        """
        evidence, present = self.evidence(features, regular=regular)
        joint = predict_joint(self.joint, features, present, self.pool.prior)
        offset = self.pool(evidence, present, joint)
        return offset, self.pool.by_modality(evidence), present
