"""Classification from whatever modalities each sample has.

Letters: ``N`` samples, ``K`` classes or labels.
"""

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import column_or_1d
from torch import Tensor

from mmgraph.data.column import BoolArray
from mmgraph.data.labels import known_labels, missing_labels
from mmgraph.errors import CheckpointError, DataError
from mmgraph.estimators.base import (
    AnyArray,
    FloatArray,
    FusionEstimator,
)
from mmgraph.estimators.inputs import labels_to_score
from mmgraph.estimators.states import StateTransformer
from mmgraph.metrics.shapes import is_text
from mmgraph.nn.heads import Classification, MultiLabel, Task


class FusionClassifier(ClassifierMixin, StateTransformer, FusionEstimator):
    """Classify from whatever modalities each sample has.

    Unimodal experts give evidence, a pool adds it up, and an ensemble of graph models
    learns what modalities say only together. Probabilities are calibrated out of fold;
    a sample with nothing observed gets the class frequencies of the training data, half
    a sample added to each class: ``(n_k + 1/2) / (n + K/2)``.
    Labels that are missing (NaN, None) are left out of training. ``y [N, K]`` of zeros
    and ones is a multi-label problem.

    Takes the arguments of :class:`mmgraph.estimators.base.FusionEstimator`.

    Example:
        >>> train, test = load_dataset("heart").split(seed=0)
        >>> clf = FusionClassifier(epochs=1, members=2, experts=("linear",)).fit(train)
        >>> clf.predict_proba(test).shape
        (123, 2)
    """

    def fit(self, X: Any, y: Any = None) -> "FusionClassifier":  # noqa: ANN401, N803
        """Fit on data, a stream, or an array ``[N, C]`` with NaN for missing.

        Of a ``MultimodalStream`` that is larger than its memory, a random sample
        trains the experts and validates the members; the graph learns from all samples.

        Args:
            X: The data; its groups keep samples together when folds are made.
            y: ``[N]`` labels, or ``[N, K]`` zeros and ones; default: those of the data.

        Raises:
            DataError: No labels, or none that is known.
        """
        self._fit_distributed(X, y)
        return self

    def _learn_targets(self, y: AnyArray) -> tuple[Tensor, BoolArray, Task]:
        if y.ndim == 2 and y.shape[1] == 1:  # as scikit-learn reads it
            y = column_or_1d(y, warn=True)
        if y.ndim == 2:
            self.classes_ = np.arange(y.shape[1])
            task: Task = MultiLabel(y.shape[1])
        else:
            self.classes_ = _find_classes(y)
            task = Classification(max(len(self.classes_), 1))
        codes, known = self._encode(y)
        if not known.any():
            raise DataError("fit needs at least one known label, got none.")
        return codes, known, task

    def _encode(self, y: AnyArray) -> tuple[Tensor, BoolArray]:
        missing = missing_labels(y)
        if y.ndim == 2 and y.shape[1] > 1:
            if y.dtype.kind not in "fiub" or not np.isin(y[~missing], (0, 1)).all():
                raise DataError(
                    "y of several labels must hold 0, 1 or NaN, got other values. Give "
                    "one column of zeros and ones for each label."
                )
            return torch.from_numpy(y.astype(np.float32)), np.asarray(~missing.all(1))
        missing = missing.reshape(-1)
        found = np.searchsorted(self.classes_, known_labels(y.reshape(-1)))
        codes = torch.full((len(missing),), -1)
        codes[torch.from_numpy(~missing)] = torch.from_numpy(found)
        return codes, np.asarray(~missing)

    def predict_proba(self, X: Any) -> FloatArray:  # noqa: ANN401, N803
        """Return probabilities ``[N, K]``: of classes (rows sum to 1), or of labels."""
        return self._predict(X)

    def predict(self, X: Any, *, balanced: bool = False) -> AnyArray:  # noqa: ANN401, N803
        """Return the likeliest class ``[N]``, or labels above one half ``[N, K]``.

        Args:
            X: The data.
            balanced: Weigh classes by their inverse frequency in training, as suits
                balanced accuracy and rare classes.
        """
        proba = self._predict(X)
        prior = self.model_.panel.pool.prior.double().cpu()
        if isinstance(self.model_.graph.task, MultiLabel):
            limit = prior.sigmoid().numpy() if balanced else 0.5
            return (proba > limit).astype(np.int64)
        weight = (-prior).exp().numpy() if balanced else 1.0
        result: AnyArray = self.classes_[(proba * weight).argmax(1)]
        return result

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ANN401, N803
        """Return the accuracy over known labels (multi-label: of whole rows).

        Raises:
            DataError: No labels, none that is known, or of another shape or type.
        """
        said = self.predict(X)
        truth = labels_to_score(X, y, said.shape)
        missing = missing_labels(truth)
        _check_kind(truth[~missing], said)
        hits = ((said == truth) | missing).reshape(len(truth), -1).all(1)
        known = ~missing.reshape(len(truth), -1).all(1)
        return float(hits[known].mean())

    def _target_state(self) -> dict[str, Any]:
        return {
            "classes": self.classes_.tolist(),
            "dtype": self.classes_.dtype.str,
            "multi_label": isinstance(self.model_.graph.task, MultiLabel),
        }

    def _restore_target(self, state: dict[str, Any]) -> Task:
        kind_of = np.dtype(state["dtype"])
        if kind_of.kind not in "fiubU":
            raise CheckpointError(f"Classes must be plain, got {kind_of}.")
        wanted = np.str_ if kind_of.kind == "U" else kind_of
        self.classes_ = np.array(state["classes"], dtype=wanted)
        if self.classes_.ndim != 1:
            raise CheckpointError("Classes must be a list of numbers or strings.")
        kind = MultiLabel if state["multi_label"] else Classification
        return kind(len(self.classes_))

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _check_kind(labels: AnyArray, classes: AnyArray) -> None:
    """Refuse names where classes are numbers, and numbers where they are names."""
    if is_text(labels) != is_text(classes):
        known, got = classes.item(0), labels.item(0)
        raise DataError(f"y must hold labels such as {known!r}, got {got!r}.")


def _find_classes(y: AnyArray) -> AnyArray:
    from sklearn.utils.multiclass import check_classification_targets

    known = known_labels(y)
    try:
        check_classification_targets(known)
    except ValueError as error:
        raise DataError(str(error), "Use FusionRegressor for numbers.") from None
    classes: AnyArray = np.unique(known)
    return classes
