"""The results folder: JSON lines that survive an interrupt.

`results.jsonl` has one line per unit and test condition, `datasets.jsonl` one per data
set, `runs.jsonl` one per run, `failures.jsonl` one per failure, and `plans/` contains
every random mask plan by its hash. Lines of one unit are written at once; an incomplete
last line is dropped before the next write. Finished files may be compressed with `xz`:
the lines of `results.jsonl.xz` precede those of `results.jsonl`.
"""

import json
import lzma
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmgraph.errors import ConfigError
from mmgraph.missing import MaskPlan

Record = dict[str, Any]

FILES = ("results", "datasets", "runs", "failures")


def read_lines(path: Path) -> list[Record]:
    """Return the complete lines of a file of JSON lines, compressed ones first.

    A missing file is empty; a last line without line break is incomplete and left out.

    Raises:
        ConfigError: If a complete line is not a JSON object, or the compressed file is
            damaged.
    """
    packed = path.with_name(f"{path.name}.xz")
    content = _unpack(packed) if packed.is_file() else b""
    content += path.read_bytes() if path.is_file() else b""
    complete, _, _ = content.rpartition(b"\n")
    records = []
    for number, line in enumerate(complete.splitlines(), start=1):
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if not isinstance(record, dict):
            raise ConfigError(
                f"{path.name} line {number} must be a JSON object, "
                f"got {line[:40].decode(errors='replace')!r}. Remove the line."
            )
        records.append(record)
    return records


def _unpack(path: Path) -> bytes:
    try:
        return lzma.decompress(path.read_bytes())
    except lzma.LZMAError as error:
        raise ConfigError(
            f"{path.name} must be a file compressed with xz, got: {error}. Remove it "
            "or compress it again."
        ) from None


def append_lines(path: Path, records: Iterable[Record]) -> None:
    """Append records in one write, after dropping an incomplete last line."""
    text = "".join(_dump(record) for record in records)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as file:
        _drop_tail(file.fileno(), path)
        os.write(file.fileno(), text.encode())
        os.fsync(file.fileno())


def _dump(record: Record) -> str:
    return json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n"


def _drop_tail(descriptor: int, path: Path) -> None:
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        os.ftruncate(descriptor, content.rfind(b"\n") + 1)


class Results:
    """Results of the benchmark in one folder.

    Args:
        folder: The folder; it is created with the first line.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, name: str) -> Path:
        """Return the file of one kind of line."""
        return self.folder / f"{name}.jsonl"

    def clear(self) -> None:
        """Remove all lines and plans; other files stay."""
        for name in FILES:
            self.path(name).unlink(missing_ok=True)
            self.folder.joinpath(f"{name}.jsonl.xz").unlink(missing_ok=True)
        for plan in (self.folder / "plans").glob("*"):
            plan.unlink()

    def add_unit(self, lines: list[Record]) -> None:
        """Append all lines of one unit in one write."""
        append_lines(self.path("results"), lines)

    def add_dataset(self, record: Record) -> None:
        """Append the description of a data set if it differs from the last one."""
        latest = {r["dataset"]: r for r in read_lines(self.path("datasets"))}
        if latest.get(record["dataset"]) != record:
            append_lines(self.path("datasets"), [record])

    def datasets(self, lines: Iterable[Record]) -> dict[str, Record]:
        """Return the description of each data set of the lines.

        It is the last record that has the content hash and the splits of some of the
        lines, so that a run interrupted before its first line has no effect.
        """
        worlds = {_world(line) for line in lines}
        records = read_lines(self.path("datasets"))
        return {r["dataset"]: r for r in records if _world_of(r) in worlds}

    def add_run(self, record: Record) -> None:
        """Append the description of a run."""
        append_lines(self.path("runs"), [record])

    def add_failure(self, record: Record) -> None:
        """Append the error of one unit."""
        append_lines(self.path("failures"), [record])

    def keep_plans(self, plans: Iterable[MaskPlan]) -> None:
        """Save each mask plan under its hash, once."""
        folder = self.folder / "plans"
        folder.mkdir(parents=True, exist_ok=True)
        for plan in plans:
            path = folder / f"{plan.hash[:16]}.json"
            if not path.exists():
                plan.save(path)

    def identities(self) -> set[tuple[str, str, int]]:
        """Return unit, pattern and mask seed of every line."""
        return {
            (line["unit"], line["pattern"], line["seed"])
            for line in read_lines(self.path("results"))
        }

    def lines(self) -> list[Record]:
        """Return the valid lines, the last one if a unit ran twice.

        Lines whose content hash or splits differ from those in `datasets` are not
        comparable and left out.
        """
        by_identity = {
            (line["unit"], line["pattern"], line["seed"]): line
            for line in read_lines(self.path("results"))
        }
        known = self.datasets(by_identity.values())
        shown = {_world_of(record) for record in known.values()}
        return [line for line in by_identity.values() if _world(line) in shown]

    def failures(self, lines: Iterable[Record]) -> list[Record]:
        """Return the latest failure of each unit that has no result in the lines."""
        done = {
            (line["dataset"], line["model"], line["train_missing"], line["split"])
            for line in lines
        }
        latest = {
            (f["dataset"], f["model"], f["train_missing"], f["split"]): f
            for f in read_lines(self.path("failures"))
        }
        return [record for key, record in latest.items() if key not in done]


def _world(line: Record) -> tuple[str, str, str]:
    """Return data set, scheme and content hash of a line: what makes it comparable."""
    return line["dataset"], line["scheme"], line["unit"].rpartition("|")[2]


def _world_of(record: Record) -> tuple[str, str, str]:
    """Return the same of the description of a data set."""
    return record["dataset"], record["scheme"], short_hash(record["data_hash"])


def short_hash(digest: str) -> str:
    """Return the prefix of a content hash that lines contain."""
    return digest[:12]
