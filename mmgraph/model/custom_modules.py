"""Custom encoders and convolutions of an ensemble, whose code is not saved."""

import os
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeGuard

from torch import nn

from mmgraph.errors import CheckpointError, ConfigError
from mmgraph.files import shorten
from mmgraph.model.fusion import FusionModel
from mmgraph.nn.member_encoder import MemberEncoder
from mmgraph.nn.pyg import PyGConv
from mmgraph.pretrained import PretrainedEncoder
from mmgraph.typing import PathLike

ModuleBuilder: TypeAlias = Callable[[], nn.Module]
CustomEncoder: TypeAlias = nn.Module | ModuleBuilder
Pretrained: TypeAlias = PretrainedEncoder | str | os.PathLike[str]
AnyEncoder: TypeAlias = Pretrained | CustomEncoder


def is_custom(encoder: object) -> TypeGuard[CustomEncoder]:
    """Return True for a module, or a function that builds one."""
    return isinstance(encoder, nn.Module) or (
        callable(encoder) and not isinstance(encoder, PretrainedEncoder)
    )


def pretrained_encoders(
    encoders: Mapping[str, AnyEncoder] | None,
) -> dict[str, Pretrained] | None:
    """Return the encoders that are not custom modules; None without any."""
    items = (encoders or {}).items()
    return {k: v for k, v in items if not is_custom(v)} or None  # type: ignore[misc]


class CustomModules(NamedTuple):
    """Custom modules of the graph networks.

    Attributes:
        conv: Function that returns a convolution, or None.
        encoders: Custom encoder by modality.
    """

    conv: ModuleBuilder | None
    encoders: Mapping[str, CustomEncoder]

    @classmethod
    def of(
        cls, conv: ModuleBuilder | None, encoders: Mapping[str, AnyEncoder] | None
    ) -> "CustomModules":
        """Return the custom modules among convolution and encoders."""
        items = (encoders or {}).items()
        return cls(conv, {name: each for name, each in items if is_custom(each)})

    @property
    def builders(self) -> dict[str, ModuleBuilder]:
        """Function that returns a new encoder, by modality."""
        return {
            name: partial(deepcopy, each) if isinstance(each, nn.Module) else each
            for name, each in self.encoders.items()
        }

    @property
    def roles(self) -> list[str]:
        """Parameters that are custom modules, such as "conv" and "encoders.ecg"."""
        names = ["conv"] if self.conv is not None else []
        return names + [f"encoders.{name}" for name in self.encoders]

    def check(self, folder: PathLike, needed: Any) -> None:  # noqa: ANN401
        """Compare custom modules with those of a saved model.

        Args:
            folder: Folder of the model, for messages.
            needed: What :func:`describe_modules` returned.

        Raises:
            CheckpointError: If one is not given, or the content is damaged.
            ConfigError: If one is given that the model does not have.
        """
        if not isinstance(needed, Mapping):
            raise CheckpointError(
                f"{folder} must name custom modules, got {shorten(needed)}."
            )
        for role, name in needed.items():
            if role not in self.roles:
                kind, _, modality = role.partition(".")
                where = f" of modality {modality!r}" if modality else ""
                raise CheckpointError(
                    f"{folder} must be loaded with the {kind}={where} of its fit, got "
                    f"none. It is a {shorten(name)}, whose code is not saved: give it "
                    "to from_pretrained or load_estimator."
                )
        for role in self.roles:
            if role not in needed:
                raise ConfigError(
                    f"{role} must be a custom module of the fit, got one for a model "
                    "without. Leave it out."
                )


def describe_modules(graph: FusionModel) -> dict[str, str]:
    """Return the classes of the custom modules of an ensemble, by role."""
    named = {
        f"encoders.{name}": encoder.copies.name
        for name, encoder in graph.encoders.items()
        if isinstance(encoder, MemberEncoder)
    }
    for module in graph.modules():
        if isinstance(module, PyGConv):
            named["conv"] = type(module.convs[0].template).__name__
    return named
