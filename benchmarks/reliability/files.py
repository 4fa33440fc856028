"""Rows of saving and loading: kills, damaged and hostile files, savers, old formats."""

import json
import os
import random
import resource
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mmgraph as mg
from mmgraph import checkpoint
from reliability.children import run_forked
from reliability.fuzz import (
    Loader,
    count_kinds,
    count_tracebacks,
    fuzz,
    shared_loaders,
)
from reliability.row import Row

ROOT = Path(__file__).parents[2]
FLIPS_AT_ONCE = 50  # that a child reads
TOO_LONG, TOO_LARGE = 1.0, 200  # seconds of CPU, megabytes


def _fit(progress: Path, model: Path, *, epochs: int) -> None:
    """Fit and save a model, with progress at every step."""
    from mmgraph.train import progress_dir

    progress_dir.MAX_SAVES = 0
    data = mg.load_dataset("heart")[range(100)]
    options = {"epochs": epochs, "batch_size": 32, "members": 2, "hidden_channels": 16}
    clf = mg.FusionClassifier(
        experts=("linear",), checkpoint_dir=progress, verbose=False, **options
    )
    clf.fit(data).save_pretrained(model)


def _models() -> list[dict[str, torch.Tensor]]:
    return [{"w": torch.full((40_000,), float(i))} for i in range(4)]


def _forked(*actions: Callable[[], object]) -> list[int]:
    """Run functions in processes at the same time; return their process ids."""
    pids = []
    for action in actions:
        # a signal between the fork and `try` would run the code of the parent
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        pid = os.fork()
        if pid:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        else:
            try:
                # programs in the background of a shell ignore it
                signal.signal(signal.SIGINT, signal.default_int_handler)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
                action()
                os._exit(0)
            except BaseException:
                os._exit(1)
        pids.append(pid)
    return pids


def _failures(pids: list[int]) -> int:
    return sum(os.waitpid(pid, 0)[1] != 0 for pid in pids)


def _save_for_ever(folder: Path, models: list[dict[str, torch.Tensor]]) -> None:
    while True:
        for tensors in models:
            checkpoint.save(folder, tensors, {})


def _left(folder: Path) -> int:
    """Return the number of files that do not belong to the one saved model."""
    return len(set(os.listdir(folder)) - {"README.md"}) - 2  # a model card


