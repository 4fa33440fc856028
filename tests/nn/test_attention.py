"""Derivatives written by hand, against finite differences, in every order of memory."""

import math

import pytest
import torch

from mmgraph.nn.attention.dot_product import Scores, attend
from mmgraph.nn.segment_linear import SegmentParams, segment_linear

NUM_SAMPLES, HEADS, WIDTH = 2, 2, 2


def example(targets, sources, sink):
    """Queries, keys, values, bias and sink; sample 1 attends to source 0 only."""

    def draw(*shape):
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    nodes = (NUM_SAMPLES, HEADS, WIDTH)
    allowed = torch.ones(NUM_SAMPLES, 1, 1, sources, dtype=torch.bool)
    allowed[1, ..., 1:] = False
    tensors = [draw(n, *nodes) for n in (targets, sources, sources)]
    tensors += [draw(1, HEADS, targets, sources)]
    return [*tensors, draw(1, HEADS, targets, 1) if sink else None], allowed


def by_definition(query, key, value, bias, sink, allowed):
    logits = torch.einsum("tbhd,sbhd->bhts", query, key) / math.sqrt(WIDTH) + bias
    weight = logits.exp() * allowed
    total = weight.sum(-1, keepdim=True) + (0 if sink is None else sink.exp())
    return torch.einsum("bhts,sbhd->tbhd", weight / total, value)


@pytest.mark.parametrize("sink", [True, False])
@pytest.mark.parametrize("sources", [2, 7])
def test_attention_and_its_derivative(sources, sink):
    tensors, allowed = example(3, sources, sink)

    def function(query, key, value, bias, sink):
        return attend(query, key, value, Scores(bias, allowed, sink))

    expected = by_definition(*tensors, allowed)
    torch.testing.assert_close(function(*tensors), expected, rtol=1e-12, atol=1e-12)
    assert torch.autograd.gradcheck(function, tensors)


def test_a_second_derivative_is_rejected():
    tensors, allowed = example(3, 2, sink=True)
    query, key, value, bias, sink = tensors
    result = attend(query, key, value, Scores(bias, allowed, sink))
    loss = result.square().sum()
    (first,) = torch.autograd.grad(loss, query, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        first.square().sum().backward()


@pytest.mark.parametrize("sources", [2, 7])
def test_a_target_without_allowed_sources_receives_zero_without_a_sink(sources):
    (query, key, value, bias, _), allowed = example(3, sources, sink=False)
    allowed[1] = False
    attended = attend(query, key, value, Scores(bias, allowed, None))
    assert not attended[:, 1].any()
    assert attended[:, 0].all()
    gradients = torch.autograd.grad(attended.sum(), [query, key, value, bias])
    assert all(g.isfinite().all() for g in gradients)
    assert not gradients[2][:, 1].any()


@pytest.mark.parametrize("sources", [2, 7])
def test_nobody_may_listen(sources):
    tensors, allowed = example(0, sources, sink=True)
    query, key, value, bias, sink = tensors
    attended = attend(query, key, value, Scores(bias, allowed, sink))
    assert attended.shape == (0, NUM_SAMPLES, HEADS, WIDTH)
    gradients = torch.autograd.grad(attended.sum(), tensors)
    assert not any(g.any() for g in gradients)


@pytest.mark.parametrize("members", [(), (2,)])
def test_two_maps_of_a_table_and_their_derivative(members):
    def draw(*shape):
        return torch.randn(*members, *shape, dtype=torch.float64, requires_grad=True)

    tensors = draw(5, 3), draw(3, 3, 4), draw(3, 1, 4), draw(1, 3, 2), draw(1, 1, 2)
    ranges = ((2, 0, 2), (0, 2, 2), (1, 3, 5))  # type 0 has no rows, row 2 no type

    def function(h, weight, bias, other, shift):
        own = SegmentParams(weight, bias, ranges)
        return segment_linear(h, own, SegmentParams(other, shift, ((0, 3, 5),)))

    h, weight, bias, other, shift = tensors
    parts = (
        h[..., rows, :] @ weight[..., i, :, :] + bias[..., i, :, :]
        for i, rows in ((2, slice(0, 2)), (1, slice(3, 5)))
    )
    first, second = function(*tensors)
    torch.testing.assert_close(first, torch.cat(list(parts), -2))
    expected = h[..., 3:, :] @ other[..., 0, :, :] + shift[..., 0, :, :]
    torch.testing.assert_close(second, expected)
    assert torch.autograd.gradcheck(function, tensors)
