"""`mmgraph.evaluate`: scores of a fitted model while modalities go missing."""

import sys
from typing import Any

import numpy as np
import pytest

import mmgraph
from mmgraph import (
    ConfigError,
    DataError,
    DataWarning,
    FusionClassifier,
    FusionMatcher,
    FusionRetriever,
    MultimodalData,
    MultimodalStream,
    evaluate,
    missing,
)
from mmgraph.acquisition import Acquisition
from mmgraph.baselines import LateLogistic
from mmgraph.estimators.explain import Explanation
from mmgraph.evaluation import Evaluation, ScoreRow
from mmgraph.metrics import classification_scores, regression_scores

NUM, TRAIN = 150, 90
SMALL: dict[str, Any] = {"members": 1, "hidden_channels": 4, "num_heads": 1}


def make(**plain: Any) -> MultimodalData:
    """Return three noisy views of one shape, some of them missing."""
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(NUM, 4))
    looks = {name: shape + 0.7 * rng.normal(size=(NUM, 4)) for name in "abc"}
    plain = {"y": (shape[:, 0] > 0).astype(int)} | plain
    return MultimodalData.from_arrays(
        looks, present=rng.random((NUM, 3)) > 0.1, **plain
    )


DATA = make()
TEST = DATA[TRAIN:]


@pytest.fixture(scope="module")
def logistic() -> LateLogistic:
    return LateLogistic().fit(DATA[:TRAIN])


def test_scores_are_those_of_the_masks(logistic):
    found = evaluate(logistic, TEST, [0, 0.5], seeds=2, seed=3)
    whole = classification_scores(TEST.y, logistic.predict_proba(TEST))
    assert found.rows[0] == {"missing": "0"} | whole
    masked = [missing.mcar(0.5).plan(TEST, seed=s).apply(TEST) for s in (6, 7)]
    each = [classification_scores(TEST.y, logistic.predict_proba(m)) for m in masked]
    assert [line.missing for line in found.lines] == ["0", "0.5"]
    for name, score in found.lines[1].scores.items():
        assert score == pytest.approx(np.mean([scores[name] for scores in each]))
    assert found.lines[1].scores["auroc"] < whole["auroc"]


def test_default_rates_and_patterns_have_their_names(logistic):
    default = evaluate(logistic, TEST, seeds=1)
    assert [line.missing for line in default.lines] == ["0", "0.3", "0.5", "0.7"]
    patterns = [missing.natural(), missing.only(["a"]), missing.leave_out(["a"])]
    found = evaluate(logistic, TEST, patterns, seeds=1)
    assert [line.missing for line in found.lines] == [p.describe() for p in patterns]
    alone = patterns[1].plan(TEST).apply(TEST)
    expected = classification_scores(TEST.y, logistic.predict_proba(alone))
    assert found.lines[1].scores == pytest.approx(expected)
    again = evaluate(logistic, TEST, patterns, seeds=1)
    assert again == found


def test_it_prints_as_a_table(logistic):
    result = evaluate(logistic, TEST, [0.5], seeds=1)
    lines = repr(result).splitlines()
    assert lines[0] == "Scores by missing pattern"
    assert lines[1].split()[:2] == ["missing", "accuracy"]
    accuracy = result.rows[0]["accuracy"]
    assert lines[2].split()[:2] == ["0.5", f"{accuracy:.3f}"]
    assert len(lines) == 3


def test_it_is_a_table_in_notebooks_and_its_text_is_escaped():
    row = ScoreRow("only(<a>)", "", {"auroc": 0.9, "<score>": float("nan")})
    html = Evaluation((row,), notes=("<note>",))._repr_html_()
    assert "<table>" in html
    assert "0.900" in html
    for escaped in ("only(&lt;a&gt;)", "&lt;score&gt;", "&lt;note&gt;"):
        assert escaped in html
    assert "<note>" not in html


def test_rows_need_no_pandas(logistic, monkeypatch):
    result = evaluate(logistic, TEST, [0.5], seeds=1)
    monkeypatch.setitem(sys.modules, "pandas", None)  # importing it raises ImportError
    assert set(result.rows[0]) > {"missing", "accuracy", "auroc"}
    assert "accuracy" in result._repr_html_()


def test_a_modality_without_values_is_warned_about():
    model = FusionClassifier(**SMALL, epochs=1, experts=["linear"]).fit(DATA[:TRAIN])
    empty = missing.leave_out(["a"]).plan(TEST).apply(TEST)
    with pytest.warns(DataWarning, match="Modality 'a' has no observed value"):
        evaluate(model, empty, [0])


