"""Saved models: bit-equal, never partially written, always validated."""

import copy
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from mmgraph import (
    CheckpointError,
    ConfigError,
    Custom,
    FusionClassifier,
    FusionRegressor,
    Latent,
    Modality,
    MultimodalData,
    Relation,
    Schema,
    checkpoint,
)

SMALL: dict[str, Any] = {
    "members": 2,
    "epochs": 2,
    "hidden_channels": 8,
    "num_heads": 2,
    "experts": ("linear", "forest", "joint"),
}
NUM = 30
RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(NUM, 3)), RNG.normal(size=(NUM, 2))
Y = (A[:, 0] > 0).astype(int)
DATA = MultimodalData.from_arrays({"a": A, "b": B}, y=Y)


pytestmark = pytest.mark.usefixtures("few_trees")


@pytest.fixture(scope="module")
def fitted(few_trees) -> FusionClassifier:
    return FusionClassifier(**SMALL).fit(DATA)


@pytest.fixture(scope="module")
def newer(few_trees) -> FusionClassifier:
    return FusionClassifier(**{**SMALL, "seed": 5}).fit(DATA)


@pytest.fixture
def folder(fitted, tmp_path) -> Path:
    fitted.save_pretrained(tmp_path)
    return tmp_path


def manifest_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / checkpoint.MANIFEST).read_text())


def write_manifest(folder: Path, manifest: Any) -> None:
    """Write a manifest under a hash that fits, as an attacker can."""
    if checkpoint.OWN_HASH in manifest:
        manifest = {**manifest, checkpoint.OWN_HASH: checkpoint._hash_of(manifest)}
    (folder / checkpoint.MANIFEST).write_text(json.dumps(manifest))


def weights_of(folder: Path) -> Path:
    (file,) = folder.glob("*.safetensors")
    return file


