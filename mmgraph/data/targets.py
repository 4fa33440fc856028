"""Metadata columns: labels, ids, groups and the parts of an official split.

Shapes: N samples, K labels of one sample.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from mmgraph.data.column import AnyArray, BoolArray, IntArray, as_entries
from mmgraph.data.label_cells import read_labels
from mmgraph.data.notices import warn
from mmgraph.errors import DataError
from mmgraph.typing import ArrayLike


class DefaultColumn(str):
    """Name of a column that is a default: it is read if it exists."""

    __slots__ = ()


# Names of the metadata columns in tables, data frames and graphs.
METADATA_NAMES = {
    **{"ids": DefaultColumn("id"), "y": DefaultColumn("y")},
    **{"groups": DefaultColumn("group"), "split_name": DefaultColumn("split")},
}
_MAX_CLASSES = 50
MAX_WHOLE_CLASSES = 20  # more different whole numbers are predicted as numbers
MAX_WHOLE = 2.0**53  # largest float up to which all whole numbers are exact
_SCALARS = (bool, int, float, np.bool_, np.integer, np.floating)


def default_roles(
    columns: Mapping[str, str | None], existing: Collection[str]
) -> dict[str, str]:
    """Return the uses of columns that exist and have the name of a default.

    Args:
        columns: Column of "y", "ids" and "groups", or None.
        existing: Names of all columns of a table.
    """
    names = {**columns, "split_name": METADATA_NAMES["split_name"]}
    return {
        column: field
        for field, column in names.items()
        if isinstance(column, DefaultColumn) and column in existing
    }


def warn_default_roles(roles: Mapping[str, str]) -> None:
    """Warn about columns of a table that are used because of their names alone.

    Args:
        roles: Use of each column by its name, such as "groups" for "group".
    """
    if roles:
        listed = ", ".join(f"{column!r} as {role}" for column, role in roles.items())
        warn(
            f"Columns are used because of their names: {listed}. Name the columns of "
            "labels, ids and groups explicitly, or None to read none; rename columns "
            "that are no times."
        )


def warn_unused_ids(column: str) -> None:
    """Warn about a default column of ids whose entries cannot be ids."""
    warn(
        f"Column {column!r} has repeated, missing or rounded entries and is not used: "
        "samples are numbered. If its rows belong to one subject, pass it as groups, "
        "so that they stay on one side of a split."
    )


def as_metadata(subject: str, values: ArrayLike, num_samples: int) -> AnyArray:
    """Return one number or string per sample; missing entries become NaN or None.

    Args:
        subject: "y", "ids", "groups" or another name, for error messages.
        values: N entries, or ``[N, K]`` numbers for ``y``; the structured array of
            events and times of scikit-survival is read as ``[N, 2]``.
        num_samples: N.

    Returns:
        ``[N]`` or ``[N, K]`` numbers or booleans, or ``[N]`` strings. Where entries are
        missing: floats with NaN; objects with None for strings, booleans and integers
        of more than 53 bits.

    Raises:
        DataError: If there are not N entries, or they are of another type.
    """
    array = _exported_labels(subject, values)
    entry = {"y": "label", "ids": "id", "groups": "group"}.get(subject, "entry")
    if array.ndim == 0 or len(array) != num_samples:
        got = len(array) if array.ndim else 1
        raise DataError(
            f"{subject} must have one {entry} per sample: {num_samples} samples, got "
            f"{got} {entry}s. Check that {entry}s and arrays come from the same table.",
            parameter=subject,
        )
    if array.dtype == object:
        array = _from_objects(subject, array)
    if array.ndim > (2 if subject == "y" else 1) or array.dtype.kind not in "fiubUO":
        raise DataError(
            f"{subject} must hold one number or string per sample, got shape "
            f"{list(array.shape)} of {array.dtype}. Convert it first.",
            parameter=subject,
        )
    if array.dtype.kind == "f" and np.isinf(array).any():
        raise DataError(
            f"{subject} must be finite or NaN, got an infinite value at sample "
            f"{np.argwhere(np.isinf(array))[0][0]}. Mark it as missing with NaN.",
            parameter=subject,
        )
    if subject in ("ids", "groups") and array.dtype.kind == "f":
        _check_digits(subject, array)
    return array.copy()


def _exported_labels(subject: str, values: Any) -> AnyArray:  # noqa: ANN401
    """Return entries as an array; those of Arrow and polars keep every digit."""
    array = values.to_arrow() if hasattr(values, "to_arrow") else values
    if not hasattr(array, "to_pylist"):
        entries = as_entries(values)
        return _event_and_time(entries) if subject == "y" else entries
    if hasattr(array, "combine_chunks"):
        array = array.combine_chunks()
    return read_labels(subject, subject, array)


def as_targets(names: Sequence[object], columns: Sequence[AnyArray]) -> AnyArray:
    """Return several columns of labels as numbers ``[N, K]``.

    Args:
        names: Names of the columns, for messages.
        columns: Labels ``[N]`` of each column.

    Raises:
        DataError: If a column holds strings.
    """
    for name, values in zip(names, columns, strict=True):
        if labels_as_floats(values).dtype.kind not in "fiub":
            raise DataError(
                f"y must hold numbers, got column {name!r} of strings. Convert it, or "
                "name a single column of classes.",
                parameter="y",
            )
    numbers = [labels_as_floats(values).astype(np.float64) for values in columns]
    return np.stack(numbers, axis=1)


def _event_and_time(array: AnyArray) -> AnyArray:
    """Return the structured array of scikit-survival as ``[N, 2]``, others unchanged.

    Raises:
        DataError: If its fields are not an event of booleans and a time of numbers.
    """
    names = array.dtype.names
    if names is None:
        return array
    events = [name for name in names if array[name].dtype.kind == "b"]
    times = [name for name in names if array[name].dtype.kind in "iuf"]
    if len(names) != 2 or len(events) != 1 or len(times) != 1:
        raise DataError(
            "y must have a field of booleans, the event, and one of numbers, the time, "
            f"if it is a structured array, got {array.dtype}. Give an array [N, 2].",
            parameter="y",
        )
    return np.column_stack([array[events[0]], array[times[0]]]).astype(np.float64)


def _check_digits(subject: str, array: AnyArray) -> None:
    """Check that floats are small enough to have kept every digit of integers.

    Raises:
        DataError: If one is 2**53 or larger.
    """
    large = np.flatnonzero(np.abs(array) >= MAX_WHOLE)
    if len(large):
        raise DataError(
            f"{subject} must hold every digit, got the float {array[large[0]]:.17g} at "
            f"sample {large[0]}, which may have been rounded. Read them as integers or "
            "strings.",
            parameter=subject,
        )


def check_known(subject: str, values: AnyArray) -> None:
    """Check that no entry is missing.

    Raises:
        DataError: If an entry is NaN or None.
    """
    missing = np.flatnonzero(missing_labels(values))
    if len(missing):
        raise DataError(
            f"{subject} must be known for every sample, got a missing one at sample "
            f"{missing[0]}. Fill it in, or omit {subject}.",
            parameter=subject,
        )


def check_unique(ids: AnyArray) -> None:
    """Check that ids are known and unique.

    Raises:
        DataError: If an id is missing or occurs twice.
    """
    check_known("ids", ids)
    _, first = np.unique(ids, return_index=True)
    if len(first) < len(ids):
        again = np.setdiff1d(np.arange(len(ids)), first)[0]
        raise DataError(
            f"ids must be unique, got {ids[again].item()!r} again at sample {again}. "
            "Use a different id for each sample, or omit ids.",
            parameter="ids",
        )


def can_be_ids(values: AnyArray) -> bool:
    """Return True if the entries of a column are known and unique."""
    try:
        check_unique(as_metadata("ids", values, len(values)))
    except DataError:
        return False
    return True


def missing_labels(values: AnyArray) -> AnyArray:
    """Return ``[N]`` or ``[N, K]``: True where a label is NaN or None."""
    if values.dtype == object:
        return np.array([value is None for value in values], dtype=bool)
    if values.dtype.kind == "f":
        return np.isnan(values)
    return np.zeros(values.shape, dtype=bool)


def known_labels(values: AnyArray) -> AnyArray:
    """Return the labels that are not missing.

    Whole numbers are returned as integers even where missing labels made the column
    float, so that classes do not depend on whether a label is missing.
    """
    missing = missing_labels(values)
    known = values[~missing]
    if known.dtype == object:
        scalars = {type(item) for item in known}
        return known.astype(bool) if scalars == {bool} else _as_integers(known)
    if not missing.any():
        return known
    whole = (known == known.round()) & (np.abs(known) < MAX_WHOLE)
    return known.astype(np.int64) if whole.all() else known


def _as_integers(known: AnyArray) -> AnyArray:
    """Return objects as integers if they are, otherwise as strings."""
    if not len(known) or not all(type(item) is int for item in known):
        return known.astype(str)
    return known.astype(np.int64 if max(known) < 2**63 else np.uint64)


def labels_as_floats(values: AnyArray) -> AnyArray:
    """Return booleans and integers with gaps as floats with NaN; others unchanged."""
    if values.dtype != object or known_labels(values).dtype.kind == "U":
        return values
    return np.array([np.nan if item is None else float(item) for item in values])


def labeled_rows(values: AnyArray) -> AnyArray:
    """Return ``[N]``: True where no label of the sample is missing."""
    missing = missing_labels(values)
    return ~np.asarray(missing.any(axis=tuple(range(1, missing.ndim))))


def same_metadata(a: AnyArray | None, b: AnyArray | None) -> bool:
    """Return True if two metadata columns are equal; missing entries are equal."""
    if a is None or b is None:
        return a is b
    floats = "f" in (a.dtype.kind, b.dtype.kind)
    return np.array_equal(a, b, equal_nan=floats)


def concat_metadata(subject: str, parts: Sequence[AnyArray | None]) -> AnyArray | None:
    """Concatenate metadata columns; None if no part has one.

    A part whose entries are all missing has no type of entries and fits any other.

    Args:
        subject: Name of the column, for error messages.
        parts: Columns of the parts.

    Raises:
        DataError: If only some parts have the column, or shapes or types differ.
    """
    filled = [part for part in parts if part is not None]
    if not filled:
        return None
    known = [part for part in filled if not missing_labels(part).all()]
    if len(filled) < len(parts) or len({part.shape[1:] for part in filled}) > 1:
        raise DataError(
            f"{subject} must have the same shape in all parts, got parts without it or "
            "of another shape. Set it with replace."
        )
    if len({_holds_strings(part) for part in known}) > 1:
        raise _mixed(subject, "numbers in one part and strings in another")
    if filled[0].ndim > 1 or len({part.dtype.kind for part in filled}) == 1:
        return np.concatenate(filled)
    return _from_objects(
        subject, np.concatenate([_as_objects(part) for part in filled])
    )


def _holds_strings(part: AnyArray) -> bool:
    return known_labels(part).dtype.kind == "U"


def _as_objects(part: AnyArray) -> AnyArray:
    """Return entries as Python objects; whole floats next to a gap were integers."""
    missing = missing_labels(part)
    entries = part.astype(object)
    entries[~missing] = known_labels(part).tolist()
    entries[missing] = None
    return entries


def stratification_codes(y: AnyArray | None) -> IntArray | None:
    """Return class codes for a stratified split; missing labels are a class as well.

    Returns:
        ``[N]`` codes from 0, or None if there are no labels, or they are 2-D,
        continuous or of more than 50 values, or a class has a single sample.
    """
    if y is None or y.ndim > 1 or len(y) == 0:
        return None
    missing = missing_labels(y)
    if y.dtype.kind == "f" and np.any(np.mod(y[~missing], 1)):
        return None
    codes = np.zeros(len(y), dtype=np.int64)
    codes[~missing] = np.unique(known_labels(y), return_inverse=True)[1] + 1
    codes = np.unique(codes, return_inverse=True)[1]
    counts = np.bincount(codes)
    if len(counts) > _MAX_CLASSES or counts.min() < 2:
        return None
    return codes


def _from_objects(subject: str, array: AnyArray) -> AnyArray:
    """Convert Python objects to an array of one type."""
    if array.ndim == 1 and any(np.ndim(item) for item in array):
        try:
            return np.asarray([np.asarray(item, dtype=float) for item in array])
        except (TypeError, ValueError):
            raise _mixed(subject, "entries of several lengths") from None
    if array.ndim > 1:
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError):
            raise _mixed(subject, "objects") from None
    missing = np.array([_is_missing(item) for item in array], dtype=bool)
    known = array[~missing].tolist()
    if all(isinstance(item, str) for item in known) and known:
        if not missing.any():
            return np.array(known, dtype=np.str_)
        strings = array.copy()
        strings[missing] = None
        return strings
    for item in known:
        if not isinstance(item, _SCALARS):
            raise _mixed(subject, type(item).__name__)
    if all(isinstance(item, bool | np.bool_) for item in known) and known:
        return _with_gaps(np.array(known, dtype=bool), missing)
    if all(isinstance(item, int | np.integer) for item in known) and known:
        return _with_gaps(_exact_integers(subject, known), missing)
    numbers = np.full(len(array), np.nan)
    numbers[~missing] = known
    return numbers


def _exact_integers(subject: str, known: list[Any]) -> AnyArray:
    """Return Python integers as an array that keeps every digit.

    Raises:
        DataError: If they have more than 64 bits.
    """
    dtype = np.uint64 if max(known) >= 2**63 else np.int64
    try:
        return np.array(known, dtype=dtype)
    except OverflowError:
        raise _mixed(subject, "integers of more than 64 bits") from None


def _with_gaps(known: AnyArray, missing: BoolArray) -> AnyArray:
    """Return known entries in their places ``[N]``, and missing ones between them."""
    if not missing.any():
        return known
    exact = (
        known.dtype.kind != "b" and np.abs(known.astype(np.float64)).max() < MAX_WHOLE
    )
    entries = np.full(
        len(missing), np.nan if exact else None, dtype=None if exact else object
    )
    entries[~missing] = known if exact else known.tolist()
    return entries


def _is_missing(item: object) -> bool:
    return item is None or type(item).__name__ == "NAType" or bool(item != item)


def _mixed(subject: str, got: str) -> DataError:
    return DataError(
        f"{subject} must hold numbers or strings of one type, got {got}. Convert it "
        "first.",
        parameter=subject,
    )


def class_numbers(y: AnyArray | None) -> IntArray | None:
    """Return ``[N]`` class numbers, -1 where missing; None if y does not hold classes.

    Numbers with a fractional part, several labels per sample, a single class, and more
    classes than half of the samples are not classes.
    """
    if y is None or y.ndim > 1:
        return None
    known = known_labels(y)
    if known.dtype.kind == "f" and np.any(np.mod(known, 1)):
        return None
    names, codes = np.unique(known, return_inverse=True)
    if len(names) < 2 or len(names) > len(known) / 2:
        return None
    classes = np.full(len(y), -1, dtype=np.int64)
    classes[~missing_labels(y)] = codes
    return classes
