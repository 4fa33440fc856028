"""Files: atomic writing, locks, and reading within limits."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mmgraph import files, limits
from mmgraph.errors import ConfigError, DataError


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    files.write_text(path, "old")
    with pytest.raises(IsADirectoryError), files.replacing(path) as part:
        tmp_path.write_text("not a file")
    assert not part.exists()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


def test_permissions_and_links_are_kept(tmp_path):
    path, link = tmp_path / "a.txt", tmp_path / "link.txt"
    path.write_text("old")
    path.chmod(0o600)
    link.symlink_to(path)
    files.write_text(link, "new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600


KILLED = """
import os, signal, sys
from pathlib import Path
from mmgraph import files
with files.replacing(Path(sys.argv[1])) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_files_of_killed_processes_are_deleted_by_the_next_write(tmp_path):
    path = tmp_path / "a.json"
    subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert len(names(tmp_path)) == 1
    files.write_text(path, "new")
    assert names(tmp_path) == ["a.json"]


def test_files_of_living_writers_are_kept(tmp_path):
    path = tmp_path / "a.json"
    with files.replacing(path) as part:
        part.write_text("slow")
        files.write_text(path, "fast")
        files.sweep(tmp_path)
        assert part.exists()
    assert path.read_text() == "slow"


def test_files_of_other_names_are_kept(tmp_path):
    (tmp_path / ".hidden.json").write_text("mine")
    (tmp_path / ".a.0123.tmp.json").write_text("mine")
    files.sweep(tmp_path)
    assert len(names(tmp_path)) == 2


def test_a_folder_is_locked_by_one_at_a_time(tmp_path):
    order = []

    def other():
        with files.locked(tmp_path):
            order.append("other")

    with files.locked(tmp_path):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.03)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]
    assert names(tmp_path) == []


def test_waiting_for_a_lock_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(files.time, "monotonic", iter([0.0, 0.0, 100.0]).__next__)
    with (
        files.locked(tmp_path, shared=True),
        pytest.raises(OSError, match="another process saves into it"),
        files.locked(tmp_path),
    ):
        pass


@pytest.mark.parametrize("kind", ["pipe", "large", "none"])
def test_unreadable_files_are_named(tmp_path, kind):
    path = tmp_path / "a.json"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "large":
        path.write_text("12345")
    rule = {
        "pipe": r"a\.json must be a regular file, got a pipe or device",
        "large": r"a\.json must have at most 4 bytes, got 5\. .*run_file_bytes=NUMBER",
        "none": r"a\.json cannot be read: No such file",
    }
    with (
        limits.override(run_file_bytes=4),
        pytest.raises(ConfigError, match=rule[kind]),
    ):
        files.read_bytes(path, "run_file_bytes", ConfigError)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[" * 50_000, "A must be JSON, got lists or objects that are nested"),
        (b"[" * 150 + b"]" * 150, "A must be JSON, got more than 100 nested levels"),
        (b'["\\ud800"]', "A must be JSON, got 'utf-8' codec can't encode"),
        (b"\xff", "A must be JSON, got 'utf-8' codec can't decode"),
        (b"[" + b"1," * 70_000, r"at most 60000 items, got 70001\. If the file"),
        (b"1" * 200_000, "A must have at most 150000 bytes, got 200000"),
    ],
)
def test_documents_beyond_the_limits_are_refused(content, message):
    with (
        limits.override(document_items=60_000, document_bytes=150_000),
        pytest.raises(DataError, match=message),
    ):
        files.parse_document(content, "A", DataError)


def test_values_in_messages_are_short():
    assert len(files.shorten(["x" * 1000] * 1000)) < 200
    assert files.shorten(ValueError("two\nlines.")) == "two lines"
