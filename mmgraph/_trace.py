"""Documents that record which entry was read last, to name it if it is damaged."""

from collections.abc import ItemsView, Iterator
from typing import Any

from mmgraph.errors import MMGraphError
from mmgraph.files import shorten

Place = tuple[str, ...]
Log = list[Place]  # of one entry: the place that was read last


class TracedDict(dict[str, Any]):
    """Object of a JSON document that records the entries that are read.

    Args:
        content: The object.
        place: Keys and indices that lead to it.
        log: Log that all parts of a document share.
    """

    def __init__(self, content: dict[str, Any], place: Place, log: Log) -> None:
        parts = {k: _traced(v, (*place, str(k)), log) for k, v in content.items()}
        super().__init__(parts)
        self._place, self._log = place, log

    def __getitem__(self, key: str) -> Any:  # noqa: ANN401
        self._log[0] = (*self._place, str(key))
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:  # noqa: ANN401
        """Return an entry, or the default."""
        self._log[0] = (*self._place, str(key))
        return super().get(key, default)

    def pop(self, key: str, *default: Any) -> Any:  # noqa: ANN401
        """Remove an entry and return it, or the default."""
        self._log[0] = (*self._place, str(key))
        return super().pop(key, *default)

    def items(self) -> ItemsView[str, Any]:  # type: ignore[override]
        """Return keys and values."""
        return _TracedItems(self)


class _TracedItems(ItemsView[str, Any]):
    _mapping: TracedDict

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return ((key, self._mapping[key]) for key in self._mapping)


class TracedList(list[Any]):
    """List of a JSON document that records the items that are read.

    Args:
        content: The list.
        place: Keys and indices that lead to it.
        log: Log that all parts of a document share.
    """

    def __init__(self, content: list[Any], place: Place, log: Log) -> None:
        parts = (_traced(v, (*place, str(i)), log) for i, v in enumerate(content))
        super().__init__(parts)
        self._place, self._log = place, log

    def __iter__(self) -> Iterator[Any]:
        for number, value in enumerate(super().__iter__()):
            self._log[0] = (*self._place, str(number))
            yield value


def _traced(value: Any, place: Place, log: Log) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return TracedDict(value, place, log)
    return TracedList(value, place, log) if isinstance(value, list) else value


def trace(document: dict[str, Any]) -> TracedDict:
    """Return a document that records which entry was read last.

    Args:
        document: JSON object.

    Example:
        >>> from mmgraph._trace import last_read, trace
        >>> document = trace({"params": {"members": [5, 6]}})
        >>> [5, 6] == list(document["params"]["members"]), last_read(document)
        (True, 'params.members.1')
    """
    return TracedDict(document, (), [()])


def last_read(document: TracedDict) -> str:
    """Return the entry of a document that was read last; empty before any."""
    return ".".join(document._log[0])


def describe_failure(error: Exception, document: TracedDict) -> str:
    """Return what is wrong with a document, in one line that names the entry.

    Errors of mmgraph name their subject themselves, as errors about tensors do.

    Args:
        error: Error that was raised while the document was read.
        document: The document.
    """
    entry, fault = last_read(document), shorten(error)
    if isinstance(error, MMGraphError) or not entry or "state_dict" in fault:
        return fault
    if isinstance(error, KeyError):
        return f"no {fault} near the entry {shorten(entry)}"
    for own, plain in ((TracedDict, dict), (TracedList, list)):
        fault = fault.replace(own.__name__, plain.__name__)
    return f"{fault} (entry {shorten(entry)})"
