"""Readouts of a model by name, and user-defined fusion operators.

Letters: ``M`` node types that are read, ``D`` width, ``C`` width of the result.
"""

from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from mmgraph.errors import ConfigError, SchemaError
from mmgraph.nn.fusion import (
    ConcatFusion,
    FusionOperator,
    GatedFusion,
    LowRankFusion,
    ProductFusion,
    SumFusion,
)
from mmgraph.nn.readout import (
    AttentionReadout,
    FuseReadout,
    FusionReadout,
    MaxReadout,
    MeanReadout,
)
from mmgraph.schema import Schema

ReadoutKind: TypeAlias = Literal[
    "auto",
    "fuse",
    "mean",
    "max",
    "attention",
    "concat",
    "sum",
    "product",
    "gated",
    "low_rank",
]
OperatorBuilder: TypeAlias = Callable[[int, int, int | None], FusionOperator]
Readout: TypeAlias = FuseReadout | FusionReadout | AttentionReadout

_READOUTS: dict[str, type[FuseReadout | MeanReadout | MaxReadout | AttentionReadout]]
_READOUTS = {
    "fuse": FuseReadout,
    "mean": MeanReadout,
    "max": MaxReadout,
    "attention": AttentionReadout,
}
_Operator: TypeAlias = (
    ConcatFusion | SumFusion | ProductFusion | GatedFusion | LowRankFusion
)
_OPERATORS: dict[str, type[_Operator]] = {
    "concat": ConcatFusion,
    "sum": SumFusion,
    "product": ProductFusion,
    "gated": GatedFusion,
    "low_rank": LowRankFusion,
}
NUM_TRIED = 2  # samples of the trial run of an operator


def build_readout(
    kind: ReadoutKind | OperatorBuilder,
    schema: Schema,
    channels: int,
    *,
    members: int | None,
) -> Readout:
    """Build the readout of a model.

    Args:
        kind: Name of a readout, or a function ``(num_modalities, channels, members)``
            that returns a fusion operator.
        schema: Schema; its ``readout`` lists the node types that are read.
        channels: ``D``.
        members: Ensemble members computed together, or None for a single model.

    Raises:
        ConfigError: If the name is unknown, or an operator has no ``out_channels`` or
            returns another shape.
        SchemaError: If the fuse readout would read modalities.
    """
    types = schema.readout or ()
    latents = {latent.name: latent.num_nodes for latent in schema.latents}
    all_latent = all(name in latents for name in types)
    if kind == "auto":
        kind = "fuse" if all_latent else "mean"
    if kind == "fuse" and not all_latent:
        raise SchemaError(
            "The fuse readout must read latents only, got "
            f"{', '.join(types)}. Use readout='mean', 'max' or 'attention'."
        )
    if isinstance(kind, str) and kind in _READOUTS:
        num_nodes = sum(latents.get(name, 0) for name in types)
        return _READOUTS[kind](types, channels, num_nodes=num_nodes, members=members)
    operator: FusionOperator
    if isinstance(kind, str) and kind in _OPERATORS:
        operator = _OPERATORS[kind](len(types), channels, members=members)
    elif callable(kind):
        operator = kind(len(types), channels, members)
        _try_operator(operator, len(types), channels, members)
    else:
        names = ", ".join(("auto", *_READOUTS, *_OPERATORS))
        raise ConfigError(
            f"readout must be one of {names}, or a function that returns a fusion "
            f"operator, got {kind!r}. Check the spelling."
        )
    return FusionReadout(types, channels, operator=operator)


@torch.no_grad()
def _try_operator(
    operator: FusionOperator, num_modalities: int, channels: int, members: int | None
) -> None:
    """Check the shape that a user-defined operator returns for two samples."""
    width = getattr(operator, "out_channels", None)
    if not isinstance(width, int):
        raise ConfigError(
            "The operator of readout= must have out_channels, the width of its result, "
            f"got {width!r} of a {type(operator).__name__}. Set self.out_channels."
        )
    leading = () if members is None else (members,)
    u = torch.ones(*leading, NUM_TRIED, num_modalities, channels)
    result = operator(u, torch.ones(NUM_TRIED, num_modalities, dtype=torch.bool))
    wanted = [*leading, NUM_TRIED, width]
    is_tensor = isinstance(result, Tensor)
    if not is_tensor or list(result.shape) != wanted:
        got = list(result.shape) if is_tensor else f"a {type(result).__name__}"
        raise ConfigError(
            f"The operator of readout= must return shape {wanted} for states of shape "
            f"{list(u.shape)}, got {got}. Correct its result or out_channels."
        )
