"""The scikit-learn classifiers that several baselines are made of."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NUM_TREES = 300


def make_logistic(seed: int) -> Any:  # noqa: ANN401
    """Return an unfitted logistic regression."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=5000, random_state=seed)


def make_forest(seed: int) -> Any:  # noqa: ANN401
    """Return an unfitted random forest."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(NUM_TREES, random_state=seed, n_jobs=1)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide what scikit-learn says about a fit that is not quite converged.

    After 5000 iterations the rest does not matter for a comparison.
    """
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
