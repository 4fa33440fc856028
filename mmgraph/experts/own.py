"""Base learners of scikit-learn, given by the user.

Letters: ``n`` rows of a modality, ``F`` features, ``K`` outputs.
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, clone, is_classifier, is_regressor
from sklearn.utils import get_tags
from sklearn.utils.validation import has_fit_parameter
from torch import Tensor, nn

from mmgraph.errors import ConfigError
from mmgraph.experts.links import (
    EXPERT_KINDS,
    ExpertKind,
    Link,
    link_of,
    score_of_mean,
    targets_of,
)
from mmgraph.experts.submodels import PriorExpert
from mmgraph.nn.heads import Task

BaseLearners: TypeAlias = Sequence[ExpertKind | BaseEstimator | Mapping[str, Any]]
OwnLearners: TypeAlias = Sequence[Mapping[str, BaseEstimator]]
"""Unfitted estimator by modality, for each base learner of the user."""
Array: TypeAlias = npt.NDArray[Any]


def is_kind(item: object) -> TypeGuard[ExpertKind]:
    """Return True for the name of a kind of base learner."""
    return isinstance(item, str) and item in EXPERT_KINDS


def own_learners(items: BaseLearners, modalities: Sequence[str]) -> OwnLearners:
    """Return the estimators among base learners, by modality.

    Args:
        items: Names, estimators for every modality, and dicts of them by modality.
        modalities: Names of the modalities.

    Raises:
        ConfigError: If a dict names another modality.
    """
    learners: list[Mapping[str, BaseEstimator]] = []
    for item in items:
        if isinstance(item, Mapping):
            unknown = [name for name in item if name not in modalities]
            if unknown:
                raise ConfigError(
                    f"base_learners must name modalities ({', '.join(modalities)}), "
                    f"got {unknown[0]!r}. Check the spelling.",
                    parameter="base_learners",
                )
            learners.append(item)
        elif not isinstance(item, str):
            learners.append(dict.fromkeys(modalities, item))
    return learners


def check_own_learners(items: BaseLearners, classifies: bool) -> None:
    """Check that estimators predict what the model predicts.

    Args:
        items: Base learners.
        classifies: Whether the model is a classifier.

    Raises:
        ConfigError: If an estimator is of the other type, or has no probabilities.
    """
    given: list[Any] = [item for item in items if not isinstance(item, str | Mapping)]
    given += [x for item in items if isinstance(item, Mapping) for x in item.values()]
    for learner in given:
        rule = "classifiers with predict_proba" if classifies else "regressors"
        valid = is_classifier if classifies else is_regressor
        if not valid(learner) or (classifies and not hasattr(learner, "predict_proba")):
            raise ConfigError(
                f"base_learners must hold {rule}, got {type(learner).__name__}.",
                parameter="base_learners",
            )


class OwnExpert(nn.Module):
    """Fitted estimator of scikit-learn, on the scale of the link.

    Args:
        estimator: Fitted classifier or regressor.
        fill: ``[F]`` values of missing cells; None leaves them NaN.
        out_channels: ``K``.
        link: Link function of the task.
    """

    def __init__(
        self,
        estimator: BaseEstimator,
        fill: Array | None,
        out_channels: int,
        link: Link,
    ) -> None:
        super().__init__()
        self.estimator: Any = estimator
        self.fill, self.out_channels, self.link = fill, out_channels, link

    def forward(self, x: Tensor) -> Tensor:
        """Map features ``[n, F]``, NaN if missing, to scores ``[n, K]``."""
        values = np.zeros((len(x), self.out_channels))
        if len(x):
            values = self._predict(_filled(x, self.fill))
        return score_of_mean(torch.from_numpy(values).to(x), self.link)

    def _predict(self, features: Array) -> Array:
        if self.link == "identity":
            predicted = self.estimator.predict(features)
            return np.asarray(predicted, dtype=np.float64).reshape(len(features), -1)
        values = np.zeros((len(features), self.out_channels))
        values[:, self.estimator.classes_] = self.estimator.predict_proba(features)
        return values


def fit_own(
    learner: BaseEstimator,
    x: Tensor,
    y: Tensor,
    task: Task,
    folds: Tensor,
    prior: Tensor,
    *,
    seed: int = 0,
    weight: Tensor | None = None,
) -> tuple[Tensor, nn.Module]:
    """Fit clones of an estimator to all rows and, for each fold, to all others.

    Args:
        learner: Unfitted classifier or regressor.
        x: ``[n, F]`` features of the samples that have the modality.
        y: Encoded targets of these samples: classes ``[n]`` or values ``[n, K]``.
        task: Prediction task; not that of several labels.
        folds: ``[n]`` fold of each sample.
        prior: ``[K]`` scores of the prior.
        seed: Value of each ``random_state`` that is None.
        weight: ``[n]`` sample weights; None weights all samples equally.

    Returns:
        Out-of-fold scores ``[n, K]``, NaN without a fit, and the module that was fitted
        to all rows, or the prior. A classifier needs rows of two classes.

    Raises:
        ConfigError: If there are weights, and the estimator does not support them.
    """
    if weight is not None and not has_fit_parameter(learner, "sample_weight"):
        raise ConfigError(
            "base_learners must support sample_weight if there are weights, got "
            f"{type(learner).__name__}, whose fit has no such parameter.",
            parameter="base_learners",
        )
    learner = _with_seed(learner, seed)
    known = targets_of(y, task)[1] > 0
    target, weights = y.numpy(), None if weight is None else weight.numpy()

    def fitted(rows: Tensor) -> OwnExpert | None:
        used = rows & known
        of_rows = None if weights is None else weights[used.numpy()]
        return _fit(learner, x[used], target[used.numpy()], task, of_rows)

    scores = x.new_full((len(x), task.out_channels), torch.nan)
    for fold in torch.unique(folds):
        if (expert := fitted(folds != fold)) is not None:
            scores[folds == fold] = expert(x[folds == fold])
    return scores, fitted(torch.ones_like(known)) or PriorExpert(prior.clone())


def _fit(
    learner: BaseEstimator,
    x: Tensor,
    target: Array,
    task: Task,
    weight: Array | None,
) -> OwnExpert | None:
    """Fit a clone to rows with known targets; None if there are too few."""
    if not len(x) or (is_classifier(learner) and len(np.unique(target)) < 2):
        return None
    fill = None
    if not get_tags(learner).input_tags.allow_nan:
        with warnings.catch_warnings():  # a channel without values is filled with 0
            warnings.simplefilter("ignore", RuntimeWarning)
            mean = np.nanmean(x.double().numpy(), axis=0)
        fill = np.where(np.isnan(mean), 0.0, mean)
    if target.ndim == 2 and target.shape[1] == 1:
        target = target[:, 0]
    options = {} if weight is None else {"sample_weight": weight}
    estimator: Any = clone(learner)
    estimator.fit(_filled(x, fill), target, **options)
    return OwnExpert(estimator, fill, task.out_channels, link_of(task))


def _with_seed(learner: BaseEstimator, seed: int) -> BaseEstimator:
    """Return a clone that draws nothing from global random state."""
    copy: Any = clone(learner)
    states = {k: v for k, v in copy.get_params().items() if k.endswith("random_state")}
    copy.set_params(**{name: seed for name, state in states.items() if state is None})
    return copy


def _filled(x: Tensor, fill: Array | None) -> Array:
    values: Array = x.double().cpu().numpy()
    return values if fill is None else np.where(np.isnan(values), fill, values)
