"""Classifiers of scikit-learn that several baselines use."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NUM_TREES = 300
NUM_ROUNDS = 100  # of gradient boosting


def make_logistic(seed: int) -> Any:  # noqa: ANN401
    """Return an unfitted logistic regression."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=5000, random_state=seed)


def make_forest(seed: int) -> Any:  # noqa: ANN401
    """Return an unfitted random forest."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(NUM_TREES, random_state=seed, n_jobs=1)


def make_extra_trees(seed: int, min_samples_leaf: int) -> Any:  # noqa: ANN401
    """Return an unfitted classifier of extremely random trees."""
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(
        NUM_TREES, min_samples_leaf=min_samples_leaf, random_state=seed, n_jobs=1
    )


def make_boosting(seed: int, early_stopping: bool | str) -> Any:  # noqa: ANN401
    """Return an unfitted classifier of histogram gradient boosting."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=NUM_ROUNDS, early_stopping=early_stopping, random_state=seed
    )


@contextmanager
def ignore_convergence_warnings() -> Iterator[None]:
    """Ignore the warning of scikit-learn that a fit has not converged.

    After 5000 iterations the difference is negligible for a comparison.
    """
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        yield
