"""Exported models predict as their estimators, whatever is missing."""

import json
import os
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import jaxtyping
import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

import mmgraph
from mmgraph import (
    FusionClassifier,
    FusionMatcher,
    FusionRegressor,
    FusionRetriever,
    MultimodalData,
    Relation,
    SameIndex,
    Schema,
    serving,
)
from mmgraph.cli import app
from mmgraph.errors import CheckpointError, ConfigError, DataError, SchemaError
from mmgraph.estimators.featurize import Featurizer
from mmgraph.estimators.input_spec import InputSpec
from mmgraph.schema import Latent, Modality
from mmgraph.serving.export import require_onnx
from mmgraph.serving.inputs import read_samples
from mmgraph.serving.program import check_servable

SMALL = {"members": 2, "epochs": 1, "hidden_channels": 8, "num_heads": 2}
WIDTHS = {"val_0": 3, "gene": 4, "scale": 1}  # names that exporters use themselves
NAMES = tuple(WIDTHS)
SUBSETS = list(product([True, False], repeat=len(NAMES)))


def make_arrays(num, seed=0):
    """Rows of which some are missing, and some cells of the others."""
    rng = np.random.default_rng(seed)
    arrays = {}
    for name, width in WIDTHS.items():
        x = 50 + 9 * rng.normal(size=(num, width)).astype(np.float32)
        x[rng.random(x.shape) < 0.1] = np.nan
        x[rng.random(num) < 0.3] = np.nan
        arrays[name] = x
    return arrays


def make_data(y, schema=None):
    arrays = make_arrays(len(y))
    modalities = [Modality(n, w) for n, w in WIDTHS.items()]
    modalities[1] = Modality("gene", 4, kind="embedding")
    return MultimodalData.from_arrays(arrays, y=y, schema=Schema.star(modalities))