def forge(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Save other tensors under the same manifest, with a digest that fits."""
    manifest = manifest_of(folder)
    checkpoint.save(folder, tensors, manifest)


# What is loaded is what was saved


@pytest.mark.parametrize(
    ("kind", "y", "options"),
    [
        (FusionClassifier, Y, {}),
        (FusionClassifier, np.array(["no", "yes"])[Y], {"experts": ("linear",)}),
        (FusionClassifier, Y.astype(np.float32) + 0.0, {"completion": True}),
        (FusionClassifier, Y == 1, {"capacity": "full", "feed_forward": "mixture"}),
        (FusionClassifier, np.c_[Y, 1 - Y], {"experts": ("spline", "forest")}),
        (FusionRegressor, A[:, 0], {}),
        (FusionRegressor, 1e6 * A[:, :2], {}),
    ],
    ids=["classes", "strings", "floats", "booleans", "labels", "number", "numbers"],
)
def test_loaded_estimator_predicts_the_same_bits(kind, y, options, tmp_path):
    estimator = kind(**{**SMALL, **options}).fit(DATA, y)
    estimator.model_.beta.fill_(0.5)  # so that the graph has its say
    estimator.save_pretrained(tmp_path / "new" / "folder")
    loaded = kind.from_pretrained(tmp_path / "new" / "folder")
    assert loaded.get_params() == estimator.get_params()
    for data in (DATA, DATA.select(["b"]), DATA[:1], DATA[:0]):
        predicted = loaded.predict(data)
        assert np.array_equal(predicted, estimator.predict(data))
        assert predicted.dtype == estimator.predict(data).dtype
    if kind is FusionClassifier:
        assert np.array_equal(loaded.classes_, estimator.classes_)
        predicted = loaded.predict_proba(DATA)
        assert np.array_equal(predicted, estimator.predict_proba(DATA))
        balanced = loaded.predict(DATA, balanced=True)
        assert np.array_equal(balanced, estimator.predict(DATA, balanced=True))
    state = estimator.model_.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in loaded.model_.state_dict().items())


def test_arrays_and_unseen_modalities_are_remembered(tmp_path):
    estimator = FusionRegressor(**SMALL).fit(A, Y)
    estimator.save_pretrained(tmp_path)
    loaded = FusionRegressor.from_pretrained(tmp_path, device="cpu")
    assert loaded.n_features_in_ == 3
    assert np.array_equal(loaded.predict(A), estimator.predict(A))
    unseen = DATA.mask({"b": np.zeros(NUM, bool)})
    estimator = FusionClassifier(**SMALL).fit(unseen)
    estimator.save_pretrained(tmp_path)
    loaded = FusionClassifier.from_pretrained(tmp_path)
    predicted = loaded.predict_proba(DATA)
    assert np.array_equal(predicted, estimator.predict_proba(unseen))


def test_numpy_options_are_saved_as_numbers(tmp_path):
    estimator = FusionClassifier(**SMALL).set_params(
        seed=np.int64(3), learning_rate=np.float64(0.01)
    )
    estimator.fit(DATA).save_pretrained(tmp_path)
    loaded = FusionClassifier.from_pretrained(tmp_path)
    assert loaded.get_params() == estimator.get_params()
    assert type(loaded.seed) is int


def test_functions_of_a_schema_are_asked_for_by_name(tmp_path):
    schema = Schema(
        [Modality("a", 3), Modality("b", 2)],
        [Latent("fuse")],
        [
            Relation("a", "fuse", topology=Custom(every_node, "every")),
            Relation("b", "fuse"),
        ],
    )
    estimator = FusionClassifier(**SMALL, schema=schema).fit(DATA)
    estimator.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="needs the function 'every'"):
        FusionClassifier.from_pretrained(tmp_path)
    loaded = FusionClassifier.from_pretrained(tmp_path, functions={"every": every_node})
    assert loaded.schema == schema
    assert np.array_equal(loaded.predict_proba(DATA), estimator.predict_proba(DATA))


BESIDE = Relation("b", "fuse")


def every_node(source: Any, target: Any) -> torch.Tensor:
    same = source.sample[:, None] == target.sample
    return same.nonzero().T


def test_manifest_names_schema_and_weights(folder, fitted):
    manifest = manifest_of(folder)
    inputs = manifest["inputs"]
    assert inputs["schema_hash"] == fitted.schema_.hash
    assert Schema.from_json(inputs["schema"]) == fitted.schema_
    assert manifest["weights_sha256"][:16] in weights_of(folder).name
    assert manifest["estimator"] == "FusionClassifier"
    text = (folder / checkpoint.MANIFEST).read_text()
    assert text == json.dumps(manifest, indent=1, sort_keys=True) + "\n"


@pytest.mark.slow
def test_no_pickle_is_opened(folder):
    program = f"""
import sys
opened = []
sys.addaudithook(lambda name, _: name == "pickle.find_class" and opened.append(name))
import pickle
import mmgraph
opened.clear()
pickle.loads(pickle.dumps(print))
assert opened, "the hook must see a pickle"
opened.clear()
model = mmgraph.FusionClassifier.from_pretrained({str(folder)!r})
model.predict(mmgraph.MultimodalData.from_arrays({{"a": [[1.0, 2.0, 3.0]]}}))
sys.exit(len(opened))
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr


# Any change of the manifest is noticed


def test_edited_manifests_are_refused(folder):
    path = folder / checkpoint.MANIFEST
    text, rule = path.read_text(), "must have the content whose SHA-256 is its"
    edits = [
        ('"classes": [\n   0,\n   1', '"classes": [\n   1,\n   0'),
        ('"hidden_channels": 8', '"hidden_channels": 9'),
        ('"format": 3', '"format": 2'),
    ]
    for before, after in edits:
        assert before in text
        path.write_text(text.replace(before, after))
        with pytest.raises(CheckpointError, match=rule):
            FusionClassifier.from_pretrained(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m["target"].update(classes=[1, 0]), r"classes must be a sorted li"),
        (lambda m: m["target"].update(classes=[0, 0]), r"classes must be a sorted li"),
        (lambda m: m["target"].update(classes=[0, 1.5]), r"classes must be a sorted "),
        (lambda m: m["target"].update(classes=[0, 1, 2]), r"size mismatch"),
        (
            lambda m: m["inputs"].update(channels={"a": ["x", 5, "z"]}),
            r"'a' must be st",
        ),
        (lambda m: m["inputs"].update(channels={"a": ["x"]}), r"must have 3 channel n"),
        (lambda m: m["inputs"].update(channels={"c": ["x"]}), r"'c' is unknown"),
        (lambda m: m["inputs"].update(widths=[3, 2.0]), r"widths must be integers"),
        (lambda m: m["inputs"].update(widths=[3]), r"Every modality must have a width"),
        (lambda m: m["ensemble"].update(joint=m["ensemble"]["joint"] * 10_000), r"got"),
        (lambda m: m.update(parts_sha256=5), r"must name the parts of the model, got"),
    ],
)
def test_contradictions_under_a_right_hash_are_named(folder, edit, message):
    manifest = manifest_of(folder)
    edit(manifest)
    write_manifest(folder, manifest)
    with pytest.raises(CheckpointError, match=message):
        FusionClassifier.from_pretrained(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder, value):
    tensors = load_file(weights_of(folder))
    name = next(n for n, v in tensors.items() if v.dtype == torch.float32)
    tensors[name].view(-1)[0] = value
    forge(folder, tensors)
    with pytest.raises(CheckpointError, match=rf"Tensor '{name}' must hold finite"):
        FusionClassifier.from_pretrained(folder)


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_divisors_must_be_positive(folder, value):
    tensors = load_file(weights_of(folder))
    name = next(n for n in tensors if n.endswith("scaler.scale"))
    tensors[name].view(-1)[0] = value
    forge(folder, tensors)
    with pytest.raises(CheckpointError, match=rf"'{name}' must hold positive numbers"):
        FusionClassifier.from_pretrained(folder)


