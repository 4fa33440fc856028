"""Ensemble members of modules that are written for a single model.

Letters: ``E`` members.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.func import functional_call
from torch.nn.parameter import UninitializedParameter

from mmgraph._random import draws_from
from mmgraph.errors import ConfigError

__all__ = ["MemberModules"]


class MemberModules(nn.Module):
    """One copy of a module for each ensemble member, with stacked parameters.

    Parameters and buffers have a leading axis of members, as those of all other layers,
    so that each member keeps its own best parameters.

    Args:
        build: Function without arguments that returns a new module; called once per
            member.
        members: ``E``.

    Raises:
        ConfigError: If a parameter has no shape yet.
    """

    def __init__(self, build: Callable[[], nn.Module], members: int) -> None:
        super().__init__()
        copies = _build(build, members)
        self._template = (copies[0],)  # in a tuple, so that it is not registered
        self.name, self.members = type(copies[0]).__name__, members
        parameters = [dict(each.named_parameters()) for each in copies]
        if any(isinstance(p, UninitializedParameter) for p in parameters[0].values()):
            raise ConfigError(
                "Modules of ensemble members must have parameters of known shapes, got "
                f"a {self.name} that infers them. Give its input channels."
            )
        saved = [each.state_dict() for each in copies]
        buffers = [k for k, _ in copies[0].named_buffers() if k in saved[0]]
        self._names = {
            name: name.replace(".", "/") for name in (*parameters[0], *buffers)
        }
        for name, value in parameters[0].items():
            stacked = torch.stack([each[name].detach() for each in parameters])
            own = nn.Parameter(stacked, requires_grad=value.requires_grad)
            self.register_parameter(self._names[name], own)
        for name in buffers:
            stacked = torch.stack([each[name] for each in saved])
            self.register_buffer(self._names[name], stacked)

    @property
    def template(self) -> nn.Module:
        """A module of the kind of the copies."""
        return self._template[0]

    def _apply(self, fn: Any, recurse: bool = True) -> "MemberModules":  # noqa: ANN401
        self.template._apply(fn, recurse)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self

    @torch.no_grad()
    def update(self, change: Callable[[nn.Module], None]) -> None:
        """Change the copy of each member by a function, such as its fit."""
        for member in range(self.members):
            state = {k: getattr(self, own)[member] for k, own in self._names.items()}
            self.template.load_state_dict(state, strict=False)  # shared ones once
            change(self.template)
            changed = self.template.state_dict()
            for name, own in self._names.items():
                getattr(self, own)[member].copy_(changed[name])

    def forward(self, member: int, *args: Any) -> Any:  # noqa: ANN401
        """Return the output of the copy of a member."""
        state = {k: getattr(self, own)[member] for k, own in self._names.items()}
        return functional_call(self.template.train(self.training), state, args)


def _build(build: Callable[[], nn.Module], members: int) -> list[nn.Module]:
    """Return a module per member; on the CPU if tensors are on the meta device."""
    if torch.get_default_device().type != "meta":
        return [build() for _ in range(members)]
    with torch.device("cpu"), draws_from(0):  # loaded parameters replace the drawn ones
        return [build() for _ in range(members)]
