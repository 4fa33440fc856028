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
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from mmgraph import checkpoint
from mmgraph.data import MultimodalData
from mmgraph.errors import CheckpointError, DataError
from mmgraph.estimators.evidence import ExpertKind, fit_evidence, fit_pool, link_of
from mmgraph.estimators.folds import assign_folds, member_bags
from mmgraph.estimators.inputs import ARRAY_MODALITY, embed_text, features_of, labelled
from mmgraph.estimators.residual import ResidualFusion
from mmgraph.model import FusionModel
from mmgraph.nn.conv import Capacity
from mmgraph.nn.experts import EvidencePool, LinearExpert, TreeExpert
from mmgraph.nn.heads import Task
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
        experts: Kinds of unimodal experts, of "linear", "spline" and "forest".
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
        experts: Sequence[ExpertKind] = ("linear", "spline", "forest"),
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
                for experts in self.model_.expert_lists
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
        pool = EvidencePool(len(widths), len(manifest["experts"][0]), task.out_channels)
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


def _describe_expert(expert: nn.Module) -> dict[str, Any]:
    """Return what is needed to build an expert before its tensors are loaded."""
    if isinstance(expert, TreeExpert):
        trees, nodes = len(expert.root), len(expert.feature)
        return {"kind": "forest", "num_trees": trees, "num_nodes": nodes}
    assert isinstance(expert, LinearExpert)
    return {"kind": "linear", "num_knots": len(expert.hinges.knot)}


def _build_expert(item: dict[str, Any], width: int, task: Task) -> nn.Module:
    sizes = {key: value for key, value in item.items() if key != "kind"}
    kinds = {"linear": LinearExpert, "forest": TreeExpert}
    return kinds[item["kind"]](width, task.out_channels, link_of(task), **sizes)
