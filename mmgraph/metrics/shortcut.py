"""Informative missingness: how well presence alone predicts the label.

Letters: ``N`` samples, ``M`` modalities.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.metrics.bootstrap import FloatArray, Interval
from mmgraph.metrics.classification import auroc

FOLDS = 5
RESAMPLES = 200


def presence_auroc(
    present: npt.NDArray[np.bool_], codes: npt.NDArray[np.int64]
) -> tuple[float, FloatArray | None]:
    """Return the AUROC of a logistic regression on the presence mask alone.

    Cross-validated in 5 stratified folds (fewer if a class is small). 0.5 means that
    missingness is not informative; it is 0.5 if all samples have the same modalities.

    Args:
        present: ``[N, M]`` True where a modality is observed.
        codes: ``[N]`` classes from 0, each with a sample.

    Returns:
        The AUROC, and the out-of-fold class probabilities; None if there are none.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    counts = np.bincount(codes)
    folds = int(min(FOLDS, counts.min())) if len(counts) > 1 else 0
    if folds < 2 or (present == present[0]).all():
        return 0.5, None
    proba = cross_val_predict(
        LogisticRegression(max_iter=1000),
        present.astype(float),
        codes,
        cv=StratifiedKFold(folds, shuffle=True, random_state=0),
        method="predict_proba",
    )
    return float(auroc(codes, proba)), proba


def presence_interval(
    present: npt.NDArray[np.bool_],
    y: npt.NDArray[Any],
    groups: npt.NDArray[Any] | None = None,
    *,
    seed: int = 0,
) -> Interval:
    """Return :func:`presence_auroc` with a 95% bootstrap interval.

    Args:
        present: ``[N, M]`` True where a modality is observed.
        y: ``[N]`` known classes.
        groups: ``[N]`` groups that are resampled as a whole; None: samples.
        seed: Seed of the resamples.

    Returns:
        The AUROC; the bounds are 0.5 if all samples have the same modalities.
    """
    codes = np.unique(y, return_inverse=True)[1].astype(np.int64)
    area, proba = presence_auroc(present, codes)
    if proba is None:
        return Interval(area, 0.5, 0.5)
    rng = np.random.default_rng(seed)
    units = np.arange(len(codes)) if groups is None else np.unique(groups, return_inverse=True)[1]
    members = np.split(np.argsort(units, kind="stable"), np.cumsum(np.bincount(units))[:-1])
    drawn = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(len(members), size=len(members))
        rows = np.concatenate([members[i] for i in chosen])
        drawn.append(auroc(codes[rows], proba[rows]))
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return Interval(area, float(low), float(high))
