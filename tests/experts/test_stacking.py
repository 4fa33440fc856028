"""Unimodal experts against scikit-learn, and the laws of the evidence pool."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor

from mmgraph.experts import linear
from mmgraph.experts.forest import TreeExpert
from mmgraph.experts.linear import MAX_SPLINE_WIDTH, LinearExpert, fit_linear
from mmgraph.experts.links import SMALLEST_PROBABILITY, prior_of
from mmgraph.experts.pooling import fit_pool, frequent_patterns
from mmgraph.experts.stacking import Evidence, fit_evidence, fit_unimodal
from mmgraph.nn.evidence_pool import EvidencePool, SubmodelPool
from mmgraph.nn.heads import Classification, Regression
from mmgraph.nn.scaling import CLIP, StandardScaler


def rows(num: int = 80, width: int = 4, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, width, generator=generator, dtype=torch.double)


def exact_fit(x: Tensor, y: Tensor, ridge: float, link: str) -> Tensor:
    weight = torch.ones(1, len(x), dtype=x.dtype)
    penalty = torch.tensor([ridge], dtype=x.dtype)
    return fit_linear(x, y, weight, penalty, link, max_steps=5000, tolerance=1e-6)[0]


# Linear experts


@pytest.mark.parametrize("ridge", [0.3, 3.0])
def test_sigmoid_fit_is_scikit_learns_logistic_regression(ridge):
    x = rows()
    y = (x[:, 0] + rows(seed=1)[:, 0] > 0.5).double()
    fitted = exact_fit(x, y[:, None], ridge, "sigmoid")
    model = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=5000)
    model.fit(x.numpy(), y.numpy())
    assert fitted[:-1, 0].numpy() == pytest.approx(model.coef_[0], abs=1e-3)
    assert float(fitted[-1, 0]) == pytest.approx(model.intercept_[0], abs=1e-3)


def test_softmax_fit_is_scikit_learns_multinomial_regression():
    x = rows()
    codes = (x @ rows(4, 3, seed=2) + rows(80, 3, seed=3)).argmax(1)
    y = torch.nn.functional.one_hot(codes, 3).double()
    fitted = exact_fit(x, y, 2.0, "softmax")
    predicted = (x @ fitted[:-1] + fitted[-1]).softmax(1).numpy()
    model = LogisticRegression(C=1 / 2.0, tol=1e-10, max_iter=5000)
    model.fit(x.numpy(), codes.numpy())
    assert predicted == pytest.approx(model.predict_proba(x.numpy()), abs=1e-3)
    assert fitted[:-1].T.numpy() == pytest.approx(model.coef_, abs=2e-3)


def test_identity_fit_is_scikit_learns_ridge():
    x = rows()
    y = x[:, :2] * 3 + 1 + rows(80, 2, seed=4)
    fitted = exact_fit(x, y, 5.0, "identity")
    model = Ridge(alpha=5.0).fit(x.numpy(), y.numpy())
    assert fitted[:-1].T.numpy() == pytest.approx(model.coef_, abs=1e-4)
    assert fitted[-1].numpy() == pytest.approx(model.intercept_, abs=1e-4)


def test_fits_of_other_rows_and_penalties_do_not_know_each_other():
    x = rows()
    y = (x[:, :1] > 0).double()
    weight = torch.ones(3, 80, dtype=x.dtype)
    weight[1, :40] = 0
    ridge = torch.tensor([1.0, 1.0, 20.0], dtype=x.dtype)
    options = {"max_steps": 5000, "tolerance": 1e-6}
    together = fit_linear(x, y, weight, ridge, "sigmoid", **options)
    half = exact_fit(x[40:], y[40:], 1.0, "sigmoid")
    assert torch.allclose(together[1], half, atol=1e-3)
    strong = exact_fit(x, y, 20.0, "sigmoid")
    assert torch.allclose(together[2], strong, atol=1e-3)
    assert together[2, :-1].norm() < together[0, :-1].norm()


@pytest.mark.parametrize("num", [20, 80])
@pytest.mark.parametrize("link", ["softmax", "identity"])
def test_wide_rows_are_fitted_one_by_one_to_the_same_optimum(num, link, monkeypatch):
    x = rows(num, 30, seed=6)
    y = torch.eye(2, dtype=x.dtype)[(x[:, 0] > 0).long()]
    weight = torch.ones(2, num, dtype=x.dtype)
    weight[1, ::3] = 0
    ridge = torch.tensor([1.0, 5.0], dtype=x.dtype)
    options = {"max_steps": 5000, "tolerance": 1e-7}
    together = fit_linear(x, y, weight, ridge, link, **options)
    monkeypatch.setattr(linear, "MAX_TOGETHER", 10)
    apart = fit_linear(x, y, weight, ridge, link, **options)
    assert torch.allclose(apart, together, atol=1e-4)


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "identity"])
def test_linear_expert_reads_missing_cells_as_mean_and_flag(link):
    x = torch.tensor([[1.0, 4.0], [3.0, 8.0], [torch.nan, 6.0]])
    expert = LinearExpert(2, 2, link)
    expert.scaler.fit(x)
    expert.weight.copy_(torch.arange(10.0).reshape(5, 2) / 10)
    z = torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    logits = z @ expert.weight[:-1] + expert.weight[-1]
    expected = logits.log_softmax(1) if link == "softmax" else logits
    assert torch.allclose(expert(x)[2:], expected, atol=1e-6)


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_linear_expert_is_never_quite_certain(link):
    expert = LinearExpert(1, 2, link)
    expert.weight[-1].copy_(torch.tensor([500.0, -500.0]))
    score = expert(torch.zeros(1, 1))
    assert score.min().exp() >= SMALLEST_PROBABILITY * 0.999
    assert score.isfinite().all()


# Forests


def forest_of(
    z: Tensor, y: Tensor, trees: int = 20, **options: int
) -> RandomForestRegressor:
    forest = RandomForestRegressor(trees, random_state=0, **options)
    return forest.fit(z.numpy(), y.squeeze(1).numpy())


@pytest.mark.parametrize("num_targets", [1, 3])
def test_tree_expert_predicts_what_the_forest_predicts(num_targets):
    x = rows(200).float()
    x[::7, 1] = torch.nan
    y = rows(200, num_targets, seed=5).float() + x[:, :1]
    scaler = StandardScaler(4)
    scaler.fit(x)
    forest = forest_of(scaler(x), y)
    expert = TreeExpert.from_forest(forest, scaler, "identity")
    new = 2 * rows(500, seed=6).float()
    new[::3, 0] = torch.nan
    expected = forest.predict(scaler(new).numpy()).reshape(500, num_targets)
    assert expert(new).numpy() == pytest.approx(expected, abs=1e-5)


def test_cells_on_a_threshold_take_the_forests_side():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 4, (300, 3), generator=generator).float() / 3
    y = rows(300, 1, seed=7).float()
    scaler = StandardScaler(3)  # leaves values as they are
    forest = forest_of(scaler(x), y, trees=5)
    thresholds = np.concatenate([t.tree_.threshold for t in forest.estimators_])
    features = np.concatenate([t.tree_.feature for t in forest.estimators_])
    inner = np.unique(thresholds[features >= 0])
    at = torch.from_numpy(inner.astype(np.float32))
    below = torch.nextafter(at, torch.tensor(-torch.inf))
    above = torch.nextafter(at, torch.tensor(torch.inf))
    values = torch.cat([at, below, above])
    new = torch.stack([values, values.flip(0), values.roll(1)], dim=1)
    expert = TreeExpert.from_forest(forest, scaler, "identity")
    expected = forest.predict(scaler(new).numpy())
    assert expert(new)[:, 0].numpy() == pytest.approx(expected, abs=1e-6)


def test_tree_expert_of_classes_returns_smoothed_log_probabilities():
    x = rows(100).float()
    codes = (x[:, 0] > 0).long()
    y = torch.nn.functional.one_hot(codes, 2).float()
    scaler = StandardScaler(4)
    scaler.fit(x)
    forest = forest_of(scaler(x), y, min_samples_leaf=2)
    score = TreeExpert.from_forest(forest, scaler, "softmax")(x)
    assert score.exp().sum(1).numpy() == pytest.approx(np.ones(100), abs=1e-5)
    mean = forest.predict(scaler(x).numpy()).clip(1e-4, 1 - 1e-4)
    assert score.exp().numpy() == pytest.approx(mean, abs=1e-4)


@pytest.mark.parametrize("kind", ["linear", "forest"])
def test_expert_survives_its_state_dict(kind):
    x = rows().float()
    scaler = StandardScaler(4)
    scaler.fit(x)
    if kind == "forest":
        forest = forest_of(scaler(x), x[:, :1])
        expert = TreeExpert.from_forest(forest, scaler, "identity")
        nodes = len(expert.forest.feature)
        other = TreeExpert(4, 1, "identity", num_nodes=nodes, num_trees=20)
    else:
        expert = LinearExpert(4, 1, "identity")
        expert.scaler.fit(x)
        expert.weight.copy_(rows(9, 1).float())
        other = LinearExpert(4, 1, "identity")
    assert not torch.equal(other(x), expert(x))
    other.load_state_dict(expert.state_dict())
    assert torch.equal(other(x), expert(x))
    assert expert(x[:0]).shape == (0, 1)


@pytest.mark.parametrize("grouped", [False, True], ids=["bags", "folds"])
def test_a_forest_of_eight_samples_grows_without_a_warning(grouped, few_trees):
    num = 16 if grouped else 8  # each of the two folds leaves out a half
    x, y = rows(num).float(), torch.arange(num) % 2
    task, folds = Classification(num_classes=2), torch.arange(num) // 2 % 2
    evidence = fit_evidence({"a": x}, y, task, folds, kinds=["forest"], grouped=grouped)
    assert isinstance(evidence.experts[0][0], TreeExpert)
    assert evidence.out_of_fold.isfinite().all()
    assert evidence.out_of_fold.any()


@pytest.mark.parametrize(("width", "fits"), [(MAX_SPLINE_WIDTH, 2), (257, 1)])
def test_splines_without_knots_are_not_fitted_again(width, fits, monkeypatch):
    fitted = []
    counted = lambda *a: fitted.append(a) or fit_linear(*a)  # noqa: E731
    monkeypatch.setattr("mmgraph.experts.linear.fit_linear", counted)
    x, y, folds = rows(20, width).float(), torch.arange(20) % 2, torch.arange(20) // 10
    task = Classification(num_classes=2)
    linear, _, spline, _ = fit_unimodal(["linear", "spline"], x, y, task, folds)
    assert len(fitted) == fits
    assert linear[1] is not spline[1]
    assert torch.equal(linear[0], spline[0]) == (fits == 1)
    assert torch.equal(linear[1](x), spline[1](x)) == (fits == 1)


# The pool


@pytest.fixture(params=[torch.float32, torch.float64], ids=str)
def pool(request) -> EvidencePool:
    """A pool of three modalities, two experts, two classes and two patterns."""
    made = empty_pool().to(request.param)
    made.prior.copy_(torch.tensor([-0.3, -1.2]))
    made.patterns.copy_(torch.tensor([[True, True, True], [True, False, True]]))
    return made


def empty_pool() -> EvidencePool:
    return EvidencePool(3, 2, 2, num_joint=1, num_patterns=2)


def evidence_of(pool: EvidencePool, num: int = 5) -> Tensor:
    return rows(num * 12, 1).reshape(num, 3, 2, 2).to(pool.prior.dtype)


def everything(num: int = 5) -> Tensor:
    return torch.ones(num, 3, dtype=torch.bool)


def test_pool_begins_as_the_mean_of_experts_over_the_root_of_the_count(pool):
    evidence, present = evidence_of(pool), everything()
    present[1, 0], present[2, :2] = False, False
    count = present.sum(1, keepdim=True)
    mean = evidence.mean(2) * present[..., None]
    expected = pool.prior + mean.sum(1) / count.sqrt()
    predicted = pool(evidence, present)
    assert predicted.dtype == pool.prior.dtype
    assert torch.allclose(predicted, expected, atol=1e-6)
    assert pool.penalty().item() == pytest.approx(0, abs=1e-10)


def test_pool_returns_the_prior_of_a_sample_without_anything(pool):
    with torch.no_grad():
        pool.bias.fill_(3.0)
        pool.pattern_bias.fill_(2.0)
        pool.patterns[0] = False
    predicted = pool(evidence_of(pool), torch.zeros(5, 3, dtype=torch.bool))
    assert torch.equal(predicted, pool.prior.expand(5, 2))


@pytest.mark.parametrize("content", [torch.nan, torch.inf, 1e30])
def test_pool_does_not_read_what_is_not_present(pool, content):
    evidence, present = evidence_of(pool), everything()
    present[0, 1], present[3] = False, False
    poisoned = torch.where(present[..., None, None], evidence, content)
    together = evidence[:, 0, :1]
    predicted = pool(poisoned, present, together)
    assert torch.equal(predicted, pool(evidence, present, together))
    predicted.sum().backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() for p in pool.parameters()
    )


def test_pool_does_not_know_the_order_of_modalities(pool):
    order = [2, 0, 1]
    present = everything()
    present[0, 1] = False
    with torch.no_grad():
        pool.modality_weight.add_(rows(3, 2).to(pool.modality_weight.dtype))
        pool.pattern_bias.add_(rows(2, 2).to(pool.modality_weight.dtype))
    other = empty_pool().to(pool.prior.dtype)
    other.load_state_dict(
        {
            **pool.state_dict(),
            "modality_weight": pool.modality_weight[order].detach(),
            "patterns": pool.patterns[:, order],
        }
    )
    predicted = other(evidence_of(pool)[:, order], present[:, order])
    assert torch.allclose(predicted, pool(evidence_of(pool), present), atol=1e-6)


def test_joint_evidence_is_weighted_by_the_number_of_modalities(pool):
    present = everything()
    present[1, 1], present[2, :2], present[3] = False, False, False
    together = torch.full((5, 1, 2), 2.0, dtype=pool.prior.dtype)
    without = pool(evidence_of(pool), present)
    change = (pool(evidence_of(pool), present, together) - without)[:, 0]
    expected = 0.3 * 2 * torch.tensor([2 / 3, 1 / 2, 0, 0, 2 / 3])
    assert change.tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_pattern_speaks_of_itself_alone(pool):
    present = everything()
    present[1, 1] = present[2, 0] = False
    before = pool(evidence_of(pool), present)
    with torch.no_grad():
        pool.pattern_bias[1] = torch.tensor([2.0, -1.0])
    change = pool(evidence_of(pool), present) - before
    expected = torch.zeros(5, 2, dtype=pool.prior.dtype)
    expected[1] = torch.tensor([2.0, -1.0])
    assert torch.allclose(change, expected, atol=1e-6)


def test_common_patterns_are_found_the_most_frequent_first():
    a, b, rare = [True, False], [True, True], [False, True]
    present = torch.tensor([a] * 6 + [b] * 9 + [rare] * 4)
    assert frequent_patterns(present).tolist() == [b, a]
    assert frequent_patterns(torch.tensor([b] * 20)).shape == (0, 2)
    every = torch.arange(128)[:, None].bitwise_and(2 ** torch.arange(7)) > 0
    assert frequent_patterns(every.repeat(5, 1)).shape == (64, 7)


def test_the_pool_learns_from_patterns_of_missing_modalities():
    """The label decides what is observed; the evidence itself is silent."""
    y = torch.arange(200) % 2
    present = torch.stack([torch.ones(200, dtype=torch.bool), y == 1], dim=1)
    silent = torch.zeros(200, 2, 1, 2)
    task = Classification(num_classes=2)
    prior = prior_of(task, y)
    folds = torch.zeros(200, dtype=torch.int64)
    experts, none = one_of_each("linear"), torch.nn.ModuleList()
    evidence = Evidence(silent, present, experts, prior, [], folds, none)
    pool = fit_pool(evidence, y, task)
    right = pool(silent, present).softmax(1)[torch.arange(200), y]
    assert (right > 0.6).all()
    nothing = pool(silent[:1], torch.zeros(1, 2, dtype=torch.bool))
    assert torch.equal(nothing[0], prior)


def one_of_each(*kinds: str) -> torch.nn.ModuleList:
    """Return experts of two modalities that were never fitted."""
    made = {"linear": LinearExpert, "forest": TreeExpert}
    return torch.nn.ModuleList(
        torch.nn.ModuleList(made[kind](1, 2, "softmax") for kind in kinds)
        for _ in range(2)
    )


@pytest.mark.parametrize(
    ("task", "begin"),
    [
        (Classification(num_classes=2), [1 / 3, 1 / 3, 1 / 3]),
        (Classification(num_classes=10), [1 / 7, 1 / 7, 5 / 7]),
        (Regression(), [1 / 3, 1 / 3, 1 / 3]),
    ],
    ids=["two classes", "ten classes", "regression"],
)
def test_forests_of_many_classes_have_a_larger_initial_weight(task, begin):
    width = task.out_channels
    present, y = torch.ones(20, 2, dtype=torch.bool), torch.arange(20) % 2
    experts, none = one_of_each("linear", "linear", "forest"), torch.nn.ModuleList()
    predicted, prior = torch.zeros(20, 2, 3, width), torch.zeros(width)
    target = y if isinstance(task, Classification) else y[:, None].float()
    evidence = Evidence(predicted, present, experts, prior, [], y, none)
    pool = fit_pool(evidence, target, task)  # no evidence: weights stay
    weights = torch.nn.functional.softplus(pool.modality_weight)
    assert torch.allclose(weights, torch.tensor(begin).expand(2, 3), atol=1e-6)


def test_initial_weights_of_a_pool_have_no_penalty():
    pool = EvidencePool(3, 2, 2, init_weights=[0.25, 0.75])
    evidence = evidence_of(pool)
    assert pool.penalty().item() == pytest.approx(0, abs=1e-10)
    expected = 0.25 * evidence[:, :, 0] + 0.75 * evidence[:, :, 1]
    assert torch.allclose(pool.by_modality(evidence), expected, atol=1e-6)
    with torch.no_grad():
        pool.modality_weight[0, 1] += 2
    assert pool.penalty().item() == pytest.approx(4, abs=1e-6)


@pytest.mark.parametrize("wrong", [[1.0], [0.5, 0.0], [0.5, 0.5, 0.5]])
def test_init_weights_is_a_weight_for_each_expert(wrong):
    with pytest.raises(ValueError, match="weight above zero for each of 2 experts"):
        EvidencePool(3, 2, 2, init_weights=wrong)


def test_more_evidence_for_a_class_is_never_less_belief(pool):
    with torch.no_grad():
        pool.modality_weight.copy_(4 * rows(3, 2).to(pool.modality_weight.dtype))
    evidence = evidence_of(pool)
    before = pool(evidence, everything())
    for m in range(3):
        for x in range(2):
            more = evidence.clone()
            more[:, m, x, 0] += 1
            after = pool(more, everything())
            assert (after[:, 0] > before[:, 0]).all()
            assert torch.equal(after[:, 1], before[:, 1])


def test_pool_survives_its_state_dict(pool):
    with torch.no_grad():
        for parameter in pool.parameters():
            parameter.add_(0.7)
    other = empty_pool().to(pool.prior.dtype)
    other.load_state_dict(pool.state_dict())
    evidence = evidence_of(pool)
    assert torch.equal(other(evidence, everything()), pool(evidence, everything()))
    assert other.penalty().item() > 1


# Standardisation


def test_standardiser_scales_what_it_saw_and_flags_what_is_missing():
    x = torch.tensor([[1.0, 5.0, torch.nan], [3.0, 5.0, torch.nan]])
    scaler = StandardScaler(3)
    scaler.fit(x)
    new = torch.tensor([[2.0, 6.0, 7.0], [torch.nan, torch.nan, 1e30]])
    expected = torch.tensor([[0, 1, 7, 0, 0, 0], [0, 0, CLIP, 1, 1, 0]])
    assert torch.equal(scaler(new), expected.float())
    assert scaler.out_channels == 6


def test_standardiser_is_exact_far_from_zero():
    x = 1e5 + rows(1000, 2).float()
    scaler = StandardScaler(2)
    scaler.fit(x)
    z = scaler(x)[:, :2]
    assert z.mean(0).tolist() == pytest.approx([0, 0], abs=0.1)
    assert z.std(0).tolist() == pytest.approx([1, 1], abs=0.01)


def test_standardiser_of_no_rows_changes_nothing():
    scaler = StandardScaler(2)
    scaler.fit(torch.empty(0, 2))
    x = torch.tensor([[1.0, -2.0]])
    assert torch.equal(scaler(x)[:, :2], x)


def test_standardiser_does_not_depend_on_units():
    x = rows(100, 2).float()
    scaler, tiny = StandardScaler(2), StandardScaler(2)
    scaler.fit(x)
    tiny.fit(1e-9 * x)
    assert torch.allclose(tiny(1e-9 * x), scaler(x), atol=1e-4)


def test_a_pool_of_submodels_begins_with_the_mean_of_modalities():
    pool = SubmodelPool(3, 2, 2, num_joint=2, init_joint=[0.7, 0.3])
    evidence, present = evidence_of(pool), everything()
    together = evidence[:, 1]
    mean = evidence.mean(2).mean(1)
    expected = mean + 2 / 3 * (0.7 * together[:, 0] + 0.3 * together[:, 1])
    assert torch.allclose(pool(evidence, present, together), expected, atol=1e-6)
    assert pool.penalty().item() == pytest.approx(0, abs=1e-10)
