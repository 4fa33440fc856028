"""From a batch to the graph of every sample, with the states of its nodes.

Letters: ``B`` samples, ``M`` modalities, ``N`` nodes, ``D`` width.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mmgraph.batch import Batch
from mmgraph.errors import DataError, SchemaError
from mmgraph.graph import Graph, NodeSet
from mmgraph.model.ghosts import Ghosts
from mmgraph.nn.encoders import (
    EmbeddingEncoder,
    Encoded,
    SequenceEncoder,
    VectorEncoder,
)
from mmgraph.nn.linear import TypedLinear, parameter
from mmgraph.nn.named import ByName
from mmgraph.schema import NEEDS_ENCODER, Latent, Modality, Schema


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


class Nodes(NamedTuple):
    """A graph and the states of its nodes, ``[..., N, D]``."""

    graph: Graph
    h: Tensor


def _latent_nodes(count: int, batch: Batch) -> NodeSet:
    each = torch.arange(batch.num_samples, device=batch.device)
    sample = each[:, None].expand(-1, count).reshape(-1).contiguous()
    return NodeSet(sample, batch.num_samples, most=count)


class NodeBuilder(nn.Module):
    """Encoders, learned latent nodes, and evidence added to observed nodes.

    Args:
        schema: Node types.
        latents: The latents that are used.
        hidden_channels: ``D``.
        encoders: Modules in place of the default encoders, by modality.
        evidence_channels: Width of the evidence of a modality, or 0.
        members: Ensemble members computed together, or None.
    """

    def __init__(
        self,
        schema: Schema,
        latents: tuple[Latent, ...],
        hidden_channels: int,
        *,
        encoders: Mapping[str, nn.Module],
        evidence_channels: int,
        members: int | None,
    ) -> None:
        super().__init__()
        self.schema = schema
        self.evidence_channels = evidence_channels
        built = {
            m.name: encoders.get(m.name) or build_encoder(m, hidden_channels, members)
            for m in schema.modalities
        }
        self.encoders: ByName[nn.Module] = ByName(built)
        self.latents: ByName[nn.Parameter] = ByName(
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
        ghosts: Ghosts | None,
        asked: dict[str, Tensor],
    ) -> Nodes:
        """Encode what is visible; add ghosts where asked for, and latents."""
        self._check_evidence(batch, evidence)
        nodes, states = {}, []
        for number, name in enumerate(self.schema.modality_names):
            h, found = self._modality(name, batch)
            if evidence is not None:
                said = evidence[found.sample, number]
                if found.silent is not None:
                    said = said.masked_fill(found.silent[:, None], 0)
                h = h + self._map_evidence(said, number)
            if ghosts is not None and name in asked:
                h, found = ghosts.merge(name, h, found, asked[name])
            nodes[name] = found
            states.append(h)
        for name, latent in self.latents.items():
            nodes[name] = _latent_nodes(latent.shape[-2], batch)
            reps = [1] * (latent.ndim - 2) + [batch.num_samples, 1]
            states.append(latent.repeat(*reps))
        leading = max((h.shape[:-2] for h in states), key=len)
        table = [h.expand(*leading, *h.shape[-2:]) for h in states]
        return Nodes(Graph(nodes, batch.num_samples), torch.cat(table, dim=-2))

    def _modality(self, name: str, batch: Batch) -> tuple[Tensor, NodeSet]:
        """Return states and nodes of a modality; placeholders are silent."""
        h, sample, time = self.encode(name, batch)
        most = batch.most.get(name) if sample is batch.sample.get(name) else None
        silent = None
        if batch.missing is not None and name in batch.x:
            silent = batch.missing[:, batch.modalities.index(name)]
        return h, NodeSet(sample, batch.num_samples, time, silent, most=most)

    def encode(self, name: str, batch: Batch) -> Encoded:
        """Encode the rows of one modality; without rows there are no nodes.

        Raises:
            DataError: Rows without time where the schema says that they have time.
        """
        modality = self.schema.modality(name)
        x, sample, time = self._rows(modality, batch)
        if modality.time and time is None:
            if x.shape[0]:
                raise DataError(
                    f"Batch.time[{name!r}] must be given: the schema says that the "
                    "modality has time."
                )
            time = x.new_zeros(0)
        time = None if time is None else time.to(x.dtype)
        encoded: Encoded = self.encoders[name](x, sample, time, batch.num_samples)
        return encoded

    def _rows(
        self, modality: Modality, batch: Batch
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        name = modality.name
        if name in batch.x and batch.x[name].shape[0]:
            return batch.x[name], batch.sample[name], batch.time.get(name)
        some, samples = next(iter(batch.x.values())), next(iter(batch.sample.values()))
        return some.new_zeros(0, modality.channels or 0), samples[:0], None

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

    def _map_evidence(self, evidence: Tensor, number: int) -> Tensor:
        assert self.evidence is not None
        weight = self.evidence.weight.select(-3, number)
        return evidence @ weight + self.evidence.bias.select(-3, number)
