"""The three controls: what the default estimator must reach on known laws."""

import numpy as np
import pytest

from mmgraph import FusionClassifier, MultimodalData, evaluate, load_dataset
from mmgraph.baselines import BASELINES
from mmgraph.datasets.controls import synthetic
from mmgraph.metrics import auroc

pytestmark = pytest.mark.slow


def control(name: str) -> tuple[MultimodalData, MultimodalData]:
    """400 samples to learn from, 1000 to be judged by."""
    data = synthetic(name, num_samples=1400, seed=0)
    return data[:400], data[400:]


def standard_error(y: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    """Of the difference of two areas under the curve, over 20 parts of the samples."""
    parts = np.array_split(np.arange(len(y)), 20)
    differences = [auroc(y[p], a[p]) - auroc(y[p], b[p]) for p in parts]
    return float(np.std(differences, ddof=1) / np.sqrt(len(parts)))


def compare(name: str, baseline: str) -> tuple[float, float, float]:
    """Return the area of the estimator, of the baseline, and the error between."""
    train, test = control(name)
    predicted = fitted(name).predict_proba(test)
    other = BASELINES[baseline](seed=0).fit(train).predict_proba(test)
    y = test.y
    return auroc(y, predicted), auroc(y, other), standard_error(y, predicted, other)


_FITTED: dict[str, FusionClassifier] = {}


def fitted(name: str) -> FusionClassifier:
    """Return the estimator of a control, the same one for all tests."""
    if name not in _FITTED:
        _FITTED[name] = FusionClassifier().fit(control(name)[0])
    return _FITTED[name]


def test_synergy_is_learned_as_well_as_by_a_network_on_everything():
    ours, network, error = compare("synergy", "concat_mlp")
    assert ours >= network - error


def test_synergy_is_out_of_reach_of_late_fusion():
    ours, late, error = compare("synergy", "late_logistic")
    assert ours > late + 3 * error
    assert float(fitted("synergy").model_.beta) > 0


def test_redundant_copies_are_fused_as_well_as_late():
    """Within two standard errors: fits differ by one from processor to processor."""
    ours, late, error = compare("redundant", "late_logistic")
    assert ours >= late - 2 * error


@pytest.fixture(scope="module")
def hearts():
    """Training and test samples, and the AUROC of a fit to the training samples."""
    train, test = load_dataset("heart").split(test_size=0.4, seed=0)
    return train, test, _auroc(train, test)


def _auroc(train, test):
    model = FusionClassifier(members=2).fit(train)
    return evaluate(model, test, [0]).rows[0]["auroc"]


def test_fill_values_in_every_channel_cost_little(hearts):
    train, test, expected = hearts
    rng, spoilt = np.random.default_rng(0), {}
    for name, x in train.features().items():
        spoilt[name] = x.copy()
        for c in range(x.shape[1]):
            row = rng.choice(np.flatnonzero(~np.isnan(x[:, c])))
            spoilt[name][row, c] = (1e6, 1e30)[c % 2]
    data = MultimodalData.from_arrays(spoilt, y=train.y)
    assert _auroc(data, test) > expected - 0.03