def test_training_samples_are_recognized(tmp_path):
    model = FusionClassifier(**SMALL, epochs=1, experts=["linear"]).fit(DATA[:TRAIN])
    model.save_pretrained(tmp_path)
    loaded = FusionClassifier.from_pretrained(tmp_path)
    with pytest.warns(DataWarning, match="got the training samples"):
        evaluate(loaded, DATA[:TRAIN], [0])
    changed = DATA[:TRAIN].mask({"a": np.arange(TRAIN) > 0})
    for other in (TEST, DATA[: TRAIN - 1], changed):
        assert not loaded.is_training_data(other)


def test_samples_without_a_label_are_left_out(logistic):
    y = TEST.y.astype(float)
    y[:20] = np.nan
    some = evaluate(logistic, TEST.replace(y=y), [0.0])
    assert some == evaluate(logistic, TEST[20:], [0.0])
    for data in (TEST.replace(y=None), TEST.replace(y=np.full(len(TEST), np.nan))):
        with pytest.raises(DataError, match="at least one sample with a label"):
            evaluate(logistic, data)


def test_numbers_are_scored_as_numbers():
    class Mean:
        def predict(self, data):
            return np.full(len(data), 0.5)

    y = np.linspace(0, 1, len(TEST))
    found = evaluate(Mean(), TEST.replace(y=y), [0])
    expected = regression_scores(y, np.full(len(y), 0.5))
    assert found.lines[0].scores == pytest.approx(expected)
    with pytest.raises(DataError, match="must be numbers for a regression model"):
        evaluate(Mean(), TEST.replace(y=y.astype(str)), [0])


def test_stream_is_scored_as_what_it_holds(logistic, tmp_path):
    for i in range(3):
        TEST[20 * i : 20 * i + 20].to_parquet(tmp_path / f"{i}.parquet")
    stream = MultimodalStream.from_parquet(tmp_path)
    assert evaluate(logistic, stream, [0.0]) == evaluate(logistic, TEST, [0.0])
    removed = evaluate(logistic, stream, [0.6], seeds=1).lines[0].scores["auroc"]
    assert removed < evaluate(logistic, TEST, [0.0]).lines[0].scores["auroc"]


@pytest.fixture(scope="module")
def retriever() -> FusionRetriever:
    return FusionRetriever(**SMALL, supervision="pairs").fit(DATA[:TRAIN])


def test_retriever_is_scored_in_every_direction_or_as_given(retriever):
    found = evaluate(retriever, TEST.replace(y=None))
    directions = [row["direction"] for row in found.rows]
    assert directions == ["a to b", "a to c", "b to a", "b to c", "c to a", "c to b"]
    assert min(row["recall_at_10"] for row in found.rows) > 0.3  # by chance .17
    assert found.notes == (
        "A hit is the entry of the same sample, or one with identical content.",
    )
    given = evaluate(retriever, TEST, [0, 0.5], query=["a", "b"], gallery="c")
    (rate, direction, full), (_, _, half) = given.lines
    assert (rate, direction) == ("0", "a+b to c")
    assert half["num_queries"] < full["num_queries"]
    assert half["num_entries"] == full["num_entries"]
    assert "category_map" in full
    assert len(given.notes) == 3


def test_matcher_is_scored_against_negatives():
    matcher = FusionMatcher("a", ["b", "c"], **SMALL, supervision="pairs")
    found = evaluate(matcher.fit(DATA[:TRAIN]), TEST, [0, 0.5], seeds=1)
    kinds = ["random", "similar", "random and similar", "same label"]
    assert [row["wrong partners"] for row in found.rows] == 2 * kinds
    assert found.rows[0]["auroc"] > 0.7
    assert found.rows[0]["num_pairs"] > found.rows[4]["num_pairs"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"missing": 0.5}, "missing must be a list of rates or patterns, got 0.5"),
        ({"missing": []}, r"missing must be a list of rates or patterns, got \[\]"),
        ({"missing": [1.5]}, "must be rates from 0 to 1, got 1.5"),
        ({"missing": ["mcar"]}, "must be rates or patterns, got 'mcar'"),
        ({"missing": [True]}, "got True"),
        ({"missing": [float("nan")]}, "got nan"),
        ({"seeds": 0}, "seeds must be a whole number of at least 1, got 0"),
        ({"seed": -1}, "seed must be a whole number of at least 0, got -1"),
        ({"query": ["a"]}, "must go with a retriever, got LateLogistic"),
    ],
)
def test_mistakes_are_named(logistic, options, message):
    with pytest.raises(ConfigError, match=message):
        evaluate(logistic, TEST, **options)


