"""Numbers that are stored as strings, as people and devices write them.

A cell is read with its decimal and thousands separators, white space, the sign of a
bound (">100") and a unit ("12%", "5 mg"). Which separator is the decimal one is decided
for a whole column, from the cells that allow only one reading. Shapes: N cells, U
different strings.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmgraph.data.column import AnyArray, BoolArray

if TYPE_CHECKING:
    import pyarrow as pa

PLAIN = r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$"  # what every program reads alike
# numbers that are no codes either, which start with zeros or have many digits
_CERTAIN = r"^-?(0|[1-9]\d{0,14})(\.\d+)?([eE][-+]?\d+)?$"
_LIKE_DATE = r"^(19|20)\d{6}(\d{6})?$"
_CELLS_AT_ONCE = 1 << 20
_INFINITE = {"inf", "infinity"}
_SPACES = "\\s\N{NO-BREAK SPACE}\N{NARROW NO-BREAK SPACE}\N{THIN SPACE}"
# zeros of the digits of other scripts: full-width, Arabic, Persian, Devanagari, ...
_ZEROS = (0xFF10, 0x0660, 0x06F0, 0x0966, 0x09E6, 0x0E50)
_SIGNS = str.maketrans(
    {
        **{"\N{MINUS SIGN}": "-", "\N{EN DASH}": "-"},
        **{"\N{FULLWIDTH FULL STOP}": ".", "\N{FULLWIDTH COMMA}": ","},
        **{"\N{FULLWIDTH HYPHEN-MINUS}": "-", "\N{FULLWIDTH PERCENT SIGN}": "%"},
        **{"\N{ARABIC DECIMAL SEPARATOR}": ".", "\N{ARABIC PERCENT SIGN}": "%"},
        **{chr(zero + k): str(k) for zero in _ZEROS for k in range(10)},
    }
)
_CELL = re.compile(
    rf"""
    (?P<bound><=|>=|[<>\u2264\u2265~\u2248])?[{_SPACES}]*
    (?P<currency>[$\u20ac\u00a3\u00a5])?[{_SPACES}]*
    (?P<sign>[-+])?
    (?P<digits>\d(?:[\d.,'\u2019{_SPACES}]*\d)?|[.,]\d+)
    (?P<exponent>[eE][-+]?\d+)?
    (?P<more>\+)?[{_SPACES}]*
    (?P<unit>[%\u2030\u00b0A-Za-z\u00b5\u03bc\u20ac$\u00a3\u00a5]
             [A-Za-z\u00b5\u03bc%\u00b0/\u00b2\u00b3*^.-]{{0,9}}\d?)?
    """,
    re.VERBOSE | re.ASCII,
)
_GROUPED = re.compile(rf"\d{{1,3}}(?:['\u2019{_SPACES}]\d{{3}})+(?:[.,]\d+)?")
_GROUP_MARKS = re.compile(rf"['\u2019{_SPACES}]")
_OTHER = {".": ",", ",": "."}
_EITHER = r"[1-9]\d{0,2}[.,]\d{3}"  # 1,200: a thousand, or one and a fraction


@dataclass(frozen=True)
class ParsedNumbers:
    """Numbers of a column of strings.

    Attributes:
        values: ``[N]`` float64, NaN where the cell is not a number.
        is_number: ``[N]`` True where the cell is a number.
        rewritten: ``[N]`` True where the number is written in another way than programs
            write it; a subset of ``is_number``.
        ambiguous: First cell whose separator could be the decimal or the thousands
            separator, where no other cell of the column decides it; else empty.
        unit: Unit of all numbers, such as "%"; empty if they have none.
    """

    values: AnyArray
    is_number: BoolArray
    rewritten: BoolArray
    ambiguous: str = ""
    unit: str = ""


@dataclass(frozen=True)
class _Parts:
    """One string, split into the parts of a number."""

    body: str  # digits with "." and "," alone
    factor: str  # sign, and exponent after the body
    exponent: str
    unit: str

    def value(self, decimal: str) -> float:
        thousands = "," if decimal == "." else "."
        body = self.body.replace(thousands, "").replace(decimal, ".")
        return float(self.factor + body + self.exponent)


def read_certain_numbers(columns: Sequence["pa.Array"]) -> list[AnyArray | None]:
    """Read those columns of strings that hold plain numbers in every known cell.

    Many columns are read together, as one of a few cells takes as long as hundreds.

    Args:
        columns: ``[N]`` Arrow arrays of strings of equal length.

    Returns:
        Numbers ``[N]`` of each column, NaN where a cell is null; None where a cell may
        be something else, or none is known.
    """
    width = max(1, _CELLS_AT_ONCE // max(1, len(columns[0]))) if columns else 1
    numbers: list[AnyArray | None] = []
    for start in range(0, len(columns), width):
        numbers += _certain_numbers(columns[start : start + width])
    return numbers


def _certain_numbers(columns: Sequence["pa.Array"]) -> list[AnyArray | None]:
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = pa.concat_arrays(columns)
    matches = pc.match_substring_regex(cells, _CERTAIN)
    number, known = (
        each.to_numpy(zero_copy_only=False).reshape(len(columns), -1)
        for each in (matches.fill_null(False), cells.is_valid())
    )
    certain = (number == known).all(axis=1) & known.any(axis=1)
    dates = pc.match_substring_regex(cells, _LIKE_DATE).fill_null(False)
    like_date = dates.to_numpy(zero_copy_only=False).reshape(number.shape)
    certain &= like_date.sum(axis=1) * 2 <= known.sum(axis=1)
    kept = pa.array(np.repeat(certain, number.shape[1]))
    values = pc.if_else(kept, cells, None).cast(pa.float64())
    table = np.asarray(values.to_numpy(zero_copy_only=False)).reshape(number.shape)
    pairs = zip(table, certain, strict=True)
    return [row if is_certain else None for row, is_certain in pairs]


def parse_numbers(cells: "pa.Array") -> ParsedNumbers:
    """Read the numbers of a column of strings.

    Args:
        cells: ``[N]`` Arrow array of strings; null cells are not numbers.
    """
    encoded = cells.dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    parsed = _parse_texts(texts)
    codes = encoded.indices.fill_null(len(texts)).to_numpy(zero_copy_only=False)

    def spread(values: AnyArray, fill: float | bool) -> AnyArray:
        return np.append(values, fill)[codes]

    return ParsedNumbers(
        spread(parsed.values, np.nan),
        spread(parsed.is_number, False).astype(bool),
        spread(parsed.rewritten, False).astype(bool),
        parsed.ambiguous,
        parsed.unit,
    )


def _parse_texts(texts: Sequence[str]) -> ParsedNumbers:
    """Read the numbers of different strings ``[U]``."""
    plain = re.compile(PLAIN, re.ASCII)
    values = np.full(len(texts), np.nan)
    is_number = np.zeros(len(texts), dtype=bool)
    others: dict[int, _Parts] = {}
    bare: list[str] = []
    for i, text in enumerate(texts):
        stripped = text.strip()
        if plain.match(stripped) or stripped.lower().lstrip("+-") in _INFINITE:
            values[i], is_number[i] = float(stripped), True
            bare.append(stripped)
        elif (parts := _split(stripped)) is not None:
            others[i] = parts
    rewritten = np.zeros(len(texts), dtype=bool)
    unit = _common_unit([parts.unit for parts in others.values()], bool(bare))
    ambiguous = ""
    same_unit = {i: parts for i, parts in others.items() if parts.unit == unit}
    reading = _Separators.of([*bare, *(parts.body for parts in same_unit.values())])
    for i, parts in same_unit.items():
        decimal = reading.decimal_of(parts.body)
        ambiguous = ambiguous or (texts[i] if decimal is None else "")
        values[i] = parts.value(decimal or ".")
        is_number[i] = rewritten[i] = True
    bare_rows = np.flatnonzero(is_number & ~rewritten).tolist()
    for i in bare_rows if reading.dots_matter else ():
        text = texts[i].strip()
        decimal = reading.decimal_of(text) if "." in text else "."
        ambiguous = ambiguous or (texts[i] if decimal is None else "")
        if decimal == ",":
            values[i], rewritten[i] = float(text.replace(".", "")), True
    return ParsedNumbers(values, is_number, rewritten, ambiguous, unit)


def _split(text: str) -> _Parts | None:
    """Return the parts of a string; None if it is not a number."""
    match = _CELL.fullmatch(text.translate(_SIGNS))
    if match is None:
        return None
    body = match["digits"]
    if _GROUPED.fullmatch(body):
        body = _GROUP_MARKS.sub("", body)
    if not _is_body(body):
        return None
    unit = " ".join((match["unit"] or match["currency"] or "").split())
    return _Parts(body, match["sign"] or "", match["exponent"] or "", unit)


def _is_body(body: str) -> bool:
    forms = (
        r"\d+",
        r"\d*[.,]\d+",
        r"[1-9]\d{0,2}(,\d{3})+(\.\d+)?",
        r"[1-9]\d{0,2}(\.\d{3})+(,\d+)?",
    )
    return any(re.fullmatch(form, body) for form in forms)


def _common_unit(units: Sequence[str], some_bare: bool) -> str:
    """Return the unit of a column: that of all its numbers, or none."""
    distinct = set(units)
    return distinct.pop() if len(distinct) == 1 and not some_bare else ""


@dataclass(frozen=True)
class _Separators:
    """Roles of "." and "," in a column: decimal, thousands, or not decided.

    Attributes:
        dot: "decimal", "thousands" or None.
        comma: The same for commas.
        dots_matter: True if "." alone may be a thousands separator.
    """

    dot: str | None
    comma: str | None
    dots_matter: bool

    @classmethod
    def of(cls, bodies: Sequence[str]) -> "_Separators":
        """Decide the roles from the strings that allow only one reading."""
        forms = [re.sub(r"^[-+]|[eE].*$", "", body) for body in bodies]
        marked = [form for form in forms if "," in form or form.count(".") > 1]
        if not marked:
            return cls("decimal", None, dots_matter=False)
        proofs = {pair for form in forms for pair in _proofs(form).items()}
        dot = {role for sign, role in proofs if sign == "."}
        comma = {role for sign, role in proofs if sign == ","}
        if not comma and dot == {"decimal"}:
            comma = {"thousands"}
        if not dot and comma == {"thousands"}:
            dot = {"decimal"}
        return cls(
            dot.pop() if len(dot) == 1 else None,
            comma.pop() if len(comma) == 1 else None,
            dots_matter=True,
        )

    def decimal_of(self, body: str) -> str | None:
        """Return the decimal separator of a string; None if it is not decided."""
        roles = _proofs(body.lstrip("+-"))
        if not roles:
            sign = "," if "," in body else "."
            role = self.comma if sign == "," else self.dot
            if role is None and sign in body:
                return None
            roles = {sign: role or "decimal"}
        sign, role = next(iter(roles.items()))
        return sign if role == "decimal" else _OTHER[sign]


def _proofs(body: str) -> dict[str, str]:
    """Return the roles of the separators of a string that allows one reading only."""
    if "," in body and "." in body:
        decimal = max(".,", key=body.rindex)
        return {decimal: "decimal", _OTHER[decimal]: "thousands"}
    for sign in ".,":
        if body.count(sign) > 1:
            return {sign: "thousands"}
        if sign in body and not re.fullmatch(_EITHER, body):
            return {sign: "decimal"}
    return {}
