"""The experts of a model and the pool of what they say.

Letters: ``B`` samples, ``M`` modalities, ``X`` experts a modality, ``Y`` experts of all
modalities together, ``F`` features, ``K`` outputs.
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
    """Return what experts of all modalities say beyond the prior, ``[B, Y, K]``.

    Args:
        experts: ``Y`` of them; without any the answer is None.
        features: ``[B, F_m]`` for each modality.
        present: ``[B, M]`` Bool; features of what is not present are not read.
        prior: ``[K]``.
        fold: ``[B]`` folds of training samples, of which the answer must know nothing.
    """
    said = [expert(features, present, fold) - prior for expert in experts]
    return torch.stack(said, dim=1) if said else None


class ExpertEnsemble(nn.Module):
    """What speaks before the graph does: experts, and the pool that adds them up.

    Args:
        experts: ``M`` lists of ``X`` modules that map features ``[B, F_m]`` to scores.
        joint: ``Y`` modules that map the features of all modalities to scores.
        pool: What adds up what they say.
    """

    def __init__(
        self, experts: nn.ModuleList, joint: nn.ModuleList, pool: EvidencePool
    ) -> None:
        super().__init__()
        self.experts, self.joint, self.pool = experts, joint, pool

    @property
    def expert_lists(self) -> list[nn.ModuleList]:
        """The experts of each modality."""
        return [each for each in self.experts if isinstance(each, nn.ModuleList)]

    @property
    def forests(self) -> list[JointForest]:
        """The experts of all modalities together."""
        return [each for each in self.joint if isinstance(each, JointForest)]

    def evidence(
        self, features: Sequence[Tensor], *, regular: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Ask the experts of each modality.

        Args:
            features: ``[B, F_m]`` for each modality; a missing one is an all-NaN row.
            regular: Ask them about missing modalities too and drop the answer: more
                work, but shapes are free of the data.

        Returns:
            ``[B, M, X, K]`` scores beyond the prior, zero where the modality is
            missing, and ``[B, M]`` Bool presence.
        """
        present = present_rows(features)
        answer = self._predict_dense if regular else self._answer_present
        said = [
            answer(x, seen, experts)
            for x, seen, experts in zip(
                features, present.unbind(1), self.expert_lists, strict=True
            )
        ]
        return torch.stack(said, dim=1), present

    def _answer_present(
        self, x: Tensor, seen: Tensor, experts: nn.ModuleList
    ) -> Tensor:
        rows = torch.nonzero(seen)[:, 0]
        beyond = self._beyond(x[rows], experts)
        zeros = beyond.new_zeros(len(x), *beyond.shape[1:])
        return zeros.index_copy(0, rows, beyond)

    def _predict_dense(self, x: Tensor, seen: Tensor, experts: nn.ModuleList) -> Tensor:
        return torch.where(seen[:, None, None], self._beyond(x, experts), 0)

    def _beyond(self, x: Tensor, experts: nn.ModuleList) -> Tensor:
        said = torch.stack([expert(x) for expert in experts], dim=1)
        return said - self.pool.prior

    def forward(
        self, features: Sequence[Tensor], *, regular: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is said in all, by each modality, and presence.

        Args:
            features: See :meth:`evidence`.
            regular: See :meth:`evidence`.

        Returns:
            ``[B, K]`` scores, ``[B, M, K]`` weighed evidence, ``[B, M]`` Bool.
        """
        evidence, present = self.evidence(features, regular=regular)
        joint = predict_joint(self.joint, features, present, self.pool.prior)
        offset = self.pool(evidence, present, joint)
        return offset, self.pool.by_modality(evidence), present
