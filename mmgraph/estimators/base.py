"""Parameters, graph network and batches that all estimators share.

Letters: ``N`` samples, ``B`` samples of a batch.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmgraph._progress import show_progress
from mmgraph._random import draws_from
from mmgraph.data import MultimodalData
from mmgraph.data.batch import Batch
from mmgraph.distributed import SINGLE_PROCESS, ProcessGroup, local_device
from mmgraph.errors import ConfigError, did_you_mean
from mmgraph.estimators.persistence import PersistenceMixin
from mmgraph.estimators.validation import resolve_device
from mmgraph.experts.links import ExpertKind
from mmgraph.model import FusionModel
from mmgraph.model.custom_modules import CustomModules
from mmgraph.model.readouts import ReadoutKind
from mmgraph.nn.conv import Capacity
from mmgraph.nn.evidence_pool import Pool
from mmgraph.nn.heads import Task
from mmgraph.schema import Schema
from mmgraph.train import BatchSource, TrainOptions, fit_members
from mmgraph.train.progress_dir import CheckpointDir
from mmgraph.train.schedule import StepSchedule

if TYPE_CHECKING:
    from mmgraph.data import MultimodalStream
    from mmgraph.typing import ArrayLike as ArrayLike
    from mmgraph.typing import LabelLike as LabelLike

    SampleLike: TypeAlias = MultimodalData | MultimodalStream | ArrayLike
    MultimodalLike: TypeAlias = MultimodalData
else:  # no type checks at run time: other types are refused with a message
    SampleLike = MultimodalLike = LabelLike = ArrayLike = Any

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
AnyArray: TypeAlias = npt.NDArray[Any]

EstimatorT = TypeVar("EstimatorT", bound="FusionEstimator")

PREDICT_BATCH = 2048
PREDICT_BATCH_OF_VIEWS = 256  # whose tables are wide
FITTING = "fitting the graph"


_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def batch_invariant() -> Iterator[None]:
    """Predict every sample alone, so that its bits are always equal.

    Otherwise, the order of floating-point operations, and so the last bits of a
    prediction, can depend on the number of samples that are predicted together: by up
    to 1e-6 in float32. Within this context, a sample has the same bits whatever it is
    predicted with, at the cost of some milliseconds per sample. It applies to this
    thread, and to predictions, embeddings and states of all estimators.

    Example:
        >>> from mmgraph.serving import batch_invariant
        >>> data = load_dataset("heart")
        >>> clf = FusionClassifier(epochs=1, members=1, experts=("linear",)).fit(data)
        >>> with batch_invariant():
        ...     three, one = clf.predict_proba(data[:3]), clf.predict_proba(data[:1])
        >>> bool((three[0] == one[0]).all())
        True
    """
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def predict_alone(
    fn: Callable[..., AnyArray], *data: MultimodalData
) -> AnyArray | None:
    """Return the outputs of a function for single samples; None if not requested.

    Args:
        fn: Maps data of one sample each to ``[1, ...]``.
        data: Data of the same number of samples.
    """
    if not _ALONE.get() or len(data[0]) < 2:
        return None
    rows = range(len(data[0]))
    return np.concatenate([fn(*(part[[i]] for part in data)) for i in rows])


class FusionEstimator(PersistenceMixin):
    """Base class of all estimators.

    Constructors of subclasses name every parameter and hand ``locals()`` to
    :meth:`_set_params`.
    """

    _budget: StepSchedule
    schema: Schema | None
    hidden_channels: int
    num_heads: int
    capacity: Capacity
    feed_forward: str
    readout: ReadoutKind = "auto"
    members: int
    experts: Sequence[ExpertKind]
    epochs: int | None
    batch_size: int
    learning_rate: float
    weight_decay: float
    missing_rate: float = 0.0
    completion: bool = False
    seed: int
    verbose: bool | None

    def __new__(cls: type[EstimatorT], *args: object, **options: object) -> EstimatorT:
        """Create an estimator.

        Raises:
            TypeError: If a parameter is unknown, with the most similar one.
        """
        known = inspect.signature(cls.__init__).parameters
        open_ended = any(p.kind == p.VAR_KEYWORD for p in known.values())
        for name in options:
            if name not in known and not open_ended:
                raise TypeError(
                    f"{cls.__name__}() got an unexpected keyword argument {name!r}. "
                    f"{did_you_mean(name, known)}".rstrip()
                )
        return super().__new__(cls)

    def set_params(self: EstimatorT, **params: Any) -> EstimatorT:  # noqa: ANN401
        """Set parameters by name.

        Raises:
            ConfigError: If a parameter is unknown, with the most similar one.
        """
        known = self.get_params(deep=False)
        for name in params:
            if name not in known:
                raise ConfigError(
                    f"Invalid parameter {name!r} for {type(self).__name__}.",
                    did_you_mean(name, known),
                )
        return super().set_params(**params)

    def _set_params(self, given: Mapping[str, Any]) -> None:
        """Store the parameters of a constructor unchanged, as scikit-learn requires.

        Args:
            given: ``locals()`` at the first line of the constructor.
        """
        self.__dict__.update({k: v for k, v in given.items() if k != "self"})

    @property
    def schema_(self) -> Schema:
        """Schema of the training samples, texts, images and audio as vectors."""
        return self.input_spec_.schema

    @property
    def channels_(self) -> dict[str, tuple[str, ...]]:
        """Names of the channels of each modality whose channels are named."""
        return dict(self.input_spec_.channels)

    @property
    def unseen_(self) -> list[str]:
        """Modalities without usable training samples. Their content is ignored."""
        return list(self.input_spec_.unseen)

    # Fitting

    @property
    def _custom_modules(self) -> CustomModules:
        """Custom modules of the graph networks."""
        return CustomModules(None, {})

    def _build_graph(self, task: Task, evidence_channels: int) -> FusionModel:
        return FusionModel(
            self.schema_,
            task,
            hidden_channels=self.hidden_channels,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            capacity=self.capacity,
            feed_forward=self.feed_forward,  # type: ignore[arg-type]
            readout=self.readout,
            completion=self.completion,
            conv=self._custom_modules.conv,
            encoders=self._custom_modules.builders,
            evidence_channels=evidence_channels,
            members=int(self.members),
            seed=int(self.seed),
        )

    def _fit_graph(
        self,
        pool: Pool,
        samples: BatchSource,
        num_samples: int,
        processes: ProcessGroup = SINGLE_PROCESS,
        checkpoint_dir: CheckpointDir | None = None,
    ) -> None:
        """Fit graph networks to the residual of the pool, and choose their weight."""
        options = self._train_options(num_samples)
        custom = self._custom_modules
        is_custom = custom.conv is not None or len(custom.encoders) > 0
        draws = draws_from(int(self.seed)) if is_custom else nullcontext()
        verbose = self.verbose if processes.is_main_process else False
        progress = show_progress(FITTING, options.max_steps, verbose)
        with draws, progress as on_step:
            beta, self.history_ = fit_members(
                self.model_.graph,
                pool,
                samples,
                options,
                generator=torch.Generator().manual_seed(int(self.seed)),
                processes=processes,
                checkpoint_dir=checkpoint_dir,
                on_step=on_step,
            )
        self.model_.beta.fill_(beta)
        self.model_.requires_grad_(False)

    def _train_options(self, num_samples: int) -> TrainOptions:
        return TrainOptions(
            max_steps=self._budget.steps(self.epochs, num_samples, self.batch_size),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            missing_rate=self.missing_rate,
        )

    def _resolve_device(self, processes: ProcessGroup = SINGLE_PROCESS) -> torch.device:
        if self.device is None and processes.size > 1:
            return local_device()
        return resolve_device(self.device)

    # Predicting

    @torch.no_grad()
    def _predict_batches(
        self, data: MultimodalData, fn: Callable[[Batch, list[Tensor]], Tensor]
    ) -> Tensor:
        """Apply a function to batches of samples.

        Args:
            data: Samples as :meth:`InputSpec.read` returns them.
            fn: Maps packed rows of B samples and their features to ``[B, ...]``.

        Returns:
            ``[N, ...]``.
        """
        features = self.input_spec_.features(data)
        device, outputs = self.model_.beta.device, []
        ensemble = getattr(self.model_, "ensemble", None)
        wide = ensemble is not None and len(ensemble.views) > 0
        size = PREDICT_BATCH_OF_VIEWS if wide else PREDICT_BATCH
        # without samples, one empty batch gives the width of the output
        for start in range(0, max(len(data), 1), size):
            rows = np.arange(start, min(start + size, len(data)))
            part = [x[start : start + size].to(device) for x in features]
            outputs.append(fn(data.batch(rows).to(device), part).cpu())
        return torch.cat(outputs)

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
