"""Classifier and regressor: stacked ensembles with a residual graph network.

A stream that does not fit into memory is fitted in two steps. Base learners, pool and
scaling are fitted to a random sample, whose size depends on the memory of the stream;
the sample also validates the members. For all other samples, predictions of the base
learners are out of sample by construction. The members are trained on all samples, in
batches of the stream.

Letters: ``N`` samples, ``K`` outputs, ``M`` modalities, ``E`` members, ``D`` width of a
member's state, ``S`` sampled samples.
"""

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeGuard, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import TransformerMixin, is_classifier
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    validate_data,
)
from torch import Tensor

from mmgraph.acquisition import Acquisition, Belief, acquire
from mmgraph.conformal import ConformalPrediction
from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.column import BoolArray, IntArray
from mmgraph.data.notices import warn
from mmgraph.data.splits import assign_folds, encode_groups
from mmgraph.data.stream.sampling import draw_sample
from mmgraph.data.stream.stream import in_memory
from mmgraph.data.targets import labeled_rows
from mmgraph.distributed import ProcessGroup, init_process_group
from mmgraph.embedding.typicality import (
    Typicality,
    fit_typicality,
    num_landmarks,
)
from mmgraph.errors import CheckpointError, ConfigError, DataError, DataWarning
from mmgraph.estimators.base import (
    PREDICT_BATCH,
    AnyArray,
    ArrayLike,
    FloatArray,
    FusionEstimator,
    LabelLike,
    SampleLike,
    predict_alone,
)
from mmgraph.estimators.check import (
    UNRELIABLE,
    DataCheck,
    compare,
    contradictions,
    describe_unreliable,
)
from mmgraph.estimators.explain import Explanation, explain
from mmgraph.estimators.featurize import Encoder, Featurizer
from mmgraph.estimators.input_spec import InputSpec, declare_texts
from mmgraph.estimators.persistence import model_params
from mmgraph.estimators.validation import (
    check_sample_weight,
    naming_frames,
    one_sample,
    with_labels,
)
from mmgraph.experts.ensemble import ExpertEnsemble, predict_joint
from mmgraph.experts.fit import Fitting
from mmgraph.experts.links import (
    GRAPH_LEVELS,
    JOINT_KINDS,
    ExpertKind,
    GraphSwitch,
    Level,
    kinds_of_level,
)
from mmgraph.experts.own import (
    BaseLearners,
    OwnLearners,
    check_own_learners,
    is_kind,
    own_learners,
)
from mmgraph.experts.relations import ObjectView
from mmgraph.experts.residual import ResidualFusion
from mmgraph.experts.serialization import ensemble_config, ensemble_from_config
from mmgraph.experts.views import MAX_LANDMARKS, plan_views
from mmgraph.files import shorten
from mmgraph.model.custom_modules import (
    CustomModules,
    ModuleBuilder,
    describe_modules,
    pretrained_encoders,
)
from mmgraph.model_card import model_card
from mmgraph.nn.heads import Classification, MultiLabel, Survival, Task
from mmgraph.ops import present_rows
from mmgraph.schema import Schema
from mmgraph.train import Balance, BatchSource, History, TrainingSet, TrainOptions
from mmgraph.train.progress_dir import CheckpointDir
from mmgraph.train.schedule import StepSchedule
from mmgraph.train.stream import StreamTraining
from mmgraph.train.summary import TrainingSummary, summarize_training
from mmgraph.typing import PathLike

Extend: TypeAlias = Callable[[TrainingSet], tuple[BatchSource, int]]

ARRAY_MODALITY = "x"  # modality of a plain array
READ_ARRAY = {"dtype": "numeric", "ensure_all_finite": "allow-nan"}
READ_LABELS = {"dtype": None, "ensure_2d": False, "ensure_all_finite": "allow-nan"}
MIN_SAMPLE, MAX_SAMPLE = 64, 20_000  # larger forests improve little on more samples
SAMPLE_SHARE = 16  # fraction of the memory for raw samples: 1 / 16,
FEATURE_SHARE = 160  # and for their features: 1 / 160, since fits make copies
VIEW_SHARE = 8  # and for the tables of views: 1 / 8
TABLE_ROWS = 128  # samples whose tables of views are held at once
NUM_HELD_OUT = 5  # one fold out of five of the sample validates the members
SamplesT = TypeVar("SamplesT", MultimodalData, MultimodalStream)


