"""Construction of the graphs of a batch and of the initial states of their nodes.

Letters: ``B`` samples, ``M`` modalities, ``N`` nodes, ``D`` width.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias, cast

import torch
from torch import Tensor, nn

from mmgraph.data.batch import Batch
from mmgraph.errors import ConfigError, DataError, SchemaError
from mmgraph.graph import NodeSet
from mmgraph.graph.graph import Graph
from mmgraph.model.placeholders import PlaceholderNodes
from mmgraph.nn.encoders import (
    EmbeddingEncoder,
    Encoded,
    SequenceEncoder,
    VectorEncoder,
    encode_together,
)
from mmgraph.nn.finetuning import FineTunedEncoder
from mmgraph.nn.linear import TypedLinear, parameter
from mmgraph.nn.member_encoder import MemberEncoder
from mmgraph.nn.type_dict import TypeDict
from mmgraph.pretrained import PretrainedEncoder
from mmgraph.schema import NEEDS_ENCODER, Latent, Modality, Schema

GivenEncoder: TypeAlias = nn.Module | Callable[[], nn.Module] | PretrainedEncoder
ENCODER_ARGS = ("x", "sample", "time", "num_samples")  # of the forward of an encoder


def build_encoder(
    modality: Modality,
    hidden_channels: int,
    members: int | None,
    given: GivenEncoder | None = None,
) -> nn.Module:
    """Return the encoder of a modality.

    Args:
        modality: Modality. Text, image and audio need a given or named encoder.
        hidden_channels: ``D``.
        members: Ensemble members computed together, or None for a single model.
        given: Custom module, function that returns one, or pretrained encoder to
            fine-tune; None selects the default encoder of the kind of modality.

    Raises:
        ConfigError: If ``given`` is not an encoder.
        SchemaError: If the modality needs an encoder and has none.
    """
    if _is_function(given):
        build = cast("Callable[[], nn.Module]", given)
        built = build()
        _check_encoder(modality.name, built)
        return MemberEncoder(build, members, hidden_channels) if members else built
    _check_encoder(modality.name, given)
    if isinstance(given, nn.Module):
        return given
    if given is None and modality.encoder and modality.kind in NEEDS_ENCODER:
        given = PretrainedEncoder(modality.encoder, modality.kind)
    if isinstance(given, PretrainedEncoder):
        return FineTunedEncoder(given, hidden_channels, members=members)
    if modality.kind in NEEDS_ENCODER or modality.channels is None:
        raise SchemaError(
            f"Modality {modality.name!r} of kind {modality.kind!r} must have an "
            "encoder, got none. Pass encoders={name: module}, name a pretrained one in "
            "its Modality, or give embeddings as a modality of kind 'embedding'."
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


def _is_function(given: object) -> bool:
    """Return True for a function that builds an encoder."""
    kinds = nn.Module, PretrainedEncoder, type
    return callable(given) and not isinstance(given, kinds)


def _check_encoders(given: object, names: tuple[str, ...]) -> None:
    """Check that custom encoders are a dict by name of a modality."""
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"encoders must be a dict of modules by modality, got {given!r}. Give "
            f"{{{names[0]!r}: module}}."
        )
    for name in given:
        if name not in names:
            raise ConfigError(
                f"encoders must name modalities of the schema ({', '.join(names)}), "
                f"got {name!r}. Check the spelling."
            )


def _check_encoder(name: str, given: object) -> None:
    """Check that an encoder is a module with the signature of an encoder."""
    if given is None or isinstance(given, PretrainedEncoder):
        return
    arguments = ", ".join(ENCODER_ARGS)
    rule = f"encoders[{name!r}] must be a module that takes ({arguments}), got "
    if not isinstance(given, nn.Module):
        kind = "the class " if isinstance(given, type) else ""
        shown = given.__name__ if isinstance(given, type) else repr(given)
        raise ConfigError(f"{rule}{kind}{shown}. Give an instance.")
    try:
        inspect.signature(given.forward).bind(*ENCODER_ARGS)
    except TypeError:
        raise ConfigError(
            f"{rule}{type(given).__name__}. Wrap it in a module with this signature."
        ) from None


class Nodes(NamedTuple):
    """Graphs of a batch and the states ``[..., N, D]`` of their nodes."""

    graph: Graph
    h: Tensor


def _latent_nodes(count: int, batch: Batch) -> NodeSet:
    each = torch.arange(batch.num_samples, device=batch.device)
    sample = each[:, None].expand(-1, count).reshape(-1).contiguous()
    return NodeSet(sample, batch.num_samples, max_per_sample=count)


class NodeBuilder(nn.Module):
    """Initial nodes: encoded rows, evidence, placeholder nodes and latent nodes.

    Args:
        schema: Node types.
        latents: Latents that the layers use.
        hidden_channels: ``D``.
        encoders: Custom encoders by modality, in place of the default ones.
        evidence_channels: Width of the evidence of a modality, which is mapped and
            added to the states of its nodes; 0 for none.
        members: Ensemble members computed together, or None for a single model.
    """

    def __init__(
        self,
        schema: Schema,
        latents: tuple[Latent, ...],
        hidden_channels: int,
        *,
        encoders: Mapping[str, GivenEncoder],
        evidence_channels: int,
        members: int | None,
    ) -> None:
        super().__init__()
        self.schema = schema
        self.evidence_channels = evidence_channels
        _check_encoders(encoders, schema.modality_names)
        built = {
            m.name: build_encoder(m, hidden_channels, members, encoders.get(m.name))
            for m in schema.modalities
        }
        self.encoders: TypeDict[nn.Module] = TypeDict(built)
        learned = [m.name for m in schema.modalities if m.clock == "learned"]
        self.clocks: TypeDict[nn.Parameter] = TypeDict(
            {name: parameter(1, members=members) for name in learned}
        )
        self.latents: TypeDict[nn.Parameter] = TypeDict(
            {
                latent.name: parameter(
                    latent.num_nodes, hidden_channels, members=members, bound=1.0
                )
                for latent in latents
            }
        )
        self.evidence = (
            TypedLinear(
                schema.modality_names,
                evidence_channels,
                hidden_channels,
                members=members,
            )
            if evidence_channels
            else None
        )

    def forward(
        self,
        batch: Batch,
        evidence: Tensor | None,
        placeholders: PlaceholderNodes | None,
        requested: dict[str, Tensor],
    ) -> Nodes:
        """Build the graphs of a batch.

        Args:
            batch: Visible rows.
            evidence: ``[B, M, evidence_channels]``, or None.
            placeholders: Placeholder nodes, or None.
            requested: ``[B]`` Bool by modality, samples that get a placeholder node.

        Raises:
            DataError: If the evidence has another shape, or a modality with time has
                rows without time.
        """
        self._check_evidence(batch, evidence)
        names = self.schema.modality_names
        tables, encoded = encode_together(
            [self.encoders[name] for name in names],
            [self._rows(name, batch) for name in names],
            batch.num_samples,
        )
        nodes = {
            name: NodeSet(
                x.sample,
                batch.num_samples,
                self._on_one_clock(name, x.time),
                x.missing,
                max_per_sample=x.max_per_sample,
            )
            for name, x in zip(names, encoded, strict=True)
        }
        if evidence is not None:
            added = self._map_evidence(evidence, Graph(nodes, batch.num_samples))
            tables = [_stack(tables) + added]
        if placeholders is not None and requested:
            h = _stack(tables)
            tables = [self._merge(placeholders, h, nodes, requested, batch)]
        states = [*tables]
        for name, latent in self.latents.items():
            nodes[name] = _latent_nodes(latent.shape[-2], batch)
            each = latent.unsqueeze(-3)  # equal in all samples
            shape = *each.shape[:-3], batch.num_samples, *latent.shape[-2:]
            states.append(each.expand(shape).flatten(-3, -2))
        return Nodes(Graph(nodes, batch.num_samples), _stack(states))

    def _on_one_clock(self, name: str, time: Tensor | None) -> Tensor | None:
        """Subtract the learned offset of a modality from the times of its nodes."""
        if time is None or name not in self.clocks.names:
            return time
        return time - self.clocks[name].mean()

    def _merge(
        self,
        placeholders: PlaceholderNodes,
        h: Tensor,
        nodes: dict[str, NodeSet],
        requested: dict[str, Tensor],
        batch: Batch,
    ) -> Tensor:
        """Insert placeholder nodes into the table and, in place, into ``nodes``."""
        first = _first_times(batch)
        rows = h.split([x.num_nodes for x in nodes.values()], -2)
        states = dict(zip(nodes, rows, strict=True))
        for name, where in requested.items():
            states[name], nodes[name] = placeholders.merge(
                name, states[name], nodes[name], where, first
            )
        return _stack(list(states.values()))

    def encode(self, name: str, batch: Batch) -> Encoded:
        """Return the encoded rows of one modality; no nodes without rows.

        Raises:
            DataError: If a modality with time has rows without time.
        """
        x, sample, time, _, _ = self._rows(name, batch)
        encoded: Encoded = self.encoders[name](x, sample, time, batch.num_samples)
        return encoded

    def _rows(self, name: str, batch: Batch) -> Encoded:
        """Return the rows of a modality, in the form of the input of its encoder."""
        modality = self.schema.modality(name)
        rows = self._present_rows(modality, batch)
        x, time = rows.h, rows.time
        if modality.time and time is None:
            if x.shape[0]:
                raise DataError(
                    f"Batch.time[{name!r}] must be given, because the modality has "
                    "time=True in the schema."
                )
            time = x.new_zeros(0)
        return rows._replace(time=time)

    def _present_rows(self, modality: Modality, batch: Batch) -> Encoded:
        name = modality.name
        if name in batch.x and batch.x[name].shape[0]:
            missing = None if batch.missing is None else batch.missing[name]
            time, most = batch.time.get(name), batch.max_per_sample.get(name)
            return Encoded(batch.x[name], batch.sample[name], time, missing, most)
        tables = [x for x in batch.x.values() if x.is_floating_point()]
        tables = tables or list(self.parameters())  # tokens of texts are integers
        sample = next(iter(batch.sample.values()))
        x = tables[0].new_zeros(0, modality.channels or 0)
        return Encoded(x, sample[:0], None, max_per_sample=0)

    def _check_evidence(self, batch: Batch, evidence: Tensor | None) -> None:
        shape = (
            batch.num_samples,
            len(self.schema.modalities),
            self.evidence_channels,
        )
        if evidence is not None and (not self.evidence or evidence.shape != shape):
            raise DataError(
                f"evidence must have shape {list(shape)}, got {list(evidence.shape)}. "
                "Build the model with evidence_channels to give evidence."
            )

    def _map_evidence(self, evidence: Tensor, graph: Graph) -> Tensor:
        """Return the mapped evidence ``[..., N, D]``; the bias if receive-only."""
        assert self.evidence is not None
        count = evidence.shape[1]
        cell = [x.sample * count + m for m, x in enumerate(graph.nodes.values())]
        rows = evidence.flatten(0, 1).index_select(0, torch.cat(cell))
        if any(x.receive_only is not None for x in graph.nodes.values()):
            sends_to = torch.cat([x.sends_to for x in graph.nodes.values()])
            rows = rows.masked_fill((sends_to == graph.num_samples)[:, None], 0)
        return self.evidence(rows, graph.rows)


def _first_times(batch: Batch) -> Tensor:
    """Return the first observed time ``[B]`` of each sample; 0 without times."""
    shape = (batch.num_samples,)
    first = torch.full(shape, torch.inf, dtype=torch.float64, device=batch.device)
    for name, seconds in batch.time.items():
        sample = batch.sample[name]
        first = first.scatter_reduce(0, sample, seconds.to(first.dtype), "amin")
    return first.masked_fill(first.isinf(), 0)


def _stack(tables: list[Tensor]) -> Tensor:
    """Concatenate tables by rows; expand those that all members share."""
    if len(tables) == 1:
        return tables[0]
    leading = max((h.shape[:-2] for h in tables), key=len)
    return torch.cat([h.expand(*leading, *h.shape[-2:]) for h in tables], dim=-2)
