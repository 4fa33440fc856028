"""Losses that are no longer finite: the cause, and a warning.

Training then stops, and every member keeps its best validated parameters.

Letters: ``B`` samples, ``M`` modalities.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from mmgraph.data.column import AnyArray

MAX_IDS = 5


class DivergenceError(Exception):
    """A loss that is not finite; the message names samples and modalities."""


def describe_cause(
    overflows: Callable[[Tensor], Tensor],
    present: Tensor,
    names: Sequence[str],
    ids: AnyArray | None,
    *,
    batch: str = "the batch",
) -> str:
    """Return which samples and modalities of a batch have no finite outputs.

    A modality is named if the outputs from it alone are not finite; without any, all
    modalities of the batch are named.

    Args:
        overflows: Maps used modalities ``[B, M]`` to the samples ``[B]`` whose outputs
            are not finite.
        present: ``[B, M]`` Bool.
        names: Names of the modalities.
        ids: ``[B]`` ids of the samples, or None.
        batch: Name of the batch.
    """
    samples = np.flatnonzero(overflows(present).cpu().numpy())
    causes = []
    for m, name in enumerate(names):
        alone = torch.zeros_like(present)
        alone[:, m] = present[:, m]
        if bool((overflows(alone) & alone[:, m]).any()):
            causes.append(name)
    seen = [n for n, any_seen in zip(names, present.any(0), strict=True) if any_seen]
    modalities = f"modalities {', '.join(causes or seen) or 'none'}"
    if not len(samples):
        return f"no single sample of {len(present)} of {batch}, {modalities}"
    shown = (samples if ids is None else ids[samples])[:MAX_IDS].tolist()
    which = ", ".join(map(repr, shown)) + (", ..." if len(samples) > MAX_IDS else "")
    what = "rows" if ids is None else "ids"
    count = f"{len(samples)} of {len(present)} samples"
    return f"{count} of {batch} ({what} {which}), {modalities}"


def warn_divergence(step: int, cause: object, learning_rate: float) -> None:
    """Warn that training stopped because its loss is not finite.

    Args:
        step: Number of the optimizer step, and so of the batch.
        cause: Description of samples and modalities.
        learning_rate: Learning rate of the training.
    """
    from sklearn.exceptions import ConvergenceWarning

    warnings.warn(
        f"The loss of graph networks must be finite, got nan or infinity at step "
        f"{step}: {cause}. Training stopped; the best validated parameters are kept. "
        f"Lower learning_rate={learning_rate:g}, or check the values of these samples.",
        ConvergenceWarning,
        stacklevel=2,
    )
