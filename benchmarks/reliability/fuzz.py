"""Mutated files for every loader, read in child processes with limits.

A mutation of a file is drawn from a seed: flipped bits, cut, repeated and foreign
bytes, and, in JSON, other values at any place. Hashes are computed again, so that a
mutation reaches the code behind them. A loader must accept the file or raise an error
of mmgraph.
"""

import atexit
import copy
import hashlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mmgraph as mg
from mmgraph import checkpoint
from reliability.children import run_forked

MEMORY = 1 << 30  # bytes that a child may take in addition
SECONDS = 20  # for one file
BATCH = 100  # files that a child reads
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2, 10**9, 10**30, 1.5, -0.0, 1e300, float("nan")),
    *("", "x", "\ud800", "a" * 10_000, "*", "../x", [], {}, [[]], [None], {"a": 1}),
    *([0] * 1000, [[[[[[]]]]]], {"type": "Full"}),
)


@dataclass(frozen=True)
class Loader:
    """A loader and a file that it reads.

    Attributes:
        name: Name in tables.
        path: File that is mutated.
        read: Reads the file; called in a child process.
        mutate: Returns mutated content.
        put: Writes mutated content, with hashes that fit.
        places: Texts, one of which every error must contain: the file, or the folder
            of a model; empty for loaders of strings.
    """

    name: str
    path: Path
    read: Callable[[], object]
    mutate: Callable[[bytes, random.Random], bytes]
    put: Callable[[bytes], None]
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """Result of one mutated file.

    Attributes:
        loader: Name of the loader.
        seed: Seed of the mutation.
        kind: "accepted", "refused", "unnamed" if the error does not name the file,
            "crash", "hang", or the name of a foreign exception.
    """

    loader: str
    seed: int
    kind: str


def mutate_bytes(content: bytes, rng: random.Random) -> bytes:
    """Return content with one to three random changes of its bytes."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(changed) + 1)
        size = rng.choice((1, 4, 64, len(changed) // 4 + 1))
        kind = rng.randrange(6)
        if kind <= 1 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del changed[at : at + size]
        elif kind == 3:
            changed[at:at] = changed[at : at + size]
        elif kind == 4:
            changed[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), rng.randbytes(8)))
        else:
            del changed[at:]
    return bytes(changed)


def mutate_json(content: bytes, rng: random.Random) -> bytes:
    """Return a document with another value at a random place, or other bytes."""
    if rng.random() < 0.25:
        return mutate_bytes(content, rng)
    document = json.loads(content)
    places = list(_places(document))
    for _ in range(rng.randint(1, 2)):
        parent, key = rng.choice(places)
        action = rng.randrange(4)
        try:
            if action == 0:
                del parent[key]
            elif action == 1 and isinstance(parent[key], list):
                parent[key] = parent[key] * rng.choice((0, 2, 50))
            elif action == 2:
                parent[key] = copy.deepcopy(rng.choice(places)[0])
            else:
                parent[key] = copy.deepcopy(rng.choice(VALUES))
        except LookupError:
            continue
    return json.dumps(document).encode()


def _places(value: Any) -> Iterator[tuple[Any, Any]]:  # noqa: ANN401
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in list(items):
        yield value, key
        if isinstance(each, dict | list):
            yield from _places(each)


def run_loader(loader: Loader, count: int, seed: int = 0) -> list[Outcome]:
    """Read mutated files in child processes.

    Args:
        loader: Loader.
        count: Number of mutations.
        seed: First seed; mutation k has the seed ``seed + k``.
    """
    original = loader.path.read_bytes()
    loader.put(original)
    loader.read()  # what is mutated must be right
    outcomes: list[Outcome] = []
    while len(outcomes) < count:
        start = seed + len(outcomes)
        seeds = range(start, min(start + BATCH, seed + count))
        outcomes += _run_batch(loader, original, seeds)
    loader.put(original)
    return outcomes


def _run_batch(loader: Loader, original: bytes, seeds: range) -> list[Outcome]:
    """Read mutations in one child; it ends at the first crash or hang."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read_end)
        _limit()
        for seed in seeds:
            signal.alarm(SECONDS)
            kind = _read_one(loader, original, seed)
            os.write(write_end, f"{kind}\n".encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as lines:
        kinds = lines.read().split("\n")[:-1]
    status = os.waitpid(pid, 0)[1]
    if status:
        kinds.append("hang" if os.WTERMSIG(status) == signal.SIGALRM else "crash")
    pairs = zip(seeds, kinds, strict=False)
    return [Outcome(loader.name, seed, kind) for seed, kind in pairs]


def _limit() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf(
        "SC_PAGE_SIZE"
    )
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)


