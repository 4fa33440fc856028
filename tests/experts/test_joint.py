"""Experts of all modalities together: out of fold, under any subset."""

import re

import numpy as np
import pytest
import torch
from sklearn import __version__ as sklearn_version
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
)
from torch import Tensor

from mmgraph.errors import ConfigError
from mmgraph.experts.boosting import (
    MAX_INPUTS,
    OPTIONS,
    boosted_trees,
    read_boosting,
)
from mmgraph.experts.ensemble import predict_joint
from mmgraph.experts.joint import fit_boosted, fit_joint
from mmgraph.experts.stacking import fit_evidence
from mmgraph.experts.trees import Forest
from mmgraph.nn.heads import Classification, MultiLabel, Regression

NUM, FOLDS = 400, 4


def crossed(seed: int = 0) -> tuple[list[Tensor], Tensor]:
    """Two modalities: the product of their first features tells the class."""
    x = torch.randn(2, NUM, 3, generator=torch.Generator().manual_seed(seed))
    return list(x), (x[0, :, 0] * x[1, :, 0] > 0).long()


def folds() -> Tensor:
    return torch.arange(NUM) % FOLDS


def all_present(num: int = NUM) -> Tensor:
    return torch.ones(num, 2, dtype=torch.bool)


def accuracy(score: Tensor, y: Tensor) -> float:
    return float((score.argmax(1) == y).float().mean())


@pytest.fixture(scope="module", params=[fit_joint, fit_boosted])
def fit(request):
    return request.param


@pytest.fixture(scope="module")
def fitted(fit):
    features, y = crossed()
    task = Classification(num_classes=2)
    return fit(features, all_present(), y, task, folds())


def test_interaction_of_modalities_is_learned(fitted):
    features, y = crossed(seed=1)
    assert accuracy(fitted(features, all_present()), y) > 0.8
    one = all_present()
    one[:, 1] = False
    assert accuracy(fitted(features, one), y) < 0.65


def test_out_of_fold_predictions_do_not_depend_on_their_fold(fit):
    """Labels are noise: what has seen a label repeats it, what has not cannot."""
    features, _ = crossed()
    y = torch.randint(2, (NUM,), generator=torch.Generator().manual_seed(5))
    task = Classification(num_classes=2)
    forest = fit(features, all_present(), y, task, folds())
    assert accuracy(forest(features, all_present()), y) > 0.65
    assert accuracy(forest(features, all_present(), folds()), y) < 0.6


@pytest.mark.parametrize("content", [torch.nan, torch.inf, 1e30])
def test_what_is_not_present_is_not_read(fitted, content):
    features, _ = crossed()
    present = all_present()
    present[::2, 1] = False
    expected = fitted(features, present)
    poisoned = [features[0], torch.where(present[:, 1:], features[1], content)]
    assert torch.equal(fitted(poisoned, present), expected)


def test_a_single_sample_gets_the_same_prediction(fitted):
    features, _ = crossed()
    together = fitted(features, all_present(), folds())
    alone = fitted([x[7:8] for x in features], all_present(1), folds()[7:8])
    assert torch.allclose(alone, together[7:8], atol=1e-6)


@pytest.mark.full_trees
def test_the_same_seed_grows_the_same_trees(fit, fitted):
    features, y = crossed()
    task = Classification(num_classes=2)
    again = fit(features, all_present(), y, task, folds())
    other = fit(features, all_present(), y, task, folds(), seed=1)
    state = fitted.state_dict()
    assert all(torch.equal(x, state[k]) for k, x in again.state_dict().items())
    assert len(other.forest.value) != len(fitted.forest.value)


def test_rows_without_a_label_or_a_modality_teach_nothing(fit):
    features, y = crossed()
    task, label = MultiLabel(1), y.float()[:, None]
    present = all_present()
    present[:20] = False
    label[20:40] = torch.nan
    forest = fit(features, present, label, task, folds())
    changed = [x.clone() for x in features]
    for x in changed:
        x[20:40] = x[20:40].flip(0)  # which leaves the scaling as it is
        x[:20] = torch.nan
    same = fit(features, present, label, task, folds())
    other = label.clone()
    other[:20] = 1 - label[:20]
    again = fit(changed, present, other, task, folds())
    assert torch.equal(same.forest.value, again.forest.value)
    assert forest(features, all_present()).shape == (NUM, 1)


@pytest.mark.full_trees
def test_values_are_predicted_too(fit):
    features, _ = crossed()
    y = (features[0][:, :1] * features[1][:, :1]).clamp(-2, 2)
    forest = fit(features, all_present(), y, Regression(1), folds())
    predicted = forest(features, all_present(), folds())
    assert np.corrcoef(predicted[:, 0], y[:, 0])[0, 1] > 0.4


