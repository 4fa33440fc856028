"""The laws that every public part obeys, as functions of a case.

A law raises AssertionError where the case breaks it; ``tests/test_planted.py`` holds a
violation of each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from contract.batches import (
    CONTENTS,
    corner_batch,
    full_batch,
    held_out,
    poison,
    shuffle_rows,
    take,
)
from mmgraph.data.batch import Batch
from mmgraph.nn import Classification
from mmgraph.nn.conv import RelationalAttention
from mmgraph.nn.heads import Task
from mmgraph.nn.layer import MixtureFeedForward
from mmgraph.nn.linear import TypedLinear


class Rows(NamedTuple):
    """Outputs by row: ``value [N, ...]``, and the ``sample [N]`` of each row."""

    value: Tensor
    sample: Tensor


Outputs = dict[str, Rows]


@dataclass(frozen=True)
class Case:
    """One way to build and run a public class.

    Attributes:
        name: Name of the case in pytest.
        covers: Public names that the case tests.
        build: Builds the module from a seed, in float64.
        run: Returns the outputs of the module for a batch, without rows of placeholder
            nodes.
        twin: Builds the same module for the other execution path.
        losses: Returns the auxiliary losses, if the module has any.
        removable: Hiding a modality equals removing it; False where placeholder nodes
            are promoted to senders.
        is_set: The order of the rows of a sample does not matter.
        reorder: Builds the module for another order of modalities; None for ``build``.
        only_one: Builds a single member of the ensemble of ``build``.
        prior: A sample without observed modalities has an output.
        foreign: Convolutions of another library, which may have parameters that are
            unused, or that a softmax over one edge cancels; some of each must learn.
    """

    name: str
    covers: tuple[str, ...]
    build: Callable[[int], nn.Module]
    run: Callable[[nn.Module, Batch], Outputs]
    twin: Callable[[int], nn.Module] | None = None
    losses: Callable[[nn.Module, Batch], Sequence[Tensor]] | None = None
    removable: bool = True
    is_set: bool = False
    reorder: Callable[[int, Sequence[str]], nn.Module] | None = None
    only_one: Callable[[int], nn.Module] | None = None
    prior: bool = True
    foreign: bool = False

    def __str__(self) -> str:
        return self.name


# Laws


def law_value_independence(case: Case) -> None:
    """What is held out changes no bit of any output or parameter gradient (1)."""
    module, hidden = case.build(0), _hidden(corner_batch())
    outputs = case.run(module, hidden)
    expected = gradients(module, outputs)
    for name, grad in expected.items():
        assert bool(grad.isfinite().all()), f"the gradient of {name} is not finite"
    for contents in ([torch.nan], CONTENTS, CONTENTS[::-1]):
        poisoned = case.run(module, poison(hidden, contents))
        assert_same_bits(poisoned, outputs, f"content {contents}")
        for name, grad in gradients(module, poisoned).items():
            same = torch.equal(grad, expected[name])
            assert same, f"content {contents} changes the gradient of {name}"


def law_zero_gradient(case: Case) -> None:
    """No gradient reaches what is held out or encoders of absent modalities (2)."""
    module, batch = case.build(0), _hidden(corner_batch())
    x = {name: rows.clone().requires_grad_() for name, rows in batch.x.items()}
    leaf = Batch(batch.num_samples, x, batch.sample, batch.time, batch.held_out)
    loss = objective(case.run(module, leaf))
    if not loss.requires_grad:  # nothing to learn in this part
        return
    assert batch.held_out is not None
    grads = torch.autograd.grad(loss, list(x.values()), allow_unused=True)
    for i, (name, grad) in enumerate(zip(x, grads, strict=True)):
        if grad is not None:
            hidden = batch.held_out[batch.sample[name], i]
            assert not grad[hidden].count_nonzero(), f"{name} leaks its gradient"
    absent = [name for name, rows in batch.x.items() if not len(rows)]
    assert absent
    for name, grad in gradients(module, case.run(module, batch)).items():
        if name.startswith(tuple(f"encoders.{m}." for m in absent)):
            assert not grad.count_nonzero(), f"{name} learns from an absent modality"


def law_absence_is_removal(case: Case, *, dtype: torch.dtype = torch.float64) -> None:
    """Holding out equals dropping equals the other execution path (3)."""
    tolerance = 1e-12 if dtype == torch.float64 else 5e-6
    module, batch = case.build(0).to(dtype), corner_batch().to(dtype)
    hidden = _hidden(batch)
    others = [(module, hidden)]
    assert hidden.held_out is not None
    if case.removable:
        others.append((module, batch.drop(~hidden.held_out)))
    if case.twin is not None:
        twin = case.twin(0).to(dtype)
        twin.load_state_dict(module.state_dict())
        others += [(twin, b) for _, b in others]
    (first, _), *rest = others
    outputs = case.run(first, hidden)
    expected = gradients(first, outputs)
    for other, other_batch in rest:
        result = case.run(other, other_batch)
        common = outputs.keys() & result.keys()
        assert common
        assert_close({k: result[k] for k in common}, outputs, tolerance)
        grads = gradients(other, {k: result[k] for k in common})
        wanted = (
            expected
            if common == outputs.keys()
            else gradients(first, {k: outputs[k] for k in common})
        )
        assert_close_grads(grads, wanted, tolerance)


def law_batch_independence(case: Case, *, dtype: torch.dtype = torch.float64) -> None:
    """A sample alone equals the sample among others, whatever they are (4)."""
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    module, batch = case.build(0).to(dtype), _hidden(corner_batch()).to(dtype)
    outputs = case.run(module, batch)
    for group in ([0], [2], [3], [5], [1, 4], [2, 2, 0]):
        alone = case.run(module, take(batch, group))
        for key, rows in alone.items():
            parts = [rows_of(outputs[key], i) for i in group]
            expected = torch.cat(parts) if parts else rows.value
            difference = _difference(rows.value, expected)
            assert difference <= tolerance, f"{key} of samples {group}: {difference}"


def law_sample_order(case: Case) -> None:
    """The order of the samples orders the outputs and changes nothing else (5)."""
    module, batch = case.build(0), _hidden(corner_batch())
    order = [3, 0, 5, 2, 4, 1]
    outputs, moved = case.run(module, batch), case.run(module, take(batch, order))
    assert outputs.keys() == moved.keys()
    for key, rows in moved.items():
        expected = torch.cat([rows_of(outputs[key], i) for i in order])
        assert _difference(rows.value, expected) <= 1e-12, key
    assert_close_grads(gradients(module, moved), gradients(module, outputs), 1e-12)


def law_modality_order(case: Case) -> None:
    """The order of the modalities does not matter, in the batch or the schema (5)."""
    module, batch = case.build(0), _hidden(corner_batch())
    names = ("move", "gene", "text", "labs", "ecg")
    outputs, moved = case.run(module, batch), batch.select(names)
    assert_close(case.run(module, moved), outputs, 1e-12)
    if case.reorder is not None:
        other = case.reorder(0, names)
        copy_by_type(module, other)
        result = case.run(other, moved)
        assert_close(result, outputs, 1e-12)
        expected = gradients(module, outputs)
        for name, grad in gradients(other, result).items():
            size, wanted = grad.square().sum(), expected[name].square().sum()
            assert _difference(size, wanted) <= 1e-10 * max(1.0, float(wanted)), name


def law_set_order(case: Case) -> None:
    """The order of the elements of a set does not matter (5)."""
    assert case.is_set
    module, batch = case.build(0), _hidden(corner_batch())
    outputs, moved = case.run(module, batch), case.run(module, shuffle_rows(batch))
    changed = False
    for key, rows in moved.items():
        changed |= not torch.equal(rows.value, outputs[key].value)
        for i in range(batch.num_samples):
            old, new = rows_of(outputs[key], i), rows_of(rows, i)
            assert _difference(_sorted(new), _sorted(old)) <= 1e-12, key
    assert changed or all(len(r.value) == batch.num_samples for r in moved.values())
    assert_close_grads(gradients(module, moved), gradients(module, outputs), 1e-12)


def law_nothing_observed(case: Case) -> None:
    """A sample with nothing is finite, and like any other such sample (6)."""
    module, batch = case.build(0), _hidden(corner_batch())
    everything = batch.hold_out(torch.ones_like(batch.present))
    nothing = corner_batch().drop(torch.zeros_like(batch.present))
    for empty in (everything, take(nothing, [0, 1])):
        outputs = case.run(module, empty)
        for key, rows in outputs.items():
            assert bool(rows.value.isfinite().all()), key
        for name, grad in gradients(module, outputs).items():
            assert bool(grad.isfinite().all()), name
        if case.prior:
            prior = rows_of(case.run(module, batch)["sample"], 2)
            value = outputs["sample"].value
            assert len(value) == empty.num_samples
            if case.removable or empty is not everything:
                assert _difference(value, prior.expand_as(value)) <= 1e-12


def law_no_leak(case: Case) -> None:
    """Targets of auxiliary losses are detached from what was held out (7)."""
    assert case.losses is not None
    module, batch = case.build(0), full_batch()
    cells = [(i, "labs") for i in range(batch.num_samples)] + [(0, "ecg"), (1, "text")]
    batch = batch.hold_out(held_out(batch, cells))
    x = {name: rows.clone().requires_grad_() for name, rows in batch.x.items()}
    leaf = Batch(batch.num_samples, x, batch.sample, batch.time, batch.held_out)
    losses = list(case.losses(module, leaf))
    assert len(losses) >= 3
    assert all(bool(loss.isfinite().all()) for loss in losses)
    total = torch.stack([loss.sum() for loss in losses]).sum()
    grads = torch.autograd.grad(
        total, list(x.values()), retain_graph=True, materialize_grads=True
    )
    assert batch.held_out is not None
    for i, (name, grad) in enumerate(zip(x, grads, strict=True)):
        hidden = batch.held_out[batch.sample[name], i]
        assert not grad[hidden].count_nonzero(), f"a loss pulls at held-out {name}"
    for name, parameter in module.named_parameters():
        if name.startswith("encoders.labs."):
            (grad,) = torch.autograd.grad(
                total, [parameter], retain_graph=True, allow_unused=True
            )
            pulled = grad is not None and bool(grad.count_nonzero())
            assert not pulled, f"a loss pulls at {name}, all of whose rows are held out"


def law_every_parameter_learns(case: Case) -> None:
    """Every relation, type and member of every parameter gets a gradient (8)."""
    module, batch = case.build(0), full_batch()
    loss = objective(case.run(module, batch))
    if case.losses is not None:
        cells = [(i, name) for i, name in enumerate(batch.modalities)]
        hidden = batch.hold_out(held_out(batch, cells))
        loss = loss + sum(v.sum() for v in case.losses(module, hidden))
    parameters = learning(module)
    if not parameters:
        return
    grads = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    axes, dead = type_axes(module), []
    for name, grad in zip(parameters, grads, strict=True):
        axis = axes.get(name, 0)
        if grad is None:
            dead.append(name)
            continue
        assert bool(grad.isfinite().all()), name
        for i, part in enumerate(grad.movedim(axis, 0) if axis else [grad]):
            if not part.count_nonzero():
                dead.append(f"{name}[{i}]" if axis else name)
    if case.foreign:
        owner = {name: name.partition("convs.")[2].split(".")[0] for name in parameters}
        alive = {owner[name] for name in parameters.keys() - dead}
        dead = [name for name in dead if owner[name.split("[")[0]] not in alive]
    assert not dead, f"no gradient: {dead}"


def law_same_seed(case: Case) -> None:
    """Same seed, same bits, and the global random state is left alone (9)."""
    state = torch.random.get_rng_state()
    one, same, other = case.build(0), case.build(0), case.build(1)
    assert torch.equal(torch.random.get_rng_state(), state), "building draws numbers"
    first, second = one.state_dict(), same.state_dict()
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)
    if any(True for _ in one.parameters()):
        third = other.state_dict()
        assert not all(torch.equal(first[k], third[k]) for k in first)
    batch = _hidden(corner_batch())
    outputs = case.run(one, batch)
    assert torch.equal(torch.random.get_rng_state(), state), "running draws numbers"
    torch.default_generator.manual_seed(12345)
    again = case.run(same, batch)
    assert_same_bits(again, outputs, "running again")
    expected = gradients(one, outputs)
    for name, grad in gradients(same, again).items():
        assert torch.equal(grad, expected[name]), name


def law_threads(case: Case) -> None:
    """The outputs of one thread and two are equal (9)."""
    module, batch = case.build(0).float(), _hidden(corner_batch()).to(torch.float32)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(case.run(module, batch))
    finally:
        torch.set_num_threads(threads)
    assert_close(results[1], results[0], 1e-6)


def law_members_are_models(case: Case) -> None:
    """Each member of an ensemble is the model that its own parameters make."""
    assert case.only_one is not None
    module, batch = case.build(0), _hidden(corner_batch())
    shared = dict(module.named_buffers())
    ensemble = case.run(module, batch)
    for member in range(2):
        single = case.only_one(0)
        state = module.state_dict().items()
        single.load_state_dict({k: v if k in shared else v[member] for k, v in state})
        for key, rows in case.run(single, batch).items():
            value = _of_member(ensemble[key].value, member)
            difference = _difference(value, _of_member(rows.value, member))
            assert difference <= 1e-12, f"{key} of member {member}: {difference}"


def law_loss_without_valid_term(loss: Callable[..., Tensor], task: Task) -> None:
    """A loss of no labeled sample is zero, and so are its gradients (6)."""
    for rows in (0, 4):
        logits = torch.randn(2, rows, task.out_channels, requires_grad=True)
        value = loss(logits, _labels(task, rows, known=0))
        assert torch.equal(value, torch.zeros_like(value)), value
        (grad,) = torch.autograd.grad(value.sum(), [logits])
        assert torch.equal(grad, torch.zeros_like(grad))


def law_unlabeled_rows_do_not_count(loss: Callable[..., Tensor], task: Task) -> None:
    """Unlabelled samples change neither the loss nor its gradients (6)."""
    logits = torch.randn(5, task.out_channels, requires_grad=True)
    all_rows = loss(logits, _labels(task, 5, known=3))
    labeled = loss(logits[:3], _labels(task, 3, known=3))
    assert float(labeled.detach()) > 0
    assert _difference(all_rows, labeled) <= 1e-6
    grads = [torch.autograd.grad(v, [logits])[0] for v in (all_rows, labeled)]
    assert _difference(*grads) <= 1e-6


def _labels(task: Task, rows: int, *, known: int) -> Tensor:
    """Return labels of which the first ``known`` are known."""
    if isinstance(task, Classification):
        return torch.tensor([1, 0, 2, 1, 0][:known] + [-1] * (rows - known)).long()
    y = torch.full((rows, task.out_channels), torch.nan)
    y[:known] = torch.tensor([1.0, 0.0, 1.0])
    return y


# Parts of laws


def objective(outputs: Outputs) -> Tensor:
    """Add up a curved function of all rows, in which their order does not matter."""
    total = torch.zeros((), dtype=torch.float64)
    for rows in outputs.values():
        shift = torch.arange(rows.value.shape[-1], dtype=rows.value.dtype)
        total = total + torch.sin(rows.value + shift).sum()
    return total


def gradients(module: nn.Module, outputs: Outputs) -> dict[str, Tensor]:
    """Return the gradient of every parameter, zero where there is none."""
    parameters = learning(module)
    loss = objective(outputs)
    if not parameters or not loss.requires_grad:
        return {}
    grads = torch.autograd.grad(
        loss, list(parameters.values()), allow_unused=True, retain_graph=True
    )
    return {
        name: torch.zeros_like(value) if grad is None else grad
        for (name, value), grad in zip(parameters.items(), grads, strict=True)
    }


def learning(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are not frozen."""
    return {n: p for n, p in module.named_parameters() if p.requires_grad}


