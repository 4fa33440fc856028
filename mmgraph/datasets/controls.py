"""Synthetic controls: data sets with a known distribution.

The best possible score is known. A method that stays below it misses structure, and
one that exceeds it has a leak. Shapes: N samples.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.data import MultimodalData
from mmgraph.errors import DataError

CONTROLS: Mapping[str, str] = {
    "redundant": "Control: four noisy copies of one latent",
    "shortcut": "Control: missingness itself predicts the label",
    "spurious": "Control: a modality agrees with the label at one of two sites only",
    "synergy": "Control: the label depends on a product across modalities",
}

Blocks = dict[str, NDArray[np.float64]]
Draw = tuple[Blocks, NDArray[np.int64], NDArray[Any] | None]


def synthetic(name: str, num_samples: int = 600, seed: int = 0) -> MultimodalData:
    r"""Draw a synthetic data set with two classes.

    With standard normal :math:`a, b, u, \epsilon` and the logistic function
    :math:`\sigma`:

    *synergy*: modalities ``a`` and ``b`` of 4 channels each, nothing missing,

    .. math:: P(y = 1) = \sigma(3\, a_0 b_0 + a_1 + b_1).

    Each modality alone predicts only its linear term: late fusion cannot represent
    the product, a model with cross-modal interactions can.

    *redundant*: ``copy_0`` to ``copy_3`` of 3 channels each, nothing missing,

    .. math:: x_m = u + \epsilon_m, \quad P(y = 1) = \sigma(6\, (u_0 - u_1)).

    The copies are independent given the latent variable: averaging base learners is
    optimal.

    *shortcut*: ``always`` and ``sometimes`` of 4 channels each,

    .. math:: P(y = 1) = 1/2, \quad
        x_{m,0} = 0.4\, (2y - 1) + \epsilon_{m,0}, \quad
        P(\mathrm{sometimes\ present} \mid y) = 0.9\ \mathrm{if}\ y = 1\
        \mathrm{else}\ 0.3.

    The availability alone has an expected AUROC of 0.8, the values of each modality
    0.71. A model that uses the availability as a shortcut fails when the missingness
    mechanism changes.

    *spurious*: ``signal`` and ``cue`` of 4 channels each, nothing missing, and two
    sites of equal size as groups,

    .. math:: P(y = 1) = 1/2, \quad
        \mathrm{signal}_0 = 0.4\, (2y - 1) + \epsilon_{m,0}, \quad
        \mathrm{cue}_0 = a\, (2y - 1) + 0.3\, \epsilon_{m,0},

    where :math:`a` is 1 with probability 0.95 at ``site_a`` and 0.05 at ``site_b``, and
    otherwise -1. A model that is trained at ``site_a`` relies on the cue and is worse
    than chance at ``site_b``; the share of the cue changes its sign between the groups.

    Args:
        name: ``"synergy"``, ``"redundant"``, ``"shortcut"`` or ``"spurious"``.
        num_samples: N, at least 1.
        seed: Seed of the generator; the same seed gives the same samples.

    Returns:
        Data with labels 0 and 1.

    Raises:
        DataError: If the name is unknown or `num_samples` is below 1.

    Example:
        >>> from mmgraph.datasets import synthetic
        >>> synthetic("synergy", num_samples=10).shape
        (10, 2)
    """
    if name not in _GENERATORS:
        raise DataError(
            f"synthetic: name must be one of {sorted(_GENERATORS)}, got {name!r}. "
            "Check the spelling."
        )
    if num_samples < 1:
        raise DataError(
            f"synthetic: num_samples must be at least 1, got {num_samples}. "
            "Increase it."
        )
    blocks, y, groups = _GENERATORS[name](num_samples, np.random.default_rng(seed))
    return MultimodalData.from_arrays(blocks, y=y, groups=groups)


def _synergy(num_samples: int, rng: np.random.Generator) -> Draw:
    a, b = rng.standard_normal((2, num_samples, 4))
    logit = 3 * a[:, 0] * b[:, 0] + a[:, 1] + b[:, 1]
    return {"a": a, "b": b}, _sample_labels(logit, rng), None


def _redundant(num_samples: int, rng: np.random.Generator) -> Draw:
    latent = rng.standard_normal((num_samples, 3))
    copies = latent + rng.standard_normal((4, num_samples, 3))
    y = _sample_labels(6 * (latent[:, 0] - latent[:, 1]), rng)
    return {f"copy_{m}": copy for m, copy in enumerate(copies)}, y, None


def _shortcut(num_samples: int, rng: np.random.Generator) -> Draw:
    y = rng.integers(2, size=num_samples)
    always, sometimes = rng.standard_normal((2, num_samples, 4))
    always[:, 0] += 0.4 * (2 * y - 1)
    sometimes[:, 0] += 0.4 * (2 * y - 1)
    present = rng.random(num_samples) < np.where(y == 1, 0.9, 0.3)
    return (
        {
            "always": always,
            "sometimes": np.where(present[:, None], sometimes, np.nan),
        },
        y,
        None,
    )


def _spurious(num_samples: int, rng: np.random.Generator) -> Draw:
    y = rng.integers(2, size=num_samples)
    sites = np.where(np.arange(num_samples) % 2 == 0, "site_a", "site_b")
    signal, cue = rng.standard_normal((2, num_samples, 4))
    signal[:, 0] += 0.4 * (2 * y - 1)
    agrees = rng.random(num_samples) < np.where(sites == "site_a", 0.95, 0.05)
    cue[:, 0] = np.where(agrees, 1, -1) * (2 * y - 1) + 0.3 * cue[:, 0]
    return {"signal": signal, "cue": cue}, y, sites


def _sample_labels(
    logit: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw Bernoulli labels with the given logits."""
    probability = 1 / (1 + np.exp(-logit))
    return (rng.random(len(logit)) < probability).astype(np.int64)


_GENERATORS: dict[str, Callable[[int, np.random.Generator], Draw]] = {
    "redundant": _redundant,
    "shortcut": _shortcut,
    "spurious": _spurious,
    "synergy": _synergy,
}
