"""What the columns of a table are: numbers, truth values, times, categories or text.

One set of rules for Arrow, pandas, polars and CSV. A declared type decides; the values
of a column of strings decide what the strings are. Cells that do not fit are reported
with their rows. The guide "What mmgraph does with your columns" states the rules.
Shapes: N cells.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from mmgraph.data.column import AnyArray, BoolArray
from mmgraph.data.number_strings import PLAIN, parse_numbers
from mmgraph.errors import DataError, DataWarning

if TYPE_CHECKING:
    import pyarrow as pa

MAX_LISTED = 5  # cells that a warning lists
DAY = 86400  # seconds
_SAMPLE = 1000  # texts that are searched for numbers
# what programs write for a missing cell: null in every column of a CSV file
NULLS = ("", "NA", "NaN", "nan", "<NA>", "NaT", "NULL", "null", "#N/A", "#NA", "-nan")
# what people write: missing among numbers, truth values and dates, where it is reported
PLACEHOLDERS = (
    *("n/a", "n.a.", "na", "none", "nil", "nd", "n.d.", "not done", "missing", "nan"),
    *("unknown", "unk", "not available", "null", "nat", "<na>", "#n/a", "#value!"),
    *("?", ".", "..", "...", "-", "--", "x", "\N{EN DASH}", "\N{EM DASH}", "#div/0!"),
)
NOT_AVAILABLE = ("n/a", "N/A")  # of these, null in every column of a CSV file
_WHOLE = r"^(0|-?[1-9]\d{0,18})$"  # unchanged by a conversion to an integer and back
_CODE = r"^([-+]?0\d.*|\d+[eE]\d+|\d{16,})$"  # 007, 1E5: changed by a conversion
_SEPARATED = r"^[-+]?\d[\d.,'\x{2019}\x{a0}\x{202f} ]*$"
_WITH_NUMBER = r"^[<>~]?\s*[-+]?\d\S*( \S{1,8})?$"  # 120/80, 5 mg, 1st
_BOUND = re.compile("[<>~\u2264\u2265]")
_MANY_NUMBERS = 20  # different labels that are probably quantities, not classes
_CODE_LENGTH = 15  # digits that float64 keeps
_ISO_DATE = (
    r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?"
    r" ?(Z|z|UTC|[-+]\d{2}(:?\d{2})?)?)?$"
)
_OTHER_DATE = (
    r"^(\d{1,2}[./-]\d{1,2}[./-](\d{2}|\d{4})|\d{4}[./-]\d{1,2}[./-]\d{1,2}|"
    r"\d{1,2}[ .-]*[A-Za-z]{3,9}[ .,-]*\d{2,4}|"
    r"[A-Za-z]{3,9}\.? \d{1,2},? \d{4})([T ,]+\d{1,2}:\d{2}.*)?$"
)


def read_cells(
    name: str,
    field: str,
    array: "pa.Array",
    *,
    typed: bool = True,
    as_categories: bool = False,
) -> Any:  # noqa: ANN401
    """Read a column of a modality as numbers or as strings.

    Args:
        name: Name of the modality, for messages.
        field: Name of the column.
        array: ``[N]`` Arrow array of single values.
        typed: False if strings have no declared type, as in CSV files.
        as_categories: True if the user declared the column as categorical, by the
            selection of a category.

    Returns:
        ``[N]`` float64, NaN where missing: numbers, truth values (0 and 1), dates and
        times (days since 1970-01-01 00:00 UTC), times of day and durations (seconds).
        Otherwise an Arrow array of strings, categories or texts, null where missing.

    Raises:
        DataError: If the type of the column is none of these, or its strings allow
            several readings as numbers or dates.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    cells, declared = plain_array(array)
    subject = f"Column {field!r} of modality {name!r}"
    if is_string(cells.type):
        texts = clean_strings(cells)
        if not declared and not as_categories:
            numbers = _StringColumn(subject, field, texts, typed).read()
            if numbers is not None:
                return numbers
        return texts if typed else without(texts, NOT_AVAILABLE)
    if declared and not pa.types.is_boolean(cells.type):
        return pc.cast(cells, pa.large_string())
    if is_number(cells.type):
        return to_numbers(cells).astype(np.float64)
    if is_temporal(cells.type):
        return _temporal_numbers(cells)
    raise DataError(
        f"Modality {name!r} must hold numbers, categories, dates or text, got column "
        f"{field!r} of {array.type}.",
        "Convert it to one of these first.",
    )


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


