"""Placeholder nodes of missing modalities: insertion, completion and loss.

Letters: ``B`` samples, ``M`` modalities, ``N`` nodes, ``D`` width, ``C`` channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmgraph.data.batch import Batch
from mmgraph.graph import NodeSet
from mmgraph.graph.graph import Graph
from mmgraph.losses import LossSums
from mmgraph.nn.completion import Completed, CompletionDecoder, completion_loss
from mmgraph.nn.encoders import Encoded, VectorEncoder
from mmgraph.nn.linear import parameter
from mmgraph.nn.type_dict import TypeDict
from mmgraph.ops import segment_mean
from mmgraph.schema import Modality, Schema


def _width(modality: Modality) -> int | None:
    """Return the width of the predicted features; None for sequences."""
    return modality.channels if modality.tokens == "single" else None


class PlaceholderNodes(nn.Module):
    """Placeholder nodes, one for each modality that is missing or held out.

    A placeholder node has a learned initial state, receives messages and sends none,
    unless it is promoted after its completion. In a modality with time, its time is the
    first observed time of the sample.

    Args:
        schema: Node types.
        hidden_channels: ``D``.
        promote: Let completed nodes send messages, weighted by their reliability.
        members: Ensemble members computed together, or None for a single model.
    """

    def __init__(
        self,
        schema: Schema,
        hidden_channels: int,
        *,
        promote: bool,
        members: int | None,
    ) -> None:
        super().__init__()
        self.schema, self.promote = schema, promote
        self.states: TypeDict[nn.Parameter] = TypeDict(
            {
                m.name: parameter(1, hidden_channels, members=members, bound=1.0)
                for m in schema.modalities
            }
        )
        self.decoders: TypeDict[nn.Module] = TypeDict(
            {
                m.name: CompletionDecoder(hidden_channels, _width(m), members=members)
                for m in schema.modalities
            }
        )

    def requested(self, batch: Batch, complete: Sequence[str]) -> dict[str, Tensor]:
        """Return the samples that need a placeholder node.

        Args:
            batch: Present and held-out modalities of each sample.
            complete: Modalities to complete wherever they are missing.

        Returns:
            ``[B]`` Bool by modality, only for modalities with at least one sample.
        """
        nothing = torch.zeros(batch.num_samples, dtype=torch.bool, device=batch.device)
        present = dict(zip(batch.modalities, batch.present.unbind(1), strict=True))
        needed = {}
        for name in complete:
            self.schema.modality(name)  # raises for an unknown name
            needed[name] = ~present.get(name, nothing)
        if batch.held_out is not None:
            columns = batch.held_out.unbind(1)
            for name, column in zip(batch.modalities, columns, strict=True):
                needed[name] = needed.get(name, nothing) | column
        return {name: where for name, where in needed.items() if bool(where.any())}

    def merge(
        self, name: str, h: Tensor, nodes: NodeSet, where: Tensor, first: Tensor
    ) -> tuple[Tensor, NodeSet]:
        """Insert placeholder nodes into the nodes of a modality.

        Args:
            name: Modality.
            h: ``[..., N, D]`` states of its nodes.
            nodes: Nodes of the modality.
            where: ``[B]`` Bool, True for samples that get a placeholder node.
            first: ``[B]`` seconds, time of the placeholder nodes.

        Returns:
            States and nodes, ordered by sample.
        """
        added = torch.nonzero(where)[:, 0]
        state = self.states[name].expand(*h.shape[:-2], len(added), -1)
        sample = torch.cat([nodes.sample, added])
        order = torch.argsort(sample, stable=True)
        receive_only = torch.arange(len(sample), device=sample.device) >= len(nodes)
        time = nodes.time
        if time is not None:
            time = torch.cat([time, first[added].to(time.dtype)])[order]
        merged = torch.cat([h, state], dim=-2).index_select(-2, order)
        return merged, NodeSet(
            sample[order], nodes.num_samples, time, receive_only[order]
        )

    def decode(
        self, graph: Graph, h: Tensor
    ) -> tuple[Graph, Tensor, dict[str, Completed]]:
        """Complete all placeholder nodes of a graph; promote them if ``promote``.

        Returns:
            Graph, states ``[..., N, D]``, and the completions by modality.
        """
        nodes, parts, completed = dict(graph.nodes), [], {}
        for name, rows in graph.rows.items():
            state, node_set = h[..., rows, :], nodes[name]
            if node_set.receive_only is not None:
                index = torch.nonzero(node_set.receive_only)[:, 0]
                completion = self.decoders[name](
                    state.index_select(-2, index), node_set.sample[index]
                )
                completed[name] = completion
                if self.promote:
                    state, nodes[name] = _promote(state, node_set, index, completion)
            parts.append(state)
        return Graph(nodes, graph.num_samples), torch.cat(parts, dim=-2), completed

    def losses(
        self,
        batch: Batch,
        completed: dict[str, Completed],
        encode: Callable[[str, Batch], Encoded],
        encoders: TypeDict[nn.Module],
    ) -> dict[str, LossSums]:
        """Return the completion losses of held-out modalities.

        Args:
            batch: Batch with held-out modalities.
            completed: Completions by modality.
            encode: Encodes the rows of one modality; its states are the targets,
                without gradient.
            encoders: Encoders by modality.

        Returns:
            Losses by modality; empty if nothing is held out.
        """
        if batch.held_out is None:
            return {}
        hidden = batch.of_held_out()
        losses = {}
        for name, completion in completed.items():
            if name not in hidden.x or not len(hidden.x[name]):
                continue
            with torch.no_grad():
                encoded = encode(name, hidden)
                rows = torch.unique(encoded.sample)
                state = segment_mean(encoded.h, encoded.sample, batch.num_samples)
                state = state.index_select(-2, rows)
                x = self._features(name, hidden.x[name], encoders[name])
            losses[name] = completion_loss(_select(completion, rows), state, x)
        return losses

    def _features(self, name: str, x: Tensor, encoder: nn.Module) -> Tensor | None:
        """Return the target features, NaN where unknown; None without a fixed width."""
        if _width(self.schema.modality(name)) is None:
            return None
        if not isinstance(encoder, VectorEncoder):
            return x
        values = encoder.scaler(x)[:, : x.shape[1]]
        return torch.where(x.isnan(), torch.nan, values)


def _promote(
    state: Tensor, nodes: NodeSet, index: Tensor, completion: Completed
) -> tuple[Tensor, NodeSet]:
    """Set the completed states of placeholder nodes and let them send messages."""
    zeros = state.new_zeros(state.shape[:-1])
    reliability = zeros.index_copy(-1, index, completion.log_reliability)
    promoted = replace(nodes, receive_only=None, log_reliability=reliability)
    return state.index_copy(-2, index, completion.h), promoted


def _select(completion: Completed, samples: Tensor) -> Completed:
    """Return the completions of these samples, all of which must have one."""
    index = torch.searchsorted(completion.sample, samples)
    return Completed(
        samples,
        completion.h.index_select(-2, index),
        completion.log_variance.index_select(-2, index),
        None if completion.x is None else completion.x.index_select(-2, index),
    )
