"""Classification from whatever modalities each sample has.

Letters: ``N`` samples, ``K`` classes or labels.
"""

from typing import Any

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import column_or_1d
from torch import Tensor

from mmgraph.data.labels import missing_labels
from mmgraph.errors import CheckpointError, DataError
from mmgraph.estimators.base import (
    AnyArray,
    FloatArray,
    FusionEstimator,
    Prepared,
)
from mmgraph.estimators.inputs import labels_to_score
from mmgraph.estimators.states import StateTransformer
from mmgraph.nn.heads import Classification, MultiLabel, Task


class FusionClassifier(ClassifierMixin, StateTransformer, FusionEstimator):
    """Classify from whatever modalities each sample has.

    Unimodal experts give evidence, a pool adds it up, and an ensemble of graph models
    learns what modalities say only together. Probabilities are calibrated out of fold;
    a sample with nothing observed gets the class frequencies of the training data.
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
        """Fit on ``MultimodalData``, or on an array ``[N, C]`` with NaN for missing.

        Args:
            X: The data; its groups keep samples together when folds are made.
            y: ``[N]`` labels, or ``[N, K]`` zeros and ones; default: those of the data.

        Raises:
            DataError: No labels, or none that is known.
        """
        self._fit_together(X, y)
        return self

    def _prepare(self, X: Any, y: Any) -> Prepared:  # noqa: ANN401, N803
        data = self._read_labelled(X, y)
        labels = np.asarray(data.y)
        if labels.ndim == 2 and labels.shape[1] == 1:  # as scikit-learn reads it
            labels = column_or_1d(labels, warn=True)
        if labels.ndim == 2:
            codes, task = self._encode_labels(labels)
        else:
            codes, task = self._encode_classes(labels)
        known = torch.nonzero(codes >= 0 if codes.ndim == 1 else ~codes.isnan().all(1))
        if not len(known):
            raise DataError("fit needs at least one known label, got none.")
        rows = known[:, 0]
        return data[rows.numpy()], codes[rows], task

    def _encode_classes(self, y: AnyArray) -> tuple[Tensor, Task]:
        from sklearn.utils.multiclass import check_classification_targets

        missing = missing_labels(y)
        known = y[~missing]
        if known.dtype == object:
            known = known.astype(str)
        try:
            check_classification_targets(known)
        except ValueError as error:
            raise DataError(str(error)) from None
        self.classes_, found = np.unique(known, return_inverse=True)
        codes = torch.full((len(y),), -1)
        codes[torch.from_numpy(~missing)] = torch.from_numpy(found)
        return codes, Classification(max(len(self.classes_), 1))

    def _encode_labels(self, y: AnyArray) -> tuple[Tensor, Task]:
        missing = missing_labels(y)
        if y.dtype.kind not in "fiub" or not np.isin(y[~missing], (0, 1)).all():
            raise DataError(
                "y of several labels must hold 0, 1 or NaN, got other values. Give one "
                "column of zeros and ones for each label."
            )
        self.classes_ = np.arange(y.shape[1])
        return torch.from_numpy(y.astype(np.float32)), MultiLabel(y.shape[1])

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
            DataError: No labels, none that is known, or of another shape.
        """
        said = self.predict(X)
        truth = labels_to_score(X, y, said.shape)
        missing = missing_labels(truth)
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
