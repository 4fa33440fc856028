"""Estimators learn and predict from streams as from data in memory."""

import dataclasses
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fit_within_memory
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mmgraph import FusionClassifier, FusionRegressor, MultimodalData, MultimodalStream
from mmgraph.cli.app import app
from mmgraph.data.stream.sampling import draw_sample
from mmgraph.distributed import SINGLE_PROCESS, ProcessGroup
from mmgraph.errors import DataError
from mmgraph.estimators.supervised import StreamPreparation, sample_size
from mmgraph.train.stream import StreamTraining, count_lanes

SMALL = {
    "members": 2,
    "epochs": 1,
    "hidden_channels": 8,
    "num_heads": 2,
    "experts": ("linear",),
}
NUM = 600


def make_data(num=NUM, seed=0):
    """Two modalities with an interaction, each missing for some samples."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(2, num, 4))
    noise = rng.logistic(size=num) / 4
    y = (a[:, 0] + 2 * a[:, 1] * b[:, 1] + noise > 0).astype(int)
    a[::7], b[::5] = np.nan, np.nan
    return MultimodalData.from_arrays({"a": a, "b": b}, y=y)


def write_shards(data, folder, size=80):
    for start in range(0, len(data), size):
        rows = np.arange(start, min(start + size, len(data)))
        data[rows].to_parquet(folder / f"{start:05}.parquet")
    return folder


@pytest.fixture(scope="module")
def data():
    return make_data()


@pytest.fixture(scope="module")
def folder(data, tmp_path_factory):
    return write_shards(data, tmp_path_factory.mktemp("shards"))


@pytest.fixture(scope="module")
def fitted(data):
    return FusionClassifier(**SMALL).fit(data)


@pytest.fixture(scope="module")
def stream(folder):
    """A stream whose memory allows a sample of some hundred of its 600 samples."""
    return MultimodalStream.from_parquet(folder, memory=160 * 4 * 8 * 150)


def fit_and_capture(stream, **options) -> StreamTraining:
    """Fit a classifier to a stream; return the source of its training batches."""
    sources = []

    class Capturing(FusionClassifier):
        def _fit_all(self, labeled, processes, extend=None):
            def captured(training):
                sources.append(extend(training)[0])
                return extend(training)

            super()._fit_all(labeled, processes, captured)

    Capturing(**{**SMALL, **options}).fit(stream)
    (source,) = sources
    return source


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_predictions_from_a_stream_equal_those_from_memory(fitted, data, stream):
    proba = fitted.predict_proba(data)
    np.testing.assert_allclose(fitted.predict_proba(stream), proba, atol=1e-6)
    assert np.array_equal(fitted.predict(stream), fitted.predict(data))
    np.testing.assert_allclose(
        fitted.transform(stream), fitted.transform(data), atol=1e-5
    )
    assert fitted.score(stream) == fitted.score(data)


def test_stream_that_fits_into_memory_is_fitted_as_data(fitted, folder, data):
    stream = MultimodalStream.from_parquet(folder)
    other = FusionClassifier(**SMALL).fit(stream)
    assert np.array_equal(other.predict_proba(data), fitted.predict_proba(data))


@pytest.mark.slow
def test_graph_learns_from_more_than_the_sample(folder, tmp_path):
    train = make_data(4000, 1)
    write_shards(train, tmp_path, 1000)
    stream = MultimodalStream.from_parquet(tmp_path, memory=160 * 4 * 8 * 150)
    assert sample_size(stream) == 150
    options = {**SMALL, "epochs": 6, "hidden_channels": 16}
    test = make_data(1000, 2)
    streamed = FusionClassifier(**options).fit(stream)
    assert streamed.history_.steps == 6 * round(4000 / 64)
    alone = FusionClassifier(**options).fit(train[np.arange(150)])
    assert streamed.score(test) > alone.score(test) + 0.05


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_stays_far_below_what_all_samples_take(tmp_path):
    few, many = tmp_path / "few", tmp_path / "many"
    few.mkdir()
    many.mkdir()
    fit_within_memory.write(few / "0.parquet", fit_within_memory.FEW, 0)
    for number in range(fit_within_memory.NUM_SHARDS):
        path = many / f"{number}.parquet"
        fit_within_memory.write(path, fit_within_memory.SHARD, number)
    here = Path(__file__).parents[1] / "helpers"
    script = [sys.executable, str(here / "fit_within_memory.py")]
    done = subprocess.run(
        [*script, str(few), str(many), str(fit_within_memory.MEMORY)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(here.parents[1])},
        check=True,
        capture_output=True,
        text=True,
    )
    megabytes, steps = json.loads(done.stdout)
    assert steps > 40  # of 117; training may stop early
    assert megabytes < 30  # samples alone take 59


def test_sampled_ones_keep_their_out_of_fold_evidence(stream):
    source = fit_and_capture(stream, experts=("linear", "joint"))
    preparation = source.prepare.__self__
    assert isinstance(preparation, StreamPreparation)
    keys, sample = preparation.keys, source.sample
    assert 64 <= len(keys) < NUM
    assert set(sample.member_weights.unique().tolist()) == {0.0, 1.0}
    held = sample.member_weights == 0
    assert torch.equal(held[0], held[1])
    assert 0.1 < held.float().mean() < 0.3
    chunks = stream.chunks(NUM)
    chunk = next(chunks)
    y, labeled = source.targets(chunk)
    assert len(labeled) == NUM
    block = source.prepare(chunk, chunks.keys, y)
    assert torch.equal(block.evidence[keys], sample.evidence)
    assert torch.equal(block.member_weights[:, keys], sample.member_weights)
    others = np.setdiff1d(np.arange(NUM), keys)
    assert (block.member_weights[:, others] == 1).all()
    inputs = preparation.inputs
    features = inputs.features(inputs.read(stream.load()))
    refitted = preparation.model.ensemble.evidence(features)[0]
    torch.testing.assert_close(block.evidence[others], refitted[others])
    assert not torch.allclose(block.evidence[keys], refitted[keys])
    rows = torch.arange(NUM)
    joint = block.joint_evidence(block.present, rows)
    assert torch.equal(
        joint[keys], sample.joint_evidence(sample.present, rows[: len(keys)])
    )
    held_out = source.validation_batch(1000, torch.Generator())
    assert (held_out.member_weights == 0).all()


@pytest.fixture(scope="module")
def source(stream):
    """Source of the batches of a fit, which reads chunks of several batches."""
    narrow = dataclasses.replace(stream, memory=16 * 100 * stream.row_bytes)
    return dataclasses.replace(fit_and_capture(stream), stream=narrow)


class Thread(ProcessGroup):
    """Process that is simulated by a thread, with exchange over a shared board."""

    def __new__(cls, *_):
        return object.__new__(cls)

    def __init__(self, rank, board):
        super().__init__(rank, len(board))
        object.__setattr__(self, "board", board)

    def _exchange(self, mine):
        self.board[self.rank] = mine
        self.board.barrier.wait(timeout=60)
        everyones = list(self.board)
        self.board.barrier.wait(timeout=60)
        return everyones

    def sum(self, x):
        return sum(self._exchange(x))

    def gather(self, text):
        return self._exchange(text)


class Board(list):
    def __init__(self, size):
        super().__init__([None] * size)
        self.barrier = threading.Barrier(size)


def in_threads(size, action):
    """Run a function in each of several processes; return the results."""
    board = Board(size)
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda rank: action(Thread(rank, board)), range(size)))


def first_batches(source, processes, num=80):
    batches = source.batches(16, torch.Generator(), processes)
    return [next(batches) for _ in range(num)], batches


@pytest.mark.slow
@pytest.mark.parametrize(("size", "num_lanes"), [(2, 4), (3, 4), (4, 2), (6, 1)])
def test_processes_prepare_the_parts_of_one_batch(source, size, num_lanes, monkeypatch):
    monkeypatch.setattr("mmgraph.train.stream.PARTS_OF_LANE", 8 // num_lanes)
    assert count_lanes(source.stream) == num_lanes
    expected, whole = first_batches(source, SINGLE_PROCESS)
    found = in_threads(size, lambda processes: first_batches(source, processes))
    for number, batch in enumerate(expected):
        mine = [batches[number] for batches, _ in found]
        assert [part.total for part in mine] == [len(batch)] * size
        before = np.cumsum([0, *map(len, mine)])
        assert [part.first for part in mine] == before[:-1].tolist()
        assert torch.equal(torch.cat([part.y for part in mine]), batch.y)
        evidence = torch.cat([part.evidence for part in mine])
        torch.testing.assert_close(evidence, batch.evidence)
    sizes = [sum(map(len, batches)) for batches, _ in found]
    assert sum(sizes) == sum(map(len, expected))
    assert (
        max(sizes) - min(sizes) <= len(expected) * 2
    )  # rounding, and a shard that is shorter

    def one_more(processes):
        late = source.batches(16, torch.Generator(), processes)
        late.load_state(found[processes.rank][1].state())
        return next(late)

    again = torch.cat([part.y for part in in_threads(size, one_more)])
    assert torch.equal(again, next(whole).y)


class RecordedSource:
    """Source that records the parts and keys that are read."""

    def __init__(self, source):
        self.source, self.parts, self.keys = source, [], []

    def __getattr__(self, name):
        return getattr(self.source, name)

    def read(self, span, size):
        self.parts.append(span.part)
        return self.source.read(span, size)


def read_a_pass(source, processes):
    """Read one pass; return the parts that were opened, and the samples."""
    recorded = RecordedSource(source.stream.source)
    stream = dataclasses.replace(source.stream, source=recorded)
    _ = stream.schema  # reads the first samples
    recorded.parts = []

    def prepare(chunk, keys, y):
        recorded.keys.append(keys)
        return source.prepare(chunk, keys, y)

    recording = dataclasses.replace(source, stream=stream, prepare=prepare)
    batches = recording.batches(16, torch.Generator(), processes)
    total = 0
    while total < NUM:
        total += next(batches).total
    assert batches.batch == len(batches.parts)
    assert not batches.epoch
    return recorded.parts, np.concatenate(recorded.keys).tolist()


def test_processes_read_disjoint_lanes(source):
    parts, samples = read_a_pass(source, SINGLE_PROCESS)
    assert sorted(parts) == list(range(8))
    assert sorted(samples) == list(range(NUM))
    found = in_threads(2, lambda processes: read_a_pass(source, processes))
    assert [len(parts) for parts, _ in found] == [4, 4]
    assert sorted(found[0][0] + found[1][0]) == list(range(8))
    assert sorted(found[0][1] + found[1][1]) == list(range(NUM))


def test_a_pass_gives_every_labelled_sample_once(source, data):
    y = np.where(np.arange(NUM) % 3 == 1, np.nan, data.y)
    records = [
        {"a": a, "b": b, "y": label}
        for a, b, label in zip(*data.features().values(), y, strict=True)
    ]
    stream = MultimodalStream.from_iterable(
        records, modalities={"a": "a", "b": "b"}, memory=source.stream.memory
    )
    unsized = dataclasses.replace(source, stream=stream)
    batches, taken = unsized.batches(16, torch.Generator()), 0
    while True:
        batch = next(batches)
        if batches.epoch:
            break
        assert 0 < len(batch) <= 16
        taken += len(batch)
    assert taken == np.isfinite(y).sum()


def test_batches_resume_from_a_saved_state(source):
    generator = torch.Generator()
    all_of_them = source.batches(16, generator)
    expected = [next(all_of_them) for _ in range(50)]
    assert sum(map(len, expected)) > NUM
    for done in (0, 1, 7, 30, 49):
        first = source.batches(16, generator)
        for _ in range(done):
            next(first)
        second = source.batches(16, generator)
        second.load_state(first.state())
        batch = next(second)
        assert torch.equal(batch.y, expected[done].y)
        assert torch.equal(batch.evidence, expected[done].evidence)


@pytest.mark.slow
def test_regression_and_unknown_targets(data, tmp_path):
    x = data.columns["a"]
    target = np.full(len(data), np.nan)
    target[x.present] = 3 * x.values[:, 0] + 100
    target[:50] = np.nan
    write_shards(data.replace(y=target), tmp_path)
    stream = MultimodalStream.from_parquet(tmp_path, memory=160 * 4 * 8 * 200)
    assert sample_size(stream) < NUM
    model = FusionRegressor(**{**SMALL, "epochs": 3}).fit(stream)
    again = FusionRegressor(**{**SMALL, "epochs": 3}).fit(stream)
    assert np.array_equal(again.predict(stream), model.predict(stream))
    assert model.score(stream) > 0.8
    assert model.mean_ == pytest.approx(100, abs=1)


@pytest.mark.parametrize("level", ["feature", "model"])
def test_level_of_fusion_is_fitted_to_a_stream(stream, level):
    model = FusionClassifier(**SMALL, level=level).fit(stream)
    assert (model.history_.steps > 0) == (level == "feature")
    assert model.predict_proba(stream).shape == (NUM, 2)


def test_rare_class_outside_the_sample_is_known(data, tmp_path):
    y = np.where(np.arange(NUM) % 200 == 199, "rare", "common")
    write_shards(data.replace(y=y), tmp_path)
    stream = MultimodalStream.from_parquet(tmp_path, memory=160 * 4 * 8 * 80)
    model = FusionClassifier(**SMALL).fit(stream)
    assert model.classes_.tolist() == ["common", "rare"]
    assert model.predict_proba(stream).shape == (NUM, 2)


def test_groups_are_sampled_whole(data, tmp_path):
    groups = np.arange(NUM) // 10
    write_shards(data.replace(groups=groups), tmp_path)
    stream = MultimodalStream.from_parquet(tmp_path, memory=160 * 4 * 8 * 200)
    sample = draw_sample(stream, sample_size(stream))
    assert (np.unique(sample.data.groups, return_counts=True)[1] == 10).all()
    FusionClassifier(**SMALL).fit(stream)


def test_invalid_streams_are_refused(stream, data, tmp_path):
    with pytest.raises(
        DataError, match="y must be a column of the stream, got a separate"
    ):
        FusionClassifier().fit(stream, data.y)
    tiny = dataclasses.replace(stream, memory=20_000)
    with pytest.raises(DataError, match="memory must hold at least 64 samples"):
        FusionClassifier().fit(tiny)
    write_shards(data.replace(y=None), tmp_path)
    unlabelled = MultimodalStream.from_parquet(tmp_path, memory=stream.memory)
    with pytest.raises(DataError, match="fit needs labels, got a stream without y"):
        FusionClassifier(**SMALL).fit(unlabelled)
    with pytest.raises(DataError, match="fit needs labels"):
        FusionClassifier().fit(MultimodalStream.from_parquet(tmp_path))


@pytest.mark.slow
def test_command_line_takes_folders(folder, data, tmp_path):
    model = tmp_path / "model"
    done = run("train", folder, "--label", "y", "--output", model, "--epochs", 1)
    assert done.exit_code == 0, done.output
    assert "600 samples" in done.stdout
    data.to_parquet(tmp_path / "all.parquet")
    lines = []
    for file in (folder, tmp_path / "all.parquet"):
        done = run("predict", model, file)
        assert done.exit_code == 0, done.output
        lines.append(done.stdout.splitlines())
    assert len(lines[0]) == NUM + 1
    assert lines[0][:3] == lines[1][:3]
    done = run("evaluate", model, folder, "--missing", 0, ".5")
    assert done.exit_code == 0, done.output
    assert "AUROC" in done.stdout
    done = run("embed", folder, "--model", model, "--output", tmp_path / "z.npy")
    assert done.exit_code == 0, done.output
    assert "600 embeddings" in done.stdout
    (tmp_path / "empty").mkdir()
    done = run("predict", model, tmp_path / "empty")
    assert done.exit_code == 2
    assert "must hold files that end in .parquet, or in .png" in done.stderr
