"""Minimization of smooth losses of few parameters."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def minimize(
    parameters: Iterable[Tensor], loss: Callable[[], Tensor], max_iter: int
) -> None:
    """Minimize a loss by L-BFGS with strong Wolfe line search.

    Args:
        parameters: Leaf tensors that require a gradient; changed in place.
        loss: Returns the loss of the current parameters, a scalar. It must be
            deterministic.
        max_iter: Maximum number of iterations.

    References:
        On the Limited Memory BFGS Method for Large Scale Optimization, Liu, Nocedal,
        1989.
    """
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=max_iter, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
