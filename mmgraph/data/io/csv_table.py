"""CSV files as Arrow tables of strings.

The content of a CSV file has no types: every column is read as strings, so that no
digit and no leading zero is lost. What a column is, is decided where it is used; see
:mod:`mmgraph.data.cells`.
"""

import csv as csv_module
import io
import os
import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mmgraph import limits
from mmgraph.data.string_cells import NULLS
from mmgraph.errors import DataError
from mmgraph.files import check_regular, marked_encoding
from mmgraph.typing import PathLike

if TYPE_CHECKING:
    import pyarrow as pa

UNTYPED = b"mmgraph.csv"  # marks tables whose strings have no declared type
_HEAD_BYTES = 1 << 20
_BLOCK_BYTES = 16 << 20
_LARGEST_BLOCK = 1 << 30
_SEPARATORS = ",;\t|"
_OTHER_FORMATS = {
    b"PK\x03\x04": "an Excel file or ZIP archive",
    b"\xd0\xcf\x11\xe0": "an Excel file",
    b"PAR1": "a Parquet file",
}
_FORMULA = r'^="([^"]*)"$'
_JUDGED_ROWS = 100  # rows whose lengths decide between two separators


class _Layout(NamedTuple):
    """What the start of a CSV file states about the rest.

    Attributes:
        names: Names of the columns as they are written.
        separator: Sign between columns.
        encoding: Encoding: that of the byte-order mark, or UTF-8.
        skipped: Lines before the header.
    """

    names: list[str]
    separator: str
    encoding: str
    skipped: int


def read_csv(path: PathLike) -> "pa.Table":
    """Read a CSV file as a table of strings, null where a cell is empty or NA.

    Args:
        path: File with a header, in UTF-8, or in UTF-16 with a byte-order mark, with
            commas, semicolons, tabs or bars between columns; a name that ends in .gz
            is decompressed.

    Raises:
        ValueError: If the file is of another format or encoding.
        pyarrow.ArrowException: If the rows differ in length.
        OSError: If the file cannot be read.
    """
    import pyarrow as pa
    from pyarrow import csv

    layout = _read_layout(path)
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(layout.names, pa.string()),
        strings_can_be_null=True,
        null_values=list(NULLS),
    )
    parse = csv.ParseOptions(delimiter=layout.separator, newlines_in_values=True)
    block = _BLOCK_BYTES
    while True:
        read = csv.ReadOptions(
            use_threads=False,
            block_size=block,
            encoding=layout.encoding,
            skip_rows=layout.skipped,
        )
        try:
            with open_csv(path) as rows:
                table = csv.read_csv(rows, read, parse, convert)
            break
        except pa.ArrowInvalid as error:
            if "invalid UTF8" in str(error):
                _check_encoding(path)
            if "straddl" not in str(error) or block >= _LARGEST_BLOCK:
                raise
            block *= 8
    if _has_line_breaks(table):
        _check_quotes(path, layout)
    names = [name.strip() for name in table.column_names]
    columns = [_without_formula(column) for column in table.columns]
    return pa.table(columns, names=names, metadata={UNTYPED: b""})


def _without_formula(column: "pa.ChunkedArray") -> "pa.ChunkedArray":
    """Return the strings of cells such as ="007", which keep zeros in Excel."""
    import pyarrow.compute as pc

    first = column[0].as_py() if len(column) else None
    if first is not None and not first.startswith('="'):
        return column
    known = column.drop_null()
    if not len(known) or not pc.all(pc.match_substring_regex(known, _FORMULA)).as_py():
        return column
    return pc.replace_substring_regex(column, _FORMULA, r"\1")


