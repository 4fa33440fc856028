"""Soft-DTW of padded batches of sequences.

Letters: ``B`` pairs, ``T`` and ``S`` padded lengths of their two sequences, ``C``
channels, ``K = T + S - 1`` anti-diagonals of the cost matrix. Cell ``(i, j)`` lies on
anti-diagonal ``i + j``, all of whose cells depend on the two anti-diagonals before it,
so that ``K`` steps on vectors ``[B, T]`` fill the matrices of all pairs.
"""

from numbers import Real
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from mmgraph.errors import ConfigError, DataError
from mmgraph.losses.pointwise import at_least_float

_ROUNDING = 1e-9  # of positions along the diagonal of a band


def soft_dtw(
    cost: Float[Tensor, "B T S"],
    lengths_x: Int[Tensor, " B"] | None = None,
    lengths_y: Int[Tensor, " B"] | None = None,
    *,
    gamma: float | int = 1.0,
    band: float | int | None = None,
) -> Float[Tensor, " B"]:
    r"""Return the soft-DTW of pairs of sequences, given the costs of their steps.

    .. math:: r_{ij} = d_{ij} + \operatorname{softmin}_\gamma
        (r_{i-1,j-1}, r_{i-1,j}, r_{i,j-1}), \qquad
        \operatorname{softmin}_\gamma(a) = -\gamma \log \sum_k e^{-a_k / \gamma}

    The result is the value of the last cell. It is negative where many paths have
    similar costs, also for equal sequences: train on :func:`soft_dtw_divergence`.

    References:
        Soft-DTW: a Differentiable Loss Function for Time-Series, Cuturi, Blondel, 2017,
        arXiv 1703.01541. Dynamic Programming Algorithm Optimization for Spoken Word
        Recognition, Sakoe, Chiba, 1978 (the band).

    Args:
        cost: Cost of matching step i of the first sequence with step j of the second.
        lengths_x: Number of steps of each first sequence, from 0 to T; costs behind
            them are not read, and may be NaN. Default: T.
        lengths_y: Number of steps of each second sequence. Default: S.
        gamma: Smoothing, in units of the cost; 0 is DTW, whose gradient is that of one
            best path.
        band: Largest difference between the relative positions ``i / (length - 1)`` and
            ``j / (length - 1)`` of matched steps, from 0 to 1: a share of the longer
            sequence. Default: paths are free.

    Returns:
        The soft-DTW of each pair; zero, with zero gradients, if a sequence is empty.

    Raises:
        ConfigError: If ``gamma`` is negative or ``band`` is not between 0 and 1.
        DataError: If a cost within the lengths is not finite, lengths do not fit the
            cost, or no path fits the band.

    Example:
        >>> from mmgraph import losses
        >>> x, y = torch.tensor([0.0, 1.0, 2.0]), torch.tensor([0.0, 2.0])
        >>> cost = (x[:, None] - y).square()
        >>> losses.soft_dtw(cost[None], gamma=0.0)
        tensor([1.])
    """
    _check_options(gamma, band)
    _check_tensor("cost", cost, "[B, T, S]")
    cost = at_least_float(cost)
    count, steps_x, steps_y = cost.shape
    length_x = _read_lengths("lengths_x", lengths_x, count, steps_x, cost.device)
    length_y = _read_lengths("lengths_y", lengths_y, count, steps_y, cost.device)
    inside = (
        _within(length_x, steps_x)[:, :, None] & _within(length_y, steps_y)[:, None]
    )
    if not count or not steps_x or not steps_y:
        return cost.sum((1, 2))
    clean = torch.where(inside, cost, 0)
    _check_finite("cost", clean)
    allowed = inside
    if band is not None:
        allowed = inside & _band_cells(length_x, length_y, steps_x, steps_y, band)
    arguments = clean, allowed, length_x, length_y, float(gamma)
    result: Tensor = _SoftDTW.apply(*arguments)  # type: ignore[no-untyped-call]
    return result


