"""The program of the reliability table, and its rows in the quick form."""

import importlib
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROMISED = range(1, 18)
# Measured in the slow tests of their subjects, or by the quick form in CI.
QUICK = (5, 12, 15, 16, 17)


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
    assert [each["reached"] for each in content["rows"]] == [False, True]
    with pytest.raises(SystemExit) as ended:
        program.main(["--rows", "4"])
    assert ended.value.code == 0


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(n, marks=pytest.mark.slow if n > 15 else pytest.mark.long)
        for n in QUICK
    ],
)
def test_row_is_reached(program, number):
    row = program.find_rows()[number](False)
    assert row.number == number
    assert row.reached, row.figure
