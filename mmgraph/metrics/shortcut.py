"""Informative missingness: how well presence alone predicts the label.

Letters: ``N`` samples, ``M`` modalities.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.metrics.bootstrap import MIN_GROUPS, FloatArray, Interval
from mmgraph.metrics.classification import auroc

FOLDS = 5
NORMAL = 1.96  # bounds of 95% in standard errors


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
) -> Interval:
    """Return :func:`presence_auroc` with a 95% confidence interval.

    Args:
        present: ``[N, M]`` True where a modality is observed.
        y: ``[N]`` known classes.
        groups: ``[N]`` groups whose samples are dependent, if there are at least 10;
            None: no groups.

    Returns:
        The AUROC; the bounds are 0.5 if all samples have the same modalities.

    References:
        Comparing the Areas under Two or More Correlated Receiver Operating
        Characteristic Curves: A Nonparametric Approach, DeLong, DeLong,
        Clarke-Pearson, 1988.
    """
    codes = np.unique(y, return_inverse=True)[1].astype(np.int64)
    area, proba = presence_auroc(present, codes)
    if proba is None:
        return Interval(area, 0.5, 0.5)
    classes = range(1 if proba.shape[1] == 2 else 0, proba.shape[1])
    influence = np.mean([_influence(proba[:, k], codes == k) for k in classes], axis=0)
    units = None if groups is None else np.unique(groups, return_inverse=True)[1]
    if units is not None and units.max() + 1 >= MIN_GROUPS:
        influence = np.bincount(units, influence)
    half = NORMAL * float(np.sqrt(np.square(influence).sum()))
    return Interval(area, area - half, area + half)


def _influence(score: FloatArray, positive: npt.NDArray[np.bool_]) -> FloatArray:
    """Return the influence ``[N]`` of each sample on the AUROC of a score."""
    from scipy.stats import rankdata

    influence = np.empty(len(score))
    ranks = rankdata(score)
    for own in (positive, ~positive):
        ahead = (ranks[own] - rankdata(score[own])) / (~own).sum()
        influence[own] = (ahead - ahead.mean()) / own.sum()
    return np.where(positive, influence, -influence)
