"""Gradient boosting of scikit-learn, copied into plain trees.

Letters: ``N`` rows, ``F`` features, ``I`` selected features, ``K`` outputs, ``S``
trees.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mmgraph.errors import ConfigError
from mmgraph.experts.trees import PlainTree
from mmgraph.nn.heads import Classification, MultiLabel, Survival, Task

ITERATIONS, MIN_ITERATIONS, MAX_TREES = 150, 40, 600
MIN_LEAF, MAX_LEAF, LEAVES = 20, 50, 40  # rows of the smallest leaf: rows / LEAVES
MAX_INPUTS = 1500  # the time of a fit grows with features even if rows are few
UNSEEN = -10.0  # score of a class without training rows
OPTIONS: dict[str, Any] = {
    "max_leaf_nodes": 15,
    "l2_regularization": 3.0,
    "max_features": 0.2,
    "early_stopping": False,
}


def boosted_trees(
    x: npt.NDArray[np.float32],
    target: npt.NDArray[np.float32],
    task: Task,
    seed: int,
    weight: npt.NDArray[np.float32] | None = None,
) -> list[PlainTree] | None:
    """Fit histogram gradient boosting; its raw scores are the mean of the trees.

    If there are more than 1500 features, those with the largest absolute correlation
    with a target are used.

    Args:
        x: ``[N, F]`` finite features.
        target: ``[N, K]`` one-hot classes, labels, values or events per exposure.
        task: Prediction task.
        seed: Seed of the features that are sampled for splits.
        weight: ``[N]`` sample weights; None weights all samples equally.

    Returns:
        ``S`` trees of ``K`` outputs; None if a target has fewer than two classes.

    References:
        Greedy Function Approximation: A Gradient Boosting Machine, Friedman, 2001.
        Sure Independence Screening for Ultrahigh Dimensional Feature Space, Fan, Lv,
        2008.
    """
    used = _screen(x, target)
    fitted = _fit_task(x[:, used], target, task, seed, weight)
    return None if fitted is None else _to_trees(fitted, used, x.shape[1])


def _screen(
    x: npt.NDArray[np.float32], target: npt.NDArray[np.float32]
) -> npt.NDArray[np.int64]:
    """Select features by their largest correlation with a target, ``[I]`` ascending."""
    if x.shape[1] <= MAX_INPUTS:
        return np.arange(x.shape[1])
    slope = np.abs((x - x.mean(0)).T @ (target - target.mean(0))).max(1)
    score = slope / (x.std(0) + 1e-6)  # inputs are standardized, or nearly constant
    return np.sort(np.argsort(-score, kind="stable")[:MAX_INPUTS])


@dataclass(frozen=True)
class _Boosted:
    """Fitted models of scikit-learn.

    Attributes:
        models: Tree k of an iteration of model i predicts ``outputs[i][k]``.
        outputs: Output of each tree of an iteration, by model.
        start: ``[K]`` scores to which the models are added.
    """

    models: list[Any]
    outputs: list[list[int]]
    start: npt.NDArray[np.float64]


def _fit_task(
    x: npt.NDArray[np.float32],
    target: npt.NDArray[np.float32],
    task: Task,
    seed: int,
    weight: npt.NDArray[np.float32] | None,
) -> _Boosted | None:
    """Fit the models of a task to ``[N, I]``; None with fewer than two classes."""
    if isinstance(task, Classification):
        return _fit_classes(x, target, seed, weight)
    if isinstance(task, Survival):
        if not (target > 0).any():
            return None
        model = _fit(x, target[:, 0], None, seed, weight, loss="poisson")
        return _Boosted([model], [[0]], np.zeros(1))
    classes = 2 if isinstance(task, MultiLabel) else None
    if classes and any(len(np.unique(y)) < 2 for y in target.T):
        return None
    models = [_fit(x, y, classes, seed, weight) for y in target.T]
    outputs = [[k] for k in range(len(models))]
    return _Boosted(models, outputs, np.zeros(len(models)))


def _fit_classes(
    x: npt.NDArray[np.float32],
    target: npt.NDArray[np.float32],
    seed: int,
    weight: npt.NDArray[np.float32] | None,
) -> _Boosted | None:
    """Fit one model of all classes that have rows; the others get a low score."""
    y = target.argmax(1)
    observed = np.unique(y)
    if len(observed) < 2:
        return None
    start = np.full(target.shape[1], UNSEEN)
    start[observed] = 0.0
    # two classes: one tree of log-odds per iteration
    outputs = observed[1:] if len(observed) == 2 else observed
    model = _fit(x, y, len(observed), seed, weight)
    return _Boosted([model], [outputs.tolist()], start)


def _fit(
    x: npt.NDArray[np.float32],
    y: npt.NDArray[Any],
    num_classes: int | None,
    seed: int,
    weight: npt.NDArray[np.float32] | None,
    **options: str,
) -> Any:  # noqa: ANN401
    """Fit a model: a classifier, or a regressor if ``num_classes`` is None."""
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
        **options,
    )
    return model.fit(x, y, sample_weight=weight)


class BoostingState(NamedTuple):
    """Fitted content of a histogram gradient boosting model of scikit-learn.

    Attributes:
        baseline: Scores before the first iteration, one for each tree of an iteration.
        nodes: Nodes of each tree, ``nodes[iteration][k]``, as a structured array.
    """

    baseline: npt.NDArray[np.float64]
    nodes: list[list[npt.NDArray[Any]]]


SUPPORTED = "1.4 to 1.9"
NODE_FIELDS = {"value", "feature_idx", "num_threshold", "left", "right"}
NODE_FIELDS |= {"is_leaf", "depth"}


def read_boosting(model: Any) -> BoostingState:  # noqa: ANN401
    """Read the trees of a fitted ``HistGradientBoosting`` model of scikit-learn.

    The only place that reads private attributes of scikit-learn.

    Args:
        model: Fitted ``HistGradientBoostingClassifier`` or ``...Regressor``.

    Raises:
        ConfigError: If the installed version of scikit-learn stores them in another
            way.
    """
    try:
        baseline = np.asarray(model._baseline_prediction, dtype=np.float64).ravel()
        nodes = [[tree.nodes for tree in stage] for stage in model._predictors]
        lacking = sorted(NODE_FIELDS - set(nodes[0][0].dtype.names))
        faults = [f"no field {name!r} of nodes" for name in lacking]
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        faults = [str(error)]
    if faults:
        import sklearn

        raise ConfigError(
            f"Boosted trees must have the structure of scikit-learn {SUPPORTED}, got "
            f"scikit-learn {sklearn.__version__}: {', '.join(faults)}.",
            "Install a supported version, or leave 'joint' out of experts.",
        )
    return BoostingState(baseline, nodes)


def _to_trees(
    fitted: _Boosted, used: npt.NDArray[np.int64], num_features: int
) -> list[PlainTree]:
    """Copy the trees of fitted models; the mean of the trees is the sum of the models.

    Args:
        fitted: Models that were fitted on the selected features.
        used: ``[I]`` indices of the selected features.
        num_features: ``F``.
    """
    parts, start = [], fitted.start.copy()
    for model, columns in zip(fitted.models, fitted.outputs, strict=True):
        state = read_boosting(model)
        start[columns] += state.baseline
        for stage in state.nodes:
            parts += [(stage[k], output) for k, output in enumerate(columns)]
    return [
        _to_tree(nodes, used[nodes["feature_idx"]], k, len(parts), start, num_features)
        for nodes, k in parts
    ]


def _to_tree(
    nodes: npt.NDArray[Any],
    feature: npt.NDArray[np.int64],
    output: int,
    num_trees: int,
    start: npt.NDArray[np.float64],
    num_features: int,
) -> PlainTree:
    """Copy one tree, with ``num_trees`` times its values added to ``start``."""
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
