"""Synthetic sets whose law is known."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from mmgraph.datasets.controls import CONTROLS, synthetic
from mmgraph.datasets.load import dataset_card, load_dataset
from mmgraph.errors import DataError


def auroc(x: np.ndarray, y: np.ndarray) -> float:
    half = len(y) // 2
    model = LogisticRegression().fit(x[:half], y[:half])
    return float(roc_auc_score(y[half:], model.decision_function(x[half:])))


@pytest.mark.parametrize("name", CONTROLS)
def test_control_is_drawn_from_its_seed(name: str) -> None:
    data = synthetic(name, num_samples=50, seed=3)
    assert len(data) == 50
    assert set(data.y) == {0, 1}
    assert data.equals(synthetic(name, num_samples=50, seed=3))
    assert not data.equals(synthetic(name, num_samples=50, seed=4))
    assert load_dataset(name).equals(synthetic(name, 600, 0))
    assert dataset_card(name).num_samples == 600


def test_synergy_needs_the_product_of_two_modalities() -> None:
    data = synthetic("synergy", num_samples=8000)
    x = np.hstack(list(data.features().values()))
    product = x[:, :1] * x[:, 4:5]
    assert auroc(x, data.y) == pytest.approx(0.71, abs=0.03)
    assert auroc(np.hstack([x, product]), data.y) == pytest.approx(0.90, abs=0.03)


def test_redundant_copies_say_the_same() -> None:
    data = synthetic("redundant", num_samples=8000)
    features = data.features()
    single = [auroc(x, data.y) for x in features.values()]
    assert single == pytest.approx([0.82] * 4, abs=0.03)
    everything = np.hstack(list(features.values()))
    assert auroc(everything, data.y) == pytest.approx(0.925, abs=0.03)


def test_shortcut_is_told_by_the_mask() -> None:
    data = synthetic("shortcut", num_samples=8000)
    present = data.present.astype(float)
    assert present[:, 0].all()
    assert auroc(present, data.y) == pytest.approx(0.8, abs=0.03)
    assert auroc(data.features()["always"], data.y) == pytest.approx(0.714, abs=0.03)


def test_wrong_control_is_refused() -> None:
    with pytest.raises(DataError, match="synthetic: name must be one of"):
        synthetic("heart")
    with pytest.raises(DataError, match="num_samples must be at least 1, got 0"):
        synthetic("synergy", num_samples=0)
    assert len(synthetic("synergy", num_samples=1)) == 1
