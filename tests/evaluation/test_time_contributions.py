"""Contributions of segments of time, with models whose answers are known."""

import numpy as np
import pytest

from mmgraph import DataError, MultimodalData, time_contributions


class Sum:
    """Regressor that predicts the sum of the rows of "a" and half those of "b"."""

    def predict(self, data):
        weights = {"a": 1.0, "b": 0.5}
        result = np.zeros(len(data))
        for name, weight in weights.items():
            column = data.columns[name]
            np.add.at(result, column.sample, weight * column.values[:, 0])
        return result


class Classes(Sum):
    """Classifier of two classes; the log-odds are the sum."""

    classes_ = np.array(["no", "yes"])

    def predict_proba(self, data):
        p = 1 / (1 + np.exp(-self.predict(data)))
        return np.stack([1 - p, p], axis=1)


def make():
    """Return two samples; the second lacks b, and a has a gap in it."""
    return MultimodalData.from_arrays(
        {
            "a": [[1.0, 2.0, 4.0], [3.0, -1.0]],
            "b": [[6.0, 2.0], None],
            "age": [[1], [2]],
        },
        times={"a": [[10.0, 10.5, 11.5], [0.0, 2.5]], "b": [[10.9, 11.0], None]},
        ids=["x", "y"],
    )


def test_hidden_rows_change_the_prediction_of_a_sum_by_their_values():
    found = time_contributions(Sum(), make(), 1)
    nan = np.nan
    assert found.modalities == ("a", "b")
    assert found.targets is None
    np.testing.assert_allclose(
        found.values,
        [[[3, 3], [4, 1], [nan, nan]], [[3, nan], [nan, nan], [-1, nan]]],
    )


def test_classes_are_explained_by_log_probabilities():
    data = make()
    found = time_contributions(Classes(), data, 1)
    assert found.targets.tolist() == ["yes", "yes"]
    log_p = -np.log1p(np.exp(-np.array([11, 11 - 3])))
    np.testing.assert_allclose(found.values[0, 0, 0], log_p[0] - log_p[1])
    other = time_contributions(Classes(), data, 1, target="no")
    assert other.targets.tolist() == ["no", "no"]
    np.testing.assert_allclose(other.values[0, 0, 0], log_p[0] - 11 - (log_p[1] - 8))


def test_frame_and_plot_have_the_segments_with_rows():
    pytest.importorskip("pandas", reason="pandas is not installed")
    from matplotlib import pyplot as plt

    found = time_contributions(Sum(), make(), 1)
    frame = found.to_frame()
    assert frame["id"].tolist() == ["x", "x", "x", "x", "y", "y"]
    assert frame["modality"].tolist() == ["a", "a", "b", "b", "a", "a"]
    assert frame["start"].tolist() == [0, 1, 0, 1, 0, 2]
    assert (frame["stop"] - frame["start"] == 1).all()
    assert frame["contribution"].tolist() == [3, 4, 3, 1, 3, -1]
    ax = found.plot(1)
    assert [each.get_text() for each in ax.get_yticklabels()] == ["a", "b"]
    drawn = ax.collections[0].get_array()
    assert drawn[0].compressed().tolist() == [3, -1]
    plt.close(ax.figure)


def test_bad_arguments_are_errors():
    data = make()
    for seconds in (0, -1, "1", float("inf")):
        with pytest.raises(DataError, match="seconds must be above 0"):
            time_contributions(Sum(), data, seconds)
    with pytest.raises(DataError, match="at most 1000 segments, got"):
        time_contributions(Sum(), data, 0.001)
    with pytest.raises(DataError, match="must have a modality with times, got none"):
        time_contributions(Sum(), data.select("age"), 1)
    with pytest.raises(DataError, match=r"class of the model \(no, yes\), got 'maybe'"):
        time_contributions(Classes(), data, 1, target="maybe")

    class Several(Sum):
        def predict(self, data):
            return np.zeros((len(data), 2))

    with pytest.raises(DataError, match="a regressor of one value, got one of several"):
        time_contributions(Several(), data, 1)