def _read_one(loader: Loader, original: bytes, seed: int) -> str:
    content = loader.mutate(original, random.Random(f"{loader.name} {seed}"))
    try:
        loader.put(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loader.read()
    except mg.MMGraphError as error:
        text = str(error)
        lines = text.split("\n")
        named = not loader.places or all(
            any(place in line for place in loader.places) for line in lines
        )
        return "refused" if named and text.strip() else "unnamed"
    except BaseException as error:
        return type(error).__name__
    return "accepted"


def reproduce(loader: Loader, seed: int) -> None:
    """Read one mutated file in this process, to see its exception."""
    original = loader.path.read_bytes()
    loader.put(loader.mutate(original, random.Random(f"{loader.name} {seed}")))
    loader.read()


def count_kinds(outcomes: list[Outcome]) -> dict[str, Counter[str]]:
    """Return the number of outcomes of each kind by loader."""
    table: dict[str, Counter[str]] = {}
    for outcome in outcomes:
        table.setdefault(outcome.loader, Counter())[outcome.kind] += 1
    return table


# Loaders


def make_loaders(folder: Path) -> list[Loader]:
    """Write a file for every loader.

    Args:
        folder: Folder to write.
    """
    from mmgraph.workflows.saved_model import Columns

    rng = np.random.default_rng(0)
    arrays = {"labs": rng.normal(size=(60, 3)), "note": ["ok", "not ok"] * 30}
    data = mg.MultimodalData.from_arrays(arrays, y=[0, 1] * 30)
    small = {"epochs": 2, "members": 2, "hidden_channels": 8, "num_heads": 2}
    options = {**small, "batch_size": 30, "verbose": False}
    clf = mg.FusionClassifier(experts=("linear", "forest", "joint"), **options)
    columns = Columns("classification", "y", {"labs": ("a",)}, None, "id")
    columns.save(clf.fit(data), folder / "classifier")
    pairs = {"image": rng.normal(size=(40, 4)), "text": rng.normal(size=(40, 3))}
    retriever = mg.FusionRetriever(**{**options, "epochs": 0})
    retriever.fit(mg.MultimodalData.from_arrays(pairs))
    retriever.save_pretrained(folder / "retriever")

    def load(path: Path) -> object:
        return Columns.load(path), mg.FusionClassifier.from_pretrained(path)

    found = [
        *_saved("classifier", folder, load),
        *_saved("retriever", folder, mg.FusionRetriever.from_pretrained),
        *_tables(folder, data),
        *_documents(folder, data),
        *_progress(folder, data, options),
    ]
    vectors = rng.normal(size=(300, 8))
    kinds = ["exact"] if not _has("faiss") else ["exact", "flat", "hnsw", "ivf"]
    for kind in kinds:
        mg.Index(np.arange(300), vectors, kind=kind).save(folder / f"index_{kind}")

        def search(path: Path) -> object:
            return mg.Index.load(path).search(vectors[:2], k=3)

        found += _saved(f"index_{kind}", folder, search)
    if _has("onnxruntime") and _has("onnxscript"):
        found.append(_exported(folder, clf))
    return found


def _has(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def _plain(
    path: Path,
    read: Callable[[], object],
    mutate: Callable[[bytes, random.Random], bytes] = mutate_bytes,
    name: str | None = None,
) -> Loader:
    copy_of = path.read_bytes
    assert copy_of()

    def put(content: bytes) -> None:
        path.write_bytes(content)

    return Loader(name or path.name, path, read, mutate, put, places=(path.name,))


def _saved(name: str, folder: Path, load: Callable[[Path], object]) -> Iterator[Loader]:
    """Yield the loaders of the manifest, the weights and the parts of a model."""
    model = folder / name

    def put_manifest(content: bytes) -> None:
        try:
            manifest = json.loads(content)
            if isinstance(manifest, dict):
                manifest[checkpoint.OWN_HASH] = checkpoint._hash_of(manifest)
                content = json.dumps(manifest).encode()
        except (ValueError, RecursionError):
            pass
        (model / checkpoint.MANIFEST).write_bytes(content)

    def read() -> object:
        return load(model)

    path = model / checkpoint.MANIFEST
    places = (str(model),)
    yield Loader(f"{name}: manifest", path, read, mutate_json, put_manifest, places)
    manifest = json.loads(path.read_text())
    files = {"weights": ("weights", None)}
    for part in manifest.get("parts_sha256", {}):
        files[part] = ("parts", part)
    for what, (key, part) in files.items():

        def put(content: bytes, key: str = key, part: str | None = part) -> None:
            digest, changed = hashlib.sha256(content).hexdigest(), dict(manifest)
            if part is None:
                changed |= {"weights_sha256": digest, "weights_bytes": len(content)}
                file = checkpoint.WEIGHTS.format(digest[:16])
            else:
                changed["parts_sha256"] = {part: digest}
                changed["parts_bytes"] = {part: len(content)}
                file = checkpoint.PART.format(digest[:16])
            (model / file).write_bytes(content)
            put_manifest(json.dumps(changed).encode())

        digest = manifest["weights_sha256" if part is None else "parts_sha256"]
        digest = digest if part is None else digest[part]
        pattern = checkpoint.WEIGHTS if part is None else checkpoint.PART
        file = model / pattern.format(digest[:16])
        yield Loader(f"{name}: {what}", file, read, mutate_bytes, put, places)


def _tables(folder: Path, data: mg.MultimodalData) -> Iterator[Loader]:
    parquet, stream = folder / "data.parquet", folder / "stream.parquet"
    data.to_parquet(parquet)
    data.to_parquet(stream)
    yield _plain(parquet, lambda: mg.MultimodalData.from_parquet(parquet))
    yield _plain(stream, lambda: mg.MultimodalStream.from_parquet(stream).load())
    import gzip

    text = "age,sex,when,y\n" + "".join(
        f'{k},"f",2020-01-{k + 1:02d},{k % 2}\n' for k in range(28)
    )
    plain, packed = folder / "table.csv", folder / "table.csv.gz"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    for path in (plain, packed):

        def read(path: Path = path) -> object:
            columns = {"a": ["age", "sex", "when"]}
            return mg.MultimodalData.from_parquet(path, modalities=columns)

        yield _plain(path, read)


def _documents(folder: Path, data: mg.MultimodalData) -> Iterator[Loader]:
    from mmgraph.config import BenchConfig, build_config

    schema, plan = folder / "schema.json", folder / "plan.json"
    schema.write_text(mg.Schema.complete(data.schema.modalities).to_json())
    yield replace(
        _plain(schema, lambda: mg.Schema.from_json(_text(schema)), mutate_json),
        places=(),
    )
    mg.missing.mcar(0.5).plan(data, seed=0).save(plan)
    yield _plain(plan, lambda: mg.MaskPlan.load(plan), mutate_json)
    run = {"datasets": ["heart"], "missing": [0.0, 0.5], "seeds": 2}
    as_json, as_toml = folder / "run.json", folder / "run.toml"
    as_json.write_text(json.dumps(run))
    as_toml.write_text('datasets = ["heart"]\nmissing = [0.0, 0.5]\nseeds = 2\n')
    for path, mutate in ((as_json, mutate_json), (as_toml, mutate_bytes)):

        def read(path: Path = path) -> object:
            return build_config(BenchConfig, {}, run_file=path)

        yield _plain(path, read, mutate)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _progress(
    folder: Path, data: mg.MultimodalData, options: dict[str, Any]
) -> Iterator[Loader]:
    """Yield the loaders of the folder of an interrupted fit."""
    from mmgraph.train import progress_dir
    from mmgraph.train.step import TrainStep

    path, take_step, taken = folder / "progress", TrainStep.__call__, []
    options = {**options, "epochs": 3, "experts": ("linear",), "checkpoint_dir": path}

    def step(self: TrainStep, part: object) -> None:
        if len(taken) == 3:
            raise KeyboardInterrupt
        taken.append(part)
        take_step(self, part)

    before = progress_dir.MAX_SAVES
    progress_dir.MAX_SAVES, TrainStep.__call__ = 0, step  # type: ignore[method-assign]
    try:
        mg.FusionClassifier(**options).fit(data)
    except KeyboardInterrupt:
        pass
    finally:
        TrainStep.__call__ = take_step  # type: ignore[method-assign]
        progress_dir.MAX_SAVES = before
    kept = folder / "kept"
    shutil.copytree(path, kept)

    def fit(_: Path) -> object:
        fitted = mg.FusionClassifier(**options).fit(data)
        if not np.isfinite(fitted.predict_proba(data)).all():
            raise AssertionError("predictions that are not finite")
        return fitted

    for part in ("experts", "steps"):
        for loader in _saved(part, path, fit):

            def put(content: bytes, loader: Loader = loader) -> None:
                shutil.rmtree(path, ignore_errors=True)
                shutil.copytree(kept, path)
                loader.put(content)

            name, places = f"progress, {loader.name}", (str(path),)
            yield replace(loader, name=name, put=put, places=places)


def _exported(folder: Path, clf: mg.FusionClassifier) -> Loader:
    from mmgraph import serving
    from mmgraph.serving.export import HASH_FIELD, NO_HASH, with_hash

    path = folder / "model.onnx"
    serving.export(clf, path)

    def put(content: bytes) -> None:
        before, field, after = content.partition(HASH_FIELD)
        if field and len(after) >= len(NO_HASH):
            unsigned = before + field + NO_HASH.encode() + after[len(NO_HASH) :]
            content = with_hash(unsigned)
        path.write_bytes(content)

    def read() -> object:
        return serving.load(path).predict({"labs": np.ones((2, 3))})

    return Loader("exported model", path, read, mutate_bytes, put, (path.name,))


def fuzz(
    count: int, seed: int = 0, slow: int | None = None, jobs: int = 1
) -> list[Outcome]:
    """Read mutated files with every loader.

    Args:
        count: Mutations of each loader.
        seed: First seed.
        slow: Mutations of progress folders, each of which takes a fit; default:
            ``count``.
        jobs: Processes; loaders of one folder share a process.
    """
    torch.set_num_threads(1)
    places = list(dict.fromkeys(_place_of(each) for each in shared_loaders()))
    run = partial(_fuzz_place, count=count, seed=seed, slow=slow or count)
    if jobs == 1:
        return [outcome for place in places for outcome in run(place)]
    fork = multiprocessing.get_context("fork")  # children inherit the loaders
    with ProcessPoolExecutor(jobs, mp_context=fork) as pool:
        return [outcome for outcomes in pool.map(run, places) for outcome in outcomes]


def _place_of(loader: Loader) -> str:
    """Return the name of the file or folder that a loader changes."""
    return loader.name.split(":")[0].split(",")[0]


def _fuzz_place(place: str, count: int, seed: int, slow: int) -> list[Outcome]:
    """Read mutations with the loaders of one file or folder."""
    outcomes: list[Outcome] = []
    for loader in shared_loaders():
        if _place_of(loader) == place:
            number = slow if place == "progress" else count
            outcomes += run_loader(loader, number, seed)
    return outcomes


@cache
def shared_loaders() -> list[Loader]:
    """Return loaders whose files exist until the process ends."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    return make_loaders(Path(folder.name))


def count_tracebacks() -> tuple[int, int]:
    """Run commands with files that are wrong; return their number and the faults."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        deep = "[" * 10_000 + "]" * 10_000
        (folder / "deep.json").write_text(deep)
        (folder / "deep.toml").write_text(f"a={deep}")
        (folder / "bad.parquet").write_bytes(b"PAR1 no table PAR1")
        (folder / "bad.csv").write_bytes(b"a,b\n\xff\xfe,1,2\n")
        (folder / "mmgraph.json").write_text('{"format": 3}')
        os.mkfifo(folder / "pipe.csv")
        commands = [
            ("bench", "--config", "deep.json"),
            ("bench", "--config", "deep.toml"),
            ("schema", "deep.json"),
            ("schema", "bad.parquet"),
            ("train", "bad.csv", "--label", "a", "--output", "out"),
            ("train", "pipe.csv", "--label", "a", "--output", "out"),
            ("predict", ".", "bad.csv"),
        ]
        faults = sum(not _is_one_line(command, folder) for command in commands)
        return len(commands), faults


def _is_one_line(command: tuple[str, ...], folder: Path) -> bool:
    """Return True if a command exits with 2 and one line on standard error."""
    from mmgraph.cli.app import app

    def run() -> None:
        signal.alarm(120)
        os.chdir(folder)
        app(list(command))

    status, text = run_forked(run, stream=2)
    return status == 2 and len(text.strip().splitlines()) == 1
