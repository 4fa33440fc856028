"""Categories of a column, and the codes of its cells.

A cell of a categorical column is the index of its category, NaN where it is missing.
Letters: ``L`` rows, ``C`` channels, ``K`` categories, ``F`` encoded channels.
"""

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

AnyArray = npt.NDArray[Any]
IntArray = npt.NDArray[np.int64]
Categories: TypeAlias = tuple[str, ...]

MAX_CATEGORIES = 64  # more are probably text, and would be mostly empty channels
_TRUTH_VALUES = {"true": 1.0, "false": 0.0}


def category_of(number: float) -> str:
    """Return the category of a number: that of 1.0 is "1".

    Args:
        number: Finite number of float32 precision.
    """
    return np.format_float_positional(np.float32(number), unique=True, trim="-")


def number_of(category: str) -> float:
    """Return the number that a category is; NaN if it is not a number."""
    text = category.strip().lower()
    try:
        number = _TRUTH_VALUES[text] if text in _TRUTH_VALUES else float(text)
    except ValueError:
        return np.nan
    return number if np.isfinite(number) and "_" not in text else np.nan


def match_categories(categories: Sequence[str], known: Sequence[str]) -> IntArray:
    """Return the index of each category among the known ones; -1 where it is unknown.

    Equal strings match, otherwise equal numbers: "1", "1.0" and "true" are one category
    unless several known categories are that number.

    Args:
        categories: ``K`` categories.
        known: Known categories.

    Returns:
        ``[K]`` indices.
    """
    index = {category: i for i, category in enumerate(known)}
    if all(category in index for category in categories):
        return np.array([index[c] for c in categories], dtype=np.int64)
    same_number: dict[float, list[int]] = {}
    for i, category in enumerate(known):
        same_number.setdefault(number_of(category), []).append(i)
    by_number = {n: i for n, (i, *others) in same_number.items() if not others}
    by_number = {n: i for n, i in by_number.items() if n == n}
    return np.array(
        [index.get(c, by_number.get(number_of(c), -1)) for c in categories],
        dtype=np.int64,
    )


def unite_categories(parts: Iterable[Sequence[str]]) -> Categories:
    """Return the categories of all parts, sorted; equal numbers are one category."""
    united: list[str] = []
    for part in parts:
        found = match_categories(part, united)
        united += [c for c, i in zip(part, found, strict=True) if i < 0]
    return tuple(sorted(united))


def numbers_as_codes(values: AnyArray) -> tuple[AnyArray, Categories]:
    """Return the codes of numbers ``[L]``, and the categories that they are."""
    known = ~np.isnan(values)
    numbers, index = np.unique(values[known], return_inverse=True)
    codes = np.full(len(values), np.nan, dtype=np.float32)
    codes[known] = index
    return codes, tuple(category_of(float(number)) for number in numbers)


def codes_as_strings(codes: AnyArray, categories: Sequence[str]) -> AnyArray:
    """Return the category ``[L]`` of each cell, None where it is missing."""
    names = np.array([*categories, None], dtype=object)
    return names[_index(codes, len(categories))]


def strings_as_codes(strings: AnyArray) -> tuple[AnyArray, Categories]:
    """Return the codes ``[L]`` of strings, and their sorted categories."""
    categories, index = np.unique(strings.astype(str), return_inverse=True)
    return index.astype(np.float32), tuple(categories.tolist())


def recode(codes: AnyArray, index: AnyArray) -> AnyArray:
    """Return codes ``[L]`` with each code replaced by its entry in ``index [K]``."""
    known = ~np.isnan(codes)
    result = np.full(len(codes), np.nan, dtype=np.float32)
    result[known] = index[codes[known].astype(np.int64)]
    return result


def occurring(codes: AnyArray, num_categories: int) -> IntArray:
    """Return the codes below ``num_categories`` that occur in ``codes [L]``, sorted."""
    known = codes[~np.isnan(codes)].astype(np.int64)
    return np.flatnonzero(np.bincount(known, minlength=num_categories))


def one_hot(codes: AnyArray, num_categories: int) -> AnyArray:
    """Return one channel per category, ``[L, K]``.

    It is 1 where the cell has the category, NaN where the cell is missing, and 0
    elsewhere; a code that is none of the categories is 0 in all of them.
    """
    same = codes[:, None] == np.arange(num_categories)
    return np.where(np.isnan(codes)[:, None], np.float32(np.nan), same)


def encode_rows(rows: AnyArray, categories: Sequence[Categories | None]) -> AnyArray:
    """Return rows ``[L, F]`` with one channel per category of a categorical column.

    Args:
        rows: ``[L, C]`` numbers, and codes of categories.
        categories: Categories of each of the C channels, None for numbers; empty if all
            are numbers, in which case the rows are returned unchanged.
    """
    if not categories:
        return rows
    parts = [
        rows[:, i, None] if each is None else one_hot(rows[:, i], len(each))
        for i, each in enumerate(categories)
    ]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def encoded_width(num_channels: int, categories: Sequence[Categories | None]) -> int:
    """Return F, the number of channels that :func:`encode_rows` returns."""
    if not categories:
        return num_channels
    return sum(1 if each is None else len(each) for each in categories)


def codes_fit(rows: AnyArray, categories: Sequence[Categories | None]) -> bool:
    """Return True if all codes of rows ``[L, C]`` are of their categories."""
    if rows.ndim != 2 or rows.shape[1] != len(categories):
        return False
    for codes, each in zip(rows.T, categories, strict=True):
        known = codes[~np.isnan(codes)]
        if each is not None and not np.isin(known, np.arange(len(each))).all():
            return False
    return True


def _index(codes: AnyArray, missing: int) -> IntArray:
    return np.where(np.isnan(codes), missing, codes).astype(np.int64)
