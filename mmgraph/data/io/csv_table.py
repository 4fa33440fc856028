"""CSV files as Arrow tables of strings.

The content of a CSV file has no types: every column is read as strings, so that no
digit and no leading zero is lost. What a column is, is decided where it is used; see
:mod:`mmgraph.data.cells`.
"""

import csv as csv_module
import io
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmgraph import limits
from mmgraph.data.string_cells import NULLS
from mmgraph.errors import DataError
from mmgraph.files import check_regular
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
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}


def read_csv(path: PathLike) -> "pa.Table":
    """Read a CSV file as a table of strings, null where a cell is empty or NA.

    Args:
        path: File with a header, in UTF-8, with commas, semicolons, tabs or bars
            between columns; a name that ends in .gz is decompressed.

    Raises:
        ValueError: If the file is of another format or encoding.
        pyarrow.ArrowException: If the rows differ in length.
        OSError: If the file cannot be read.
    """
    import pyarrow as pa
    from pyarrow import csv

    names, separator = _read_header(path)
    convert = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        strings_can_be_null=True,
        null_values=list(NULLS),
    )
    parse = csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    block = _BLOCK_BYTES
    while True:
        read = csv.ReadOptions(use_threads=False, block_size=block)
        try:
            with open_csv(path) as rows:
                table = csv.read_csv(rows, read, parse, convert)
            break
        except pa.ArrowInvalid as error:
            if "straddl" not in str(error) or block >= _LARGEST_BLOCK:
                raise
            block *= 8
    if _has_line_breaks(table):
        _check_quotes(path, separator)
    return table.replace_schema_metadata({UNTYPED: b""})


def _has_line_breaks(table: "pa.Table") -> bool:
    """Return True if a cell contains a line break."""
    import pyarrow.compute as pc

    return any(
        pc.any(pc.match_substring(column, "\n")).as_py() for column in table.columns
    )


def _check_quotes(path: PathLike, separator: str) -> None:
    """Check that every quote is closed; otherwise a cell contains the rows after it.

    Raises:
        ValueError: If a quote is not closed, or a cell continues after its quote.
    """
    with open_csv(path) as rows, io.TextIOWrapper(rows, "utf-8", newline="") as text:
        lines = csv_module.reader(text, delimiter=separator, strict=True)
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
    return _read_header(path)[0]


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


def _read_header(path: PathLike) -> tuple[list[str], str]:
    """Return the column names and the separator of a CSV file."""
    with open_csv(path) as rows:
        head = rows.read(_HEAD_BYTES)
    for start, kind in _OTHER_FORMATS.items():
        if head.startswith(start):
            raise ValueError(kind)
    text = head.decode("utf-8-sig", errors="surrogateescape")
    separator = _find_separator(text)
    lines = csv_module.reader(io.StringIO(text, newline=""), delimiter=separator)
    names = next((line for line in lines if line), None)
    if names is None:
        raise ValueError("a file without a header")
    if any(re.search("[\ud800-\udfff]", name) for name in names):
        raise ValueError("a header that is not in UTF-8")
    return names, separator


def _find_separator(text: str) -> str:
    """Return the separator of the header: a comma, or the only other one in it."""
    unquoted = re.sub(r'"[^"]*"', "", text)
    header = next(filter(None, unquoted.splitlines()), "")
    present = [sign for sign in _SEPARATORS if sign in header]
    return present[0] if len(present) == 1 else ","
