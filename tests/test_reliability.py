"""The program of the reliability table, and the quick form of all its rows."""

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROMISED = range(1, 18)


@pytest.fixture
def program(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield importlib.import_module("reliability.program")
    for name in [each for each in sys.modules if each.split(".")[0] == "reliability"]:
        del sys.modules[name]


def test_every_promised_row_is_measured_once(program):
    assert list(program.find_rows()) == list(PROMISED)


def test_an_unknown_row_is_refused(program):
    with pytest.raises(SystemExit, match=r"Row 18 must be one of 1, 2, .*, 17\."):
        program.main(["--rows", "18"])


def test_rows_are_printed_and_written(program, monkeypatch, tmp_path, capsys):
    row = importlib.import_module("reliability.row").Row
    rows = {
        3: lambda full: row(3, "flips", "0 of 200", f"{int(full)} of 200", not full),
        4: lambda _: row(4, "source", "0 uses", "0 uses", True),
    }
    monkeypatch.setattr(program, "find_rows", lambda: rows)
    with pytest.raises(SystemExit) as ended:
        program.main(["--full", "--json", str(tmp_path / "out" / "rows.json")])
    assert ended.value.code == 1
    assert "flips: 1 of 200 [NOT REACHED" in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "rows.json").read_text())
    assert [each["reached"] for each in content] == [False, True]
    path = str(tmp_path / "out" / "rows.json")
    with pytest.raises(SystemExit):
        program.main(["--rows", "3", "--json", path])
    content = json.loads(Path(path).read_text())
    assert [each["reached"] for each in content] == [True, True]
    assert [each["full"] for each in content] == [False, True]
    with pytest.raises(SystemExit) as ended:
        program.main(["--rows", "4"])
    assert ended.value.code == 0


def test_the_page_holds_the_committed_rows(program):
    page = importlib.import_module("reliability.page")
    rows = json.loads(program.RESULTS.read_text("utf-8"))
    assert [row["number"] for row in rows] == list(PROMISED)
    assert all(row["reached"] for row in rows)
    assert program.PAGE.read_text("utf-8") == page.render(rows)


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """The quick form of all rows, measured in one process without checks of shapes."""
    path = tmp_path_factory.mktemp("rows") / "rows.json"
    run = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / "reliability.py", "--json", path],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert path.exists(), run.stderr
    return {row["number"]: row for row in json.loads(path.read_text())}


@pytest.mark.slow
@pytest.mark.parametrize("number", PROMISED)
def test_row_is_reached_in_the_quick_form(rows, number):
    assert rows[number]["reached"], rows[number]["figure"]


def test_a_loader_that_fails_is_found(program, tmp_path):
    fuzz = importlib.import_module("reliability.fuzz")
    path = tmp_path / "t.json"
    path.write_text("[1]")

    def read():
        text = path.read_bytes()
        if text[:2] == b"[1":
            return
        if text[:1] == b"[":
            raise fuzz.mg.DataError("t.json is wrong.")
        raise fuzz.mg.DataError("It is wrong.") if text else KeyError("x")

    def put(content):
        path.write_bytes(content)

    loader = fuzz.Loader("t", path, read, fuzz.mutate_bytes, put, ("t.json",))
    kinds = fuzz.count_kinds(fuzz.run_loader(loader, 60))["t"]
    assert kinds.keys() == {"accepted", "refused", "unnamed", "KeyError"}
    assert path.read_text() == "[1]"


def test_a_child_is_captured_whatever_it_does(program):
    children = importlib.import_module("reliability.children")
    assert children.run_forked(lambda: os.write(1, b"ok")) == (0, "ok")
    assert children.run_forked(lambda: sys.exit(2)) == (2, "")
    status, text = children.run_forked(lambda: 1 / 0, stream=2)
    assert status == 1
    assert "ZeroDivisionError" in text
    killed = children.run_forked(lambda: os.kill(os.getpid(), signal.SIGKILL))
    assert killed == (-signal.SIGKILL, "")