@pytest.fixture(autouse=True, scope="module")
def _sizes_may_be_symbols():
    """Numbers of samples are symbols, not integers, during export."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def classifier():
    """Linear experts, forests and a graph of weight 0.7; classes are strings."""
    y = np.array(["ill", "well", "cured"])[np.arange(60) % 3]
    clf = FusionClassifier(**SMALL, num_layers=1, experts=("linear", "forest"))
    clf.fit(make_data(y)).model_.beta.fill_(0.7)
    return clf


@pytest.fixture(scope="module")
def exported(classifier, tmp_path_factory):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    serving.export(classifier, path)
    return path


@pytest.fixture(scope="module")
def served(exported):
    return serving.load(exported, threads=1)


@pytest.mark.long
@pytest.mark.parametrize("level", ["data", "feature"])
def test_levels_without_single_base_learners_are_exported(level, few_trees, tmp_path):
    data = make_data(np.arange(60) % 2)
    clf = FusionClassifier(**SMALL, experts=("joint",), level=level).fit(data)
    clf.model_.beta.fill_(0.7 if level == "feature" else 0.0)
    serving.export(clf, tmp_path / "model.onnx")
    served = serving.load(tmp_path / "model.onnx")
    for keep in SUBSETS:
        part = data[:6].mask(np.tile(keep, (6, 1)))
        np.testing.assert_allclose(
            served.predict_proba(part), clf.predict_proba(part), atol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize("num", [1, 17])
def test_it_predicts_as_the_estimator_for_every_subset(classifier, served, num):
    for seed, subset in enumerate(SUBSETS):
        arrays = make_arrays(num, seed)
        for name, kept in zip(NAMES, subset, strict=True):
            arrays[name] = arrays[name] if kept else np.full_like(arrays[name], np.nan)
        expected = classifier.predict_proba(MultimodalData.from_arrays(arrays))
        result = served.predict_proba(arrays)
        np.testing.assert_allclose(result, expected, atol=1e-5)
        given = {n: x for n, x in arrays.items() if subset[NAMES.index(n)]}
        if given:
            assert np.array_equal(served.predict_proba(given), result)
    prior = classifier.model_.ensemble.pool.prior.softmax(0)  # the last subset is empty
    np.testing.assert_allclose(result, prior.expand(num, 3), atol=1e-6)


@pytest.mark.slow
def test_the_file_contains_no_path_of_this_machine(exported):
    content = exported.read_bytes()
    folders = (
        Path(mmgraph.__file__).parents[1],
        Path(torch.__file__).parent,
        Path.home(),
    )
    assert [folder for folder in folders if str(folder).encode() in content] == []
    assert b"mmgraph" in content  # the metadata is readable as bytes


@pytest.mark.slow
def test_it_takes_data_and_gives_classes(classifier, served):
    data = make_data(np.arange(60) % 3)
    proba = served.predict_proba(data)
    np.testing.assert_allclose(proba, classifier.predict_proba(data), atol=1e-5)
    assert np.ptp(proba) > 0.2
    assert np.array_equal(served.predict(data), classifier.predict(data))
    assert served.predict(data).dtype.kind == "U"
    assert served.predict_proba(data[:0]).shape == (0, 3)
    together = {name: x[[5]] for name, x in make_arrays(60).items()}
    np.testing.assert_allclose(served.predict_proba(together)[0], proba[5], atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Modality 'scale' has values more than")
def test_samples_that_do_not_fit_are_rejected(served):
    arrays = make_arrays(4)
    with pytest.raises(DataError, match=r"one of the modalities val_0, .* got 'ecg'"):
        served.predict_proba(arrays | {"ecg": arrays["gene"]})
    with pytest.raises(DataError, match="no others, got none"):
        served.predict_proba({})
    with pytest.raises(DataError, match=r"'gene' must have 4 channels, got 1"):
        served.predict_proba({"gene": np.zeros(4)})
    with pytest.raises(DataError, match="must have one entry per sample"):
        served.predict_proba(arrays | {"gene": arrays["gene"][:2]})
    with pytest.raises(DataError, match="finite or NaN in float32, got an infinite"):
        served.predict_proba({"scale": np.full((2, 1), 1e300)})


@pytest.mark.slow
def test_a_graph_that_does_not_run_is_named(served):
    feed = read_samples(make_arrays(2), served.inputs)
    name = next(iter(feed))
    with pytest.raises(CheckpointError, match=r"must run in ONNX Runtime, got: .*Exp"):
        served._run_session(feed | {name: np.zeros((1, 1, 1, 1), dtype=np.float32)})


@pytest.mark.slow
def test_arrays_are_read_as_from_arrays_reads_them(served):
    gene = np.array([[1.0, 2.0, 3.0, 1e6], [1.0, 2.0, 3.0, 4.0]])
    hidden = np.ma.masked_array(gene, mask=gene > 9)
    plain = served.predict_proba({"gene": np.where(gene > 9, np.nan, gene)})
    frame = pd.DataFrame(gene).astype("Float64").where(gene < 9)
    tensor = torch.tensor(np.ma.filled(hidden, np.nan)).requires_grad_()
    for given in (hidden, frame, tensor, [[1, 2, 3, np.nan], [1, 2, 3, 4]]):
        assert np.array_equal(served.predict_proba({"gene": given}), plain)
    some = served.predict_proba({"gene": [None, [1, 2, 3, 4]]})
    np.testing.assert_allclose(some[1], plain[1], atol=1e-6)
    with pytest.raises(DataError, match="'gene' must hold numbers as in the training"):
        served.predict_proba({"gene": ["a", "b"]})
    with pytest.raises(DataError, match="'gene' must be an array or a list"):
        served.predict_proba({"gene": 3})
    with pytest.raises(DataError, match="'gene' must have 4 channels, got 2"):
        served.predict_proba({"gene": np.ma.zeros((2, 2))})


def test_channels_of_an_exported_model_are_selected_by_name():
    schema = Schema.star([Modality("labs", 2)])
    spec = InputSpec(schema, Featurizer(), {"labs": ("wbc", "crp")})
    assert InputSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    frame = pd.DataFrame({"wbc": [1.0], "crp": [2.0], "age": [3.0]})

    def read(*columns):
        data = MultimodalData.from_pandas(frame, modalities={"labs": list(columns)})
        return read_samples(data, spec)["input.labs"].tolist()

    assert read("wbc", "crp") == read("crp", "wbc") == [[1.0, 2.0]]
    with pytest.raises(
        DataError, match=r"must have columns of the training data \(wbc, crp\)"
    ):
        read("wbc", "age")


def test_raw_content_is_read_only_where_the_training_had_it():
    schema = Schema.star(
        [Modality("pic", 384), Modality("note", 256, kind="embedding")]
    )
    spec = InputSpec(schema, Featurizer({"note": "text"}), {})
    assert InputSpec.from_json(spec.to_json()) == spec
    vectors = read_samples({"note": ["fever", None]}, spec)["input.note"]
    assert np.isfinite(vectors[0]).all()
    assert np.isnan(vectors[1]).all()
    images = Schema.star([Modality("pic", kind="image")])
    data = MultimodalData.from_arrays({"pic": ["a.png"]}, schema=images)
    with pytest.raises(DataError, match="'pic' must hold numbers as in the training"):
        read_samples(data, spec)
    encoded = replace(spec, featurizer=Featurizer({"note": "text"}, {"note": None}))
    with pytest.raises(DataError, match="of its pretrained encoder, got text"):
        read_samples({"note": ["fever"]}, encoded)
    unread = replace(spec, unseen=("pic",))
    assert np.isnan(read_samples(data, unread)["input.pic"]).all()


@pytest.mark.slow
def test_a_regressor_predicts_values_and_unseen_modalities_are_not_read(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    y = np.arange(40.0)
    data = make_data(np.stack([1e3 + 9 * y, -y], axis=1))
    data = data.mask({"gene": np.zeros(40, dtype=bool)})
    regressor = FusionRegressor(**SMALL, num_layers=1, experts=("linear",)).fit(data)
    path = tmp_path / "model.onnx"
    serving.export(regressor, path)
    served = serving.load(path)
    arrays = make_arrays(9)
    expected = regressor.predict(MultimodalData.from_arrays(arrays))
    np.testing.assert_allclose(served.predict(arrays), expected, rtol=1e-5, atol=1e-4)
    with pytest.raises(ConfigError, match="requires a classifier, got an exported"):
        served.predict_proba(arrays)


@pytest.mark.slow
def test_large_targets_keep_their_digits(tmp_path):
    """Times of day as seconds since 1970, which float32 resolves to two minutes."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    spread = 1000 * np.random.default_rng(0).normal(size=40)
    data = make_data(1.7e9 + spread)
    regressor = FusionRegressor(**SMALL, num_layers=1, experts=("linear",)).fit(data)
    serving.export(regressor, tmp_path / "model.onnx")
    served = serving.load(tmp_path / "model.onnx", threads=1)
    arrays = make_arrays(9)
    expected = regressor.predict(MultimodalData.from_arrays(arrays))
    assert np.ptp(expected) > 1
    outputs = served.predict(arrays)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-6 * spread.std())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Modality '.*' has values more than")