def test_mistakes_about_data_are_named(logistic, retriever):
    with pytest.raises(DataError, match="must be MultimodalData, got ndarray"):
        evaluate(logistic, TEST.features()["a"])
    with pytest.raises(
        DataError, match=r"classes of the training data, \[0, 1\], got 7"
    ):
        evaluate(logistic, TEST.replace(y=np.full(len(TEST), 7)))
    with pytest.raises(DataError, match="at least two of the modalities a, b, c"):
        evaluate(retriever, TEST.select(["a"]))
    with pytest.raises(ConfigError, match=r"query must name modalities .* got 'x'"):
        evaluate(retriever, TEST, query=["x"])
    with pytest.raises(ConfigError, match="queries of several modalities"):
        evaluate(retriever, TEST, [0.5])


@pytest.mark.parametrize("name", ["FusionClassifier", "FusionRegressor"])
def test_estimators_of_labels_are_scored(name):
    options = {**SMALL, "epochs": 1, "experts": ["linear"]}
    model = getattr(mmgraph, name)(**options).fit(DATA[:TRAIN])
    before = TEST.present.copy()
    found = evaluate(model, TEST, [0, missing.only(["a"])], seeds=1)
    kind = "auroc" if name == "FusionClassifier" else "r2"
    assert found.lines[0].scores[kind] > found.lines[1].scores[kind]
    np.testing.assert_array_equal(TEST.present, before)


def test_a_threshold_adds_the_rates_of_decisions_in_each_scenario(logistic):
    data = make(y=np.where(DATA.y == 1, "yes", "no"))
    model = LateLogistic().fit(data[:TRAIN])
    plain = evaluate(model, data[TRAIN:], [0, 0.5], seeds=2, seed=3)
    found = evaluate(model, data[TRAIN:], [0, 0.5], seeds=2, seed=3, threshold=0.3)
    assert found.rows == plain.rows
    masked = missing.mcar(0.5).plan(TEST, seed=6).apply(TEST)
    for name, samples in (("0", TEST), ("0.5", masked)):
        probability = logistic.predict_proba(samples)[:, 1]
        expected = mmgraph.metrics.operating_point(TEST.y, probability, 0.3)
        assert found.operating_points[name] == expected
    assert plain.operating_points == {}
    assert "Decisions at a probability of 0.3" in repr(found)
    assert "net benefit" in found._repr_html_()
    assert "net benefit" not in plain._repr_html_()


