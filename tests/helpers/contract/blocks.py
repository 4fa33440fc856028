"""Contract cases of the building blocks, on graphs built from a batch without a model.

A held-out row is a receive-only placeholder node whose state is the hidden content of
the row, so that any leak of this content into the outputs is detected.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv, HGTConv, RGCNConv, SAGEConv

from contract.batches import MODALITIES, NAMES, corner_batch
from contract.laws import Case, Outputs, Rows
from mmgraph.data.batch import Batch
from mmgraph.graph import NodeSet
from mmgraph.graph.graph import Graph
from mmgraph.nn import (
    AttentionReadout,
    Classification,
    CompletionDecoder,
    ConcatFusion,
    EmbeddingEncoder,
    EvidencePool,
    FeedForward,
    FuseReadout,
    FusionReadout,
    GatedFusion,
    GraphLayer,
    Head,
    HGTLayer,
    LowRankFusion,
    MaxFusion,
    MaxReadout,
    MeanFusion,
    MeanReadout,
    MixtureFeedForward,
    MultiLabel,
    ProductFusion,
    PyGConv,
    Regression,
    RelationalAttention,
    SequenceEncoder,
    SumFusion,
    Survival,
    VectorEncoder,
)
from mmgraph.schema import KNearest, Relation, SameIndex, TimeWindow

WIDTH = 8
TYPES = (*NAMES, "fuse")
FULL = (
    Relation("labs", "ecg"),
    Relation("labs", "ecg", "also"),
    Relation("ecg", "labs"),
    Relation("gene", "labs"),
    Relation("fuse", "labs"),
    Relation("ecg", "ecg"),
    Relation("move", "text"),
    *(Relation(name, "fuse") for name in NAMES),
)
TIMED = (
    Relation("ecg", "ecg", topology=TimeWindow(0.8)),
    Relation("move", "ecg", topology=KNearest(2)),
    Relation("ecg", "move", topology=SameIndex()),
    Relation("labs", "ecg"),
    *(Relation(name, "fuse") for name in NAMES),
)


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Build a float64 module from a seed, leaving the global random state alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return build().double()


def lift(name: str, x: Tensor) -> Tensor:
    """Map the content of rows to states, the same way every time; all are finite."""
    generator = torch.Generator().manual_seed(len(name) + ord(name[0]))
    weight = torch.randn(x.shape[1], WIDTH, generator=generator, dtype=torch.float64)
    x = torch.where(x.isnan(), 7, x).clamp(-1e30, 1e30)
    return x @ weight.to(x.dtype) + weight[0].to(x.dtype)


def sums(batch: Batch) -> Tensor:
    """Return one state of each sample from what is visible, ``[B, D]``."""
    first = next(iter(batch.x.values()))
    total = torch.full((batch.num_samples, WIDTH), 0.3, dtype=first.dtype)
    shift = torch.linspace(-1, 1, WIDTH, dtype=first.dtype)
    visible = batch.visible()
    for name in sorted(visible.x):
        rows = lift(name, visible.x[name])
        total = total.index_add(0, visible.sample[name], rows)
    return total + shift


def graph_of(batch: Batch) -> tuple[Graph, Tensor]:
    """Return the graph of a batch with a fuse node, and the state of every node."""
    nodes, states = {}, []
    for i, (name, sample) in enumerate(batch.sample.items()):
        receive_only, time = None, batch.time.get(name)
        if batch.held_out is not None:
            receive_only = batch.held_out[sample, i]
            time = None if time is None else torch.where(receive_only, 0, time)
        nodes[name] = NodeSet(sample, batch.num_samples, time, receive_only)
        states.append(lift(name, batch.x[name]))
    nodes["fuse"] = NodeSet(torch.arange(batch.num_samples), batch.num_samples)
    return Graph(nodes, batch.num_samples), torch.cat([*states, sums(batch)])


def shared(h: Tensor, members: int | None) -> Tensor:
    """Give every member the same states."""
    return h if members is None else h.expand(members, *h.shape)


def observed_rows(attended: dict[str, Tensor], graph: Graph) -> Outputs:
    """Return what the nodes that are not placeholders receive."""
    outputs = {}
    for name in sorted(attended):
        nodes = graph.nodes[name]
        kept = torch.ones(len(nodes), dtype=torch.bool)
        if nodes.receive_only is not None:
            kept = ~nodes.receive_only
        outputs[name] = Rows(attended[name].movedim(-2, 0)[kept], nodes.sample[kept])
    return outputs


# How each kind of block is run


def run_messages(module: nn.Module, batch: Batch, members: int | None) -> Outputs:
    graph, h = graph_of(batch)
    return observed_rows(module(shared(h, members), graph), graph)


def run_layer(module: nn.Module, batch: Batch, members: int | None) -> Outputs:
    graph, h = graph_of(batch)
    h = module(shared(h, members), graph)
    return observed_rows({name: h[..., r, :] for name, r in graph.rows.items()}, graph)


def run_readout(module: nn.Module, batch: Batch, members: int | None) -> Outputs:
    graph, h = graph_of(batch)
    return by_sample(module(shared(h, members), graph))


def run_encoder(module: nn.Module, batch: Batch, name: str) -> Outputs:
    seen = batch.visible()
    encoded = module(
        seen.x[name], seen.sample[name], seen.time.get(name), seen.num_samples
    )
    outputs = {"h": Rows(encoded.h.movedim(-2, 0), encoded.sample)}
    if encoded.time is not None:
        outputs["time"] = Rows(encoded.time[:, None], encoded.sample)
    return outputs


def run_head(module: nn.Module, batch: Batch, task: object) -> Outputs:
    z = sums(batch)
    logits = module(z)
    losses = [
        task.loss(logits[..., i : i + 1, :], y) for i, y in enumerate(_labels(z, task))
    ]
    loss = torch.stack(losses, -1)[..., None]
    return by_sample(logits) | {"loss": by_sample(loss)["sample"]}


def _labels(z: Tensor, task: object) -> list[Tensor]:
    """Return one label of each sample, read off its state."""
    if isinstance(task, Classification):
        return list((z[:, :1] > z[:, 1:2]).long())
    if isinstance(task, Survival):  # an event or not, and an exposure
        pairs = torch.stack([(z[:, 0] > 0).to(z.dtype), z[:, 1].exp()], -1)
        return list(pairs[:, None])
    cells = z[:, None, : task.out_channels]
    return list((cells > 0).to(z.dtype) if isinstance(task, MultiLabel) else cells)


def run_decoder(module: nn.Module, batch: Batch) -> Outputs:
    completed = module(sums(batch), torch.arange(batch.num_samples))
    named = {"variance": completed.log_variance, "x": completed.x}
    named["reliability"] = completed.log_reliability[..., None]
    rows = {k: by_sample(v)["sample"] for k, v in named.items() if v is not None}
    return by_sample(completed.h) | rows


def by_sample(value: Tensor) -> Outputs:
    """Return ``[..., B, K]`` as one row a sample."""
    rows = value.movedim(-2, 0)
    return {"sample": Rows(rows, torch.arange(len(rows)))}


# Cases


def _case(
    name: str,
    kind: type | Sequence[type],
    build: Callable[..., nn.Module],
    run: Callable[..., Outputs],
    members: int | None = None,
    **flags: object,
) -> Case:
    kinds = (kind,) if isinstance(kind, type) else tuple(kind)
    flags.setdefault("prior", False)
    if members is not None:
        alone = partial(build, members=None)
        flags["only_one"] = partial(seeded, alone)
        build = partial(build, members=members)
        name = f"{name}-members"
    if flags.pop("paths", False):
        flags["twin"] = partial(seeded, partial(build, execution="sparse"))
        build = partial(build, execution="dense")
    covers = tuple(k.__name__ for k in kinds)
    return Case(f"{covers[0]}-{name}", covers, partial(seeded, build), run, **flags)


def _attention(relations: Sequence[Relation], **options: object) -> nn.Module:
    timed = ("ecg", "move") if relations is TIMED else ()
    return RelationalAttention(relations, WIDTH, timed=timed, num_heads=2, **options)


def attention_cases() -> list[Case]:
    cases = []
    for capacity in ("bias", "scalar", "full"):
        for members in (None, 2):
            for label, relations in (("full", FULL), ("timed", TIMED)):
                build = partial(_attention, relations, capacity=capacity)
                run = partial(run_messages, members=members)
                name, is_set = f"{capacity}-{label}", relations is FULL
                case = _case(
                    name,
                    RelationalAttention,
                    build,
                    run,
                    members,
                    paths=True,
                    is_set=is_set,
                )
                cases.append(case)
    hgt = partial(_attention, FULL, capacity="full", null_sink=False, gelu=True)
    run = partial(run_messages, members=None)
    cases.append(_case("hgt", RelationalAttention, hgt, run, paths=True, is_set=True))
    layer = partial(HGTLayer, FULL, WIDTH, num_heads=2)
    cases.append(_case("copy", HGTLayer, layer, run, paths=True, is_set=True))
    return cases


def _layer(messages: bool, mixture: bool, **options: object) -> nn.Module:
    members = options.get("members")
    step = (
        MixtureFeedForward(TYPES, WIDTH, NAMES, members=members)
        if mixture
        else FeedForward(TYPES, WIDTH, members=members)
    )
    return GraphLayer(_attention(FULL, **options) if messages else None, step)


def _feed_forward(members: int | None = None) -> nn.Module:
    return FeedForward(TYPES, WIDTH, members=members)


def _mixture(members: int | None = None) -> nn.Module:
    return MixtureFeedForward(TYPES, WIDTH, NAMES, members=members)


def layer_cases(members: int | None) -> list[Case]:
    attended = partial(run_messages, members=members)
    run = partial(run_layer, members=members)
    plain = partial(_layer, True, False)
    mixed = partial(_layer, True, True)
    receive_only = partial(_layer, False, False)
    return [
        _case("typed", FeedForward, _feed_forward, attended, members, is_set=True),
        _case("mixture", MixtureFeedForward, _mixture, attended, members, is_set=True),
        _case("typed", GraphLayer, plain, run, members, paths=True, is_set=True),
        _case("mixture", GraphLayer, mixed, run, members, paths=True, is_set=True),
        _case("late", GraphLayer, receive_only, run, members, is_set=True),
    ]


def _convolution(build: Callable[[], nn.Module]) -> nn.Module:
    return PyGConv(build, FULL)


def _hgt() -> nn.Module:
    return HGTConv(WIDTH, WIDTH, (list(TYPES), [r.edge_type for r in FULL]), heads=2)


def pyg_cases() -> list[Case]:
    builders = {
        "sage": lambda: SAGEConv((WIDTH, WIDTH), WIDTH),
        "gatv2": lambda: GATv2Conv((WIDTH, WIDTH), WIDTH, add_self_loops=False),
        "rgcn": lambda: RGCNConv(WIDTH, WIDTH, len(FULL)),
        "hgt": _hgt,
    }
    run = partial(run_messages, members=None)
    return [
        _case(
            name,
            PyGConv,
            partial(_convolution, build),
            run,
            is_set=True,
            foreign=True,
        )
        for name, build in builders.items()
    ]


def _readout(
    kind: Callable[..., nn.Module], types: Sequence[str], members: int | None = None
) -> nn.Module:
    return kind(types, WIDTH, num_nodes=1, members=members)


def readout_cases(members: int | None) -> list[Case]:
    kinds = (MeanReadout, MaxReadout, AttentionReadout)
    run = partial(run_readout, members=members)
    options = {"is_set": True, "prior": True}
    fuse = partial(_readout, FuseReadout, ("fuse",))
    return [
        _case("latents", FuseReadout, fuse, run, members, **options),
        *(
            _case("all", k, partial(_readout, k, TYPES), run, members, **options)
            for k in kinds
        ),
        *(
            _case("observed", k, partial(_readout, k, NAMES), run, members, **options)
            for k in kinds
        ),
    ]


OPERATORS = (
    ConcatFusion,
    SumFusion,
    MeanFusion,
    MaxFusion,
    ProductFusion,
    GatedFusion,
    LowRankFusion,
)


def _operator(kind: type, members: int | None = None) -> nn.Module:
    return kind(len(NAMES), WIDTH, members=members)


def _fusion(members: int | None = None) -> nn.Module:
    operator = LowRankFusion(len(TYPES), WIDTH, members=members)
    return FusionReadout(TYPES, WIDTH, operator=operator)


def run_operator(module: nn.Module, batch: Batch, members: int | None) -> Outputs:
    """Combine the sums of each modality's rows, hidden ones too."""
    u = _sums_by_modality(batch)
    return by_sample(module(shared(u, members), _present(batch)))


