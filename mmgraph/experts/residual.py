"""Stacked ensemble with an ensemble of graph networks fitted to its residual.

Letters: ``B`` samples, ``M`` modalities, ``F`` features, ``K`` outputs, ``E`` members.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmgraph.data.batch import Batch
from mmgraph.experts.ensemble import ExpertEnsemble, predict_joint
from mmgraph.experts.forest import TreeExpert
from mmgraph.experts.joint import JointForest
from mmgraph.experts.linear import LinearExpert
from mmgraph.experts.own import OwnExpert
from mmgraph.experts.relations import RelationExpert
from mmgraph.experts.submodels import ConvolutionExpert, PriorExpert, Submodels
from mmgraph.model import FusionModel

NAMES: dict[type[nn.Module], str] = {
    TreeExpert: "forest",
    ConvolutionExpert: "convolution",
    PriorExpert: "prior",
    Submodels: "submodels",
    RelationExpert: "relations",
}


class ResidualFusion(nn.Module):
    """``activate(pool + beta * interaction_weight * graph)``, averaged over members.

    With ``beta = 0``, this is the log-linear opinion pool; without base learners of all
    modalities together, a learned late fusion. Without any base learner, the graph is
    added to the prior. A sample with nothing observed gets the prior of the pool.

    Args:
        ensemble: Base learners and their pool.
        graph: Ensemble of graph networks that models the residual of the pool.
        typicality: Typicality of each modality, by which samples are read; None
            without. See :mod:`mmgraph.embedding.typicality`.
    """

    beta: Tensor

    def __init__(
        self,
        ensemble: ExpertEnsemble,
        graph: FusionModel,
        typicality: nn.ModuleList | None = None,
    ) -> None:
        super().__init__()
        self.typicality = typicality
        self.ensemble, self.graph = ensemble, graph
        self.register_buffer("beta", torch.zeros(()))

    def forward(self, batch: Batch, features: Sequence[Tensor]) -> Tensor:
        """Return probabilities, or values for regression, ``[B, K]``.

        For a regular batch, shapes do not depend on the data.

        Args:
            batch: Packed rows of the samples.
            features: Features for the base learners, ``[B, F_m]`` for each modality; a
                missing one is an all-NaN row.
        """
        regular = batch.missing is not None
        tables = self.ensemble.tables(batch, features)
        offset, evidence, present = self.ensemble(tables, regular=regular)
        logits = offset[None]
        if float(self.beta):
            residual = self.graph(batch, evidence).logits
            share = self.ensemble.pool.interaction_weight(present)
            logits = logits + self.beta * share * residual
        result: Tensor = self.graph.task.activate(logits).mean(0)
        return result

    def states(self, batch: Batch, features: Sequence[Tensor]) -> Tensor:
        """Return the concatenated states of the members, ``[B, E D]``.

        Members have different initial parameters, so that their axes do not correspond:
        a mean over members would cancel learned features.

        Args:
            batch: Packed rows of the samples.
            features: As in :meth:`forward`.
        """
        _, evidence, _ = self.ensemble(self.ensemble.tables(batch, features))
        z = self.graph(batch, evidence).z
        return z.movedim(0, 1).flatten(1)

    @torch.no_grad()
    def branch_weights(self) -> dict[str, float]:
        """Return the weights of base learners and graph for a complete sample.

        They are the factors of their evidence in the score, summed over base learners
        of one kind: of base learners of single modalities the mean over the modalities,
        of the graph beta times the weight of cross-modal interaction.
        """
        pool, lists = self.ensemble.pool, self.ensemble.expert_lists
        complete = torch.ones(1, len(self.ensemble.experts), dtype=torch.bool)
        complete = complete.to(self.beta.device)
        single, joint = pool.weights(complete)
        names = [learner_name(column) for column in zip(*lists, strict=True)]
        names += [learner_name([each]) for each in self.ensemble.joint]
        values = [*single[0].mean(0).tolist(), *joint[0].tolist()]
        weights = dict.fromkeys(names, 0.0)
        for name, value in zip(names, values, strict=True):
            weights[name] += value
        return weights | {"graph": float(self.beta * pool.interaction_weight(complete))}

    def evidence(self, batch: Batch, features: Sequence[Tensor]) -> Tensor:
        """Return the evidence of all base learners, ``[B, (M X + Y) K]``.

        Evidence is a score minus the prior, and zero where nothing is present that a
        base learner reads.

        Args:
            batch: Packed rows of the samples.
            features: As in :meth:`forward`.
        """
        tables = self.ensemble.tables(batch, features)
        evidence, present = self.ensemble.evidence(tables)
        prior = self.ensemble.pool.prior
        joint = predict_joint(self.ensemble.joint, tables, present, prior)
        parts = [evidence.flatten(1)]
        if joint is not None:
            seen = present.any(1)[:, None, None]
            parts.append(torch.where(seen, joint, 0).flatten(1))
        return torch.cat(parts, dim=1)


def learner_name(learners: Sequence[nn.Module]) -> str:
    """Return the name of a kind of base learner.

    Args:
        learners: The base learner of each modality, or one of all modalities. Priors
            take the place of kinds that a modality does not have.
    """
    learner = next((x for x in learners if not isinstance(x, PriorExpert)), learners[0])
    if isinstance(learner, LinearExpert):
        return "spline" if len(learner.hinges.knot) else "linear"
    if isinstance(learner, OwnExpert):
        return type(learner.estimator).__name__
    if isinstance(learner, JointForest):
        return "joint boosted trees" if learner.boosted else "joint forest"
    return NAMES[type(learner)]
