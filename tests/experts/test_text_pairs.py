"""Base learner on pairs of texts: products of kernels."""

import jaxtyping
import numpy as np
import pytest
import torch

from mmgraph import (
    CheckpointError,
    FusionClassifier,
    FusionRegressor,
    Modality,
    MultimodalData,
    Schema,
    serving,
)
from mmgraph.experts import text_pairs
from mmgraph.experts.serialization import (
    ensemble_config,
    ensemble_from_config,
    load_tensors,
)
from mmgraph.experts.text_pairs import PairKernelExpert, fit_text_pairs, solve_ridge
from mmgraph.nn.heads import Classification, MultiLabel, Regression

FAST = {"epochs": 1, "members": 1, "experts": ("linear", "relations")}
NAMES = ("key", "lock")
SCHEMA = Schema.star([Modality(name, kind="tokens") for name in NAMES])
VECTORS = Schema.star([Modality(name, 8, kind="embedding") for name in NAMES])


def keys_and_locks(num: int = 120, seed: int = 0) -> MultimodalData:
    """A key opens a lock if both end in the same letter; neither alone is enough."""
    rng = np.random.default_rng(seed)
    ends = rng.integers(2, size=(num, 2))
    made = [
        ["abcd"[rng.integers(4)] + (2 * letters[end]) for end in column]
        for letters, column in zip(("xy", "pq"), ends.T, strict=True)
    ]
    arrays = dict(zip(NAMES, made, strict=True))
    y = (ends[:, 0] == ends[:, 1]).astype(int)
    return MultimodalData.from_arrays(arrays, y=y, schema=SCHEMA)


