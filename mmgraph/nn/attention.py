"""Scaled dot-product attention on slots, with a bias and a null sink that learn.

Letters: ``B`` samples, ``H`` heads, ``T`` target slots, ``S`` source slots, ``d`` width
of a head. Leading axes ``...`` are the members of an ensemble.
"""

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

MAX_ELEMENTWISE = 12  # cells below which one product of all pairs is fastest
MIN_LAST = 16  # a softmax over fewer neighbours is faster over another axis


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
        return _forward(query, key, value, scores)[0]
    result = _Attend.apply(query, key, value, *scores)  # type: ignore[no-untyped-call]
    return cast("Tensor", result)


def _forward(
    query: Tensor, key: Tensor, value: Tensor, scores: Scores
) -> tuple[Tensor, Tensor]:
    """Return the result and the weights ``[..., B, H, T, S]``."""
    logits = _inner(query, key) / math.sqrt(query.shape[-1]) + scores.bias
    if scores.allowed is not None:
        logits = logits.masked_fill(~scores.allowed, -torch.inf)
    weight = _softmax(logits, scores.sink).to(value.dtype)
    return _mix(weight, value), weight


def _softmax(logits: Tensor, sink: Tensor | None) -> Tensor:
    """Normalise the last axis; all zero where nothing is allowed."""
    peak = logits.detach().amax(-1, keepdim=True)
    if sink is None:
        peak = peak.clamp(min=torch.finfo(peak.dtype).min)
    else:
        peak = torch.maximum(peak, sink.detach())
    weight = (logits - peak).exp()
    total = weight.sum(-1, keepdim=True)
    if sink is None:
        return weight / (total + (total == 0))
    return weight / (total + (sink - peak).exp())


def _few(num_targets: int, num_sources: int) -> bool:
    return num_targets * num_sources <= MAX_ELEMENTWISE


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """Multiply slots by slots, ``[..., S, B, H, d]``, into ``[..., B, H, T, S]``."""
    if _few(left.shape[-4], right.shape[-4]):
        product = (left.unsqueeze(-4) * right.unsqueeze(-5)).sum(-1)
        return product.movedim((-4, -3), (-2, -1))  # [..., T, S, B, H] in memory
    product = _by_head(left) @ _by_head(right).mT
    product = product.unflatten(-3, left.shape[-3:-1])
    if right.shape[-4] < MIN_LAST:  # last in memory: samples and heads
        return (
            product.movedim((-2, -1), (-4, -3)).contiguous().movedim((-4, -3), (-2, -1))
        )
    return product


def _mix(weight: Tensor, value: Tensor) -> Tensor:
    """Sum ``[..., S, B, H, d]`` by ``[..., B, H, T, S]``: ``[..., T, B, H, d]``."""
    if _few(*weight.shape[-2:]):
        weight = weight.movedim((-2, -1), (-4, -3))
        return (weight.unsqueeze(-1) * value.unsqueeze(-5)).sum(-4)
    mixed = weight.flatten(-4, -3) @ _by_head(value)
    return mixed.movedim(-3, -2).unflatten(-2, value.shape[-3:-1])


def _by_head(x: Tensor) -> Tensor:
    """View ``[..., S, B, H, d]`` as ``[..., B H, S, d]``."""
    return x.flatten(-3, -2).movedim(-2, -3)


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
        result, weight = _forward(query, key, value, Scores(bias, allowed, sink))
        ctx.save_for_backward(query, key, value, weight)
        ctx.shapes = bias.shape, None if sink is None else sink.shape
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        query, key, value, weight = ctx.saved_tensors
        change = _inner(gradient, value)  # of the weights
        mean = (weight * change).sum(-1, keepdim=True)
        change = (weight * (change - mean)).to(query.dtype)  # of the logits
        sink, (bias_shape, sink_shape) = None, ctx.shapes
        if ctx.needs_input_grad[5]:
            rest = 1 - weight.sum(-1, keepdim=True)
            sink = -(rest * mean).sum_to_size(sink_shape)
        bias = change.sum_to_size(bias_shape) if ctx.needs_input_grad[3] else None
        change = change / math.sqrt(query.shape[-1])
        return (
            _mix(change, key),
            _mix(change.mT, query),
            _mix(weight.mT, gradient),
            bias,
            None,
            sink,
        )