def operator_cases(members: int | None) -> list[Case]:
    run = partial(run_operator, members=members)
    options = {"is_set": True, "prior": True}
    readout = partial(run_readout, members=members)
    return [
        *(
            _case("all", k, partial(_operator, k), run, members, **options)
            for k in OPERATORS
        ),
        _case("low-rank", FusionReadout, _fusion, readout, members, **options),
    ]


def _encoder(kind: type, name: str, **options: object) -> nn.Module:
    channels = next(m.channels for m in MODALITIES if m.name == name)
    encoder, batch = kind(channels, WIDTH, **options), corner_batch()
    encoder.fit(batch.x[name], batch.sample[name], batch.num_samples)
    return encoder


def encoder_cases(members: int | None) -> list[Case]:
    def case(kind: type, name: str, *, is_set: bool = False, **options: int) -> Case:
        build = partial(_encoder, kind, name, **options)
        run = partial(run_encoder, name=name)
        return _case(name, kind, build, run, members, is_set=is_set)

    return [
        case(VectorEncoder, "labs"),
        case(VectorEncoder, "gene"),
        case(EmbeddingEncoder, "text"),
        case(EmbeddingEncoder, "move", is_set=True),
        case(SequenceEncoder, "ecg", max_nodes=6),
        case(SequenceEncoder, "move", max_nodes=1),
    ]


