"""Classifier and regressor: stacked ensembles with a residual graph network.

A stream that does not fit into memory is fitted in two steps. Base learners, pool and
scaling are fitted to a random sample, whose size depends on the memory of the stream;
the sample also validates the members. For all other samples, predictions of the base
learners are out of sample by construction. The members are trained on all samples, in
batches of the stream.

Letters: ``N`` samples, ``K`` outputs, ``M`` modalities, ``E`` members, ``D`` width of a
member's state, ``S`` sampled samples.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import (
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    is_classifier,
)
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    validate_data,
)
from torch import Tensor

from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.column import BoolArray, IntArray
from mmgraph.data.splits import assign_folds
from mmgraph.data.stream.sampling import draw_sample
from mmgraph.distributed import ProcessGroup, init_process_group
from mmgraph.errors import DataError
from mmgraph.estimators.base import (
    AnyArray,
    FloatArray,
    FusionEstimator,
    LabelLike,
    SampleLike,
)
from mmgraph.estimators.explain import Explanation, explain
from mmgraph.estimators.featurize import Encoder, Featurizer
from mmgraph.estimators.input_spec import InputSpec
from mmgraph.estimators.persistence import model_params
from mmgraph.estimators.validation import (
    naming_frames,
    refuse_mapping,
    with_labels,
)
from mmgraph.experts.ensemble import predict_joint
from mmgraph.experts.fit import Fitting
from mmgraph.experts.residual import ResidualFusion
from mmgraph.experts.serialization import ensemble_config, ensemble_from_config
from mmgraph.nn.heads import Task
from mmgraph.train import BatchSource, TrainingSet
from mmgraph.train.progress_dir import CheckpointDir
from mmgraph.train.schedule import StepSchedule
from mmgraph.train.stream import StreamTraining

Extend: TypeAlias = Callable[[TrainingSet], tuple[BatchSource, int]]

ARRAY_MODALITY = "x"  # modality of a plain array
READ_ARRAY = {"dtype": "numeric", "ensure_all_finite": "allow-nan"}
READ_LABELS = {"dtype": None, "ensure_2d": False, "ensure_all_finite": "allow-nan"}
MIN_SAMPLE, MAX_SAMPLE = 64, 20_000  # larger forests improve little on more samples
SAMPLE_SHARE = 16  # fraction of the memory for raw samples: 1 / 16,
FEATURE_SHARE = 160  # and for their features: 1 / 160, since fits make copies
NUM_HELD_OUT = 5  # one fold out of five of the sample validates the members


class SupervisedEstimator(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, FusionEstimator
):
    """Base class of classifier and regressor: fit, predict, explain, transform."""

    _budget = StepSchedule(80, 240, 2500, at_least_one_epoch=True)
    model_: ResidualFusion

    # Defined by the task

    def _learn_targets(self, y: AnyArray) -> tuple[Tensor, BoolArray, Task]:
        """Learn classes or scales; return encoded targets, their mask, and the task."""
        raise AssertionError("defined by classifier and regressor")

    def _encode(self, y: AnyArray) -> tuple[Tensor, BoolArray]:
        """Return encoded targets, and which samples have one."""
        raise AssertionError("defined by classifier and regressor")

    def _target_config(self) -> dict[str, Any]:
        """Return what :meth:`_target_from_config` reads, as JSON."""
        raise AssertionError("defined by classifier and regressor")

    def _target_from_config(self, config: dict[str, Any]) -> Task:
        raise AssertionError("defined by classifier and regressor")

    def _inverse_transform(self, scores: Tensor) -> FloatArray:
        """Return outputs of the model in the units of the targets."""
        values: FloatArray = scores.double().numpy()
        return values

    # Fitting

    def _fit(self, X: "SampleLike", y: "LabelLike | None") -> None:  # noqa: N803
        """Fit in this process, or in every process of its group."""
        self._check_params()
        if isinstance(X, MultimodalStream):
            self._fit_stream(X, y)
            return
        processes = init_process_group()
        data, targets, task = processes.run_on_all(lambda: self._prepare(X, y))
        self._fit_all(data, targets, task, processes)

    def _prepare(
        self,
        X: "SampleLike",  # noqa: N803
        y: "LabelLike | None",
    ) -> tuple[MultimodalData, Tensor, Task]:
        """Return the samples with known targets as numbers, their targets, the task."""
        if not isinstance(X, MultimodalData):
            refuse_mapping(X)
            how = READ_ARRAY, READ_LABELS
            with naming_frames(X):
                _, y = validate_data(self, X, y, validate_separately=how)
            check_consistent_length(X, y)
        data = with_labels(self._as_data(X, reset=True), y)
        if self.schema is not None:
            data = data.with_schema(self.schema)
        targets, known, task = self._learn_targets(np.asarray(data.y))
        return self._fit_inputs(data[known]), targets[torch.from_numpy(known)], task

    def _as_data(self, X: "SampleLike", *, reset: bool = False) -> MultimodalData:  # noqa: N803
        """Return multimodal data; a plain array is one modality named ``x``."""
        if isinstance(X, MultimodalData):
            return X
        refuse_mapping(X)
        with naming_frames(X):
            array = validate_data(self, X, reset=reset, **READ_ARRAY)
        with np.errstate(over="ignore"):  # values that overflow are refused as infinite
            array = array.astype(np.float32)
        return MultimodalData.from_arrays({ARRAY_MODALITY: array})

    def _fit_inputs(self, data: MultimodalData) -> MultimodalData:
        options = {"encoders": self.encoders, "device": self.device}
        spec, data = InputSpec.fit(data, progress=self.verbose, **options)  # type: ignore[arg-type]
        self.input_spec_ = spec
        return data

    def _fit_all(
        self,
        data: MultimodalData,
        y: Tensor,
        task: Task,
        processes: ProcessGroup,
        extend: Extend | None = None,
    ) -> None:
        """Fit base learners, pool and graph networks.

        Args:
            data: Samples as numbers.
            y: Encoded targets.
            task: Prediction task.
            processes: Process group.
            extend: Maps the training data of the graph networks to a source of more
                samples and their number; default: no more samples.
        """
        progress = self._progress_dir(data, y, processes)
        fitting = Fitting(data, y, task, int(self.seed), processes, progress)
        evidence, ensemble = fitting.experts(self.experts)
        model = ResidualFusion(ensemble, self._build_graph(task, task.out_channels))
        model.graph.fit_scaling(data.batch())
        device = self._resolve_device(processes)
        self.model_ = model.to(device)
        known = fitting.training_set(evidence, int(self.members), device)
        samples, num_samples = extend(known) if extend else (known, len(known))
        self._fit_graph(
            self.model_.ensemble.pool, samples, num_samples, processes, progress
        )
        if progress is not None and processes.is_main_process:
            progress.remove()

    def _progress_dir(
        self, data: MultimodalData, y: Tensor, processes: ProcessGroup
    ) -> CheckpointDir | None:
        """Return the checkpoint directory, or None if progress is not saved.

        Raises:
            PeerError: If another process fits other data or options.
        """
        checkpoint_dir = getattr(self, "checkpoint_dir", None)
        if checkpoint_dir is None and processes.size == 1:
            return None
        run = model_params(self)
        samples = replace(data, y=y.numpy())
        run |= {"schema": data.schema.hash, "data": samples.fingerprint}
        processes.require_same("data and options", json.dumps(run, sort_keys=True))
        if checkpoint_dir is None:
            return None
        return CheckpointDir(checkpoint_dir, run)

    # Fitting on streams

    def _fit_stream(self, stream: MultimodalStream, y: object) -> None:
        """Fit on a stream, in memory if all samples fit into it."""
        if y is not None:
            raise DataError(
                "y must be a column of the stream, got a separate argument. Name the "
                "column when you open the stream: y='died'."
            )
        if self.schema is not None:
            stream = stream.with_schema(self.schema)
        most, seed = sample_size(stream, self.encoders), int(self.seed)
        sample = draw_sample(stream, most, seed=seed, classes=is_classifier(self))
        if len(sample.keys) == sample.total:
            self._fit(sample.data, None)
            return
        if sample.data.y is None:
            raise DataError(
                "fit needs labels, got a stream without y. Name their column when you "
                "open the stream: y='died'."
            )
        processes = init_process_group()
        targets, known, task = self._learn_targets(np.asarray(sample.data.y))

        def read() -> MultimodalData:
            return self._fit_inputs(sample.data[known])

        data = processes.run_on_all(read)

        def extend(training: TrainingSet) -> tuple[BatchSource, int]:
            training = hold_out(training, seed)
            preparation = StreamPreparation(
                self.input_spec_, self.model_, sample.keys[known], training
            )
            targets, prepare = self._chunk_targets, preparation.prepare
            source = StreamTraining(stream, training, seed, targets, prepare)
            return source, sample.total

        self._fit_all(data, targets[torch.from_numpy(known)], task, processes, extend)

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
        """Return the output of a method of the fitted model, ``[N, D]``."""
        check_is_fitted(self, "model_")
        if isinstance(X, MultimodalStream):
            return torch.cat([self._apply(chunk, choose) for chunk in X.chunks()])
        return self._predict_batches(self._read(X), choose(self.model_))

    def _read(self, X: "SampleLike") -> MultimodalData:  # noqa: N803
        return self.input_spec_.read(self._as_data(X), progress=self.verbose)

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

        def predict(part: MultimodalData) -> FloatArray:
            return self._inverse_transform(self._predict_batches(part, self.model_))

        data = self.input_spec_.complete(self._read(X))
        return explain(predict, data, orders=orders, seed=seed)

    def transform(self, X: "SampleLike") -> npt.NDArray[np.float32]:  # noqa: N803
        """Sample states of the graph networks, ``[N, E D]``.

        The states of the members are concatenated: their axes have nothing in common,
        so that a mean over them would cancel what each has learned. A sample with
        nothing observed has the learned state of an empty graph.

        Args:
            X: Samples with any of the modalities of the training.

        Raises:
            DataError: If a modality is unknown or of another width.
        """
        z: npt.NDArray[np.float32] = self._apply(X, lambda model: model.states).numpy()
        return z

    @property
    def _n_features_out(self) -> int:
        check_is_fitted(self, "model_")
        graph = self.model_.graph
        return int(self.members) * graph.readout.out_channels

    # Saving

    def _model_config(self) -> dict[str, Any]:
        return {
            "num_features_in": getattr(self, "n_features_in_", None),
            "ensemble": ensemble_config(self.model_.ensemble),
            "target": self._target_config(),
        }

    def _model_from_config(self, manifest: dict[str, Any]) -> ResidualFusion:
        if manifest["num_features_in"] is not None:
            self.n_features_in_ = int(manifest["num_features_in"])
        task = self._target_from_config(manifest["target"])
        widths = self.input_spec_.widths
        ensemble = ensemble_from_config(manifest["ensemble"], widths, task)
        return ResidualFusion(ensemble, self._build_graph(task, task.out_channels))

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


def sample_size(
    stream: MultimodalStream, encoders: Mapping[str, Encoder] | None = None
) -> int:
    """Return the number of samples to which base learners are fitted.

    Raises:
        DataError: If the memory of the stream holds too few samples.
    """
    first = next(stream.shard(0, 1).chunks(MIN_SAMPLE))
    first = Featurizer.fit(first, encoders).transform(first)
    width = sum(x.shape[1] for x in first.features().values())
    by_rows = stream.memory // SAMPLE_SHARE // stream.row_bytes
    by_features = stream.memory // FEATURE_SHARE // (4 * width)
    most = min(MAX_SAMPLE, by_rows, by_features)
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
    return replace(training, member_weights=kept.expand(len(weights), -1).contiguous())


@dataclass(frozen=True)
class StreamPreparation:
    """Conversion of labeled samples of a stream into training data of the graph.

    Attributes:
        inputs: Description of the inputs.
        model: Model whose base learners were fitted to the sample.
        keys: ``[S]`` keys of the sampled samples, ascending.
        sample: Sampled samples, with their out-of-fold evidence.
    """

    inputs: InputSpec
    model: ResidualFusion
    keys: IntArray
    sample: TrainingSet

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
        evidence, present = ensemble.evidence(features)
        members = len(sample.member_weights)
        weights = sample.member_weights.new_ones(members, len(keys))
        place = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        sampled = torch.from_numpy(self.keys[place] == keys)
        where = torch.from_numpy(place)[sampled]
        evidence[sampled] = sample.evidence[where]
        weights[:, sampled] = sample.member_weights[:, where]
        sampled, numbers = sampled.to(device), torch.from_numpy(place).to(device)

        def joint_evidence(kept: Tensor, indices: Tensor) -> Tensor | None:
            rows = [x[indices] for x in features]
            joint = predict_joint(ensemble.joint, rows, kept, ensemble.pool.prior)
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
