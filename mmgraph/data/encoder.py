"""Numeric channels of a modality, learned from training rows.

Letters: ``L`` rows, ``C`` channels of the training, ``K`` categories.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mmgraph.data.categories import (
    MAX_CATEGORIES,
    Categories,
    codes_as_strings,
    match_categories,
    numbers_as_codes,
    occurring,
    one_hot,
)
from mmgraph.data.column import AnyArray, Column, IntArray
from mmgraph.data.concat import (
    Cells,
    as_categories,
    convert_cells,
    drop_empty_rows,
    list_first,
    to_numbers,
)
from mmgraph.errors import DataError, DataWarning


@dataclass(frozen=True)
class ChannelEncoder:
    """Encoding of the columns of one modality as numeric channels.

    A categorical column has one channel ``column=category`` for each category that
    occurs in the training rows; any other column is one channel of numbers. New rows
    are aligned with these columns, whatever they look like.

    Attributes:
        names: Names of the C channels, in order.
        categories: Categories with a channel, by categorical column.
    """

    names: tuple[str, ...]
    categories: Mapping[str, Categories] = field(default_factory=dict)

    @classmethod
    def fit(cls, name: str, column: Column) -> "ChannelEncoder":
        """Learn the categories of training rows.

        Channels of numbers that are named ``column=category`` and hold 0 and 1, such as
        those of a selected category, are channels of that column, too.

        Args:
            name: Name of the modality, for error messages.
            column: Training rows, with names of channels.

        Raises:
            DataError: If a column has more than 64 categories, or two channels have the
                same name.
        """
        names: list[str] = []
        categories: dict[str, Categories] = {}
        for each in column.fields:
            codes, known = column.cells(each)
            found = () if known is None else _occurring(codes, known)
            if not found:
                names.append(each)
                continue
            _check_number(name, each, found)
            categories[each] = found
            names += [f"{each}={category}" for category in found]
        if len(set(names)) < len(names):
            repeated = next(n for n in names if names.count(n) > 1)
            raise DataError(
                f"Modality {name!r} must have channels of different names, got "
                f"{repeated!r} twice. Rename a column, or leave it out."
            )
        return cls(tuple(names), {**_indicators(column), **categories})

    @classmethod
    def from_names(cls, names: Sequence[str]) -> "ChannelEncoder":
        """Return the encoder of channels that are known by their names only.

        A name ``column=category`` is a category of that column.

        Args:
            names: Names of the C channels.
        """
        return cls(tuple(names), _group_names(names))

    def transform(self, name: str, column: Column) -> Column:
        """Return rows with the channels of the training, in their order.

        Numbers and strings are compared by their value: 1, "1" and "1.0" are one
        category, and a string is read as a number where the training has numbers. A
        category without a channel is 0 in all channels of its column. A missing column,
        and a string that is not a number, are missing cells; a row without any known
        cell is dropped. All of these are warnings.

        Args:
            name: Name of the modality, for messages.
            column: New rows. Without names, channels are those of the training, in
                their order.

        Raises:
            DataError: If a column is not one of the training.
        """
        if not len(column.values):
            rows = np.empty((0, len(self.names)), dtype=np.float32)
            return replace(column, values=rows, names=self.names, categories=())
        columns = self._columns()
        if column.is_text and len(columns) == 1:
            column = as_categories(column, next(iter(columns)))
        unchanged = not column.names or column.names == self.names
        if column.is_text or (unchanged and not column.is_categorical):
            return column
        self._check_known(name, column)
        channels: dict[str, AnyArray] = {}
        lacking = []
        for each, categories in columns.items():
            if each in column.positions:
                cells = column.cells(each)
                channels |= _encode(name, each, cells, categories, column.sample)
            elif indicators := _select(column, each) if categories else {}:
                channels |= _complete(name, each, indicators, categories or ())
            else:
                lacking.append(each)
        if lacking:
            _warn_lacking(name, lacking)
        missing = np.full(len(column.values), np.nan, dtype=np.float32)
        rows = np.stack([channels.get(each, missing) for each in self.names], axis=1)
        values = rows.astype(np.float32)
        aligned = replace(column, values=values, names=self.names, categories=())
        return drop_empty_rows(name, aligned)

    def _columns(self) -> dict[str, Categories | None]:
        """Return the columns in order, with their categories; None for numbers."""
        owner = {f"{c}={k}": c for c, known in self.categories.items() for k in known}
        order = dict.fromkeys(owner.get(name, name) for name in self.names)
        return {column: self.categories.get(column) for column in order}

    def _check_known(self, name: str, column: Column) -> None:
        """Check that every column is one of the training.

        Raises:
            DataError: If a column is unknown; it may be a column with another name.
        """
        columns = self._columns()
        categorical = tuple(f"{c}=" for c, known in columns.items() if known)
        unknown = [
            each
            for each in column.fields
            if each not in columns and not each.startswith(categorical)
        ]
        if unknown:
            raise DataError(
                f"Modality {name!r} must have columns of the training data "
                f"({', '.join(columns)}), got {list_first(unknown)}. Rename the "
                "columns as in the training, or leave them out."
            )


def encode_columns(
    columns: Mapping[str, Column], encoders: Mapping[str, ChannelEncoder]
) -> dict[str, Column]:
    """Return columns with the channels of the training.

    Args:
        columns: Columns by modality.
        encoders: Encoder of each modality that has one; others are unchanged.
    """
    return {
        name: encoders[name].transform(name, column) if name in encoders else column
        for name, column in columns.items()
    }


def fit_encoders(columns: Mapping[str, Column]) -> dict[str, ChannelEncoder]:
    """Return the encoder of each modality of training rows whose channels have names.

    Raises:
        DataError: If a column has more than 64 categories.
    """
    return {
        name: ChannelEncoder.fit(name, column)
        for name, column in columns.items()
        if column.names or column.is_categorical
    }


def _occurring(codes: AnyArray, categories: Categories) -> Categories:
    return tuple(categories[i] for i in occurring(codes, len(categories)))


def _check_number(name: str, column: str, categories: Categories) -> None:
    if len(categories) > MAX_CATEGORIES:
        raise DataError(
            f"Modality {name!r} must hold numbers, or columns of at most "
            f"{MAX_CATEGORIES} categories, got column {column!r} of "
            f"{len(categories)} different strings.",
            f"Read it alone, as text: modalities={{{column!r}: {column!r}}}; or list "
            f"the categories that matter: '{column}={categories[0][:20]}'.",
        )


def _group_names(names: Sequence[str]) -> dict[str, Categories]:
    """Return the categories of names ``column=category``, by column."""
    groups: dict[str, list[str]] = {}
    for name in names:
        column, equals, category = name.partition("=")
        if equals:
            groups.setdefault(column, []).append(category)
    return {column: tuple(categories) for column, categories in groups.items()}


def _indicators(column: Column) -> dict[str, Categories]:
    """Return the categories of channels that are named by one and hold 0 and 1."""
    numeric = [each for each in column.names if column.cells(each)[1] is None]
    groups = _group_names(numeric)
    return {
        source: categories
        for source, categories in groups.items()
        if source not in column.names and _are_indicators(column, source)
    }


def _are_indicators(column: Column, source: str) -> bool:
    table = np.stack(list(_select(column, source).values()), axis=1)
    binary = np.isin(table[~np.isnan(table)], (0, 1)).all()
    return bool(binary and ((table == 1).sum(axis=1) <= 1).all())


def _select(column: Column, source: str) -> dict[str, AnyArray]:
    """Return the channels ``source=category`` of a column, by category."""
    start = f"{source}="
    return {
        each.removeprefix(start): column.cells(each)[0]
        for each in column.names
        if each.startswith(start)
    }


def _encode(
    name: str,
    column: str,
    cells: Cells,
    categories: Categories | None,
    sample: IntArray,
) -> dict[str, AnyArray]:
    """Return the channels of a column that both training and new rows have."""
    if categories is None:
        return {column: to_numbers(name, column, cells, sample)}
    values, own = numbers_as_codes(cells[0]) if cells[1] is None else cells
    codes = convert_cells(values, own, categories)
    if own != categories:
        unknown = codes_as_strings(values[codes < 0], own or ())
        _warn_unknown(name, column, dict.fromkeys(unknown))
    table = one_hot(codes, len(categories))
    return {f"{column}={each}": table[:, i] for i, each in enumerate(categories)}


def _complete(
    name: str, column: str, indicators: Mapping[str, AnyArray], categories: Categories
) -> dict[str, AnyArray]:
    """Return the channels of a column of which new rows have channels, too.

    A category without a channel is 0 where another one is 1, and missing elsewhere.
    """
    table = np.stack(list(indicators.values()), axis=1)
    ones = table == 1
    index = match_categories(list(indicators), categories)
    extra = [c for c, i in zip(indicators, index, strict=True) if i < 0]
    _warn_unknown(name, column, [c for c in extra if (indicators[c] == 1).any()])
    other = np.where(ones.any(axis=1), np.float32(0), np.float32(np.nan))
    channels = {f"{column}={each}": other for each in categories}
    known = {
        f"{column}={categories[i]}": indicators[c]
        for c, i in zip(indicators, index, strict=True)
        if i >= 0
    }
    lacking = [each for each in channels if each not in known]
    if lacking and (np.isnan(other) & ~np.isnan(table).all(axis=1)).any():
        _warn_lacking(name, lacking)
    return channels | known


def _warn_lacking(name: str, columns: Sequence[str]) -> None:
    _warn(
        f"Modality {name!r} lacks columns of the training data: {list_first(columns)}. "
        "Their cells are missing."
    )


def _warn_unknown(name: str, column: str, categories: Iterable[str]) -> None:
    if unknown := [f"{column}={each}" for each in categories]:
        _warn(
            f"Modality {name!r} has categories that the training data lack: "
            f"{list_first(unknown)}. They are encoded as none of the known categories."
        )


def _warn(text: str) -> None:
    warnings.warn(text, DataWarning, stacklevel=2)
