"""Arguments of other types raise errors of mmgraph, without run-time type checks."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from scipy import sparse
from torch import nn
from torch_geometric.nn import SAGEConv

from mmgraph import (
    Classification,
    FusionClassifier,
    FusionMatcher,
    FusionModel,
    FusionRetriever,
    Modality,
    MultimodalData,
    MultimodalStream,
    Schema,
    metrics,
    missing,
)
from mmgraph.errors import ConfigError, DataError, SchemaError
from mmgraph.retrieval import Index

pytestmark = pytest.mark.usefixtures("unchecked")


def test_metrics_require_arrays():
    with pytest.raises(DataError, match=r"y must be an array, got list\. Convert it"):
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
    modalities = {"a": ["x"]} if modalities is None else modalities
    return MultimodalData.from_pandas(frame, modalities, **options)


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


@pytest.mark.parametrize("y", ["x", ["x"]])
def test_a_modality_does_not_hold_the_label(y, tmp_path):
    message = r"modalities\['a'\] must not hold the label 'x', got .* or pass y=None"
    with pytest.raises(DataError, match=message):
        from_pandas(modalities={"a": ["x"]}, y=y)
    if y == "x":
        FRAME.to_parquet(file := tmp_path / "a.parquet")
        for read in (MultimodalData.from_parquet, MultimodalStream.from_parquet):
            with pytest.raises(DataError, match=message):
                read(file, modalities={"a": "x"}, y=y)
            assert read(file, modalities={"a": "x"}, y=None).modalities == ("a",)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DataError, match=r"must be a file, got a folder\. Open"):
        MultimodalData.from_parquet(tmp_path, modalities={"a": "x"})


def test_a_matcher_names_the_option_with_an_unknown_modality():
    data = MultimodalData.from_arrays({"a": np.eye(4), "b": np.eye(4)})
    message = r"left and right must name known modalities \(a, b\), got 'z'\. Check"
    with pytest.raises(DataError, match=message):
        FusionMatcher(["a"], ["z"]).fit(data)


def test_an_expert_is_named_once():
    message = r"experts must be .*, got \('linear', 'linear'\)"
    data = MultimodalData.from_arrays({"a": np.eye(4)}, y=[0, 1, 0, 1])
    with pytest.raises(ConfigError, match=message):
        FusionClassifier(experts=("linear", "linear")).fit(data)


def test_a_rate_is_a_number():
    with pytest.raises(
        ConfigError, match=r"mcar must have a rate in \[0, 1\], got 'x'"
    ):
        missing.mcar("x")


def test_queries_are_vectors_and_places_whole_numbers():
    index = Index([1, 2], np.eye(2))
    with pytest.raises(ConfigError, match=r"integers of at least 1, got k=2.5"):
        index.search(np.eye(2), k=2.5)
    with pytest.raises(
        DataError, match=r"vectors of numbers, got MultimodalData. Embed"
    ):
        index.search(from_pandas())
    assert index.search(np.eye(2), k=np.int64(1)).rows.tolist() == [[0], [1]]


@pytest.mark.parametrize("make", [Schema.star, Schema.complete, Schema.bottleneck])
def test_a_schema_is_made_of_modalities(make):
    with pytest.raises(SchemaError, match=r"must hold Modality objects, got 'a'"):
        make(["a", "b"])


def test_a_task_is_no_string():
    schema = Schema.star([Modality("a", 2)])
    with pytest.raises(
        ConfigError, match=r"task must be Classification, .* got 'classi"
    ):
        FusionModel(schema, task="classification")


def test_similarity_requires_embeddings():
    ret = FusionRetriever()
    data, z = from_pandas(), np.eye(2, dtype=np.float32)
    message = r"must be vectors of numbers, got MultimodalData\. Embed"
    with pytest.raises(DataError, match=f"queries {message}"):
        ret.similarity(data, z)
    with pytest.raises(DataError, match=f"gallery {message}"):
        ret.similarity(z, data)
    with pytest.raises(DataError, match=f"bank {message}"):
        ret.similarity(z, z, bank=data)
    with pytest.raises(DataError, match=r"shape \[N, 2\], got \[2, 1\]"):
        ret.similarity(z, z[:, :1])
    assert np.array_equal(ret.similarity(z.tolist(), torch.eye(2)), z)
    assert np.array_equal(ret.similarity(z[0], z), z[:1])


def make_model(**options):
    schema = Schema.star([Modality("a", 1), Modality("b", 1)])
    return FusionModel(schema, Classification(num_classes=2), **options)


class Plain(nn.Module):
    """Encoder that does not return the samples of its rows."""

    def forward(self, x, sample, time, num_samples):
        return x.expand(-1, 32)


def test_an_encoder_returns_its_nodes():
    model = make_model(encoders={"a": Plain()})
    message = r"must return Encoded, got Tensor from Plain\. Return mmgraph\.nn\.Enc"
    with pytest.raises(ConfigError, match=message):
        model(from_pandas().batch())


@pytest.mark.parametrize(
    ("encoder", "got"),
    [
        (nn.Linear(1, 32), r"got Linear\. Wrap it in a module with this signature"),
        (Plain, r"got the class Plain\. Give an instance"),
        ("some/path", r"got 'some/path'\. Give an instance"),
    ],
)
def test_an_encoder_is_called_with_rows(encoder, got):
    rule = (
        r"encoders\['a'\] must be a module that takes \(x, sample, time, num_samples\)"
    )
    with pytest.raises(ConfigError, match=f"{rule}, {got}"):
        make_model(encoders={"a": encoder})


@pytest.mark.parametrize(
    ("encoders", "message"),
    [
        ({"c": Plain()}, r"of the schema \(a, b\), got 'c'\. Check the spelling"),
        ({1: Plain()}, r"of the schema \(a, b\), got 1\."),
        ([Plain()], r"a dict of modules by modality, got \[Plain\(\)\]\. Give"),
        ([], r"a dict of modules by modality, got \[\]"),
    ],
)
def test_encoders_are_of_modalities_of_the_schema(encoders, message):
    with pytest.raises(ConfigError, match=f"^encoders must .*{message}"):
        make_model(encoders=encoders)


@pytest.mark.parametrize(
    ("conv", "got"),
    [
        (SAGEConv, "the class SAGEConv"),
        (SAGEConv((32, 32), 32), "SAGEConv"),
        (lambda: SAGEConv, "the class SAGEConv"),
        ("SAGEConv", "str"),
    ],
)
def test_a_convolution_is_built_by_a_function(conv, got):
    message = rf"conv must be a function .* got {got}\. Give lambda: SAGEConv"
    with pytest.raises(SchemaError, match=message):
        make_model(conv=conv)


def test_a_plan_is_of_data_in_memory(tmp_path):
    from_pandas().to_parquet(tmp_path / "0.parquet")
    stream = MultimodalStream.from_parquet(tmp_path, y=None)
    message = r"must get MultimodalData, got MultimodalStream\. For a stream, use each"
    with pytest.raises(DataError, match=f"plan {message}"):
        missing.mcar(0.5).plan(stream)
    plan = missing.mcar(0.5).plan(from_pandas())
    with pytest.raises(DataError, match=f"apply {message}"):
        plan.apply(stream)
