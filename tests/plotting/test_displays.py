"""Displays: what is drawn, several models on the same axes, and wrong input."""

import sys

import matplotlib as mpl
import numpy as np
import pytest

import mmgraph as mg
from mmgraph import ConfigError, DataError, Evaluation, MultimodalData
from mmgraph.evaluation import ScoreRow
from mmgraph.evaluation.contribution import Contribution, Contributions
from mmgraph.metrics.bootstrap import Interval
from mmgraph.plotting import (
    ContributionsDisplay,
    DecisionCurveDisplay,
    MissingnessDisplay,
    RobustnessDisplay,
)

mpl.use("Agg")
from matplotlib import pyplot as plt


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def make_evaluation(**options):
    """Return scores at the rates 0.5 and 0 and in another scenario."""
    scores = [("0.5", 0.7), ("only(a)", 0.1), ("0", 0.9)]
    lines = tuple(
        ScoreRow(name, "", {"log_loss": 1 - value, "auroc": value})
        for name, value in scores
    )
    return Evaluation(lines, **options)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


class First:
    """Classifier whose probability of class 1 is the first cell of "a", or 1/2."""

    classes_ = np.array([0, 1])

    def predict_proba(self, data):
        x = data.features()["a"][:, 0]
        p = np.where(np.isnan(x), 0.5, x)
        return np.stack([1 - p, p], axis=1)

    def predict(self, data):
        return self.predict_proba(data).argmax(axis=1)


def make_data(num=60):
    rng = np.random.default_rng(0)
    p = rng.random((num, 1))
    arrays = {"a": p, "b": rng.random((num, 1))}
    return MultimodalData.from_arrays(arrays, y=(p[:, 0] > 0.4).astype(int))


def test_the_curve_has_the_scores_of_the_rates_in_order():
    display = RobustnessDisplay.from_evaluation(make_evaluation(), name="late")
    [line] = display.ax_.lines
    assert line.get_xdata().tolist() == [0, 0.5]
    assert line.get_ydata().tolist() == [0.9, 0.7]
    assert legend(display.ax_) == ["late, mean 0.800"]
    assert "missing rate" in display.ax_.get_xlabel()
    assert display.ax_.get_ylabel() == "AUROC"
    assert not display.ax_.collections
    assert display.figure_ is display.ax_.figure


def test_another_metric_has_its_unit():
    display = RobustnessDisplay.from_evaluation(make_evaluation(), "log_loss")
    np.testing.assert_allclose(display.scores, [0.1, 0.3])
    assert display.ax_.get_ylabel() == "log loss (nats)"


def test_intervals_are_a_band():
    rows = [{"auroc": Interval(0, low, low + 0.2)} for low in (0.6, 0.0, 0.8)]
    evaluation = make_evaluation(intervals=tuple(rows))
    display = RobustnessDisplay.from_evaluation(evaluation)
    [band] = display.ax_.collections
    corners = {tuple(point) for point in band.get_paths()[0].vertices.round(6)}
    assert {(0, 0.8), (0, 1.0), (0.5, 0.6), (0.5, 0.8)} == corners
    display = RobustnessDisplay.from_evaluation(evaluation, "log_loss")
    assert not display.ax_.collections


def test_models_share_axes():
    data = make_data()
    first = RobustnessDisplay.from_estimator(First(), data, [0, 0.5])
    other = RobustnessDisplay.from_estimator(
        First(), data, [0, 0.5], metric="accuracy", name="again", ax=first.ax_
    )
    assert other.ax_ is first.ax_
    assert len(first.ax_.lines) == 2
    assert legend(first.ax_)[0].startswith("First, mean ")
    assert legend(first.ax_)[1].startswith("again, mean ")
    rows = mg.evaluate(First(), data, [0, 0.5]).rows
    assert first.scores == tuple(row["auroc"] for row in rows)
    assert other.scores == tuple(row["accuracy"] for row in rows)


def test_evaluations_without_a_curve_are_errors():
    evaluation = make_evaluation()
    show = RobustnessDisplay.from_evaluation
    with pytest.raises(ConfigError, match=r"\(log_loss, auroc\), got 'f1'"):
        show(evaluation, "f1")
    with pytest.raises(DataError, match="evaluation must be Evaluation, got list"):
        show(evaluation.rows)
    one = Evaluation(evaluation.lines[:2])
    with pytest.raises(DataError, match=r"at least two .* got the rates \[0.5\]"):
        show(one)
    twice = Evaluation(evaluation.lines * 2, "direction")
    with pytest.raises(DataError, match=r"got the rates \[0.5, 0.0, 0.5, 0.0\]"):
        show(twice)


PATTERNS = [[1, 1], [0, 1], [0, 1], [0, 0], [1, 1], [1, 1], [1, 0]]


def make_incomplete():
    present = np.array(PATTERNS, dtype=bool)
    arrays = {name: np.zeros((len(present), 1)) for name in "ab"}
    return MultimodalData.from_arrays(arrays, present=present)