def _head(task: object, members: int | None = None) -> nn.Module:
    return Head(WIDTH, task, members=members)


def _decoder(channels: int | None, members: int | None = None) -> nn.Module:
    return CompletionDecoder(WIDTH, channels, members=members)


def _pool() -> nn.Module:
    pool = EvidencePool(len(NAMES), 2, 3, num_joint=1, num_patterns=2)
    pool.prior.copy_(torch.tensor([-0.5, -1.0, -2.0]))
    pool.patterns[0] = True
    pool.patterns[1] = _present(corner_batch())[1]
    for parameter in pool.parameters():
        nn.init.normal_(parameter)
    return pool


def run_pool(module: nn.Module, batch: Batch) -> Outputs:
    """Predict from the sum of each modality's rows, hidden ones too."""
    index = torch.arange(6) % WIDTH
    outputs = _sums_by_modality(batch)[..., index].unflatten(-1, (2, 3))
    together = sums(batch)[:, None, :3]
    return by_sample(module(outputs, _present(batch), together))


def _sums_by_modality(batch: Batch) -> Tensor:
    """Return ``[B, M, D]`` sums of the rows of each modality, hidden ones too."""
    parts = []
    for name in NAMES:
        rows = lift(name, batch.x[name])
        empty = rows.new_zeros(batch.num_samples, WIDTH)
        parts.append(empty.index_add(0, batch.sample[name], rows))
    return torch.stack(parts, 1)


def _present(batch: Batch) -> Tensor:
    """Return ``[B, M]`` presence in one order of the modalities."""
    return batch.present[:, [batch.modalities.index(name) for name in NAMES]]


def head_cases(members: int | None) -> list[Case]:
    tasks = (Classification(3), MultiLabel(2), Regression(2), Survival())
    heads = [
        _case(
            type(task).__name__,
            (Head, type(task)),
            partial(_head, task),
            partial(run_head, task=task),
            members,
            prior=True,
        )
        for task in tasks
    ]
    decoders = [
        _case(
            str(width),
            CompletionDecoder,
            partial(_decoder, width),
            run_decoder,
            members,
            prior=True,
        )
        for width in (3, None)
    ]
    return heads + decoders


def block_cases() -> list[Case]:
    """Return the cases of every building block."""
    cases = attention_cases() + pyg_cases()
    cases.append(_case("patterns", EvidencePool, _pool, run_pool, prior=True))
    for members in (None, 2):
        cases += layer_cases(members) + readout_cases(members)
        cases += operator_cases(members)
        cases += encoder_cases(members) + head_cases(members)
    return cases