def soft_dtw_divergence(
    x: Float[Tensor, "B T C"],
    y: Float[Tensor, "B S C"],
    lengths_x: Int[Tensor, " B"] | None = None,
    lengths_y: Int[Tensor, " B"] | None = None,
    *,
    gamma: float | int = 1.0,
    band: float | int | None = None,
) -> Float[Tensor, " B"]:
    r"""Return the soft-DTW divergence of pairs of sequences.

    .. math:: \operatorname{sdtw}(x, y) - \tfrac{1}{2} \left(\operatorname{sdtw}(x, x)
        + \operatorname{sdtw}(y, y)\right)

    with the squared Euclidean distance of steps as cost. It is 0 for equal sequences
    and symmetric. That it is never negative is proved for costs such as
    :math:`\delta + \log(2 - e^{-\delta})` of half the squared distance; for the
    squared distance it is an observation, which holds in all cases of the tests.

    References:
        Differentiable Divergences between Time Series, Blondel, Mensch, Vert, 2021,
        arXiv 2010.08354.

    Args:
        x: First sequences, padded to T steps.
        y: Second sequences, padded to S steps.
        lengths_x: Number of steps of each first sequence, from 0 to T; what lies behind
            them is not read, and may be NaN. Default: T.
        lengths_y: Number of steps of each second sequence. Default: S.
        gamma: Smoothing, in units of the squared distance; see :func:`soft_dtw`.
        band: Largest difference of relative positions; see :func:`soft_dtw`.

    Returns:
        The divergence of each pair; zero, with zero gradients, if a sequence is empty.

    Raises:
        ConfigError: If ``gamma`` is negative or ``band`` is not between 0 and 1.
        DataError: If sequences are not finite within their lengths, x and y differ in
            pairs or channels, or no path fits the band.

    Example:
        >>> from mmgraph import losses
        >>> x = torch.tensor([[[0.0], [1.0], [3.0]]])
        >>> losses.soft_dtw_divergence(x, x)
        tensor([0.])
        >>> short = torch.tensor([[[0.0], [3.0]]])
        >>> losses.soft_dtw_divergence(x, short).item() > 0
        True
    """
    _check_options(gamma, band)
    _check_tensor("x", x, "[B, T, C]")
    _check_tensor("y", y, "[B, S, C]")
    if (x.shape[0], x.shape[2]) != (y.shape[0], y.shape[2]):
        raise DataError(
            "x and y must have the same number of pairs and of channels, got shapes"
            f" {list(x.shape)} and {list(y.shape)}."
        )
    count, steps = x.shape[0], max(x.shape[1], y.shape[1])
    length_x = _read_lengths("lengths_x", lengths_x, count, x.shape[1], x.device)
    length_y = _read_lengths("lengths_y", lengths_y, count, y.shape[1], x.device)
    x, y = _clean("x", x, length_x, steps), _clean("y", y, length_y, steps)
    # Three times the pairs in one pass: its number of steps does not depend on them.
    first, second = torch.cat([x, x, y]), torch.cat([y, x, y])
    exact = "donot_use_mm_for_euclid_dist"  # equal steps have a distance of exactly 0
    cost = torch.cdist(first, second, compute_mode=exact).square()
    seen = (length_x > 0) & (length_y > 0)
    length_x, length_y = length_x * seen, length_y * seen
    between, within_x, within_y = soft_dtw(
        cost,
        torch.cat([length_x, length_x, length_y]),
        torch.cat([length_y, length_x, length_y]),
        gamma=gamma,
        band=band,
    ).chunk(3)
    return between - (within_x + within_y) / 2


