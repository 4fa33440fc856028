"""Fitting the space in which modalities meet, out of sample.

Letters: ``N`` samples, ``M`` modalities, ``F`` features, ``D`` coordinates of pairs,
``G`` channels of aligned modalities, ``K`` classes, ``C = D + G + K``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgraph.embedding.aligned import AlignedMap, fit_aligned
from mmgraph.embedding.kernel_ridge import (
    KernelRidge,
    RBFMap,
    fit_kernel_ridge,
    shared_components,
)
from mmgraph.embedding.modality_weights import ModalityWeightFitter, mean_of_some
from mmgraph.embedding.space import EmbeddingSpace, as_probabilities, concat_weighted
from mmgraph.embedding.training_data import EmbeddingTrainingData
from mmgraph.errors import DataError
from mmgraph.experts.links import ExpertKind
from mmgraph.experts.stacking import fit_evidence
from mmgraph.nn.heads import Classification
from mmgraph.ops import present_rows

Supervision: TypeAlias = Literal["auto", "pairs", "labels"]

DOMINANT_WEIGHT = 0.95  # share of the part that leads
OWN_LABEL = 0.5  # of the target; the rest is what all modalities say


@dataclass(frozen=True)
class FittedSpace:
    """A space, and what it says about samples that it was not fitted on.

    Attributes:
        space: Fitted on all samples.
        evidence: ``[N, M, C]`` of each sample by a fit without its group.
        folded: The same, of pairs by a fit without its fold: samples of one fold know
            the same pairs, so that nothing tells them apart but what they are.
        present: ``[N, M]`` Bool.
        by_class: Classes lead: what is of one class belongs together.
    """

    space: EmbeddingSpace
    evidence: Tensor
    folded: Tensor
    present: Tensor
    by_class: bool


@dataclass(frozen=True)
class _Part:
    """One part of a space: maps of all modalities, what they say out of sample."""

    maps: list[RBFMap]
    evidence: Tensor  # [N, M, .]


@dataclass(frozen=True)
class _Likeness:
    """What tells samples apart: likeness to training pairs, and aligned vectors."""

    maps: list[RBFMap]  # none without pairs
    pairs: Tensor  # [N, M, D] out of sample
    trust: Tensor  # [M] of pairs
    aligned: AlignedMap
    vectors: Tensor  # [N, M, G]
    known: Tensor  # share of vectors

    @property
    def evidence(self) -> Tensor:
        """``[N, M, D + G]``, each modality alone."""
        return concat_weighted(self.pairs, self.vectors, self.known)


def fit_space(
    samples: EmbeddingTrainingData,
    *,
    supervision: Supervision,
    channels: int,
    kinds: Sequence[ExpertKind],
    aligned: Sequence[str],
    seed: int,
) -> FittedSpace:
    """Fit maps, how much each modality is trusted, and which part leads.

    Under "auto" pairs lead where they find the partner of a row within its class,
    judged on samples that they were not fitted on; classes lead where they do not.

    Raises:
        DataError: Neither pairs nor classes to learn from, nor aligned modalities.
    """
    generator = torch.Generator().manual_seed(seed)
    present = samples.present
    pairing = fitter = None
    if supervision != "labels" and bool((present.sum(1) > 1).any()):
        pairing = _PairFitter(samples, channels, generator)
    if supervision != "pairs" and samples.classes is not None:
        fitter = _ClassFitter(samples, samples.classes, pairing, generator)
    known = [bool(present_rows([samples.features[name]]).any()) for name in aligned]
    if pairing is None and fitter is None and not any(known):
        raise DataError(
            "fit needs samples with two modalities"
            + ("" if supervision == "pairs" else ", or labels")
            + f", got none of {len(present)} with two of "
            f"{', '.join(samples.features)}. Give samples that have more than one."
        )
    trust = ModalityWeightFitter(samples, present, generator)
    likeness = _fit_likeness(samples, pairing, aligned, trust)
    classes = fitter.fit(fitter.labels()) if fitter else None
    by_class = pairing is None and fitter is not None
    if pairing is not None and classes is not None:
        by_class = trust.prefer_class_space(likeness.evidence)
    if by_class and fitter and classes:
        classes = fitter.refine(classes, trust, kinds, seed)
    space = _assemble(likeness, classes, fitter, trust)
    if space.pair_channels and classes is not None:
        space.balance.fill_(1 - DOMINANT_WEIGHT if by_class else DOMINANT_WEIGHT)
    parts = [likeness.pairs, likeness.vectors]
    parts += [classes.evidence] if classes else []
    folded = [pairing.held_out(samples.folds), *parts[1:]] if pairing else parts
    return FittedSpace(
        space,
        torch.cat(parts, dim=-1),
        torch.cat(folded, dim=-1),
        present,
        by_class,
    )


def _fit_likeness(
    samples: EmbeddingTrainingData,
    pairing: "_PairFitter | None",
    aligned: Sequence[str],
    trust: ModalityWeightFitter,
) -> _Likeness:
    """Fit maps to pairs where there are any, and what is known beside them."""
    part = _Part([], torch.zeros(*samples.present.shape, 0))
    weight = torch.ones(samples.present.shape[1])
    if pairing is not None:
        part = pairing.fit()
        weight = trust.pair_weights(part.evidence)
    fitted = fit_aligned(samples.features, aligned)
    vectors = fitted.evidence(list(samples.features.values()))
    known = trust.fit_aligned_weight(part.evidence * weight[:, None], vectors)
    return _Likeness(part.maps, part.evidence, weight, fitted, vectors, known)


def _assemble(
    likeness: _Likeness,
    classes: _Part | None,
    fitter: "_ClassFitter | None",
    trust: ModalityWeightFitter,
) -> EmbeddingSpace:
    """Put the parts side by side, each modality trusted as far as it is right."""
    num_modalities = trust.present.shape[1]
    none = nn.ModuleList(nn.ModuleList() for _ in range(num_modalities))
    space = EmbeddingSpace(
        nn.ModuleList(likeness.maps),
        nn.ModuleList(classes.maps if classes else ()),
        fitter.experts if fitter else none,
        likeness.aligned,
        channels=likeness.pairs.shape[-1],
        num_classes=classes.evidence.shape[-1] if classes else 0,
    )
    space.pair_weights.copy_(likeness.trust)
    space.aligned_weight.copy_(likeness.known)
    if classes is not None and fitter is not None:
        space.prior.copy_(fitter.prior)
        space.modality_weights.copy_(trust.modality_weights(classes.evidence))
        space.balance.fill_(0.0)  # until pairs are weighed against them
    return space


def _smoothers(
    samples: EmbeddingTrainingData, used: Tensor, generator: torch.Generator
) -> list[KernelRidge]:
    """Prepare one regression a modality, from the rows that are ``used [N, M]``."""
    found = []
    for m, x in enumerate(samples.features.values()):
        rows = torch.nonzero(used[:, m])[:, 0]
        found.append(fit_kernel_ridge(x[rows], rows, samples.groups[rows], generator))
    return found


class _PairFitter:
    """Coordinates of pairs from each modality, of samples that have two."""

    def __init__(
        self, samples: EmbeddingTrainingData, channels: int, generator: torch.Generator
    ) -> None:
        present = samples.present
        self.used = present & (present.sum(1, keepdim=True) > 1)
        self.smoothers = _smoothers(samples, self.used, generator)
        self.basis = shared_components(
            self.smoothers, len(self.used), channels, generator
        )

    def fit(self) -> _Part:
        """Fit maps to the anchors ``[N, D]``."""
        maps = [s.fit(self.basis[s.rows]) for s in self.smoothers]
        return _Part(maps, self.held_out())

    def held_out(self, folds: Tensor | None = None) -> Tensor:
        """Return what fits without a sample's fold, or group, say, ``[N, M, D]``."""
        evidence = torch.zeros(*self.used.shape, self.basis.shape[1])
        for m, s in enumerate(self.smoothers):
            apart = None if folds is None else folds[s.rows]
            evidence[s.rows, m] = s.leave_group_out(self.basis[s.rows], apart).float()
        return evidence