class SupervisedEstimator(TransformerMixin, FusionEstimator):
    """Base class of classifier and regressor: fit, predict, explain, transform."""

    level: Level
    balance: Balance | None
    graph: GraphSwitch
    base_learners: BaseLearners | None
    conv: ModuleBuilder | None
    reliability: str | None
    _budget = StepSchedule(80, 240, 2500, at_least_one_epoch=True)
    model_: ResidualFusion
    training_summary_: TrainingSummary | None = None
    out_of_fold_predictions_: FloatArray | None = None

    # Defined by the task

    def _learn_targets(
        self, y: AnyArray, weight: FloatArray | None
    ) -> tuple[Tensor, BoolArray, Task]:
        """Learn classes or scales; return encoded targets, their mask, and the task."""
        raise AssertionError("defined by classifier and regressor")

    def _encode(self, y: AnyArray) -> tuple[Tensor, BoolArray]:
        """Return encoded targets, and which samples have one."""
        raise AssertionError("defined by classifier and regressor")

    def _class_weights(
        self, codes: Tensor, weight: FloatArray | None
    ) -> FloatArray | None:
        """Return the weights of the classes, ``[K]``, or None."""
        return None

    def _target_config(self) -> dict[str, Any]:
        """Return what :meth:`_target_from_config` reads, as JSON."""
        raise AssertionError("defined by classifier and regressor")

    def _target_from_config(self, config: dict[str, Any]) -> Task:
        raise AssertionError("defined by classifier and regressor")

    def _conformal_from_config(self, config: dict[str, Any]) -> ConformalPrediction:
        """Return the conformal predictions that a saved model has."""
        raise AssertionError("defined by classifier and regressor")

    def _inverse_transform(self, scores: Tensor) -> FloatArray:
        """Return outputs of the model in the units of the targets."""
        values: FloatArray = scores.double().numpy()
        return values

    # Fitting

    def _fit(
        self,
        X: "SampleLike",  # noqa: N803
        y: "LabelLike | None",
        sample_weight: "ArrayLike | None",
    ) -> None:
        """Fit in this process, or in every process of its group."""
        self._check_params()
        self._check_balance()
        self.__dict__.pop("conformal_", None)  # thresholds of an earlier fit
        self.__dict__.pop("out_of_fold_predictions_", None)
        if isinstance(X, MultimodalStream):
            self._fit_stream(X, y, sample_weight)
            return
        processes = init_process_group()
        labeled = processes.run_on_all(lambda: self._prepare(X, y, sample_weight))
        self._fit_all(labeled, processes)

    def _prepare(
        self,
        X: "SampleLike",  # noqa: N803
        y: "LabelLike | None",
        sample_weight: "ArrayLike | None",
    ) -> "LabeledSamples":
        """Return the samples with known targets and a weight above zero as numbers."""
        if not isinstance(X, MultimodalData):
            _refuse_mapping(X)
            how = READ_ARRAY, READ_LABELS
            with naming_frames(X):
                _, y = validate_data(self, X, y, validate_separately=how)
            check_consistent_length(X, y)
        data = with_labels(self._as_data(X, reset=True), y)
        data = self._with_schema(data)
        given = check_sample_weight(sample_weight, len(data))
        labeled, used = self._learn(data, given)
        return replace(labeled, data=self._fit_inputs(data[used]))

    def _with_schema(self, data: SamplesT) -> SamplesT:
        """Return the data with the graph of a sample that the parameters choose."""
        if self.schema is not None:
            data = data.with_schema(self.schema)
        schema = data.schema
        reads_modalities = set(schema.readout or ()) & set(schema.modality_names)
        if self.readout in ("auto", "fuse") or reads_modalities:
            return data
        return data.with_schema(Schema.late(schema.modalities))

    def _learn(
        self, data: MultimodalData, given: FloatArray | None
    ) -> "tuple[LabeledSamples, BoolArray]":
        """Learn targets and weights; return those of the used samples, and which.

        Args:
            data: Samples, which are returned unchanged.
            given: ``[N]`` sample weights, or None.
        """
        codes, known, task = self._learn_targets(np.asarray(data.y), given)
        table = self._class_weights(codes, given)
        weight = _total_weight(given, table, codes)
        if weight is None:
            used = torch.from_numpy(known)
            return LabeledSamples(data, codes[used], task), known
        known = known & (weight > 0)
        if not known.any():
            raise DataError(
                "fit needs a labeled sample with a weight above 0, got none. Check "
                "sample_weight."
            )
        used, weights = torch.from_numpy(known), torch.from_numpy(weight[known]).float()
        return LabeledSamples(data, codes[used], task, weights, table), known

    def _as_data(self, X: "SampleLike", *, reset: bool = False) -> MultimodalData:  # noqa: N803
        """Return multimodal data; a plain array is one modality named ``x``."""
        if isinstance(X, MultimodalData):
            if reset:
                self._name_features(X)
            return X
        if _is_dict(X):
            return one_sample(X, self.input_spec_.schema)
        if not reset and ARRAY_MODALITY not in self.input_spec_.schema.modality_names:
            raise DataError(
                "X must be MultimodalData, a stream or a dict of one sample with "
                f"modalities {', '.join(self.input_spec_.schema.modality_names)}, got "
                f"{type(X).__name__}. Build it with MultimodalData.from_arrays."
            )
        with naming_frames(X):
            array = validate_data(self, X, reset=reset, **READ_ARRAY)
        with np.errstate(over="ignore"):  # values that overflow are refused as infinite
            array = array.astype(np.float32)
        return MultimodalData.from_arrays({ARRAY_MODALITY: array})

    def _name_features(self, data: MultimodalData) -> None:
        """Set the attributes of scikit-learn for the inputs: the modalities."""
        self.n_features_in_ = len(data.modalities)
        self.feature_names_in_ = np.array(data.modalities, dtype=object)

    def _fit_inputs(self, data: MultimodalData) -> MultimodalData:
        encoders = pretrained_encoders(self.encoders)
        options = {"encoders": encoders, "device": self.device}
        spec, data = InputSpec.fit(data, progress=self.verbose, **options)  # type: ignore[arg-type]
        self.input_spec_ = spec
        return data

    def _fit_all(
        self,
        labeled: "LabeledSamples",
        processes: ProcessGroup,
        extend: Extend | None = None,
    ) -> None:
        """Fit base learners, pool and graph networks.

        Args:
            labeled: Labeled samples as numbers.
            processes: Process group.
            extend: Maps the training data of the graph networks to a source of more
                samples and their number; default: no more samples.
        """
        data, y, task, weight = labeled.data, labeled.y, labeled.task, labeled.weight
        progress = self._progress_dir(labeled, processes)
        texts = tuple(self.input_spec_.featurizer.vocabularies)
        options = data, y, task, int(self.seed), processes, progress, weight, texts
        fitting = Fitting(*options)
        graph = self._build_graph(task, self._evidence_channels(task))
        evidence, ensemble = fitting.experts(self._kinds, self._own_learners(task))
        self._check_joint(ensemble)
        model = ResidualFusion(ensemble, graph, self._fit_typicality(data))
        model.graph.fit_scaling(data.batch())
        device = self._resolve_device(processes)
        self.model_ = model.to(device)
        known = fitting.training_set(evidence, int(self.members), device)
        self.out_of_fold_score_ = self._score_out_of_fold(known)
        pool = self.model_.ensemble.pool
        num_groups = 0 if fitting.groups is None else len(known.groups.unique())
        self.training_summary_ = summarize_training(
            known, pool, task, self._score_targets, _fingerprint(data), num_groups
        )
        if self._has_graph:
            samples, num_samples = extend(known) if extend else (known, len(known))
            self._fit_graph(pool, samples, num_samples, processes, progress)
        else:
            self.history_ = History(0, (), ())
            self.model_.requires_grad_(False).eval()
        if progress is not None and processes.is_main_process:
            progress.remove()

    def _check_joint(self, ensemble: ExpertEnsemble) -> None:
        """Check that the level "data" has a base learner.

        Raises:
            ConfigError: If all of its kinds read sequences or objects, without any.
        """
        has_joint = len(ensemble.joint) > 0 or "joint" in self._kinds
        if self.level == "data" and not has_joint:
            raise ConfigError(
                "experts must hold 'joint' for level='data' and data without sequences "
                f"or objects, got {self.experts!r}.",
                parameter="experts",
            )

    def _check_balance(self) -> None:
        """Check that imbalance is corrected where networks predict from modalities.

        Raises:
            ConfigError: If ``balance`` is given at a level with base learners, from
                which alone a single modality is predicted.
        """
        if self.balance is not None and self.level != "feature":
            raise ConfigError(
                f"balance must be None for level={self.level!r}, got {self.balance!r}. "
                "Base learners predict from single modalities there; use "
                "level='feature'.",
                parameter="balance",
            )

    def _train_options(self, num_samples: int) -> TrainOptions:
        options = super()._train_options(num_samples)
        monitor = self.level == "feature"
        return replace(options, monitor=monitor, balance=self.balance)

    @property
    def _learners(self) -> BaseLearners:
        """Base learners that the parameters choose, at any level of fusion."""
        if self.graph == "only":
            return ()
        return self.experts if self.base_learners is None else self.base_learners

    @property
    def _kinds(self) -> tuple[ExpertKind, ...]:
        """Kinds of base learners that the level of fusion uses."""
        return kinds_of_level([x for x in self._learners if is_kind(x)], self.level)

    @property
    def _has_graph(self) -> bool:
        """Whether graph networks are fitted."""
        return self.level in GRAPH_LEVELS and self.graph is not False

    @property
    def _has_own(self) -> bool:
        """Whether there are base learners of the user."""
        used = self.level in ("all", "model")
        return used and not all(is_kind(item) for item in self._learners)

    @property
    def has_custom_parts(self) -> bool:
        """Whether base learners, convolutions or encoders are those of the user."""
        modules = self._custom_modules
        return self._has_own or modules.conv is not None or len(modules.encoders) > 0

    def _check_params(self) -> None:
        super()._check_params()
        if self._has_own:
            check_own_learners(self._learners, is_classifier(self))

    def _own_learners(self, task: Task) -> OwnLearners:
        """Return the base learners of the user that the level of fusion uses.

        Raises:
            ConfigError: If they name another modality, or the task is neither
                classification nor regression.
        """
        if not self._has_own:
            return ()
        if isinstance(task, MultiLabel):
            raise ConfigError(
                "base_learners must hold names for several labels, got estimators. "
                "Fit a classifier for one label.",
                parameter="base_learners",
            )
        if isinstance(task, Survival):
            raise ConfigError(
                "base_learners must hold names for a survival model, got estimators, "
                "which do not predict hazards. Leave them out.",
                parameter="base_learners",
            )
        return own_learners(self._learners, self.schema_.modality_names)

    def _evidence_channels(self, task: Task) -> int:
        """Return the width of the evidence of a modality, 0 without evidence."""
        only_joint = set(self._kinds) <= set(JOINT_KINDS) and not self._has_own
        return 0 if only_joint else task.out_channels

    def _fit_typicality(self, data: MultimodalData) -> torch.nn.ModuleList | None:
        """Return the fitted typicality of each modality; None without."""
        if self.reliability is None:
            return None
        groups = torch.from_numpy(encode_groups(data.groups, len(data)))
        generator = torch.Generator().manual_seed(int(self.seed))
        return fit_typicality(self.input_spec_.features(data), groups, generator)

    @torch.no_grad()
    def _score_out_of_fold(self, known: TrainingSet) -> float:
        """Return the score of the pooled base learners on samples out of their fold.

        NaN without base learners. The predictions are kept.
        """
        if not self._kinds and not self._has_own:
            return math.nan
        every = torch.arange(len(known), device=known.y.device)
        joint = known.joint_evidence(known.present, every)
        pool = self.model_.ensemble.pool
        scores = pool(known.evidence, known.present, joint)
        predicted = self.model_.graph.task.activate(scores)
        self.out_of_fold_predictions_ = self._inverse_transform(predicted.cpu())
        return self._score_targets(predicted, known.y, known.sample_weight)

    def _score_targets(
        self, predicted: Tensor, y: Tensor, weight: Tensor | None
    ) -> float:
        """Return the score of outputs ``[N, K]`` against encoded targets."""
        raise AssertionError("defined by classifier and regressor")

    def _progress_dir(
        self, labeled: "LabeledSamples", processes: ProcessGroup
    ) -> CheckpointDir | None:
        """Return the checkpoint directory, or None if progress is not saved.

        Raises:
            ConfigError: If there are base learners of scikit-learn.
            PeerError: If another process fits other data or options.
        """
        checkpoint_dir = getattr(self, "checkpoint_dir", None)
        if checkpoint_dir is None and processes.size == 1:
            return None
        if self._has_own:
            raise ConfigError(
                "base_learners must hold names for several processes or a "
                "checkpoint_dir, got estimators, which cannot be saved. Leave "
                "checkpoint_dir out, and fit in one process.",
                parameter="base_learners",
            )
        run = model_params(self)
        if roles := self._custom_modules.roles:
            run["modules"] = roles
        samples = replace(labeled.data, y=labeled.y.numpy())
        run |= {"schema": samples.schema.hash, "data": samples.fingerprint}
        if labeled.weight is not None:
            weights = labeled.weight.numpy().tobytes()
            run["sample_weight"] = hashlib.sha256(weights).hexdigest()
        processes.require_same("data and options", json.dumps(run, sort_keys=True))
        if checkpoint_dir is None:
            return None
        return CheckpointDir(checkpoint_dir, run)

    # Fitting on streams

    def _fit_stream(
        self,
        stream: MultimodalStream,
        y: object,
        sample_weight: "ArrayLike | None",
    ) -> None:
        """Fit on a stream, in memory if all samples fit into it."""
        if y is not None:
            raise DataError(
                "y must be a column of the stream, got a separate argument. Name the "
                "column when you open the stream: y='died'."
            )
        stream = self._with_schema(stream)
        encoders, seed = pretrained_encoders(self.encoders), int(self.seed)
        most = sample_size(stream, encoders)
        keys: list[IntArray] = []
        sample = draw_sample(
            stream, most, seed=seed, classes=is_classifier(self), on_keys=keys.append
        )
        given = check_sample_weight(sample_weight, sample.total)
        every = None if given is None else np.sort(np.concatenate(keys))
        if len(sample.keys) == sample.total:
            self._fit(sample.data, None, given)
            return
        if sample.data.y is None:
            raise DataError(
                "fit needs labels, got a stream without y. Name their column when you "
                "open the stream: y='died'."
            )
        processes = init_process_group()
        self._name_features(sample.data)
        of_sample = None
        if every is not None and given is not None:
            of_sample = given[np.searchsorted(every, sample.keys)]
        labeled, used = self._learn(sample.data, of_sample)
        weigh = None
        if labeled.weight is not None:
            scale = 1 / float(labeled.weight.mean())
            weigh = StreamWeights(every, given, labeled.class_weights, scale)

        def read() -> "LabeledSamples":
            return replace(labeled, data=self._fit_inputs(sample.data[used]))

        def extend(training: TrainingSet) -> tuple[BatchSource, int]:
            training = hold_out(training, seed)
            preparation = StreamPreparation(
                self.input_spec_, self.model_, sample.keys[used], training, weigh
            )
            targets, prepare = self._chunk_targets, preparation.prepare
            source = StreamTraining(stream, training, seed, targets, prepare)
            return source, sample.total

        self._fit_all(processes.run_on_all(read), processes, extend)

    def _chunk_targets(self, chunk: MultimodalData) -> tuple[Tensor, IntArray]:
        """Return the targets of a chunk, and the indices of samples with a label."""
        if chunk.y is None:
            raise DataError(
                "Every part of a stream must have y if one has it, got a part without "
                "y. Write all parts with the same columns."
            )
        y, known = self._encode(chunk.y)
        return y, np.flatnonzero(known)

    # Prediction

    def _predict(self, X: "SampleLike") -> FloatArray:  # noqa: N803
        """Return ``[N, K]`` probabilities, or values of targets."""
        return self._inverse_transform(self._apply(X, lambda model: model))

    def _apply(
        self,
        X: "SampleLike",  # noqa: N803
        choose: Callable[[ResidualFusion], Callable[..., Tensor]],
    ) -> Tensor:
        """Return the output of a method of the fitted model, ``[N, D]``.

        Raises:
            CheckpointError: If it is not finite. Inputs are clipped, so that only
                weights that were changed can cause this.
        """
        check_is_fitted(self, "model_")
        if isinstance(X, MultimodalStream):
            return torch.cat([self._apply(chunk, choose) for chunk in X.chunks()])
        data = self._as_data(X)
        alone = predict_alone(lambda one: self._apply(one, choose).numpy(), data)
        if alone is not None:
            return torch.from_numpy(alone)
        output = self._predict_batches(self._read(data), choose(self.model_))
        wrong = int((~torch.isfinite(output)).flatten(1).any(1).sum())
        if wrong:
            raise CheckpointError(
                f"Predictions must be finite, got NaN or infinity for {wrong} of "
                f"{len(output)} samples. The weights of the model were changed: fit or "
                "load it again."
            )
        return output

    def _read(self, X: "SampleLike") -> MultimodalData:  # noqa: N803
        data = self.input_spec_.read(self._as_data(X), progress=self.verbose)
        self.input_spec_.warn_subsets(data)
        return self._without_unreliable(data)

    def _without_unreliable(self, data: MultimodalData) -> MultimodalData:
        """Return the samples without rows that are unlike all training rows."""
        reliability = self._reliability(data)
        if reliability is None:
            return data
        unreliable = reliability < UNRELIABLE  # NaN where missing
        names = self.input_spec_.schema.modality_names
        present = ~np.isnan(reliability)
        if listed := describe_unreliable(present, unreliable, names):
            warn(
                f"Rows unlike anything in training are treated as missing: {listed}. "
                "Look at them with check."
            )
        columns = zip(names, unreliable.T, strict=True)
        return data.mask({n: ~each for n, each in columns if n in data.columns})

    @torch.no_grad()
    def _reliability(self, data: MultimodalData) -> FloatArray | None:
        """Return the reliability ``[N, M]`` of samples as numbers, NaN where missing.

        None if the model has no typicality.
        """
        if self.model_.typicality is None:
            return None
        device = self.model_.beta.device
        values: FloatArray = np.full((len(data), len(self.input_spec_.widths)), np.nan)
        features = self.input_spec_.features(data)
        present = present_rows(features).numpy()
        for m, (x, module) in enumerate(
            zip(features, self.model_.typicality, strict=True)
        ):
            rows = np.flatnonzero(present[:, m])
            for start in range(0, len(rows), PREDICT_BATCH):
                part = rows[start : start + PREDICT_BATCH]
                values[part, m] = module(x[part].to(device)).cpu().numpy()
        return values

    def check(self, X: "SampleLike") -> DataCheck:  # noqa: N803
        """Compare samples with the training samples, without labels.

        Reported are unknown categories and values far out of range, channels whose mean
        differs by more than a training standard deviation, subsets of modalities that
        no training sample had, changed shares of missing modalities, and, for a
        classifier, modalities that contradict the others of their sample. With
        ``reliability="typical"``, rows unlike all training rows are reported, too.

        Args:
            X: Samples with any of the modalities of the training.

        Returns:
            ``findings``, empty if nothing differs; ``reliability`` and ``agreement``,
            ``[N, M]`` each.

        Raises:
            DataError: If a modality is unknown or of another width.
        """
        check_is_fitted(self, "model_")
        if isinstance(X, MultimodalStream):
            X = in_memory(X)  # noqa: N806
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", DataWarning)
            data = self.input_spec_.read(self._as_data(X), progress=self.verbose)
        messages = []
        for each in caught:
            if issubclass(each.category, DataWarning):
                messages.append(str(each.message))
            else:
                warnings.warn_explicit(
                    each.message, each.category, each.filename, each.lineno
                )
        data = self.input_spec_.complete(data)
        agreement = None
        if isinstance(self.model_.graph.task, Classification):
            agreement = contradictions(self._predict_complete, data)
        return compare(
            data,
            self.input_spec_,
            self.training_summary_,
            messages,
            self._reliability(data),
            agreement,
        )

    def explain(
        self,
        X: "SampleLike",  # noqa: N803
        *,
        orders: int | None = None,
        seed: int = 0,
    ) -> Explanation:
        """Shapley values of the modalities of each sample.

        The explained output is that of ``predict_proba`` or, for a regressor, of
        ``predict``. Its difference from the output with nothing observed is divided
        among the modalities. The value of a coalition of modalities is the prediction
        from just these, so that nothing is imputed. A missing modality gets exactly 0;
        what its absence contributes is credited to the modalities that are present.

        With up to 8 modalities every coalition is evaluated: ``2 ** present``
        predictions per sample. With more, modalities are added in random orders; the
        sum of the values does not depend on the orders.

        Args:
            X: Samples with any of the modalities of the training.
            orders: Number of random orders, each with its reverse; default: all orders
                for up to 8 modalities, 32 random ones for more.
            seed: Seed of the orders, which are the same for every sample.

        Returns:
            ``base [K]``, ``values [N, M, K]`` and the names of the modalities of the
            training; ``base + values.sum(1)`` is the prediction ``[N, K]``.

        Raises:
            DataError: If a modality is unknown or of another width, or ``orders`` is
                below one.

        References:
            A Value for n-Person Games, Shapley, 1953. Polynomial Calculation of the
            Shapley Value Based on Sampling, Castro, Gomez, Tejada, 2009.
        """
        check_is_fitted(self, "model_")
        if isinstance(X, MultimodalStream):
            parts = [self.explain(x, orders=orders, seed=seed) for x in X.chunks()]
            return parts[0]._replace(values=np.concatenate([x.values for x in parts]))
        data = self._read_complete(X)
        return explain(self._predict_complete, data, orders=orders, seed=seed)

    def acquire(
        self,
        X: "SampleLike",  # noqa: N803
        donors: "SampleLike",
        candidates: Sequence[str] | None = None,
        *,
        num_donors: int = 20,
        cost: Mapping[str, float] | None = None,
    ) -> Acquisition:
        r"""Expected information about the label of each missing modality.

        A missing modality is filled in turn with the content of donors: samples that
        have it, and whose predictions from the modalities of the sample are nearest.
        With predictions :math:`p_j` and weights :math:`w_j` such that the mean
        prediction is today's prediction :math:`p`, the value is
        :math:`\sum_j w_j \, \mathrm{KL}(p_j \,\|\, p)` in nats; for a regressor,
        :math:`\mathrm{E}\,(\hat y_j - \hat y)^2 / 2 s^2` with the training standard
        deviation :math:`s`. See :mod:`mmgraph.acquisition`.

        Args:
            X: Samples with any of the modalities of the training.
            donors: Samples such as those of the training, labels are not used. A sample
                is never its own donor (equal ids), nor is a sample of its group.
            candidates: Modalities that can be acquired; default: all.
            num_donors: Donors per sample and modality, each a prediction.
            cost: Cost of each modality, above 0; default: 1.

        Returns:
            ``value [N, M]``, NaN where a modality is observed or has fewer than 5
            donors; ``low`` and ``high [N, M, K]``, the range of the prediction after
            the acquisition; ``best``, the modality with the largest value per cost;
            ``plan(budget)``.

        Raises:
            DataError: If a candidate is unknown, or no donor has it.
            ConfigError: If a cost or ``num_donors`` has an invalid value, or the model
                predicts several labels.

        References:
            On a Measure of the Information Provided by an Experiment, Lindley, 1956.
            EDDI: Efficient Dynamic Discovery of High-Value Information with Partial
            VAE, Ma et al., 2019, arXiv 1809.11142.
        """
        check_is_fitted(self, "model_")
        return acquire(
            self._predict_complete,
            self._read_complete(X),
            self._read_complete(donors),
            self._belief(),
            candidates=candidates,
            num_donors=num_donors,
            cost=cost,
        )

    def _belief(self) -> Belief:
        """Return the belief that makes predictions with donors coherent."""
        raise AssertionError("defined by classifier and regressor")

    def _read_complete(self, X: "SampleLike") -> MultimodalData:  # noqa: N803
        """Return samples as numbers, with every modality of the training."""
        return self.input_spec_.complete(self._read(X))

    def is_training_data(self, data: MultimodalData) -> bool:
        """Return True if the samples that have a label are those of the training.

        Scores, thresholds and calibration on them are too optimistic. A part of them,
        or another order, is not recognized.

        Args:
            data: Samples with any of the modalities of the training.
        """
        check_is_fitted(self, "model_")
        summary = self.training_summary_
        if summary is None or data.y is None:
            return False
        known = labeled_rows(np.asarray(data.y))
        if known.sum() != summary.num_samples:
            return False
        return self._is_training(self._read_complete(data[known]))

    def _is_training(self, samples: MultimodalData) -> bool:
        """Return True if labeled samples, as numbers, are those of the training."""
        summary = self.training_summary_
        return summary is not None and _fingerprint(samples) == summary.fingerprint

    def _predict_complete(self, data: MultimodalData) -> FloatArray:
        """Return ``[N, K]`` predictions of samples as numbers."""
        return self._inverse_transform(self._predict_batches(data, self.model_))

    def _read_calibration(
        self,
        X: "SampleLike",  # noqa: N803
        y: "LabelLike | None",
    ) -> MultimodalData:
        """Return the calibration samples with a label, as numbers.

        Raises:
            DataError: If there are no labels.
        """
        check_is_fitted(self, "model_")
        data = X if isinstance(X, MultimodalData) else self._as_data(X)
        data = data if y is None else data.replace(y=y)
        known = np.zeros(len(data), dtype=bool)
        if data.y is not None:
            known = labeled_rows(np.asarray(data.y))
        if not known.any():
            raise DataError(
                "calibration must have labels, got none. Give samples with y, or y=."
            )
        samples = self._read_complete(data[known])
        if self._is_training(samples):
            warnings.warn(
                "calibration must hold samples that were not used in training, got the "
                "training samples. They are predicted better than new ones, so sets "
                "and intervals are too small.",
                DataWarning,
                stacklevel=3,
            )
        return samples

    def transform(self, X: "SampleLike") -> npt.NDArray[np.float32]:  # noqa: N803
        """Sample states of the graph networks, ``[N, E D]``, or evidence.

        The states of the members are concatenated: their axes have nothing in common,
        so that a mean over them would cancel what each has learned. A sample with
        nothing observed has the learned state of an empty graph.

        Without graph networks (``graph=False``, or the level "data" or "model"), these
        are the scores of the base learners minus the prior, zero where nothing is
        observed.

        Args:
            X: Samples with any of the modalities of the training.

        Raises:
            DataError: If a modality is unknown or of another width.
        """
        of_graph = self._has_graph
        z: npt.NDArray[np.float32] = self._apply(
            X, lambda model: model.states if of_graph else model.evidence
        ).numpy()
        return z

    def get_feature_names_out(
        self,
        input_features: object = None,
    ) -> npt.NDArray[np.object_]:
        """Names of the columns of :meth:`transform`.

        "member0_state0" and so on; without graph networks "labs_expert0_output0" and
        "joint_expert0_output0".

        Args:
            input_features: Ignored; states do not correspond to features.
        """
        check_is_fitted(self, "model_")
        if not self._has_graph:
            return np.array(self._evidence_names(), dtype=object)
        width = self.model_.graph.readout.out_channels
        names = [
            f"member{e}_state{d}"
            for e in range(int(self.members))
            for d in range(width)
        ]
        return np.array(names, dtype=object)

    def _evidence_names(self) -> list[str]:
        """Return a name for each output of each base learner."""
        ensemble, names = self.model_.ensemble, self.schema_.modality_names
        lists = [*ensemble.expert_lists, ensemble.joint]
        pairs = zip((*names, "joint"), lists, strict=True)
        return [
            f"{name}_expert{x}_output{k}"
            for name, learners in pairs
            for x in range(len(learners))
            for k in range(self.model_.graph.task.out_channels)
        ]

    # Saving

    @property
    def _conformal(self) -> ConformalPrediction | None:
        """Conformal predictions of a classifier or regressor; None without."""
        return getattr(self, "conformal_", None)

    @property
    def _custom_modules(self) -> CustomModules:
        return CustomModules.of(self.conv, self.encoders)

    def _set_modules(self, modules: CustomModules) -> None:
        self.conv, self.encoders = modules

    def _save(self, folder: PathLike, entries: Mapping[str, Any]) -> None:
        if self._has_own:
            raise CheckpointError(
                "A saved model must have base learners of mmgraph, got estimators of "
                "scikit-learn, which only unpickling could restore. Give names to "
                "base_learners."
            )
        super()._save(folder, entries)

    def _model_config(self) -> dict[str, Any]:
        config = {
            "num_features_in": getattr(self, "n_features_in_", None),
            "feature_names_in": getattr(
                self, "feature_names_in_", np.empty(0)
            ).tolist(),
            "ensemble": ensemble_config(self.model_.ensemble),
            "target": self._target_config(),
            "out_of_fold_score": _json_number(self.out_of_fold_score_),
        }
        if modules := describe_modules(self.model_.graph):
            config["modules"] = modules
        if self.model_.typicality is not None:
            config["num_landmarks"] = num_landmarks(self.model_.typicality)
        if self.training_summary_ is not None:
            config["training_summary"] = self.training_summary_.to_json()
        conformal = self._conformal
        if conformal is not None:
            config["conformal"] = conformal.to_json()
        return config

    @property
    def branch_weights_(self) -> dict[str, float]:
        """Weights of base learners and graph networks for a complete sample."""
        return self.model_.branch_weights()

    @property
    def summary_(self) -> str:
        """Inputs, training, scores and weights as Markdown, without sample values."""
        check_is_fitted(self, "model_")
        predicts, score = self._card_target()
        return model_card(
            type(self).__name__,
            self.input_spec_.inputs,
            predicts=predicts,
            score=score,
            out_of_fold=self.out_of_fold_score_,
            summary=self.training_summary_,
            weights=self.branch_weights_,
            conformal=self._conformal,
        )

    def _card_target(self) -> tuple[str, str]:
        """Return what the model predicts, and the name of its score."""
        raise AssertionError("defined by classifier and regressor")

    def _model_from_config(self, manifest: dict[str, Any]) -> ResidualFusion:
        self._restore_features(manifest)
        score = manifest.get("out_of_fold_score")
        self.out_of_fold_score_ = math.nan if score is None else float(score)
        task = self._target_from_config(manifest["target"])
        if "training_summary" in manifest:
            self.training_summary_ = TrainingSummary.from_json(
                manifest["training_summary"], len(self.input_spec_.widths)
            )
        if "conformal" in manifest:
            conformal = self._conformal_from_config(manifest["conformal"])
            self.__dict__["conformal_"] = conformal
        widths = self.input_spec_.widths
        ensemble = ensemble_from_config(manifest["ensemble"], widths, task)
        graph = self._build_graph(task, self._evidence_channels(task))
        return ResidualFusion(ensemble, graph, self._typicality_from_config(manifest))

    def _typicality_from_config(
        self, manifest: Mapping[str, Any]
    ) -> torch.nn.ModuleList | None:
        """Build the typicality of each modality, with empty tensors."""
        if self.reliability is None:
            return None
        counts, widths = manifest["num_landmarks"], self.input_spec_.widths
        if not all(type(count) is int and count > 0 for count in counts):
            raise CheckpointError(
                f"num_landmarks must be whole numbers above 0, got {shorten(counts)}."
            )
        pairs = zip(widths, counts, strict=True)
        return torch.nn.ModuleList(Typicality(*sizes) for sizes in pairs)

    def _restore_features(self, manifest: Mapping[str, Any]) -> None:
        """Restore the attributes of scikit-learn for the inputs."""
        names = manifest.get("feature_names_in") or []
        number = manifest["num_features_in"]
        if number is None:  # a model of format 1 or 2 of multimodal data
            names = list(self.input_spec_.schema.modality_names)
        self.n_features_in_ = len(names) if number is None else int(number)
        if names:
            if len(names) != self.n_features_in_:
                raise CheckpointError("Every feature must have a name.")
            self.feature_names_in_ = np.array(list(map(str, names)), dtype=object)

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


