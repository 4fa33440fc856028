"""Regression from any subset of modalities.

Letters: ``N`` samples, ``K`` targets.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from sklearn.base import RegressorMixin
from torch import Tensor

from mmgraph.acquisition import Belief, value_belief
from mmgraph.conformal import (
    Condition,
    ConformalIntervals,
    ConformalPrediction,
    Thresholds,
    calibrate,
)
from mmgraph.data import MultimodalData
from mmgraph.data.column import BoolArray, IntArray
from mmgraph.data.targets import labeled_rows
from mmgraph.errors import CheckpointError, Code, DataError
from mmgraph.estimators.base import (
    AnyArray,
    ArrayLike,
    FloatArray,
    LabelLike,
    SampleLike,
)
from mmgraph.estimators.supervised import SupervisedEstimator
from mmgraph.estimators.validation import check_sample_weight, labels_to_score
from mmgraph.experts.links import EXPERT_KINDS, ExpertKind, GraphSwitch, Level
from mmgraph.experts.own import BaseLearners
from mmgraph.files import shorten
from mmgraph.model.custom_modules import AnyEncoder, ModuleBuilder
from mmgraph.model.readouts import ReadoutKind
from mmgraph.nn.conv import Capacity
from mmgraph.nn.heads import Regression, Task
from mmgraph.schema import Schema
from mmgraph.train import Balance


class FusionRegressor(RegressorMixin, SupervisedEstimator):
    """Regressor for samples with any subset of the modalities.

    A stacked ensemble like :class:`FusionClassifier`, with the squared error; targets
    are standardized inside. With nothing observed, the prediction is the training mean.

    Missing targets (NaN) are left out of training. Of several targets, the graph
    networks are trained on each that is known, base learners on rows in which all are.

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
        mean_: ``[K]`` training means of the targets.
        scale_: ``[K]`` training standard deviations of the targets.
        flat_: True if the targets of the training were 1-D.
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
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(60, 3))
        >>> data = MultimodalData.from_arrays({"a": x, "b": x[:, :1]}, y=x.sum(1))
        >>> reg = FusionRegressor(epochs=1, members=2, experts=("linear",)).fit(data)
        >>> reg.predict(data[:4]).shape
        (4,)

    References:
        Stacked Generalization, Wolpert, 1992.
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
    ) -> "FusionRegressor":
        """Fit base learners, pool and graph networks.

        Base learners are fitted to a random sample of a ``MultimodalStream`` that is
        larger than its memory; graph networks are trained on all of its samples.

        Args:
            X: ``MultimodalData``, a ``MultimodalStream``, or an array ``[N, C]`` with
                NaN for missing cells. Samples of one group are never split between
                training and held-out folds.
            y: ``[N]`` or ``[N, K]`` numbers; default: those of the data.
            sample_weight: ``[N]`` weights of at least 0, relative to each other;
                samples of weight 0 are left out. Weights of a stream are in its order.
                Default: all weigh the same.

        Returns:
            The estimator itself.

        Raises:
            DataError: If there are no targets, or none is known with a weight above 0.
            ConfigError: If a parameter has an invalid value.
        """
        self._fit(X, y, sample_weight)
        return self

    def _learn_targets(
        self, y: AnyArray, weight: FloatArray | None
    ) -> tuple[Tensor, BoolArray, Task]:
        target = _numbers(y)
        known = ~np.isnan(target).all(1)
        if not known.any():
            raise DataError("fit needs at least one known target, got none.")
        target = target[known]
        weight = None if weight is None else weight[known]
        self.flat_ = y.ndim == 1
        with np.errstate(over="ignore", invalid="ignore"):
            self.mean_, spread = _moments(target, weight)
        if not np.isfinite([self.mean_, spread]).all():
            raise DataError(
                "y must have a finite variance, got numbers that are too large. "
                "Rescale them."
            )
        self.scale_ = np.where(spread > 0, spread, 1.0)
        return *self._encode(y), Regression(target.shape[1])

    def _encode(self, y: AnyArray) -> tuple[Tensor, BoolArray]:
        target = _numbers(y)
        scaled = torch.from_numpy((target - self.mean_) / self.scale_).float()
        return scaled, np.asarray(~np.isnan(target).all(1))

    def predict(self, X: "SampleLike") -> FloatArray:  # noqa: N803
        """Predicted targets.

        Args:
            X: Samples with any of the modalities of the training, also none.

        Returns:
            ``[N]``, or ``[N, K]`` if the targets were 2-D.

        Raises:
            DataError: If a modality is unknown or of another width.
        """
        values = self._predict(X)
        return values[:, 0] if self.flat_ else values

    def conformal(
        self,
        calibration: "SampleLike",
        alpha: float = 0.1,
        *,
        y: "LabelLike | None" = None,
        condition: Condition = "subset",
        min_samples: int = 30,
    ) -> ConformalIntervals:
        r"""Calibrate intervals that contain the target with a given probability.

        The score is the absolute residual. Each subset of modalities has its own
        threshold, that of all calibration samples with at least these modalities,
        predicted from just these: intervals are wider where less is observed. Given the
        subset, an interval contains the target with a probability of at least
        ``1 - alpha``, if samples are exchangeable and modalities go missing
        independently of the target given what is observed. See
        :mod:`mmgraph.conformal`.

        Thresholds are computed when a subset is first used, and are saved with the
        model, all of them for up to 6 modalities. A subset that fewer than
        ``min_samples`` calibration samples have is not ``supported``: all calibration
        samples then keep what they share with it.

        Args:
            calibration: Samples with targets that were not used in training; the
                training samples as a whole are reported in a ``DataWarning``.
            alpha: Miscoverage of each target.
            y: ``[N]`` or ``[N, K]`` targets; default: those of the samples.
            condition: "subset", or "marginal": one threshold, which holds on average
                over samples such as those of the calibration only.
            min_samples: Calibration samples below which a subset is not supported.

        Returns:
            Intervals: ``predict(X)`` is ``[N, 2]`` bounds, or ``[N, K, 2]`` of several
            targets. They are kept as ``conformal_``.

        Raises:
            DataError: If there are no targets, or fewer than ``min_samples`` samples.
            ConfigError: If an option has an invalid value.

        References:
            Conformal Prediction with Missing Values, Zaffran, Dieuleveut, Josse,
            Romano, 2023, arXiv 2306.02732.
        """
        data = self._read_calibration(calibration, y)
        target = _numbers(np.asarray(data.y))
        if target.shape[1] != len(self.mean_):
            raise DataError(
                f"calibration must have {len(self.mean_)} targets, got "
                f"{target.shape[1]}."
            )

        def residuals(part: MultimodalData, rows: IntArray) -> FloatArray:
            error: FloatArray = np.abs(self._predict_complete(part) - target[rows])
            return error

        thresholds = calibrate(
            data, residuals, alpha=alpha, condition=condition, min_samples=min_samples
        )
        self.conformal_ = self._intervals(thresholds)
        return self.conformal_

    def _intervals(self, thresholds: Thresholds) -> ConformalIntervals:
        return ConformalIntervals(
            thresholds, self._read_complete, self._predict_complete, self.flat_
        )

    def _conformal_from_config(self, config: dict[str, Any]) -> ConformalIntervals:
        names = self.schema_.modality_names
        thresholds = Thresholds.from_json(config["thresholds"], names, len(self.mean_))
        return self._intervals(thresholds)

    def _belief(self) -> Belief:
        return value_belief(self.scale_)

    def _inverse_transform(self, scores: Tensor) -> FloatArray:
        scaled = super()._inverse_transform(scores)
        values: FloatArray = scaled * self.scale_ + self.mean_
        return values

    def score(
        self,
        X: "SampleLike",  # noqa: N803
        y: "LabelLike | None" = None,
        sample_weight: "ArrayLike | None" = None,
    ) -> float:
        """Coefficient of determination R² over known targets.

        Args:
            X: Samples with any of the modalities of the training.
            y: Targets; default: those of the data.
            sample_weight: ``[N]`` weights of at least 0. Default: all weigh the same.

        Raises:
            DataError: If there are no targets, none is known, or they are of another
                shape.
        """
        from sklearn.metrics import r2_score

        predicted = self.predict(X)
        truth = labels_to_score(X, y, predicted.shape)
        known = labeled_rows(_numbers(truth))
        if not known.any():
            raise DataError("score needs a sample with all targets known, got none.")
        weight = check_sample_weight(sample_weight, len(truth))
        weights = None if weight is None else weight[known]
        return float(r2_score(truth[known], predicted[known], sample_weight=weights))

    def _score_targets(
        self, predicted: Tensor, y: Tensor, weight: Tensor | None
    ) -> float:
        from sklearn.metrics import r2_score

        known = ~y.isnan().any(1)
        if int(known.sum()) < 2:
            return math.nan
        weights = None if weight is None else weight[known].cpu().numpy()
        scaled = y[known].cpu().numpy(), predicted[known].cpu().numpy()
        return float(r2_score(*scaled, sample_weight=weights))

    def _card_target(self) -> tuple[str, str]:
        count = len(self.mean_)
        return "a number" if count == 1 else f"{count} numbers", "R²"

    def _target_config(self) -> dict[str, Any]:
        return {
            "mean": self.mean_.tolist(),
            "scale": self.scale_.tolist(),
            "flat": self.flat_,
        }

    def _target_from_config(self, config: dict[str, Any]) -> Task:
        self.mean_ = np.array(config["mean"], dtype=np.float64)
        self.scale_ = np.array(config["scale"], dtype=np.float64)
        self.flat_ = bool(config["flat"])
        scales = self.mean_.ndim == 1 and self.scale_.shape == self.mean_.shape
        if not (scales and np.isfinite(self.mean_).all() and (self.scale_ > 0).all()):
            raise CheckpointError(
                "Every target must have a finite mean and a scale above 0, got "
                f"{shorten(config['mean'])} and {shorten(config['scale'])}."
            )
        return Regression(len(self.mean_))


def _moments(
    target: FloatArray, weight: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Return means and standard deviations of known targets, ``[K]`` each."""
    if weight is None:
        return np.nanmean(target, axis=0), np.nanstd(target, axis=0)
    missing = np.isnan(target)
    weights, values = (
        np.where(missing, 0, weight[:, None]),
        np.where(missing, 0, target),
    )
    total = weights.sum(0)
    total = np.where(total > 0, total, 1)
    mean = (weights * values).sum(0) / total
    return mean, np.sqrt((weights * (values - mean) ** 2).sum(0) / total)


def _numbers(y: AnyArray) -> FloatArray:
    """Return targets ``[N, K]``."""
    if y.dtype.kind not in "fiub":
        raise DataError(
            "y must hold numbers for regression, got strings.",
            ("Use ", Code("FusionClassifier"), " for classes."),
            parameter="y",
        )
    return y.astype(np.float64).reshape(len(y), -1 if y.size else 1)