def test_predictions_of_changed_weights_are_finite_or_refused(fitted):
    refused = []
    for name, tensor in fitted.model_.state_dict().items():
        if tensor.is_floating_point():
            changed = copy.copy(fitted)
            changed.model_ = copy.deepcopy(fitted.model_)
            changed.model_.state_dict()[name].fill_(1e38)
            try:
                assert np.isfinite(changed.predict_proba(DATA)).all(), name
            except CheckpointError as error:
                refused.append(str(error))
    assert refused
    assert all("must be finite, got NaN or infinity for" in each for each in refused)


def test_a_pipe_is_refused(folder):
    (folder / checkpoint.MANIFEST).unlink()
    os.mkfifo(folder / checkpoint.MANIFEST)
    with pytest.raises(CheckpointError, match="must be a regular file, got a pipe"):
        FusionClassifier.from_pretrained(folder)


# Several processes use one folder


def in_processes(*actions: Any) -> list[int]:
    """Run functions in forked processes at the same time; return exit codes."""
    pids = []
    for action in actions:
        pid = os.fork()
        if not pid:
            try:
                action()
                os._exit(0)
            except BaseException:
                os._exit(1)
        pids.append(pid)
    return [os.waitpid(pid, 0)[1] for pid in pids]


def many_saves(folder: Path, *models: dict[str, Any]) -> Any:
    def save() -> None:
        for _ in range(15):
            for tensors in models:
                checkpoint.save(folder, tensors, {"run": 1})

    return save


@pytest.mark.parametrize("error", [CheckpointError("gone"), FileNotFoundError("gone")])
def test_files_that_vanish_are_read_again(tmp_path, monkeypatch, error):
    """Also if inode, time and size of two manifests are equal."""
    checkpoint.save(tmp_path, {"w": torch.ones(2)}, {"run": 1})
    load, failures = checkpoint._load, iter([error])

    def replaced_while_it_is_read(folder):
        for error in failures:
            raise error
        return load(folder)

    monkeypatch.setattr(checkpoint, "_stamp", lambda _: ())
    monkeypatch.setattr(checkpoint, "_load", replaced_while_it_is_read)
    assert checkpoint.load(tmp_path).tensors["w"].tolist() == [1, 1]


def test_savers_and_readers_share_a_folder(tmp_path):
    """Every load gets one of the models, and one model stays at the end."""
    models = [{"w": torch.full((1000,), float(i))} for i in range(4)]
    checkpoint.save(tmp_path, models[0], {"run": 1})

    def read() -> None:
        for _ in range(60):
            w = checkpoint.load(tmp_path).tensors["w"]
            assert bool((w == w[0]).all())

    savers = [many_saves(tmp_path, *pair) for pair in (models[:2], models[2:])]
    assert in_processes(*savers, read, read) == [0] * 4
    checkpoint.load(tmp_path)
    assert len(os.listdir(tmp_path)) == 2


