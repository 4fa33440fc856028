"""Resumed training: bit-equal to an uninterrupted one, for the same run only."""

import numpy as np
import pytest

import mmgraph as mg
from mmgraph.train import progress_dir
from mmgraph.train.step import TrainStep

OPTIONS = {
    "epochs": 8,
    "batch_size": 32,
    "members": 2,
    "hidden_channels": 16,
    "experts": ("linear",),
    "completion": True,
    "seed": 0,
}
STOPPED_AT = 14  # of 24


@pytest.fixture(autouse=True)
def _keep_every_check(monkeypatch):
    monkeypatch.setattr(progress_dir, "MAX_SAVES", 0)


@pytest.fixture
def data():
    return mg.load_dataset("heart")[range(100)]


def interrupt(data, path, monkeypatch, **options):
    """Fit until the step ``STOPPED_AT``, and stop there."""
    with monkeypatch.context() as patch:
        taken, optimizer_step = [], TrainStep.__call__

        def step(self, part):
            if len(taken) == STOPPED_AT:
                raise KeyboardInterrupt
            taken.append(len(part))
            optimizer_step(self, part)

        patch.setattr(TrainStep, "__call__", step)
        with pytest.raises(KeyboardInterrupt):
            fit(data, checkpoint_dir=path, **options)


def fit(data, **options):
    return mg.FusionClassifier(**{**OPTIONS, **options}).fit(data)


@pytest.mark.slow
def test_an_interrupted_fit_ends_with_the_bits_of_an_uninterrupted_one(
    data, tmp_path, monkeypatch
):
    path = tmp_path / "progress"
    expected = fit(data)
    interrupt(data, path, monkeypatch)
    assert {part.name for part in path.iterdir()} == {"experts", "steps"}
    found = fit(data, checkpoint_dir=path)
    assert found.history_.resumed == STOPPED_AT
    assert found.history_.steps == expected.history_.steps > STOPPED_AT
    assert found.history_.held_out_loss == expected.history_.held_out_loss
    tensors = found.model_.state_dict()
    for name, value in expected.model_.state_dict().items():
        assert np.array_equal(value.numpy(), tensors[name].numpy(), equal_nan=True)
    assert not path.exists()


def test_other_files_in_the_folder_stay(data, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "figures").mkdir()
    fit(data, epochs=1, checkpoint_dir=tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"notes.txt", "figures"}


@pytest.mark.parametrize("other", ["epochs", "data", "seed"])
def test_progress_of_another_run_is_refused(data, tmp_path, monkeypatch, other):
    interrupt(data, tmp_path, monkeypatch)
    options = {"checkpoint_dir": tmp_path, other: 9} if other != "data" else {}
    seen = data if other != "data" else data[range(99)]
    with pytest.raises(
        mg.CheckpointError, match=f"progress with other {other}. Train wi"
    ):
        fit(seen, **{"checkpoint_dir": tmp_path, **options})


def test_damaged_progress_is_refused(data, tmp_path, monkeypatch):
    interrupt(data, tmp_path, monkeypatch)
    (weights,) = (tmp_path / "steps").glob("*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(mg.CheckpointError, match="must have the SHA-256"):
        fit(data, checkpoint_dir=tmp_path)


def test_saves_take_a_small_part_of_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(progress_dir, "MAX_SAVES", 20)
    now = [100.0]
    monkeypatch.setattr(progress_dir.time, "monotonic", lambda: now[0])
    progress = progress_dir.CheckpointDir(tmp_path, {})

    def slow(*_):
        now[0] += 2

    monkeypatch.setattr(progress_dir, "save", slow)
    assert progress.is_due("steps")
    progress.save("steps", {}, {})
    now[0] += 39
    assert not progress.is_due("steps")
    now[0] += 2
    assert progress.is_due("steps")
