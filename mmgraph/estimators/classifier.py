"""Classification from any subset of modalities.

Letters: ``N`` samples, ``K`` classes or labels.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import column_or_1d
from torch import Tensor

from mmgraph.acquisition import Belief, class_belief
from mmgraph.conformal import (
    Condition,
    ConformalPrediction,
    ConformalSets,
    SetScore,
    Thresholds,
    calibrate,
    class_scores,
    uniform_numbers,
    warn_informative,
)
from mmgraph.data import MultimodalData
from mmgraph.data.column import BoolArray, IntArray
from mmgraph.data.targets import known_labels, missing_labels
from mmgraph.errors import CheckpointError, Code, ConfigError, DataError
from mmgraph.estimators.base import (
    AnyArray,
    ArrayLike,
    FloatArray,
    LabelLike,
    SampleLike,
)
from mmgraph.estimators.supervised import SupervisedEstimator
from mmgraph.estimators.validation import (
    check_sample_weight,
    class_weights,
    labels_to_score,
)
from mmgraph.experts.links import EXPERT_KINDS, ExpertKind, GraphSwitch, Level
from mmgraph.experts.own import BaseLearners
from mmgraph.files import shorten
from mmgraph.metrics.validation import is_text
from mmgraph.model.custom_modules import AnyEncoder, ModuleBuilder
from mmgraph.model.readouts import ReadoutKind
from mmgraph.model_card import list_names
from mmgraph.nn.conv import Capacity
from mmgraph.nn.heads import Classification, MultiLabel, Task
from mmgraph.schema import Schema
from mmgraph.train import Balance


class FusionClassifier(ClassifierMixin, SupervisedEstimator):
    """Classifier for samples with any subset of the modalities.

    A stacked ensemble. Base learners of each modality, and of all modalities together,
    are combined by a log-linear opinion pool that is fitted on out-of-fold predictions;
    an ensemble of graph networks models the remaining interaction between modalities.
    Probabilities are calibrated out of fold. With nothing observed, they are the
    smoothed class frequencies of the training data, ``(n_k + 1/2) / (n + K/2)``.

    Missing labels (NaN, None) are left out of training. ``y [N, K]`` of zeros and ones
    is a multi-label problem.

    If the loss of the graph networks is not finite, their training stops with a
    ``ConvergenceWarning`` that names samples and modalities.

    Args:
        schema: Graph of a sample; default: a star that connects every modality of the
            data with one latent node.
        hidden_channels: Width of node states, a multiple of ``num_heads``.
        num_layers: Number of graph layers.
        num_heads: Number of attention heads.
        capacity: Relation parameterization: "bias" (a bias per relation and head),
            "scalar" (also scales of keys and values) or "full" (also maps of keys and
            values, as in the Heterogeneous Graph Transformer).
        feed_forward: Feed-forward map of a node: "typed" (one per node type),
            "mixture" (of experts) or "none".
        readout: How the states of a sample become one: "auto" is the latent nodes of
            the schema, or the mean of its modalities; "fuse", "attention", "mean",
            "sum", "max", "concat", "product", "gated" and "low_rank" are described in
            :class:`FusionModel`. All but the first two combine modalities: a schema
            that reads latent nodes alone, as the star, is replaced by one without
            edges, :meth:`Schema.late`.
        members: Ensemble size: number of graph networks, trained together.
        experts: Kinds of base learners: "linear", "spline" and "forest" of one
            modality; "convolution" of one sequence; "joint", random and boosted trees
            on all modalities with modality dropout; "submodels", a kernel ridge
            regression for each subset of modalities, if there are sequences; and
            "relations", scores of the edges between objects given a text, if a modality
            has places.
        base_learners: Base learners in place of ``experts``: a list of such kinds, of
            classifiers or regressors of scikit-learn, each of which is fitted to every
            modality, and of dicts of these by modality; ``()`` is none. Missing cells
            are replaced by the mean if an estimator does not support NaN. An unset
            ``random_state`` is ``seed``. A model with such estimators cannot be saved
            or exported.
        graph: Whether there are graph networks: True, False, or "only", without base
            learners. ``model_.beta`` is 0 without graph networks.
        level: Level of fusion: "data" uses base learners of all modalities together
            (early fusion), "feature" the graph networks (intermediate fusion), "model"
            base learners of single modalities and their pool (late fusion), and "all"
            each of them as far as it helps out of fold. ``model_.beta`` is 0 at the
            levels "data" and "model".
        epochs: Maximum number of passes over the data; default: 80, but between 240
            and 2500 steps and at least one pass. Training stops early if no member
            improves on its held-out samples.
        batch_size: Samples per step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Weight decay of AdamW.
        missing_rate: Mean rate of modality dropout in training.
        completion: Add the completion of held-out modalities as an auxiliary task.
        balance: Correction of modality imbalance at the level "feature": "dropout"
            drops modalities that dominate more often, "gradients" slows the updates of
            their encoders, "blend" shows some samples with one modality only. None
            trains all modalities alike. ``history_.balance`` has the scores of single
            modalities at this level.
        reliability: "typical" treats a modality of a sample as missing where its
            content is unlike all training samples, as that of a broken sensor; None
            predicts from all observed modalities.
        class_weight: Weights of classes, by which those of samples are multiplied:
            "balanced" (inversely proportional to the frequency of a class) or a dict,
            in which classes that are left out have weight 1. Probabilities then are
            those of a population in which classes have these weights.
        encoders: Pretrained encoder of each text, image or audio modality, as a
            :class:`mmgraph.PretrainedEncoder` or as its path or name; default: those
            of the schema, otherwise plain features. Also a custom encoder for the graph
            networks, as in :class:`FusionModel`: a module, which every member copies,
            or a function that returns one.
        conv: Function without arguments that returns a convolution of PyTorch Geometric
            in place of relational attention, see :class:`mmgraph.nn.PyGConv`. Code of
            custom modules is not saved: give them to ``from_pretrained``, too.
        device: Device of the graph networks; default: a GPU if there is one.
        seed: Seed for folds, trees, initialization and dropout.
        verbose: Show a progress bar; default: on a terminal only.
        checkpoint_dir: Directory in which ``fit`` keeps its progress, so that the same
            fit resumes after an interruption; removed at the end.

    Attributes:
        classes_: ``[K]`` classes, sorted; ``0 .. K - 1`` for several labels.
        schema_: Schema of the training samples, texts, images and audio as vectors.
        channels_: Names of the channels of each modality whose channels are named.
        unseen_: Modalities without usable training samples. Their content is ignored.
        summary_: Description of the model as Markdown, without values of samples: the
            README.md of a saved model.
        branch_weights_: Weight of each kind of base learner and of the graph networks
            in the score of a sample with all modalities.
        input_spec_: Description of the inputs, see ``mmgraph.estimators.input_spec``.
        n_features_in_: Number of modalities, or of features of an array.
        feature_names_in_: Names of the modalities, or of the columns of a frame.
        model_: Fitted module. ``model_.beta`` is the weight of the graph networks; it
            is 0 if they do not reduce the loss on held-out samples.
        history_: Losses of the graph networks during training.
        out_of_fold_score_: Accuracy, R² of a regressor or concordance index of a
            survival model, of the pooled base learners, without the graph networks, on
            training samples outside the folds that they were fitted to; NaN without
            base learners, and for models that were saved by earlier versions.
        out_of_fold_predictions_: ``[n, K]`` predictions from which this score is
            computed, of the labeled training samples in their order (of a stream, of
            its random sample); None without base learners, and for loaded models.
        training_summary_: Counts, shares and out-of-fold scores of the training that
            the model card shows; None for models that were saved by earlier versions.
        conformal_: Result of the last call of ``conformal``, saved with the model;
            None before.

    Example:
        >>> train, test = load_dataset("heart").split(seed=0)
        >>> clf = FusionClassifier(epochs=1, members=2, experts=("linear",)).fit(train)
        >>> clf.predict_proba(test).shape
        (123, 2)
        >>> clf.predict_proba(test.select(["history"])).shape
        (123, 2)

    References:
        Stacked Generalization, Wolpert, 1992. Training Products of Experts by
        Minimizing Contrastive Divergence, Hinton, 2002 (log-linear pools).
        Heterogeneous Graph Transformer, Hu, Dong, Wang, Sun, 2020, arXiv 2003.01332.
    """

    conformal_: ConformalPrediction | None = None

    def __init__(
        self,
        *,
        schema: Schema | None = None,
        hidden_channels: int = 32,
        num_layers: int = 2,
        num_heads: int = 4,
        capacity: Capacity = "bias",
        feed_forward: str = "typed",
        readout: ReadoutKind = "auto",
        members: int = 8,
        experts: Sequence[ExpertKind] = EXPERT_KINDS,
        base_learners: BaseLearners | None = None,
        graph: GraphSwitch = True,
        level: Level = "all",
        epochs: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 4e-3,
        weight_decay: float = 0.05,
        missing_rate: float = 0.35,
        completion: bool = False,
        balance: Balance | None = None,
        reliability: Literal["typical"] | None = None,
        class_weight: Mapping[Any, float | int] | str | None = None,
        encoders: Mapping[str, AnyEncoder] | None = None,
        conv: ModuleBuilder | None = None,
        device: str | None = None,
        seed: int = 0,
        verbose: bool | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self._set_params(locals())

    def fit(
        self,
        X: "SampleLike",  # noqa: N803
        y: "LabelLike | None" = None,
        sample_weight: "ArrayLike | None" = None,
    ) -> "FusionClassifier":
        """Fit base learners, pool and graph networks.

        Base learners are fitted to a random sample of a ``MultimodalStream`` that is
        larger than its memory; graph networks are trained on all of its samples.

        Args:
            X: ``MultimodalData``, a ``MultimodalStream``, or an array ``[N, C]`` with
                NaN for missing cells. Samples of one group are never split between
                training and held-out folds.
            y: ``[N]`` labels, or ``[N, K]`` zeros and ones; default: those of the data.
            sample_weight: ``[N]`` weights of at least 0, relative to each other;
                samples of weight 0 are left out. Weights of a stream are in its order.
                Default: all weigh the same.

        Returns:
            The estimator itself.

        Raises:
            DataError: If there are no labels, or none is known with a weight above 0.
            ConfigError: If a parameter has an invalid value.
        """
        self._fit(X, y, sample_weight)
        return self

    def _learn_targets(
        self, y: AnyArray, weight: FloatArray | None
    ) -> tuple[Tensor, BoolArray, Task]:
        if y.ndim == 2 and y.shape[1] == 1:  # as in scikit-learn
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

    def _class_weights(
        self, codes: Tensor, weight: FloatArray | None
    ) -> FloatArray | None:
        if self.class_weight is None:
            return None
        if codes.ndim == 2:
            raise ConfigError(
                "class_weight must be None for several labels, got "
                f"{self.class_weight!r}. Use sample_weight."
            )
        return class_weights(self.class_weight, self.classes_, codes.numpy(), weight)

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
        indices = np.searchsorted(self.classes_, known_labels(y.reshape(-1)))
        codes = torch.full((len(missing),), -1)
        codes[torch.from_numpy(~missing)] = torch.from_numpy(indices)
        return codes, np.asarray(~missing)

    def predict_proba(self, X: "SampleLike") -> FloatArray:  # noqa: N803
        """Probabilities of the classes, or of the labels of a multi-label problem.

        Args:
            X: Samples with any of the modalities of the training, also none.

        Returns:
            ``[N, K]``; rows of classes sum to 1.

        Raises:
            DataError: If a modality is unknown or of another width.
        """
        return self._predict(X)

    def predict(self, X: "SampleLike", *, balanced: bool = False) -> AnyArray:  # noqa: N803
        """Most probable class, or labels with a probability above one half.

        Args:
            X: Samples with any of the modalities of the training.
            balanced: Weight classes by their inverse frequency in training, which suits
                balanced accuracy and rare classes.

        Returns:
            ``[N]`` classes, or ``[N, K]`` zeros and ones.
        """
        proba = self._predict(X)
        prior = self.model_.ensemble.pool.prior.double().cpu()
        if isinstance(self.model_.graph.task, MultiLabel):
            limit = prior.sigmoid().numpy() if balanced else 0.5
            return (proba > limit).astype(np.int64)
        weight = (-prior).exp().numpy() if balanced else 1.0
        result: AnyArray = self.classes_[(proba * weight).argmax(1)]
        return result

    def conformal(
        self,
        calibration: "SampleLike",
        alpha: float = 0.1,
        *,
        y: "LabelLike | None" = None,
        condition: Condition = "subset",
        by_class: bool = False,
        score: SetScore = "aps",
        min_samples: int = 30,
    ) -> ConformalSets:
        r"""Calibrate sets of classes that contain the true one with given probability.

        Each subset of modalities has its own threshold: that of all calibration samples
        with at least these modalities, predicted from just these. Given the subset, a
        set contains the true class with a probability of at least ``1 - alpha``, if
        samples are exchangeable and modalities go missing independently of the class
        given what is observed; a warning is issued if presence predicts the class. See
        :mod:`mmgraph.conformal`.

        Thresholds are computed when a subset is first used, and are saved with the
        model, all of them for up to 6 modalities. A subset that fewer than
        ``min_samples`` calibration samples have is not ``supported``: all calibration
        samples then keep what they share with it, which is conservative as far as less
        information means larger scores.

        Args:
            calibration: Samples with labels that were not used in training; the
                training samples as a whole are reported in a ``DataWarning``.
            alpha: Miscoverage: share of the samples whose class may be outside.
            y: ``[N]`` labels; default: those of the samples.
            condition: "subset", or "marginal": one threshold, which holds on average
                over samples such as those of the calibration only.
            by_class: Use a threshold for each class too, so that rare classes are
                covered as often as frequent ones.
            score: "aps" (cumulative probability, randomized) adapts sets to the
                difficulty of a sample; "lac" (one minus probability) has the smallest
                sets.
            min_samples: Calibration samples below which a subset is not supported.

        Returns:
            Sets: ``predict(X)`` is ``[N, K]`` booleans, ``table_`` lists the subsets.
            They are kept as ``conformal_``.

        Raises:
            DataError: If there are no labels, a class is unknown to the model, or there
                are fewer than ``min_samples`` samples.
            ConfigError: If an option has an invalid value, or the model predicts
                several labels.

        References:
            Conformal Prediction with Missing Values, Zaffran, Dieuleveut, Josse,
            Romano, 2023, arXiv 2306.02732.
        """
        data = self._read_calibration(calibration, y)
        if isinstance(self.model_.graph.task, MultiLabel):
            raise _no_classes("conformal")
        if score not in get_args(SetScore):
            raise ConfigError(
                f"score must be 'aps' or 'lac', got {score!r}.", parameter="score"
            )
        labels = np.asarray(data.y)
        _check_kind(labels, self.classes_)
        codes = self._known_codes(labels)
        uniform = uniform_numbers(data.ids, int(self.seed), "calibration")

        def true_scores(part: MultimodalData, rows: IntArray) -> FloatArray:
            proba = self._predict_complete(part)
            scores = class_scores(proba, score, uniform[rows])
            true = codes[rows][:, None] == np.arange(scores.shape[1])
            if by_class:
                return np.where(true, scores, np.nan)
            return scores[true][:, None]

        thresholds = calibrate(
            data,
            true_scores,
            alpha=alpha,
            condition=condition,
            min_samples=min_samples,
        )
        if condition == "subset":
            warn_informative(data, codes)
        self.conformal_ = self._sets(thresholds, score, int(self.seed))
        return self.conformal_

    def _known_codes(self, labels: AnyArray) -> IntArray:
        """Return the numbers of classes ``[N]``, which the model must know."""
        unknown = sorted(set(labels.tolist()) - set(self.classes_.tolist()), key=str)
        if unknown:
            raise DataError(
                f"calibration must have classes of the training, "
                f"{self.classes_.tolist()}, got {unknown[0]!r}. Leave these samples "
                "out."
            )
        return np.searchsorted(self.classes_, labels)

    def _sets(
        self, thresholds: Thresholds, score: SetScore, seed: int
    ) -> ConformalSets:
        return ConformalSets(
            thresholds,
            self._read_complete,
            self._predict_complete,
            self.classes_,
            score,
            seed,
        )

    def _conformal_from_config(self, config: dict[str, Any]) -> ConformalSets:
        width = len(self.classes_) if config["by_class"] else 1
        names = self.schema_.modality_names
        thresholds = Thresholds.from_json(config["thresholds"], names, width)
        if config["score"] not in get_args(SetScore):
            raise CheckpointError(
                f"score must be aps or lac, got {shorten(config['score'])}."
            )
        return self._sets(thresholds, config["score"], int(config["seed"]))

    def _belief(self) -> Belief:
        if isinstance(self.model_.graph.task, MultiLabel):
            raise _no_classes("acquire")
        return class_belief

    def score(
        self,
        X: "SampleLike",  # noqa: N803
        y: "LabelLike | None" = None,
        sample_weight: "ArrayLike | None" = None,
    ) -> float:
        """Accuracy over known labels; for a multi-label problem, of whole rows.

        Args:
            X: Samples with any of the modalities of the training.
            y: Labels; default: those of the data.
            sample_weight: ``[N]`` weights of at least 0. Default: all weigh the same.

        Raises:
            DataError: If there are no labels, none is known, or they are of another
                shape or type.
        """
        predicted = self.predict(X)
        truth = labels_to_score(X, y, predicted.shape)
        missing = missing_labels(truth)
        _check_kind(truth[~missing], predicted)
        hits = ((predicted == truth) | missing).reshape(len(truth), -1).all(1)
        known = ~missing.reshape(len(truth), -1).all(1)
        weight = check_sample_weight(sample_weight, len(truth))
        weights = None if weight is None else weight[known]
        return float(np.average(hits[known], weights=weights))

    def _score_targets(
        self, predicted: Tensor, y: Tensor, weight: Tensor | None
    ) -> float:
        if y.ndim == 1:
            hits = predicted.argmax(1) == y
        else:
            hits = (((predicted > 0.5) == (y > 0.5)) | y.isnan()).all(1)
        weights = (
            torch.ones_like(hits, dtype=torch.double) if weight is None else weight
        )
        return float((hits * weights).sum() / weights.sum())

    def _card_target(self) -> tuple[str, str]:
        if isinstance(self.model_.graph.task, MultiLabel):
            names = f"each of {len(self.classes_)} labels"
            return f"{names} ({list_names(self.classes_)})", "Accuracy of whole rows"
        count = len(self.classes_)
        return f"one of {count} classes ({list_names(self.classes_)})", "Accuracy"

    def _target_config(self) -> dict[str, Any]:
        return {
            "classes": self.classes_.tolist(),
            "dtype": self.classes_.dtype.str,
            "multi_label": isinstance(self.model_.graph.task, MultiLabel),
        }

    def _target_from_config(self, config: dict[str, Any]) -> Task:
        dtype = np.dtype(config["dtype"])
        if dtype.kind not in "fiubU":
            raise CheckpointError(f"Classes must be numbers or strings, got {dtype}.")
        dtype = np.dtype(np.str_) if dtype.kind == "U" else dtype
        self.classes_ = np.array(config["classes"], dtype=dtype)
        kind = MultiLabel if config["multi_label"] else Classification
        if (
            self.classes_.ndim != 1
            or self.classes_.tolist() != config["classes"]
            or not np.array_equal(np.unique(self.classes_), self.classes_)
        ):
            raise CheckpointError(
                "classes must be a sorted list of different numbers or strings of type "
                f"{dtype.str}, got {shorten(config['classes'])}."
            )
        return kind(len(self.classes_))

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _no_classes(method: str) -> ConfigError:
    return ConfigError(
        f"{method} must go with a model of classes, got one of several labels. Fit a "
        "classifier for one label."
    )


def _check_kind(labels: AnyArray, classes: AnyArray) -> None:
    """Refuse strings if classes are numbers, and numbers if classes are strings."""
    if is_text(labels) != is_text(classes):
        known, got = classes.item(0), labels.item(0)
        raise DataError(
            f"y must hold labels such as {known!r}, got {got!r}.", parameter="y"
        )


def _find_classes(y: AnyArray) -> AnyArray:
    from sklearn.utils.multiclass import check_classification_targets

    known = known_labels(y)
    try:
        check_classification_targets(known)
    except ValueError as error:
        raise DataError(
            str(error), ("Use ", Code("FusionRegressor"), " for numbers.")
        ) from None
    classes: AnyArray = np.unique(known)
    return classes