def rows_of(rows: Rows, sample: int) -> Tensor:
    """Return the rows of one sample."""
    return rows.value[rows.sample == sample]


def type_axes(module: nn.Module) -> dict[str, int]:
    """Return the axis of types or relations, from the end, of parameters with one."""
    axes = {}
    for prefix, part in module.named_modules():
        dot = f"{prefix}." if prefix else ""
        if isinstance(part, TypedLinear):
            if any("expert" in name for name in part.types):
                continue  # an expert learns only from the rows routed to it
            axes |= {f"{dot}weight": -3, f"{dot}bias": -3}
        if isinstance(part, MixtureFeedForward):
            axes[f"{dot}embedding"] = -2
        if isinstance(part, RelationalAttention):
            axes |= {f"{dot}{n}": -2 for n in ("bias", "key_scale", "value_scale")}
            axes |= {f"{dot}sink": -2, f"{dot}time_encoding.weight": -3}
            axes |= {
                f"{dot}time_encoding.frequency": -2,
                f"{dot}time_encoding.phase": -2,
            }
            axes |= {f"{dot}key_map": -4, f"{dot}value_map": -4}
    return axes


def copy_by_type(source: nn.Module, target: nn.Module) -> None:
    """Copy parameters between modules whose types stand in different orders."""
    axes, labels = type_axes(source), _type_labels(source)
    wanted = _type_labels(target)
    old, new = source.state_dict(), target.state_dict()
    assert old.keys() == new.keys()
    for name, value in old.items():
        if name in axes:
            order = [labels[name].index(label) for label in wanted[name]]
            value = value.index_select(axes[name], torch.tensor(order))
        new[name] = value
    target.load_state_dict(new)