@dataclass(frozen=True)
class LabeledSamples:
    """Labeled training samples.

    Attributes:
        data: Samples.
        y: Encoded targets.
        task: Prediction task.
        weight: ``[N]`` weights above 0; None weights all samples equally.
        class_weights: ``[K]`` weights of the classes that are part of ``weight``.
    """

    data: MultimodalData
    y: Tensor
    task: Task
    weight: Tensor | None = None
    class_weights: FloatArray | None = None


@dataclass(frozen=True)
class StreamWeights:
    """Weights of the samples of a stream.

    Attributes:
        keys: Keys of all samples, ascending; None without sample weights.
        values: Sample weight of each key, or None.
        classes: ``[K]`` weights of the classes, or None.
        scale: Factor that gives the weights of the sample the mean 1.
    """

    keys: IntArray | None
    values: FloatArray | None
    classes: FloatArray | None
    scale: float

    def __call__(self, keys: IntArray, y: Tensor) -> Tensor:
        """Return the weights of samples with encoded targets ``y``."""
        given = None
        if self.keys is not None and self.values is not None:
            given = self.values[np.searchsorted(self.keys, keys)]
        weight = _total_weight(given, self.classes, y)
        assert weight is not None
        return torch.from_numpy(weight * self.scale).float()


def _total_weight(
    given: FloatArray | None, classes: FloatArray | None, codes: Tensor
) -> FloatArray | None:
    """Return the product of sample weights and class weights, or None without any."""
    if classes is None:
        return given
    of_class = np.where(codes.numpy() >= 0, classes[codes.numpy()], 0.0)
    return of_class if given is None else given * of_class


