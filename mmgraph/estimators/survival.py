"""Times to an event, with right censoring, from any subset of modalities.

Letters: ``N`` samples, ``T`` times, ``D`` distinct times of events.
"""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from mmgraph.acquisition import Belief, value_belief
from mmgraph.conformal import ConformalPrediction
from mmgraph.data.column import BoolArray
from mmgraph.data.targets import as_metadata, labeled_rows
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
from mmgraph.metrics.survival import (
    SurvivalCurve,
    check_survival,
    concordance,
    concordance_index,
    event_table,
)
from mmgraph.model.custom_modules import AnyEncoder, ModuleBuilder
from mmgraph.model.readouts import ReadoutKind
from mmgraph.nn.conv import Capacity
from mmgraph.nn.heads import Survival, Task
from mmgraph.schema import Schema
from mmgraph.train import Balance


class FusionSurvival(SupervisedEstimator):
    r"""Survival model for samples with any subset of the modalities.

    A stacked ensemble like :class:`FusionClassifier`, for times to an event that are
    censored for some samples. The model is one of proportional hazards relative to the
    Kaplan-Meier curve :math:`S_0` of the training samples,

    .. math:: S(t | x) = S_0(t)^{\exp f(x)}.

    Each base learner predicts the log relative hazard of a modality, the pool adds
    these up for the observed modalities, and an ensemble of graph networks models the
    remaining interaction. All of them maximize the likelihood given the cumulative
    baseline hazard of the training samples (Nelson-Aalen): penalized Poisson
    regression, trees and boosting with the Poisson deviance, see
    :class:`mmgraph.nn.Survival`. With nothing observed, the prediction is the
    Kaplan-Meier curve.

    Targets are events and times: the structured array of scikit-survival, an array
    ``[N, 2]`` whose columns are the event (1, or 0 for censored) and the time, or
    ``y=["event", "time"]`` of :meth:`MultimodalData.from_pandas`. Samples whose event
    or time is missing (NaN) are left out of training.

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
        base_learners: Base learners in place of ``experts``: a list of such kinds;
            ``()`` is none. Estimators of scikit-learn do not predict hazards and are
            refused.
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
        event_times_: ``[D]`` distinct times of the events of the training.
        baseline_: Kaplan-Meier curve of the training samples, which is called with
            times.
        cumulative_hazard_: ``[D]`` Nelson-Aalen estimate at these times.
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

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(60, 2))
        >>> time, event = rng.exponential(np.exp(-x[:, 0])), rng.random(60) < 0.7
        >>> y = np.column_stack([event, time])
        >>> data = MultimodalData.from_arrays({"a": x, "b": x[:, :1]}, y=y)
        >>> model = FusionSurvival(epochs=1, members=2, experts=("linear",)).fit(data)
        >>> model.predict(data[:4]).shape
        (4,)
        >>> model.predict_survival_function(data[:4], times=[0.5, 1.0]).shape
        (4, 2)

    References:
        Regression Models and Life-Tables, Cox, 1972. Relative Risk Trees for Censored
        Survival Data, LeBlanc, Crowley, 1992. Stacked Generalization, Wolpert, 1992.
    """

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
    ) -> "FusionSurvival":
        """Fit base learners, pool and graph networks.

        Base learners are fitted to a random sample of a ``MultimodalStream`` that is
        larger than its memory; graph networks are trained on all of its samples.

        Args:
            X: ``MultimodalData``, a ``MultimodalStream``, or an array ``[N, C]`` with
                NaN for missing cells. Samples of one group are never split between
                training and held-out folds.
            y: Events and times, a structured array ``[N]`` or an array ``[N, 2]``;
                default: those of the data.
            sample_weight: ``[N]`` weights of at least 0, relative to each other;
                samples of weight 0 are left out. Weights of a stream are in its order.
                Default: all weigh the same.

        Returns:
            The estimator itself.

        Raises:
            DataError: If there are no targets, an event is not 0 or 1, a time is not
                above 0, or all samples are censored.
            ConfigError: If a parameter has an invalid value, or ``base_learners`` holds
                an estimator: those of scikit-learn do not predict hazards.
        """
        self._fit(X, _as_pairs(y), sample_weight)
        return self

    def _learn_targets(
        self, y: AnyArray, weight: FloatArray | None
    ) -> tuple[Tensor, BoolArray, Task]:
        event, time, known = _read_targets(y)
        weights = None if weight is None else weight[known]
        counted = event if weights is None else event & (weights > 0)
        if not counted.any():
            got = "only censored samples" if len(event) else "no known target"
            raise DataError(
                f"fit needs at least one observed event, got {got}. Check that events "
                "are 1 and censored samples 0.",
                parameter="y",
            )
        times, events, at_risk = event_table(event, time, weights)
        steps = events > 0
        share = events[steps] / at_risk[steps]
        self.event_times_ = times[steps]
        self.baseline_ = SurvivalCurve(self.event_times_, np.cumprod(1 - share))
        self.cumulative_hazard_ = np.cumsum(share)
        return *self._encode(y), Survival()

    def _encode(self, y: AnyArray) -> tuple[Tensor, BoolArray]:
        """Return events and exposures ``[N, 2]``, NaN where unknown, and their mask."""
        event, time, known = _read_targets(y)
        hazard = np.concatenate([[0.0], self.cumulative_hazard_])
        exposure = hazard[np.searchsorted(self.event_times_, time, side="right")]
        # an event before all events of the training
        exposure[event & (exposure == 0)] = hazard[1] / 2
        codes = torch.full((len(known), 2), torch.nan)
        pairs = np.column_stack([event, exposure])
        codes[torch.from_numpy(known)] = torch.from_numpy(pairs).float()
        return codes, known

    def exposures(self, y: "LabelLike") -> FloatArray:
        """Events, and cumulative baseline hazards up to the times of the targets.

        With log relative hazards ``f``, ``event * f - exposure * exp(f)`` is the
        log-likelihood of a sample, up to a constant.

        Args:
            y: Events and times.

        Returns:
            ``[N, 2]``, NaN where unknown.

        Raises:
            DataError: If events or times are invalid.
        """
        check_is_fitted(self, "model_")
        codes: FloatArray = self._encode(_as_pairs(y))[0].double().numpy()
        return codes

    def predict(self, X: "SampleLike") -> FloatArray:  # noqa: N803
        """Log relative hazard: higher for earlier events, 0 with nothing observed.

        Args:
            X: Samples with any of the modalities of the training, also none.

        Returns:
            ``[N]`` risk scores.

        Raises:
            DataError: If a modality is unknown or of another width.
        """
        return self._predict(X)[:, 0]

    def predict_survival_function(
        self,
        X: "SampleLike",  # noqa: N803
        times: "ArrayLike | None" = None,
    ) -> FloatArray:
        """Probability of no event up to and including each time.

        Args:
            X: Samples with any of the modalities of the training, also none.
            times: ``[T]`` times; default: ``event_times_``. The probability is 1
                before the first event of the training, and constant after the last.

        Returns:
            ``[N, T]`` probabilities.

        Raises:
            DataError: If times are not numbers, or a modality is unknown or of another
                width.
        """
        hazard = np.exp(self.predict(X))
        grid = self.event_times_ if times is None else _as_times(times)
        curves: FloatArray = self.baseline_(grid) ** hazard[:, None]
        return curves

    def score(
        self,
        X: "SampleLike",  # noqa: N803
        y: "LabelLike | None" = None,
        sample_weight: "ArrayLike | None" = None,
    ) -> float:
        """Harrell's concordance index over samples with known targets.

        Args:
            X: Samples with any of the modalities of the training.
            y: Events and times; default: those of the data.
            sample_weight: ``[N]`` weights of at least 0. Default: all weigh the same.

        Raises:
            DataError: If there are no targets, none is known, or they are of another
                shape.
        """
        risk = self.predict(X)
        truth = labels_to_score(X, _as_pairs(y), (len(risk), 2))
        event, time, known = _read_targets(truth)
        weight = check_sample_weight(sample_weight, len(truth))
        weights = None if weight is None else weight[known]
        return concordance_index(event, time, risk[known], weights)

    def _score_targets(
        self, predicted: Tensor, y: Tensor, weight: Tensor | None
    ) -> float:
        # exposures are in the order of the times, and ties among them no comparison
        event, exposure = y.cpu().double().numpy().T
        weights = None if weight is None else weight.cpu().double().numpy()
        risk = predicted[:, 0].cpu().double().numpy()
        return concordance(event.astype(bool), exposure, risk, weights)

    def _belief(self) -> Belief:
        return value_belief(np.ones(1))

    def _card_target(self) -> tuple[str, str]:
        return "the time to an event", "Concordance index"

    def _target_config(self) -> dict[str, Any]:
        return {
            "event_times": self.event_times_.tolist(),
            "survival": self.baseline_.survival.tolist(),
            "cumulative_hazard": self.cumulative_hazard_.tolist(),
        }

    def _target_from_config(self, config: dict[str, Any]) -> Task:
        names = "event_times", "survival", "cumulative_hazard"
        times, survival, hazard = (np.array(config[k], np.float64) for k in names)
        shapes = times.ndim == 1 and times.shape == survival.shape == hazard.shape
        if not (
            shapes
            and len(times)
            and np.isfinite(np.stack([times, survival, hazard])).all()
            and (np.diff(times, prepend=0) > 0).all()
            and (np.diff(hazard, prepend=0) > 0).all()
            and (np.diff(survival, prepend=1) < 0).all()
            and survival[-1] >= 0
        ):
            raise CheckpointError(
                "Times of events must ascend from 0, with falling survival and rising "
                f"hazard, got {shorten(config)}."
            )
        self.event_times_, self.cumulative_hazard_ = times, hazard
        self.baseline_ = SurvivalCurve(times, survival)
        return Survival()

    def _conformal_from_config(self, config: dict[str, Any]) -> ConformalPrediction:
        raise CheckpointError("A survival model has no conformal predictions, got one.")


