"""What a column of strings is: numbers, truth values, dates, codes, or other strings.

A column is judged by most of its cells that hold something; the others are reported.
Shapes: N cells.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from mmgraph.data.arrow_types import to_numbers, without
from mmgraph.data.categories import MAX_CATEGORIES
from mmgraph.data.column import AnyArray, BoolArray
from mmgraph.data.notices import MAX_LISTED, warn
from mmgraph.data.number_strings import PLAIN, parse_numbers
from mmgraph.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

DAY = 86400  # seconds
# what programs write for a missing cell: null in every column of a CSV file
NULLS = ("", "NA", "NaN", "nan", "<NA>", "NaT", "NULL", "null", "#N/A", "#NA", "-nan")
# what people write: missing among numbers, truth values and dates, where it is reported
PLACEHOLDERS = (
    *("n/a", "n.a.", "na", "none", "nil", "nd", "n.d.", "not done", "missing", "nan"),
    *("unknown", "unk", "not available", "null", "nat", "<na>", "#n/a", "#value!"),
    *("?", ".", "..", "...", "-", "--", "x", "\N{EN DASH}", "\N{EM DASH}", "#div/0!"),
    *("#ref!", "#name?", "#num!", "#null!"),
)
# of these, null in every column of a CSV file; the last ones are errors of Excel
NOT_AVAILABLE = (
    *("n/a", "N/A", "#VALUE!", "#DIV/0!"),
    *("#REF!", "#NAME?", "#NUM!", "#NULL!"),
)
_SAMPLE = 1000  # texts that are searched for numbers
_TRUTH_VALUES = ({"yes", "y", "true", "t", "1"}, {"no", "n", "false", "f", "0"})
_WITH_NUMBER = r"^[<>~]?\s*[-+]?\d\S*( \S{1,8})?$"  # 120/80, 5 mg, 1st
_CODE_LENGTH = 15  # digits that float64 keeps
_ISO_DATE = (
    r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d{1,9})?)?"
    r" ?(Z|z|UTC|[-+]\d{2}(:?\d{2})?)?)?$"
)
# of the years 1900 to 2099; DICOM appends the time to the date
_COMPACT_DATE = (
    r"^(19|20)\d{2}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])"
    r"(([01]\d|2[0-3])[0-5]\d[0-5]\d)?$"
)
_OTHER_DATE = (
    r"^(\d{1,2}[./-]\d{1,2}[./-](\d{2}|\d{4})|\d{4}[./-]\d{1,2}[./-]\d{1,2}|"
    r"\d{1,2}[ .-]*[A-Za-z]{3,9}[ .,-]*\d{2,4}|"
    r"[A-Za-z]{3,9}\.? \d{1,2},? \d{4})([T ,]+\d{1,2}:\d{2}.*)?$"
)


def clean_strings(cells: "pa.Array") -> "pa.Array":
    """Return strings without surrounding white space, null where nothing is left."""
    import pyarrow.compute as pc

    return without(pc.utf8_trim_whitespace(cells), [""])


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


class StringColumn:
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
        for read in (self._compact_dates, self._booleans, self._numbers, self._dates):
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
        self._check_spellings()
        return None

    def _check_spellings(self) -> None:
        """Warn if different strings seem to be one category."""
        import pyarrow as pa
        import pyarrow.compute as pc

        distinct = pc.unique(self.texts.filter(pa.array(self.meant)))
        if len(distinct) > MAX_CATEGORIES:
            return
        spellings: dict[str, list[str]] = {}
        for text in distinct.to_pylist():
            spellings.setdefault(text.casefold(), []).append(text)
        yes, no = ([each for each in spellings if each in s] for s in _TRUTH_VALUES)
        groups = [group for group in spellings.values() if len(group) > 1]
        if len(yes) + len(no) == len(spellings):
            groups += [group for group in (yes, no) if len(group) > 1]
        if groups:
            warn(
                f"{self.subject} holds {' and '.join(map(repr, groups[0]))}, which are "
                "read as different categories. Write one of them if they are the same."
            )

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
        words = self._matches("(?i)^(true|false)$")
        true, false = self._matches("(?i)^(true|1)$"), self._matches("(?i)^(false|0)$")
        if not words.any() or not (true | false)[self.meant].all():
            return None
        values = np.where(true, 1.0, np.where(false, 0.0, np.nan))
        self._report("truth values", self.known & ~words, values)
        return values

    def _compact_dates(self) -> AnyArray | None:
        """Return days if most cells are dates such as 20240131, as in DICOM files."""
        compact = self._matches(_COMPACT_DATE)
        if not self._most(compact):
            return None
        seconds = parse_dates(self.texts, compact)
        if seconds is None or not self._most(~np.isnan(seconds)):
            return None
        odd = self.known & np.isnan(seconds)
        if odd.any():
            self._report("dates without hyphens", odd, seconds)
        else:
            warn(
                f"{self.subject} holds dates without hyphens, such as "
                f"{self._example(compact)}: they are read as days since 1970-01-01. "
                "Write them as 2024-01-31 to confirm, or list categories if they are "
                f"codes: {self.field + '=CATEGORY'!r}."
            )
        return seconds / DAY

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
        iso: ``[N]`` True where a string has the form of a date, with or without
            hyphens.

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
    text = text.upper().replace("UTC", "Z")
    if text.isdigit() and len(text) > 8:
        text = f"{text[:8]}T{text[8:]}"
    try:
        date = datetime.fromisoformat(text)
    except ValueError:
        return np.nan, None
    zone = date.tzinfo is not None
    return (date if zone else date.replace(tzinfo=UTC)).timestamp(), zone