def row_01(full: bool) -> Row:
    """Kill fits and saves at random moments."""
    kills, rng = 50 if full else 1, random.Random(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def fit(progress: str, model: str = "model") -> None:
            _fit(folder / progress, folder / model, epochs=12 if full else 3)

        start = time.monotonic()
        faults = _failures(_forked(lambda: fit("p", "whole")))
        whole, killed = time.monotonic() - start, 0
        expected = checkpoint.load(folder / "whole").manifest["weights_sha256"]
        for _ in range(kills):
            (pid,) = _forked(lambda: fit("progress"))
            time.sleep(rng.uniform(0.1, 0.9) * whole)
            os.kill(pid, signal.SIGKILL)
            killed += os.WIFSIGNALED(os.waitpid(pid, 0)[1])
        faults += _failures(_forked(lambda: fit("progress")))
        done = checkpoint.load(folder / "model").manifest["weights_sha256"] == expected
        stay = _left(folder / "model") + (folder / "progress").exists()
        torn, models = 0, _models()
        shared = folder / "shared"
        checkpoint.save(shared, models[0], {})
        for _ in range(150 if full else 6):
            pids = _forked(
                lambda: _save_for_ever(shared, models[:2]),
                lambda: _save_for_ever(shared, models[2:]),
            )
            time.sleep(rng.uniform(0, 0.05))
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            torn += _fails(lambda: checkpoint.load(shared))
        checkpoint.save(shared, models[0], {})
        stay += _left(shared)
    figure = (
        f"{killed} fits killed, final hash {'equal' if done else 'DIFFERENT'}; "
        f"{torn} folders torn by killed saves; {stay} files stay"
    )
    return Row(
        1,
        "kill -9 in fits and saves",
        "final hash equal; no partial file accepted; no temporary file left",
        figure,
        bool(done) and not torn and not stay and not faults,
    )


def _fails(action: Callable[[], object]) -> bool:
    try:
        action()
    except mg.MMGraphError:
        return True
    return False


def row_02(full: bool) -> Row:
    """Read mutated files with every loader."""
    jobs = len(os.sched_getaffinity(0)) if full else 1
    outcomes = fuzz(20_000 if full else 10, slow=2_000 if full else 2, jobs=jobs)
    bad = [o for o in outcomes if o.kind not in ("accepted", "refused")]
    commands, faults = count_tracebacks()
    examples = ", ".join(f"{o.loader} seed {o.seed}: {o.kind}" for o in bad[:3])
    figure = (
        f"{len(outcomes)} files, {len(count_kinds(outcomes))} loaders: {len(bad)} "
        f"neither accepted nor refused {examples}".rstrip()
        + f"; {faults} of {commands} commands without one line and exit status 2"
    )
    return Row(
        2,
        "mutated files",
        "no crash, hang or foreign exception; the command line exits with 2",
        figure,
        not bad and not faults,
    )


def row_03(full: bool) -> Row:
    """Flip single bits of files; hashes stay as they were."""
    flips, rng, silent, total = 2000 if full else 5, random.Random(0), [], 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for loader in shared_loaders():
            if not _is_hashed(loader):
                continue
            content = loader.path.read_bytes()
            expected = _describe(loader)
            for start in range(0, flips, FLIPS_AT_ONCE):
                count = min(FLIPS_AT_ONCE, flips - start)
                changes = [_flip(content, rng) for _ in range(count)]
                wrong = _silently_wrong(loader, changes, expected)
                silent += [loader.name] * wrong
                total += count
            loader.path.write_bytes(content)
    figure = f"{len(silent)} of {total} silently wrong {sorted(set(silent)) or ''}"
    return Row(3, "flipped bits", "0 silently wrong", figure.strip(), not silent)


def _flip(content: bytes, rng: random.Random) -> bytes:
    """Return content with one flipped bit."""
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def _is_hashed(loader: Loader) -> bool:
    """Return True for files of mmgraph; schemas and tables of others have no hash."""
    names = ("classifier", "retriever", "index", "exported", "data.parquet", "plan")
    return loader.name.startswith(names)


def _describe(loader: Loader) -> Any:  # noqa: ANN401
    """Return what a file contains, for comparisons."""
    content = loader.read()
    if hasattr(content, "model_"):
        state = content.model_.state_dict()
        spec = content.input_spec_.to_json()
        target = getattr(content, "classes_", np.empty(0)).tolist()
        params = content.get_params(deep=False) | {"encoders": None, "schema": None}
        values = {name: value.tolist() for name, value in state.items()}
        return values, spec, target, params
    if isinstance(content, mg.MultimodalData):
        return content
    if isinstance(content, mg.MaskPlan):
        return content.hash, content.pattern, content.seed, content.num_observed
    if hasattr(content, "scores"):
        return content.ids.tolist(), content.scores.tolist()
    return np.asarray(content).tolist()


def _silently_wrong(loader: Loader, changes: list[bytes], expected: Any) -> int:  # noqa: ANN401
    """Return the number of changed files that are read as something else.

    They are read in one child; a crash counts as wrong, and ends it.
    """

    def read() -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        for content in changes:
            loader.path.write_bytes(content)
            try:
                right = _is_same(_describe(loader), expected)
            except mg.MMGraphError:
                right = True
            except BaseException:
                right = False
            os.write(1, b"." if right else b"x")

    _, results = run_forked(read)
    crashed = len(results) < len(changes)
    return results.count("x") + crashed


def _is_same(found: Any, expected: Any) -> bool:  # noqa: ANN401
    if isinstance(found, mg.MultimodalData):
        return found.equals(expected) and found.schema == expected.schema
    return bool(found == expected)


def row_05(full: bool) -> Row:
    """Read small files that claim a lot."""
    slow, num = [], 0
    with tempfile.TemporaryDirectory() as name:
        for what, read in _bombs(Path(name), full=full):
            num += 1
            seconds, megabytes, verdict = _cost(read)
            if verdict or seconds > TOO_LONG or megabytes > TOO_LARGE:
                slow.append(f"{what}: {verdict} {seconds:.1f} s, {megabytes} MB")
    figure = f"{num - len(slow)} of {num} within 1 s and 200 MB" + "".join(
        f"; {each}" for each in slow
    )
    return Row(5, "bombs", "an error in under 1 s and 200 MB", figure, not slow)


def _cost(read: Callable[[], object]) -> tuple[float, int, str]:
    """Return CPU seconds, memory, and "" if an error of mmgraph was raised."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if not pid:
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start, verdict = time.process_time(), "accepted"
        try:
            read()
        except mg.MMGraphError:
            verdict = ""
        except BaseException as error:
            verdict = type(error).__name__
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        used = time.process_time() - start, (peak - before) // 1024, verdict
        os.write(write_end, json.dumps(used).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as result:
        text = result.read()
    os.waitpid(pid, 0)
    seconds, megabytes, verdict = json.loads(text) if text else (60.0, 0, "killed")
    return seconds, megabytes, verdict


def _bombs(folder: Path, *, full: bool) -> list[tuple[str, Callable[[], object]]]:
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    from mmgraph.config import read_run_file

    modalities = [{"name": f"m{i}", "channels": 3} for i in range(20_000)]
    many = json.dumps({"modalities": modalities})
    every = [{"source": "*", "target": "*"}]
    wild = json.dumps({"modalities": modalities[:1000], "relations": every})
    deep = "[" * 10_000 + "]" * 10_000
    times = 5 if full else 1
    zeros, packed, model = (folder / n for n in ("z.parquet", "z.csv.gz", "model"))
    numbers = np.zeros(6_000_000 * times)
    pq.write_table(pa.table({"x": numbers}), zeros, compression="zstd")
    string = folder / "s.parquet"
    rows = pa.array(["a" * 1_000_000]).take(pa.array(np.zeros(400 * times, dtype=int)))
    pq.write_table(pa.table({"x": rows}), string, compression="zstd")
    with gzip.open(packed, "wb") as file:
        file.write(b"x,y\n" + b"0,1\n" * (10_000_000 * times))
    for end in ("json", "toml"):
        (folder / f"deep.{end}").write_text(deep if end == "json" else f"a={deep}")
        os.mkfifo(folder / f"pipe.{end}")
    os.mkfifo(folder / "pipe.csv")
    checkpoint.save(model, {"w": torch.zeros(1)}, {"estimator": "FusionClassifier"})
    hostile = folder / "hostile"
    hostile.mkdir()
    os.mkfifo(hostile / checkpoint.MANIFEST)
    sparse = folder / "sparse"
    shutil.copytree(model, sparse)
    (weights,) = sparse.glob("model-*")
    os.truncate(weights, 1 << 40)

    def table(path: Path) -> Callable[[], object]:
        return lambda: mg.MultimodalData.from_parquet(
            path, modalities={"a": ["x"]}, y=None
        )

    load = mg.FusionClassifier.from_pretrained
    return [
        ("schema of 20 000 modalities", lambda: mg.Schema.from_json(many)),
        ("schema of a million relations", lambda: mg.Schema.from_json(wild)),
        ("deep schema", lambda: mg.Schema.from_json(deep)),
        ("deep JSON run file", lambda: read_run_file(folder / "deep.json")),
        ("deep TOML run file", lambda: read_run_file(folder / "deep.toml")),
        ("pipe as run file", lambda: read_run_file(folder / "pipe.json")),
        ("pipe as mask plan", lambda: mg.MaskPlan.load(folder / "pipe.json")),
        ("pipe as table", table(folder / "pipe.csv")),
        ("pipe as manifest", lambda: load(hostile)),
        ("sparse weights of a terabyte", lambda: load(sparse)),
        ("Parquet of zeros", table(zeros)),
        ("Parquet of one long string", table(string)),
        ("csv.gz of zeros", table(packed)),
    ]


def row_12(full: bool) -> Row:
    """Predict in threads, and save one folder from several processes."""
    rng = np.random.default_rng(0)
    data = mg.MultimodalData.from_arrays(
        {"a": rng.normal(size=(80, 3)), "b": rng.normal(size=(80, 2))}, y=[0, 1] * 40
    )
    options = {"epochs": 1, "members": 2, "hidden_channels": 8, "num_heads": 2}
    clf = mg.FusionClassifier(experts=("linear",), **options).fit(data)
    expected, rounds = clf.predict_proba(data[:5]), 10_000 if full else 15

    def predict(_: int) -> int:
        return sum(
            not np.array_equal(clf.predict_proba(data[:5]), expected)
            for _ in range(rounds)
        )

    with ThreadPoolExecutor(8) as pool:
        differ = sum(pool.map(predict, range(8)))
    models, seconds = _models(), 60.0 if full else 1.5
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        checkpoint.save(folder, models[0], {})
        end = time.monotonic() + seconds

        def save(tensors: dict[str, torch.Tensor]) -> None:
            while time.monotonic() < end:
                checkpoint.save(folder, tensors, {})

        pids = _forked(*(lambda m=m: save(m) for m in models))
        torn = loads = 0
        while time.monotonic() < end:
            torn, loads = torn + _fails(lambda: checkpoint.load(folder)), loads + 1
        failed = _failures(pids)
        torn += _fails(lambda: checkpoint.load(folder))
        left = _left(folder)
    return Row(
        12,
        "threads and savers",
        "bit-equal; no torn file",
        f"{differ} of {8 * rounds} predictions differ; {torn} of {loads} loads fail "
        f"next to 4 savers, {failed} savers fail, {left} files stay",
        not (differ or torn or failed or left),
    )


def row_15(full: bool) -> Row:
    """Interrupt saves: file size limit, no permission, SIGINT and SIGTERM."""
    rng, broken, unnamed, models = random.Random(0), 0, 0, _models()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model"
        checkpoint.save(folder, models[0], {})
        for kind in (signal.SIGINT, signal.SIGTERM):
            for _ in range(60 if full else 10):
                (pid,) = _forked(lambda: _save_for_ever(folder, models))
                time.sleep(rng.uniform(0, 0.05))
                os.kill(pid, kind)
                os.waitpid(pid, 0)
                broken += _fails(lambda: checkpoint.load(folder))
        checkpoint.save(folder, models[0], {})
        left = _left(folder)

        def large() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
            assert _fails(lambda: checkpoint.save(folder, models[1], {}))

        def denied() -> None:
            if not os.getuid():
                os.setuid(65534)
            assert _fails(lambda: checkpoint.save(folder, models[1], {}))

        Path(name).chmod(0o755)
        folder.chmod(0o555)
        for action in (large, denied):
            unnamed += _failures(_forked(action))
            broken += _fails(lambda: checkpoint.load(folder))
        folder.chmod(0o755)
        left += _left(folder)
        same = torch.equal(checkpoint.load(folder).tensors["w"], models[0]["w"])
    return Row(
        15,
        "disk full, no permission, SIGTERM, Ctrl-C",
        "the previous checkpoint is intact",
        f"{broken} folders broken, {unnamed} errors unnamed, {left} files stay, "
        f"previous model {'intact' if same else 'LOST'}",
        not (broken or unnamed or left) and same,
    )


def row_16(full: bool) -> Row:
    """Load the checkpoints of every released format."""
    folders = sorted((ROOT / "tests" / "fixtures").glob("*/classifier"))
    worst = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for folder in folders:
            data = mg.MultimodalData.from_parquet(folder.parent / "data.parquet")
            clf = mg.FusionClassifier.from_pretrained(folder)
            with np.load(folder.parent / "expected.npz") as expected:
                wanted = expected["classifier"]
            worst = max(worst, float(np.abs(clf.predict_proba(data) - wanted).max()))
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / checkpoint.MANIFEST).write_text('{"format": 99}')
        refused = _fails(lambda: checkpoint.load(name))
    names = ", ".join(folder.parent.name for folder in folders)
    return Row(
        16,
        "released formats",
        "load, or a clear version error",
        f"{names} load, difference {worst:.0e}; unknown format "
        f"{'refused' if refused else 'ACCEPTED'}",
        refused and len(folders) >= 2 and worst < 1e-6,
    )
