"""Alarms of data: constant channels, identifiers, fill values, presence."""

import re

import numpy as np
import pandas as pd
import pytest

from mmgraph import MultimodalData
from mmgraph.evaluation.data_alarms import fill_values_of, find_data_alarms

NUM = 200


def alarms_of(content, **metadata) -> dict[str, str]:
    """Return the texts of the alarms of one modality, by kind."""
    data = MultimodalData.from_arrays({"labs": content}, **metadata)
    return {alarm.kind: alarm.text for alarm in find_data_alarms(data)}


def normal(columns: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(NUM, columns))


def test_plain_data_have_no_alarm():
    y = np.random.default_rng(1).integers(2, size=NUM)
    ages = np.random.default_rng(2).integers(40, 80, size=(NUM, 1))
    assert alarms_of(normal(), y=y) == {}
    assert alarms_of(ages.astype(float)) == {}
    assert alarms_of([f"note {i % 90}" for i in range(NUM)]) == {}


def test_constant_channels_are_named():
    x = normal(3)
    x[:, 1] = 5
    x[:9, 1] = np.nan
    text = alarms_of(x)["constant channel"]
    assert text.startswith("channel 1 of labs has one value in all rows")
    x[:, 2] = 0
    text = alarms_of(x)["constant channel"]
    assert text.startswith("2 channels of labs (1, 2) have one value")
    assert "all texts of labs are the same" in alarms_of(["x"] * 30)["constant channel"]
    assert alarms_of([[1.0]]) == {}  # a single row
    assert alarms_of([[1.0, 2.0], [3.0, np.nan]]) == {}  # one known cell


@pytest.mark.parametrize(
    "values",
    [
        np.arange(NUM) * 7 + 1000,  # increasing
        np.random.default_rng(0).permutation(NUM) + 50,  # dense
        [f"patient {i}" for i in range(NUM)],
    ],
    ids=["increasing", "dense", "strings"],
)
def test_identifiers_are_named(values):
    frame = pd.DataFrame({"who": values, "x": normal(1)[:, 0]})
    text = alarms_of(frame)["identifier"]
    assert text.startswith("channel who of labs has a different value in each sample")


def test_repeated_fractional_and_sequential_values_are_no_identifiers():
    counter = np.arange(NUM, dtype=float)
    repeated = np.where(counter == 5, 4, counter)
    steps = [np.arange(30.0)[:, None] + i for i in range(3)]
    for content in (repeated[:, None], counter[:, None] / 7, counter[:9, None], steps):
        assert "identifier" not in alarms_of(content)


def test_fill_values_are_counted():
    x = normal()
    x[:7, 1] = -9999
    text = alarms_of(x)["fill value"]
    assert text.startswith("labs has -9999 in 7 cells of channel 1, far from all other")
    assert "Training treats these cells as missing" in text
    data = MultimodalData.from_arrays({"labs": x, "note": ["a"] * NUM})
    assert fill_values_of(data.columns["labs"]) == {"1": (-9999.0,)}
    assert fill_values_of(data.columns["note"]) == {}


@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_presence_that_predicts_the_label_is_named(kind):
    rng = np.random.default_rng(0)
    ill = np.arange(NUM) % 2 == 0
    y = np.where(ill, "ill", "well") if kind == "classes" else ill + rng.random(NUM) / 9
    x, absent = normal(), np.where(ill, 0.9, 0.1) > rng.random(NUM)
    x[absent] = np.nan
    text = alarms_of(x, y=y)["presence predicts the label"]
    assert re.search(r"AUROC 0\.[89]", text)
    assert alarms_of(x, y=rng.random(NUM) < 0.5) == {}