def _check_encoding(path: PathLike) -> None:
    """Check that a file is in UTF-8.

    Raises:
        ValueError: If a line is not; it is named with the text before the fault.
    """
    with open_csv(path) as rows:
        for number, line in enumerate(rows, 1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                start = line[: error.start].decode()[-20:]
                raise ValueError(
                    f"a text in another encoding than UTF-8 in line {number}, after "
                    f"{start!r}"
                ) from None


def _has_line_breaks(table: "pa.Table") -> bool:
    """Return True if a cell contains a line break."""
    import pyarrow.compute as pc

    return any(
        pc.any(pc.match_substring(column, "\n")).as_py() for column in table.columns
    )


def _check_quotes(path: PathLike, layout: _Layout) -> None:
    """Check that every quote is closed; otherwise a cell contains the rows after it.

    Raises:
        ValueError: If a quote is not closed, or a cell continues after its quote.
    """
    with (
        open_csv(path) as rows,
        io.TextIOWrapper(rows, layout.encoding, newline="") as text,
    ):
        lines = csv_module.reader(text, delimiter=layout.separator, strict=True)
        try:
            for _ in lines:
                pass
        except csv_module.Error as error:
            if "field limit" in str(error):
                return
            raise ValueError(
                f"a quote without its pair before line {lines.line_num + 1} ({error})"
            ) from None


def csv_names(path: PathLike) -> list[str]:
    """Return the column names of a CSV file.

    Raises:
        ValueError: If the file is of another format or encoding.
        OSError: If the file cannot be read.
    """
    return [name.strip() for name in _read_layout(path).names]


def is_untyped(table: "pa.Table") -> bool:
    """Return True if the strings of a table have no declared type."""
    return UNTYPED in (table.schema.metadata or {})


class _BoundedFile(io.RawIOBase):
    """CSV file, decompressed if its name ends in .gz, up to the limits on its size.

    Args:
        path: File; its suffix is compared case-insensitively.
    """

    def __init__(self, path: PathLike) -> None:
        import pyarrow as pa

        check_regular(Path(path), DataError)
        gzip = str(path).lower().endswith(".gz")
        self.stream = pa.input_stream(path, compression="gzip" if gzip else None)
        self.packed, self.size = os.path.getsize(path), 0

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401
        """Read into a buffer; see :class:`io.RawIOBase`."""
        content = self.stream.read(len(buffer))
        self.size += len(content)
        limits.check_expansion(self.size, self.packed, "csv_expansion", DataError)
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        """Close the file."""
        self.stream.close()
        super().close()


def open_csv(path: PathLike) -> io.BufferedReader:
    """Open a CSV file for reading, within the limits on its size.

    Raises:
        DataError: If it is not a regular file; while it is read, if it is too large.
    """
    return io.BufferedReader(_BoundedFile(path), _HEAD_BYTES)


def _read_layout(path: PathLike) -> _Layout:
    """Return what the start of a CSV file states about the rest.

    Raises:
        ValueError: If the file is of another format or encoding.
    """
    with open_csv(path) as rows:
        head = rows.read(_HEAD_BYTES)
    for start, kind in _OTHER_FORMATS.items():
        if head.startswith(start):
            raise ValueError(kind)
    marked = marked_encoding(head)
    encoding = marked or "utf-8"
    if marked is None and b"\0" in head:
        raise ValueError(
            "NUL bytes, as in UTF-16 without a byte-order mark or in another format"
        )
    text = head.decode(marked or "utf-8-sig", errors="surrogateescape")
    text, skipped, stated = _skip_directive(text)
    separator = stated or _find_separator(text, whole=len(head) < _HEAD_BYTES)
    lines = csv_module.reader(io.StringIO(text, newline=""), delimiter=separator)
    names = next((line for line in lines if line), None)
    if names is None:
        raise ValueError("a file without a header")
    if any(re.search("[\ud800-\udfff]", name) for name in names):
        raise ValueError("a header in another encoding than UTF-8")
    return _Layout(names, separator, encoding, skipped)


def _skip_directive(text: str) -> tuple[str, int, str | None]:
    """Return text without a first line "sep=;" of Excel, and the separator in it."""
    match = re.match(rf'"?sep=([{_SEPARATORS}])"?\r?\n', text, re.IGNORECASE)
    return (text[match.end() :], 1, match[1]) if match else (text, 0, None)


def _find_separator(text: str, *, whole: bool) -> str:
    """Return the separator of the header.

    It is the only candidate in the header, or else the one that divides the header and
    the first rows into the same number of cells, the most of them if there are several.

    Args:
        text: Start of the file.
        whole: True if it is the whole file.

    Raises:
        ValueError: If two candidates are equally plausible.
    """
    unquoted = re.sub(r'"[^"]*"', "", text)
    header = next(filter(None, unquoted.splitlines()), "")
    present = [sign for sign in _SEPARATORS if sign in header]
    if len(present) < 2:
        return present[0] if present else ","
    widths = {sign: _common_width(text, sign, whole=whole) for sign in present}
    largest = max(widths.values())
    best = [sign for sign in present if widths[sign] == largest]
    if largest and len(best) > 1:
        raise ValueError(
            f"a header in which both {best[0]!r} and {best[1]!r} may separate columns; "
            "put its names in quotes"
        )
    return best[0]


def _common_width(text: str, separator: str, *, whole: bool) -> int:
    """Return the number of cells of the first rows; 0 if it differs between rows."""
    lines = csv_module.reader(io.StringIO(text, newline=""), delimiter=separator)
    try:
        rows = [row for row in islice(lines, _JUDGED_ROWS + 1) if row]
    except csv_module.Error:
        return 0
    if not whole and len(rows) <= _JUDGED_ROWS:
        rows = rows[:-1] or rows  # the last row may be cut
    widths = {len(row) for row in rows}
    return widths.pop() if len(widths) == 1 else 0
