"""Late fusion, joint readout without edges, and with edges, on the same base learners.

The arms differ in nothing but the base learners of several modalities:

- late: none; unimodal base learners and their pool only.
- none: trees on all modalities, and submodels in which every view of several modalities
  is replaced by its control: as many random convolutions on the same clock, each of
  which reads one of the two sequences only, and products without the vector.
- edges: the default, in which convolutions read both sequences of a pair, and products
  a vector as well. Their weights are chosen out of fold.

Graph networks are not trained. Letters: ``N`` samples, ``M`` modalities.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

import mmgraph as mg
from mmgraph.data.batch import Batch
from mmgraph.data.column import IntArray
from mmgraph.data.splits import assign_folds
from mmgraph.estimators.input_spec import InputSpec
from mmgraph.experts.ensemble import ExpertEnsemble
from mmgraph.experts.links import prior_of
from mmgraph.experts.pooling import fit_pool
from mmgraph.experts.product_view import ProductView
from mmgraph.experts.stacking import Evidence, fit_evidence
from mmgraph.experts.submodels import RidgeTraining, Submodels, fit_submodels
from mmgraph.experts.views import (
    SequenceView,
    View,
    ViewKernels,
    fit_views,
    plan_views,
    view_tables,
)
from mmgraph.metrics import aurc, paired_difference
from mmgraph.missing import mcar
from mmgraph.nn.heads import Classification
from mmgraph.nn.random_convolution import RandomConvolution

ARMS = ("late", "none", "edges")
RATES, DRAWS = (0.0, 0.3, 0.5, 0.7), 3
KINDS = ("linear", "spline", "forest", "convolution", "joint", "submodels")
NUM_FOLDS = 5


class OneEnded(RandomConvolution):
    """Random convolutions of joined sequences that each read one of them only."""

    def _draw_mixing(self, generator: torch.Generator) -> Tensor:
        mixing = super()._draw_mixing(generator)
        shape = mixing.shape[:-1]
        chosen = torch.randint(len(self.ends), (*shape, 1), generator=generator)
        end = torch.arange(len(self.ends)).repeat_interleave(torch.tensor(self.ends))
        return mixing * (chosen == end)


class Unmultiplied(ProductView):
    """Product of the kernel of sequences with a constant kernel."""

    def fit(
        self, batch: Batch, tables: Sequence[Tensor], generator: torch.Generator
    ) -> Tensor:
        """Draw phases only: the features do not depend on the vector."""
        super().fit(batch, tables, generator)
        self.frequency.zero_()
        return self(batch, tables)


def control_of(view: View) -> View:
    """Return the control of a view of several modalities."""
    if isinstance(view, ProductView):
        sizes = view.in_features, view.out_features
        return Unmultiplied(view.names, view.vector, view.sequences, *sizes)
    assert isinstance(view, SequenceView)
    options = {"num_thresholds": view.num_thresholds}
    control = SequenceView(view.names, view.channels, **options)
    control.convolutions = nn.ModuleList([OneEnded(view.channels, **options)])
    return control


@dataclass(frozen=True)
class Split:
    """Training and test samples as numbers."""

    train: mg.MultimodalData
    test: mg.MultimodalData
    y: Tensor
    y_test: Tensor
    num_classes: int


def read_split(data: mg.MultimodalData, train: IntArray, test: IntArray) -> Split:
    """Read samples with the description of the training samples."""
    classes, codes = np.unique(np.asarray(data.y), return_inverse=True)
    y = torch.from_numpy(codes).long()
    spec, fitted = InputSpec.fit(data[train])
    read = spec.read(data[test])
    return Split(fitted, read, y[train], y[test], len(classes))


def fit_arms(
    split: Split, seed: int, names: Sequence[str] = ARMS
) -> dict[str, ExpertEnsemble]:
    """Fit the ensembles of some arms, which share their unimodal base learners.

    Every ensemble has the views of all arms, so that tables are computed once.

    Args:
        split: Samples.
        seed: Seed of folds, views and trees.
        names: Arms; "edges" is always fitted.
    """
    train, y, task = split.train, split.y, Classification(split.num_classes)
    features = [torch.from_numpy(x) for x in train.features().values()]
    planned = plan_views(train.schema, [x.shape[1] for x in features])
    single = [view for view in planned if len(view.names) == 1]
    several = planned[len(single) :]
    controls = map(control_of, several) if "none" in names else ()
    views = [*planned, *controls]

    def read(rows: Tensor) -> tuple[Batch, list[Tensor]]:
        return train.batch(rows.numpy()), [x[rows] for x in features]

    modalities = train.schema.modality_names
    kernels = fit_views(views, modalities, len(train), read, seed=seed)
    of_arm = {
        "edges": [*range(len(planned))],
        "none": [*range(len(single)), *range(len(planned), len(views))],
    }
    folds = torch.from_numpy(
        assign_folds(y.numpy(), train.groups, NUM_FOLDS, seed=seed)
    )
    parts = dict(zip(modalities, features, strict=True))
    evidence = fit_evidence(
        parts,
        y,
        task,
        folds,
        kinds=KINDS,
        grouped=train.groups is not None,
        seed=seed,
        kernels=_select(kernels, of_arm["edges"]),
    )
    trees = [each for each in evidence.joint if not isinstance(each, Submodels)]
    arms = {"late": replace(evidence, joint=nn.ModuleList(), submodel_scores=None)}
    prior = prior_of(task, y)
    for arm in [each for each in of_arm if each in {*names, "edges"}]:
        used = of_arm[arm]
        own = _select(kernels, used)
        fitted = fit_submodels(
            RidgeTraining(own, evidence.present, y, task, folds, prior)
        )
        assert fitted is not None
        places = torch.tensor([used[v] for v in fitted.views])
        fitted.model.places = places  # of its views among all views
        arms[arm] = replace(
            evidence,
            joint=nn.ModuleList([*trees, fitted.model]),
            submodel_scores=fitted.scores,
        )
    return {
        arm: _ensemble(arms[arm], split, seed, views) for arm in ARMS if arm in arms
    }


def _ensemble(
    evidence: Evidence, split: Split, seed: int, views: Sequence[View]
) -> ExpertEnsemble:
    task = Classification(split.num_classes)
    pool = fit_pool(evidence, split.y, task, seed=seed)
    return ExpertEnsemble(evidence.experts, evidence.joint, pool, views)


def _select(kernels: ViewKernels, used: Sequence[int]) -> ViewKernels:
    return replace(
        kernels,
        views=[kernels.views[v] for v in used],
        kernels=[kernels.kernels[v] for v in used],
        diagonal=[kernels.diagonal[v] for v in used],
        basis=[kernels.basis[v] for v in used],
        needs=kernels.needs[used],
        is_product=kernels.is_product[used],
    )


@torch.no_grad()
def score_arms(
    arms: dict[str, ExpertEnsemble], split: Split, masks: Sequence[Tensor]
) -> dict[str, np.ndarray]:
    """Return accuracy and log loss of each arm for each mask, ``[masks, 2]``.

    Args:
        arms: Ensembles.
        split: Samples.
        masks: ``[N, M]`` Bool, modalities that are kept.
    """
    test = split.test
    features = [torch.from_numpy(x) for x in test.features().values()]
    views, num = arms["edges"].views, len(features)
    parts = []
    for rows in torch.arange(len(test)).split(256):
        batch = test.batch(rows.numpy())
        parts.append(view_tables(views, batch, [x[rows] for x in features]))
    tables = [torch.cat(each) for each in zip(*parts, strict=True)]
    evidence, present = arms["late"].evidence(tables)
    trees = [e for e in arms["edges"].joint if not isinstance(e, Submodels)]
    scores = {}
    for arm, ensemble in arms.items():
        for expert in ensemble.joint:
            if isinstance(expert, Submodels):
                own = [*tables[:num], *(tables[num + int(v)] for v in expert.places)]
                scores[arm] = expert.scores(own)
    results: dict[str, list[tuple[float, float]]] = {arm: [] for arm in arms}
    for mask in masks:
        kept = present & mask
        prior = arms["late"].pool.prior
        shared = [tree(features, kept) - prior for tree in trees]
        for arm, ensemble in arms.items():
            joint = None
            if len(ensemble.joint):
                expert = ensemble.joint[-1]
                assert isinstance(expert, Submodels)
                own = expert.select(scores[arm], kept) - prior
                joint = torch.stack([*shared, own], 1)
            known = torch.where(kept[..., None, None], evidence, 0)
            logits = ensemble.pool(known, kept, joint)
            loss = torch.nn.functional.cross_entropy(logits, split.y_test)
            right = (logits.argmax(1) == split.y_test).float().mean()
            results[arm].append((float(right), float(loss)))
    return {arm: np.array(each) for arm, each in results.items()}


def draw_masks(split: Split) -> list[Tensor]:
    """Return one mask at rate 0, and three at each other rate."""
    plans = [
        mcar(rate).plan(split.test, seed=draw)
        for rate in RATES
        for draw in range(1 if rate == 0 else DRAWS)
    ]
    return [torch.tensor(plan.present) for plan in plans]


def by_rate(values: np.ndarray) -> np.ndarray:
    """Return means over the draws of each rate, then over rates, ``[5, 2]``."""
    means = np.stack([values[0], *values[1:].reshape(-1, DRAWS, 2).mean(1)])
    areas = [aurc(np.array(RATES), means[:, k]) for k in range(2)]
    return np.concatenate([means, [areas]])


def draw_rows(
    data: mg.MultimodalData, seed: int, most: int | None
) -> tuple[IntArray, IntArray]:
    """Return training and test rows of the official split, or of a fold of groups.

    Args:
        data: Data set.
        seed: Number of the fold, of five, and seed of the subsample.
        most: Training samples, and test samples at most; None for all.
    """
    if data.split_name is not None:
        fold = np.asarray(data.split_name) != "train"
    else:
        codes = np.unique(np.asarray(data.y), return_inverse=True)[1]
        fold = assign_folds(codes, data.groups, NUM_FOLDS, seed=0) == seed % NUM_FOLDS
    rng = np.random.default_rng(seed)
    parts = np.flatnonzero(~fold), np.flatnonzero(fold)
    train, test = (np.sort(rng.permutation(rows)[:most]) for rows in parts)
    return train, test


def run(
    data: mg.MultimodalData,
    seeds: int,
    most: int | None,
    names: Sequence[str] = ARMS,
) -> list[str]:
    """Return the lines of a Markdown table.

    Args:
        data: Data set.
        seeds: Number of seeds, or of folds of groups.
        most: Training samples, and test samples at most; None for all.
        names: Arms.
    """
    scores: dict[str, list[np.ndarray]] = {arm: [] for arm in ARMS}
    weights = []
    for seed in range(seeds):
        split = read_split(data, *draw_rows(data, seed, most))
        arms = fit_arms(split, seed, names)
        for arm, values in score_arms(arms, split, draw_masks(split)).items():
            scores[arm].append(by_rate(values))
        model = arms["edges"].joint[-1]
        weights.append(any(len(need) > 1 for need in model.needs))
    columns = [f"{rate:g} removed" for rate in RATES]
    lines = [f"| arm | {' | '.join(columns)} | mean |", "|---|" + "---:|" * 5]
    table = {arm: np.stack(each) for arm, each in scores.items() if each}
    for arm in table:  # [seeds, 5, 2]
        cells = [f"{a:.3f} / {b:.3f}" for a, b in table[arm].mean(0)]
        lines.append(f"| {arm} | {' | '.join(cells)} |")
    overlap = 0.0 if data.split_name is not None else 1 / (NUM_FOLDS - 1)
    pairs = (("none", "late"), ("edges", "none"))
    for a, b in [pair for pair in pairs if table.keys() >= set(pair)]:
        for k, name in enumerate(("accuracy", "log loss")):
            cells = []
            for rate in range(5):
                d = paired_difference(
                    table[a][:, rate, k], table[b][:, rate, k], overlap
                )
                cells.append(f"{d.mean:+.4f} [{d.low:+.4f}, {d.high:+.4f}]")
            lines.append(f"| {a} - {b}, {name} | {' | '.join(cells)} |")
    lines.append("")
    lines.append(f"Views of several modalities used in {sum(weights)} of {seeds} fits.")
    return lines
