"""One step of each layer on the same nodes and edges.

A step is forward, the same loss (mean squared distance of all node states to the same
targets) and backward, to the parameters and to the node states, as encoders need it.
The order of nodes is everywhere that of the schema: type by type, then the fuse nodes.

Letters: ``B`` samples, ``S`` slots a sample, ``N`` nodes, ``E`` edges, ``D`` width.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv, HeteroConv, HGTConv

from mmgraph import Batch, Classification, FusionModel
from mmgraph.nn.encoders import Encoded
from mmgraph.nn.hgt import HGTLayer, relational_from_hgt
from speed.workloads import HEADS, Workload, multiply_adds, typed_edges

OURS = "mmgraph"
BARE = "mmgraph without feed-forward"
COMPILED = "mmgraph compiled"
SAME_FUNCTION = "mmgraph as HGT"
HGT, GATV2, TRANSFORMER = "HGTConv", "HeteroConv(GATv2Conv)", "TransformerEncoderLayer"
FLOOR, PRODUCTS = "matrix product", "matrix products of mmgraph"


class _Given(nn.Module):
    """An encoder that hands on what it gets: layers are measured alone."""

    def forward(
        self, x: Tensor, sample: Tensor, time: Tensor | None, num_samples: int
    ) -> Encoded:
        return Encoded(x, sample, time)


@dataclass(frozen=True)
class Contender:
    """Something to be timed.

    Attributes:
        name: Shown in the table.
        forward: Returns the states of all nodes, ``[N, D]``.
        step: Forward, loss and backward; returns the loss.
    """

    name: str
    forward: Callable[[], Tensor]
    step: Callable[[], Tensor]


class Arena:
    """A workload's nodes and edges, and what competes on them.

    Attributes:
        batch: Node states of the modalities, leaves that take gradients.
        edges: ``edge_index`` of every relation, made beforehand.
        num_edges: ``E``.
        num_nodes: ``N``, fuse nodes included.
    """

    def __init__(self, workload: Workload, seed: int = 0) -> None:
        self.workload = workload
        self.batch: Batch = workload.make_batch(seed)
        self.edges = typed_edges(workload, self.batch)
        self.num_edges = sum(e.shape[1] for e in self.edges.values())
        senders = sum(len(s) for s in self.batch.sample.values())
        self.num_nodes = senders + workload.batch
        torch.manual_seed(seed)
        self.targets = torch.randn(self.num_nodes, workload.width)
        fuse = torch.randn(workload.batch, workload.width).requires_grad_()
        self.x_dict = {**self.batch.x, "fuse": fuse}

    def products(self) -> Contender:
        """The matrix products of our layer alone, as torch does them.

        One product of the multiply-adds of our layer with feed-forward, and the two of
        its backward pass.
        """
        width = self.workload.width
        columns = round(self.multiply_adds / (self.num_nodes * width)) + 4 * width
        x = torch.randn(self.num_nodes, width).requires_grad_()
        weight = torch.randn(width, columns).requires_grad_()
        gradient = torch.randn(self.num_nodes, columns)

        def forward() -> Tensor:
            return x @ weight

        def step() -> Tensor:
            x.grad = weight.grad = None
            out = forward()
            out.backward(gradient)
            return out.detach()

        return Contender(PRODUCTS, forward, step)

    @property
    def multiply_adds(self) -> int:
        """Those of our forward pass without feed-forward."""
        return multiply_adds(self.workload, self.batch, self.num_edges)

    def ours(self, *, feed_forward: bool = True, compiled: bool = False) -> Contender:
        """Node builder and first layer of a model, as applied to every batch.

        The graph is built in each step; nothing is cached between batches. If the layer
        is compiled, the graph is not, but the number of slots is counted in advance.
        """
        schema = self.workload.schema
        model = FusionModel(
            schema,
            Classification(2),
            hidden_channels=self.workload.width,
            num_heads=HEADS,
            num_layers=2,  # the first of two: its relations all matter
            feed_forward="typed" if feed_forward else "none",
            encoders={name: _Given() for name in schema.modality_names},
        )
        nodes, layer = model.nodes, model.layers[0]
        both = nn.ModuleList([nodes, layer])
        if compiled:
            layer = torch.compile(layer, fullgraph=True)

        def forward() -> Tensor:
            graph, h = nodes(replace(self.batch), None, None, {})
            if compiled:
                [each.width for each in graph.nodes.values()]
            return layer(h, graph)

        name = COMPILED if compiled else OURS if feed_forward else BARE
        return self._contender(name, forward, both)

    def same_function(self) -> Contender:
        """Our layer with HGT's maps and the weights of :meth:`hgt`: equal results."""
        layer, nodes = self.hgt_copy(), self._node_builder()

        def forward() -> Tensor:
            graph, _ = nodes(replace(self.batch), None, None, {})
            heard = layer(torch.cat(list(self.x_dict.values())), graph)
            return torch.cat([heard[name] for name in graph.nodes])

        return self._contender(SAME_FUNCTION, forward, layer)

    def hgt_copy(self) -> HGTLayer:
        """Return relational attention with the weights of :meth:`hgt_conv`."""
        return relational_from_hgt(self.hgt_conv(), self.workload.schema.relations)

    def _node_builder(self) -> nn.Module:
        schema = self.workload.schema
        model = FusionModel(
            schema,
            Classification(2),
            hidden_channels=self.workload.width,
            encoders={name: _Given() for name in schema.modality_names},
        )
        return model.nodes

    def hgt_conv(self) -> HGTConv:
        """Return the HGTConv of the workload, with the same weights every time."""
        torch.manual_seed(1)
        width, schema = self.workload.width, self.workload.schema
        metadata = (list(schema.node_types), list(schema.edge_types))
        return HGTConv(width, width, metadata, heads=HEADS)

    def hgt(self) -> Contender:
        """HGTConv of PyTorch Geometric."""
        conv = self.hgt_conv()

        def forward() -> Tensor:
            out = conv(self.x_dict, self.edges)
            return torch.cat([out[name] for name in self.x_dict])

        return self._contender(HGT, forward, conv)

    def gatv2(self) -> Contender:
        """HeteroConv of PyTorch Geometric of one GATv2Conv a relation."""
        width = self.workload.width
        conv = HeteroConv(
            {
                edge_type: GATv2Conv(
                    (width, width), width // HEADS, heads=HEADS, add_self_loops=False
                )
                for edge_type in self.edges
            },
            aggr="sum",
        )

        def forward() -> Tensor:
            out = conv(self.x_dict, self.edges)
            return torch.cat([out[name] for name in self.x_dict])

        return self._contender(GATV2, forward, conv)

    def transformer(self) -> Contender:
        """The layer of torch on padded slots, made beforehand; padding is no key."""
        width, size = self.workload.width, self.workload.batch
        slots = self.workload.modalities * self.workload.tokens + 1
        place = self.slot_of_nodes()
        x = torch.zeros(size * slots, width)
        x[place] = torch.cat(list(self.x_dict.values())).detach()
        x = x.view(size, slots, width).requires_grad_()
        padding = torch.ones(size * slots, dtype=torch.bool)
        padding[place] = False
        padding = padding.view(size, slots)
        layer = nn.TransformerEncoderLayer(
            width,
            HEADS,
            dim_feedforward=2 * width,
            dropout=0.0,
            activation=F.gelu,
            batch_first=True,
            norm_first=True,
        )

        def forward() -> Tensor:
            out = layer(x, src_key_padding_mask=padding)
            return out.flatten(0, 1).index_select(0, place)

        return self._contender(TRANSFORMER, forward, layer, [x])

    def slot_of_nodes(self) -> Tensor:
        """Return ``[N]`` the slot of each node in the flat ``[B * S]`` order."""
        tokens = self.workload.tokens
        slots = self.workload.modalities * tokens + 1
        place = []
        for i, sample in enumerate(self.batch.sample.values()):
            token = torch.arange(len(sample)) % tokens  # a modality is whole or missing
            place.append(sample * slots + i * tokens + token)
        place.append(torch.arange(self.workload.batch) * slots + slots - 1)
        return torch.cat(place)

    def floor(self) -> Contender:
        """One product of torch with the multiply-adds of our forward pass."""
        width = self.workload.width
        columns = round(self.multiply_adds / (self.num_nodes * width))
        x = torch.randn(self.num_nodes, width)
        weight = torch.randn(width, columns)

        def forward() -> Tensor:
            return x @ weight

        return self._contender(FLOOR, forward, nn.Module())

    def _contender(
        self,
        name: str,
        forward: Callable[[], Tensor],
        module: nn.Module,
        leaves: list[Tensor] | None = None,
    ) -> Contender:
        leaves = list(self.x_dict.values()) if leaves is None else leaves

        def step() -> Tensor:
            module.zero_grad(set_to_none=True)
            for leaf in leaves:
                leaf.grad = None
            loss = F.mse_loss(forward(), self.targets)
            loss.backward()
            return loss.detach()

        return Contender(name, forward, step)
