"""Dictionary of modules or parameters by node type."""

from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar, cast

from torch import nn

T = TypeVar("T", nn.Module, nn.Parameter)


class TypeDict(nn.Module, Generic[T]):
    """Registered modules or parameters by name of a node type.

    Unlike ``torch.nn.ModuleDict``, keys may contain dots or equal attributes of a
    module such as ``"type"``, and parameters are supported. The prefix ``of_`` of the
    names in the state dict keeps node types apart from attributes.

    Args:
        entries: Modules, or parameters, by name.
    """

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
        """Return pairs of name and entry, in the order of the entries."""
        return [(name, self[name]) for name in self.names]
