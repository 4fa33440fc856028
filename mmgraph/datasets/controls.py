"""Controls: synthetic sets whose law is known, so that a result can be wrong.

A method that cannot reach the score that the law allows, or that does better than it
allows, has a fault. Shapes: N samples.
"""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from mmgraph.data import MultimodalData
from mmgraph.errors import DataError

CONTROLS: Mapping[str, str] = {
    "redundant": "Control: four noisy copies of one latent",
    "shortcut": "Control: missingness itself predicts the label",
    "synergy": "Control: the label depends on a product across modalities",
}

Blocks = dict[str, NDArray[np.float64]]


def synthetic(name: str, num_samples: int = 600, seed: int = 0) -> MultimodalData:
    r"""Draw a control with two classes.

    With standard normal :math:`a, b, u, \epsilon` and the logistic function
    :math:`\sigma`:

    *synergy*: modalities ``a`` and ``b`` of 4 channels each, nothing missing,

    .. math:: P(y = 1) = \sigma(3\, a_0 b_0 + a_1 + b_1).

    Each modality alone knows only its own linear term, so fusing decisions late
    cannot use the product; a model that lets modalities interact can.

    *redundant*: ``copy_0`` to ``copy_3`` of 3 channels each, nothing missing,

    .. math:: x_m = u + \epsilon_m, \quad P(y = 1) = \sigma(6\, (u_0 - u_1)).

    The copies are independent given the latent, so averaging experts is all that
    can be gained.

    *shortcut*: ``always`` and ``sometimes`` of 4 channels each,

    .. math:: P(y = 1) = 1/2, \quad
        x_{m,0} = 0.4\, (2y - 1) + \epsilon_{m,0}, \quad
        P(\mathrm{sometimes\ present} \mid y) = 0.9\ \mathrm{if}\ y = 1\
        \mathrm{else}\ 0.3.

    The mask alone has an expected AUROC of .8, more than either content has
    (.71). A model that uses it fails where the missingness changes.

    Args:
        name: ``"synergy"``, ``"redundant"`` or ``"shortcut"``.
        num_samples: N, at least 1.
        seed: Of the generator; the same seed gives the same samples.

    Returns:
        The samples, with ``y`` 0 or 1.

    Raises:
        DataError: If the name is unknown or `num_samples` is below 1.

    Example:
        >>> from mmgraph.datasets import synthetic
        >>> synthetic("synergy", num_samples=10).shape
        (10, 2)
    """
    if name not in _LAWS:
        raise DataError(
            f"synthetic: name must be one of {sorted(_LAWS)}, got {name!r}."
        )
    if num_samples < 1:
        raise DataError(
            f"synthetic: num_samples must be at least 1, got {num_samples}."
        )
    blocks, y = _LAWS[name](num_samples, np.random.default_rng(seed))
    return MultimodalData.from_arrays(blocks, y=y)


def _synergy(
    num_samples: int, rng: np.random.Generator
) -> tuple[Blocks, NDArray[np.int64]]:
    a, b = rng.standard_normal((2, num_samples, 4))
    return {"a": a, "b": b}, _toss(3 * a[:, 0] * b[:, 0] + a[:, 1] + b[:, 1], rng)


def _redundant(
    num_samples: int, rng: np.random.Generator
) -> tuple[Blocks, NDArray[np.int64]]:
    latent = rng.standard_normal((num_samples, 3))
    copies = latent + rng.standard_normal((4, num_samples, 3))
    y = _toss(6 * (latent[:, 0] - latent[:, 1]), rng)
    return {f"copy_{m}": copy for m, copy in enumerate(copies)}, y


def _shortcut(
    num_samples: int, rng: np.random.Generator
) -> tuple[Blocks, NDArray[np.int64]]:
    y = rng.integers(2, size=num_samples)
    always, sometimes = rng.standard_normal((2, num_samples, 4))
    always[:, 0] += 0.4 * (2 * y - 1)
    sometimes[:, 0] += 0.4 * (2 * y - 1)
    present = rng.random(num_samples) < np.where(y == 1, 0.9, 0.3)
    return {
        "always": always,
        "sometimes": np.where(present[:, None], sometimes, np.nan),
    }, y


def _toss(logit: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw 0 or 1 with the probability that the logit stands for."""
    probability = 1 / (1 + np.exp(-logit))
    return (rng.random(len(logit)) < probability).astype(np.int64)


_LAWS: dict[
    str,
    Callable[[int, np.random.Generator], tuple[Blocks, NDArray[np.int64]]],
] = {"redundant": _redundant, "shortcut": _shortcut, "synergy": _synergy}
