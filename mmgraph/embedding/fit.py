"""Fit of an embedding space, with out-of-sample evidence of the training samples.

Letters: ``N`` samples, ``M`` modalities, ``F`` features, ``D`` coordinates of pairs,
``G`` channels of aligned modalities, ``K`` classes, ``C = D + G + K``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgraph.embedding.aligned import AlignedMap, fit_aligned
from mmgraph.embedding.kernel_ridge import (
    KernelRidge,
    fit_kernel_ridge,
    shared_components,
)
from mmgraph.embedding.modality_weights import ModalityWeightFitter, weighted_mean
from mmgraph.embedding.space import EmbeddingSpace, as_probabilities, concat_weighted
from mmgraph.embedding.training_data import EmbeddingTrainingData
from mmgraph.embedding.windows import BLOCK_ROWS, WindowMap, fit_windows, plan_windows
from mmgraph.errors import DataError
from mmgraph.experts.links import ExpertKind
from mmgraph.experts.stacking import fit_evidence
from mmgraph.nn.heads import Classification
from mmgraph.nn.radial import RBFMap
from mmgraph.ops import present_rows

Supervision: TypeAlias = Literal["auto", "pairs", "labels"]

DOMINANT_WEIGHT = 0.95  # weight of the dominant part in an inner product
LABEL_WEIGHT = 0.5  # weight of the label in distillation; the rest is the teacher's


@dataclass(frozen=True)
class FittedSpace:
    """Embedding space, with evidence of samples to which it was not fitted.

    Attributes:
        space: Space that is fitted to all samples.
        evidence: ``[N, M, C]`` evidence of each sample by a fit without its group.
        folded: ``[N, M, C]`` the same, with pairs by a fit without the fold of a
            sample: the samples of a fold then have evidence from the same pairs, so
            that it does not reveal which of them is which.
        present: ``[N, M]`` Bool.
        by_class: True if the class part dominates: samples of one class are positives.
    """

    space: EmbeddingSpace
    evidence: Tensor
    folded: Tensor
    present: Tensor
    by_class: bool


@dataclass(frozen=True)
class _Part:
    """Maps of all modalities, and their out-of-sample outputs.

    Attributes:
        maps: Map of each modality; empty without pairs.
        evidence: ``[N, M, D]`` or ``[N, M, K]``.
    """

    maps: list[RBFMap]
    evidence: Tensor


@dataclass(frozen=True)
class _PairPart:
    """Coordinates of training pairs, and vectors of aligned modalities or recordings.

    Attributes:
        coordinates: Maps to coordinates of pairs, ``[N, M, D]`` out of sample.
        weights: ``[M]`` weight of each modality.
        aligned: Map of aligned modalities, or of recordings.
        vectors: ``[N, M, G]`` their vectors, out of sample.
        aligned_weight: Weight of these vectors in an inner product, a scalar.
    """

    coordinates: _Part
    weights: Tensor
    aligned: AlignedMap | WindowMap
    vectors: Tensor
    aligned_weight: Tensor

    @property
    def evidence(self) -> Tensor:
        """Unit vectors of each modality, ``[N, M, D + G]``."""
        pairs = self.coordinates.evidence
        return concat_weighted(pairs, self.vectors, self.aligned_weight)


def fit_space(
    samples: EmbeddingTrainingData,
    *,
    supervision: Supervision,
    channels: int,
    kinds: Sequence[ExpertKind],
    aligned: Sequence[str],
    seed: int,
) -> FittedSpace:
    """Fit the maps of an embedding space, its modality weights and its dominant part.

    Under "auto", the pair part dominates if it identifies the partner of a row within
    its class, measured out of sample; otherwise the class part dominates.

    Args:
        samples: Training samples.
        supervision: Positives: "pairs", "labels" or "auto".
        channels: ``D``, maximum number of coordinates of pairs.
        kinds: Kinds of base learners that are added to a dominant class part.
        aligned: Names of aligned modalities.
        seed: Seed of landmarks, views and base learners.

    Raises:
        DataError: If there are neither pairs nor classes nor aligned modalities.
    """
    generator = torch.Generator().manual_seed(seed)
    present = samples.present
    pair_fitter = class_fitter = None
    if supervision != "labels" and bool((present.sum(1) > 1).any()):
        pair_fitter = _PairFitter(samples, channels, generator)
    if supervision != "pairs" and samples.classes is not None:
        class_fitter = _ClassFitter(samples, samples.classes, pair_fitter, generator)
    any_aligned = [present_rows([samples.features[n]]).any() for n in aligned]
    if pair_fitter is None and class_fitter is None and not any(any_aligned):
        raise DataError(
            "fit needs samples with two modalities"
            + ("" if supervision == "pairs" else ", or labels")
            + f", got none of {len(present)} with two of "
            f"{', '.join(samples.features)}. Give samples that have more than one."
        )
    weights = ModalityWeightFitter(samples, present, generator)
    pairs = _fit_pair_part(samples, pair_fitter, aligned, weights, generator)
    classes = class_fitter.fit(class_fitter.labels()) if class_fitter else None
    by_class = pair_fitter is None and class_fitter is not None
    if pair_fitter is not None and classes is not None:
        by_class = weights.prefer_class_space(pairs.evidence)
    if by_class and class_fitter and classes:
        classes = class_fitter.refine(classes, weights, kinds, seed)
    space = _assemble(pairs, classes, class_fitter, weights)
    if space.pair_channels and classes is not None:
        space.balance.fill_(1 - DOMINANT_WEIGHT if by_class else DOMINANT_WEIGHT)
    parts = [pairs.coordinates.evidence, pairs.vectors]
    parts += [classes.evidence] if classes else []
    folded = parts
    if pair_fitter:
        folded = [pair_fitter.out_of_sample(samples.folds), *parts[1:]]
    return FittedSpace(
        space,
        torch.cat(parts, dim=-1),
        torch.cat(folded, dim=-1),
        present,
        by_class,
    )


def _fit_pair_part(
    samples: EmbeddingTrainingData,
    fitter: "_PairFitter | None",
    aligned: Sequence[str],
    weights: ModalityWeightFitter,
    generator: torch.Generator,
) -> _PairPart:
    """Fit maps to pairs, if any, and the map of aligned modalities or recordings."""
    coordinates = _Part([], torch.zeros(*samples.present.shape, 0))
    weight = torch.ones(samples.present.shape[1])
    if fitter is not None:
        coordinates = fitter.fit()
        weight = weights.pair_weights(coordinates.evidence)
    fitted: AlignedMap | WindowMap
    widths = plan_windows(samples.schema, samples.present)
    if fitter is not None and not aligned and any(widths):
        names = list(samples.features)
        tables = _window_tables(WindowMap(names, widths, 0), samples)
        fitted, vectors = fit_windows(names, widths, tables, samples.folds, generator)
    else:
        fitted = fit_aligned(samples.features, aligned)
        vectors = fitted.evidence(list(samples.features.values()))
    weighted = coordinates.evidence * weight[:, None]
    aligned_weight = weights.fit_aligned_weight(weighted, vectors)
    return _PairPart(coordinates, weight, fitted, vectors, aligned_weight)


def _window_tables(windows: WindowMap, samples: EmbeddingTrainingData) -> list[Tensor]:
    """Return the windows of all training samples, ``[N, W C]`` by modality."""
    blocks = torch.arange(len(samples.folds)).split(BLOCK_ROWS)
    parts = [windows.tables(samples.batch(rows)) for rows in blocks]
    return [torch.cat(each) for each in zip(*parts, strict=True)]


def _assemble(
    pairs: _PairPart,
    classes: _Part | None,
    fitter: "_ClassFitter | None",
    weights: ModalityWeightFitter,
) -> EmbeddingSpace:
    """Build the space of both parts, with the weights of the modalities."""
    num_modalities = weights.present.shape[1]
    none = nn.ModuleList(nn.ModuleList() for _ in range(num_modalities))
    space = EmbeddingSpace(
        nn.ModuleList(pairs.coordinates.maps),
        nn.ModuleList(classes.maps if classes else ()),
        fitter.experts if fitter else none,
        pairs.aligned,
        channels=pairs.coordinates.evidence.shape[-1],
        num_classes=classes.evidence.shape[-1] if classes else 0,
    )
    space.pair_weights.copy_(pairs.weights)
    space.aligned_weight.copy_(pairs.aligned_weight)
    if classes is not None and fitter is not None:
        space.prior.copy_(fitter.prior)
        space.modality_weights.copy_(weights.modality_weights(classes.evidence))
        space.balance.fill_(0.0)  # without a pair part
    return space


def _prepare_regressions(
    samples: EmbeddingTrainingData, used: Tensor, generator: torch.Generator
) -> list[KernelRidge]:
    """Prepare kernel ridge regression of each modality on rows ``used [N, M]``."""
    regressions = []
    for m, x in enumerate(samples.features.values()):
        rows = torch.nonzero(used[:, m])[:, 0]
        groups = samples.groups[rows]
        regressions.append(fit_kernel_ridge(x[rows], rows, groups, generator))
    return regressions


class _PairFitter:
    """Coordinates of pairs, fitted to samples with at least two modalities."""

    def __init__(
        self, samples: EmbeddingTrainingData, channels: int, generator: torch.Generator
    ) -> None:
        present = samples.present
        self.used = present & (present.sum(1, keepdim=True) > 1)
        regressions = _prepare_regressions(samples, self.used, generator)
        mixing = [samples.mixing.get(name) for name in samples.features]
        self.regressions = [
            r if mixed is None else replace(r, mixing=mixed[r.rows])
            for r, mixed in zip(regressions, mixing, strict=True)
        ]
        self.basis = shared_components(
            self.regressions, len(self.used), channels, generator
        )

    def fit(self) -> _Part:
        """Fit the maps to the shared components ``[N, D]``."""
        maps = [r.fit(r.targets(self.basis)) for r in self.regressions]
        return _Part(maps, self.out_of_sample())

    def out_of_sample(self, folds: Tensor | None = None) -> Tensor:
        """Return predictions by fits without the group, or fold, of a sample.

        Args:
            folds: ``[N]`` fold of each sample; default: its group.

        Returns:
            ``[N, M, D]``.
        """
        evidence = torch.zeros(*self.used.shape, self.basis.shape[1])
        for m, r in enumerate(self.regressions):
            left_out = None if folds is None else folds[r.rows]
            predicted = r.leave_group_out(r.targets(self.basis), left_out)
            evidence[r.rows, m] = predicted.float()
        return evidence


def _prior(classes: Tensor) -> Tensor:
    """Return smoothed class frequencies, ``[K]``."""
    counts = torch.bincount(classes[classes >= 0]) + 0.5
    return counts / counts.sum()


class _ClassFitter:
    """Class probabilities of each modality, by kernel ridge and base learners."""

    def __init__(
        self,
        samples: EmbeddingTrainingData,
        classes: Tensor,
        pairs: _PairFitter | None,
        generator: torch.Generator,
    ) -> None:
        self.samples, self.classes = samples, classes
        self.present = samples.present
        known = self.present & (classes >= 0)[:, None]
        if pairs is not None and torch.equal(known, pairs.used):
            self.regressions = pairs.regressions
        else:
            self.regressions = _prepare_regressions(samples, known, generator)
        self.prior = _prior(classes)
        self.labeled = torch.nonzero(classes >= 0)[:, 0]
        self.experts = nn.ModuleList(nn.ModuleList() for _ in samples.features)

    def labels(self) -> Tensor:
        """Return one-hot classes ``[N, K]``; zero if unknown."""
        hot = F.one_hot(self.classes.clamp(min=0), len(self.prior)).double()
        return hot * (self.classes >= 0)[:, None]

    def fit(self, target: Tensor) -> _Part:
        """Fit kernel ridge regression to probabilities ``[N, K]``."""
        centered = target - self.prior
        evidence = torch.zeros(*self.present.shape, len(self.prior))
        maps = []
        every = zip(self.regressions, self.samples.features.values(), strict=True)
        for m, (r, x) in enumerate(every):
            fitted = r.fit(centered[r.rows])
            unlabeled = torch.nonzero(self.present[:, m] & (self.classes < 0))[:, 0]
            evidence[r.rows, m] = r.leave_group_out(centered[r.rows]).float()
            evidence[unlabeled, m] = fitted(x[unlabeled])
            maps.append(fitted)
        p = as_probabilities(evidence + self.prior)
        return _Part(maps, torch.where(self.present[..., None], p, 0))

    def refine(
        self,
        part: _Part,
        weights: ModalityWeightFitter,
        kinds: Sequence[ExpertKind],
        seed: int,
    ) -> _Part:
        """Add base learners, and distill all modalities into each modality."""
        if kinds:
            part = self.add_experts(part, kinds, seed)
        part = self.distill(part, weights.modality_weights(part.evidence))
        return self.average(part) if kinds else part

    def add_experts(self, part: _Part, kinds: Sequence[ExpertKind], seed: int) -> _Part:
        """Average the probabilities with those of base learners of one modality."""
        rows = self.labeled
        fitted = fit_evidence(
            {name: x[rows] for name, x in self.samples.features.items()},
            self.classes[rows],
            Classification(len(self.prior)),
            self.samples.folds[rows],
            kinds=kinds,
            seed=seed,
        )
        self.experts = fitted.experts
        scores = fitted.out_of_fold + fitted.prior
        self.out_of_fold = scores.softmax(-1).transpose(1, 2)  # [n, X, M, K]
        return self.average(part)

    def average(self, part: _Part) -> _Part:
        """Average with the out-of-fold probabilities of the base learners."""
        rows = self.labeled
        every = torch.cat([part.evidence[rows][:, None], self.out_of_fold], dim=1)
        evidence = part.evidence.index_copy(0, rows, every.mean(1))
        evidence = torch.where(self.present[..., None], evidence, 0)
        return _Part(part.maps, evidence)

    def distill(self, part: _Part, modality_weights: Tensor) -> _Part:
        """Fit kernel ridge regression to labels and the mean of all modalities.

        Modalities with little information are fitted to the prediction of the others.

        References:
            Unifying Distillation and Privileged Information, Lopez-Paz, Bottou,
            Schoelkopf, Vapnik, 2016.
        """
        teacher = weighted_mean(part.evidence, self.present, modality_weights.log())
        target = LABEL_WEIGHT * self.labels() + (1 - LABEL_WEIGHT) * teacher.double()
        return self.fit(target)
