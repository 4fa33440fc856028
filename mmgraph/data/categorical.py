"""Words in a table of numbers: one channel for each, ``column=word``.

Shapes: N samples, W words.
"""

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mmgraph.data.column import AnyArray, Column
from mmgraph.errors import DataError, DataWarning

if TYPE_CHECKING:
    import pyarrow as pa

MAX_WORDS = 64
SHOWN = 5  # words that a warning names


def candidate_columns(field: str) -> list[str]:
    """Return the columns that a field may be read from: itself, ``sex`` for ``sex=f``.

    A column of just its name comes first.
    """
    text = str(field)
    return [field, *(text[:i] for i, letter in enumerate(text) if letter == "=")]


def resolve_column(field: str, columns: Collection[str]) -> str:
    """Return the column that a field is read from; itself where it names none."""
    return next((name for name in candidate_columns(field) if name in columns), field)


def read_channels(
    name: str,
    fields: Sequence[str],
    columns: Collection[str],
    read: Callable[[str], Any],
    *,
    piecewise: bool = False,
) -> tuple[tuple[str, ...], AnyArray]:
    """Read the channels of a modality from columns of numbers and of words.

    Args:
        name: of the modality.
        fields: columns; ``column=word`` is one word of a column.
        columns: all columns that there are.
        read: returns a column as ``[N]`` numbers, or as an Arrow array of strings.
        piecewise: other pieces of the data may hold other words, so that words must be
            named.

    Returns:
        The names of the channels, and their values ``[N, C]``: of a word 1 where the
        cell holds it, 0 where it holds another and NaN where it is null or empty.

    Raises:
        DataError: when a column holds too many words, strings that are numbers, or no
            words where one is named; or words are not named where they have to be.
    """
    names: list[str] = []
    parts: list[AnyArray] = []
    for field in map(str, fields):
        column = resolve_column(field, columns)
        cells, word = read(column), field[len(column) + 1 :]
        if isinstance(cells, np.ndarray):
            if word and not np.isnan(cells).all():
                raise _no_words(name, field, column)
            names.append(field)
            parts.append(cells[:, None])
            continue
        if piecewise and not word:
            raise _not_named(name, field)
        found, codes = _encode(cells)
        words = [word] if word else _all_words(name, field, found)
        names += [f"{column}={w}" for w in words] or [field]
        numbers = [found.index(w) if w in found else len(found) for w in words]
        same = codes[:, None] == np.array(numbers or [-1])
        parts.append(np.where(codes[:, None] < 0, np.nan, same))
    return tuple(names), np.concatenate(parts, axis=1)


def _encode(cells: "pa.Array") -> tuple[list[str], AnyArray]:
    """Return the words, and the number ``[N]`` of each cell's; -1 where it has none."""
    import pyarrow.compute as pc

    cells = pc.if_else(pc.equal(cells, ""), None, cells)
    encoded = cells.dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy(zero_copy_only=False)
    return encoded.dictionary.to_pylist(), codes


def _all_words(name: str, field: str, found: list[str]) -> list[str]:
    """Return the words of a column in order, if they are words and not too many."""
    numbers = sum(map(is_number, found))
    if numbers > len(found) / 2:
        example = next(filter(is_number, found))
        raise DataError(
            f"Modality {name!r} must hold numbers or words, got column {field!r} of "
            f"strings that are numbers, such as {example!r}.",
            "Convert them to numbers; where they stand for classes, name these: "
            f"'{field}={example}'.",
        )
    if len(found) > MAX_WORDS:
        raise DataError(
            f"Modality {name!r} must hold numbers, or columns of at most {MAX_WORDS} "
            f"words, got column {field!r} of {len(found)} different strings.",
            f"Read it alone, as text: modalities={{{field!r}: {field!r}}}; or name the "
            f"words that matter: '{field}={found[0][:20]}'.",
        )
    return sorted(found)


def is_number(word: str) -> bool:
    """Tell whether a string is that of a number."""
    try:
        float(word)
    except ValueError:
        return False
    return True


def _no_words(name: str, field: str, column: str) -> DataError:
    return DataError(
        f"Modality {name!r} must name words of columns that hold words, got {field!r}, "
        f"and column {column!r} holds numbers.",
        f"Give {column!r}.",
    )


def _not_named(name: str, field: str) -> DataError:
    return DataError(
        f"Modality {name!r} must name the words that matter where data are read piece "
        f"by piece, as '{field}=word', got all of column {field!r}.",
        "Name each of them.",
    )


def align_channels(name: str, column: Column, wanted: Sequence[str]) -> Column:
    """Return a modality with the channels that a model learned from, in their order.

    What the model has no channel of is none of the words that it knows, with a warning
    that names it. A word that the data do not hold is 0 where another one is known. A
    column without any cell is NaN for all of its words.

    Raises:
        DataError: when channels differ in more than the words of the same columns.
    """
    have = {channel: column.values[:, i] for i, channel in enumerate(column.names)}
    words = _by_column(column.names, have)
    extra = [channel for channel in column.names if channel not in wanted]
    lacking = [channel for channel in wanted if channel not in have]
    sources = {_source(channel) for channel in wanted if "=" in channel}
    fits = all(_source(channel) in words for channel in lacking)
    if not fits or not {_source(channel) for channel in extra} <= sources & set(words):
        raise DataError(
            f"Modality {name!r} must have the channels {', '.join(wanted)} as in "
            f"the training, got {', '.join(column.names)}. Rename them, or check "
            "which columns they are."
        )
    unknown = [channel for channel in extra if (have[channel] == 1).any()]
    if unknown:
        shown = ", ".join(unknown[:SHOWN]) + (", ..." if len(unknown) > SHOWN else "")
        warnings.warn(
            f"Modality {name!r} has words that the training did not have: {shown}. "
            "They count as none of those that it had.",
            DataWarning,
            stacklevel=2,
        )
    absent = {source: np.where(known, 0, np.nan) for source, known in words.items()}
    parts = [
        have[channel] if channel in have else absent[_source(channel)]
        for channel in wanted
    ]
    values = np.stack(parts, axis=1).astype(np.float32)
    return replace(column, values=values, names=tuple(wanted))


def _source(channel: str) -> str:
    return channel.partition("=")[0]


def _by_column(
    names: Sequence[str], values: Mapping[str, AnyArray]
) -> dict[str, AnyArray]:
    """Return where a cell is known, ``[L]`` Bool, for each column of words.

    A column of words has one channel for every word in it: where a cell is known, just
    one of them is 1. One that is null throughout has a single channel without "=".
    """
    groups: dict[str, list[str]] = {}
    for channel in names:
        groups.setdefault(_source(channel), []).append(channel)
    found = {}
    for source, channels in groups.items():
        table = np.stack([values[channel] for channel in channels], axis=1)
        null = np.isnan(table).all(axis=1)
        one = ((table == 1).sum(axis=1) == 1) & np.isin(table, (0, 1)).all(axis=1)
        if null.all() or (source not in channels and (one | null).all()):
            found[source] = ~null
    return found
