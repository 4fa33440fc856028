"""Modules or parameters by the names of node types."""

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar, cast

from torch import nn

T = TypeVar("T", nn.Module, nn.Parameter)


class TypeDict(nn.Module, Generic[T]):
    """A mapping that takes any name, also those of a module's own attributes."""

    def __init__(self, entries: Mapping[str, T]) -> None:
        super().__init__()
        self.names = tuple(entries)
        for name, entry in entries.items():
            setattr(self, f"of_{name}", entry)

    def __getitem__(self, name: str) -> T:
        return cast("T", getattr(self, f"of_{name}"))

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def items(self) -> list[tuple[str, T]]:
        """Return names and entries, in order."""
        return [(name, self[name]) for name in self.names]
