"""Columns of labels, ids and groups, which keep every digit and leading zero.

Shapes: N cells.
"""

import re
from typing import TYPE_CHECKING

import numpy as np

from mmgraph.data.arrow_types import (
    is_number,
    is_string,
    plain_array,
    to_numbers,
    without,
)
from mmgraph.data.column import AnyArray
from mmgraph.data.notices import warn
from mmgraph.data.number_strings import PLAIN, parse_numbers
from mmgraph.data.string_cells import NOT_AVAILABLE
from mmgraph.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

_WHOLE = r"^(0|-?[1-9]\d{0,18})$"  # unchanged by a conversion to an integer and back
_CODE = r"^([-+]?0\d.*|\d+[eE]\d+|\d{16,})$"  # 007, 1E5: changed by a conversion
_SEPARATED = r"^[-+]?\d[\d.,'\x{2019}\x{a0}\x{202f} ]*$"
_BOUND = re.compile("[<>~\u2264\u2265]")
_MANY_NUMBERS = 20  # different labels that are probably quantities, not classes


def read_labels(
    subject: str, field: str, array: "pa.Array", *, typed: bool = True
) -> AnyArray:
    """Read a column of labels, ids or groups, with every digit and leading zero.

    Args:
        subject: "y", "ids", "groups" or "split_name", for messages.
        field: Name of the column.
        array: ``[N]`` Arrow array of single values.
        typed: False if strings have no declared type, as in CSV files: they are
            converted to integers where that changes no digit, and labels to numbers or
            booleans.

    Returns:
        ``[N]`` numbers, NaN where missing; or booleans, strings, or integers of more
        than 53 bits, as objects with None where some are missing.

    Raises:
        DataError: If the column holds neither numbers nor strings, or numbers that have
            lost digits.
    """
    import pyarrow as pa

    cells, _ = plain_array(array)
    if pa.types.is_decimal(cells.type):
        cells = _decimal_labels(subject, cells)
    if is_string(cells.type):
        if not typed:
            cells = _infer_labels(subject, field, cells)
        if is_string(cells.type):
            return np.asarray(cells.to_numpy(zero_copy_only=False), dtype=object)
    if not is_number(cells.type):
        raise DataError(
            f"column {field!r} must hold numbers or strings, got {array.type}. Convert "
            "it first."
        )
    has_gaps = cells.null_count and not pa.types.is_floating(cells.type)
    if has_gaps and (pa.types.is_boolean(cells.type) or not _fits_float(cells)):
        return np.array(cells.to_pylist(), dtype=object)
    return to_numbers(cells)


def _fits_float(cells: "pa.Array") -> bool:
    """Return True if float64 keeps every digit of integers."""
    import pyarrow.compute as pc

    bounds = pc.min_max(cells).as_py()
    return max(abs(bound or 0) for bound in bounds.values()) <= 2**53


def _decimal_labels(subject: str, cells: "pa.Array") -> "pa.Array":
    """Return labels of a decimal type as integers, or as strings if these lose digits.

    Labels with a fractional part become floats.
    """
    import pyarrow as pa

    if cells.type.scale > 0:
        return cells.cast(pa.float64() if subject == "y" else pa.large_string())
    try:
        return cells.cast(pa.int64())
    except pa.ArrowInvalid:
        return cells.cast(pa.large_string())


def _infer_labels(subject: str, field: str, cells: "pa.Array") -> "pa.Array":
    """Return labels of a CSV file as numbers or booleans if that keeps every digit.

    Raises:
        DataError: If most labels are quantities, and others are no numbers.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if subject != "ids":
        cells = pc.utf8_trim_whitespace(cells)
    cells = without(cells, ["", *NOT_AVAILABLE])
    known = cells.drop_null()

    def all_match(pattern: str) -> bool:
        return bool(pc.all(pc.match_substring_regex(known, pattern)).as_py())

    if not len(known):
        return cells.cast(pa.float64())
    if all_match(_WHOLE):
        try:
            return cells.cast(pa.int64())
        except pa.ArrowInvalid:
            return cells
    if subject != "y":
        return cells
    if all_match("(?i)^(true|false)$"):
        return pc.equal(pc.utf8_lower(cells), "true")
    if pc.any(pc.match_substring_regex(known, _CODE)).as_py():
        return cells
    if all_match(PLAIN):
        return cells.cast(pa.float64())
    return _read_odd_labels(field, cells, separated=all_match(_SEPARATED))


def _read_odd_labels(field: str, cells: "pa.Array", *, separated: bool) -> "pa.Array":
    """Return labels of which some are not plain numbers.

    Args:
        field: Name of the column.
        cells: Labels.
        separated: True if all of them consist of digits and separators.
    """
    import pyarrow as pa

    parsed = parse_numbers(cells)
    known = cells.is_valid().to_numpy(zero_copy_only=False)
    numbers = parsed.is_number & ~parsed.rewritten
    odd = known & ~numbers
    row = int(np.flatnonzero(odd)[0])
    got = f"{cells[row].as_py()!r} in row {row}"
    if separated and parsed.is_number[known].all() and not parsed.ambiguous:
        value = f"{parsed.values[row]:.10g}"
        warn(f"Label column {field!r} holds {got}, which is read as {value}.")
        return pa.array(parsed.values, mask=~known)
    if numbers.sum() * 2 <= known.sum():
        if parsed.is_number.sum() * 2 > known.sum() and not _BOUND.search(got):
            warn(
                f"Label column {field!r} holds numbers in another form, such as {got}: "
                "its labels are read as classes named by strings. Write plain numbers."
            )
        return cells
    values = parsed.values[numbers]
    if len(np.unique(values)) > _MANY_NUMBERS or np.mod(values, 1).any():
        raise DataError(
            f"Label column {field!r} must hold numbers or classes, got {got} among "
            "numbers.",
            "Correct the cell, or leave it empty.",
        )
    warn(
        f"Label column {field!r} holds numbers and {got}: its labels are read as "
        "classes named by strings."
    )
    return cells
