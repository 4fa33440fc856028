"""Random draws of code that takes no generator, such as the layers of PyTorch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    _get_current_dispatch_mode,
)


@contextmanager
def draws_from(seed: int) -> Iterator[None]:
    """Draw the initial weights that are created in the context from their own seed.

    The draws equal those after ``torch.manual_seed(seed)``, but the global generators
    are neither read nor changed, so that models can be built in several threads.
    Contexts apply to one thread, and the inner one of two counts. On the meta device
    nothing is drawn.

    Args:
        seed: Seed of the draws.
    """
    # the first use of a mode imports the compiler of PyTorch, which takes seconds
    is_meta = torch.get_default_device().type == "meta"
    with nullcontext() if is_meta else _Seeded(seed):
        yield


@contextmanager
def separate_draws() -> Iterator[None]:
    """Draw from a copy of the enclosing :func:`draws_from`, or from seed 0 without one.

    The draws in this context do not change those after it.
    """
    outer = _get_current_dispatch_mode()
    seeded = outer.copy() if isinstance(outer, _Seeded) else draws_from(0)
    with seeded:
        yield


class _Seeded(TorchDispatchMode):
    """Passes a generator to every random operation that is called without one."""

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seed = seed
        self.generators: dict[torch.device, torch.Generator] = {}

    def copy(self) -> "_Seeded":
        """Return a context in the same state."""
        other = _Seeded(self.seed)
        for device, generator in self.generators.items():
            other._generator(device).set_state(generator.get_state())
        return other

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        given = dict(kwargs or {})
        draw = _takes_generator(func)
        is_tensor = bool(args) and isinstance(args[0], torch.Tensor)
        where = args[0].device if is_tensor else given.get("device") or "cpu"
        device = torch.device(where)
        if not draw or given.get("generator") or device.type == "meta":
            return func(*args, **given)
        return draw(*args, **(given | {"generator": self._generator(device)}))

    def _generator(self, device: torch.device) -> torch.Generator:
        if device not in self.generators:
            self.generators[device] = torch.Generator(device).manual_seed(self.seed)
        return self.generators[device]


def _takes_generator(func: Any) -> Callable[..., Any] | None:  # noqa: ANN401
    """Return the variant of an operation that takes a generator, or None."""
    if any(argument.name == "generator" for argument in func._schema.arguments):
        return func
    if "generator" in func.overloadpacket.overloads():
        return func.overloadpacket.generator
    return None