def _prior(classes: Tensor) -> Tensor:
    counts = torch.bincount(classes[classes >= 0]) + 0.5
    return counts / counts.sum()


class _ClassFitter:
    """Class probabilities of each modality: a kernel, and experts beside it."""

    def __init__(
        self,
        samples: EmbeddingTrainingData,
        classes: Tensor,
        pairing: _PairFitter | None,
        generator: torch.Generator,
    ) -> None:
        self.samples, self.classes = samples, classes
        self.present = samples.present
        known = self.present & (classes >= 0)[:, None]
        if pairing is not None and torch.equal(known, pairing.used):
            self.smoothers = pairing.smoothers
        else:
            self.smoothers = _smoothers(samples, known, generator)
        self.prior = _prior(classes)
        self.labelled = torch.nonzero(classes >= 0)[:, 0]
        self.experts = nn.ModuleList(nn.ModuleList() for _ in samples.features)

    def labels(self) -> Tensor:
        """Return one-hot classes ``[N, K]``; zero where unknown."""
        hot = F.one_hot(self.classes.clamp(min=0), len(self.prior)).double()
        return hot * (self.classes >= 0)[:, None]

    def fit(self, target: Tensor) -> _Part:
        """Fit the kernels to probabilities ``[N, K]``."""
        beyond = target - self.prior
        evidence = torch.zeros(*self.present.shape, len(self.prior))
        maps = []
        every = zip(self.smoothers, self.samples.features.values(), strict=True)
        for m, (s, x) in enumerate(every):
            fitted = s.fit(beyond[s.rows])
            rest = torch.nonzero(self.present[:, m] & (self.classes < 0))[:, 0]
            evidence[s.rows, m] = s.leave_group_out(beyond[s.rows]).float()
            evidence[rest, m] = fitted(x[rest])
            maps.append(fitted)
        p = as_probabilities(evidence + self.prior)
        return _Part(maps, torch.where(self.present[..., None], p, 0))

    def refine(
        self,
        part: _Part,
        trust: ModalityWeightFitter,
        kinds: Sequence[ExpertKind],
        seed: int,
    ) -> _Part:
        """Add experts, and let weak modalities learn from strong ones."""
        if kinds:
            part = self.add_experts(part, kinds, seed)
        part = self.distil(part, trust.modality_weights(part.evidence))
        return self.average(part) if kinds else part

    def add_experts(self, part: _Part, kinds: Sequence[ExpertKind], seed: int) -> _Part:
        """Average the probabilities with those of unimodal experts."""
        rows = self.labelled
        fitted = fit_evidence(
            {name: x[rows] for name, x in self.samples.features.items()},
            self.classes[rows],
            Classification(len(self.prior)),
            self.samples.folds[rows],
            kinds=kinds,
            seed=seed,
        )
        self.experts = fitted.experts
        self.said = (fitted.out_of_fold + fitted.prior).softmax(-1).transpose(1, 2)
        return self.average(part)

    def average(self, part: _Part) -> _Part:
        """Average with what experts said of labelled samples out of fold."""
        rows = self.labelled
        every = torch.cat([part.evidence[rows][:, None], self.said], dim=1)
        evidence = part.evidence.index_copy(0, rows, every.mean(1))
        evidence = torch.where(self.present[..., None], evidence, 0)
        return _Part(part.maps, evidence)

    def distil(self, part: _Part, trust: Tensor) -> _Part:
        """Fit the kernels again, half to what all modalities together say.

        A weak modality learns from a strong one of the same sample.

        References:
            Unifying Distillation and Privileged Information, Lopez-Paz, Bottou,
            Schoelkopf, Vapnik, 2016.
        """
        teacher = mean_of_some(part.evidence, self.present, trust.log()).double()
        return self.fit(OWN_LABEL * self.labels() + (1 - OWN_LABEL) * teacher)
