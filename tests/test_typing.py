"""The type aliases accept what the functions accept."""

from collections import UserDict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from beartype.door import is_bearable

from mmgraph import MultimodalData, typing

VALUES = [
    np.zeros((2, 3)),
    np.ma.masked_array([1.0, 2.0], [True, False]),
    torch.zeros(2, 3),
    [None, [1.0, 2.0]],
    ("a", None),
    range(2),
    pd.DataFrame({"x": [1.0, 2.0]}),
    pd.Series([1, 2]),
    pa.array([1.0, 2.0]),
]


@pytest.mark.parametrize("values", VALUES, ids=lambda v: type(v).__name__)
def test_values_are_array_like_and_are_read(values):
    assert is_bearable(values, typing.ArrayLike)
    assert is_bearable(values, typing.LabelLike)
    assert is_bearable({"a": values}, typing.ModalityArrays)
    assert len(MultimodalData.from_arrays({"a": values})) == 2


@pytest.mark.parametrize("value", [None, 5, {1}, iter([1])])
def test_scalars_and_iterators_are_not_array_like(value):
    assert not is_bearable(value, typing.ArrayLike)


@pytest.mark.parametrize(
    "key", [0, np.int64(1), slice(1), [0], np.array([True, False]), ([1], ...)]
)
def test_indices_are_index_like_and_select_samples(key):
    assert is_bearable(key, typing.IndexLike)
    data = MultimodalData.from_arrays({"a": [[1.0], [2.0]]})
    assert len(data[key]) >= 1


def test_masks_are_tables_or_columns_by_modality():
    table = np.array([[True, False]])
    for mask in (table, table.tolist(), torch.from_numpy(table), {"a": [True]}):
        assert is_bearable(mask, typing.MaskLike)
    assert not is_bearable({"a": True}, typing.MaskLike)


def test_modalities_map_names_to_columns():
    for mapping in ({"a": "x"}, {"a": ["x", "y"], "b": ("z",)}, UserDict(a="x")):
        assert is_bearable(mapping, typing.ModalityMapping)
    assert not is_bearable({"a": 5}, typing.ModalityMapping)


def test_columns_of_data_frames_have_any_labels():
    for mapping in ({"a": 0}, {"a": ("lab", "crp")}, {"a": np.array([0, 1])}):
        assert is_bearable(mapping, typing.FrameMapping)
    assert not is_bearable({0: "a"}, typing.FrameMapping)
    assert not is_bearable([0], typing.ColumnLabel)


def test_paths_are_strings_or_path_objects():
    assert is_bearable("data.csv", typing.PathLike)
    assert is_bearable(Path("data.csv"), typing.PathLike)
    assert not is_bearable(5, typing.PathLike)


def test_every_alias_is_listed():
    public = {name for name in vars(typing) if name[0].isupper()}
    imported = {"Any", "Callable", "Hashable", "Iterable", "Mapping", "Protocol"}
    imported |= {"Sequence", "TypeAlias"}
    assert public - imported == set(typing.__all__)
