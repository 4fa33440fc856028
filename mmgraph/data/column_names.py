"""Names of the columns of a table."""

from collections.abc import Collection, Iterable, Iterator

from mmgraph.errors import DataError, did_you_mean

MAX_SHOWN = 20  # names in a message


class ColumnNames(Collection[str]):
    """Names of the columns of a table, each of which is found in constant time.

    Args:
        names: Names in the order of the columns; they may repeat.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self._positions: dict[str, list[int]] = {}
        for position, name in enumerate(self._names):
            self._positions.setdefault(name, []).append(position)

    def __contains__(self, name: object) -> bool:
        return name in self._positions

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    @property
    def repeated(self) -> str | None:
        """The first name that two columns have; None if there is none."""
        if len(self._positions) == len(self._names):
            return None
        return next(n for n, where in self._positions.items() if len(where) > 1)

    def count(self, name: str) -> int:
        """Return the number of columns of a name."""
        return len(self._positions.get(name, ()))

    def position(self, name: str, remedy: str = "Check the names.") -> int:
        """Return the position of the only column of a name.

        Args:
            name: Name of the column.
            remedy: How to correct the name, for the message.

        Raises:
            DataError: If there is not exactly one column of this name.
        """
        where = self._positions.get(name, ())
        if len(where) != 1:
            shown = ", ".join(self._names[:MAX_SHOWN])
            hint = "" if where else did_you_mean(name, self._names)
            text = f"column {name!r} must exist once, got {len(where)} in: {shown}."
            raise DataError(f"{text} {hint}".rstrip(), remedy)
        return where[0]
