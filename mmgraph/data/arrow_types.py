"""Types of Arrow arrays, and their conversion to numbers.

Shapes: N cells.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mmgraph.data.column import AnyArray

if TYPE_CHECKING:
    import pyarrow as pa


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


def without(cells: "pa.Array", strings: Sequence[str]) -> "pa.Array":
    """Return strings, null where they are one of some strings."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.if_else(
        pc.is_in(cells, pa.array(strings, pa.large_string())), None, cells
    )
