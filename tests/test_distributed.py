"""Training in several processes: equal models, one error message, resumed fits."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import fit_in_processes
import pytest
import stream_in_processes
import torch
import toy_ensemble

import mmgraph as mg
from mmgraph import checkpoint
from mmgraph.config import TrainConfig
from mmgraph.distributed import SINGLE_PROCESS, ProcessGroup, init_process_group
from mmgraph.train.step import Objective
from mmgraph.workflows.train import train_file

HERE = Path(__file__).parent / "helpers"


@dataclass(frozen=True)
class Part(ProcessGroup):
    """One of several processes, whose summands are recorded and then replaced."""

    noted: list[torch.Tensor] = field(default_factory=list)
    total: list[torch.Tensor] = field(default_factory=list)

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        """Record the summand; return the total once it is set."""
        self.noted.append(x.detach().clone())
        return self.total[0] if self.total else self.noted[-1]


@dataclass(frozen=True)
class Gathering(ProcessGroup):
    """One of several processes, with given texts of the others."""

    others: tuple[str, ...] = ()

    def gather(self, text: str) -> list[str]:
        """Return the texts of all processes, in order of rank."""
        others = list(self.others)
        return [*others[: self.rank], text, *others[self.rank :]]


def gradients(graph):
    return {n: p.grad for n, p in graph.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize(("total", "count"), [(7, 5), (2, 2)])
def test_parts_cover_a_batch_in_order_and_may_be_empty(size, total, count):
    shares = [ProcessGroup(rank, size).share(total) for rank in range(size)]
    rows = [row for share in shares for row in range(total)[share]]
    assert rows == list(range(total))
    lengths = [len(range(total)[share]) for share in shares]
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("samples", [1, 2, 23])
@pytest.mark.parametrize(
    "options", [{}, {"completion": True, "feed_forward": "mixture"}]
)
def test_gradients_of_parts_add_up_to_those_of_the_batch(samples, options):
    """Three processes, some without samples; weights and labels are uneven."""
    graph, pool = (x.double() for x in toy_ensemble.build(**options))
    pool.requires_grad_(False)
    data = toy_ensemble.make()
    data = replace(
        data,
        batch_of=lambda rows: toy_ensemble.make().batch_of(rows).to(torch.float64),
        evidence=data.evidence.double(),
        member_weights=data.member_weights.double(),
        y=torch.where(torch.arange(len(data)) % 4 == 1, -1, data.y),
    )
    indices = torch.arange(samples)
    kept = torch.rand(samples, 2, generator=torch.Generator().manual_seed(1)) < 0.5
    whole = Objective(graph, pool, 0.1, SINGLE_PROCESS)(data.take(indices), kept)
    whole.backward()
    expected = gradients(graph)
    processes = [Part(rank, 3) for rank in range(3)]
    for _ in range(2):  # totals are available in the second pass
        graph.zero_grad()
        for one in processes:
            rows = one.share(samples)
            part = replace(data.take(indices[rows]), first=rows.start, total=samples)
            Objective(graph, pool, 0.1, one)(part, kept[rows]).backward()
        sums = torch.stack([one.noted.pop() for one in processes]).sum(0)
        for one in processes:
            one.total[:] = [sums]
    found = gradients(graph)
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-12)
    assert all(not found[name].any() for name in found.keys() - expected.keys())


def test_a_single_process_sends_nothing(monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    assert init_process_group() is SINGLE_PROCESS
    x = torch.ones(2)
    assert SINGLE_PROCESS.sum(x) is x
    assert SINGLE_PROCESS.broadcast(x) is x
    assert SINGLE_PROCESS.broadcast_state(lambda: ({"x": x}, {"n": 1})) == (
        {"x": x},
        {"n": 1},
    )


def test_errors_of_one_process_stop_all_processes():
    def fail():
        raise mg.DataError("no such file")

    with pytest.raises(mg.DataError, match="no such file"):
        Gathering(0, 2, ("",)).run_on_all(fail)
    with pytest.raises(mg.PeerError, match="Process 0 stopped: broken") as caught:
        Gathering(1, 2, ("xbroken",)).run_on_all(fail)
    assert caught.value.reported
    assert Gathering(1, 2, ("",)).run_on_all(lambda: 3) == 3


def test_processes_must_fit_the_same():
    Gathering(0, 2, ("a",)).require_same("data and options", "a")
    with pytest.raises(
        mg.PeerError, match=r"got different values in processes 0 and 1"
    ):
        Gathering(0, 2, ("b",)).require_same("data and options", "a")


def run(
    command: list[str], processes: int, *options: str
) -> subprocess.CompletedProcess:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    variables = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE.parents[1]), str(HERE)]),
    }
    return subprocess.run(
        [*torchrun, "--nproc-per-node", str(processes), *options, *command],
        capture_output=True,
        text=True,
        timeout=300,
        env=variables,
        check=False,
    )


def largest_difference(one: Path, other: Path) -> float:
    first, second = (checkpoint.load(folder)[0] for folder in (one, other))
    assert first.keys() == second.keys()
    return max(
        float((first[name].double() - second[name].double()).abs().nan_to_num(0).max())
        for name in first
        if first[name].numel()
    )


@pytest.mark.long
def test_two_processes_of_which_one_is_killed_give_the_model_of_one(tmp_path):
    options = fit_in_processes.OPTIONS
    alone = mg.FusionClassifier(**options).fit(fit_in_processes.samples())
    alone.save_pretrained(tmp_path / "alone")
    script = str(HERE / "fit_in_processes.py")
    killed = run([script, str(tmp_path)], 2)
    assert killed.returncode != 0
    assert not (tmp_path / "0").exists()
    done = run([script, str(tmp_path)], 2)  # the same command again
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    left = alone.history_.steps - 6  # killed before step 7
    assert left > 0
    assert (result["resumed"], result["taken"]) == (6, left)
    torch.testing.assert_close(
        torch.tensor(result["losses"]), torch.tensor(alone.history_.held_out_loss)
    )
    for rank in "01":
        assert largest_difference(tmp_path / "alone", tmp_path / rank) <= 1e-6
    assert not (tmp_path / "training").exists()


@pytest.mark.slow
def test_two_processes_on_a_stream_give_the_model_of_one(tmp_path):
    shards = tmp_path / "shards"
    shards.mkdir()
    stream_in_processes.write(str(shards))
    alone = stream_in_processes.fit(str(shards))
    assert alone.history_.steps == 20  # of 50 of all 510, not of the sample alone
    alone.save_pretrained(tmp_path / "alone")
    script = str(HERE / "stream_in_processes.py")
    done = run([script, str(shards), str(tmp_path)], 2)
    assert done.returncode == 0, done.stderr
    for rank in "01":
        assert largest_difference(tmp_path / "alone", tmp_path / rank) <= 1e-6


@pytest.mark.slow
def test_the_command_line_trains_in_two_processes(tmp_path):
    file = tmp_path / "heart.parquet"
    mg.load_dataset("heart")[range(100)].select(["lab", "history"]).to_parquet(file)
    train_file(TrainConfig(file=file, label="y", epochs=2, output=tmp_path / "1"))
    train = ["-m", "mmgraph", "train", str(file), "--epochs", "2", "--label", "y"]
    done = run([*train, "--output", str(tmp_path / "2")], 2)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Model: ") == 1
    assert largest_difference(tmp_path / "1", tmp_path / "2") <= 1e-6
    assert not (tmp_path / "2" / "training").exists()


@pytest.mark.slow
def test_an_error_is_printed_once_and_ends_all_processes(tmp_path):
    file = tmp_path / "heart.parquet"
    mg.load_dataset("heart")[range(20)].to_parquet(file)
    train = ["-m", "mmgraph", "train", str(file), "--label", "nope", "--output", "m"]
    done = run(train, 2)
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error:")]
    assert len(errors) == 1
    assert "label column 'nope'" in errors[0]
    assert "exitcode  : 2" in done.stderr  # torchrun may stop the other before it ends
