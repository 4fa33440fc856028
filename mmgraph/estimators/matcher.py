"""Matching of two sides of a sample.

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
from mmgraph.embedding.matching import (
    MatchFusion,
    MatchPool,
    merge_modalities,
    sides_of,
)
from mmgraph.embedding.negatives import Pairs, draw_training_pairs
from mmgraph.embedding.space import EmbeddingSpace
from mmgraph.embedding.training_data import EmbeddingTrainingData
from mmgraph.errors import ConfigError, DataError
from mmgraph.estimators.base import (
    PREDICT_BATCH,
    LabelLike,
    MultimodalLike,
    predict_alone,
)
from mmgraph.estimators.featurize import Encoder
from mmgraph.estimators.pair_base import (
    PairEstimator,
    check_multimodal,
    space_from_config,
)
from mmgraph.experts.links import ExpertKind
from mmgraph.model_card import list_names
from mmgraph.nn.conv import Capacity
from mmgraph.nn.heads import MultiLabel
from mmgraph.schema import Schema
from mmgraph.train import TrainingSet, TrainOptions
from mmgraph.train.schedule import StepSchedule

IntArray = npt.NDArray[np.int64]


class FusionMatcher(PairEstimator):
    """Matcher: probability that a left and a right side belong to one sample.

    Training pairs are both sides of one sample, and negatives of different samples:
    half of them random, half among the most similar. The log-odds are a logistic
    regression on the closed-form similarity of :class:`FusionRetriever`, out of sample
    and with CSLS correction. With ``epochs`` above 0, graph networks on the modalities
    of both sides are added with a weight chosen on held-out pairs.

    Probabilities are calibrated for balanced pairs with such negatives. With nothing
    present on one side, the probability is one half.

    Args:
        left: Modalities of the left side.
        right: Modalities of the right side, all different from those of the left side.
        negatives: Number of negatives per sample and kind (random, hard).
        supervision: Positives: "pairs" (modalities of one sample), "labels" (samples of
            one class) or "auto" (both if the data have classes; pairs dominate if they
            separate samples of one class).
        out_channels: Maximum number of coordinates of similarity to training pairs.
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
        members: Ensemble size: number of graph networks, trained together.
        experts: Kinds of base learners that predict the class, if classes dominate:
            "linear", "spline" and "forest" of one modality.
        epochs: Maximum number of passes over the pairs; None: 10, but between 100 and
            600 steps. Training stops early if held-out pairs do not improve. Default:
            0, no graph networks.
        batch_size: Pairs per step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Weight decay of AdamW.
        missing_rate: Mean rate of modality dropout in training.
        encoders: Pretrained encoder of each text, image or audio modality, as a
            :class:`mmgraph.PretrainedEncoder` or as its path or name; default: those
            of the schema, otherwise plain features.
        aligned: Modalities in a shared embedding space, such as images and texts
            encoded by CLIP: one vector per sample, all of one length. Their cosines are
            part of the similarity, with a weight chosen on training samples. Default:
            modalities that one pretrained model of ``encoders`` maps into one space;
            (): none. With aligned modalities, no sample needs to have two modalities.
        device: Device of the graph networks; default: a GPU if there is one.
        seed: Seed for folds, trees, initialization and dropout.
        verbose: Show a progress bar; default: on a terminal only.

    Attributes:
        schema_: Schema of the training samples, texts, images and audio as vectors.
        channels_: Names of the channels of each modality whose channels are named.
        unseen_: Modalities without usable training samples. Their content is ignored.
        summary_: Description of the model as Markdown, without values of samples: the
            README.md of a saved model.
        input_spec_: Description of the inputs, see ``mmgraph.estimators.input_spec``.
        model_: Fitted module. ``model_.beta`` is the weight of the graph networks; it
            is 0 if they do not reduce the loss on held-out samples.
        history_: Losses of the graph networks during training, if there are any.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(60, 4))
        >>> data = MultimodalData.from_arrays({"image": x, "text": x[:, ::-1]})
        >>> mat = FusionMatcher(left=["image"], right=["text"])
        >>> p = mat.fit(data[:50]).predict_proba(data[50:], data[50:])
        >>> other = mat.predict_proba(data[50:], data[np.arange(59, 49, -1)])
        >>> bool(p.mean() > other.mean())
        True

    References:
        Align before Fuse, Li et al., 2021, arXiv 2107.07651 (hard negatives by
        similarity). Word Translation Without Parallel Data, Conneau et al., 2018, arXiv
        1710.04087 (CSLS). Probabilistic Outputs for Support Vector Machines, Platt,
        1999 (logistic regression on scores).
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

    def fit(
        self,
        X: "MultimodalLike",  # noqa: N803
        y: "LabelLike | None" = None,
    ) -> "FusionMatcher":
        """Fit the embedding space, the log-odds and, if any, the graph networks.

        Args:
            X: ``MultimodalData`` with modalities of both sides. Samples of one group
                are never negatives of each other.
            y: ``[N]`` classes; default: those of the data, if any.

        Returns:
            The estimator itself.

        Raises:
            ConfigError: If a parameter has an invalid value, a side has no modality, or
                a modality is on both sides.
            DataError: If the data lack a modality, fewer than two samples have both
                sides, or these are of one group.
        """
        self._check_params()
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

    def _card_target(self) -> str:
        left, right = (
            list_names([side] if isinstance(side, str) else side)
            for side in (self.left, self.right)
        )
        return f"whether {left} and {right} belong to one sample"

    @property
    def _space(self) -> EmbeddingSpace:
        return self.model_.pool.space

    def _model_config(self) -> dict[str, Any]:
        return super()._model_config() | {
            "num_reference": self.model_.pool.reference.num_samples
        }

    def _model_from_config(self, manifest: dict[str, Any]) -> MatchFusion:
        space = space_from_config(manifest["space"], self.input_spec_)
        return self._build(space, int(manifest["num_reference"]))

    def _fit_pairs(
        self,
        model: MatchFusion,
        data: MultimodalData,
        samples: EmbeddingTrainingData,
        fitted: FittedSpace,
    ) -> None:
        """Fit the log-odds and the graph networks to training pairs."""
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
                f"{int(pairs.y.sum())} of {len(data)} with both sides. Give more "
                "samples."
            )
        present = pairs.of(fitted.present)
        evidence = pairs.of(fitted.evidence)[:, :, None]
        groups = samples.groups[torch.stack([pairs.left, pairs.right])]
        model.pool.fit(evidence, present, pairs.y, pairs.weight, groups)
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
        """Return the training data of the graph networks."""
        device = self._resolve_device()
        weights = member_weights(
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
            member_weights=(torch.from_numpy(weights) * pairs.weight).to(device),
            groups=pairs.groups.to(device),
        )

    def _train_options(self, num_samples: int) -> TrainOptions:
        return replace(super()._train_options(num_samples), checks=10, patience=4)

    def _joined(
        self, left: MultimodalData, right: MultimodalData, a: Tensor, b: Tensor
    ) -> Batch:
        """Batch the left sides of samples ``a`` with the right sides of ``b``."""
        return merge_modalities(
            left.select(self._names_of(left=True)).batch(a.numpy()),
            right.select(self._names_of(left=False)).batch(b.numpy()),
        )

    def _names_of(self, *, left: bool) -> list[str]:
        """Return the modalities of one side, in the order of the schema."""
        sides = self.model_.pool.left.tolist()
        pairs = zip(self.schema_.modality_names, sides, strict=True)
        return [name for name, side in pairs if side == left]

    # Prediction

    def predict_proba(
        self, left_data: MultimodalData, right_data: MultimodalData
    ) -> FloatArray:
        """Probability that row i of both sides belongs to one sample.

        Args:
            left_data: ``P`` samples; only modalities of the left side are read.
            right_data: ``P`` samples; only modalities of the right side are read.

        Returns:
            ``[P]`` probabilities; one half with nothing present on one side.

        Raises:
            DataError: If sides have different lengths, or none of their modalities.
        """
        left, right = self._sides(left_data, right_data)
        if len(left) != len(right):
            raise DataError(
                "left_data and right_data must have the same number of samples, got "
                f"{len(left)} and {len(right)}. Repeat samples by indexing."
            )
        alone = predict_alone(self.predict_proba, left_data, right_data)
        if alone is not None:
            return alone
        rows = np.arange(len(left))
        return self._predict_pairs(left, right, rows, rows)

    def predict(
        self, left_data: MultimodalData, right_data: MultimodalData
    ) -> npt.NDArray[np.bool_]:
        """Whether row i of both sides belongs to one sample.

        Args:
            left_data: ``P`` samples; only modalities of the left side are read.
            right_data: ``P`` samples; only modalities of the right side are read.

        Returns:
            ``[P]`` Bool, True for probabilities above one half; False with nothing
            present on one side.

        Raises:
            DataError: If sides have different lengths, or none of their modalities.
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
        """Re-rank the candidates of a search.

        Args:
            left_data: Samples of the left side.
            right_data: Samples of the right side.
            rows: ``[Q, k]`` positions of the candidates of each query in the gallery,
                the side that is not the query, as ``index.search(...).rows``; -1 if
                there is no candidate.
            query: Side of the queries: "left" or "right".

        Returns:
            ``[Q, k]`` probabilities; NaN if there is no candidate.

        Raises:
            ConfigError: If the side is unknown.
            DataError: If rows have another shape or are out of range.
        """
        if query not in ("left", "right"):
            raise ConfigError(f"query must be 'left' or 'right', got {query!r}.")
        left, right = self._sides(left_data, right_data)
        queries, gallery = (left, right) if query == "left" else (right, left)
        rows = np.asarray(rows)
        valid = rows.ndim == 2 and len(rows) == len(queries)
        if not (valid and rows.dtype.kind in "iu") or (
            rows.size and not -1 <= rows.min() <= rows.max() < len(gallery)
        ):
            raise DataError(
                f"rows must be whole numbers [{len(queries)}, k] from -1 to "
                f"{len(gallery) - 1}, got shape {list(rows.shape)} of {rows.dtype}. "
                "Pass index.search(...).rows."
            )
        exists = rows >= 0
        at, candidate = np.nonzero(exists)[0], rows[exists]
        pair = (at, candidate) if query == "left" else (candidate, at)
        scores = np.full(rows.shape, np.nan)
        scores[exists] = self._predict_pairs(left, right, *pair)
        return scores

    def _sides(
        self, left_data: MultimodalData, right_data: MultimodalData
    ) -> tuple[MultimodalData, MultimodalData]:
        """Read both sides, each with the modalities of that side only."""
        check_is_fitted(self, "model_")
        read = []
        for data, wanted in ((left_data, True), (right_data, False)):
            names = self._names_of(left=wanted)
            have = [n for n in names if n in check_multimodal(data).columns]
            if not have:
                raise DataError(
                    f"Data of the {'left' if wanted else 'right'} side must have one "
                    f"of {', '.join(names)}, got {', '.join(data.modalities)}. Add one "
                    "of these modalities."
                )
            read.append(self.input_spec_.read(data.select(have), progress=self.verbose))
        return read[0], read[1]

    def _evidence(self, side: MultimodalData) -> tuple[Tensor, Tensor, Tensor]:
        """Return evidence, presence and hubness offset of the samples of a side."""
        device, pool = self.model_.beta.device, self.model_.pool
        features = self.input_spec_.features(side)
        parts = []
        for start in range(0, max(len(side), 1), PREDICT_BATCH):
            rows = np.arange(start, min(start + PREDICT_BATCH, len(side)))
            own = [x[start : start + PREDICT_BATCH].to(device) for x in features]
            tables = pool.space.tables(side.batch(rows).to(device), own)
            evidence, present = pool.space.evidence(tables)
            offset = pool.hubness_offset(evidence[:, :, None], present)
            parts.append((evidence, present, offset))
        evidence, present, offset = (torch.cat(x) for x in zip(*parts, strict=True))
        return evidence, present, offset

    @torch.no_grad()
    def _predict_pairs(
        self, left: MultimodalData, right: MultimodalData, a: IntArray, b: IntArray
    ) -> FloatArray:
        """Return the probability of each pair of rows, ``[P]``."""
        device = self.model_.beta.device
        sides = [self._evidence(side) for side in (left, right)]
        probabilities: list[FloatArray] = []
        for start in range(0, len(a), PREDICT_BATCH):
            i, j = (rows[start : start + PREDICT_BATCH] for rows in (a, b))
            at = [torch.from_numpy(rows).to(device) for rows in (i, j)]
            evidence, present, offset = (
                torch.stack([of_left[at[0]], of_right[at[1]]]).sum(0)
                for of_left, of_right in zip(*sides, strict=True)
            )
            p = self.model_(
                lambda i=i, j=j: merge_modalities(left.batch(i), right.batch(j)).to(
                    device
                ),
                evidence,
                present.bool(),
                offset,
            )
            probabilities.append(p.double().cpu().numpy())
        return np.concatenate(probabilities) if probabilities else np.empty(0)
