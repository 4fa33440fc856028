"""Every law catches a violation that is planted for it."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from contract import laws
from contract.blocks import (
    FULL,
    NAMES,
    TYPES,
    WIDTH,
    by_sample,
    graph_of,
    lift,
    observed_rows,
    run_layer,
    run_messages,
    run_readout,
    seeded,
)
from contract.laws import Case, Outputs, Rows
from contract.models import model_cases
from torch import Tensor, nn

from mmgraph.data.batch import Batch
from mmgraph.graph.graph import Graph
from mmgraph.model import FusionModel
from mmgraph.model.node_builder import NodeBuilder
from mmgraph.nn import (
    Classification,
    FeedForward,
    GraphLayer,
    MeanReadout,
    RelationalAttention,
)
from mmgraph.nn.attention.weights import RelationWeights
from mmgraph.nn.encoders import Encoded
from mmgraph.nn.linear import Linear
from mmgraph.schema import Relation


def planted(build: Callable[[], nn.Module], run: Callable, **flags: object) -> Case:
    """Return the case of a faulty part."""
    return Case("planted", (), partial(seeded, build), run, **flags)


def breaks(law: Callable[[Case], None], case: Case, match: str | None = None) -> None:
    """Check that the law fails on the case."""
    with pytest.raises(AssertionError, match=match):
        law(case)


def encode(clean: Callable[[Tensor, Tensor], Tensor], after: Callable) -> Callable:
    """Return a way to run a linear map on all rows, hidden ones masked somehow."""

    def run(module: nn.Module, batch: Batch) -> Outputs:
        present = _visible(batch, "labs")[:, None]
        h = after(module(clean(batch.x["labs"], present)), present)
        total = h.new_zeros(batch.num_samples, h.shape[-1])
        return by_sample(total.index_add(0, batch.sample["labs"], h))

    return run


def _visible(batch: Batch, name: str) -> Tensor:
    sample = batch.sample[name]
    if batch.held_out is None:
        return torch.ones(len(sample), dtype=torch.bool)
    return ~batch.held_out[sample, batch.modalities.index(name)]


def scrubbed(x: Tensor, present: Tensor) -> Tensor:
    """Remove what is hidden and cells that are NaN, before the first operation."""
    return torch.where(present & ~x.isnan(), x, 0)


def only_cells(x: Tensor, present: Tensor) -> Tensor:
    """Remove NaN cells of visible rows only."""
    return torch.where(present & x.isnan(), 0, x)


def keep(h: Tensor, present: Tensor) -> Tensor:
    return torch.where(present, h, 0)


def no_bias() -> nn.Module:
    return nn.Linear(3, WIDTH, bias=False)


def attention(kind: type = RelationalAttention, **options: object) -> nn.Module:
    return kind(FULL, WIDTH, num_heads=2, **options)


messages = partial(run_messages, members=None)
layer = partial(run_layer, members=None)
readout = partial(run_readout, members=None)


def test_laws_accept_what_is_right():
    case = planted(no_bias, encode(scrubbed, keep), prior=False)
    laws.law_value_independence(case)
    laws.law_zero_gradient(case)
    laws.law_absence_is_removal(case)
    laws.law_batch_independence(case)
    laws.law_sample_order(case)
    laws.law_modality_order(case)
    laws.law_nothing_observed(case)
    laws.law_every_parameter_learns(case)
    laws.law_same_seed(case)
    laws.law_threads(case)


# 1 Value independence


def test_multiplying_by_the_mask_is_caught():
    case = planted(no_bias, encode(only_cells, lambda h, present: h * present))
    breaks(laws.law_value_independence, case, "is not finite")


def test_masking_after_the_encoder_is_caught_in_the_gradients():
    case = planted(no_bias, encode(only_cells, keep))
    breaks(laws.law_value_independence, case, "gradient of weight is not finite")


class _HearsGhosts(RelationalAttention):
    def forward(self, h: Tensor, graph: Graph) -> dict[str, Tensor]:
        loud = {name: replace(n, receive_only=None) for name, n in graph.nodes.items()}
        return super().forward(h, Graph(loud, graph.num_samples))


@pytest.mark.parametrize("execution", ["dense", "sparse"])
def test_attention_to_held_out_rows_is_caught(execution):
    build = partial(attention, _HearsGhosts, execution=execution)
    breaks(laws.law_value_independence, planted(build, messages), "changes output")
    breaks(laws.law_absence_is_removal, planted(build, messages))


class _ReadsGhosts(MeanReadout):
    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        loud = {name: replace(n, receive_only=None) for name, n in graph.nodes.items()}
        return super().forward(h, Graph(loud, graph.num_samples))


def test_readout_of_placeholders_is_caught():
    case = planted(lambda: _ReadsGhosts(NAMES, WIDTH), readout)
    breaks(laws.law_value_independence, case, "changes output")


# 2 Zero gradient


def test_gradient_into_held_out_content_is_caught():
    def clean(x: Tensor, present: Tensor) -> Tensor:
        x = torch.where(x.isnan(), 0, x)
        return scrubbed(x, present) + 1e-9 * x.mean(0)

    case = planted(no_bias, encode(clean, keep))
    breaks(laws.law_zero_gradient, case, "labs leaks")


class _Imputes(nn.Module):
    """Encodes a missing modality as a row of ones."""

    def __init__(self) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict({"labs": Linear(3, WIDTH), "gene": Linear(2, 8)})

    def forward(self, batch: Batch) -> Tensor:
        total = 0
        for name, encoder in self.encoders.items():
            x = torch.ones(batch.num_samples, encoder.weight.shape[0])
            seen = batch.visible()
            rows = torch.where(seen.x[name].isnan(), 0, seen.x[name])
            x = x.to(rows.dtype).index_copy(0, seen.sample[name], rows)
            total = total + encoder(x)
        return total


def test_training_the_encoder_of_an_absent_modality_is_caught():
    case = planted(_Imputes, lambda module, batch: by_sample(module(batch)))
    breaks(laws.law_zero_gradient, case, "encoders.gene.weight learns")


# 3 Absence is removal


class _CountsGhosts(MeanReadout):
    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        counts = sum(
            torch.bincount(nodes.sample, minlength=graph.num_samples)
            for nodes in graph.nodes.values()
        )
        return super().forward(h, graph) / counts[:, None]


def test_counting_hidden_rows_is_caught():
    case = planted(lambda: _CountsGhosts(TYPES, WIDTH), readout)
    laws.law_value_independence(case)
    breaks(laws.law_absence_is_removal, case)


class _NoSinkWhenSparse(RelationalAttention):
    def _weights(self) -> RelationWeights:
        weights = super()._weights()
        return replace(weights, sink=None) if self.execution == "sparse" else weights


def test_difference_between_execution_paths_is_caught():
    dense = partial(attention, _NoSinkWhenSparse, execution="dense")
    sparse = partial(attention, _NoSinkWhenSparse, execution="sparse")
    case = planted(dense, messages, twin=partial(seeded, sparse))
    breaks(laws.law_absence_is_removal, case, "differs by")


# 4 Batch independence


class _CentresTheBatch(MeanReadout):
    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        z = super().forward(h, graph)
        return z - z.mean(-2, keepdim=True)


def test_readout_with_batch_mean_is_caught():
    case = planted(lambda: _CentresTheBatch(TYPES, WIDTH), readout)
    breaks(laws.law_batch_independence, case, "of samples")


class _BatchNormed(FeedForward):
    def __init__(self) -> None:
        super().__init__(TYPES, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, h: Tensor, graph: Graph) -> dict[str, Tensor]:
        return super().forward(self.norm(h), graph)


def test_batch_norm_in_a_layer_is_caught():
    case = planted(lambda: GraphLayer(None, _BatchNormed()), layer)
    breaks(laws.law_batch_independence, case, "of samples")


# 5 Equivariance


class _NumbersSamples(MeanReadout):
    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        return super().forward(h, graph) * torch.arange(graph.num_samples)[:, None]


def test_dependence_on_the_order_of_samples_is_caught():
    case = planted(lambda: _NumbersSamples(TYPES, WIDTH), readout)
    breaks(laws.law_sample_order, case)


class _LastTypeWins(MeanReadout):
    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        weight = torch.cat(
            [
                h.new_full((len(n), 1), 1.0 + i)
                for i, n in enumerate(graph.nodes.values())
            ]
        )
        return super().forward(h * torch.cat([weight, -weight] * 4, 1), graph)


def test_dependence_on_the_order_of_modalities_is_caught():
    case = planted(lambda: _LastTypeWins(TYPES, WIDTH), readout)
    breaks(laws.law_modality_order, case)


def test_schema_whose_order_matters_is_caught():
    class Numbered(NodeBuilder):
        def _rows(self, name: str, batch: Batch) -> Encoded:
            rows = super()._rows(name, batch)
            factor = 1 + self.schema.modality_names.index(name)
            return rows._replace(h=rows.h * factor)

    right = next(case for case in model_cases() if "star-dense" in case.name)

    def build(seed: int, *names: object) -> nn.Module:
        model = right.reorder(seed, *names)
        model.nodes.__class__ = Numbered
        return model

    breaks(laws.law_modality_order, replace(right, build=build, reorder=build))


class _OrderDependentSum(MeanReadout):
    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        place = torch.cat([nodes.position for nodes in graph.nodes.values()])
        return super().forward(h + torch.sin(h * place[:, None]), graph)


def test_dependence_on_the_order_of_a_set_is_caught():
    case = planted(lambda: _OrderDependentSum(TYPES, WIDTH), readout, is_set=True)
    breaks(laws.law_set_order, case)


# 6 Nothing observed


def test_mean_over_nothing_is_caught():
    def run(module: nn.Module, batch: Batch) -> Outputs:
        seen = batch.visible()
        rows = module(torch.where(seen.x["labs"].isnan(), 0, seen.x["labs"]))
        total = rows.new_zeros(batch.num_samples, WIDTH)
        total = total.index_add(0, seen.sample["labs"], rows)
        count = torch.bincount(seen.sample["labs"], minlength=batch.num_samples)
        return by_sample(total / count[:, None])

    breaks(laws.law_nothing_observed, planted(no_bias, run))


def test_prior_that_depends_on_the_batch_is_caught():
    def run(module: nn.Module, batch: Batch) -> Outputs:
        outputs = encode(scrubbed, keep)(module, batch)
        shift = float(batch.present.sum())
        return {
            "sample": Rows(outputs["sample"].value + shift, outputs["sample"].sample)
        }

    breaks(laws.law_nothing_observed, planted(no_bias, run))


def test_mean_loss_over_no_label_is_caught():
    task = Classification(3)

    def mean(logits: Tensor, y: Tensor) -> Tensor:
        return torch.stack([F.cross_entropy(z, y, ignore_index=-1) for z in logits])

    with pytest.raises(AssertionError):
        laws.law_loss_without_valid_term(mean, task)


def test_loss_that_counts_unlabelled_samples_is_caught():
    def loss(logits: Tensor, y: Tensor) -> Tensor:
        total = F.cross_entropy(logits, y, ignore_index=-1, reduction="sum")
        return total / len(y)

    with pytest.raises(AssertionError):
        laws.law_unlabeled_rows_do_not_count(loss, Classification(3))


# 7 No leak


def _completing() -> Case:
    name = "FusionModel-two-way-completion-dense"
    return next(case for case in model_cases() if case.name == name)


def test_targets_that_are_not_detached_are_caught():
    def losses(model: FusionModel, batch: Batch) -> list[Tensor]:
        hidden = batch.drop(batch.held_out)
        state = model.encoders["labs"](
            hidden.x["labs"], hidden.sample["labs"], None, batch.num_samples
        )
        return [*_completing().losses(model, batch), state.h.square().mean()]

    laws.law_no_leak(_completing())
    breaks(laws.law_no_leak, replace(_completing(), losses=losses), "pulls at")


def test_prediction_from_targets_is_caught():
    def run(model: FusionModel, batch: Batch) -> Outputs:
        outputs = _completing().run(model, batch)
        observed = batch._with(held_out=None)
        leak = _completing().run(model, observed)["sample"].value
        rows = outputs["sample"]
        return outputs | {"sample": Rows(rows.value + 1e-9 * leak, rows.sample)}

    breaks(laws.law_value_independence, replace(_completing(), run=run))


# 8 Every relation learns


class _DeadRelation(RelationalAttention):
    def _weights(self) -> RelationWeights:
        weights = super()._weights()
        alive = torch.arange(len(self.relations))[:, None] != 3
        bias = torch.where(alive, weights.bias, weights.bias.detach())
        return replace(weights, bias=bias)


def test_relation_without_gradient_is_caught():
    build = partial(attention, _DeadRelation, execution="sparse")
    breaks(laws.law_every_parameter_learns, planted(build, messages), r"bias\[3\]")


def test_relation_that_reaches_nothing_is_caught():
    def build() -> nn.Module:
        relations = (*FULL, Relation("text", "gene"))
        return RelationalAttention(relations, WIDTH, num_heads=2)

    def run(module: nn.Module, batch: Batch) -> Outputs:
        graph, h = graph_of(batch)
        attended = module(h, graph)
        attended.pop("gene")
        return observed_rows(attended, graph)

    case = planted(build, run)
    breaks(laws.law_every_parameter_learns, case, rf"bias\[{len(FULL)}\]")


def test_parameter_that_is_never_used_is_caught():
    def build() -> nn.Module:
        module = no_bias()
        module.forgotten = nn.Parameter(torch.zeros(1))
        return module

    case = planted(build, encode(scrubbed, keep))
    breaks(laws.law_every_parameter_learns, case, "forgotten")


# 9 Same seed, same bits


class _Dropout(MeanReadout):
    def forward(self, h: Tensor, graph: Graph) -> Tensor:
        return super().forward(F.dropout(h, 0.1), graph)


def test_random_numbers_at_inference_are_caught():
    case = planted(lambda: _Dropout(TYPES, WIDTH), readout)
    breaks(laws.law_same_seed, case, "running draws numbers")


def test_building_from_the_global_random_state_is_caught():
    case = Case("planted", (), lambda _: no_bias().double(), encode(scrubbed, keep))
    breaks(laws.law_same_seed, case, "building draws numbers")


def test_seed_that_is_ignored_is_caught():
    case = Case("planted", (), lambda _: seeded(no_bias, 0), encode(scrubbed, keep))
    breaks(laws.law_same_seed, case)


def test_dependence_on_the_number_of_threads_is_caught():
    def run(module: nn.Module, batch: Batch) -> Outputs:
        h = lift("labs", batch.x["labs"]) * (1 + 1e-3 * torch.get_num_threads())
        return {"h": Rows(module(batch.x["labs"]) + h, batch.sample["labs"])}

    breaks(laws.law_threads, planted(no_bias, run))


def test_members_that_mix_are_caught():
    class Mixing(Linear):
        def forward(self, x: Tensor) -> Tensor:
            h = super().forward(x)
            return h + h.mean(0) if h.ndim == 3 else h

    case = planted(
        lambda: Mixing(3, WIDTH, members=2),
        lambda module, batch: by_sample(module(batch.x["labs"][:1])),
        only_one=partial(seeded, lambda: Mixing(3, WIDTH)),
    )
    breaks(laws.law_members_are_models, case, "of member 0")