def test_a_model_of_complete_data_is_exported(tmp_path):
    """No pattern of missing modalities was seen in training."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    rng = np.random.default_rng(0)
    arrays = {name: rng.normal(size=(60, width)) for name, width in WIDTHS.items()}
    data = MultimodalData.from_arrays(arrays, y=np.arange(60) % 2)
    kinds = ("linear", "forest")
    clf = FusionClassifier(**SMALL, num_layers=1, experts=kinds).fit(data)
    assert not len(clf.model_.ensemble.pool.patterns)
    serving.export(clf, tmp_path / "model.onnx")
    served = serving.load(tmp_path / "model.onnx", threads=1)
    for given in (arrays, make_arrays(9)):
        expected = clf.predict_proba(MultimodalData.from_arrays(given))
        np.testing.assert_allclose(served.predict_proba(given), expected, atol=1e-5)


@pytest.mark.parametrize("estimator", [FusionRetriever(), FusionMatcher("a", "b")])
def test_estimators_of_pairs_are_rejected(estimator, tmp_path):
    outputs = rf"FusionClassifier or FusionRegressor, got a {type(estimator).__name__}"
    with pytest.raises(ConfigError, match=outputs):
        serving.export(estimator, tmp_path / "model.onnx")


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_path_that_cannot_be_written_is_rejected_before_the_export(suffix, tmp_path):
    (tmp_path / f"model{suffix}").mkdir()
    for path in (tmp_path / f"nodir/x{suffix}", tmp_path / f"model{suffix}"):
        with pytest.raises(
            ConfigError, match=r"an existing, writable folder, got '.*Create the folder"
        ):
            serving.export(FusionClassifier(), path)  # not fitted: no work yet


@pytest.mark.long
def test_labels_that_may_hold_together_are_exported(tmp_path):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    y = (np.arange(60)[:, None] % [2, 3, 5] > 0).astype(int)
    kinds = ("linear", "forest")
    clf = FusionClassifier(**SMALL, num_layers=1, experts=kinds).fit(make_data(y))
    clf.model_.beta.fill_(0.7)
    serving.export(clf, tmp_path / "model.onnx")
    served = serving.load(tmp_path / "model.onnx", threads=1)
    for seed, subset in enumerate(SUBSETS):
        arrays = {
            name: x if kept else np.full_like(x, np.nan)
            for (name, x), kept in zip(
                make_arrays(9, seed).items(), subset, strict=True
            )
        }
        data = MultimodalData.from_arrays(arrays)
        expected = clf.predict_proba(data)
        assert expected.shape == (9, 3)
        np.testing.assert_allclose(served.predict_proba(arrays), expected, atol=1e-5)
        assert np.array_equal(served.predict(arrays), clf.predict(data))
    data = make_data(y)
    assert clf.predict(data).sum(1).max() > 1  # several labels in a sample
    assert np.array_equal(served.predict(data), clf.predict(data))


@pytest.mark.slow
def test_an_archive_of_torch_export_predicts_the_same(classifier, tmp_path):
    path = tmp_path / "model.pt2"
    serving.export(classifier, path)
    program = torch.export.load(path).module()
    arrays = make_arrays(7)
    result = program(*(torch.from_numpy(x) for x in arrays.values()))
    expected = classifier.predict_proba(MultimodalData.from_arrays(arrays))
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)
    assert isinstance(
        classifier.model_.beta, torch.Tensor
    )  # the estimator is as it was
    with pytest.raises(CheckpointError, match=r"existing .onnx file, got .*pickled"):
        serving.load(path)


@pytest.mark.long
def test_the_command_line_exports(classifier, tmp_path, served):
    pytest.importorskip("onnxscript")
    classifier.save_pretrained(tmp_path / "model")
    out = tmp_path / "model.onnx"
    words = ["export", str(tmp_path / "model"), "--output"]
    done = CliRunner().invoke(app, [*words, str(out)])
    assert done.exit_code == 0, done.output
    assert "input.val_0 [B, 3], input.gene [B, 4]" in done.stdout
    arrays = make_arrays(5)
    again = serving.load(out).predict_proba(arrays)
    np.testing.assert_allclose(again, served.predict_proba(arrays), atol=1e-6)
    done = CliRunner().invoke(app, [*words, "model.bin"])
    assert done.exit_code == 2
    assert "must end in .onnx or .pt2, got 'model.bin'" in done.stderr


@pytest.mark.slow
def test_files_of_another_origin_are_rejected(tmp_path):
    pytest.importorskip("onnxruntime")
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "model.onnx"
    with pytest.raises(CheckpointError, match=r"must be an existing .onnx file"):
        serving.load(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(CheckpointError, match="must be a model that this ONNX Runtime"):
        serving.load(path)
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    same = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    node = onnx.helper.make_node("Identity", ["x"], ["y"])
    graph = onnx.helper.make_graph([node], "g", [value], [same])
    opset = [onnx.helper.make_opsetid("", 18)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.save(model, path)
    with pytest.raises(CheckpointError, match="got ONNX of another origin"):
        serving.load(path)


@pytest.mark.parametrize("extra", ["onnxscript", "onnxruntime"])
def test_a_missing_package_is_named_in_the_error(extra, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, extra, None)
    path = tmp_path / "model.onnx"
    path.touch()
    call = {"onnxruntime": lambda: serving.load(path), "onnxscript": require_onnx}
    with pytest.raises(ConfigError, match=rf"{extra}.* not installed. Install"):
        call[extra]()


def test_what_cannot_be_exported_is_rejected():
    labs, ecg = Modality("labs", 2), Modality("ecg", 2, tokens="ragged", time=True)
    check = check_servable
    check(Schema.complete([labs, ecg]))
    pair = Relation("labs", "gene", topology=SameIndex())
    modalities = [labs, Modality("gene", 2)]
    relations = [pair, Relation("*", "fuse")]
    with pytest.raises(SchemaError, match=r"topology Full .*got SameIndex"):
        check(Schema(modalities, [Latent("fuse")], relations))


# Sequences

RAGGED = {"ecg": 2, "move": 1}  # the second one with time, as vectors have


TIMED = (
    Modality("labs", 3, time=True),
    Modality("ecg", 2, tokens="ragged"),
    Modality("move", 1, tokens="ragged", time=True, clock="learned"),
)


def make_sequences(num, seed=0, kept=(True, True, True)):
    """Data of vectors and sequences, of which some are missing, or all."""
    rng = np.random.default_rng(seed)
    labs = 9 * rng.normal(size=(num, 3)).astype(np.float32)
    labs[rng.random(num) < 0.3] = np.nan
    content, seconds = {"labs": labs}, {}
    for name, width in RAGGED.items():
        lengths = rng.integers(0, 30, size=num)
        rows = [rng.normal(size=(t, width)).astype(np.float32) for t in lengths]
        for each in rows:
            each[rng.random(each.shape) < 0.1] = np.nan
        content[name] = rows
        seconds[name] = [1e9 + rng.random(t).cumsum() for t in lengths]
    present = {n: np.full(num, k) for n, k in zip(content, kept, strict=True)}
    y = np.arange(num) % 2
    times = {"move": seconds["move"], "labs": 1e9 - 5 * rng.random(num)}
    data = MultimodalData.from_arrays(content, y=y, times=times, present=present)
    return data.with_schema(Schema.complete(TIMED))


@pytest.fixture(scope="module")
def of_sequences():
    clf = FusionClassifier(**SMALL, num_layers=2, experts=("linear", "forest"))
    clf.fit(make_sequences(80)).model_.beta.fill_(0.7)
    for name, value in clf.model_.graph.named_parameters():
        if name.endswith("time_encoding.weight"):  # starts from zero
            value.fill_(0.5)
        if ".clocks." in name:  # seconds
            value.fill_(0.7)
    return clf


@pytest.fixture(scope="module")
def served_sequences(of_sequences, tmp_path_factory):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    path = tmp_path_factory.mktemp("sequences") / "model.onnx"
    serving.export(of_sequences, path)
    return serving.load(path, threads=1)


@pytest.mark.long
@pytest.mark.parametrize("num", [1, 17])
def test_sequences_are_exported_for_every_subset(of_sequences, served_sequences, num):
    changed = make_sequences(num)
    earlier = changed.columns["labs"].time
    if len(earlier):
        earlier -= 100
        before = of_sequences.predict_proba(make_sequences(num))
        assert np.abs(of_sequences.predict_proba(changed) - before).max() > 1e-4
    outputs = []
    for seed, kept in enumerate(SUBSETS):
        data = make_sequences(num, seed, kept)
        outputs.append(served_sequences.predict_proba(data))
        expected = of_sequences.predict_proba(data)
        np.testing.assert_allclose(outputs[-1], expected, atol=1e-5)
    prior = of_sequences.model_.ensemble.pool.prior.softmax(0)  # the last one is empty
    np.testing.assert_allclose(outputs[-1], prior.expand(num, 2), atol=1e-6)
    assert np.ptp(np.concatenate(outputs)) > 0.1


@pytest.mark.long
def test_what_stands_behind_the_end_of_a_sequence_is_not_read(served_sequences):
    data = make_sequences(9)
    feed = read_samples(data, served_sequences.inputs)
    most = {name: data.columns[name].lengths.max() for name in RAGGED}
    assert feed["input.ecg"].shape == (9, most["ecg"], 2)
    assert feed["length.ecg"].shape == (9,)
    assert feed["time.move"].shape == (9, most["move"])
    [result] = served_sequences.session.run(None, feed)
    for name in RAGGED:
        steps = np.arange(feed[f"input.{name}"].shape[1])
        feed[f"input.{name}"][steps >= feed[f"length.{name}"][:, None]] = 1e30
    steps = np.arange(most["move"])
    feed["time.move"][steps >= feed["length.move"][:, None]] = np.nan
    assert np.array_equal(served_sequences.session.run(None, feed)[0], result)
    longer = np.pad(feed["input.ecg"], ((0, 0), (0, 40), (0, 0)))
    [again] = served_sequences.session.run(None, feed | {"input.ecg": longer})
    np.testing.assert_allclose(again, result, atol=1e-6)


@pytest.mark.long
def test_sequences_are_taken_as_arrays_and_lists(of_sequences, served_sequences):
    rng = np.random.default_rng(0)
    ecg = rng.normal(size=(4, 12, 2))
    expected = of_sequences.predict_proba(MultimodalData.from_arrays({"ecg": ecg}))
    for given in (ecg, list(ecg)):
        outputs = served_sequences.predict_proba({"ecg": given})
        np.testing.assert_allclose(outputs, expected, atol=1e-5)
    some = served_sequences.predict_proba({"ecg": [ecg[0], None]})
    np.testing.assert_allclose(some[0], expected[0], atol=1e-5)
    one_row = {"ecg": [ecg[0, 0]]}  # looks like a vector
    outputs = served_sequences.predict_proba(MultimodalData.from_arrays(one_row))
    again = served_sequences.predict_proba({"ecg": [ecg[0, :1]]})
    np.testing.assert_allclose(outputs, again, atol=1e-6)
    assert served_sequences.predict_proba({"ecg": []}).shape == (0, 2)


@pytest.mark.long
def test_sequences_that_do_not_fit_are_rejected(served_sequences):
    with pytest.raises(DataError, match="'move' must have times, got none"):
        served_sequences.predict_proba({"move": np.zeros((2, 3, 1))})
    untimed = MultimodalData.from_arrays({"move": np.zeros((2, 3, 1))})
    with pytest.raises(DataError, match="'move' must have times, got none"):
        served_sequences.predict_proba(untimed)
    with pytest.raises(DataError, match=r"'ecg' must .*2.* got .*5"):
        served_sequences.predict_proba({"ecg": np.zeros((2, 3, 5))})
    with pytest.raises(DataError, match="'ecg' must be finite"):
        served_sequences.predict_proba({"ecg": np.full((2, 3, 2), np.inf)})


def make_clocks(num, seed=0, kept=(True, True, True)):
    """Data of a vector and of two sequences with times that overlap in part."""
    rng = np.random.default_rng(seed)
    y = np.arange(num) % 2
    content = {"labs": rng.normal(size=(num, 3)).astype(np.float32)}
    seconds = {}
    for name, width in RAGGED.items():
        lengths = rng.integers(0, 25, size=num)
        seconds[name] = [rng.random() + rng.random(t).cumsum() for t in lengths]
        content[name] = [
            (rng.normal(size=(len(t), width)) + np.sin(t + c * t)[:, None]).astype("f4")
            for t, c in zip(seconds[name], y, strict=True)
        ]
        for each in content[name]:
            each[rng.random(each.shape) < 0.1] = np.nan
    present = {n: np.full(num, k) for n, k in zip(content, kept, strict=True)}
    return MultimodalData.from_arrays(content, y=y, times=seconds, present=present)


@pytest.mark.long
def test_views_are_exported_for_every_subset(tmp_path, monkeypatch):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    monkeypatch.setattr("mmgraph.experts.submodels.PAIR_WEIGHTS", (0.0,))
    monkeypatch.setattr("mmgraph.experts.submodels.PRODUCT_WEIGHTS", (1.0,))
    kinds = ("linear", "convolution", "submodels")
    clf = FusionClassifier(**SMALL, num_layers=1, experts=kinds).fit(make_clocks(60))
    assert [view.names for view in clf.model_.ensemble.views] == [
        ("labs",),
        ("ecg",),
        ("move",),
        ("labs", "ecg"),
        ("labs", "move"),
    ]
    serving.export(clf, tmp_path / "model.onnx")
    served = serving.load(tmp_path / "model.onnx", threads=1)
    outputs = []
    for seed, kept in enumerate(SUBSETS):
        for num in (1, 17):
            data = make_clocks(num, seed, kept)
            outputs.append(served.predict_proba(data))
            np.testing.assert_allclose(outputs[-1], clf.predict_proba(data), atol=1e-5)
    assert np.ptp(np.concatenate(outputs)) > 0.1
    data = make_clocks(9)
    feed = read_samples(data, served.inputs)
    for name in RAGGED:  # what is behind the end is not read
        steps = np.arange(feed[f"input.{name}"].shape[1])
        behind = steps >= feed[f"length.{name}"][:, None]
        feed[f"input.{name}"][behind] = 1e30
        feed[f"time.{name}"][behind] = np.nan
    [result] = served.session.run(None, feed)
    np.testing.assert_allclose(result, clf.predict_proba(data), atol=1e-5)


def test_inputs_are_named_with_their_shapes():
    vector = Modality("labs", 3, time=True)
    modalities = [vector, Modality("move", 2, tokens="ragged", time=True)]
    assert serving.inputs_of(Schema.star(modalities)) == {
        "input.labs": ("B", 3),
        "time.labs": ("B",),
        "input.move": ("B", "T", 2),
        "length.move": ("B",),
        "time.move": ("B", "T"),
    }


@pytest.mark.slow
def test_every_flipped_bit_of_an_exported_is_noticed(exported, tmp_path):
    content = exported.read_bytes()
    path = tmp_path / "damaged.onnx"
    for place in np.random.default_rng(0).integers(len(content), size=12):
        wrong = bytearray(content)
        wrong[place] ^= 1 << (place % 8)
        path.write_bytes(wrong)
        with pytest.raises(CheckpointError, match=r"damaged\.onnx' must "):
            serving.load(path)
    (tmp_path / "pipe.onnx").unlink(missing_ok=True)
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(CheckpointError, match="got a pipe or device"):
        serving.load(tmp_path / "pipe.onnx")
