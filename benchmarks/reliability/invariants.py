"""Invariants of models: contents of masked slots, batch mates, permutations.

Letters: ``B`` samples, ``M`` modalities.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

import mmgraph as mg
from mmgraph.nn import VectorEncoder

NUM = 6
CONTENTS = (0.0, 1e30, float("nan"), float("inf"), float("-inf"), 1e-42)
TASKS = (mg.Classification(num_classes=3), mg.MultiLabel(2), mg.Regression(2))
SCHEMAS = ("star", "complete", "bottleneck", "late")
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"capacity": "full", "members": 2},
    {"capacity": "scalar", "feed_forward": "mixture"},
    {"execution": "dense"},
    {"execution": "sparse"},
)
READOUTS = ("auto", "mean", "max", "attention")
MASKS = {m: list(itertools.product((False, True), repeat=m)) for m in range(1, 6)}


@dataclass(frozen=True)
class Example:
    """A model and its samples.

    Attributes:
        model: The model.
        x: ``[B, C]`` values by modality; every third is a sequence ``[B, T, C]``.
        present: ``[B, M]`` Bool.
        y: Targets of the task.
    """

    model: mg.FusionModel
    x: dict[str, Tensor]
    present: Tensor
    y: Tensor

    def batch(self, content: float = 0.0, *, packed: bool = False) -> mg.Batch:
        """Return the samples with a content of all cells that must not be read."""
        x = {
            name: values.masked_fill(~seen.view(-1, *[1] * (values.ndim - 1)), content)
            for (name, values), seen in zip(
                self.x.items(), self.present.unbind(1), strict=True
            )
        }
        batch = mg.Batch.regular(x, self.present)
        return batch.packed() if packed else batch


def build(
    num_modalities: int,
    task: mg.Classification | mg.MultiLabel | mg.Regression,
    schema: str,
    options: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
    present: Tensor | None = None,
    seed: int = 0,
) -> Example:
    """Build a model with random weights and samples."""
    modalities = [
        mg.Modality(f"m{i}", 2 + i % 2, tokens="ragged" if i % 3 == 2 else "single")
        for i in range(num_modalities)
    ]
    graph = getattr(mg.Schema, schema)(modalities)
    model = mg.FusionModel(graph, task, hidden_channels=8, num_heads=2, **options)
    generator = torch.Generator().manual_seed(seed)
    shapes = [(NUM, 4) if m.tokens == "ragged" else (NUM,) for m in modalities]
    x = {
        m.name: torch.randn(*shape, m.channels or 1, generator=generator).to(dtype)
        for m, shape in zip(modalities, shapes, strict=True)
    }
    if present is None:
        present = torch.rand(NUM, num_modalities, generator=generator) > 0.4
    y = torch.randn(NUM, task.out_channels, generator=generator).to(dtype)
    if isinstance(task, mg.Classification):
        y = y.argmax(1)
    elif isinstance(task, mg.MultiLabel):
        y = (y > 0).to(dtype)
    return Example(model.to(dtype), x, present, y)


def results(example: Example, batch: mg.Batch) -> list[Tensor]:
    """Return logits, loss and the gradient of every parameter."""
    example.model.zero_grad()
    logits = example.model(batch).logits
    loss = example.model.task.loss(logits, example.y).sum()
    loss.backward()
    gradients = [p.grad for p in example.model.parameters() if p.grad is not None]
    return [logits.detach(), loss.detach(), *gradients]


def differing_contents(num_examples: int, most: int = 5) -> tuple[int, int]:
    """Return the examples whose masked contents change a bit, and the examples tried.

    Every mask of one sample is tried for each number of modalities; tasks, schemas,
    readouts, options, types, contents and layouts are drawn by hypothesis.
    """
    counts = [0, 0]
    masks = {m: itertools.cycle(MASKS[m]) for m in MASKS}

    @settings(
        max_examples=num_examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.tuples(
            st.integers(1, most),
            st.sampled_from(TASKS),
            st.sampled_from(SCHEMAS),
            st.sampled_from(OPTIONS),
            st.sampled_from(READOUTS),
            st.sampled_from([torch.float32, torch.float64, torch.bfloat16]),
            st.sampled_from(CONTENTS),
            st.booleans(),
        )
    )
    def compare(drawn: tuple[Any, ...]) -> None:
        m, task, schema, options, readout, dtype, content, packed = drawn
        if schema == "late":
            options = {**options, "readout": readout}
        present = torch.tensor([next(masks[m]) for _ in range(NUM)])
        example = build(m, task, schema, options, dtype, present)
        expected = results(example, example.batch(packed=packed))
        got = results(example, example.batch(content, packed=packed))
        counts[0] += not all(map(torch.equal, got, expected))
        counts[0] += not all(bool(x.isfinite().all()) for x in got)
        counts[1] += 1

    compare()
    return counts[0], counts[1]


def largest_changes(num_examples: int) -> dict[torch.dtype, float]:
    """Return the largest change of an output by batch mates and by order, by type.

    Numbers of modalities, tasks, schemas, options, masks, batches and orders are drawn
    by hypothesis.
    """
    worst = dict.fromkeys((torch.float64, torch.float32, torch.bfloat16), 0.0)

    @settings(
        max_examples=num_examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        st.integers(1, 4),
        st.sampled_from(TASKS),
        st.sampled_from(SCHEMAS),
        st.sampled_from(OPTIONS),
        st.sampled_from([*worst]),
        st.lists(st.integers(0, NUM - 1), min_size=1, max_size=9),
        st.permutations(range(NUM)),
        st.integers(0, 99),
    )
    @torch.no_grad()
    def compare(
        m: int,
        task: Any,  # noqa: ANN401
        schema: str,
        options: dict[str, Any],
        dtype: torch.dtype,
        rows: list[int],
        order: list[int],
        seed: int,
    ) -> None:
        example = build(m, task, schema, options, dtype, seed=seed)
        batch = example.batch(packed=True)
        logits = example.model(batch).logits
        names = list(batch.x)[::-1]
        x, sample = ({n: part[n] for n in names} for part in (batch.x, batch.sample))
        turned = mg.Batch(NUM, x, sample)
        for other, chosen in (
            (_rows(batch, rows), rows),
            (_regular(example, rows), rows),
            (_rows(batch, order), order),
            (turned, list(range(NUM))),
        ):
            change = example.model(other).logits - logits[..., chosen, :]
            worst[dtype] = max(worst[dtype], float(change.abs().max()))

    compare()
    return worst


def every_example(dtype: torch.dtype, step: int = 1) -> Iterator[Example]:
    """Yield an example for every ``step``-th schema, task and set of options."""
    cases = itertools.product(SCHEMAS, TASKS, OPTIONS)
    for schema, task, options in itertools.islice(cases, 0, None, step):
        yield build(3, task, schema, options, dtype)


@torch.no_grad()
def change_by_batch_mates(
    dtype: torch.dtype, sizes: tuple[int, ...], step: int = 1
) -> float:
    """Return the largest change of an output by the samples that are computed with it.

    Args:
        dtype: Type of parameters and values.
        sizes: Batch sizes that are compared with batches of one.
        step: Compare every ``step``-th combination of schema, task and options.
    """
    worst = 0.0
    for example in every_example(dtype, step):
        batch = example.batch(packed=True)
        alone = torch.cat(
            [example.model(_rows(batch, [i])).logits for i in range(NUM)],
            dim=-2,
        )
        for size in sizes:
            rows = [i % NUM for i in range(size)]
            for layout in (_rows(batch, rows), _regular(example, rows)):
                together = example.model(layout).logits
                worst = max(worst, float((together - alone[..., rows, :]).abs().max()))
    return worst


def _rows(batch: mg.Batch, rows: list[int]) -> mg.Batch:
    """Return samples of a packed batch, with repeats."""
    x, sample = {}, {}
    for name, values in batch.x.items():
        parts = [torch.nonzero(batch.sample[name] == i)[:, 0] for i in rows]
        x[name] = values[torch.cat(parts)]
        numbers = [torch.full((len(part),), i) for i, part in enumerate(parts)]
        sample[name] = torch.cat(numbers).long()
    return mg.Batch(len(rows), x, sample)


def _regular(example: Example, rows: list[int]) -> mg.Batch:
    x = {name: values[rows] for name, values in example.x.items()}
    return mg.Batch.regular(x, example.present[rows])


@torch.no_grad()
def change_by_order(dtype: torch.dtype, step: int = 1) -> float:
    """Return the largest change of an output by the order of the input.

    Samples, modalities and the nodes of a sample are permuted.

    Args:
        dtype: Type of parameters and values.
        step: Compare every ``step``-th combination of schema, task and options.
    """
    worst = 0.0
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    for example in every_example(dtype, step):
        batch, model = example.batch(packed=True), example.model
        logits = model(batch).logits
        moved = model(_rows(batch, order.tolist())).logits
        worst = max(worst, float((moved - logits[..., order, :]).abs().max()))
        names = list(batch.x)[::-1]
        x, sample = ({n: part[n] for n in names} for part in (batch.x, batch.sample))
        turned = model(mg.Batch(NUM, x, sample)).logits
        worst = max(worst, float((turned - logits).abs().max()))
    for schema, options in itertools.product(SCHEMAS, OPTIONS):
        worst = max(worst, _change_by_nodes(schema, options, dtype))
    return worst


def _change_by_nodes(
    schema: str, options: Mapping[str, Any], dtype: torch.dtype
) -> float:
    modalities = [mg.Modality("a", 2, tokens="ragged"), mg.Modality("b", 2)]
    encoders = {"a": VectorEncoder(2, 8, members=options.get("members"))}
    model = mg.FusionModel(
        getattr(mg.Schema, schema)(modalities),
        mg.Classification(num_classes=2),
        hidden_channels=8,
        num_heads=2,
        encoders=encoders,
        **options,
    ).to(dtype)
    generator = torch.Generator().manual_seed(0)
    sample = torch.arange(4).repeat_interleave(5)
    rows = torch.randn(20, 2, generator=generator).to(dtype)
    other = torch.randn(4, 2, generator=generator).to(dtype)
    order = torch.argsort(sample + torch.rand(20, generator=generator))
    outputs = [
        model(mg.Batch(4, {"a": each, "b": other}, {"a": sample, "b": torch.arange(4)}))
        for each in (rows, rows[order])
    ]
    return float((outputs[0].logits - outputs[1].logits).abs().max())
