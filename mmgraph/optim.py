"""Minimising smooth losses of few parameters."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


def minimize(
    parameters: Iterable[Tensor], loss: Callable[[], Tensor], max_iter: int
) -> None:
    """Move parameters to where a loss is smallest, by L-BFGS.

    Args:
        parameters: Leaves that require a gradient; they are changed in place.
        loss: Of these parameters, a scalar; it must draw nothing at random.
        max_iter: Most iterations.
    """
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=max_iter, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    optimiser.step(closure)
