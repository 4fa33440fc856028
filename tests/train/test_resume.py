"""Resumed training: bit-equal to an uninterrupted one, for the same run only."""

import copy

import numpy as np
import pytest
import torch

import mmgraph as mg
from mmgraph import checkpoint
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


def test_models_in_subfolders_stay(data, tmp_path):
    checkpoint.save(tmp_path / "model", {"w": torch.zeros(1)}, {"estimator": "x"})
    checkpoint.save(tmp_path / "steps", {}, {"run": {}, "plain": {}})
    killed = tmp_path / "experts"  # by the first save
    killed.mkdir()
    (killed / f".model-{16 * 'a'}.{16 * '0'}.tmp.safetensors").touch()
    progress_dir.remove_progress(tmp_path)
    assert [part.name for part in tmp_path.iterdir()] == ["model"]
    checkpoint.load(tmp_path / "model")


def _moment(tensors, plain, key="exp_avg"):
    name = next(n for n in sorted(tensors) if n.endswith(f".{key}"))
    return name, tensors[name]


def _short(tensors, plain):
    name, _ = _moment(tensors, plain)
    tensors[name] = torch.zeros(1)


def _empty(tensors, plain):
    name, _ = _moment(tensors, plain, "exp_avg_sq")
    tensors[name] = torch.zeros(0)


def _double(tensors, plain):
    name, moment = _moment(tensors, plain)
    tensors[name] = moment.double()


def _nan(tensors, plain):
    name, moment = _moment(tensors, plain)
    tensors[name] = torch.full_like(moment, torch.nan)


def _negative(tensors, plain):
    name, moment = _moment(tensors, plain, "exp_avg_sq")
    tensors[name] = moment - 1


def _lacking(tensors, plain):
    del tensors[_moment(tensors, plain)[0]]


def _more(tensors, plain):
    tensors["step.optimizer.99999.exp_avg"] = torch.zeros(1)


def _parameter(tensors, plain):
    name = next(n for n in sorted(tensors) if _is_wide(n, tensors[n]))
    tensors[name] = tensors[name][..., :1]


def _is_wide(name, tensor):
    return name.startswith("step.graph.") and tensor.ndim and tensor.shape[-1] > 1


def _indices(tensors, plain):
    tensors["batches.remaining"] = torch.tensor([10**9])


def _generator(tensors, plain):
    tensors["generator"] = tensors["generator"][:10]


def _best(tensors, plain):
    tensors["validation.best_params." + _graph_name(tensors)] = torch.zeros(2, 3)


def _graph_name(tensors):
    names = sorted(n for n in tensors if n.startswith("step.graph."))
    return names[0].removeprefix("step.graph.")


def _rate(tensors, plain):
    plain["optimizer_step"]["groups"][0]["lr"] = 1e30


def _schedule(tensors, plain):
    plain["optimizer_step"]["schedule"]["get_lr"] = 5


def _steps(tensors, plain):
    plain["step"] = 10**9


def _groups(tensors, plain):
    plain["optimizer_step"]["groups"] = []


def _switch(tensors, plain):
    plain["optimizer_step"]["groups"][0]["amsgrad"] = 0  # equals False


FORGED = [_short, _empty, _double, _nan, _negative, _lacking, _more, _parameter]
FORGED += [_indices, _generator, _best, _rate, _schedule, _steps, _groups, _switch]


@pytest.mark.slow
def test_forged_progress_is_refused(data, tmp_path, monkeypatch):
    """Moments of another shape once crashed the process in the fused kernel."""
    path = tmp_path / "progress"
    interrupt(data, path, monkeypatch)
    good = checkpoint.load(path / "steps")
    for forge in FORGED:
        tensors, manifest = dict(good.tensors), copy.deepcopy(good.manifest)
        forge(tensors, manifest["plain"])
        checkpoint.save(path / "steps", tensors, manifest)
        with pytest.raises(mg.CheckpointError, match=r"steps must hold progress of th"):
            fit(data, checkpoint_dir=path)
    checkpoint.save(path / "steps", good.tensors, good.manifest)
    experts = checkpoint.load(path / "experts")
    for name in ("evidence", "present"):
        tensors = {**experts.tensors, name: experts.tensors[name][:1]}
        checkpoint.save(path / "experts", tensors, experts.manifest)
        with pytest.raises(mg.CheckpointError, match=r"experts must hold progress of"):
            fit(data, checkpoint_dir=path)
    manifest = copy.deepcopy(experts.manifest)
    manifest["plain"]["joint"] = manifest["plain"]["experts"] * 1000
    checkpoint.save(path / "experts", experts.tensors, manifest)
    with pytest.raises(mg.CheckpointError, match="base learner must have tensors"):
        fit(data, checkpoint_dir=path)
