"""Gradient boosting of scikit-learn as plain trees.

Letters: ``N`` rows, ``F`` features, ``I`` of them that are used, ``K`` outputs, ``S``
trees.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.experts.trees import PlainTree
from mmgraph.nn.heads import Classification, MultiLabel, Task

ITERATIONS, MIN_ITERATIONS, MAX_TREES = 150, 40, 600
MIN_LEAF, MAX_LEAF, LEAVES = 20, 50, 40  # rows of the smallest leaf: rows / LEAVES
MAX_INPUTS = 1500  # the time of a fit grows with features even where rows are few
UNSEEN = -10.0  # score of a class that a fit has not seen
OPTIONS: dict[str, Any] = {
    "max_leaf_nodes": 15,
    "l2_regularization": 3.0,
    "max_features": 0.2,
    "early_stopping": False,
}


def boosted_trees(
    x: npt.NDArray[np.float32], target: npt.NDArray[np.float32], task: Task, seed: int
) -> list[PlainTree] | None:
    """Fit histogram gradient boosting; its raw scores are the mean of the trees.

    Of more than 1500 features those are used that go most with a target alone.

    References:
        Sure Independence Screening for Ultrahigh Dimensional Feature Space, Fan, Lv,
        2008.

    Args:
        x: ``[N, F]`` finite features.
        target: ``[N, K]`` One-hot classes, labels or values.
        task: What is predicted.
        seed: Of the features that splits choose from.

    Returns:
        ``S`` trees of ``K`` outputs; None where a target has fewer than two classes.
    """
    used = _screen(x, target)
    fitted = _fit_task(x[:, used], target, task, seed)
    return None if fitted is None else _as_trees(fitted, used, x.shape[1])


def _screen(
    x: npt.NDArray[np.float32], target: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    """Choose features by their largest correlation with a target, ``[I]`` ascending."""
    if x.shape[1] <= MAX_INPUTS:
        return np.arange(x.shape[1])
    slope = np.abs((x - x.mean(0)).T @ (target - target.mean(0))).max(1)
    score = slope / (x.std(0) + 1e-6)  # inputs are standardised, or nearly constant
    return np.sort(np.argsort(-score, kind="stable")[:MAX_INPUTS])


@dataclass(frozen=True)
class _Boosted:
    """Fitted models of scikit-learn.

    Attributes:
        models: Tree k of an iteration of model i is of ``outputs[i][k]``.
        outputs: The output of each tree of an iteration.
        start: ``[K]`` scores before the models speak.
    """

    models: list[Any]
    outputs: list[list[int]]
    start: npt.NDArray[np.float64]


def _fit_task(
    x: npt.NDArray[np.float32], target: npt.NDArray[np.float32], task: Task, seed: int
) -> _Boosted | None:
    """Fit the models of a task to ``[N, I]``; None with fewer than two classes."""
    if isinstance(task, Classification):
        return _of_classes(x, target, seed)
    classes = 2 if isinstance(task, MultiLabel) else None
    if classes and any(len(np.unique(y)) < 2 for y in target.T):
        return None
    models = [_fit(x, y, classes, seed) for y in target.T]
    outputs = [[k] for k in range(len(models))]
    return _Boosted(models, outputs, np.zeros(len(models)))


def _of_classes(
    x: npt.NDArray[np.float32], target: npt.NDArray[np.float32], seed: int
) -> _Boosted | None:
    """Fit one model of all classes that are there; the others are improbable."""
    y = target.argmax(1)
    known = np.unique(y)
    if len(known) < 2:
        return None
    start = np.full(target.shape[1], UNSEEN)
    start[known] = 0.0
    outputs = known[1:] if len(known) == 2 else known  # two classes: one log-odds
    return _Boosted([_fit(x, y, len(known), seed)], [outputs.tolist()], start)


def _fit(
    x: npt.NDArray[np.float32],
    y: npt.NDArray[Any],
    num_classes: int | None,
    seed: int,
) -> Any:  # noqa: ANN401
    """Fit one model; None classes are values."""
    from sklearn import ensemble

    if num_classes is None or num_classes == 2:
        rate, iterations = 0.05, ITERATIONS
    else:
        rate = 0.08
        iterations = min(ITERATIONS, max(MIN_ITERATIONS, MAX_TREES // num_classes))
    task = "Regressor" if num_classes is None else "Classifier"
    kind = getattr(ensemble, f"HistGradientBoosting{task}")
    model = kind(
        learning_rate=rate,
        max_iter=iterations,
        min_samples_leaf=min(max(len(x) // LEAVES, MIN_LEAF), MAX_LEAF),
        random_state=seed,
        **OPTIONS,
    )
    return model.fit(x, y)


def _as_trees(
    fitted: _Boosted, used: npt.NDArray[np.int64], num_features: int
) -> list[PlainTree]:
    """Copy the trees of fitted models; their mean is what the models add up to.

    Args:
        fitted: Of the features that are used.
        used: ``[I]`` their numbers.
        num_features: ``F``.
    """
    parts, start = [], fitted.start.copy()
    for model, columns in zip(fitted.models, fitted.outputs, strict=True):
        start[columns] += model._baseline_prediction.ravel()
        for stage in model._predictors:
            parts += [(stage[k].nodes, output) for k, output in enumerate(columns)]
    return [
        _as_tree(nodes, used[nodes["feature_idx"]], k, len(parts), start, num_features)
        for nodes, k in parts
    ]


def _as_tree(
    nodes: npt.NDArray[Any],
    feature: npt.NDArray[np.int64],
    output: int,
    num_trees: int,
    start: npt.NDArray[np.float64],
    num_features: int,
) -> PlainTree:
    """Copy one tree; it says ``num_trees`` times its own value, and the start."""
    leaf = nodes["is_leaf"].astype(bool)
    value = np.tile(start[None, :, None], (len(nodes), 1, 1))
    value[:, output, 0] += num_trees * nodes["value"]
    return PlainTree(
        children_left=np.where(leaf, -1, nodes["left"].astype(np.int64)),
        children_right=np.where(leaf, -1, nodes["right"].astype(np.int64)),
        feature=np.where(leaf, 0, feature),
        threshold=nodes["num_threshold"].astype(np.float64),
        value=value,
        n_features=num_features,
        max_depth=int(nodes["depth"].max()),
    )