def test_patterns_are_counted_from_the_most_frequent_one():
    display = MissingnessDisplay.from_data(make_incomplete())
    assert display.patterns.tolist() == [
        [True, True],
        [False, True],
        [True, False],  # as many samples as the next one, but more modalities
        [False, False],
    ]
    assert display.counts.tolist() == [3, 2, 1, 1]
    ax = display.ax_
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a (57%)", "b (71%)"]
    assert [bar.get_height() for bar in display.bars_ax_.patches] == [3, 2, 1, 1]
    dark = {
        (x, y)
        for line in ax.lines
        if line.get_linestyle() == "-"
        for x, y in line.get_xydata().tolist()
    }
    assert dark == {(0, 0), (0, 1), (1, 1), (2, 0)}
    assert sum(len(line.get_xdata()) for line in ax.lines) == 8
    assert "more" not in ax.get_xlabel()


def test_rare_patterns_are_counted_and_not_drawn():
    display = MissingnessDisplay.from_data(make_incomplete(), max_patterns=2)
    assert len(display.bars_ax_.patches) == 2
    assert display.ax_.get_xlabel().endswith("(2 more, 2 of 7 samples)")
    assert len(display.counts) == 4


def test_data_without_patterns_are_errors():
    data = make_incomplete()
    with pytest.raises(DataError, match="data must be MultimodalData, got ndarray"):
        MissingnessDisplay.from_data(data.present)
    with pytest.raises(DataError, match="at least one sample, got none"):
        MissingnessDisplay.from_data(data[:0])
    for bad in (0, 2.5, "3"):
        with pytest.raises(ConfigError, match="max_patterns must be a whole number"):
            MissingnessDisplay.from_data(data, max_patterns=bad)


def make_contributions(metric="log score"):
    def three(mean):
        return Interval(mean, mean - 0.1, mean + 0.2)

    rows = [
        Contribution("labs", three(0.5), three(0.6), three(0.4), "carries", 1.0),
        Contribution("ecg", three(0.3), three(0.2), Interval(0, 0.1, 0.1), "x", 0.5),
    ]
    return Contributions(tuple(rows), (), (), -0.9, -0.1, metric, 10)


def test_each_modality_has_three_bars_with_intervals():
    display = ContributionsDisplay.from_contributions(make_contributions())
    ax = display.ax_
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == [0.5, 0.3, 0.6, 0.2, 0.4, 0]
    ends = [s[:, 0].tolist() for c in ax.collections for s in c.get_segments()]
    np.testing.assert_allclose(ends[0], [0.4, 0.7])
    np.testing.assert_allclose(ends[-1], [0, 0.1])  # the mean is below the interval
    assert len(ends) == 6
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == ["labs\n(carries)", "ecg\n(x)"]
    assert ax.get_xlabel() == "gain in the mean log score (nats)"
    assert [text.partition(" ")[0] for text in legend(ax)] == ["share", "alone", "last"]
    assert ax.yaxis_inverted()


def test_other_contributions_are_errors():
    display = ContributionsDisplay.from_contributions(make_contributions("nDCG"))
    assert display.ax_.get_xlabel() == "gain in the mean nDCG"
    with pytest.raises(DataError, match="must be Contributions, got dict"):
        ContributionsDisplay.from_contributions({"labs": 0.5})


def test_decision_curves_share_the_strategies_to_compare():
    y, p = [0, 0, 1, 1], [0.1, 0.6, 0.4, 0.9]
    first = DecisionCurveDisplay.from_predictions(y, p, name="late")
    ax = first.ax_
    DecisionCurveDisplay.from_predictions(y, [0.1, 0.2, 0.8, 0.9], ax=ax)
    assert legend(ax) == ["late", "all positive", "none positive", "model"]
    curve = mg.metrics.decision_curve(np.array(y), np.array(p))
    for line, values in zip(ax.lines[:2], (curve.model, curve.everyone), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), values)
    bottom, top = ax.get_ylim()
    assert -0.1 < bottom < 0
    assert 0.5 < top < 0.6
    DecisionCurveDisplay.from_predictions([0, 1, 1, 1], p, ax=ax)
    assert legend(ax)[4:] == ["model", "all positive"]  # of another share of positives


def test_predictions_without_a_decision_curve_are_errors():
    show = DecisionCurveDisplay.from_predictions
    with pytest.raises(DataError, match="y must have at least one sample, got none"):
        show([], [])
    with pytest.raises(DataError, match="Give that of class 1"):
        show([0, 1], [[0.2, 0.8], [0.4, 0.6]])
    with pytest.raises(ConfigError, match="threshold must be between 0 and 1"):
        show([0, 1], [0.2, 0.8], thresholds=[0, 0.5])


def test_plot_draws_again_in_other_axes():
    display = RobustnessDisplay.from_evaluation(make_evaluation())
    before = display.ax_
    figure, axes = plt.subplots(1, 2)
    plt.figure()  # the current figure is another one
    assert display.plot(axes[1]) is display
    assert display.ax_ is axes[1] is not before
    assert display.figure_ is figure
    with pytest.raises(ConfigError, match="ax must be Axes of matplotlib, got ndarray"):
        display.plot(axes)


def test_matplotlib_that_cannot_be_imported_is_an_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match="require matplotlib, which cannot be"):
        RobustnessDisplay.from_evaluation(make_evaluation())