def plain_array(array: "pa.Array") -> tuple["pa.Array", bool]:
    """Return a column without encodings, and whether it is declared categorical.

    Dictionaries and runs are decoded, extension types replaced by their storage,
    strings become large strings, decimals stay, a column of nulls becomes floats.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(array.type, pa.BaseExtensionType):
        array = array.storage
    declared = bool(pa.types.is_dictionary(array.type))
    if declared:
        categories, _ = plain_array(array.dictionary)  # views have no kernel to decode
        array = pa.DictionaryArray.from_arrays(array.indices, categories)
        array = array.dictionary_decode()
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    if pa.types.is_null(array.type):
        array = array.cast(pa.float64())
    if pa.types.is_string(array.type) or pa.types.is_string_view(array.type):
        array = array.cast(pa.large_string())
    return array, declared


def is_string(kind: "pa.DataType") -> bool:
    """Return True for the string type of :func:`plain_array`."""
    import pyarrow as pa

    return bool(pa.types.is_large_string(kind))


def is_number(kind: "pa.DataType") -> bool:
    """Return True for numbers and truth values."""
    import pyarrow as pa

    types = pa.types
    checks = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    return any(check(kind) for check in checks)


def is_temporal(kind: "pa.DataType") -> bool:
    """Return True for dates, times and durations."""
    import pyarrow as pa

    return bool(pa.types.is_temporal(kind)) and not pa.types.is_interval(kind)


def is_single(kind: "pa.DataType") -> bool:
    """Return True if the cells of a type are single values, not lists of values."""
    import pyarrow as pa

    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return is_single(kind.value_type)
    strings = pa.types.is_string(kind) or pa.types.is_string_view(kind)
    null = pa.types.is_null(kind)
    return strings or null or is_string(kind) or is_number(kind) or is_temporal(kind)


def to_numbers(array: "pa.Array") -> AnyArray:
    """Return numbers with their type; as floats with NaN if some are null."""
    import pyarrow as pa

    is_float = pa.types.is_floating(array.type)
    if pa.types.is_decimal(array.type) or (array.null_count and not is_float):
        array = array.cast(pa.float64(), safe=False)
    return np.asarray(array.to_numpy(zero_copy_only=False))


def to_seconds(array: "pa.Array") -> AnyArray:
    """Return dates, times and durations as seconds ``[N]`` float64, NaN where null.

    Dates and times are counted from 1970-01-01 00:00 UTC; those without a zone are
    taken as UTC. Times of day are counted from midnight.
    """
    import pyarrow as pa

    kind = array.type
    if pa.types.is_date(kind):
        array = array.cast(pa.timestamp("ms"))
        kind = array.type
    ticks = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}[kind.unit]
    integer = pa.int32() if pa.types.is_time32(kind) else pa.int64()
    return to_numbers(array.cast(integer)).astype(np.float64) / ticks


def _temporal_numbers(array: "pa.Array") -> AnyArray:
    """Return dates and times as days ``[N]``, times of day and durations as seconds."""
    import pyarrow as pa

    is_date = pa.types.is_date(array.type) or pa.types.is_timestamp(array.type)
    return to_seconds(array) / (DAY if is_date else 1)


def clean_strings(cells: "pa.Array") -> "pa.Array":
    """Return strings without surrounding white space, null where nothing is left."""
    import pyarrow.compute as pc

    return without(pc.utf8_trim_whitespace(cells), [""])


def without(cells: "pa.Array", strings: Sequence[str]) -> "pa.Array":
    """Return strings, null where they are one of some strings."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(
        pc.is_in(cells, pa.array(strings, pa.large_string())), None, cells
    )


def warn(message: str) -> None:
    """Emit a `DataWarning`."""
    warnings.warn(message, DataWarning, stacklevel=2)