def _as_pairs(y: Any) -> Any:  # noqa: ANN401
    """Return events and times ``[N, 2]`` of any form of targets; None without any."""
    return None if y is None else as_metadata("y", y, len(y))


def _read_targets(y: AnyArray) -> tuple[BoolArray, FloatArray, BoolArray]:
    """Return known events and times, ``[n]`` each, and which are known, ``[N]``.

    Raises:
        DataError: If there are not two columns of numbers, an event is not 0 or 1, or a
            time is not above 0.
    """
    if y.ndim != 2 or y.shape[1] != 2 or y.dtype.kind not in "fiub":
        raise DataError(
            "y must hold an event and a time per sample, [N, 2], got "
            f"{y.dtype} of shape {list(y.shape)}.",
            ("Name two columns by ", Code('y=["event", "time"]'), "."),
            parameter="y",
        )
    known = labeled_rows(y)
    pairs = y[known].astype(np.float64)
    event, time = check_survival(pairs[:, 0], pairs[:, 1])
    return event, time, known


def _as_times(times: Any) -> FloatArray:  # noqa: ANN401
    try:
        grid = np.atleast_1d(np.asarray(times, dtype=np.float64))
    except (TypeError, ValueError):
        grid = np.full(1, math.nan)
    if grid.ndim != 1 or not np.isfinite(grid).all():
        raise DataError(
            f"times must be finite numbers [T], got {shorten(times)}. Use the unit of "
            "the training.",
            parameter="times",
        )
    return grid
