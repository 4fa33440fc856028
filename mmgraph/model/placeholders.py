"""Nodes for what is not there: where they stand, what they become, how they learn.

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
    """Width of features that a completion can predict: single rows have one."""
    return modality.channels if modality.tokens == "single" else None


class PlaceholderNodes(nn.Module):
    """A silent node in the place of a modality that is missing or held out.

    A ghost receives and does not send, unless it is promoted once it is completed. In
    a modality with time it stands at the first time that is seen of the sample.

    Args:
        schema: Node types.
        hidden_channels: ``D``.
        promote: Let completed ghosts send, weighed by their reliability.
        members: Ensemble members computed together, or None.
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

    def asked(self, batch: Batch, complete: Sequence[str]) -> dict[str, Tensor]:
        """Return ``[B]`` Bool by modality: where a ghost is wanted, if anywhere."""
        nothing = torch.zeros(batch.num_samples, dtype=torch.bool, device=batch.device)
        present = dict(zip(batch.modalities, batch.present.unbind(1), strict=True))
        wanted = {}
        for name in complete:
            self.schema.modality(name)
            wanted[name] = ~present.get(name, nothing)
        if batch.held_out is not None:
            columns = batch.held_out.unbind(1)
            for name, column in zip(batch.modalities, columns, strict=True):
                wanted[name] = wanted.get(name, nothing) | column
        return {name: where for name, where in wanted.items() if bool(where.any())}

    def merge(
        self, name: str, h: Tensor, nodes: NodeSet, where: Tensor, first: Tensor
    ) -> tuple[Tensor, NodeSet]:
        """Add one ghost for each sample in ``where [B]`` to a modality's nodes.

        It stands at ``first [B]`` seconds, where the modality has time.
        """
        ghost = torch.nonzero(where)[:, 0]
        state = self.states[name].expand(*h.shape[:-2], len(ghost), -1)
        sample = torch.cat([nodes.sample, ghost])
        order = torch.argsort(sample, stable=True)
        silent = torch.arange(len(sample), device=sample.device) >= len(nodes)
        time = nodes.time
        if time is not None:
            time = torch.cat([time, first[ghost].to(time.dtype)])[order]
        merged = torch.cat([h, state], dim=-2).index_select(-2, order)
        return merged, NodeSet(sample[order], nodes.num_samples, time, silent[order])

    def decode(
        self, graph: Graph, h: Tensor
    ) -> tuple[Graph, Tensor, dict[str, Completed]]:
        """Complete every ghost of a graph, and promote them where the model does."""
        nodes, parts, completed = dict(graph.nodes), [], {}
        for name, rows in graph.rows.items():
            state, found = h[..., rows, :], nodes[name]
            if found.receive_only is not None:
                ghost = torch.nonzero(found.receive_only)[:, 0]
                done = self.decoders[name](
                    state.index_select(-2, ghost), found.sample[ghost]
                )
                completed[name] = done
                if self.promote:
                    state, nodes[name] = _promoted(state, found, ghost, done)
            parts.append(state)
        return Graph(nodes, graph.num_samples), torch.cat(parts, dim=-2), completed

    def losses(
        self,
        batch: Batch,
        completed: dict[str, Completed],
        encode: Callable[[str, Batch], Encoded],
        encoders: TypeDict[nn.Module],
    ) -> dict[str, LossSums]:
        """Score completions of what a batch holds out, by modality.

        Targets have no gradient.
        """
        if batch.held_out is None:
            return {}
        hidden = replace(batch.drop(batch.held_out), held_out=None)
        losses = {}
        for name, done in completed.items():
            if name not in hidden.x or not len(hidden.x[name]):
                continue
            with torch.no_grad():
                found = encode(name, hidden)
                rows = torch.unique(found.sample)
                state = segment_mean(found.h, found.sample, batch.num_samples)
                state = state.index_select(-2, rows)
                x = self._features(name, hidden.x[name], encoders[name])
            losses[name] = completion_loss(_rows_of(done, rows), state, x)
        return losses

    def _features(self, name: str, x: Tensor, encoder: nn.Module) -> Tensor | None:
        """Return the features to be predicted, NaN where unknown; or None."""
        if _width(self.schema.modality(name)) is None:
            return None
        if not isinstance(encoder, VectorEncoder):
            return x
        values = encoder.scaler(x)[:, : x.shape[1]]
        return torch.where(x.isnan(), torch.nan, values)


def _promoted(
    state: Tensor, nodes: NodeSet, ghost: Tensor, done: Completed
) -> tuple[Tensor, NodeSet]:
    """Give ghosts their completed states and let them send."""
    zeros = state.new_zeros(state.shape[:-1])
    reliability = zeros.index_copy(-1, ghost, done.log_reliability)
    promoted = replace(nodes, receive_only=None, log_reliability=reliability)
    return state.index_copy(-2, ghost, done.h), promoted


def _rows_of(done: Completed, samples: Tensor) -> Completed:
    """Return the completions of some samples, all of which have one."""
    at = torch.searchsorted(done.sample, samples)
    return Completed(
        samples,
        done.h.index_select(-2, at),
        done.log_variance.index_select(-2, at),
        None if done.x is None else done.x.index_select(-2, at),
    )
