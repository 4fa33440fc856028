"""Estimators with scikit-learn's conventions, on data with missing modalities.

Letters: ``N`` samples, ``K`` classes, labels or targets, ``M`` modalities.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils.validation import check_consistent_length, validate_data
from torch import Tensor

from mmgraph.batch import Batch
from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.column import BoolArray
from mmgraph.distributed import ALONE, Workers, join, local_device
from mmgraph.estimators import saving
from mmgraph.estimators.budget import Budget
from mmgraph.estimators.fitting import Fitting, fingerprint
from mmgraph.estimators.inputs import (
    ARRAY_MODALITY,
    channel_names,
    check_modalities,
    features_of,
    in_order,
    labelled,
    naming_frames,
    refuse_mapping,
)
from mmgraph.estimators.options import check_options, resolve_device
from mmgraph.estimators.raw import Encoder, RawInputs
from mmgraph.estimators.residual import ResidualFusion
from mmgraph.estimators.stored import StoredEstimator
from mmgraph.estimators.streaming import fit_stream
from mmgraph.estimators.unimodal import ExpertKind
from mmgraph.model import FusionModel
from mmgraph.nn.conv import Capacity
from mmgraph.nn.heads import Task
from mmgraph.nn.pool import Pool
from mmgraph.progress import show_progress
from mmgraph.schema import Schema
from mmgraph.train import BatchSource, TrainingSet, TrainOptions, fit_members
from mmgraph.train.folder import TrainingFolder

FloatArray = npt.NDArray[np.floating[Any]]
AnyArray = npt.NDArray[Any]
Prepared: TypeAlias = tuple[MultimodalData, Tensor, Task]

READ_ARRAY = {"dtype": "numeric", "ensure_all_finite": "allow-nan"}
READ_LABELS = {"dtype": None, "ensure_2d": False, "ensure_all_finite": "allow-nan"}
PREDICT_BATCH = 2048
FITTING = "fitting the graph"


class FusionEstimator(StoredEstimator):
    """What classifier and regressor share: fitting, predicting, saving.

    Args:
        schema: The graph of a sample; default: the schema of the data.
        hidden_channels: Width of node states.
        num_layers: Graph layers.
        num_heads: Attention heads.
        capacity: What a relation has of its own: "bias", "scalar" or "full".
        feed_forward: "typed", "mixture" of experts, or "none".
        members: Ensemble members, trained together.
        experts: Kinds of experts, of "linear", "spline" and "forest" of one modality,
            and "joint", trees of all modalities together.
        epochs: Most passes over the data; default: 80, but 240 to 2500 steps, and
            at least one.
            Training stops early when no member improves on its held-out samples.
        batch_size: Samples a step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        missing_rate: Mean rate of modality dropout in training.
        completion: Learn to complete held-out modalities as an auxiliary task.
        encoders: By modality of text, image or audio: a pretrained model that turns
            it into vectors, as a :class:`mmgraph.PretrainedEncoder` or as the path or
            name of one; default: what the schema names, else plain features.
        device: Where to compute; default: a GPU if there is one.
        seed: Of everything that is random.
        verbose: Show a progress bar; default: only on a terminal.
        checkpoint_dir: Folder in which ``fit`` keeps its progress until it is done,
            so that the same fit goes on where an interrupted one was.
    """

    _budget = Budget(80, 240, 2500, whole=True)
    model_: ResidualFusion

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
        experts: Sequence[ExpertKind] = ("linear", "spline", "forest", "joint"),
        epochs: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 4e-3,
        weight_decay: float = 0.05,
        missing_rate: float = 0.35,
        completion: bool = False,
        encoders: Mapping[str, Encoder] | None = None,
        device: str | None = None,
        seed: int = 0,
        verbose: bool | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self.schema = schema
        self.hidden_channels = hidden_channels
        self.num_layers, self.num_heads = num_layers, num_heads
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
        self.encoders = encoders
        self.device = device
        self.seed = seed
        self.verbose = verbose
        self.checkpoint_dir = checkpoint_dir

    # Input

    def _read(self, X: Any, *, reset: bool) -> MultimodalData:  # noqa: ANN401, N803
        """Return multimodal data; a plain array is one modality named ``x``."""
        if isinstance(X, MultimodalData):
            data = X
        else:
            refuse_mapping(X)
            with naming_frames(X):
                array = validate_data(self, X, reset=reset, **READ_ARRAY)
            with np.errstate(over="ignore"):  # what overflows is refused as infinite
                array = array.astype(np.float32)
            data = MultimodalData.from_arrays({ARRAY_MODALITY: array})
        if reset and self.schema is not None:
            data = data.with_schema(self.schema)
        if reset:
            self.channels_ = channel_names(data)
            self.raw_ = RawInputs.of(data, self.encoders, self.device)
        if not reset:
            data = in_order(data, self.channels_)
            seen = [m for m in self.schema_.modalities if m.name not in self.unseen_]
            self.raw_.check(data, seen)
        data = self.raw_.as_numbers(data, progress=self.verbose)
        if not reset:
            unseen = [name for name in self.unseen_ if name in data.columns]
            data = data.mask({name: np.zeros(len(data), bool) for name in unseen})
            data = data.conform(self.schema_)
        return data

    # Fitting

    def _read_labelled(self, X: Any, y: Any) -> MultimodalData:  # noqa: ANN401, N803
        check_options(self.get_params(deep=False))
        if not isinstance(X, MultimodalData):
            refuse_mapping(X)
            how = READ_ARRAY, READ_LABELS
            with naming_frames(X):
                _, y = validate_data(self, X, y, validate_separately=how)
            check_consistent_length(X, y)
        return labelled(self._read(X, reset=True), y)

    def _prepare(self, X: Any, y: Any) -> Prepared:  # noqa: ANN401, N803
        """Return the samples with known targets, these encoded, and the task."""
        data = self._read_labelled(X, y)
        codes, known, task = self._learn_targets(np.asarray(data.y))
        return data[known], codes[torch.from_numpy(known)], task

    def _learn_targets(self, y: AnyArray) -> tuple[Tensor, BoolArray, Task]:
        raise AssertionError("an estimator of a task says how its targets are learned")

    def _encode(self, y: AnyArray) -> tuple[Tensor, BoolArray]:
        raise AssertionError("an estimator of a task says how its targets are encoded")

    def _fit_distributed(self, X: Any, y: Any) -> None:  # noqa: ANN401, N803
        """Fit in every process of the group that this one is in, or alone."""
        if isinstance(X, MultimodalStream):
            fit_stream(self, X, y)
            return
        workers = join()
        data, codes, task = workers.together(lambda: self._prepare(X, y))
        workers.together(lambda: self._note(data))
        self._fit(data.select(self.schema_.modality_names), codes, task, workers)

    def _note(self, data: MultimodalData) -> None:
        """Remember what the samples are like.

        Raises:
            DataError: A modality of the schema is not in the data.
        """
        self.schema_ = data.schema
        check_modalities(data, self.schema_)
        columns = data.select(self.schema_.modality_names).columns.items()
        self.unseen_ = [name for name, c in columns if not c.present.any()]

    def _fit(
        self,
        data: MultimodalData,
        y: Tensor,
        task: Task,
        workers: Workers,
        extend: Callable[[TrainingSet], tuple[BatchSource, int]] | None = None,
    ) -> None:
        """Fit experts, pool and graph on labelled data with encoded targets ``y``.

        The graph learns from more samples where ``extend`` says where they come from,
        and how many they are.
        """
        self.feature_widths_ = [x.shape[1] for x in data.features().values()]
        folder = self._training_folder(data, y, workers)
        fitting = Fitting(data, y, task, int(self.seed), workers, folder)
        evidence, panel = fitting.experts(self.experts)
        model = ResidualFusion(panel, self._graph(task, task.out_channels))
        model.graph.fit_scaling(data.batch())
        device = self._device(workers)
        self.model_ = model.to(device)
        known = fitting.training_set(evidence, int(self.members), device)
        samples, num_samples = extend(known) if extend else (known, len(known))
        self._fit_graph(self.model_.panel.pool, samples, num_samples, workers, folder)
        if folder is not None and workers.is_lead:
            folder.remove()

    def _fit_graph(
        self,
        pool: Pool,
        samples: BatchSource,
        num_samples: int,
        workers: Workers = ALONE,
        folder: TrainingFolder | None = None,
    ) -> None:
        """Fit the graph of the model to what its pool leaves over, and its weight."""
        options = self._options(num_samples)
        shown = self.verbose if workers.is_lead else False
        with show_progress(FITTING, options.max_steps, shown) as on_step:
            beta, self.history_ = fit_members(
                self.model_.graph,
                pool,
                samples,
                options,
                generator=torch.Generator().manual_seed(int(self.seed)),
                workers=workers,
                folder=folder,
                on_step=on_step,
            )
        self.model_.beta.fill_(beta)
        self.model_.requires_grad_(False)

    def _training_folder(
        self, data: MultimodalData, y: Tensor, workers: Workers
    ) -> TrainingFolder | None:
        """Return where progress is kept, if asked for; all must fit the same."""
        if self.checkpoint_dir is None and workers.size == 1:
            return None
        run = saving.plain_params(self)
        run |= {"schema": data.schema.hash, "data": fingerprint(data, y)}
        workers.require_same("data and options", json.dumps(run, sort_keys=True))
        if self.checkpoint_dir is None:
            return None
        return TrainingFolder(self.checkpoint_dir, run)

    def _graph(self, task: Task, evidence_channels: int) -> FusionModel:
        return FusionModel(
            self.schema_,
            task,
            hidden_channels=self.hidden_channels,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            capacity=self.capacity,
            feed_forward=self.feed_forward,  # type: ignore[arg-type]
            completion=self.completion,
            evidence_channels=evidence_channels,
            members=int(self.members),
            seed=int(self.seed),
        )

    def _options(self, num_samples: int) -> TrainOptions:
        return TrainOptions(
            max_steps=self._budget.steps(self.epochs, num_samples, self.batch_size),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            missing_rate=self.missing_rate,
        )

    def _device(self, workers: Workers) -> torch.device:
        if self.device is None and workers.size > 1:
            return local_device()
        return resolve_device(self.device)

    # Using

    @torch.no_grad()
    def _answer(
        self, data: MultimodalData, ask: Callable[[Batch, list[Tensor]], Tensor]
    ) -> Tensor:
        """Return what is said of each sample, asked about in batches.

        Args:
            data: Samples as :meth:`_read` returns them.
            ask: Maps packed rows of B samples and their features to ``[B, ...]``.
        """
        features = features_of(data, self.schema_, self.feature_widths_)
        device, answers = self.model_.beta.device, []
        # without samples: one empty batch, for the width of the answer
        for start in range(0, max(len(data), 1), PREDICT_BATCH):
            rows = np.arange(start, min(start + PREDICT_BATCH, len(data)))
            part = [x[start : start + PREDICT_BATCH].to(device) for x in features]
            answers.append(ask(data.batch(rows).to(device), part).cpu())
        return torch.cat(answers)

    # Saving

    def _described(self) -> dict[str, Any]:
        """Return what :meth:`_empty_model` needs, as JSON."""
        return {
            "num_features_in": getattr(self, "n_features_in_", None),
            "panel": saving.describe_panel(self.model_.panel),
            "target": self._target_state(),
        }

    def _empty_model(self, manifest: dict[str, Any]) -> ResidualFusion:
        """Build the model that was described; its tensors are loaded later."""
        if manifest["num_features_in"] is not None:
            self.n_features_in_ = int(manifest["num_features_in"])
        task = self._restore_target(manifest["target"])
        panel = saving.build_panel(manifest["panel"], self.feature_widths_, task)
        return ResidualFusion(panel, self._graph(task, task.out_channels))

    def _target_state(self) -> dict[str, Any]:
        raise AssertionError("an estimator of a task says how its targets are saved")

    def _restore_target(self, state: dict[str, Any]) -> Task:
        raise AssertionError("an estimator of a task says how its targets are read")

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.target_tags.multi_output = True
        return tags