def test_groups_are_resampled_as_a_whole(logistic):
    grouped = TEST.replace(groups=np.arange(len(TEST)) // 5)
    found = evaluate(logistic, grouped, [0], threshold=0.5).operating_points["0"]
    probability = logistic.predict_proba(TEST)[:, 1]
    expected = mmgraph.metrics.operating_point(
        TEST.y, probability, 0.5, groups=grouped.groups
    )
    assert found == expected


@pytest.mark.parametrize(
    ("labels", "threshold", "message"),
    [
        (DATA.y, 1.5, "threshold must be between 0 and 1, got 1.5"),
        (np.arange(NUM) % 3, 0.5, "classifier of two classes, got 3 classes"),
    ],
)
def test_invalid_thresholds_are_refused(labels, threshold, message):
    model = LateLogistic().fit(make(y=labels)[:TRAIN])
    with pytest.raises(ConfigError, match=message):
        evaluate(model, make(y=labels)[TRAIN:], [0], threshold=threshold)


def test_out_of_fold_predictions_are_those_of_the_training_samples():
    model = FusionClassifier(**SMALL, epochs=1, experts=("linear",))
    labels = DATA.y.astype(float)
    labels[3] = np.nan  # has no prediction
    model.fit(make(y=labels)[:TRAIN])
    proba = model.out_of_fold_predictions_
    assert proba is not None
    assert proba.shape == (TRAIN - 1, 2)
    known = np.delete(DATA.y[:TRAIN], 3)
    accuracy = (proba.argmax(1) == known).mean()
    assert accuracy == pytest.approx(model.out_of_fold_score_)
    model = FusionClassifier(**SMALL, epochs=1, level="feature").fit(DATA[:TRAIN])
    assert model.out_of_fold_predictions_ is None


def constant(y: Any, predicted: Any) -> float:
    return 0.25


def test_chosen_metrics_and_functions(logistic):
    def mean_of_last(y: Any, predicted: Any) -> Any:
        assert set(np.unique(y)) == {0, 1}
        return predicted[:, 1].mean()

    found = evaluate(logistic, TEST, [0], metrics=["auroc", mean_of_last])
    (row,) = found.rows
    proba = logistic.predict_proba(TEST)
    scores = classification_scores(TEST.y, proba)
    assert list(row) == ["missing", "auroc", "mean_of_last"]
    assert row["auroc"] == scores["auroc"]
    assert row["mean_of_last"] == pytest.approx(proba[:, 1].mean())


def test_intervals_contain_the_score_and_respect_groups(logistic):
    def interval(data: MultimodalData, **options: Any) -> dict[str, Any]:
        found = evaluate(
            logistic, data, [0], metrics=["brier", constant], intervals=True, **options
        )
        return found.rows[0]

    single = interval(TEST)
    assert single["brier_low"] < single["brier"] < single["brier_high"]
    assert single["constant_low"] == single["constant_high"] == 0.25
    assert interval(TEST) == single
    assert interval(TEST, seed=1) != single
    # every sample four times: independent samples would halve the width
    repeated = TEST[np.repeat(np.arange(len(TEST)), 4)].replace(
        ids=np.arange(4 * len(TEST)), groups=np.repeat(np.arange(len(TEST)), 4)
    )
    grouped, independent = interval(repeated), interval(repeated.replace(groups=None))
    width = single["brier_high"] - single["brier_low"]
    assert grouped["brier_high"] - grouped["brier_low"] == pytest.approx(width, rel=0.1)
    assert independent["brier_high"] - independent["brier_low"] < 0.7 * width


@pytest.mark.slow
def test_intervals_of_masks_and_of_regressors():
    targets = DATA.replace(y=DATA.features()["a"][:, 0])
    model = mmgraph.FusionRegressor(**SMALL, epochs=1, experts=("linear",))
    model.fit(targets[:TRAIN])
    found = evaluate(
        model, targets[TRAIN:], [0.5], metrics=["r2"], intervals=True, seeds=2
    )
    (row,) = found.rows
    assert row["r2_low"] < row["r2"] < row["r2_high"]
    columns = found.table().columns
    assert columns == ("missing", "r2", "95% CI")
    assert "[" in repr(found)


def test_bad_metrics(logistic):
    for metrics, text in (
        (["aurok"], r"got 'aurok'\. Did you mean 'auroc'"),
        ("auroc", "metrics must be a list, got 'auroc'"),
        ([3], "metrics must be names of scores, or functions .*, got 3"),
        ([], "metrics must be at least one"),
        ([constant, constant], "of different names, got 'constant' twice"),
        ([lambda y, p: p], "metrics must return a number, got"),
    ):
        with pytest.raises(ConfigError, match=text):
            evaluate(logistic, TEST, [0], metrics=metrics)
    matcher = FusionMatcher(left=["a"], right=["b"])
    with pytest.raises(ConfigError, match="intervals must go with a classifier"):
        evaluate(matcher, TEST, intervals=True)


def test_results_as_data_frames(logistic, monkeypatch):
    found = evaluate(logistic, TEST, [0, 0.5], metrics=["auroc"])
    frame = found.to_frame()
    assert frame.to_dict("records") == found.rows
    explanation = Explanation(
        np.array([0.5, 0.5]), np.arange(12.0).reshape(3, 2, 2), ("a", "b")
    )
    frame = explanation.to_frame()
    assert frame.shape == (6, 5)
    assert frame.iloc[3].to_dict() == {
        **{"sample": 1, "output": 1, "base": 0.5, "a": 5.0, "b": 7.0}
    }
    value = np.array([[np.nan, 0.2], [np.nan, np.nan]])
    empty = np.full((2, 2, 2), np.nan)
    acquired = Acquisition(value, empty, empty, np.ones(2), ("a", "b")).to_frame()
    assert acquired["best"].tolist()[0] == "b"
    assert acquired["b"].tolist()[0] == 0.2
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"requires pandas, .*mmgraph\[pandas\]"):
        found.to_frame()
