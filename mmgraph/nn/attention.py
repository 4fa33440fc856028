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
        bias: Broadcasts to ``[..., T, S, B, H]``.
        allowed: Bool, broadcasts to ``[T, S, B, H]``; None where every pair is.
        sink: Broadcasts to ``[..., T, 1, B, H]``, or None.
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
    axis = -3
    if key.shape[-4] >= MIN_LAST:
        axis, scores = -1, _with_pairs_last(scores)
    if torch.compiler.is_compiling():  # the compiler derives and fuses by itself
        return _forward(query, key, value, scores, axis)[0]
    result = _Attend.apply(query, key, value, *scores, axis)  # type: ignore[no-untyped-call]
    return cast("Tensor", result)


# Weights have the shape [..., T, S, B, H] with axis -3 of sources, or, where there are
# many, [..., B, H, T, S] with axis -1. The sink is one more source: it has its logit,
# but neither key nor value.


def _forward(
    query: Tensor, key: Tensor, value: Tensor, scores: Scores, axis: int
) -> tuple[Tensor, Tensor]:
    """Return the result and the weights of all sources and the sink."""
    scale = 1 / math.sqrt(query.shape[-1])
    logits = torch.add(scores.bias, _inner(query, key, axis), alpha=scale)
    if scores.allowed is not None:
        logits = logits.masked_fill_(~scores.allowed, -torch.inf)
    sink = scores.sink
    if sink is None:  # as good as none, unless there is nobody else
        sink = logits.new_full((), torch.finfo(logits.dtype).min)
    weight = _extend(logits, sink, axis).softmax(axis)
    return _mix(_heard(weight, axis).to(value.dtype), value), weight


def _extend(pairs: Tensor, sink: Tensor, axis: int) -> Tensor:
    """Add a column for the sink."""
    column = sink.to(pairs.dtype).expand_as(pairs.narrow(axis, 0, 1))
    return torch.cat([pairs, column], axis)


def _heard(extended: Tensor, axis: int) -> Tensor:
    """Return ``[..., B, H, T, S]`` without the sink, ready for products."""
    pairs = extended.narrow(axis, 0, extended.shape[axis] - 1)
    if axis == -1:
        return pairs
    return _last(pairs) if _few(*pairs.shape[-4:-2]) else _last(pairs).contiguous()


def _few(num_targets: int, num_sources: int) -> bool:
    return num_targets * num_sources <= MAX_ELEMENTWISE


def _inner(left: Tensor, right: Tensor, axis: int) -> Tensor:
    """Multiply slots ``[..., T, B, H, d]`` by slots ``[..., S, B, H, d]``."""
    if axis == -3 and _few(left.shape[-4], right.shape[-4]):
        return (left.unsqueeze(-4) * right.unsqueeze(-5)).sum(-1)
    product = _by_head(left) @ _by_head(right).mT
    product = product.unflatten(-3, left.shape[-3:-1])
    return product if axis == -1 else _first(product).contiguous()


def _mix(weight: Tensor, value: Tensor) -> Tensor:
    """Sum ``[..., S, B, H, d]`` by ``[..., B, H, T, S]``: ``[..., T, B, H, d]``."""
    if _few(*weight.shape[-2:]):
        return (_first(weight).unsqueeze(-1) * value.unsqueeze(-5)).sum(-4)
    mixed = weight.flatten(-4, -3) @ _by_head(value)
    return mixed.movedim(-3, -2).unflatten(-2, value.shape[-3:-1])


def _by_head(x: Tensor) -> Tensor:
    """View ``[..., S, B, H, d]`` as ``[..., B H, S, d]``."""
    return x.flatten(-3, -2).movedim(-2, -3)


def _last(x: Tensor) -> Tensor:
    """View ``[..., T, S, B, H]`` as ``[..., B, H, T, S]``."""
    return x.movedim((-4, -3), (-2, -1))


def _with_pairs_last(scores: Scores) -> Scores:
    """Lay scores out as products are, or their sum would have another order."""
    bias, allowed, sink = scores
    return Scores(
        _last(bias).contiguous(),
        None if allowed is None else _last(allowed).contiguous(),
        None if sink is None else _last(sink).contiguous(),
    )


def _first(x: Tensor) -> Tensor:
    """View ``[..., B, H, T, S]`` as ``[..., T, S, B, H]``."""
    return x.movedim((-2, -1), (-4, -3))


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
        axis: int,
    ) -> Tensor:
        scores = Scores(bias, allowed, sink)
        result, weight = _forward(query, key, value, scores, axis)
        ctx.save_for_backward(query, key, value, weight)
        ctx.axis, ctx.shapes = axis, (bias.shape, None if sink is None else sink.shape)
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        query, key, value, weight = ctx.saved_tensors
        axis, (bias_shape, sink_shape) = ctx.axis, ctx.shapes
        change = _inner(gradient, value, axis).to(weight.dtype)  # of the weights
        change = _extend(change, change.new_zeros(()), axis)
        change = torch._softmax_backward_data(change, weight, axis, weight.dtype)
        size = weight.shape[axis] - 1
        bias = sink = None
        if ctx.needs_input_grad[3]:
            bias = change.narrow(axis, 0, size).sum_to_size(bias_shape)
        if ctx.needs_input_grad[5]:
            sink = change.narrow(axis, size, 1).sum_to_size(sink_shape)
        scale = 1 / math.sqrt(query.shape[-1])
        heard = _heard(weight, axis).to(value.dtype)
        change = _heard(change * scale, axis).to(query.dtype)
        return (
            _mix(change, key),
            _mix(change.mT, query),
            _mix(heard.mT, gradient),
            bias,
            None,
            sink,
            None,
        )
