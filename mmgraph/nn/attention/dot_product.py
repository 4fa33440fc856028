"""Scaled dot-product attention on slots, with a bias and a null sink that learn.

Letters: ``B`` samples, ``H`` heads, ``T`` target slots, ``S`` source slots, ``d`` width
of a head. Leading axes ``...`` are the members of an ensemble.
"""

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_ELEMENTWISE = 12  # cells below which one product of all pairs is fastest


class Scores(NamedTuple):
    """What is added to the products of queries and keys.

    Attributes:
        bias: Broadcasts to ``[..., B, H, T, S]``.
        allowed: Bool, broadcasts to ``[B, H, T, S]``; None where every pair is.
        sink: Broadcasts to ``[..., B, H, T, 1]``, or None.
    """

    bias: Tensor
    allowed: Tensor | None
    sink: Tensor | None


def attend(query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
    """Attend; a target that may hear nobody hears zero.

    ``a = exp(q k / sqrt(d) + bias) / (exp(sink) + sum exp(...))``; the result is
    ``sum a v``. Bias and sink have gradients, which fused kernels do not give without
    keeping a mask of all pairs for every sample.

    Args:
        query: ``[..., T, B, H, d]``.
        key: ``[..., S, B, H, d]``.
        value: The same.
        scores: What is added to the products.

    Returns:
        ``[..., T, B, H, d]``.
    """
    if not key.shape[-4]:
        return torch.zeros_like(query)
    key, value = key.to(query.dtype), value.to(query.dtype)  # under autocast
    if torch.compiler.is_compiling():  # the compiler derives and fuses by itself
        return _hear(query, key, value, scores)[0]
    result = _Attend.apply(query, key, value, *scores)  # type: ignore[no-untyped-call]
    return cast("Tensor", result)


# Pairs of slots have the shape [..., B, H, T, S], few of them [..., T, S, B, H].


def _few(query: Tensor, key: Tensor) -> bool:
    return query.shape[-4] * key.shape[-4] <= MAX_ELEMENTWISE


def _lay(pairs: Tensor, few: bool) -> Tensor:
    """View ``[..., B, H, T, S]`` as pairs lie."""
    return pairs.movedim((-2, -1), (-4, -3)) if few else pairs


def _unlay(pairs: Tensor, few: bool) -> Tensor:
    """View pairs as ``[..., B, H, T, S]``."""
    return pairs.movedim((-4, -3), (-2, -1)) if few else pairs


def _turn(pairs: Tensor, few: bool) -> Tensor:
    """View pairs with targets and sources swapped."""
    return pairs.transpose(-4, -3) if few else pairs.mT


def inner(left: Tensor, right: Tensor, few: bool = False) -> Tensor:
    """Multiply slots ``[..., T, B, H, d]`` by slots ``[..., S, B, H, d]``."""
    if few:
        return (left.unsqueeze(-4) * right.unsqueeze(-5)).sum(-1)
    product = _by_head(left) @ _by_head(right).mT
    return product.unflatten(-3, left.shape[-3:-1])


def _mix(weight: Tensor, value: Tensor, few: bool) -> Tensor:
    """Sum slots ``[..., S, B, H, d]`` by pairs: ``[..., T, B, H, d]``."""
    if few:
        return (weight.unsqueeze(-1) * value.unsqueeze(-5)).sum(-4)
    mixed = weight.flatten(-4, -3) @ _by_head(value)
    return mixed.movedim(-3, -2).unflatten(-2, value.shape[-3:-1])


def _by_head(x: Tensor) -> Tensor:
    """View ``[..., S, B, H, d]`` as ``[..., B H, S, d]``."""
    return x.flatten(-3, -2).movedim(-2, -3)


def _hear(
    query: Tensor, key: Tensor, value: Tensor, scores: Scores
) -> tuple[Tensor, Tensor]:
    """Return the result and the weights of all pairs; the sink takes the rest of 1."""
    few = _few(query, key)
    axis = -3 if few else -1  # of sources
    bias, allowed, sink = (s if s is None else _lay(s, few) for s in scores)
    assert bias is not None
    logits = inner(query, key, few).mul_(1 / math.sqrt(query.shape[-1]))
    logits = logits.to(torch.promote_types(logits.dtype, bias.dtype)).add_(bias)
    if allowed is not None:
        logits = logits.masked_fill_(~allowed, -torch.inf)
    if sink is None:  # as good as none, unless there is nobody else
        sink = logits.new_full((), torch.finfo(logits.dtype).min / 4)
    peak = torch.maximum(logits.detach().amax(axis, keepdim=True), sink.detach())
    weight = logits.sub_(peak).exp_()
    total = weight.sum(axis, keepdim=True) + (sink - peak).exp()
    weight = weight / total if torch.compiler.is_compiling() else weight.div_(total)
    return _mix(weight.to(value.dtype), value, few), weight


class _Attend(torch.autograd.Function):
    """The derivative by hand: fewer passes over all pairs, and nothing kept twice."""

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor,
        allowed: Tensor | None,
        sink: Tensor | None,
    ) -> Tensor:
        scores = Scores(bias, allowed, sink)
        result, weight = _hear(query, key, value, scores)
        ctx.save_for_backward(query, key, value, weight)
        ctx.shapes = bias.shape, None if sink is None else sink.shape
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        query, key, value, weight = ctx.saved_tensors
        few, (bias_shape, sink_shape) = _few(query, key), ctx.shapes
        change = inner(gradient, value, few).to(weight.dtype)  # of the weights
        axis = -3 if few else -1
        change = torch._softmax_backward_data(change, weight, axis, weight.dtype)
        bias = sink = None
        if ctx.needs_input_grad[3]:
            bias = _unlay(change, few).sum_to_size(bias_shape)
        if ctx.needs_input_grad[5]:  # changes of all logits, the sink's too, sum to 0
            sink = -_unlay(change, few).sum_to_size(sink_shape)
        scale = 1 / math.sqrt(query.shape[-1])
        change = change.to(query.dtype)
        return (
            _mix(change, key, few).mul_(scale),
            _mix(_turn(change, few), query, few).mul_(scale),
            _mix(_turn(weight.to(value.dtype), few), gradient, few),
            bias,
            None,
            sink,
        )
