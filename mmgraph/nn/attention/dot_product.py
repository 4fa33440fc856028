"""Scaled dot-product attention on slots, with a learned bias and null sink.

Letters: ``B`` samples, ``H`` heads, ``T`` target slots, ``S`` source slots, ``d`` width
of a head. Leading axes ``...`` are the members of an ensemble.
"""

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

MAX_ELEMENTWISE = (
    12  # pairs up to which elementwise products are faster than matrix products
)


class Scores(NamedTuple):
    """Additive terms of the attention logits.

    Attributes:
        bias: Broadcasts to ``[..., B, H, T, S]``.
        allowed: Bool mask, broadcasts to ``[B, H, T, S]``; None allows every pair.
        sink: Logit of the null sink, broadcasts to ``[..., B, H, T, 1]``; or None.
    """

    bias: Tensor
    allowed: Tensor | None
    sink: Tensor | None


def attend(query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
    """Compute scaled dot-product attention with a null sink.

    ``a = exp(q k / sqrt(d) + bias) / (exp(sink) + sum exp(...))``; the result is
    ``sum a v``, zero for a target without allowed sources. Bias and sink have
    gradients, for which fused kernels of torch would store a mask of all pairs of every
    sample.

    Args:
        query: ``[..., T, B, H, d]``.
        key: ``[..., S, B, H, d]``.
        value: ``[..., S, B, H, d]``.
        scores: Additive terms of the logits.

    Returns:
        ``[..., T, B, H, d]`` attended values.
    """
    if not key.shape[-4]:
        return torch.zeros_like(query)
    key, value = key.to(query.dtype), value.to(query.dtype)  # under autocast
    if torch.compiler.is_compiling():  # the compiler derives and fuses itself
        return _forward(query, key, value, scores)[0]
    result = _Attend.apply(query, key, value, *scores)  # type: ignore[no-untyped-call]
    return cast("Tensor", result)


# Pairs of slots have the shape [..., B, H, T, S], few pairs [..., T, S, B, H].


def _few(query: Tensor, key: Tensor) -> bool:
    return query.shape[-4] * key.shape[-4] <= MAX_ELEMENTWISE


def _to_pairs(pairs: Tensor, few: bool) -> Tensor:
    """View ``[..., B, H, T, S]`` in the layout of pairs."""
    return pairs.movedim((-2, -1), (-4, -3)) if few else pairs


def _from_pairs(pairs: Tensor, few: bool) -> Tensor:
    """View pairs as ``[..., B, H, T, S]``."""
    return pairs.movedim((-4, -3), (-2, -1)) if few else pairs


def _transpose(pairs: Tensor, few: bool) -> Tensor:
    """View pairs with targets and sources swapped."""
    return pairs.transpose(-4, -3) if few else pairs.mT


def inner(left: Tensor, right: Tensor, few: bool = False) -> Tensor:
    """Return inner products of ``[..., T, B, H, d]`` and ``[..., S, B, H, d]``."""
    if few:
        return (left.unsqueeze(-4) * right.unsqueeze(-5)).sum(-1)
    product = _by_head(left) @ _by_head(right).mT
    return product.unflatten(-3, left.shape[-3:-1])


def _mix(weight: Tensor, value: Tensor, few: bool) -> Tensor:
    """Return the weighted sums ``[..., T, B, H, d]`` of slots ``[..., S, B, H, d]``."""
    if few:
        return (weight.unsqueeze(-1) * value.unsqueeze(-5)).sum(-4)
    mixed = weight.flatten(-4, -3) @ _by_head(value)
    return mixed.movedim(-3, -2).unflatten(-2, value.shape[-3:-1])


def _by_head(x: Tensor) -> Tensor:
    """View ``[..., S, B, H, d]`` as ``[..., B H, S, d]``."""
    return x.flatten(-3, -2).movedim(-2, -3)


def _forward(
    query: Tensor, key: Tensor, value: Tensor, scores: Scores
) -> tuple[Tensor, Tensor]:
    """Return the attended values and the weights of all pairs, without the sink's."""
    few = _few(query, key)
    axis = -3 if few else -1  # of sources
    bias, allowed, sink = (s if s is None else _to_pairs(s, few) for s in scores)
    assert bias is not None
    logits = inner(query, key, few).mul_(1 / math.sqrt(query.shape[-1]))
    logits = logits.to(torch.promote_types(logits.dtype, bias.dtype)).add_(bias)
    if allowed is not None:
        logits = logits.masked_fill_(~allowed, -torch.inf)
    if sink is None:  # negligible, unless no source is allowed
        sink = logits.new_full((), torch.finfo(logits.dtype).min / 4)
    peak = torch.maximum(logits.detach().amax(axis, keepdim=True), sink.detach())
    weight = logits.sub_(peak).exp_()
    total = weight.sum(axis, keepdim=True) + (sink - peak).exp()
    weight = weight / total if torch.compiler.is_compiling() else weight.div_(total)
    return _mix(weight.to(value.dtype), value, few), weight


class _Attend(torch.autograd.Function):
    """Attention with a hand-written gradient, faster and smaller than autograd."""

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
        result, weight = _forward(query, key, value, scores)
        ctx.save_for_backward(query, key, value, weight)
        ctx.shapes = bias.shape, None if sink is None else sink.shape
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        query, key, value, weight = ctx.saved_tensors
        few, (bias_shape, sink_shape) = _few(query, key), ctx.shapes
        change = inner(gradient, value, few).to(weight.dtype)  # gradient of weights
        axis = -3 if few else -1
        # gradient of logits
        change = torch._softmax_backward_data(change, weight, axis, weight.dtype)
        bias = sink = None
        if ctx.needs_input_grad[3]:
            bias = _from_pairs(change, few).sum_to_size(bias_shape)
        if ctx.needs_input_grad[
            5
        ]:  # gradients of all logits, including the sink, sum to 0
            sink = -_from_pairs(change, few).sum_to_size(sink_shape)
        scale = 1 / math.sqrt(query.shape[-1])
        change = change.to(query.dtype)
        return (
            _mix(change, key, few).mul_(scale),
            _mix(_transpose(change, few), query, few).mul_(scale),
            _mix(_transpose(weight.to(value.dtype), few), gradient, few),
            bias,
            None,
            sink,
        )
