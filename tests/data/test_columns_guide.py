"""Every row of the tables of the guide "What mmgraph does with your columns"."""

import ast
import csv
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

from mmgraph import DataError, DataWarning, MultimodalData

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "columns.md"
CODE = re.compile(r"`([^`]*)`")


class Row(NamedTuple):
    """A row of a table: the cells of a column, and what they become."""

    role: str
    kind: str
    cells: list[Any]
    values: list[Any]
    notice: str


def _literals(text: str) -> list[Any]:
    code = CODE.search(text)
    return ast.literal_eval(f"[{code[1]}]") if code else []


def _rows() -> list[Row]:
    """Return the rows of both tables."""
    rows = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        fields = [field.strip() for field in line.strip("|").split("|")]
        if (
            not line.startswith("| ")
            or len(fields) != 5
            or fields[0] in ("type", "role")
        ):
            continue
        if fields[0] in ("ids", "groups", "y"):
            role, kind, cells, values, notice = fields
        else:
            (kind, cells, _, values, notice), role = fields, ""
        kind = kind.strip("`")
        rows.append(
            Row(role, kind, _literals(cells), _literals(values), notice.strip("`"))
        )
    return rows


def _read(row: Row, folder: Path) -> MultimodalData:
    """Read a column of a row, next to others."""
    num = len(row.cells)
    options = {row.role: "x"} if row.role else {}
    options = {"y": None, "ids": None, "groups": None} | options
    modalities = {"m": ["z" if row.role else "x"]}
    if row.kind != "CSV":
        cells = pd.Series(row.cells, dtype="object")
        if row.kind != "str" or pd.__version__ >= "3":  # else None becomes "None"
            cells = cells.astype(row.kind)
        frame = pd.DataFrame({"x": cells, "z": np.arange(num, dtype=float)})
        return MultimodalData.from_pandas(frame, modalities, **options)
    with (folder / "t.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["x", "z"], *zip(row.cells, range(num), strict=True)])
    return MultimodalData.from_parquet(
        folder / "t.csv", modalities=modalities, **options
    )


def _values(data: MultimodalData, role: str) -> list[Any]:
    """Return the cells of a column as numbers and strings, None where missing."""
    if role:
        cells = getattr(data, role).tolist()
        return [None if cell is None or cell != cell else cell for cell in cells]
    column = data.columns["m"]
    cells, categories = column.cells("x")
    result: list[Any] = [None] * len(data)
    for sample, cell in zip(column.sample.tolist(), cells.tolist(), strict=True):
        result[sample] = categories[int(cell)] if categories else cell
    return result


@pytest.mark.parametrize("row", _rows(), ids=lambda row: f"{row.kind} {row.cells}"[:60])
def test_a_column_becomes_what_the_guide_states(row, tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if row.notice == "DataError":
            with pytest.raises(DataError, match=r"'x'|ids"):
                _read(row, tmp_path)
            return
        data = _read(row, tmp_path)
    values = _values(data, row.role)
    assert [type(v) is str for v in values] == [type(v) is str for v in row.values]
    assert [v is None for v in values] == [v is None for v in row.values]
    for got, expected in zip(values, row.values, strict=True):
        if isinstance(expected, float):
            assert got == pytest.approx(expected, rel=1e-6)
        else:
            assert got == expected
    notices = {str(w.category.__name__) for w in caught}
    assert notices == ({row.notice} if row.notice else set()), [
        w.message for w in caught
    ]
    assert all(issubclass(w.category, DataWarning) for w in caught)


def test_the_guide_has_its_tables():
    rows = _rows()
    assert sum(not row.role for row in rows) > 25
    assert {row.role for row in rows} == {"", "ids", "groups", "y"}