def warn_about_numbers(name: str, texts: AnyArray) -> None:
    """Warn if most of the first texts of a modality are numbers.

    Args:
        name: Name of the modality.
        texts: ``[L]`` strings, which are read as text.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    first = pa.array(texts[:_SAMPLE], pa.large_string())
    matches = pc.match_substring_regex(pc.utf8_trim_whitespace(first), PLAIN)
    rows = np.flatnonzero(matches.to_numpy(zero_copy_only=False))
    if len(rows) * 2 > len(first):
        warn(
            f"Modality {name!r} holds strings that are numbers, such as "
            f"{texts[rows[0]]!r}, which are read as text. Convert them to numbers; if "
            "they are text, give the modality kind='text' in a schema."
        )


class _StringColumn:
    """Decision about a column of strings of a modality.

    Args:
        subject: Start of messages.
        field: Name of the column.
        texts: ``[N]`` strings of :func:`clean_strings`.
        typed: False if strings have no declared type.
    """

    def __init__(
        self, subject: str, field: str, texts: "pa.Array", typed: bool
    ) -> None:
        import pyarrow as pa
        import pyarrow.compute as pc

        self.subject, self.field, self.texts, self.typed = subject, field, texts, typed
        names = pa.array(PLACEHOLDERS, pa.large_string())
        self.known = texts.is_valid().to_numpy(zero_copy_only=False)
        empty = pc.is_in(pc.utf8_lower(texts), names).to_numpy(zero_copy_only=False)
        self.meant = self.known & ~empty

    def read(self) -> AnyArray | None:
        """Return numbers ``[N]``, or None if the strings are categories or text.

        Raises:
            DataError: If numbers or dates allow several readings.
        """
        if not self.meant.any():
            none = not self.typed and not self.known.any()
            return np.full(len(self.texts), np.nan) if none else None
        if self._are_codes():
            return None
        for read in (self._numbers, self._booleans, self._dates):
            values = read()
            if values is not None:
                return values
        self._check_dates()
        if self._most(self._matches(_WITH_NUMBER)):
            warn(
                f"{self.subject} holds strings with numbers in them, such as "
                f"{self._example(self.meant)}, which are not numbers: they are read "
                f"as categories or text. Write one number per cell, or list categories "
                f"({self.field + '=CATEGORY'!r})."
            )
        return None

    def _numbers(self) -> AnyArray | None:
        plain = self._matches(PLAIN)
        if plain[self.known].all():
            self._report_typed()
            return self._cast()
        parsed = parse_numbers(self.texts)
        if not self._most(parsed.is_number):
            return None
        if parsed.ambiguous:
            raise DataError(
                f"{self.subject} must hold numbers with one decimal separator, got "
                f"{parsed.ambiguous!r}, where the separator may be that of decimals or "
                "of thousands.",
                "Write numbers without thousands separators and with decimal points.",
            )
        odd = self.known & (parsed.rewritten | ~parsed.is_number)
        self._report("numbers", odd, parsed.values)
        return parsed.values

    def _cast(self) -> AnyArray:
        import pyarrow as pa

        return to_numbers(self.texts.cast(pa.float64()))

    def _booleans(self) -> AnyArray | None:
        true, false = self._matches("(?i)^true$"), self._matches("(?i)^false$")
        if not (true | false)[self.meant].all():
            return None
        values = np.where(true, 1.0, np.where(false, 0.0, np.nan))
        self._report("truth values", self.known & ~self.meant, values)
        return values

    def _dates(self) -> AnyArray | None:
        iso = self._matches(_ISO_DATE)
        if not self._most(iso):
            return None
        seconds = parse_dates(self.texts, iso)
        if seconds is None:
            raise DataError(
                f"{self.subject} must hold dates with a zone or without, got both.",
                "Write all of them with a zone, such as 2024-01-31T10:00:00Z.",
            )
        self._report("dates", self.known & np.isnan(seconds), seconds)
        return seconds / DAY

    def _check_dates(self) -> None:
        other = self._matches(_OTHER_DATE)
        if self._most(other):
            raise DataError(
                f"{self.subject} must hold dates in the form of ISO 8601, got "
                f"{self._example(other)}.",
                "Write them as 2024-01-31 or 2024-01-31T10:00:00Z, or list categories: "
                f"{self.field + '=CATEGORY'!r}.",
            )

    def _are_codes(self) -> bool:
        """Return True for strings of digits that are no quantities, with a warning."""
        digits = self._matches(r"^\d+$")
        if not digits[self.meant].all():
            return False
        padded = self._matches(r"^0\d") & self.meant
        long = self._matches(rf"^\d{{{_CODE_LENGTH + 1},}}$") & self.meant
        if not long.any() and padded.sum() * 10 <= self.meant.sum():
            return False
        what = "more digits than a number keeps" if long.any() else "leading zeros"
        warn(
            f"{self.subject} holds digits with {what}, such as "
            f"{self._example(long if long.any() else padded)}: they are read as codes "
            "(categories or text), not as numbers. Convert them to numbers if they are "
            "quantities."
        )
        return True

    def _matches(self, pattern: str) -> BoolArray:
        """Return ``[N]``: True where a string matches a regular expression."""
        import pyarrow.compute as pc

        found = pc.match_substring_regex(self.texts, pattern).fill_null(False)
        return np.asarray(found.to_numpy(zero_copy_only=False))

    def _most(self, cells: BoolArray) -> bool:
        """Return True if most of the cells that hold something are of a kind."""
        return bool((cells & self.meant).sum() * 2 > self.meant.sum())

    def _example(self, cells: BoolArray) -> str:
        row = int(np.flatnonzero(cells)[0])
        return f"{self.texts[row].as_py()!r} in row {row}"

    def _report_typed(self) -> None:
        if self.typed:
            warn(
                f"{self.subject} holds strings that are numbers: they are read as "
                "numbers. Convert the column to numbers, or to a categorical column if "
                "they are codes."
            )

    def _report(self, kind: str, odd: BoolArray, values: AnyArray) -> None:
        """Warn about cells that are read otherwise than they are written."""
        if not odd.any():
            if kind == "numbers":
                self._report_typed()
            return
        cells = list(self._different(odd, values))
        listed = "; ".join(cells[:MAX_LISTED]) + (
            "; ..." if len(cells) > MAX_LISTED else ""
        )
        number = f"{odd.sum()} cell" + ("s" if odd.sum() > 1 else "")
        warn(
            f"{self.subject} holds {kind}, and {number} in another form: {listed}. "
            "Correct the cells, or list categories if the column holds codes: "
            f"{self.field + '=CATEGORY'!r}."
        )

    def _different(self, odd: BoolArray, values: AnyArray) -> Iterator[str]:
        """Yield what is read for each different cell, with its first row."""
        seen: set[str] = set()
        for row in np.flatnonzero(odd):
            text = self.texts[int(row)].as_py()
            if text in seen:
                continue
            seen.add(text)
            value = values[row]
            what = "missing" if np.isnan(value) else f"{value:.10g}"
            yield f"{text[:40]!r} in row {row} is read as {what}"
            if len(seen) > MAX_LISTED:
                return


def parse_dates(texts: "pa.Array", iso: BoolArray) -> AnyArray | None:
    """Return seconds ``[N]`` of dates in the form of ISO 8601, NaN elsewhere.

    Args:
        texts: ``[N]`` strings.
        iso: ``[N]`` True where a string has the form of a date.

    Returns:
        Seconds since 1970-01-01 UTC; None if only some of the dates have a zone. A date
        that does not exist is NaN.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    encoded = pc.if_else(pa.array(iso), texts, None).dictionary_encode()
    dates = [_parse_date(text) for text in encoded.dictionary.to_pylist()]
    if len({zone for _, zone in dates if zone is not None}) > 1:
        return None
    codes = encoded.indices.fill_null(len(dates)).to_numpy(zero_copy_only=False)
    return np.array([*(seconds for seconds, _ in dates), np.nan])[codes]


def _parse_date(text: str) -> tuple[float, bool | None]:
    """Return the seconds of a date and whether it has a zone; NaN if there is none."""
    try:
        date = datetime.fromisoformat(text.upper().replace("UTC", "Z"))
    except ValueError:
        return np.nan, None
    zone = date.tzinfo is not None
    return (date if zone else date.replace(tzinfo=UTC)).timestamp(), zone


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
