"""Decide whether two sides belong together.

Letters: ``N`` samples, ``P`` pairs, ``M`` modalities, ``Q`` queries, ``k`` candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from mmgraph.data import MultimodalData
from mmgraph.data.batch import Batch
from mmgraph.data.splits import member_weights, num_feasible_folds
from mmgraph.data.validation import check_names
from mmgraph.embedding.fit import FittedSpace, Supervision
from mmgraph.embedding.hubness import FloatArray
from mmgraph.embedding.matching import MatchFusion, MatchPool, join, sides_of
from mmgraph.embedding.negatives import Pairs, draw_training_pairs
from mmgraph.embedding.space import EmbeddingSpace
from mmgraph.embedding.training_data import EmbeddingTrainingData
from mmgraph.errors import ConfigError, DataError
from mmgraph.estimators.base import PREDICT_BATCH
from mmgraph.estimators.featurize import Encoder
from mmgraph.estimators.pair_base import (
    PairEstimator,
    check_multimodal,
    space_from_config,
)
from mmgraph.estimators.validation import check_options
from mmgraph.experts.links import ExpertKind
from mmgraph.nn.conv import Capacity
from mmgraph.nn.heads import MultiLabel
from mmgraph.schema import Schema
from mmgraph.train import TrainingSet, TrainOptions
from mmgraph.train.schedule import StepSchedule

IntArray = npt.NDArray[np.int64]


class FusionMatcher(PairEstimator):
    """Decide whether a left and a right side belong to one sample.

    Learns from samples that have both sides, against pairs of different samples: half
    of them drawn at random, half among the most similar. The log-odds begin with the
    closed-form similarity of :class:`FusionRetriever`, fitted out of sample, beyond
    the hubness offset of either side among training samples; a graph of the modalities of
    both sides is added as far as that helps pairs that it was not trained on.

    A probability is calibrated for pairs of which half match and the rest is mixed as
    in training. With nothing present on one side it is one half.

    Args:
        left: Modalities of the left side.
        right: Modalities of the right side; none may be on both.
        negatives: Pairs of each kind that do not match, for each sample.
        supervision: As of :class:`FusionRetriever`, as the next.
        out_channels: Coordinates of likeness to training samples.
        schema: The graph of a pair; default: the star of both sides' modalities.
        hidden_channels: Width of node states.
        num_layers: Graph layers.
        num_heads: Attention heads.
        capacity: What a relation has of its own: "bias", "scalar" or "full".
        feed_forward: "typed", "mixture" of experts, or "none".
        members: Ensemble members, trained together.
        experts: As of :class:`FusionRetriever`.
        epochs: Passes over the pairs; None: 10, but 100 to 600 steps; 0: no graph.
        batch_size: Pairs a step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        missing_rate: Mean rate of modality dropout in training.
        encoders: Pretrained models of raw modalities, as of :class:`FusionRetriever`.
        aligned: As of :class:`FusionRetriever`.
        device: Where to compute; default: a GPU if there is one.
        seed: Of everything that is random.
        verbose: Show a progress bar; default: only on a terminal.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(60, 4))
        >>> data = MultimodalData.from_arrays({"image": x, "text": x[:, ::-1]})
        >>> mat = FusionMatcher(left=["image"], right=["text"])
        >>> p = mat.fit(data[:50]).predict_proba(data[50:], data[50:])
        >>> other = mat.predict_proba(data[50:], data[np.arange(59, 49, -1)])
        >>> bool(p.mean() > other.mean())
        True
    """

    _budget = StepSchedule(10, 100, 600)
    left: Sequence[str]
    right: Sequence[str]
    negatives: int
    model_: MatchFusion

    def __init__(
        self,
        left: Sequence[str] = (),
        right: Sequence[str] = (),
        *,
        negatives: int = 2,
        supervision: Supervision = "auto",
        out_channels: int = 256,
        schema: Schema | None = None,
        hidden_channels: int = 32,
        num_layers: int = 2,
        num_heads: int = 4,
        capacity: Capacity = "bias",
        feed_forward: str = "typed",
        members: int = 4,
        experts: Sequence[ExpertKind] = ("forest",),
        epochs: int | None = 0,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.05,
        missing_rate: float = 0.2,
        encoders: Mapping[str, Encoder] | None = None,
        aligned: Sequence[str] | None = None,
        device: str | None = None,
        seed: int = 0,
        verbose: bool | None = None,
    ) -> None:
        self._set_params(locals())

    def fit(self, X: Any, y: Any = None) -> "FusionMatcher":  # noqa: ANN401, N803
        """Learn from samples: their left and right side belong together.

        Args:
            X: ``MultimodalData`` with modalities of both sides. Samples of one group
                are never taken for a pair that does not match.
            y: ``[N]`` classes; default: those of the data, where it has any.

        Raises:
            ConfigError: A side without modalities, or a modality on both.
            DataError: A modality that the data lacks, fewer than two samples with both
                sides, or one group only.
        """
        check_options(self.get_params(deep=False))
        names = sides_of(self.left, self.right)
        data = check_multimodal(X)
        data = data if y is None else data.replace(y=y)
        check_names("left and right", names, data.modalities)
        data, samples, fitted = self._fit_space(data.select(names))
        model = self._build(fitted.space)
        model.graph.fit_scaling(data.batch())
        self._fit_pairs(model, data, samples, fitted)
        return self

    def _build(self, space: EmbeddingSpace, num_reference: int = 0) -> MatchFusion:
        left = [self.left] if isinstance(self.left, str) else self.left
        sides = [name in left for name in self.schema_.modality_names]
        pool = MatchPool(space, sides, num_reference)
        graph = self._build_graph(MultiLabel(1), space.evidence_channels)
        return MatchFusion(pool, graph)

    @property
    def _space(self) -> EmbeddingSpace:
        return self.model_.pool.space

    def _model_config(self) -> dict[str, Any]:
        return super()._model_config() | {
            "num_reference": self.model_.pool.reference.num_samples
        }

    def _model_from_config(self, manifest: dict[str, Any]) -> MatchFusion:
        space = space_from_config(manifest["space"], self.input_spec_.widths)
        return self._build(space, int(manifest["num_reference"]))

    def _fit_pairs(
        self,
        model: MatchFusion,
        data: MultimodalData,
        samples: EmbeddingTrainingData,
        fitted: FittedSpace,
    ) -> None:
        """Fit the log-odds and the graph to pairs that match and pairs that do not."""
        pairs = draw_training_pairs(
            model.pool,
            fitted,
            samples,
            int(self.negatives),
            torch.Generator().manual_seed(int(self.seed)),
        )
        if not pairs.y.any() or pairs.y.all():
            raise DataError(
                "fit needs samples with both sides, of at least two groups, got "
                f"{int(pairs.y.sum())} with both of {len(data)}."
            )
        present = pairs.of(fitted.present)
        evidence = pairs.of(fitted.evidence)[:, :, None]
        groups = samples.groups[torch.stack([pairs.left, pairs.right])]
        model.pool.fit(evidence, present, pairs.y, pairs.share, groups)
        self.model_ = model.to(self._resolve_device())
        self.model_.requires_grad_(False)
        if self.epochs != 0:
            model.graph.requires_grad_(True)
            folded = pairs.of(fitted.folded)[:, :, None]
            training = self._training_set(data, pairs, present, folded)
            self._fit_graph(model.pool, training, len(training))

    def _training_set(
        self, data: MultimodalData, pairs: Pairs, present: Tensor, evidence: Tensor
    ) -> TrainingSet:
        """Return what the graph's members learn from."""
        device = self._resolve_device()
        bags = member_weights(
            pairs.y[:, 0].numpy(),
            pairs.groups.numpy(),
            int(self.members),
            num_feasible_folds(pairs.groups.numpy(), len(pairs)),
            seed=int(self.seed),
        )
        return TrainingSet(
            batch_of=lambda at: self._joined(
                data, data, pairs.left[at.cpu()], pairs.right[at.cpu()]
            ).to(device),
            present=present.to(device),
            evidence=evidence.to(device),
            y=pairs.y.to(device),
            bags=(torch.from_numpy(bags) * pairs.share).to(device),
            groups=pairs.groups.to(device),
        )

    def _train_options(self, num_samples: int) -> TrainOptions:
        return replace(super()._train_options(num_samples), checks=10, patience=4)

    def _joined(
        self, left: MultimodalData, right: MultimodalData, a: Tensor, b: Tensor
    ) -> Batch:
        """Batch the left sides of samples ``a`` with the right sides of ``b``."""
        return join(
            left.select(self._names_of(left=True)).batch(a.numpy()),
            right.select(self._names_of(left=False)).batch(b.numpy()),
        )

    def _names_of(self, *, left: bool) -> list[str]:
        """Return the modalities of one side, in the order of the schema."""
        sides = self.model_.pool.left.tolist()
        pairs = zip(self.schema_.modality_names, sides, strict=True)
        return [name for name, side in pairs if side == left]

    # Using

    def predict_proba(
        self, left_data: MultimodalData, right_data: MultimodalData
    ) -> FloatArray:
        """Say how likely row i of one side belongs to row i of the other, ``[P]``.

        Args:
            left_data: P samples; only modalities of the left side are read.
            right_data: P samples; only modalities of the right side are read.

        Raises:
            DataError: Sides of different lengths, or without their modalities.
        """
        left, right = self._sides(left_data, right_data)
        if len(left) != len(right):
            raise DataError(
                "left_data and right_data must have as many samples, got "
                f"{len(left)} and {len(right)}. Repeat samples by indexing."
            )
        rows = np.arange(len(left))
        return self._of_pairs(left, right, rows, rows)

    def predict(
        self, left_data: MultimodalData, right_data: MultimodalData
    ) -> npt.NDArray[np.bool_]:
        """Tell whether row i of one side belongs to row i of the other, ``[P]``.

        That is where it is likelier than not: never with nothing present on one side.
        """
        return self.predict_proba(left_data, right_data) > 0.5

    def rescore(
        self,
        left_data: MultimodalData,
        right_data: MultimodalData,
        rows: IntArray,
        *,
        query: str = "left",
    ) -> FloatArray:
        """Score candidates that a search has found, to rank them anew.

        Args:
            left_data: Samples of the left side.
            right_data: Samples of the right side.
            rows: ``[Q, k]`` positions in the gallery, the side that is not the query,
                of each query's candidates, as ``index.search(...).rows``; -1 where
                there was none.
            query: Which side asks: "left" or "right".

        Returns:
            ``[Q, k]`` probabilities; NaN where there was no candidate.

        Raises:
            ConfigError: An unknown side.
            DataError: Rows of another shape or out of range.
        """
        if query not in ("left", "right"):
            raise ConfigError(f"query must be 'left' or 'right', got {query!r}.")
        left, right = self._sides(left_data, right_data)
        asking, gallery = (left, right) if query == "left" else (right, left)
        rows = np.asarray(rows)
        fits = rows.ndim == 2 and len(rows) == len(asking) and rows.dtype.kind in "iu"
        if not fits or (
            rows.size and not -1 <= rows.min() <= rows.max() < len(gallery)
        ):
            raise DataError(
                f"rows must be whole numbers [{len(asking)}, k] from -1 to "
                f"{len(gallery) - 1}, got shape {list(rows.shape)} of {rows.dtype}."
            )
        found = rows >= 0
        asked, candidate = np.nonzero(found)[0], rows[found]
        pair = (asked, candidate) if query == "left" else (candidate, asked)
        scores = np.full(rows.shape, np.nan)
        scores[found] = self._of_pairs(left, right, *pair)
        return scores

    def _sides(
        self, left_data: MultimodalData, right_data: MultimodalData
    ) -> tuple[MultimodalData, MultimodalData]:
        """Read both sides, each with its own modalities only."""
        check_is_fitted(self, "model_")
        read = []
        for data, wanted in ((left_data, True), (right_data, False)):
            names = self._names_of(left=wanted)
            have = [n for n in names if n in check_multimodal(data).columns]
            if not have:
                raise DataError(
                    f"Data of the {'left' if wanted else 'right'} side must have one "
                    f"of {', '.join(names)}, got {', '.join(data.modalities)}."
                )
            read.append(self.input_spec_.read(data.select(have), progress=self.verbose))
        return read[0], read[1]

    @torch.no_grad()
    def _of_pairs(
        self, left: MultimodalData, right: MultimodalData, a: IntArray, b: IntArray
    ) -> FloatArray:
        """Return the probability of each pair of rows."""
        device, pool, said = self.model_.beta.device, self.model_.pool, []
        sides = []
        for side in (left, right):
            features = self.input_spec_.features(side)
            found = pool.space.evidence([x.to(device) for x in features])
            sides.append((*found, pool.hubness_offset(found[0][:, :, None], found[1])))
        for start in range(0, len(a), PREDICT_BATCH):
            i, j = (rows[start : start + PREDICT_BATCH] for rows in (a, b))
            at = [torch.from_numpy(rows).to(device) for rows in (i, j)]
            evidence, present, hubness_offset = (
                torch.stack([of_left[at[0]], of_right[at[1]]]).sum(0)
                for of_left, of_right in zip(*sides, strict=True)
            )
            p = self.model_(
                lambda i=i, j=j: join(left.batch(i), right.batch(j)).to(device),
                evidence,
                present.bool(),
                hubness_offset,
            )
            said.append(p.double().cpu().numpy())
        return np.concatenate(said) if said else np.empty(0)
