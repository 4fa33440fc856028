"""Fusion operators against their definitions, for every pattern of missingness."""

import itertools

import pytest
import torch
from torch import nn

from mmgraph import ConfigError
from mmgraph.nn import (
    ConcatFusion,
    GatedFusion,
    LowRankFusion,
    MaxFusion,
    MeanFusion,
    ProductFusion,
    SumFusion,
)

OPERATORS = (
    ConcatFusion,
    SumFusion,
    MeanFusion,
    MaxFusion,
    ProductFusion,
    GatedFusion,
    LowRankFusion,
)
SYMMETRIC = (SumFusion, MeanFusion, MaxFusion, ProductFusion)
CHANNELS = 5


def patterns(num_modalities):
    """Return every pattern of missing modalities, the empty one included."""
    return torch.tensor(list(itertools.product([True, False], repeat=num_modalities)))


def states(num_modalities, *leading):
    """Return one sample for each pattern."""
    shape = (*leading, 2**num_modalities, num_modalities, CHANNELS)
    return torch.randn(shape, dtype=torch.float64)


def build(operator, num_modalities=3, **options):
    return operator(num_modalities, CHANNELS, **options).double()


def reference(operator, rows):
    """Return the operator without parameters on the observed rows ``[n, D]``."""
    reduce = {
        SumFusion: lambda: rows.sum(0),
        MeanFusion: lambda: rows.mean(0),
        MaxFusion: lambda: rows.amax(0),
        ProductFusion: lambda: rows.prod(0),
    }
    return reduce[operator]() if len(rows) else rows.new_zeros(CHANNELS)


@pytest.mark.parametrize("operator", SYMMETRIC)
def test_symmetric_operators_reduce_what_is_observed(operator):
    u, present = states(3), patterns(3)
    result = build(operator)(u, present)
    wanted = [reference(operator, x[p]) for x, p in zip(u, present, strict=True)]
    torch.testing.assert_close(result, torch.stack(wanted))
    order = [2, 0, 1]
    moved = build(operator)(u[:, order], present[:, order])
    torch.testing.assert_close(moved, result)


@pytest.mark.parametrize("operator", [*SYMMETRIC, GatedFusion, LowRankFusion])
def test_nothing_observed_is_zero(operator):
    nothing = torch.zeros(4, 3, dtype=torch.bool)
    unread = torch.full((4, 3, CHANNELS), torch.nan, dtype=torch.float64)
    assert not build(operator)(unread, nothing).any()


def test_concatenation_has_flags():
    u, present = states(2), patterns(2)
    fuse = build(ConcatFusion, 2)
    z = fuse(u, present)
    assert z.shape == (4, fuse.out_channels) == (4, 2 * CHANNELS + 2)
    assert torch.equal(z[:, -2:].bool(), present)
    assert torch.equal(z[0, :-2], u[0].flatten())
    assert torch.equal(z[1, :CHANNELS], u[1, 0])  # the second modality is missing
    assert not z[1, CHANNELS:-2].any()
    assert not z[3].any()


@pytest.mark.parametrize("operator", SYMMETRIC)
def test_one_modality_is_the_result(operator):
    u = states(3)
    alone = torch.zeros(8, 3, dtype=torch.bool)
    alone[:, 1] = True
    assert torch.equal(build(operator)(u, alone), u[:, 1])


def test_the_gate_of_two_modalities_is_a_sigmoid():
    fuse = build(GatedFusion, 2)
    with torch.no_grad():
        fuse.gate.bias.normal_()
        fuse.value.copy_(torch.eye(CHANNELS).expand_as(fuse.value))
    u, both = states(2), torch.ones(4, 2, dtype=torch.bool)
    first, second = fuse.gate.weight.split(CHANNELS, 1)
    bias = fuse.gate.bias[0, :CHANNELS] - fuse.gate.bias[0, CHANNELS:]
    g = torch.sigmoid(u.flatten(1) @ (first - second) + bias)
    wanted = g * u[:, 0] + (1 - g) * u[:, 1]
    torch.testing.assert_close(fuse(u, both), wanted, rtol=0, atol=1e-12)


def test_gate_weights_are_a_distribution_over_what_is_present():
    fuse, present = build(GatedFusion), patterns(3)
    weights = fuse.weights(states(3), present)
    assert weights.shape == (8, 3, CHANNELS)
    assert not weights[~present].any()
    total = torch.ones(8, CHANNELS, dtype=torch.float64)
    total[-1] = 0  # nothing is present in the last pattern
    torch.testing.assert_close(weights.sum(1), total)
    one = present.sum(1) == 1
    assert torch.equal(
        weights[present & one[:, None]], torch.ones(3, CHANNELS).double()
    )


