"""FusionModel: encoders, graph layers, readout and head, put together.

Letters: ``B`` samples, ``M`` modalities, ``N`` nodes, ``D`` width, ``K`` outputs;
``...`` is the axis of ensemble members, where there are any.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from mmgraph.data import MultimodalData
from mmgraph.data.batch import Batch, collate
from mmgraph.errors import ConfigError, DataError, SchemaError
from mmgraph.losses import LossSums
from mmgraph.model.layer_plan import LayerPlan, plan_layers
from mmgraph.model.node_builder import NodeBuilder
from mmgraph.model.placeholders import PlaceholderNodes
from mmgraph.nn.completion import NUM_SUMS, Completed
from mmgraph.nn.conv import Capacity, Execution, RelationalAttention
from mmgraph.nn.finetuning import FineTunedEncoder
from mmgraph.nn.heads import Head, Task
from mmgraph.nn.layer import FeedForward, GraphLayer, MixtureFeedForward
from mmgraph.nn.pyg import PyGConv
from mmgraph.nn.readout import (
    AttentionReadout,
    FuseReadout,
    MaxReadout,
    MeanReadout,
)
from mmgraph.nn.type_dict import TypeDict
from mmgraph.pretrained import PretrainedEncoder
from mmgraph.schema import Full, Schema

FeedForwardKind: TypeAlias = Literal["typed", "mixture", "none"]
ReadoutKind: TypeAlias = Literal["auto", "fuse", "mean", "max", "attention"]
Readout: TypeAlias = FuseReadout | MeanReadout | MaxReadout | AttentionReadout

_READOUTS: dict[str, type[Readout]] = {
    "fuse": FuseReadout,
    "mean": MeanReadout,
    "max": MaxReadout,
    "attention": AttentionReadout,
}


@runtime_checkable
class ScaledEncoder(Protocol):
    """An encoder that learns the scale of its input from training rows."""

    def fit(self, x: Tensor, sample: Tensor, num_samples: int) -> None:
        """Learn from rows ``[N, C]`` and their ascending sample numbers."""


@dataclass(frozen=True)
class FusionOutput:
    """What a model says about a batch.

    Attributes:
        logits: ``[..., B, K]`` unnormalized scores (regression: predictions).
        z: ``[..., B, D']`` state of each sample.
        h_dict: ``[..., N_t, D]`` final node states by type.
        completed: Completions by modality, for what was held out or asked for.
        auxiliary_sums: Losses to add to the task's, by name: the completion of each
            modality that was held out, and the balance of mixture experts. Parts of
            a batch that are computed apart add up their sums.
    """

    logits: Tensor
    z: Tensor
    h_dict: dict[str, Tensor]
    completed: dict[str, Completed] = field(default_factory=dict)
    auxiliary_sums: dict[str, LossSums] = field(default_factory=dict)

    @property
    def auxiliary(self) -> tuple[Tensor, ...]:
        """Losses ``[...]`` to add to the task's."""
        return tuple(each.loss for each in self.auxiliary_sums.values())


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
            ``(x, sample, time, num_samples)`` and returns
            :class:`mmgraph.nn.Encoded`. Or a :class:`mmgraph.PretrainedEncoder` of
            text, image or audio, which becomes a part of the model and is trained with
            it, as does one that the schema names; :meth:`batch` makes what it reads.
        evidence_channels: Width of per-modality evidence given to ``forward``, or 0.
        execution: See :class:`RelationalAttention`.
        members: Ensemble members computed together, or None for one model.
        seed: Of the initial parameters; the global random state is left alone.

    Raises:
        ConfigError: A task or an encoder of another type; an encoder of a modality
            that the schema does not have.
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
        encoders: Mapping[str, nn.Module | PretrainedEncoder] | None = None,
        evidence_channels: int = 0,
        execution: Execution = "auto",
        members: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(task, Task):
            raise ConfigError(
                "task must be Classification, MultiLabel or Regression, got "
                f"{task!r}. Give Classification(num_classes=2)."
            )
        if promote and not completion:
            raise SchemaError(
                "promote=True must come with completion=True: only a completed node "
                "can send."
            )
        self.schema, self.task, self.members = schema, task, members
        self.hidden_channels = hidden_channels
        self.plans = plan_layers(schema, num_layers, completion=completion)
        used = {name for plan in self.plans for name in plan.types}
        used |= {r.source for plan in self.plans for r in plan.relations}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.nodes = NodeBuilder(
                schema,
                tuple(latent for latent in schema.latents if latent.name in used),
                hidden_channels,
                encoders={} if encoders is None else encoders,
                evidence_channels=evidence_channels,
                members=members,
            )
            self.ghosts = (
                PlaceholderNodes(
                    schema, hidden_channels, promote=promote, members=members
                )
                if completion
                else None
            )
            self.layers = nn.ModuleList(
                GraphLayer(
                    self._messages(plan, num_heads, capacity, conv, execution),
                    self._feed_forward(plan, feed_forward),
                )
                for plan in self.plans
            )
            self.readout = self._readout(readout)
            self.head = Head(self.readout.out_channels, task, members=members)

    @property
    def encoders(self) -> TypeDict[nn.Module]:
        """The encoders, by modality."""
        return self.nodes.encoders

    @property
    def _takes_regular(self) -> bool:
        """Whether rows that only keep a place can stay: no edge depends on places."""
        relations = self.schema.relations
        return all(isinstance(each.topology, Full) for each in relations)

    @property
    def auxiliary_lengths(self) -> dict[str, int]:
        """How many sums each auxiliary loss that may occur is made of, by its name."""
        feeds = [layer.feed_forward for layer in self.layers]
        mixtures = [each for each in feeds if isinstance(each, MixtureFeedForward)]
        lengths = {f"balance.{i}": x.num_sums for i, x in enumerate(mixtures)}
        if self.ghosts is not None:
            names = self.schema.modality_names
            lengths |= {f"completion.{name}": NUM_SUMS for name in names}
        return lengths

    def batch(
        self,
        data: MultimodalData,
        indices: Any = None,  # noqa: ANN401
    ) -> Batch:
        """Pack some samples as ``data.batch`` does, and what pretrained encoders read.

        Args:
            data: May hold texts, and paths of pictures and sounds: only those of the
                samples asked for are read. A missing one has no rows.
            indices: As for ``data.batch``.

        Raises:
            DataError: An index out of range, or a file that cannot be read.
        """
        some = data if indices is None else data[indices]
        columns = {
            name: encoder.prepare(column)
            if column.is_text and isinstance(encoder, FineTunedEncoder)
            else column
            for name, column in some.columns.items()
            for encoder in [self.encoders[self.schema.modality(name).name]]
        }
        return collate(columns, some.y, np.arange(len(some)))

    def fit_scaling(self, batch: Batch) -> None:
        """Fit the standardization of every encoder on a batch of training rows."""
        seen = batch.visible().packed()
        for name, encoder in self.encoders.items():
            if name in seen.x and isinstance(encoder, ScaledEncoder):
                encoder.fit(seen.x[name], seen.sample[name], seen.num_samples)

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
            DataError: A wrong width, or evidence that the model does not take.
            SchemaError: A modality that the schema does not have.
        """
        self._check(batch, complete)
        asked = self.ghosts.asked(batch, complete) if self.ghosts is not None else {}
        batch = batch.packed() if asked or not self._takes_regular else batch
        graph, h = self.nodes(batch.visible(), evidence, self.ghosts, asked)
        balance: list[LossSums] = []
        completed: dict[str, Completed] = {}
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            if asked and self.ghosts is not None and number == last > 0:
                graph, h, completed = self.ghosts.decode(graph, h)
            h = layer(h, graph, balance)
        auxiliary = {f"balance.{i}": each for i, each in enumerate(balance)}
        if asked and self.ghosts is not None:
            if last == 0:
                graph, h, completed = self.ghosts.decode(graph, h)
            scored = self.ghosts.losses(
                batch, completed, self.nodes.encode, self.encoders
            )
            auxiliary |= {f"completion.{name}": each for name, each in scored.items()}
        z = self.readout(h, graph)
        h_dict = graph.split(h, graph.nodes)
        return FusionOutput(self.head(z), z, h_dict, completed, auxiliary)

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

    def _readout(self, kind: ReadoutKind) -> Readout:
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

    def _check(self, batch: Batch, complete: Sequence[str]) -> None:
        for name, x in batch.x.items():
            modality = self.schema.modality(name)
            if x.shape[0] and modality.channels not in (None, x.shape[1]):
                raise DataError(
                    f"Batch.x[{name!r}] must have shape [N, {modality.channels}], "
                    f"got {list(x.shape)}."
                )
        if complete and self.ghosts is None:
            raise SchemaError(
                "The model must be built with completion=True to complete "
                f"{', '.join(complete)}."
            )
