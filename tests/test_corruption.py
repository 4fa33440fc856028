"""Corruption of observed modalities."""

import numpy as np
import pytest

from mmgraph import ConfigError, DataError, MultimodalData, corruption, evaluate
from mmgraph.baselines import LateLogistic

NUM = 60
RNG = np.random.default_rng(0)
X = RNG.normal(size=(NUM, 3)) * (1, 10, 100)
Y = np.arange(NUM) % 3
TEXTS = [f"word{i} fever and cough for {i} days" for i in range(NUM)]


def make(**plain) -> MultimodalData:
    arrays = {"ecg": X, "note": TEXTS, "sex": [["f", "m"][i % 2] for i in range(NUM)]}
    present = {"ecg": np.arange(NUM) % 5 > 0}
    return MultimodalData.from_arrays(arrays, present=present, **({"y": Y} | plain))


DATA = make()
IDENTITIES = [
    corruption.noise("ecg", 0),
    corruption.scale("ecg", 1),
    corruption.cells(0),
    corruption.words(0),
]
CHANGES = [
    corruption.noise("ecg", 1.0),
    corruption.scale("ecg", 3),
    corruption.shuffle("ecg"),
    corruption.swap("ecg"),
    corruption.cells(0.3),
    corruption.words(0.3),
]


@pytest.mark.parametrize("each", IDENTITIES, ids=lambda c: c.describe())
def test_severity_zero_is_the_identity(each):
    assert each.apply(DATA, seed=3).equals(DATA)


@pytest.mark.parametrize("each", CHANGES, ids=lambda c: c.describe())
def test_results_are_reproducible_and_keep_presence(each):
    first, again = each.apply(DATA, seed=3), each.apply(DATA, seed=3)
    assert first.fingerprint == again.fingerprint != DATA.fingerprint
    np.testing.assert_array_equal(first.present, DATA.present)
    np.testing.assert_array_equal(first.y, DATA.y)
    if not isinstance(each, corruption.scale):
        assert each.apply(DATA, seed=4).fingerprint != first.fingerprint


def ecg(data) -> np.ndarray:
    return data.columns["ecg"].values.astype(float)


def test_noise_is_in_units_of_each_channel():
    change = ecg(corruption.noise("ecg", 2.0).apply(DATA)) - ecg(DATA)
    np.testing.assert_allclose(change.std(0) / ecg(DATA).std(0), 2, rtol=0.35)


def test_swap_never_takes_the_own_class():
    by_content = {
        tuple(row): y for row, y in zip(X.astype(np.float32).tolist(), Y, strict=True)
    }
    swapped = corruption.swap("ecg").apply(DATA, seed=1)
    column = swapped.columns["ecg"]
    for row, sample in zip(column.values.tolist(), column.sample, strict=True):
        assert by_content[tuple(row)] != Y[sample]


def test_shuffle_leaves_no_sample_its_own_content():
    moved = ecg(corruption.shuffle("ecg").apply(DATA))
    assert (moved != ecg(DATA)).any(1).all()
    np.testing.assert_array_equal(np.sort(moved, axis=0), np.sort(ecg(DATA), axis=0))


def test_swap_keeps_samples_without_a_label():
    y = Y.astype(float)
    y[::2] = np.nan
    data = DATA.replace(y=y)
    swapped = corruption.swap("ecg").apply(data)
    same = (ecg(swapped) == ecg(data)).all(1)
    np.testing.assert_array_equal(same, np.isnan(y)[data.columns["ecg"].sample])


def test_words_and_cells_are_deleted_at_their_rate():
    short = corruption.words(0.5).apply(DATA).columns["note"].values
    kept = sum(len(t.split()) for t in short) / sum(len(t.split()) for t in TEXTS)
    assert kept == pytest.approx(0.5, abs=0.08)
    lost = np.isnan(ecg(corruption.cells(0.4).apply(DATA))).mean()
    assert lost == pytest.approx(0.4, abs=0.12)


def test_shift_delays_rows_with_times():
    rows = [np.ones((4, 1))] * 3
    times = [np.arange(4.0)] * 3
    data = MultimodalData.from_arrays({"acc": rows}, times={"acc": times})
    later = corruption.shift("acc", 2.5).apply(data)
    np.testing.assert_array_equal(
        later.columns["acc"].time, np.tile(np.arange(4) + 2.5, 3)
    )
    with pytest.raises(DataError, match="'ecg' must have times for"):
        corruption.shift("ecg", 1).apply(DATA)


def test_evaluate_scores_corrupted_data():
    rng = np.random.default_rng(0)
    y = rng.integers(2, size=300)
    arrays = {n: y[:, None] + rng.normal(size=(300, 2)) for n in "ab"}
    data = MultimodalData.from_arrays(arrays, y=y)
    model = LateLogistic().fit(data[:150])
    patterns = [corruption.noise("a", 3.0), corruption.swap("a")]
    result = evaluate(model, data[150:], corrupted=patterns, seeds=2)
    assert [row["missing"] for row in result.rows] == ["0", "noise(a, 3)", "swap(a)"]
    clean, noisy, swapped = (row["auroc"] for row in result.rows)
    assert swapped < noisy < clean
    both = evaluate(model, data[150:], [0.5], corrupted=patterns[:1], seeds=1)
    assert [row["missing"] for row in both.rows] == ["0.5", "noise(a, 3)"]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("make_it", "error", "message"),
    [
        (
            lambda: corruption.noise("ecg", -1),
            ConfigError,
            "sd of noise must be a finite",
        ),
        (
            lambda: corruption.cells(1.5),
            ConfigError,
            "rate of cells must be between 0 and 1",
        ),
        (
            lambda: corruption.scale("ecg", np.inf),
            ConfigError,
            "factor of scale must be",
        ),
        (lambda: corruption.noise("eeg", 1).apply(DATA), DataError, "eeg"),
        (
            lambda: corruption.noise("note", 1).apply(DATA),
            DataError,
            "must have numbers",
        ),
        (
            lambda: corruption.noise("ecg", 1).apply(DATA, -1),
            ConfigError,
            "seed must be",
        ),
        (
            lambda: corruption.swap("ecg").apply(DATA.replace(y=None)),
            DataError,
            "one class",
        ),
        (
            lambda: evaluate(LateLogistic(), DATA, corrupted=["noise"]),
            ConfigError,
            "corrupted must be a list of corruptions, got 'noise'",
        ),
    ],
)
def test_bad_input_is_one_clear_error(make_it, error, message):
    with pytest.raises(error, match=message):
        make_it()
