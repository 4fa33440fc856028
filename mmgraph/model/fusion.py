"""Fusion model: encoders, graph layers, readout and head.

Letters: ``B`` samples, ``M`` modalities, ``N`` nodes, ``D`` width, ``K`` outputs;
``...`` is the axis of ensemble members, where there are any.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from mmgraph._random import draws_from
from mmgraph.data import MultimodalData
from mmgraph.data.batch import Batch, collate
from mmgraph.errors import ConfigError, DataError, SchemaError
from mmgraph.graph.graph import Graph
from mmgraph.losses import LossSums
from mmgraph.model.layer_plan import LayerPlan, plan_layers
from mmgraph.model.node_builder import GivenEncoder, NodeBuilder
from mmgraph.model.placeholders import PlaceholderNodes
from mmgraph.model.readouts import OperatorBuilder, ReadoutKind, build_readout
from mmgraph.nn.attention.sparse import Attention
from mmgraph.nn.completion import NUM_SUMS, Completed
from mmgraph.nn.conv import Capacity, Execution, RelationalAttention
from mmgraph.nn.finetuning import FineTunedEncoder
from mmgraph.nn.heads import Head, Task
from mmgraph.nn.layer import FeedForward, GraphLayer, MixtureFeedForward
from mmgraph.nn.linear import standardize
from mmgraph.nn.pyg import PyGConv
from mmgraph.nn.type_dict import TypeDict
from mmgraph.schema import EdgeType, Full, Schema
from mmgraph.typing import IndexLike

FeedForwardKind: TypeAlias = Literal["typed", "mixture", "none"]


@runtime_checkable
class ScaledEncoder(Protocol):
    """Interface of encoders that are fitted on training rows, such as a scaling."""

    def fit(self, x: Tensor, sample: Tensor, num_samples: int) -> None:
        """Fit on rows ``[L, C]`` and their ascending sample indices ``[L]``."""


@dataclass(frozen=True)
class FusionOutput:
    """Output of a fusion model for a batch.

    Attributes:
        logits: ``[..., B, K]`` unnormalized scores; predictions in regression.
        z: ``[..., B, D']`` states of the samples.
        h_dict: ``[..., N_t, D]`` final node states by type.
        completed: Completions of held-out and requested modalities, by modality.
        sample_dict: ``[N_t]`` index of the sample of each final node by type; ``B`` for
            nodes without content, such as padding.
        auxiliary_sums: Auxiliary losses by name: the completion of each held-out
            modality, and the balance of mixtures of experts. The sums of several parts
            of a batch add up to those of the batch.
    """

    logits: Tensor
    z: Tensor
    h_dict: dict[str, Tensor]
    completed: dict[str, Completed] = field(default_factory=dict)
    auxiliary_sums: dict[str, LossSums] = field(default_factory=dict)
    sample_dict: dict[str, Tensor] = field(default_factory=dict)

    @property
    def auxiliary(self) -> tuple[Tensor, ...]:
        """Auxiliary losses ``[...]``, to be added to the loss of the task."""
        return tuple(each.loss for each in self.auxiliary_sums.values())


class FusionModel(nn.Module):
    """Heterogeneous graph neural network over the modalities of each sample.

    Every observed modality of a sample is encoded as one or several nodes. Graph layers
    exchange messages along the relations of the schema, a readout pools the nodes of a
    sample, and a linear head predicts the outputs of the task. Missing modalities have
    no nodes, so that their values are never read.

    The model is a plain ``torch.nn.Module``; :class:`mmgraph.FusionClassifier` and
    :class:`mmgraph.FusionRegressor` train ensembles of it.

    Args:
        schema: Node types and relations.
        task: Prediction task: :class:`mmgraph.Classification`,
            :class:`mmgraph.MultiLabel`, :class:`mmgraph.Regression` or
            :class:`mmgraph.nn.Survival`.
        hidden_channels: Width ``D`` of node states, a multiple of ``num_heads``.
        num_layers: Number of graph layers. Relations that cannot reach the readout are
            left out of the last layers.
        num_heads: Number of attention heads.
        capacity: Relation parameterization of the attention: ``"bias"``, ``"scalar"``
            or ``"full"``; see :class:`mmgraph.nn.RelationalAttention`.
        feed_forward: ``"typed"`` perceptrons, one per node type; ``"mixture"`` of
            experts, shared by all types; or ``"none"``.
        readout: ``"fuse"`` concatenates latent nodes, ``"attention"`` pools nodes, and
            ``"concat"``, ``"sum"``, ``"mean"``, ``"max"``, ``"product"``, ``"gated"``
            and ``"low_rank"`` are fusion operators on one state per modality, see
            :class:`mmgraph.nn.FusionReadout`. A function ``(num_modalities, channels,
            members)`` returns another :class:`mmgraph.nn.FusionOperator`. ``"auto"`` is
            ``"fuse"`` if the schema reads latents only, else ``"mean"``.
        completion: Add placeholder nodes for held-out and requested modalities, and
            predict their content.
        promote: Let completed nodes send messages in the last layer, weighted by their
            reliability. Requires ``completion``.
        conv: Function without arguments that returns a PyTorch Geometric convolution to
            use in place of relational attention; see :class:`mmgraph.nn.PyGConv`.
        encoders: Custom encoders by modality: modules that take
            ``(x, sample, time, num_samples)`` and return :class:`mmgraph.nn.Encoded`,
            functions without arguments that return one (of which every ensemble member
            gets its own), or a :class:`mmgraph.PretrainedEncoder` of text, image or
            audio, which is fine-tuned as part of the model. Pretrained encoders that
            the schema names are fine-tuned, too. Use :meth:`batch` to prepare their
            input.
        evidence_channels: Width of the per-modality evidence in ``forward``; 0 for
            none.
        execution: See :class:`mmgraph.nn.RelationalAttention`.
        members: Ensemble members computed together, or None for a single model. With
            members, all outputs have a leading axis of this size.
        seed: Seed of the initial parameters; the global random state is unchanged.

    Raises:
        ConfigError: If ``task`` is not a task, ``encoders`` hold something other than
            encoders of modalities of the schema, or ``readout`` is unknown or an
            operator that returns another shape than its ``out_channels``.
        SchemaError: If a modality needs an encoder and has none, a relation cannot
            reach the readout, or options contradict each other.

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
        readout: ReadoutKind | OperatorBuilder = "auto",
        completion: bool = False,
        promote: bool = False,
        conv: Callable[[], nn.Module] | None = None,
        encoders: Mapping[str, GivenEncoder] | None = None,
        evidence_channels: int = 0,
        execution: Execution = "auto",
        members: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(task, Task):
            raise ConfigError(
                "task must be Classification, MultiLabel, Regression or Survival, got "
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
        with draws_from(seed):
            self.nodes = NodeBuilder(
                schema,
                tuple(latent for latent in schema.latents if latent.name in used),
                hidden_channels,
                encoders={} if encoders is None else encoders,
                evidence_channels=evidence_channels,
                members=members,
            )
            # the attribute names its parameters in saved models
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
            self.readout = build_readout(
                readout, schema, hidden_channels, members=members
            )
            self.head = Head(self.readout.out_channels, task, members=members)

    @property
    def encoders(self) -> TypeDict[nn.Module]:
        """The encoders, by modality."""
        return self.nodes.encoders

    @property
    def clock_offsets(self) -> dict[str, float]:
        """Seconds that are subtracted from the times of modalities with learned clocks.

        Positive for a clock that is ahead; the mean over the members of an ensemble,
        which share one clock.
        """
        return {name: x.mean().item() for name, x in self.nodes.clocks.items()}

    @property
    def _takes_regular(self) -> bool:
        """Whether padded batches are supported: no edge depends on positions."""
        relations = self.schema.relations
        return all(isinstance(each.topology, Full) for each in relations)

    @property
    def auxiliary_lengths(self) -> dict[str, int]:
        """Lengths of the sums of all auxiliary losses that may occur, by name."""
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
        indices: IndexLike | None = None,
    ) -> Batch:
        """Return a batch of selected samples, with the input of pretrained encoders.

        Like ``data.batch``, and additionally tokenizes texts and reads image and audio
        files of modalities that the model fine-tunes. Only files of the selected
        samples are read. A missing text or file has no rows.

        Args:
            data: Samples.
            indices: Samples to select, as in ``data.batch``; None selects all.

        Raises:
            DataError: If an index is out of range, or a file cannot be read.
        """
        selected = data if indices is None else data[indices]
        columns = {
            name: encoder.prepare(column)
            if column.is_text and isinstance(encoder, FineTunedEncoder)
            else column
            for name, column in selected.columns.items()
            for encoder in [self.encoders[self.schema.modality(name).name]]
        }
        return collate(columns, selected.y, np.arange(len(selected)))

    def fit_scaling(self, batch: Batch) -> None:
        """Fit the standardization of all encoders on a batch of training samples."""
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
        """Predict from the modalities that each sample has.

        Args:
            batch: Samples. Modalities of the schema that the batch lacks are missing in
                all samples; held-out modalities are not read.
            evidence: ``[B, M, evidence_channels]`` evidence of each modality of the
                schema, if the model was built with ``evidence_channels``. Values of
                missing modalities are not read.
            complete: Modalities to complete in the samples that lack them. Requires
                ``completion=True``.

        Returns:
            Logits ``[..., B, K]``, states and completions.

        Raises:
            DataError: If a modality or the evidence has another width.
            SchemaError: If a modality is not in the schema, or ``complete`` is given to
                a model without completion.
        """
        return self._run(batch, evidence, complete)

    @torch.no_grad()
    def attention(
        self,
        batch: Batch,
        evidence: Tensor | None = None,
        *,
        layer: int | None = None,
    ) -> dict[EdgeType, Attention]:
        """Return the attention weights of the edges between the nodes of each sample.

        Weights describe what one layer reads. They do not measure what a modality
        contributes to the prediction, for which :func:`mmgraph.contributions` exists.

        Args:
            batch: Samples.
            evidence: Evidence of each modality, as in ``forward``.
            layer: Index of a graph layer. By default, each relation has the weights of
                the last layer that it is part of.

        Returns:
            Weights by edge type, in the order of the schema; nodes of missing
            modalities have no edges. Empty for a schema without relations.

        Raises:
            ConfigError: If the model has no such layer, or was built with ``conv``.

        Example:
            >>> schema = Schema.star([Modality("labs", 3), Modality("ecg", 2)])
            >>> model = FusionModel(schema, task=Classification(num_classes=2))
            >>> x = {"labs": torch.randn(2, 3), "ecg": torch.randn(1, 2)}
            >>> sample = {"labs": torch.tensor([0, 1]), "ecg": torch.tensor([1])}
            >>> found = model.attention(Batch(2, x, sample))
            >>> found["ecg", "to", "fuse"].sample  # sample 0 has no ecg
            tensor([1])
        """
        if layer is not None and layer not in range(len(self.layers)):
            raise ConfigError(
                f"layer must be from 0 to {len(self.layers) - 1}, got {layer!r}. The "
                f"model has {len(self.layers)} graph layers."
            )
        inputs: list[tuple[Tensor, Graph]] = []
        self._run(batch.packed(), evidence, (), inputs)
        found: dict[EdgeType, Attention] = {}
        for number, (each, (h, graph)) in enumerate(
            zip(self.layers, inputs, strict=True)
        ):
            messages = each.messages
            if messages is None or layer not in (None, number):
                continue
            if not isinstance(messages, RelationalAttention):
                raise ConfigError(
                    "attention must be that of relational attention, got a layer of "
                    f"{type(messages).__name__}. Build the model without conv."
                )
            found |= messages.weights(standardize(h), graph)
        return {name: found[name] for name in self.schema.edge_types if name in found}

    def _run(
        self,
        batch: Batch,
        evidence: Tensor | None,
        complete: Sequence[str],
        inputs: list[tuple[Tensor, Graph]] | None = None,
    ) -> FusionOutput:
        """Predict, and append the input of each graph layer to ``inputs``."""
        self._check(batch, complete)
        requested: dict[str, Tensor] = {}
        if self.ghosts is not None:
            requested = self.ghosts.requested(batch, complete)
        batch = batch.packed() if requested or not self._takes_regular else batch
        graph, h = self.nodes(batch.visible(), evidence, self.ghosts, requested)
        balance: list[LossSums] = []
        completed: dict[str, Completed] = {}
        last = len(self.layers) - 1
        for number, layer in enumerate(self.layers):
            if requested and self.ghosts is not None and number == last > 0:
                graph, h, completed = self.ghosts.decode(graph, h)
            if inputs is not None:
                inputs.append((h, graph))
            h = layer(h, graph, balance)
        auxiliary = {f"balance.{i}": each for i, each in enumerate(balance)}
        if requested and self.ghosts is not None:
            if last == 0:
                graph, h, completed = self.ghosts.decode(graph, h)
            scored = self.ghosts.losses(
                batch, completed, self.nodes.encode, self.encoders
            )
            auxiliary |= {f"completion.{name}": each for name, each in scored.items()}
        z = self.readout(h, graph)
        h_dict = graph.split(h, graph.nodes)
        samples = {name: nodes.sends_to for name, nodes in graph.nodes.items()}
        return FusionOutput(self.head(z), z, h_dict, completed, auxiliary, samples)

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
            return PyGConv(conv, plan.relations, members=self.members)
        return RelationalAttention(
            plan.relations,
            self.hidden_channels,
            timed=[m.name for m in self.schema.modalities if m.time],
            learned_clocks=self.nodes.clocks.names,
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