def test_killed_saves_leave_no_files(tmp_path):
    models = [{"w": torch.full((1000,), float(i))} for i in range(2)]
    checkpoint.save(tmp_path, models[0], {})
    for number in range(12):
        pid = os.fork()
        if not pid:
            while True:
                many_saves(tmp_path, *models)()
        time.sleep(0.003 * number % 0.011)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        checkpoint.load(tmp_path)
    checkpoint.save(tmp_path, models[0], {})
    assert len(os.listdir(tmp_path)) == 2


def test_files_of_others_stay(folder, newer):
    other = "model-00001-of-00002.safetensors", "part-list.bin", ".hidden.tmp"
    for name in other:
        (folder / name).write_text("mine")
    newer.save_pretrained(folder)
    assert {*other} <= {*os.listdir(folder)}
    assert len(os.listdir(folder)) == 6


# Whatever interrupts a save, the old model stays


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_interrupted_save_leaves_the_old_model(
    folder, newer, monkeypatch, call, at, error
):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    real, calls = getattr(os, call), []

    def failing(*args: Any) -> Any:
        calls.append(args)
        if len(calls) == at:
            raise error
        return real(*args)

    monkeypatch.setattr(os, call, failing)
    expected = CheckpointError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        newer.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    monkeypatch.undo()
    newer.save_pretrained(folder)
    loaded = FusionClassifier.from_pretrained(folder)
    assert np.array_equal(loaded.predict_proba(DATA), newer.predict_proba(DATA))
    assert len(list(folder.iterdir())) == 3


def test_an_interrupt_after_the_rename_leaves_the_new_model(folder, newer, monkeypatch):
    """The new manifest is in place: the files it names stay."""
    real = os.replace

    def interrupted(source: Any, target: Any) -> None:
        real(source, target)
        if Path(target).name == checkpoint.MANIFEST:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        newer.save_pretrained(folder)
    monkeypatch.undo()
    loaded = FusionClassifier.from_pretrained(folder)
    assert np.array_equal(loaded.predict_proba(DATA), newer.predict_proba(DATA))
    newer.save_pretrained(folder)
    assert len(os.listdir(folder)) == 3


def test_folder_that_cannot_be_written_is_named(fitted, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"Model folder .*file cannot be written"):
        fitted.save_pretrained(tmp_path / "file")


def test_saving_again_changes_nothing(folder, fitted):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    fitted.save_pretrained(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


# Damaged and foreign files


def test_damaged_weights_are_named(folder):
    file = weights_of(folder)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    for wrong in (bytes(content), bytes(content[:-9]), b""):
        file.write_bytes(wrong)
        with pytest.raises(CheckpointError, match=r"safetensors must have the SHA-256"):
            FusionClassifier.from_pretrained(folder)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"safetensors cannot be read: No such"):
        FusionClassifier.from_pretrained(folder)


def test_missing_model_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"^\S+json cannot be read: No such"):
        FusionClassifier.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "mmgraph.json must be JSON"),
        (b"\xff\xfe", "mmgraph.json must be JSON"),
        (b"", "mmgraph.json must be JSON"),
        (b"[" * 100_000, "mmgraph.json must be JSON"),
        (b"9" * 10_000, "mmgraph.json must be JSON"),
        (b"[]", "mmgraph.json must be of format 3 or older, got None"),
        (b"{}", "mmgraph.json must be of format 3 or older, got None"),
        (b'{"format": 99}', "mmgraph.json must be of format 3 or older, got 99"),
        (b'{"format": true}', "mmgraph.json must be of format 3 or older, got True"),
        (b'{"format": 3}', "mmgraph.json must have the content whose SHA-256 is its"),
        (b'{"format": 2}', "mmgraph.json must name the SHA-256 of the weights"),
        (
            b'{"format": 2, "weights_sha256": "../../x"}',
            "mmgraph.json must name the SHA-256 of the weights",
        ),
    ],
)
def test_foreign_manifest_is_named(folder, content, message):
    (folder / checkpoint.MANIFEST).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        FusionClassifier.from_pretrained(folder)


def test_other_estimator_is_refused(folder):
    with pytest.raises(CheckpointError, match=r"must hold a FusionRegressor, got 'Fus"):
        FusionRegressor.from_pretrained(folder)


def test_unknown_device_is_not_blamed_on_the_files(folder):
    with pytest.raises(ConfigError, match="device must be a device of PyTorch"):
        FusionClassifier.from_pretrained(folder, device="toaster")