def _type_labels(module: nn.Module) -> dict[str, list[object]]:
    """Return what the entries along each axis of types stand for."""
    labels: dict[str, list[object]] = {}
    for prefix, part in module.named_modules():
        dot = f"{prefix}." if prefix else ""
        if isinstance(part, TypedLinear):
            labels |= {key: list(part.types) for key in (f"{dot}weight", f"{dot}bias")}
        if isinstance(part, MixtureFeedForward):
            labels[f"{dot}embedding"] = list(part.modalities)
        if isinstance(part, RelationalAttention):
            every = [r.edge_type for r in part.relations]
            timed = [every[i] for i in part.timed]
            for name in ("bias", "key_scale", "value_scale", "key_map", "value_map"):
                labels[f"{dot}{name}"] = list(every)
            for name in ("weight", "frequency", "phase"):
                labels[f"{dot}time_encoding.{name}"] = list(timed)
            labels[f"{dot}sink"] = list(part.targets)
    return labels


def assert_same_bits(outputs: Outputs, expected: Outputs, what: str) -> None:
    """Fail where any output differs in any bit."""
    assert outputs.keys() == expected.keys()
    for key, rows in outputs.items():
        assert torch.equal(rows.sample, expected[key].sample), key
        same = torch.equal(rows.value, expected[key].value)
        assert same, f"{what} changes output {key}"