class _SoftDTW(torch.autograd.Function):
    """Soft-DTW with the gradient of its recursion in closed form.

    The gradient of a cell is the sum over its three successors of their gradients times
    their softmin weights, which the forward pass keeps.
    """

    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        cost: Tensor,
        allowed: Tensor,
        length_x: Tensor,
        length_y: Tensor,
        gamma: float,
    ) -> Tensor:
        """Return ``[B]``, from costs ``[B, T, S]`` of the allowed cells."""
        count, steps_x, _ = cost.shape
        diagonals, valid = _skew(cost), _skew(allowed)
        far = torch.finfo(cost.dtype).max ** 0.5
        values = cost.new_full((len(diagonals) + 2, count, steps_x + 1), far)
        values[0, :, 0] = 0  # the cell before the first of both
        weights = cost.new_empty(len(diagonals), 3, count, steps_x)
        for k in range(len(diagonals)):
            before = torch.stack(
                [values[k, :, :-1], values[k + 1, :, :-1], values[k + 1, :, 1:]]
            )
            least, which = before.min(0)
            if gamma:
                ratio = torch.exp((least - before) / gamma)
                total = ratio.sum(0)
                least = least - gamma * total.log()
                torch.div(ratio, total, out=weights[k])
            else:
                weights[k] = 0
                weights[k].scatter_(0, which[None], 1)
            values[k + 2, :, 1:] = torch.where(valid[k], diagonals[k] + least, far)
        empty = (length_x < 1) | (length_y < 1)
        pairs = torch.arange(count, device=cost.device)
        last = (length_x + length_y).clamp(min=2), pairs, length_x.clamp(min=1)
        ctx.save_for_backward(weights, valid, empty, *last)
        return torch.where(empty, 0, values[last])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Return the gradient of the costs ``[B, T, S]``."""
        weights, valid, empty, *last = ctx.saved_tensors
        num_diagonals, _, count, steps_x = weights.shape
        # Cells as in the forward pass, with one more step behind the last.
        cells = grad.new_zeros(num_diagonals + 2, count, steps_x + 1)
        diagonal, pairs, row = last
        cells[diagonal - 2, pairs, row - 1] = torch.where(empty, 0, grad)
        for k in range(num_diagonals - 2, -1, -1):
            near = weights[k + 1] * cells[k + 1, :, None, :-1].movedim(1, 0)
            here = cells[k, :, :-1]
            here += near[2]
            here[:, :-1] += near[1, :, 1:]
            if k + 2 < num_diagonals:
                here[:, :-1] += (weights[k + 2, 0] * cells[k + 2, :, :-1])[:, 1:]
        gradient = torch.where(valid, cells[:num_diagonals, :, :-1], 0)
        return _unskew(gradient), None, None, None, None


def _skew(x: Tensor) -> Tensor:
    """Return ``[K, B, T]``: cell (i, j) of ``x [B, T, S]`` at (i + j, b, i); else 0."""
    count, rows, columns = x.shape
    flat = F.pad(x, (0, rows)).flatten(1)[:, :-rows]
    return flat.view(count, rows, rows + columns - 1).permute(2, 0, 1).contiguous()


def _unskew(x: Tensor) -> Tensor:
    """Return ``[B, T, S]``, the inverse of :func:`_skew`."""
    num_diagonals, count, rows = x.shape
    flat = F.pad(x.permute(1, 2, 0).flatten(1), (0, rows))
    return flat.view(count, rows, num_diagonals + 1)[:, :, : num_diagonals + 1 - rows]


def _band_cells(
    length_x: Tensor, length_y: Tensor, steps_x: int, steps_y: int, band: float
) -> Bool[Tensor, "B T S"]:
    """Return the cells within the band; raise DataError if no path fits it.

    Row i allows the columns from ``low[i]`` to ``high[i]``, both ascending. A path fits
    if each row begins at most one column behind the end of the row before it.
    """
    device = length_x.device
    rows = torch.arange(steps_x, device=device, dtype=torch.float64)
    columns = torch.arange(steps_y, device=device)
    last_y = (length_y - 1).clamp(min=0)[:, None]
    center = rows / (length_x - 1).clamp(min=1)[:, None] * last_y
    width = band * last_y + _ROUNDING
    low, high = (center - width).ceil().clamp(min=0), (center + width).floor()
    single = (length_x == 1)[:, None]  # one step is matched with all others
    low, high = torch.where(single, 0, low), torch.where(single, last_y, high)
    high = torch.minimum(high, last_y)
    inside = rows < length_x[:, None]
    fits = (low <= high) | ~inside
    fits[:, 1:] &= (low[:, 1:] <= high[:, :-1] + 1) | ~inside[:, 1:]
    fits |= (length_y < 1)[:, None]
    if not bool(fits.all()):
        pair = int((~fits.all(1)).nonzero()[0])
        raise DataError(
            f"band must leave a path from the first steps to the last ones, got {band}"
            f" for lengths {int(length_x[pair])} and {int(length_y[pair])} of pair"
            f" {pair}. Widen the band.",
            parameter="band",
        )
    return (columns >= low[:, :, None]) & (columns <= high[:, :, None])


def _within(lengths: Int[Tensor, " B"], steps: int) -> Bool[Tensor, "B T"]:
    return torch.arange(steps, device=lengths.device) < lengths[:, None]


def _clean(name: str, x: Tensor, lengths: Tensor, steps: int) -> Tensor:
    """Return sequences ``[B, steps, C]`` with zeros behind their ends."""
    x = at_least_float(x)
    clean = torch.where(_within(lengths, x.shape[1])[:, :, None], x, 0)
    _check_finite(name, clean)
    return F.pad(clean, (0, 0, 0, steps - x.shape[1]))


def _check_options(gamma: object, band: object) -> None:
    if not isinstance(gamma, Real) or not 0 <= float(gamma) < float("inf"):
        raise ConfigError(
            f"gamma must be a number of at least 0, got {gamma!r}.", parameter="gamma"
        )
    if band is not None and (not isinstance(band, Real) or not 0 <= float(band) <= 1):
        raise ConfigError(
            f"band must be a number from 0 to 1, a share of the longer sequence, got"
            f" {band!r}.",
            parameter="band",
        )


def _check_tensor(name: str, x: object, shape: str) -> None:
    if isinstance(x, Tensor) and x.ndim == 3 and x.is_floating_point():
        return
    got = type(x).__name__
    if isinstance(x, Tensor):
        got = f"{str(x.dtype).removeprefix('torch.')} of shape {list(x.shape)}"
    raise DataError(
        f"{name} must be a tensor {shape} of floating-point numbers, got {got}.",
        "Pad sequences of unequal lengths, and pass lengths_x and lengths_y.",
        parameter=name,
    )


def _read_lengths(
    name: str, lengths: Tensor | None, count: int, steps: int, device: torch.device
) -> Int[Tensor, " B"]:
    """Return the lengths as int64 ``[B]`` on a device, by default all ``steps``."""
    if lengths is None:
        return torch.full((count,), steps, device=device)
    if (
        not isinstance(lengths, Tensor)
        or lengths.shape != (count,)
        or lengths.is_floating_point()
    ):
        raise DataError(
            f"{name} must be a tensor of {count} whole numbers, one per pair, got"
            f" {lengths!r}.",
            parameter=name,
        )
    lengths = lengths.to(device, torch.int64)
    if not bool(((lengths >= 0) & (lengths <= steps)).all()):
        raise DataError(
            f"{name} must be between 0 and the {steps} steps of the batch, got"
            f" {int(lengths.min())} to {int(lengths.max())}.",
            parameter=name,
        )
    return lengths


def _check_finite(name: str, clean: Tensor) -> None:
    if not bool(clean.isfinite().all()):
        pair = int((~clean.isfinite().flatten(1).all(1)).nonzero()[0])
        raise DataError(
            f"{name} must be finite within the lengths of the sequences, got NaN or an"
            f" infinite value in pair {pair}.",
            "Pass lengths_x and lengths_y if the sequences are padded.",
            parameter=name,
        )