def _fingerprint(data: MultimodalData) -> str:
    """Return the SHA-256 of the content of samples, without labels."""
    return data.replace(y=None, groups=None, split_name=None).fingerprint


def _json_number(value: float) -> float | None:
    """Return a number for JSON, which has no NaN."""
    return value if math.isfinite(value) else None


def _is_dict(X: Any) -> TypeGuard[Mapping[str, Any]]:  # noqa: ANN401, N803
    """Return True for a dict, but not for a sparse matrix that is a kind of dict."""
    from scipy.sparse import issparse

    return isinstance(X, Mapping) and not issparse(X)


def _refuse_mapping(X: object) -> None:  # noqa: N803
    """Refuse a dict of arrays by modality in place of multimodal data.

    Raises:
        DataError: If ``X`` is a mapping.
    """
    if _is_dict(X):
        raise DataError(
            "X must be MultimodalData, a stream or an array [N, C], got a dict of "
            f"{', '.join(map(str, X)) or 'nothing'}. Build it with "
            "MultimodalData.from_arrays(X)."
        )


def sample_size(
    stream: MultimodalStream, encoders: Mapping[str, Encoder] | None = None
) -> int:
    """Return the number of samples to which base learners are fitted.

    Raises:
        DataError: If the memory of the stream holds too few samples.
    """
    first = declare_texts(next(stream.shard(0, 1).chunks(MIN_SAMPLE)), encoders)
    first = Featurizer.fit(first, encoders).transform(first)
    width = sum(x.shape[1] for x in first.features().values())
    by_rows = stream.memory // SAMPLE_SHARE // stream.row_bytes
    by_features = stream.memory // FEATURE_SHARE // (4 * width)
    most = min(MAX_SAMPLE, by_rows, by_features)
    widths = [x.shape[1] for x in first.features().values()]
    views = sum(view.out_features for view in plan_views(first.schema, widths))
    if views:  # tables are held of at most 2500 samples
        by_views = max(stream.memory // VIEW_SHARE // (4 * views), MIN_SAMPLE)
        most = most if by_views >= MAX_LANDMARKS else min(most, by_views)
    if most < MIN_SAMPLE:
        raise DataError(
            f"memory must hold at least {MIN_SAMPLE} samples for the base learners, "
            f"got {most} in {stream.memory} bytes. Open the stream with more memory.",
            parameter="memory",
        )
    return most


def hold_out(training: TrainingSet, seed: int) -> TrainingSet:
    """Return the sample with one fold held out from every member.

    Members are trained on all other samples of the stream; the weight of the graph
    networks is chosen on the held-out fold alone.
    """
    groups = training.groups.cpu().numpy()
    ungrouped = len(np.unique(groups)) == len(groups)
    folds = assign_folds(
        training.y.cpu().numpy(), None if ungrouped else groups, NUM_HELD_OUT, seed=seed
    )
    weights = training.member_weights
    kept = torch.from_numpy(folds > 0).to(weights)
    if training.sample_weight is not None:
        kept = kept * training.sample_weight
    return replace(training, member_weights=kept.expand(len(weights), -1).contiguous())


@dataclass(frozen=True)
class StreamPreparation:
    """Conversion of labeled samples of a stream into training data of the graph.

    Attributes:
        inputs: Description of the inputs.
        model: Model whose base learners were fitted to the sample.
        keys: ``[S]`` keys of the sampled samples, ascending.
        sample: Sampled samples, with their out-of-fold evidence.
        weigh: Weights of samples, or None if all are equal.
    """

    inputs: InputSpec
    model: ResidualFusion
    keys: IntArray
    sample: TrainingSet
    weigh: "StreamWeights | None" = None

    @torch.no_grad()
    def prepare(self, chunk: MultimodalData, keys: IntArray, y: Tensor) -> TrainingSet:
        """Return labeled samples with the evidence of the base learners.

        Samples of the random sample get their out-of-fold evidence and their member
        weights.

        Args:
            chunk: Labeled samples.
            keys: Keys of the samples.
            y: Encoded targets.
        """
        sample, ensemble = self.sample, self.model.ensemble
        data = self.inputs.read(chunk)
        device = sample.y.device
        features = [x.to(device) for x in self.inputs.features(data)]
        evidence, present, scores, objects = self._predict(data, features)
        features += objects
        members = len(sample.member_weights)
        weights = sample.member_weights.new_ones(members, len(keys))
        if self.weigh is not None:
            weights = weights * self.weigh(keys, y).to(weights)
        place = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        sampled = torch.from_numpy(self.keys[place] == keys)
        where = torch.from_numpy(place)[sampled]
        evidence[sampled] = sample.evidence[where]
        weights[:, sampled] = sample.member_weights[:, where]
        sampled, numbers = sampled.to(device), torch.from_numpy(place).to(device)

        def joint_evidence(kept: Tensor, indices: Tensor) -> Tensor | None:
            rows = [x[indices] for x in features]
            own_scores = None if scores is None else scores[indices]
            joint = predict_joint(
                ensemble.joint,
                rows,
                kept,
                ensemble.pool.prior,
                submodel_scores=own_scores,
            )
            mine = sampled[indices]
            own = sample.joint_evidence(kept[mine], numbers[indices][mine])
            if joint is not None and own is not None:
                joint[mine] = own
            return joint

        return TrainingSet(
            batch_of=lambda indices: data.batch(indices.cpu().numpy()).to(device),
            present=present,
            evidence=evidence,
            y=y.to(device),
            member_weights=weights,
            groups=torch.arange(len(keys), device=device),
            joint_evidence=joint_evidence,
            ids=chunk.ids,
        )

    def _predict(
        self, data: MultimodalData, features: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor | None, list[Tensor]]:
        """Return evidence, presence, scores of all submodels, and tables of objects.

        The tables of views are wide: they are computed for few samples at a time.

        Args:
            data: Samples as numbers.
            features: ``[N, F_m]`` description of each modality.
        """
        ensemble = self.model.ensemble
        parts: list[tuple[Tensor, Tensor]] = []
        scores: list[Tensor] = []
        objects: list[list[Tensor]] = []
        count = sum(isinstance(view, ObjectView) for view in ensemble.views)
        size = TABLE_ROWS if len(ensemble.views) else max(len(data), 1)
        for rows in torch.arange(len(data)).split(size):
            batch = data.batch(rows.numpy()).to(features[0].device)
            tables = ensemble.tables(batch, [x[rows] for x in features])
            own = ensemble.submodel_scores(tables)
            objects.append(tables[len(tables) - count :])
            parts.append(ensemble.evidence(tables))
            scores += [] if own is None else [own]
        evidence, present = (torch.cat(each) for each in zip(*parts, strict=True))
        merged = [torch.cat(each) for each in zip(*objects, strict=True)]
        return evidence, present, torch.cat(scores) if scores else None, merged
