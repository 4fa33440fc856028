"""Calls with things of another type get a named error, as users without types do."""

import jaxtyping
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import sparse

from mmgraph import FusionModel, Modality, MultimodalData, Schema, metrics, missing
from mmgraph.errors import ConfigError, DataError, SchemaError
from mmgraph.retrieval import Index


@pytest.fixture(autouse=True)
def _unchecked():
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def test_what_is_scored_must_be_arrays():
    with pytest.raises(DataError, match=r"y must be an array, got list\. Pass"):
        metrics.accuracy([1, 0], [1, 1])
    with pytest.raises(DataError, match="predictions must be an array, got list"):
        metrics.rmse(np.zeros(2), [1, 1])
    with pytest.raises(DataError, match="proba must be an array, got list"):
        metrics.auroc(np.array([0, 1]), [[0.5, 0.5], [0.5, 0.5]])


@pytest.mark.parametrize("score", ["accuracy", "balanced_accuracy", "macro_f1"])
@pytest.mark.parametrize("dtype", [str, object])
def test_strings_are_not_scored_against_numbers(score, dtype):
    strings, numbers = np.array(["1", "0"], dtype=dtype), np.array([1, 0])
    measure = getattr(metrics, score)
    with pytest.raises(DataError, match="type of y, got numbers for strings"):
        measure(strings, numbers)
    with pytest.raises(DataError, match="type of y, got strings for numbers"):
        measure(numbers, strings)
    assert measure(strings, np.array(["1", "0"])) == 1.0


FRAME = pd.DataFrame({"x": [1.0, 2.0]})


def from_pandas(frame=FRAME, modalities=None, **options):
    asked = {"a": ["x"]} if modalities is None else modalities
    return MultimodalData.from_pandas(frame, modalities=asked, **options)


def join(*parts):
    return MultimodalData.concat([from_pandas(), *parts])


def test_data_of_other_types_are_named():
    with pytest.raises(DataError, match="concat must get MultimodalData, got NoneType"):
        join(None)
    with pytest.raises(
        DataError, match="frame must be a DataFrame of pandas, got dict"
    ):
        from_pandas({"x": [1.0]})
    with pytest.raises(DataError, match="y must name at least one column, got none"):
        from_pandas(y=[])
    with pytest.raises(DataError, match=r"'a' must be dense, got csr_matrix.* toarray"):
        MultimodalData.from_arrays({"a": sparse.csr_matrix(np.eye(2))})


def test_modalities_name_columns():
    message = (
        r"modalities\['a'\] must be the name of a column or a list of names, got 5"
    )
    with pytest.raises(DataError, match=message):
        from_pandas(modalities={"a": 5})
    table = pa.Table.from_pandas(FRAME)
    with pytest.raises(DataError, match=message):
        MultimodalData.from_arrow(table, modalities={"a": 5}, y=None)


def test_a_rate_is_a_number():
    with pytest.raises(
        ConfigError, match=r"mcar must have a rate in \[0, 1\], got 'x'"
    ):
        missing.mcar("x")


def test_queries_are_vectors_and_places_whole_numbers():
    index = Index([1, 2], np.eye(2))
    with pytest.raises(ConfigError, match=r"whole numbers of at least 1, got k=2.5"):
        index.search(np.eye(2), k=2.5)
    with pytest.raises(
        DataError, match=r"vectors of numbers, got MultimodalData. Embed"
    ):
        index.search(from_pandas())
    assert index.search(np.eye(2), k=np.int64(1)).rows.tolist() == [[0], [1]]


@pytest.mark.parametrize("make", [Schema.star, Schema.complete, Schema.bottleneck])
def test_a_schema_is_made_of_modalities(make):
    with pytest.raises(SchemaError, match=r"Schema must be of Modality, got 'a'"):
        make(["a", "b"])


def test_a_task_is_no_string():
    schema = Schema.star([Modality("a", 2)])
    with pytest.raises(
        ConfigError, match=r"task must be Classification, .* got 'classi"
    ):
        FusionModel(schema, task="classification")