@pytest.mark.parametrize("num_modalities", [2, 3])
def test_low_rank_is_the_contraction_with_a_tensor_of_that_rank(num_modalities):
    rank = 4
    fuse = build(LowRankFusion, num_modalities, rank=rank)
    with torch.no_grad():
        fuse.weight.normal_()
    u, present = states(num_modalities), patterns(num_modalities)
    # [1; F] of every modality: [R, D + 1, D], the first row is that of the 1
    factors = []
    for factor in fuse.factor:
        mapped = factor.unflatten(1, (rank, CHANNELS)).movedim(1, 0)
        ones = torch.ones(rank, 1, CHANNELS, dtype=torch.float64)
        factors.append(torch.cat([ones, mapped], 1))
    axes = "abc"[:num_modalities]
    terms = ",".join(f"r{axis}d" for axis in axes)
    tensor = torch.einsum(f"r,{terms}->{axes}d", fuse.weight[:, 0], *factors)
    constant = fuse.weight.sum()
    for i, mask in enumerate(present):
        one = torch.ones(1, dtype=torch.float64)
        parts = [
            torch.cat([one, torch.where(m, x, 0)])
            for x, m in zip(u[i], mask, strict=True)
        ]
        inputs = ",".join(axes)
        wanted = torch.einsum(f"{axes}d,{inputs}->d", tensor, *parts) - constant
        torch.testing.assert_close(fuse(u, present)[i], wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("content", [torch.nan, torch.inf, 1e300])
def test_what_is_missing_changes_no_bit(operator, content):
    fuse, present = build(operator), patterns(3)
    u = states(3)
    results = []
    for value in (0.5, content):
        filled = torch.where(present[..., None], u, value).requires_grad_()
        z = fuse(filled, present)
        grads = torch.autograd.grad(
            z.sin().sum(), [filled, *fuse.parameters()], materialize_grads=True
        )
        assert not grads[0][~present].any()
        results.append((z, *grads))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


class ListFusion(nn.Module):
    """Low-rank fusion with its factors in a list, which torch does not register."""

    def __init__(self):
        super().__init__()
        self.out_channels = CHANNELS
        self.weight = nn.Parameter(torch.ones(CHANNELS).double())
        self.factors = [
            torch.randn(CHANNELS, CHANNELS).double().requires_grad_() for _ in range(3)
        ]

    def forward(self, u, present):
        u = torch.where(present[..., None], u, 0)
        maps = [1 + u[:, m] @ factor for m, factor in enumerate(self.factors)]
        return torch.stack(maps).prod(0) * self.weight


def leaves(z):
    """Return the tensors that a result depends on and that have a gradient."""
    found, todo, seen = set(), [z.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(node.variable)
        todo += [parent for parent, _ in node.next_functions]
    return found


@pytest.mark.parametrize("operator", [GatedFusion, LowRankFusion])
@pytest.mark.parametrize("members", [None, 2])
def test_every_tensor_is_a_parameter_and_learns(operator, members):
    fuse = build(operator, members=members)
    leading = () if members is None else (members,)
    z = fuse(states(3, *leading), torch.ones(8, 3, dtype=torch.bool))
    assert leaves(z) == set(fuse.parameters())
    grads = torch.autograd.grad(z.sin().sum(), list(fuse.parameters()))
    assert all(grad.count_nonzero() == grad.numel() for grad in grads)


def test_tensors_outside_of_the_parameters_are_found():
    fuse = ListFusion()
    z = fuse(states(3), torch.ones(8, 3, dtype=torch.bool))
    assert leaves(z) - set(fuse.parameters()) == set(fuse.factors)


@pytest.mark.parametrize("operator", OPERATORS)
def test_members_are_separate_operators(operator):
    together, u, present = build(operator, members=3), states(3, 3), patterns(3)
    z = together(u, present)
    assert z.shape == (3, 8, together.out_channels)
    for member in range(3):
        alone = build(operator)
        parameters = together.state_dict().items()
        alone.load_state_dict({name: value[member] for name, value in parameters})
        torch.testing.assert_close(alone(u[member], present), z[member])


def test_rank_is_at_least_one():
    with pytest.raises(ConfigError, match=r"rank must be at least 1, got 0\. Use"):
        LowRankFusion(2, 4, rank=0)


def test_sizes_are_shown():
    assert repr(ProductFusion(3, 8)) == "ProductFusion(3, 8)"
