"""FusionModel: encoders, graph layers, readout and head, put together.

Letters: ``B`` samples, ``M`` modalities, ``N`` nodes, ``D`` width, ``K`` outputs;
``...`` is the axis of ensemble members, where there are any.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from mmgraph.batch import Batch
from mmgraph.errors import DataError, SchemaError
from mmgraph.graph import Graph, NodeSet
from mmgraph.nn.completion import Completed, CompletionDecoder, completion_loss
from mmgraph.nn.conv import Capacity, Execution, RelationalAttention
from mmgraph.nn.encoders import EmbeddingEncoder, SequenceEncoder, VectorEncoder
from mmgraph.nn.heads import Head, Task
from mmgraph.nn.layer import FeedForward, GraphLayer, MixtureFeedForward
from mmgraph.nn.linear import TypedLinear, parameter
from mmgraph.nn.pyg import PyGConv
from mmgraph.nn.readout import (
    AttentionReadout,
    FuseReadout,
    MaxReadout,
    MeanReadout,
)
from mmgraph.ops import segment_mean
from mmgraph.schema import NEEDS_ENCODER, Modality, Relation, Schema

FeedForwardKind: TypeAlias = Literal["typed", "mixture", "none"]
ReadoutKind: TypeAlias = Literal["auto", "fuse", "mean", "max", "attention"]

_READOUTS = {
    "fuse": FuseReadout,
    "mean": MeanReadout,
    "max": MaxReadout,
    "attention": AttentionReadout,
}


@dataclass(frozen=True)
class FusionOutput:
    """What a model says about a batch.

    Attributes:
        logits: ``[..., B, K]`` unnormalised scores (regression: predictions).
        z: ``[..., B, D']`` state of each sample.
        h_dict: ``[..., N_t, D]`` final node states by type.
        completed: Completions by modality, for what was held out or asked for.
        auxiliary: Losses to add to the task's: completion of what was held out, and
            balance of mixture experts.
    """

    logits: Tensor
    z: Tensor
    h_dict: dict[str, Tensor]
    completed: dict[str, Completed] = field(default_factory=dict)
    auxiliary: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class LayerPlan:
    """What one layer has to do: relations that matter and types that are needed."""

    relations: tuple[Relation, ...]
    types: tuple[str, ...]


def plan_layers(
    schema: Schema, num_layers: int, *, completion: bool = False
) -> tuple[LayerPlan, ...]:
    """Keep of each layer what can still reach the readout.

    Raises:
        SchemaError: A relation that cannot matter in any layer.
    """
    needed = set(schema.readout or ())
    plans: list[LayerPlan] = []
    for layer in reversed(range(num_layers)):
        if completion and layer == max(num_layers - 2, 0):
            needed |= set(schema.modality_names)
        live = tuple(r for r in schema.relations if r.target in needed)
        plans.insert(0, LayerPlan(live, _in_order(schema, needed)))
        needed |= {r.source for r in live}
    live_anywhere = {r for plan in plans for r in plan.relations}
    for relation in schema.relations:
        if relation not in live_anywhere:
            raise SchemaError(
                f"Relation {relation.edge_type} must be able to reach the readout "
                f"({', '.join(schema.readout or ())}), but cannot in {num_layers} "
                "layer(s). Use more layers or leave it out."
            )
    return tuple(plans)


def _in_order(schema: Schema, names: set[str]) -> tuple[str, ...]:
    return tuple(name for name in schema.node_types if name in names)


def build_encoder(
    modality: Modality, hidden_channels: int, members: int | None
) -> nn.Module:
    """Return the encoder of a modality's kind; text, image, audio need one given."""
    if modality.kind in NEEDS_ENCODER or modality.channels is None:
        raise SchemaError(
            f"Modality {modality.name!r} of kind {modality.kind!r} must have an "
            "encoder, got none. Pass encoders={name: module}, or precomputed "
            "embeddings as a modality of kind 'embedding'."
        )
    if modality.tokens == "ragged":
        return SequenceEncoder(
            modality.channels,
            hidden_channels,
            max_nodes=modality.max_nodes,
            members=members,
        )
    kinds = {"vector": VectorEncoder, "embedding": EmbeddingEncoder}
    return kinds[modality.kind](modality.channels, hidden_channels, members=members)


class FusionModel(nn.Module):
    """A sample's graph of modalities, from packed rows to the task's outputs.

    Args:
        schema: Node types and relations.
        task: What is predicted.
        hidden_channels: ``D``, a multiple of ``num_heads``.
        num_layers: Graph layers. Relations that cannot reach the readout any more are
            left out of the last ones.
        num_heads: Attention heads.
        capacity: What a relation has of its own; see :class:`RelationalAttention`.
        feed_forward: ``"typed"``, ``"mixture"`` of experts, or ``"none"``.
        readout: ``"auto"``: the fuse node where latents are read, else the mean.
        completion: Predict held-out modalities from their ghosts.
        promote: Let completed nodes send in the last layer, by their reliability.
        conv: Builds a PyTorch Geometric convolution to use instead of attention.
        encoders: Modules in place of the default ones, by modality; each takes
            ``(x, sample, time, num_samples)`` and returns ``Encoded``.
        evidence_channels: Width of per-modality evidence given to ``forward``, or 0.
        execution: See :class:`RelationalAttention`.
        members: Ensemble members computed together, or None for one model.
        seed: Of the initial parameters; the global random state is left alone.

    Raises:
        SchemaError: A modality without an encoder; a relation that cannot matter.

    Example:
        >>> schema = Schema.star([Modality("labs", 3), Modality("ecg", 2)])
        >>> model = FusionModel(schema, task=Classification(num_classes=2))
        >>> batch = Batch(2, {"labs": torch.randn(2, 3), "ecg": torch.randn(1, 2)},
        ...               {"labs": torch.tensor([0, 1]), "ecg": torch.tensor([1])})
        >>> model(batch).logits.shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        schema: Schema,
        task: Task,
        *,
        hidden_channels: int = 32,
        num_layers: int = 2,
        num_heads: int = 4,
        capacity: Capacity = "bias",
        feed_forward: FeedForwardKind = "typed",
        readout: ReadoutKind = "auto",
        completion: bool = False,
        promote: bool = False,
        conv: Callable[[], nn.Module] | None = None,
        encoders: Mapping[str, nn.Module] | None = None,
        evidence_channels: int = 0,
        execution: Execution = "auto",
        members: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.schema, self.task, self.members = schema, task, members
        self.hidden_channels = hidden_channels
        self.plans = plan_layers(schema, num_layers, completion=completion)
        self.decode_after = max(num_layers - 1, 1) if completion else 0
        self.promote = promote
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._build_nodes(dict(encoders or {}), completion, evidence_channels)
            self.layers = nn.ModuleList(
                GraphLayer(
                    self._messages(plan, num_heads, capacity, conv, execution),
                    self._feed_forward(plan, feed_forward),
                )
                for plan in self.plans
            )
            self.readout = self._readout(readout)
            self.head = Head(self.readout.out_channels, task, members=members)

    def fit_scaling(self, batch: Batch) -> None:
        """Fit the standardisation of every encoder on a batch of training rows."""
        for name, encoder in self.encoders.items():
            if name in batch.x and hasattr(encoder, "fit"):
                encoder.fit(batch.x[name], batch.sample[name], batch.num_samples)

    def forward(
        self,
        batch: Batch,
        evidence: Tensor | None = None,
        complete: Sequence[str] = (),
    ) -> FusionOutput:
        """Predict from whatever modalities each sample has.

        Args:
            batch: Packed rows; modalities that the schema has and the batch lacks are
                missing. What is held out is not read.
            evidence: ``[B, M, evidence_channels]`` by modality of the schema, where
                the model was built for it; values of missing modalities are not read.
            complete: Modalities to complete wherever they are missing.

        Raises:
            DataError: A modality that the schema does not have, or a wrong width.
        """
        self._check(batch)
        visible = batch.visible()
        graph, h, targets = self._nodes(batch, visible, evidence, tuple(complete))
        auxiliary: list[Tensor] = []
        completed: dict[str, Completed] = {}
        for number, layer in enumerate(self.layers):
            if targets is not None and number == self.decode_after:
                graph, h = self._decode(graph, h, completed)
            h = layer(h, graph, auxiliary)
        if targets is not None and self.decode_after >= len(self.layers):
            graph, h = self._decode(graph, h, completed)
        if targets:
            auxiliary.extend(self._completion_losses(completed, targets))
        z = self.readout(h, graph)
        h_dict = {name: h[..., rows, :] for name, rows in graph.rows.items()}
        logits = self.head(z)
        return FusionOutput(logits, z, h_dict, completed, tuple(auxiliary))

    # Building

    def _build_nodes(
        self, encoders: dict[str, nn.Module], completion: bool, evidence_channels: int
    ) -> None:
        width, members = self.hidden_channels, self.members
        self.encoders = nn.ModuleDict(
            {
                m.name: encoders.get(m.name) or build_encoder(m, width, members)
                for m in self.schema.modalities
            }
        )
        used = {name for plan in self.plans for name in plan.types}
        used |= {r.source for plan in self.plans for r in plan.relations}
        self.latents = nn.ParameterDict(
            {
                latent.name: parameter(
                    latent.num_nodes, width, members=members, bound=1.0
                )
                for latent in self.schema.latents
                if latent.name in used
            }
        )
        self.evidence = (
            TypedLinear(
                self.schema.modality_names, evidence_channels, width, members=members
            )
            if evidence_channels
            else None
        )
        ghosts = self.schema.modalities if completion else ()
        self.ghosts = nn.ParameterDict(
            {m.name: parameter(1, width, members=members, bound=1.0) for m in ghosts}
        )
        self.decoders = nn.ModuleDict(
            {
                m.name: CompletionDecoder(width, _width(m), members=members)
                for m in ghosts
            }
        )

    def _messages(
        self,
        plan: LayerPlan,
        num_heads: int,
        capacity: Capacity,
        conv: Callable[[], nn.Module] | None,
        execution: Execution,
    ) -> nn.Module | None:
        if not plan.relations:
            return None
        if conv is not None:
            return PyGConv(conv, plan.relations)
        return RelationalAttention(
            plan.relations,
            self.hidden_channels,
            timed=[m.name for m in self.schema.modalities if m.time],
            num_heads=num_heads,
            capacity=capacity,
            execution=execution,
            members=self.members,
        )

    def _feed_forward(self, plan: LayerPlan, kind: FeedForwardKind) -> nn.Module | None:
        if kind == "none":
            return None
        if kind == "mixture":
            return MixtureFeedForward(
                plan.types,
                self.hidden_channels,
                self.schema.modality_names,
                members=self.members,
            )
        return FeedForward(plan.types, self.hidden_channels, members=self.members)

    def _readout(self, kind: ReadoutKind) -> nn.Module:
        types = self.schema.readout or ()
        latents = {latent.name: latent.num_nodes for latent in self.schema.latents}
        all_latent = all(name in latents for name in types)
        if kind == "auto":
            kind = "fuse" if all_latent else "mean"
        if kind == "fuse" and not all_latent:
            raise SchemaError(
                "The fuse readout must read latents only, got "
                f"{', '.join(types)}. Use readout='mean', 'max' or 'attention'."
            )
        return _READOUTS[kind](
            types,
            self.hidden_channels,
            num_nodes=sum(latents.get(name, 0) for name in types),
            members=self.members,
        )

    # Running

    def _check(self, batch: Batch) -> None:
        for name, x in batch.x.items():
            modality = self.schema.modality(name)
            if modality.channels is not None and x.shape[1] != modality.channels:
                raise DataError(
                    f"Batch.x[{name!r}] must have shape [N, {modality.channels}], "
                    f"got {list(x.shape)}."
                )

    def _nodes(
        self,
        batch: Batch,
        visible: Batch,
        evidence: Tensor | None,
        complete: tuple[str, ...],
    ) -> tuple[Graph, Tensor, "_Targets | None"]:
        """Encode what is visible; add ghosts and latents."""
        asked = self._ghost_samples(batch, complete)
        nodes, states = {}, []
        for number, modality in enumerate(self.schema.modalities):
            name = modality.name
            h, sample, time = self._encode(name, visible)
            if self.evidence is not None and evidence is not None:
                h = h + self._evidence_of(name, evidence[sample, number], number)
            ghost = asked.get(name)
            if ghost is None:
                nodes[name] = NodeSet(sample, batch.num_samples, time)
            else:
                h, nodes[name] = self._with_ghosts(name, h, sample, time, ghost, batch)
            states.append(h)
        for name, latent in self.latents.items():
            count = latent.shape[-2]
            each = torch.arange(batch.num_samples, device=batch.device)
            nodes[name] = NodeSet(each.repeat_interleave(count), batch.num_samples)
            reps = [1] * (latent.ndim - 2) + [batch.num_samples, 1]
            states.append(latent.repeat(*reps))
        table = torch.cat(_same_leading(states), dim=-2)
        targets = self._targets(batch, asked) if asked else None
        return Graph(nodes, batch.num_samples), table, targets

    def _encode(self, name: str, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        if name in batch.x:
            x, sample, time = batch.x[name], batch.sample[name], batch.time.get(name)
        else:
            channels = self.schema.modality(name).channels or 0
            some = next(iter(batch.x.values()))
            x = some.new_zeros(0, channels)
            sample = next(iter(batch.sample.values()))[:0]
            time = None
        if self.schema.modality(name).time and time is None:
            if len(x):
                raise DataError(
                    f"Batch.time[{name!r}] must be given: the schema says that the "
                    "modality has time."
                )
            time = x.new_zeros(0)
        return self.encoders[name](x, sample, time, batch.num_samples)

    def _evidence_of(self, name: str, evidence: Tensor, number: int) -> Tensor:
        assert self.evidence is not None
        weight = self.evidence.weight.select(-3, number)
        return evidence @ weight + self.evidence.bias.select(-3, number)

    # Ghosts

    def _ghost_samples(
        self, batch: Batch, complete: tuple[str, ...]
    ) -> dict[str, Tensor]:
        """Return ``[B]`` Bool by modality: where a ghost is wanted."""
        if not self.ghosts:
            if complete:
                raise SchemaError(
                    "The model must be built with completion=True to complete "
                    f"{', '.join(complete)}."
                )
            return {}
        asked: dict[str, Tensor] = {}
        present = dict(zip(batch.modalities, batch.present.unbind(1), strict=True))
        nothing = torch.zeros(batch.num_samples, dtype=torch.bool, device=batch.device)
        for name in complete:
            self.schema.modality(name)
            asked[name] = ~present.get(name, nothing)
        if batch.held_out is not None:
            for name, column in zip(
                batch.modalities, batch.held_out.unbind(1), strict=True
            ):
                asked[name] = asked.get(name, nothing) | column
        return {name: where for name, where in asked.items() if bool(where.any())}

    def _with_ghosts(
        self,
        name: str,
        h: Tensor,
        sample: Tensor,
        time: Tensor | None,
        where: Tensor,
        batch: Batch,
    ) -> tuple[Tensor, NodeSet]:
        """Merge one silent ghost a sample into the observed nodes of a modality."""
        ghost = torch.nonzero(where)[:, 0]
        states = self.ghosts[name].expand(*h.shape[:-2], len(ghost), -1)
        both = torch.cat([sample, ghost])
        order = torch.argsort(both, stable=True)
        silent = torch.arange(len(both), device=both.device) >= len(sample)
        if time is not None:
            time = torch.cat([time, time.new_zeros(len(ghost))])[order]
        merged = torch.cat([h, states], dim=-2).index_select(-2, order)
        return merged, NodeSet(both[order], batch.num_samples, time, silent[order])

    def _targets(self, batch: Batch, asked: dict[str, Tensor]) -> "_Targets":
        """Encode what is held out, without gradients: the targets of completion."""
        targets: _Targets = {}
        if batch.held_out is None:
            return targets
        hidden = batch.drop(batch.held_out)
        with torch.no_grad():
            for name in asked:
                if name not in batch.x or not len(hidden.x[name]):
                    continue
                h, sample, _ = self._encode(name, replace(hidden, held_out=None))
                state = segment_mean(h, sample, batch.num_samples)
                x = None
                if _width(self.schema.modality(name)) is not None:
                    x = self._standardised(name, hidden)
                rows = torch.unique(sample)
                targets[name] = (rows, state.index_select(-2, rows), x)
        return targets

    def _standardised(self, name: str, batch: Batch) -> Tensor:
        encoder, x = self.encoders[name], batch.x[name]
        if not isinstance(encoder, VectorEncoder):
            return x
        values = encoder.scaler(x)[:, : x.shape[1]]
        return torch.where(x.isnan(), torch.nan, values)

    def _decode(
        self, graph: Graph, h: Tensor, completed: dict[str, Completed]
    ) -> tuple[Graph, Tensor]:
        """Complete every ghost; promote them where the model does."""
        nodes, parts = dict(graph.nodes), []
        for name, rows in graph.rows.items():
            state, kind = h[..., rows, :], nodes[name]
            if kind.silent is not None:
                ghost = torch.nonzero(kind.silent)[:, 0]
                done = self.decoders[name](
                    state.index_select(-2, ghost), kind.sample[ghost]
                )
                completed[name] = done
                if self.promote:
                    state = state.index_copy(-2, ghost, done.h)
                    zeros = state.new_zeros(state.shape[:-1])
                    reliability = zeros.index_copy(-1, ghost, done.log_reliability)
                    nodes[name] = replace(
                        kind, silent=None, log_reliability=reliability
                    )
            parts.append(state)
        return Graph(nodes, graph.num_samples), torch.cat(parts, dim=-2)

    def _completion_losses(
        self, completed: dict[str, Completed], targets: "_Targets"
    ) -> list[Tensor]:
        losses = []
        for name, (rows, state, x) in targets.items():
            done = completed[name]
            at = torch.searchsorted(done.sample, rows)
            held_out = Completed(
                rows,
                done.h.index_select(-2, at),
                done.log_variance.index_select(-2, at),
                None if done.x is None else done.x.index_select(-2, at),
            )
            losses.append(completion_loss(held_out, state, x))
        return losses


_Targets: TypeAlias = dict[str, tuple[Tensor, Tensor, Tensor | None]]


def _width(modality: Modality) -> int | None:
    """Width of features that a completion can predict: vectors have one."""
    return modality.channels if modality.tokens == "single" else None


def _same_leading(states: list[Tensor]) -> list[Tensor]:
    """Give states of all types the same leading axes."""
    leading = max((h.shape[:-2] for h in states), key=len)
    return [h.expand(*leading, *h.shape[-2:]) for h in states]
