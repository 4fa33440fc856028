"""Stacked ensemble: base learners and the pool of their evidence.

Letters: ``B`` samples, ``M`` modalities, ``X`` base learners of a modality, ``Y`` base
learners of all modalities together, ``V`` views, ``F`` features, ``K`` outputs.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mmgraph.data.batch import Batch
from mmgraph.experts.submodels import ConvolutionExpert, Submodels
from mmgraph.experts.views import view_tables
from mmgraph.nn.evidence_pool import EvidencePool
from mmgraph.ops import present_rows


def predict_joint(
    experts: nn.ModuleList,
    tables: Sequence[Tensor],
    present: Tensor,
    prior: Tensor,
    fold: Tensor | None = None,
    submodel_scores: Tensor | None = None,
) -> Tensor | None:
    """Return the evidence of base learners of all modalities, ``[B, Y, K]``.

    Evidence is a score minus the prior.

    Args:
        experts: ``Y`` base learners.
        tables: ``[B, F]`` description of each modality, then tables of the views.
        present: ``[B, M]`` Bool; features of missing modalities are not read.
        prior: ``[K]`` scores of the prior.
        fold: ``[B]`` folds of training samples; only models that were fitted without
            the fold of a sample are evaluated for it. Default: all models.
        submodel_scores: ``[B, S, K]`` scores of all submodels; default: computed from
            the tables of the views, which are not read otherwise.

    Returns:
        The evidence, or None without base learners.
    """
    evidence = []
    for expert in experts:
        if isinstance(expert, Submodels) and submodel_scores is not None:
            scores = expert.select(submodel_scores, present)
        else:
            scores = expert(tables, present, fold)
        evidence.append(scores - prior)
    return torch.stack(evidence, dim=1) if evidence else None


class ExpertEnsemble(nn.Module):
    """Base learners and the log-linear pool of their evidence.

    Args:
        experts: ``M`` lists of ``X`` base learners, which map the table of a modality
            to scores.
        joint: ``Y`` base learners, which map all tables to scores.
        pool: Pool of the evidence.
        views: ``V`` views, which map rows of sequences to tables.
    """

    def __init__(
        self,
        experts: nn.ModuleList,
        joint: nn.ModuleList,
        pool: EvidencePool,
        views: Iterable[nn.Module] = (),
    ) -> None:
        super().__init__()
        self.experts, self.joint, self.pool = experts, joint, pool
        self.views = nn.ModuleList(views)

    @property
    def expert_lists(self) -> list[nn.ModuleList]:
        """Base learners of each modality."""
        return [each for each in self.experts if isinstance(each, nn.ModuleList)]

    def tables(self, batch: Batch, features: Sequence[Tensor]) -> list[Tensor]:
        """Return the tables that base learners read.

        Args:
            batch: Rows of the samples.
            features: Description ``[B, F_m]`` of each modality; a missing one is an
                all-NaN row.

        Returns:
            The ``M`` descriptions, then the tables ``[B, F]`` of the ``V`` views.
        """
        return view_tables(self.views, batch, features)

    def evidence(
        self, tables: Sequence[Tensor], *, regular: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Return the evidence of the base learners of each modality.

        Args:
            tables: Tables that :meth:`tables` returned.
            regular: Evaluate base learners on missing modalities, too, and discard
                the result: slower, but shapes do not depend on the data.

        Returns:
            ``[B, M, X, K]`` scores minus the prior, zero where the modality is missing,
            and ``[B, M]`` Bool presence.
        """
        present = present_rows(tables[: len(self.experts)])
        if not self.pool.num_experts:
            shape = *present.shape, 0, *self.pool.prior.shape
            return self.pool.prior.new_zeros(shape), present
        predict = self._predict_dense if regular else self._predict_present
        evidence = [
            predict(self._inputs(m, experts, tables), present[:, m], experts)
            for m, experts in enumerate(self.expert_lists)
        ]
        return torch.stack(evidence, dim=1), present

    def submodel_scores(self, tables: Sequence[Tensor]) -> Tensor | None:
        """Return the scores of all submodels, ``[B, S, K]``; None without submodels.

        Args:
            tables: See :meth:`evidence`.
        """
        for expert in self.joint:
            if isinstance(expert, Submodels):
                return expert.scores(tables)
        return None

    def _inputs(
        self, modality: int, experts: nn.ModuleList, tables: Sequence[Tensor]
    ) -> list[Tensor]:
        """Return the table that each base learner of a modality reads."""
        num = len(self.experts)
        return [
            tables[num + e.view if isinstance(e, ConvolutionExpert) else modality]
            for e in experts
        ]

    def _predict_present(
        self, inputs: Sequence[Tensor], seen: Tensor, experts: nn.ModuleList
    ) -> Tensor:
        rows = torch.nonzero(seen)[:, 0]
        evidence = self._evidence([x[rows] for x in inputs], experts)
        zeros = evidence.new_zeros(len(seen), *evidence.shape[1:])
        return zeros.index_copy(0, rows, evidence)

    def _predict_dense(
        self, inputs: Sequence[Tensor], seen: Tensor, experts: nn.ModuleList
    ) -> Tensor:
        return torch.where(seen[:, None, None], self._evidence(inputs, experts), 0)

    def _evidence(self, inputs: Sequence[Tensor], experts: nn.ModuleList) -> Tensor:
        pairs = zip(experts, inputs, strict=True)
        scores = torch.stack([expert(x) for expert, x in pairs], dim=1)
        return scores - self.pool.prior

    def forward(
        self, tables: Sequence[Tensor], *, regular: bool = False
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return pooled scores, evidence of each modality, and presence.

        Args:
            tables: See :meth:`evidence`.
            regular: See :meth:`evidence`.

        Returns:
            ``[B, K]`` scores, ``[B, M, K]`` weighted evidence or None without base
            learners of single modalities, ``[B, M]`` Bool.
        """
        evidence, present = self.evidence(tables, regular=regular)
        joint = predict_joint(self.joint, tables, present, self.pool.prior)
        offset = self.pool(evidence, present, joint)
        return offset, self.pool.by_modality(evidence), present
