"""Regression metrics.

Letters: `N` samples, `K` targets.
"""

from mmgraph.metrics.validation import Array, check_targets


def r2(y: Array, predicted: Array) -> float:
    """Return the coefficient of determination, averaged over targets.

    Args:
        y: Targets, [N] or [N, K].
        predicted: Predicted targets of the same shape.

    Returns:
        A value <= 1, 0 for predicting the mean; nan for fewer than two samples.

    Raises:
        DataError: If the shapes differ, or numbers are not finite.

    Example:
        >>> import numpy as np
        >>> metrics.r2(np.array([1.0, 2.0, 3.0]), np.array([1.5, 2.0, 2.5]))
        0.75
    """
    from sklearn.metrics import r2_score

    check_targets(y, predicted)
    return float(r2_score(y, predicted)) if len(y) > 1 else float("nan")


def rmse(y: Array, predicted: Array) -> float:
    """Return the root mean squared error, averaged over targets.

    Args:
        y: Targets, [N] or [N, K].
        predicted: Predicted targets of the same shape.

    Returns:
        An error >= 0 in the unit of y; nan without samples.

    Raises:
        DataError: If the shapes differ, or numbers are not finite.
    """
    from sklearn.metrics import root_mean_squared_error

    check_targets(y, predicted)
    return float(root_mean_squared_error(y, predicted)) if len(y) else float("nan")


def regression_scores(y: Array, predicted: Array) -> dict[str, float]:
    """Return all regression metrics by name.

    Args:
        y: Targets, [N] or [N, K].
        predicted: Predicted targets of the same shape.

    Returns:
        r2 and rmse; nan with too few samples.

    Raises:
        DataError: If the shapes differ, or numbers are not finite.
    """
    return {"r2": r2(y, predicted), "rmse": rmse(y, predicted)}