LATER = {
    "feature_names_in",
    "out_of_fold_score",
    "training_summary",
}  # models of formats 1 and 2 lack them


def test_every_key_is_needed(folder):
    manifest = manifest_of(folder)
    for key in manifest.keys() - LATER:
        write_manifest(folder, {k: v for k, v in manifest.items() if k != key})
        with pytest.raises(CheckpointError, match=str(folder)):
            FusionClassifier.from_pretrained(folder)


@pytest.mark.parametrize("value", [10**6, 10**12, 10**30, -1, 1e300, None, "x", [], {}])
@pytest.mark.parametrize(
    "path",
    [
        ("params", "hidden_channels"),
        ("params", "num_layers"),
        ("params", "members"),
        ("inputs", "widths", 0),
        ("ensemble", "experts", 0, -1, "num_trees"),
        ("ensemble", "experts", 0, -1, "num_nodes"),
        ("ensemble", "experts", 0, 0, "num_knots"),
        ("ensemble", "experts", 0),
        ("ensemble", "joint", 0, "num_trees"),
        ("ensemble", "joint", 0, "num_folds"),
        ("ensemble", "num_patterns"),
        ("target", "classes"),
        ("inputs", "unseen"),
    ],
    ids=str,
)
def test_wrong_values_are_refused_without_taking_memory(folder, path, value):
    manifest = manifest_of(folder)
    part: Any = manifest
    for key in path[:-1]:
        part = part[key]
    if part[path[-1]] == value or (path == ("inputs", "unseen") and value == {}):
        return  # what was saved, or as good as it
    part[path[-1]] = value
    write_manifest(folder, manifest)
    with pytest.raises(CheckpointError, match=str(folder)):
        FusionClassifier.from_pretrained(folder)


def test_tensors_of_another_model_are_refused(folder):
    tensors = load_file(weights_of(folder))
    name = next(n for n in tensors if n.endswith("child"))
    double = next(n for n, v in tensors.items() if v.dtype == torch.float32)
    cases = [
        ({**tensors, name: tensors[name] + 10**6}, r"child' must hold indices from 0"),
        ({**tensors, double: tensors[double].double()}, r"must be torch.float32, got"),
        ({k: v for k, v in tensors.items() if k != name}, r"Missing key"),
        ({**tensors, "more": torch.zeros(1)}, r"Unexpected key"),
        ({**tensors, name: tensors[name][:1]}, r"size mismatch"),
    ]
    depth = name.replace("child", "depth")
    cases.append(({**tensors, depth: torch.tensor(2**40)}, "depth' must hold indices"))
    for wrong, message in cases:
        forge(folder, wrong)
        with pytest.raises(CheckpointError, match=message):
            FusionClassifier.from_pretrained(folder)


def test_weights_that_are_not_safetensors_are_refused(folder):
    manifest, content = manifest_of(folder), b"\x80\x04not tensors at all"
    manifest["weights_sha256"] = digest = hashlib.sha256(content).hexdigest()
    manifest["weights_bytes"] = len(content)
    (folder / checkpoint.WEIGHTS.format(digest[:16])).write_bytes(content)
    write_manifest(folder, manifest)
    with pytest.raises(CheckpointError, match=r"safetensors must hold tensors, got"):
        FusionClassifier.from_pretrained(folder)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.text(max_size=5)
)
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.just({})


def paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    return [prefix, *(p for k, v in items for p in paths(v, (*prefix, k)))]


@pytest.mark.filterwarnings("ignore::mmgraph.errors.DataWarning")  # edited ranges
@pytest.mark.slow
@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(draw=st.data())
def test_mutated_manifest_is_refused_or_loads(saved, draw):
    folder, original = saved
    manifest = copy.deepcopy(original)
    path = draw.draw(st.sampled_from(paths(manifest)[1:]))
    part: Any = manifest
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = draw.draw(VALUES)
    write_manifest(folder, manifest)
    try:
        loaded = FusionClassifier.from_pretrained(folder)
    except CheckpointError as error:
        refused = str(error)
    else:
        refused = str(folder)
        assert np.isfinite(loaded.predict_proba(DATA[:2])).all()
    assert str(folder) in refused


@pytest.fixture
def saved(folder) -> tuple[Path, dict[str, Any]]:
    return folder, manifest_of(folder)