def test_one_modality_has_no_joint_expert():
    features, y = crossed()
    task = Classification(num_classes=2)
    alone = fit_evidence({"a": features[0]}, y, task, folds())
    assert len(alone.joint) == 0
    assert alone.joint_evidence(alone.present) is None
    both = fit_evidence(dict(zip("ab", features, strict=True)), y, task, folds())
    rows = torch.tensor([3, 5])
    predicted = both.joint_evidence(both.present[rows], rows)
    assert predicted.shape == (2, 2, 2)
    assert torch.allclose(predicted, both.joint_evidence(both.present)[rows], atol=1e-6)
    prior = both.prior
    whole = predict_joint(both.joint, features, both.present, prior)
    assert not torch.allclose(whole[rows], predicted)


def evaluate(state, x: np.ndarray) -> np.ndarray:
    """Evaluate trees of scikit-learn node by node: baseline plus sums, ``[N, K]``."""
    scores = np.tile(state.baseline, (len(x), 1))
    for stage in state.nodes:
        for k, nodes in enumerate(stage):
            at = np.zeros(len(x), dtype=np.int64)
            while not nodes["is_leaf"][at].all():
                left = x[np.arange(len(x)), nodes["feature_idx"][at]]
                left = left <= nodes["num_threshold"][at]
                child = np.where(left, nodes["left"][at], nodes["right"][at])
                at = np.where(nodes["is_leaf"][at], at, child)
            scores[:, k] += nodes["value"][at]
    return scores


@pytest.mark.parametrize("num_classes", [None, 2, 3])
def test_private_state_of_scikit_learn_gives_its_predictions(num_classes):
    """Pins private attributes: a new version of scikit-learn may change them."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    if num_classes is None:
        model = HistGradientBoostingRegressor(max_iter=5).fit(x, x[:, 0] * x[:, 1])
        expected = model.predict(x)
    else:
        y = rng.permutation(np.arange(200) % num_classes)
        model = HistGradientBoostingClassifier(max_iter=5).fit(x, y)
        expected = model.decision_function(x)
    scores = evaluate(read_boosting(model), x)
    message = f"scikit-learn {sklearn_version} stores boosted trees in another way"
    np.testing.assert_allclose(
        scores.reshape(expected.shape), expected, atol=1e-9, err_msg=message
    )


def test_unknown_structure_of_scikit_learn_is_refused():
    rng = np.random.default_rng(0)
    model = HistGradientBoostingRegressor(max_iter=2)
    model.fit(rng.normal(size=(50, 2)), rng.normal(size=50))
    message = rf"got scikit-learn {re.escape(sklearn_version)}: no field 'depth' of"
    for tree in model._predictors[0]:
        tree.nodes = tree.nodes[["left", "right"]]
    with pytest.raises(ConfigError, match=message):
        read_boosting(model)
    del model._predictors
    with pytest.raises(ConfigError, match=r"no attribute '_predictors'.*leave 'joint'"):
        read_boosting(model)


@pytest.mark.full_trees
@pytest.mark.parametrize("num_classes", [2, 3, 4])
def test_boosted_trees_equal_those_of_scikit_learn(num_classes):
    """With four classes of which one is never seen, that one is improbable."""
    x = torch.randn(300, 4, generator=torch.Generator().manual_seed(2)).numpy()
    seen = min(num_classes, 3)
    y = np.clip(np.digitize(x[:, 0] * x[:, 1], [-0.3, 0.3]), 0, seen - 1)
    target = np.eye(num_classes, dtype=np.float32)[y]
    trees = boosted_trees(x, target, Classification(num_classes=num_classes), 0)
    predicted = Forest.from_trees(trees)(torch.from_numpy(x)).softmax(1).numpy()
    rate, iterations = (0.05, 150) if seen == 2 else (0.08, 150)
    model = HistGradientBoostingClassifier(
        learning_rate=rate, max_iter=iterations, random_state=0, **OPTIONS
    ).fit(x, y)
    assert predicted[:, :seen] == pytest.approx(model.predict_proba(x), abs=1e-3)
    assert (predicted[:, seen:] < 1e-3).all()


def test_boosting_of_wide_rows_reads_what_goes_with_the_target():
    """The one feature that tells is the last of 1600; trees name it by its number."""
    x = torch.randn(300, 1600, generator=torch.Generator().manual_seed(3))
    target = np.eye(2, dtype=np.float32)[(x[:, -1] > 0).long()]
    trees = boosted_trees(x.numpy(), target, Classification(num_classes=2), 0)
    used = {int(f) for t in trees for f in t.feature[t.children_left >= 0]}
    assert 1599 in used
    assert len(used) <= MAX_INPUTS
    predicted = Forest.from_trees(trees)(x)
    x[:, -1] = -x[:, -1]
    assert accuracy(predicted, torch.from_numpy(target.argmax(1))) > 0.95
    turned = Forest.from_trees(trees)(x)
    assert accuracy(turned, torch.from_numpy(target.argmax(1))) < 0.5


def test_boosting_is_left_out_where_it_cannot_or_should_not_be():
    features, y = crossed()
    task, same = Classification(num_classes=2), torch.zeros(NUM, dtype=torch.int64)
    assert fit_boosted(features, all_present(), same, task, folds()) is None
    wide, many = [x.repeat(1, 1000) for x in features], Classification(num_classes=12)
    assert fit_boosted(wide, all_present(), y, many, folds()) is None
