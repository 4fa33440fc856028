"""Contract cases of FusionModel under many schemas and options."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch_geometric.nn import GATv2Conv, RGCNConv, SAGEConv

from contract.batches import MODALITIES, NAMES, corner_batch
from contract.blocks import by_sample
from contract.laws import Case, Outputs, Rows
from mmgraph.data.batch import Batch
from mmgraph.graph import NodeSet
from mmgraph.model import FusionModel
from mmgraph.nn import Classification, EmbeddingEncoder, Regression
from mmgraph.schema import (
    Custom,
    KNearest,
    Latent,
    Modality,
    Relation,
    SameIndex,
    Schema,
    TimeWindow,
)

WIDTH = 8
SchemaBuilder = Callable[[Sequence[Modality]], Schema]


def two_way(modalities: Sequence[Modality]) -> Schema:
    """A star whose fuse node sends to the modalities as well."""
    relations = [Relation("*", "fuse"), Relation("fuse", "*")]
    return Schema(modalities, [Latent("fuse")], relations)


def temporal(modalities: Sequence[Modality]) -> Schema:
    """Sequences connected by time, and a fuse node that attends to all nodes."""
    relations = [
        Relation("ecg", "ecg", topology=TimeWindow(0.8)),
        Relation("move", "ecg", topology=KNearest(2)),
        Relation("ecg", "move", topology=SameIndex()),
        Relation("labs", "ecg"),
        Relation("*", "fuse"),
    ]
    return Schema(modalities, [Latent("fuse")], relations)


def custom(modalities: Sequence[Modality]) -> Schema:
    """Only every other row of a sequence sends."""
    relations = [
        Relation("ecg", "fuse", topology=Custom(every_other, "every_other")),
        *(Relation(m.name, "fuse") for m in modalities if m.name != "ecg"),
        Relation("fuse", "*"),
    ]
    return Schema(modalities, [Latent("fuse", 2)], relations)


def every_other(source: NodeSet, target: NodeSet) -> Tensor:
    """Join rows at even places to all nodes of their sample."""
    near = source.sample[:, None] == target.sample[None, :]
    return torch.nonzero(near & (source.position % 2 == 0)[:, None]).T


def read_all(modalities: Sequence[Modality]) -> Schema:
    """A star whose readout reads the modalities and the fuse node."""
    relations = [Relation("*", "fuse"), Relation("fuse", "*")]
    names = sorted(m.name for m in modalities)
    return Schema(modalities, [Latent("fuse")], relations, [*names, "fuse"])


def evidence_of(batch: Batch, names: Sequence[str]) -> Tensor:
    """Return ``[B, M, 2]`` evidence; that of what is missing is whatever is there."""
    columns = []
    for name in names:
        x, sample = batch.x[name], batch.sample[name]
        value = x.new_full((batch.num_samples, 2), torch.nan)
        rows = x[:, :2]
        if batch.held_out is not None:
            hidden = batch.held_out[sample, batch.modalities.index(name)][:, None]
            rows = torch.where(rows.isnan() & ~hidden, 0, rows)
        else:
            rows = torch.where(rows.isnan(), 0, rows)
        first = torch.searchsorted(sample, torch.unique(sample))
        columns.append(value.index_copy(0, sample[first], rows[first]))
    return torch.stack(columns, 1)


def _run(model: FusionModel, batch: Batch) -> "tuple[object, Outputs]":
    evidence = None
    if model.nodes.evidence is not None:
        evidence = evidence_of(batch, model.schema.modality_names)
    out = model(batch, evidence)
    outputs = by_sample(out.logits) | {"z": by_sample(out.z)["sample"]}
    for latent in model.schema.latents:
        if latent.name in out.h_dict:
            h = out.h_dict[latent.name].movedim(-2, 0)
            each = torch.arange(batch.num_samples).repeat_interleave(latent.num_nodes)
            outputs[latent.name] = Rows(h, each)
    for name in sorted(out.completed):
        done = out.completed[name]
        named = {"h": done.h, "variance": done.log_variance, "x": done.x}
        for key, value in named.items():
            if value is not None:
                rows = Rows(value.movedim(-2, 0), done.sample)
                outputs[f"completed.{name}.{key}"] = rows
    return out, outputs


def run_model(model: FusionModel, batch: Batch) -> Outputs:
    """Return logits, states and completions."""
    return _run(model, batch)[1]


def auxiliary(model: FusionModel, batch: Batch) -> Sequence[Tensor]:
    """Return the auxiliary losses."""
    return _run(model, batch)[0].auxiliary


def _build(
    seed: int,
    names: Sequence[str] = NAMES,
    *,
    schema: SchemaBuilder,
    sets: bool = False,
    **options: object,
) -> nn.Module:
    modalities = [m for name in names for m in MODALITIES if m.name == name]
    members = options.get("members")
    if sets:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            options["encoders"] = {
                m.name: EmbeddingEncoder(m.channels, WIDTH, members=members)
                for m in MODALITIES
                if m.tokens == "ragged"
            }
    options.setdefault("task", Classification(3))
    built = schema(modalities)
    model = FusionModel(
        built, hidden_channels=WIDTH, num_heads=2, seed=seed, **options
    ).double()
    model.fit_scaling(corner_batch())
    return model


def _case(name: str, schema: SchemaBuilder, **options: object) -> list[Case]:
    """Return a case in each execution path."""
    with_losses = options.get("completion") or options.get("feed_forward") == "mixture"
    flags = {
        "losses": auxiliary if with_losses else None,
        "removable": not options.get("promote", False),
        "is_set": bool(options.get("sets")),
    }
    paths = ("auto",) if "conv" in options else ("dense", "sparse")
    cases = []
    for path, other in zip(paths, reversed(paths), strict=True):
        build = partial(_build, schema=schema, **options)
        here = partial(build, execution=path)
        twin = partial(build, execution=other) if len(paths) > 1 else None
        alone = partial(here, members=None) if "members" in options else None
        pyg = "conv" in options
        case = Case(
            f"FusionModel-{name}-{path}",
            ("FusionModel",),
            here,
            run_model,
            twin=twin,
            only_one=alone,
            reorder=None if pyg else here,
            foreign=pyg,
            **flags,
        )
        cases.append(case)
    return cases


def _convolutions() -> dict[str, Callable[[], nn.Module]]:
    relations = len(two_way(MODALITIES).relations)
    return {
        "sage": lambda: SAGEConv((WIDTH, WIDTH), WIDTH),
        "gatv2": lambda: GATv2Conv((WIDTH, WIDTH), WIDTH, add_self_loops=False),
        "rgcn": lambda: RGCNConv(WIDTH, WIDTH, relations),
    }


def model_cases() -> list[Case]:
    """Return FusionModel under every kind of schema, and every option at least once."""
    star, late, complete = Schema.star, Schema.late, Schema.complete
    narrow = partial(Schema.bottleneck, num_nodes=2)
    both = {"completion": True, "promote": True}
    table = [
        _case("late", late),
        _case("late-members", late, readout="attention", members=2),
        _case("star", star, task=Regression(2)),
        _case("two-way-scalar-members", two_way, capacity="scalar", members=2),
        _case("two-way-mixture", two_way, feed_forward="mixture"),
        _case("two-way-three-layers", two_way, num_layers=3, capacity="full"),
        _case("star-sets", star, sets=True),
        _case("star-evidence-members", star, evidence_channels=2, members=2),
        _case("two-way-completion", two_way, completion=True),
        _case("complete-members", complete, members=2, feed_forward="none"),
        _case("complete-mixture", complete, capacity="full", feed_forward="mixture"),
        _case("complete-promote-members", complete, members=2, **both),
        _case("bottleneck-scalar", narrow, capacity="scalar"),
        _case("bottleneck-promote", narrow, **both),
        _case("temporal", temporal),
        _case("temporal-full-members", temporal, capacity="full", members=2),
        _case("temporal-completion", temporal, **both),
        _case("custom-scalar", custom, capacity="scalar"),
        _case("read-mean", read_all, readout="mean"),
        _case("read-max-members", read_all, readout="max", members=2),
        _case("read-gated-members", read_all, readout="gated", members=2),
        _case("read-low-rank", read_all, readout="low_rank"),
        _case("read-attention", read_all, readout="attention", **both),
        *(
            _case(f"two-way-{name}", two_way, conv=conv)
            for name, conv in _convolutions().items()
        ),
    ]
    return [case for cases in table for case in cases]
