"""Unreliable modalities, and differences from the training samples."""

import warnings

import numpy as np
import pytest
import torch

from mmgraph import (
    DataWarning,
    FusionClassifier,
    FusionRegressor,
    MultimodalData,
    checkpoint,
    corruption,
)
from mmgraph.errors import CheckpointError, ConfigError
from mmgraph.estimators.check import contradictions
from mmgraph.serving.program import ServedModel

SMALL = {
    "members": 1,
    "epochs": 1,
    "hidden_channels": 4,
    "num_heads": 1,
    "experts": ("linear",),
}


def make_data(num, seed=0, missing=True):
    """Three modalities of which each determines the class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(3, size=num)
    arrays = {}
    for m, name in enumerate(("ecg", "lab", "scan")):
        x = rng.normal(size=(num, 4)).astype(np.float32)
        x[np.arange(num), y] += 6
        if missing and m == 2:
            x[rng.random(num) < 0.3] = np.nan
        arrays[name] = x
    return MultimodalData.from_arrays(arrays, y=y)


@pytest.fixture(scope="module")
def clf():
    return FusionClassifier(**SMALL, reliability="typical").fit(make_data(150))


@pytest.fixture(scope="module")
def plain():
    return FusionClassifier(**SMALL).fit(make_data(150))


@pytest.fixture
def test():
    return make_data(80, seed=1)


def noisy(data, name="ecg"):
    return corruption.noise(name, 5.0).apply(data)


def kinds(check):
    return [(each.kind, each.modality) for each in check.findings]


def test_unreliable_modalities_are_missing_in_predictions(clf, test):
    data = noisy(test)
    with pytest.warns(DataWarning, match=r"treated as missing: ecg \(\d+ of 80 samp"):
        proba = clf.predict_proba(data)
    unreliable = clf.check(data).reliability[:, 0] < 0.1
    assert unreliable.mean() > 0.9
    kept = data.mask({"ecg": ~unreliable})
    np.testing.assert_array_equal(proba, clf.predict_proba(kept))


def test_predictions_of_usual_samples_are_unchanged(clf, plain, test):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proba = clf.predict_proba(test)
    usual = np.nanmin(clf.check(test).reliability, axis=1) >= 0.1
    assert usual.mean() > 0.9
    np.testing.assert_array_equal(proba[usual], plain.predict_proba(test)[usual])


def test_saved_models_are_gated_alike(clf, test, tmp_path):
    clf.save_pretrained(tmp_path)
    loaded = FusionClassifier.from_pretrained(tmp_path)
    data = noisy(test)
    with pytest.warns(DataWarning, match="treated as missing"):
        expected = clf.predict_proba(data)
    with pytest.warns(DataWarning, match="treated as missing"):
        np.testing.assert_array_equal(loaded.predict_proba(data), expected)
    assert loaded.check(data).rows == clf.check(data).rows


def test_programs_for_export_are_gated_alike(clf, test):
    served, data = ServedModel(clf), noisy(test)
    rows = data.features()
    inputs = [torch.from_numpy(rows[name]) for name in ("ecg", "lab", "scan")]
    with pytest.warns(DataWarning, match="treated as missing"):
        expected = clf.predict_proba(data)
    np.testing.assert_allclose(served(*inputs).numpy(), expected, atol=1e-5)


@pytest.mark.long
def test_exported_models_are_gated_alike(clf, test, tmp_path):
    serving = pytest.importorskip("mmgraph.serving")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    serving.export(clf, tmp_path / "model.onnx")
    exported, data = serving.load(tmp_path / "model.onnx"), noisy(test)
    with pytest.warns(DataWarning, match="treated as missing"):
        expected = clf.predict_proba(data)
    np.testing.assert_allclose(exported.predict_proba(data), expected, atol=1e-5)


def test_damaged_landmark_counts_are_refused(clf, tmp_path):
    clf.save_pretrained(tmp_path)
    saved = checkpoint.load(tmp_path)
    saved.manifest["num_landmarks"] = [-1, 1, 1]
    with pytest.raises(CheckpointError, match="num_landmarks must be whole numbers"):
        FusionClassifier.from_saved(tmp_path, saved)


def test_unknown_reliability_is_refused(test):
    with pytest.raises(ConfigError, match="reliability must be None or 'typical'"):
        FusionClassifier(reliability="learned").fit(test)


def test_samples_like_the_training_have_no_findings(clf, test):
    check = clf.check(test)
    assert check.findings == ()
    assert repr(check) == "80 samples are like the training samples."
    assert check.reliability.shape == check.agreement.shape == (80, 3)
    assert np.isnan(check.reliability[:, 2]).sum() == (~test.present[:, 2]).sum()


def test_findings_name_the_modality(clf, test):
    check = clf.check(noisy(test, "lab"))
    assert ("unlike training", "lab") in kinds(check)
    [row] = [row for row in check.rows if row["kind"] == "unlike training"]
    assert row["share"] > 0.9
    expected = f"lab: {row['share']:.0%} of the rows are unlike anything in training"
    assert expected in repr(check)


def test_contradicting_modalities_are_reported(plain, test):
    check = plain.check(corruption.swap("lab").apply(test))
    assert check.reliability is None
    assert kinds(check) == [("contradiction", "lab")]
    consistent = plain.check(test).agreement
    assert np.median(check.agreement[:, 1]) < 0.05 < 1 < np.median(consistent[:, 1])


def test_one_sample_is_enough_for_a_finding(clf, test):
    row = int(np.flatnonzero(test.present.all(axis=1))[0])
    assert ("unlike training", "lab") in kinds(clf.check(noisy(test, "lab")[[row]]))


def test_contradictions_are_rare_if_there_are_none(plain):
    ratios = plain.check(make_data(400, seed=2)).agreement
    assert np.nanmean(ratios < 0.01) <= 0.01


def test_one_modality_alone_contradicts_nothing(plain, test):
    alone = plain.check(test.select(["lab"])).agreement
    assert np.isnan(alone).all()


def test_ratios_follow_the_closed_form():
    """Two modalities, of which each yields a known probability."""
    table = {(1, 0): [0.9, 0.1], (0, 1): [0.2, 0.8], (0, 0): [0.5, 0.5]}
    data = MultimodalData.from_arrays({"a": [[1.0]], "b": [[1.0]]})

    def predict(part):
        return np.array([table[tuple(row)] for row in part.present.astype(int)])

    expected = (0.9 * 0.2 + 0.1 * 0.8) / 0.5
    np.testing.assert_allclose(contradictions(predict, data), [[expected] * 2])


def test_new_subsets_and_missing_shares_are_reported(plain, test):
    hidden = test.mask({"ecg": np.arange(80) % 2 == 0})
    check = plain.check(hidden)
    assert kinds(check) == [("new subset", ""), ("share missing", "ecg")]
    assert "ecg is missing in 50% of the samples, in training in 0%" in repr(check)
    assert "no training sample had: lab+scan" in repr(check)


def test_shifted_channels_are_reported(plain, test):
    values = test.features()
    values["lab"] = values["lab"] + np.array([0, 9, 0, 0], dtype=np.float32)
    check = plain.check(MultimodalData.from_arrays(values))
    assert ("shifted channel", "lab") in kinds(check)
    [row] = [row for row in check.rows if row["kind"] == "shifted channel"]
    assert "1 +" in row["text"]


def test_warnings_of_reading_become_findings():
    frame = {"group": np.array(["a", "b"] * 20), "x": np.arange(40.0)}
    pd = pytest.importorskip("pandas")
    y = np.tile([0, 1], 20)
    data = MultimodalData.from_pandas(
        pd.DataFrame(frame | {"y": y}), modalities={"m": ["group", "x"]}, y="y"
    )
    clf = FusionClassifier(**SMALL).fit(data)
    new = pd.DataFrame({"group": ["c"], "x": [1.0]})
    check = clf.check(MultimodalData.from_pandas(new, modalities={"m": ["group", "x"]}))
    assert kinds(check) == [("input", "")]
    assert "group=c" in check.findings[0].text


def test_regressors_have_no_agreement():
    data = make_data(60)
    reg = FusionRegressor(**SMALL, reliability="typical").fit(data, data.y * 1.0)
    check = reg.check(data)
    assert check.agreement is None
    assert check.findings == ()
    with pytest.warns(DataWarning, match="treated as missing: ecg"):
        reg.predict(noisy(data))
