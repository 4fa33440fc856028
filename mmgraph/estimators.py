"""Estimators with scikit-learn's conventions, on data with missing modalities.

Letters: ``N`` samples, ``K`` classes, labels or targets, ``M`` modalities.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from mmgraph import checkpoint
from mmgraph.data import MultimodalData
from mmgraph.errors import CheckpointError, DataError
from mmgraph.evidence import ExpertKind, fit_evidence, fit_pool, link_of
from mmgraph.folds import assign_folds, member_bags
from mmgraph.inputs import ARRAY_MODALITY, embed_text, features_of, labelled
from mmgraph.labels import missing_labels
from mmgraph.model import FusionModel
from mmgraph.nn.conv import Capacity
from mmgraph.nn.experts import EvidencePool, LinearExpert, TreeExpert
from mmgraph.nn.heads import Classification, MultiLabel, Regression, Task
from mmgraph.residual import ResidualFusion
from mmgraph.schema import Schema
from mmgraph.train import TrainingSet, TrainOptions, fit_members

FloatArray = npt.NDArray[np.floating[Any]]
AnyArray = npt.NDArray[Any]
SelfT = TypeVar("SelfT", bound="FusionEstimator")

NUM_FOLDS = 5
PREDICT_BATCH = 2048
DEFAULT_EPOCHS, MIN_STEPS, MAX_STEPS = 150, 600, 4000


class FusionEstimator(BaseEstimator):
    """What classifier and regressor share: fitting, predicting, saving.

    Args:
        schema: The graph of a sample; default: the schema of the data.
        hidden_channels: Width of node states.
        num_layers: Graph layers.
        num_heads: Attention heads.
        capacity: What a relation has of its own: "bias", "scalar" or "full".
        feed_forward: "typed", "mixture" of experts, or "none".
        members: Ensemble members, trained together.
        experts: Kinds of unimodal experts, of "linear" and "forest".
        epochs: Most passes over the data; default: as many as give 600 to 4000 steps.
            Training stops early when no member improves on its held-out samples.
        batch_size: Samples a step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        missing_rate: Mean rate of modality dropout in training.
        completion: Learn to complete held-out modalities as an auxiliary task.
        device: Where to compute; default: a GPU if there is one.
        seed: Of everything that is random.
        verbose: Show a progress bar; default: only on a terminal.
    """

    _task_name = ""

    def __init__(
        self,
        *,
        schema: Schema | None = None,
        hidden_channels: int = 32,
        num_layers: int = 2,
        num_heads: int = 4,
        capacity: Capacity = "bias",
        feed_forward: str = "typed",
        members: int = 8,
        experts: Sequence[ExpertKind] = ("linear", "forest"),
        epochs: int | None = None,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.05,
        missing_rate: float = 0.4,
        completion: bool = False,
        device: str | None = None,
        seed: int = 0,
        verbose: bool | None = None,
    ) -> None:
        self.schema = schema
        self.hidden_channels = hidden_channels
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.capacity = capacity
        self.feed_forward = feed_forward
        self.members = members
        self.experts = experts
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.missing_rate = missing_rate
        self.completion = completion
        self.device = device
        self.seed = seed
        self.verbose = verbose

    # Input

    def _read(self, X: Any, *, reset: bool) -> MultimodalData:  # noqa: ANN401, N803
        """Return multimodal data; a plain array is one modality named ``x``."""
        if isinstance(X, MultimodalData):
            data = X
        else:
            array = validate_data(
                self, X, reset=reset, dtype="numeric", ensure_all_finite="allow-nan"
            )
            data = MultimodalData.from_arrays(
                {ARRAY_MODALITY: array.astype(np.float32)}
            )
        data = embed_text(data)
        if not reset:
            data.check(self.schema_)
        return data

    # Fitting

    def _read_labelled(self, X: Any, y: Any) -> MultimodalData:  # noqa: ANN401, N803
        if not isinstance(X, MultimodalData):
            X, y = validate_data(  # noqa: N806
                self,
                X,
                y,
                dtype="numeric",
                ensure_all_finite="allow-nan",
                multi_output=True,
            )
        return labelled(self._read(X, reset=True), y)

    def _fit(self, data: MultimodalData, y: Tensor, task: Task) -> None:
        """Fit experts, pool and graph on labelled data with encoded targets ``y``."""
        groups = data.groups
        self.schema_ = self.schema or data.schema
        data.check(self.schema_)
        absent = [m for m in self.schema_.modality_names if m not in data.columns]
        if absent:
            raise DataError(
                f"Training data must have the modality {absent[0]!r} of the schema, "
                f"got {', '.join(data.modalities)}."
            )
        data = data.select(self.schema_.modality_names)
        features = {k: torch.from_numpy(v) for k, v in data.features().items()}
        self.feature_widths_ = [x.shape[1] for x in features.values()]
        keys = y.numpy()
        num_folds = min(NUM_FOLDS, len(data))
        folds = assign_folds(keys, groups, num_folds, seed=self.seed)
        evidence = fit_evidence(
            features,
            y,
            task,
            torch.from_numpy(folds),
            kinds=tuple(self.experts),
            grouped=groups is not None,
            seed=self.seed,
        )
        pool = fit_pool(evidence, y, task, seed=self.seed)
        model = ResidualFusion(evidence.experts, pool, self._graph(self.schema_, task))
        model.graph.fit_scaling(data.batch())
        bags = member_bags(keys, groups, self.members, num_folds, seed=self.seed)
        device = self._device()
        self.model_ = model.to(device)
        training = TrainingSet(
            batch_of=lambda indices: data.batch(indices.numpy()).to(device),
            present=evidence.present.to(device),
            evidence=evidence.out_of_fold.to(device),
            y=y.to(device),
            bags=torch.from_numpy(bags).to(device),
        )
        self._fit_graph(training)

    def _fit_graph(self, training: TrainingSet) -> None:
        options = self._options(len(training))
        generator = torch.Generator().manual_seed(self.seed)
        with self._progress(options.max_steps) as on_step:
            beta, self.history_ = fit_members(
                self.model_.graph,
                self.model_.pool,
                training,
                options,
                generator=generator,
                on_step=on_step,
            )
        self.model_.beta.fill_(beta)
        self.model_.requires_grad_(False)

    def _graph(self, schema: Schema, task: Task) -> FusionModel:
        return FusionModel(
            schema,
            task,
            hidden_channels=self.hidden_channels,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            capacity=self.capacity,
            feed_forward=self.feed_forward,  # type: ignore[arg-type]
            completion=self.completion,
            evidence_channels=task.out_channels,
            members=self.members,
            seed=self.seed,
        )

    def _options(self, num_samples: int) -> TrainOptions:
        per_epoch = max(1, round(num_samples / self.batch_size))
        if self.epochs is None:
            steps = min(max(DEFAULT_EPOCHS * per_epoch, MIN_STEPS), MAX_STEPS)
        else:
            steps = max(1, self.epochs) * per_epoch
        return TrainOptions(
            max_steps=steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            missing_rate=self.missing_rate,
        )

    def _device(self) -> torch.device:
        if self.device is not None:
            return torch.device(self.device)
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")

    @contextmanager
    def _progress(self, total: int) -> Iterator[Callable[[int], None]]:
        shown = sys.stderr.isatty() if self.verbose is None else self.verbose
        if not shown:
            yield lambda _: None
            return
        from rich.console import Console
        from rich.progress import Progress

        with Progress(console=Console(stderr=True), transient=True) as progress:
            job = progress.add_task("fitting the graph", total=total)
            yield lambda step: progress.update(job, completed=step)

    # Predicting

    @torch.no_grad()
    def _predict(self, X: Any) -> FloatArray:  # noqa: ANN401, N803
        """Return the model's outputs ``[N, K]``."""
        check_is_fitted(self, "model_")
        data = self._read(X, reset=False)
        features = features_of(data, self.schema_, self.feature_widths_)
        device = self.model_.beta.device
        outputs = []
        for start in range(0, len(data), PREDICT_BATCH):
            rows = np.arange(start, min(start + PREDICT_BATCH, len(data)))
            batch = data.batch(rows).to(device)
            part = [x[start : start + PREDICT_BATCH].to(device) for x in features]
            outputs.append(self.model_(batch, part).cpu())
        if not outputs:
            return np.empty((0, self.model_.graph.task.out_channels))
        result: FloatArray = torch.cat(outputs).double().numpy()
        return result

    # Saving

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write the fitted estimator as safetensors and JSON; never pickle."""
        check_is_fitted(self, "model_")
        params = {k: v for k, v in self.get_params(deep=False).items() if k != "schema"}
        manifest = {
            "estimator": type(self).__name__,
            "params": params,
            "schema": self.schema_.to_json(),
            "schema_hash": self.schema_.hash,
            "feature_widths": self.feature_widths_,
            "num_features_in": getattr(self, "n_features_in_", None),
            "experts": [
                [_describe_expert(expert) for expert in experts]
                for experts in self.model_.experts
            ],
            "target": self._target_state(),
        }
        checkpoint.save(folder, self.model_.state_dict(), manifest)

    @classmethod
    def from_pretrained(
        cls: type[SelfT], folder: str | os.PathLike[str], *, device: str | None = None
    ) -> SelfT:
        """Read an estimator that :meth:`save_pretrained` wrote.

        Args:
            folder: Where it was saved.
            device: Where to compute; default: a GPU if there is one.

        Raises:
            CheckpointError: Damaged or foreign files, or another estimator's.
        """
        tensors, manifest = checkpoint.load(folder)
        if manifest.get("estimator") != cls.__name__:
            raise CheckpointError(
                f"{folder} must hold a {cls.__name__}, got "
                f"{manifest.get('estimator')!r}."
            )
        try:
            return cls._restored(tensors, manifest, device)
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise CheckpointError(
                f"{folder} does not describe a model of this version: {error}."
            ) from None

    @classmethod
    def _restored(
        cls: type[SelfT],
        tensors: dict[str, Tensor],
        manifest: dict[str, Any],
        device: str | None,
    ) -> SelfT:
        estimator = cls(**{**manifest["params"], "device": device})
        estimator.schema_ = Schema.from_json(manifest["schema"])
        estimator.feature_widths_ = manifest["feature_widths"]
        if manifest["num_features_in"] is not None:
            estimator.n_features_in_ = manifest["num_features_in"]
        task = estimator._restore_target(manifest["target"])
        widths = estimator.feature_widths_
        experts = nn.ModuleList(
            nn.ModuleList(_build_expert(item, width, task) for item in items)
            for items, width in zip(manifest["experts"], widths, strict=True)
        )
        pool = EvidencePool(len(widths), len(experts[0]), task.out_channels)
        graph = estimator._graph(estimator.schema_, task)
        model = ResidualFusion(experts, pool, graph)
        model.load_state_dict(tensors)
        estimator.model_ = model.requires_grad_(False).to(estimator._device())
        return estimator

    def _target_state(self) -> dict[str, Any]:
        raise AssertionError("an estimator of a task says how its targets are saved")

    def _restore_target(self, state: dict[str, Any]) -> Task:
        raise AssertionError("an estimator of a task says how its targets are read")

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class FusionClassifier(ClassifierMixin, FusionEstimator):
    """Classify from whatever modalities each sample has.

    Unimodal experts give evidence, a pool adds it up, and an ensemble of graph models
    learns what modalities say only together. Probabilities are calibrated out of fold;
    a sample with nothing observed gets the class frequencies of the training data.
    Labels that are missing (NaN, None) are left out of training. ``y [N, K]`` of zeros
    and ones is a multi-label problem.

    Takes the arguments of :class:`mmgraph.estimators.FusionEstimator`.

    Example:
        >>> train, test = load_dataset("heart").split(seed=0)
        >>> clf = FusionClassifier(epochs=1, members=2, experts=("linear",)).fit(train)
        >>> clf.predict_proba(test).shape
        (184, 2)
    """

    def fit(self, X: Any, y: Any = None) -> "FusionClassifier":  # noqa: ANN401, N803
        """Fit on ``MultimodalData``, or on an array ``[N, C]`` with NaN for missing.

        Args:
            X: The data; its groups keep samples together when folds are made.
            y: ``[N]`` labels, or ``[N, K]`` zeros and ones; default: those of the data.

        Raises:
            DataError: No labels, or none that is known.
        """
        data = self._read_labelled(X, y)
        assert data.y is not None
        if data.y.ndim == 2:
            codes, task = self._encode_labels(data.y)
        else:
            codes, task = self._encode_classes(data.y)
        known = torch.nonzero(codes >= 0 if codes.ndim == 1 else ~codes.isnan().all(1))
        if not len(known):
            raise DataError("fit needs at least one known label, got none.")
        rows = known[:, 0]
        self._fit(data[rows.numpy()], codes[rows], task)
        return self

    def _encode_classes(self, y: AnyArray) -> tuple[Tensor, Task]:
        from sklearn.utils.multiclass import check_classification_targets

        missing = missing_labels(y)
        known = y[~missing]
        if known.dtype == object:
            known = known.astype(str)
        check_classification_targets(known)
        self.classes_, found = np.unique(known, return_inverse=True)
        codes = torch.full((len(y),), -1)
        codes[torch.from_numpy(~missing)] = torch.from_numpy(found)
        return codes, Classification(max(len(self.classes_), 1))

    def _encode_labels(self, y: AnyArray) -> tuple[Tensor, Task]:
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
        prior = self.model_.pool.prior.double().cpu()
        if isinstance(self.model_.graph.task, MultiLabel):
            limit = prior.sigmoid().numpy() if balanced else 0.5
            return (proba > limit).astype(np.int64)
        weight = (-prior).exp().numpy() if balanced else 1.0
        result: AnyArray = self.classes_[(proba * weight).argmax(1)]
        return result

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ANN401, N803
        """Return the accuracy over known labels (multi-label: of whole rows)."""
        truth = labelled_y(X, y)
        known = ~missing_labels(truth) if truth.ndim == 1 else np.ones(len(truth), bool)
        said = self.predict(X)
        hits = said.astype(truth.dtype) == truth
        return float(hits.reshape(len(truth), -1).all(1)[known].mean())

    def _target_state(self) -> dict[str, Any]:
        return {
            "classes": self.classes_.tolist(),
            "dtype": self.classes_.dtype.str,
            "multi_label": isinstance(self.model_.graph.task, MultiLabel),
        }

    def _restore_target(self, state: dict[str, Any]) -> Task:
        self.classes_ = np.array(state["classes"], dtype=np.dtype(state["dtype"]))
        kind = MultiLabel if state["multi_label"] else Classification
        return kind(len(self.classes_))


class FusionRegressor(RegressorMixin, FusionEstimator):
    """Predict numbers from whatever modalities each sample has.

    As :class:`FusionClassifier`, with the squared error; targets are standardised
    inside. A sample with nothing observed gets the training mean. Targets that are
    missing (NaN) are left out of training.

    Takes the arguments of :class:`mmgraph.estimators.FusionEstimator`.
    """

    def fit(self, X: Any, y: Any = None) -> "FusionRegressor":  # noqa: ANN401, N803
        """Fit on ``MultimodalData``, or on an array ``[N, C]`` with NaN for missing.

        Args:
            X: The data; its groups keep samples together when folds are made.
            y: ``[N]`` or ``[N, K]`` numbers; default: those of the data.

        Raises:
            DataError: No targets, or none that is known.
        """
        data = self._read_labelled(X, y)
        assert data.y is not None
        target = data.y.astype(np.float64).reshape(len(data), -1)
        known = ~np.isnan(target).all(1)
        if not known.any():
            raise DataError("fit needs at least one known target, got none.")
        target = target[known]
        self.flat_ = data.y.ndim == 1
        self.mean_ = np.nanmean(target, axis=0)
        spread = np.nanstd(target, axis=0)
        self.scale_ = np.where(spread > 0, spread, 1.0)
        scaled = torch.from_numpy((target - self.mean_) / self.scale_).float()
        self._fit(data[known], scaled, Regression(target.shape[1]))
        return self

    def predict(self, X: Any) -> FloatArray:  # noqa: ANN401, N803
        """Return predictions ``[N]``, or ``[N, K]`` where the targets were 2-D."""
        values: FloatArray = self._predict(X) * self.scale_ + self.mean_
        return values[:, 0] if self.flat_ else values

    def score(self, X: Any, y: Any = None) -> float:  # noqa: ANN401, N803
        """Return R squared over known targets."""
        from sklearn.metrics import r2_score

        truth, said = labelled_y(X, y).astype(np.float64), self.predict(X)
        known = ~np.isnan(truth.reshape(len(truth), -1)).any(1)
        return float(r2_score(truth[known], said[known]))

    def _target_state(self) -> dict[str, Any]:
        return {
            "mean": self.mean_.tolist(),
            "scale": self.scale_.tolist(),
            "flat": self.flat_,
        }

    def _restore_target(self, state: dict[str, Any]) -> Task:
        self.mean_, self.scale_ = np.array(state["mean"]), np.array(state["scale"])
        self.flat_ = state["flat"]
        return Regression(len(self.mean_))


def labelled_y(X: Any, y: Any) -> AnyArray:  # noqa: ANN401, N803
    """Return the labels that a score needs, given or of the data."""
    if y is None:
        y = X.y if isinstance(X, MultimodalData) else None
    if y is None:
        raise DataError("score needs labels, got none. Pass score(data, y).")
    return np.asarray(y)


def _describe_expert(expert: nn.Module) -> dict[str, Any]:
    """Return what is needed to build an expert before its tensors are loaded."""
    if isinstance(expert, TreeExpert):
        trees, nodes = len(expert.root), len(expert.feature)
        return {"kind": "forest", "num_trees": trees, "num_nodes": nodes}
    return {"kind": "linear"}


def _build_expert(item: dict[str, Any], width: int, task: Task) -> nn.Module:
    sizes = {key: value for key, value in item.items() if key != "kind"}
    kinds = {"linear": LinearExpert, "forest": TreeExpert}
    return kinds[item["kind"]](width, task.out_channels, link_of(task), **sizes)
