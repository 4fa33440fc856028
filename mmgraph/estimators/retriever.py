"""Embed any subset of modalities into one space, to find what belongs together.

Letters: ``N`` samples, ``Q`` queries, ``M`` modalities, ``W`` width of an embedding.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.utils.validation import check_is_fitted

from mmgraph._progress import show_progress
from mmgraph.data import MultimodalData
from mmgraph.data.validation import as_vectors, check_names
from mmgraph.embedding.contrastive import (
    ContrastKind,
    ContrastOptions,
    ContrastSet,
    fit_contrast,
)
from mmgraph.embedding.fit import FittedSpace, Supervision
from mmgraph.embedding.hubness import FloatArray, Hubness, hub_corrected
from mmgraph.embedding.model import EmbeddingFusion
from mmgraph.embedding.space import EmbeddingSpace
from mmgraph.embedding.training_data import EmbeddingTrainingData
from mmgraph.estimators.base import FITTING
from mmgraph.estimators.featurize import Encoder
from mmgraph.estimators.pair_base import PairEstimator, check_multimodal
from mmgraph.estimators.validation import check_options
from mmgraph.experts.links import ExpertKind
from mmgraph.nn.conv import Capacity
from mmgraph.nn.heads import Regression
from mmgraph.schema import Schema
from mmgraph.train.schedule import StepSchedule

if TYPE_CHECKING:
    from mmgraph.retrieval import Index


class FusionRetriever(PairEstimator):
    """One space for every subset of modalities: query by text, image, or both.

    Modalities of one sample belong together. Each modality is mapped, in closed form,
    to how much it is like every training sample that has several; where the data has
    classes, also to class probabilities. A query is the sum over the modalities that
    it has, moved by a graph of just these, as far as that helps samples that the graph
    was not trained on. See :class:`mmgraph.embedding.space.EmbeddingSpace`.

    Args:
        supervision: What belongs together: "pairs" of modalities of one sample,
            "labels" for samples of one class, or "auto": both where the data has
            classes, led by pairs where these tell samples of one class apart.
        loss: Of the graph: "siglip" or "infonce", with learned temperature.
        out_channels: Coordinates of likeness to training samples.
        contrast_size: Samples that a step compares, computed ``batch_size`` at a time
            with cached gradients; default: ``batch_size``.
        hubness: How :meth:`similarity` discounts hubs: "none", "csls" or
            "inverted_softmax".
        schema: The graph of a sample; default: the schema of the data.
        hidden_channels: Width of node states.
        num_layers: Graph layers.
        num_heads: Attention heads.
        capacity: What a relation has of its own: "bias", "scalar" or "full".
        feed_forward: "typed", "mixture" of experts, or "none".
        members: Ensemble members, trained together.
        experts: Kinds of unimodal experts of the class, where classes lead.
        epochs: Passes of the graph over the data; None: 20, but 60 to 300 steps.
            Training stops early when held-out samples gain nothing. Default: 0, no
            graph, for on small sets it gained nothing on unseen samples.
        batch_size: Samples that are computed at once.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        encoders: By modality of text, image or audio: a pretrained model that turns
            it into vectors, as a :class:`mmgraph.PretrainedEncoder` or as the path or
            name of one; default: what the schema names, else plain features.
        aligned: Modalities whose vectors can be compared before anything is learned,
            such as pictures and texts by CLIP: their cosines have a share of the
            similarity, chosen by how well training samples find their partner. One
            vector a sample, all of one length; none: (); default: those that one
            pretrained model of ``encoders`` puts into one space. With them, a fit
            needs no sample that has two modalities.
        device: Where to compute; default: a GPU if there is one.
        seed: Of everything that is random.
        verbose: Show a progress bar; default: only on a terminal.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(40, 4))
        >>> data = MultimodalData.from_arrays({"image": x, "text": x[:, ::-1]})
        >>> ret = FusionRetriever().fit(data[:30])
        >>> z = ret.embed(data[30:], modalities=["text"])
        >>> gallery = ret.embed(data[30:], modalities=["image"])
        >>> (z @ gallery.T).argmax(1)
        array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """

    _budget = StepSchedule(20, 60, 300)
    loss: ContrastKind
    contrast_size: int | None
    hubness: Hubness
    model_: EmbeddingFusion

    def __init__(
        self,
        *,
        supervision: Supervision = "auto",
        loss: ContrastKind = "siglip",
        out_channels: int = 256,
        contrast_size: int | None = None,
        hubness: Hubness = "none",
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
        encoders: Mapping[str, Encoder] | None = None,
        aligned: Sequence[str] | None = None,
        device: str | None = None,
        seed: int = 0,
        verbose: bool | None = None,
    ) -> None:
        self._set_params(locals())

    def fit(self, X: Any, y: Any = None) -> "FusionRetriever":  # noqa: ANN401, N803
        """Learn from samples: their modalities belong together.

        Args:
            X: ``MultimodalData``. Samples of one group are never taken for each
                other's opposite, and are held out together.
            y: ``[N]`` classes; default: those of the data, where it has any.

        Raises:
            DataError: No sample with two modalities, nor classes.
        """
        check_options(self.get_params(deep=False))
        data = check_multimodal(X)
        data = data if y is None else data.replace(y=y)
        data, samples, fitted = self._fit_space(data)
        model = self._build(fitted.space)
        model.graph.fit_scaling(data.batch())
        self.model_ = model.to(self._resolve_device())
        if self.epochs != 0:
            self._fit_residual(data, samples, fitted)
        self.model_.requires_grad_(False)
        return self

    def _build(self, space: EmbeddingSpace) -> EmbeddingFusion:
        task = Regression(space.out_channels)
        return EmbeddingFusion(space, self._build_graph(task, space.evidence_channels))

    @property
    def _space(self) -> EmbeddingSpace:
        return self.model_.space

    def _fit_residual(
        self, data: MultimodalData, samples: EmbeddingTrainingData, fitted: FittedSpace
    ) -> None:
        device = self._resolve_device()
        training = ContrastSet(
            batch_of=lambda indices: data.batch(indices.cpu().numpy()).to(device),
            present=fitted.present.to(device),
            evidence=fitted.folded.to(device),
            validation_evidence=fitted.evidence.to(device),
            groups=samples.groups.to(device),
            classes=samples.classes.to(device)
            if fitted.by_class and samples.classes is not None
            else None,
            folds=samples.folds.to(device),
        )
        options = self._contrast_options(len(data))
        generator = torch.Generator().manual_seed(int(self.seed))
        with show_progress(FITTING, options.max_steps, self.verbose) as on_step:
            beta = fit_contrast(
                self.model_, training, options, generator=generator, on_step=on_step
            )
        self.model_.beta.fill_(beta)

    def _contrast_options(self, num_samples: int) -> ContrastOptions:
        size = int(self.contrast_size or self.batch_size)
        return ContrastOptions(
            max_steps=self._budget.steps(self.epochs, num_samples, size),
            batch_size=self.batch_size,
            contrast_size=size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            loss=self.loss,
        )

    # Using

    def embed(
        self,
        X: MultimodalData,  # noqa: N803
        *,
        modalities: Sequence[str] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Embed samples by some of their modalities.

        Args:
            X: The data.
            modalities: Which to look at; default: all that the data has.

        Returns:
            ``[N, W]`` of unit length: an inner product is a cosine. A sample that has
            none of these modalities, or only some that nothing could be learned about,
            is all NaN: there is nothing to embed.

        Raises:
            DataError: An unknown modality, or data that does not fit the model.
        """
        check_is_fitted(self, "model_")
        data = check_multimodal(X)
        if modalities is not None:
            names = [modalities] if isinstance(modalities, str) else list(modalities)
            check_names("modalities", names, self.schema_.modality_names)
            asked = {
                name: np.full(len(data), name in names) for name in data.modalities
            }
            data = data.mask(asked)
        data = self.input_spec_.read(data, progress=self.verbose)
        z = self._predict_batches(data, self.model_)
        nothing = ~z.ne(0).any(1, keepdim=True)
        found: npt.NDArray[np.float32] = z.masked_fill(nothing, torch.nan).numpy()
        return found

    def index(
        self,
        gallery: MultimodalData,
        *,
        modalities: Sequence[str] | None = None,
        kind: str = "exact",
    ) -> "Index":
        """Embed a gallery and index it by the ids of its samples.

        Args:
            gallery: The samples to find; ids must be unique.
            modalities: What they are embedded by; default: all. A sample that has none
                of them is never found.
            kind: See :class:`mmgraph.retrieval.Index`.
        """
        from mmgraph.retrieval import Index

        return Index(
            gallery.ids,
            self.embed(gallery, modalities=modalities),
            present=gallery.present,
            modalities=gallery.modalities,
            kind=kind,
        )

    def similarity(
        self,
        queries: FloatArray,
        gallery: FloatArray,
        *,
        bank: FloatArray | None = None,
    ) -> FloatArray:
        """Score embedded queries against an embedded gallery, ``[Q, N]``.

        The cosine, or what the option ``hubness`` makes of it; see
        :func:`mmgraph.embedding.hubness.hub_corrected`.

        Args:
            queries: ``[Q, W]`` from :meth:`embed`.
            gallery: ``[N, W]`` from :meth:`embed`.
            bank: ``[B, W]`` queries that show what is a hub, such as those of the
                training data; default: the queries, which then depend on each other.

        Returns:
            Higher is better: -inf for an all-NaN entry, else NaN for an all-NaN query.

        Raises:
            DataError: Samples in place of their embeddings, or another width.
        """
        asked = as_vectors("queries", queries)
        width = asked.shape[1]
        found = as_vectors("gallery", gallery, width=width)
        shown = asked if bank is None else as_vectors("bank", bank, width=width)
        return hub_corrected(asked, found, shown, self.hubness)