def assert_close(outputs: Outputs, expected: Outputs, tolerance: float) -> None:
    """Fail where an output differs by more than the tolerance."""
    for key, rows in outputs.items():
        assert torch.equal(rows.sample, expected[key].sample), key
        difference = _difference(rows.value, expected[key].value)
        assert difference <= tolerance, f"output {key} differs by {difference}"


def assert_close_grads(
    grads: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float
) -> None:
    """Fail where a gradient differs by more than the tolerance times its size."""
    for name, grad in grads.items():
        difference = _difference(grad, expected[name])
        limit = tolerance * max(1.0, float(expected[name].abs().amax()))
        assert difference <= limit, f"gradient of {name} differs by {difference}"


def _difference(a: Tensor, b: Tensor) -> float:
    """Return the largest difference; infinity where shapes differ or NaN is met."""
    if a.shape != b.shape:
        return float("inf")
    if not a.numel():
        return 0.0
    difference = (a - b).detach().abs()
    return float(torch.where(difference.isnan(), torch.inf, difference).amax())


def _of_member(value: Tensor, member: int) -> Tensor:
    """Return the rows ``[N, D]`` of one member; shared rows belong to all members."""
    return value[:, member] if value.ndim == 3 else value


def _sorted(value: Tensor) -> Tensor:
    """Order rows by their content, so that sets of rows can be compared."""
    flat = value.flatten(1)
    return flat[torch.argsort(flat[:, 0])]


def _hidden(batch: Batch) -> Batch:
    return batch.hold_out(held_out(batch))
