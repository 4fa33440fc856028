"""Cross-modal retrieval in one embedding space for every subset of modalities.

Letters: ``N`` samples, ``Q`` queries, ``M`` modalities, ``W`` width of an embedding.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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
from mmgraph.embedding.soft_pairs import join_pairs
from mmgraph.embedding.space import EmbeddingSpace
from mmgraph.embedding.training_data import EmbeddingTrainingData
from mmgraph.estimators.base import (
    FITTING,
    ArrayLike,
    LabelLike,
    MultimodalLike,
    predict_alone,
)
from mmgraph.estimators.featurize import Encoder
from mmgraph.estimators.pair_base import PairEstimator, check_multimodal
from mmgraph.experts.links import ExpertKind
from mmgraph.nn.conv import Capacity
from mmgraph.nn.heads import Regression
from mmgraph.schema import Schema
from mmgraph.train.schedule import StepSchedule

if TYPE_CHECKING:
    from mmgraph.retrieval import Index


class FusionRetriever(PairEstimator):
    """Retriever with one embedding space for every subset of modalities.

    Queries and entries can have any modalities, such as text queries for images, or
    queries of text and image for audio. Modalities of one sample are positives. Each
    modality is mapped, in closed form by kernel ridge regression, to its similarities
    to training pairs and, if the data have classes, to class probabilities. An
    embedding is the normalized sum over the present modalities. With ``epochs`` above
    0, graph networks on the present modalities are added with a weight chosen on
    held-out samples. See :class:`mmgraph.embedding.space.EmbeddingSpace`.

    Args:
        supervision: Positives: "pairs" (modalities of one sample), "labels" (samples of
            one class) or "auto" (both if the data have classes; pairs dominate if they
            separate samples of one class).
        loss: Contrastive loss of the graph networks: "siglip" or "infonce", with a
            learned temperature.
        out_channels: Maximum number of coordinates of similarity to training pairs.
        contrast_size: Effective contrastive batch size (GradCache): samples that are
            compared in a step, embedded ``batch_size`` at a time; default:
            ``batch_size``.
        hubness: Hubness correction of :meth:`similarity`: "none", "csls" or
            "inverted_softmax".
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
        epochs: Maximum number of passes over the data; None: 20, but between 60 and 300
            steps. Training stops early if held-out samples do not improve. Default: 0,
            no graph networks, which did not improve retrieval on small data.
        batch_size: Samples per step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Weight decay of AdamW.
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

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(40, 4))
        >>> data = MultimodalData.from_arrays({"image": x, "text": x[:, ::-1]})
        >>> ret = FusionRetriever().fit(data[:30])
        >>> z = ret.embed(data[30:], modalities=["text"])
        >>> gallery = ret.embed(data[30:], modalities=["image"])
        >>> (z @ gallery.T).argmax(1)
        array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9])

    References:
        Kernel and Nonlinear Canonical Correlation Analysis, Lai, Fyfe, 2000. A New
        Approach to Cross-Modal Multimedia Retrieval, Rasiwasia et al., 2010 (class
        probabilities as a common space). Sigmoid Loss for Language Image Pre-Training,
        Zhai, Mustafa, Kolesnikov, Beyer, 2023, arXiv 2303.15343.
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

    def fit(
        self,
        X: "MultimodalLike",  # noqa: N803
        y: "LabelLike | None" = None,
        *,
        pairs: "ArrayLike | None" = None,
    ) -> "FusionRetriever":
        """Fit the embedding space and, with ``epochs`` above 0, the graph networks.

        Args:
            X: ``MultimodalData``. Samples of one group are never negatives of each
                other, and are held out together.
            y: ``[N]`` classes; default: those of the data, if any.
            pairs: Transport plan in place of samples that have both of two modalities:
                masses ``[n, m]`` of the rows of the first and the second one, in the
                order of the samples that have them, or ``[N, N]`` of all samples; an
                array or a sparse matrix. A row of the second modality is fitted to the
                mean of the rows that send mass to it; samples have the class of their
                row of the first one.

        Returns:
            The estimator itself.

        Raises:
            DataError: If no sample has two modalities, there are no classes, and no
                modalities are aligned; or ``pairs`` is no plan of these samples.
            ConfigError: If a parameter has an invalid value.
        """
        self._check_params()
        data = check_multimodal(X)
        data = data if y is None else data.replace(y=y)
        mixing = None
        if pairs is not None:
            joined = join_pairs(data, pairs)
            data, mixing = joined.data, joined.mixing
        data, samples, fitted = self._fit_space(data, mixing)
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

    def _card_target(self) -> str:
        return "which samples belong together"

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
            ids=data.ids,
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

    # Prediction

    def embed(
        self,
        X: MultimodalData,  # noqa: N803
        *,
        modalities: Sequence[str] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Embed samples, given some of their modalities.

        Args:
            X: Samples with any of the modalities of the training.
            modalities: Names of the modalities to use; default: all modalities of the
                data.

        Returns:
            ``[N, W]`` unit vectors: an inner product is a cosine. Samples without any
            of these modalities, or only with ``unseen_`` ones, are all NaN.

        Raises:
            DataError: If a modality is unknown or of another width.
        """
        check_is_fitted(self, "model_")
        data = check_multimodal(X)
        alone = predict_alone(lambda one: self.embed(one, modalities=modalities), data)
        if alone is not None:
            return alone
        if modalities is not None:
            names = [modalities] if isinstance(modalities, str) else list(modalities)
            check_names("modalities", names, self.schema_.modality_names)
            kept = {name: np.full(len(data), name in names) for name in data.modalities}
            data = data.mask(kept)
        data = self.input_spec_.read(data, progress=self.verbose)
        z = self._predict_batches(data, self.model_)
        empty = ~z.ne(0).any(1, keepdim=True)
        embedded: npt.NDArray[np.float32] = z.masked_fill(empty, torch.nan).numpy()
        return embedded

    def index(
        self,
        gallery: MultimodalData,
        *,
        modalities: Sequence[str] | None = None,
        kind: str = "exact",
    ) -> "Index":
        """Embed a gallery, and build an index of its samples by their ids.

        Args:
            gallery: Samples to search; ids must be unique.
            modalities: Names of the modalities to use; default: all. Samples without
                any of them are never returned by a search.
            kind: Kind of the index, see :class:`mmgraph.retrieval.Index`.

        Raises:
            DataError: If a modality is unknown or of another width, or ids repeat.
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
        """Score embedded queries against an embedded gallery.

        The score is the cosine, with the hubness correction of the parameter
        ``hubness``; see :func:`mmgraph.embedding.hubness.hub_corrected`.

        Args:
            queries: ``[Q, W]`` from :meth:`embed`.
            gallery: ``[N, W]`` from :meth:`embed`.
            bank: ``[B, W]`` queries on which hubness is measured, such as those of the
                training data; default: ``queries``, whose scores then depend on each
                other.

        Returns:
            ``[Q, N]`` scores, higher is better: -inf for an all-NaN entry, and NaN for
            an all-NaN query with any other entry.

        Raises:
            DataError: If samples are given in place of embeddings, or widths differ.
        """
        queries = as_vectors("queries", queries)
        width = queries.shape[1]
        gallery = as_vectors("gallery", gallery, width=width)
        bank = queries if bank is None else as_vectors("bank", bank, width=width)
        return hub_corrected(queries, gallery, bank, self.hubness)