def vectors(num: int = 60) -> list[torch.Tensor]:
    """Vectors of nine distinct texts of one side, and of seven of the other."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.rand(size, 8, generator=generator)[torch.arange(num) % size]
        for size in (9, 7)
    ]


def fit(task, y, features=None, **options):
    features = vectors() if features is None else features
    folds, present = torch.arange(60) % 3, torch.ones(60, 2, dtype=torch.bool)
    prior = torch.zeros(task.out_channels)
    rest = features, present, y, task, folds, prior
    return fit_text_pairs(VECTORS, NAMES, *rest, **options)


def test_subsets_of_rows_are_solved_as_they_are_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(20, 30, generator=generator)
    kernel, target = z @ z.T / 30, torch.randn(20, 2, generator=generator)
    ridge = 0.5 + torch.rand(20, generator=generator)
    used = torch.arange(20)[:, None] % 3 != torch.arange(4)
    solved = solve_ridge(kernel, target, used, ridge)
    for p in range(4):
        rows = torch.nonzero(used[:, p])[:, 0]
        system = kernel[rows][:, rows] + torch.diag(ridge[rows])
        expected = torch.linalg.solve(system, target[rows])
        torch.testing.assert_close(solved[rows, p], expected, atol=5e-3, rtol=0)
        assert not solved[~used[:, p], p].any()


def test_kernel_is_the_product_of_those_of_both_sides() -> None:
    y = torch.arange(60) % 2
    (expert,) = fit(Classification(2), y)
    (added,) = fit(Classification(2), y, has_products=False)
    assert expert.sizes == [9, 7]
    x, z = (table[:5] for table in vectors())
    sides = []
    for table, rows, spread in (
        (x, expert.left_rows, expert.spread[0]),
        (z, expert.right_rows, expert.spread[1]),
    ):
        square = torch.cdist(table, rows).square() / spread
        sides.append(torch.stack([(-s * square).exp() for s in (1.5, 3, 6)]).mean(0))
    k, other = sides[0][:, expert.left_index], sides[1][:, expert.right_index]
    product = (k + 0.5) * (other + 0.5)
    torch.testing.assert_close(expert.kernel(x, z).float(), product, atol=1e-5, rtol=0)
    total = added.kernel(x, z).float()
    torch.testing.assert_close(total, k + other, atol=1e-5, rtol=0)


def test_scores_of_a_fold_do_not_depend_on_its_labels() -> None:
    task, folds = Classification(2), torch.arange(60) % 3
    y = torch.arange(60) % 2
    changed = torch.where(folds == 1, 1 - y, y)
    present = torch.ones(60, 2, dtype=torch.bool)
    responses = []
    for labels in (y, changed):
        (expert,) = fit(task, labels)
        expert.coefficient.div_(expert.coefficient.norm())  # slopes depend on all
        expert.bias.zero_()
        responses.append(expert(vectors(), present, folds))
    own = folds == 1
    scale = responses[0][own].diff(dim=1) / responses[1][own].diff(dim=1)
    assert float(scale.std() / scale.mean().abs()) < 0.05
    assert not torch.allclose(responses[0][~own], responses[1][~own], atol=1e-3)


def test_missing_texts_give_the_prior_whatever_they_hold() -> None:
    (expert,) = fit(Classification(2), torch.arange(60) % 2)
    tables, present = vectors(), torch.ones(60, 2, dtype=torch.bool)
    present[0, 0] = present[1, 1] = False
    scores = expert(tables, present)
    tables[0][0], tables[1][1] = torch.nan, torch.inf
    assert torch.equal(expert(tables, present), scores)
    assert torch.equal(scores[:2], expert.prior.expand(2, -1))
    alone = [
        expert([x[[i]] for x in tables], present[[i]], torch.tensor([i % 3]))
        for i in range(60)
    ]
    together = expert(tables, present, torch.arange(60) % 3)
    torch.testing.assert_close(torch.cat(alone), together, atol=1e-6, rtol=0)


@pytest.mark.parametrize("task", [Classification(3), MultiLabel(2), Regression(2)])
def test_every_task_has_finite_scores_and_weights(task) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (60, 2), generator=generator).float()
    y[0] = torch.nan
    y = torch.arange(60) % 3 if isinstance(task, Classification) else y
    weight = torch.rand(60, generator=generator)
    (expert,) = fit(task, y, weight=weight)
    (scaled,) = fit(task, y, weight=weight * 8)
    (even,) = fit(task, y)
    present = torch.ones(60, 2, dtype=torch.bool)
    scores = expert(vectors(), present)
    assert scores.shape == (60, task.out_channels)
    assert bool(scores.isfinite().all())
    assert not torch.allclose(scores, even(vectors(), present), atol=1e-4)
    close = torch.allclose(scaled.coefficient, expert.coefficient, atol=0.2)
    assert close, "only the penalty of the calibration depends on the scale"


def test_few_samples_or_unrelated_texts_have_no_base_learner(monkeypatch) -> None:
    task, y = Classification(2), torch.arange(60) % 2
    late = Schema.late(VECTORS.modalities)
    present = torch.ones(60, 2, dtype=torch.bool)
    rest = vectors(), present, y, task, torch.arange(60) % 3, torch.zeros(2)
    assert fit_text_pairs(late, NAMES, *rest) == []
    assert fit_text_pairs(VECTORS, NAMES[:1], *rest) == []
    monkeypatch.setattr(text_pairs, "MAX_SAMPLES", 30)
    (few,) = fit_text_pairs(VECTORS, NAMES, *rest)
    assert few.coefficient.shape == (30, 4, 2)
    monkeypatch.setattr(text_pairs, "MIN_SAMPLES", 61)
    assert fit_text_pairs(VECTORS, NAMES, *rest) == []


@pytest.fixture(scope="module")
def fitted() -> FusionClassifier:
    return FusionClassifier(**FAST).fit(keys_and_locks())


def test_classifier_learns_which_texts_fit_and_is_saved(fitted, tmp_path) -> None:
    test = keys_and_locks(80, seed=1)
    assert fitted.score(test) > 0.95
    fitted.save_pretrained(tmp_path / "model")
    loaded = FusionClassifier.from_pretrained(tmp_path / "model")
    assert np.array_equal(loaded.predict_proba(test), fitted.predict_proba(test))
    half = test.mask({"lock": np.zeros(80, bool)})
    assert np.abs(fitted.predict_proba(half)[:, 1] - 0.5).max() < 0.2


def test_late_fusion_does_not_learn_which_texts_fit() -> None:
    late = FusionClassifier(**FAST | {"experts": ("linear",)})
    assert late.fit(keys_and_locks()).score(keys_and_locks(80, seed=1)) < 0.75


def test_regression_reads_pairs_of_texts() -> None:
    data = keys_and_locks(60)
    reg = FusionRegressor(**FAST).fit(data.replace(y=data.y.astype(float)))
    kinds = [type(each) for each in reg.model_.ensemble.joint]
    assert kinds == [PairKernelExpert]
    assert np.abs(reg.predict(data) - data.y).mean() < 0.3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"left": 2}, "Indices of modalities and views must be from 0 to 1"),
        ({"sizes": [3, 500]}, "at most as many distinct texts"),
        ({"num_samples": 10**9}, "Pairs of texts must have 1 to 8000 samples"),
        ({"num_folds": 0}, "Pairs of texts must have 1 to 8000 samples"),
    ],
)
def test_damaged_configurations_are_refused(fitted, change, message) -> None:
    ensemble = fitted.model_.ensemble
    config = ensemble_config(ensemble)
    config["joint"] = [config["joint"][0] | change]
    with pytest.raises(CheckpointError, match=message):
        ensemble_from_config(config, fitted.input_spec_.widths, Classification(2))


def test_damaged_indices_are_refused(fitted) -> None:
    ensemble = fitted.model_.ensemble
    with torch.device("meta"):
        empty = ensemble_from_config(
            ensemble_config(ensemble), fitted.input_spec_.widths, Classification(2)
        )
    tensors = {k: x.clone() for k, x in ensemble.state_dict().items()}
    tensors["joint.0.right_index"][0] = 400
    with pytest.raises(CheckpointError, match="right_index' must hold indices"):
        load_tensors(empty, tensors)


@pytest.mark.long
def test_exported_file_predicts_the_same(fitted, tmp_path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    data = keys_and_locks(40, seed=2)
    jaxtyping.config.update("jaxtyping_disable", True)  # shapes are symbols in a trace
    try:
        serving.export(fitted, tmp_path / "model.onnx")
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    exported = serving.load(tmp_path / "model.onnx")
    expected = fitted.predict_proba(data)
    assert np.allclose(exported.predict_proba(data), expected, atol=1e-5)
