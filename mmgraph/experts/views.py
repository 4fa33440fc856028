"""Views: label-free feature tables of sequences, of vectors, and of several of them.

The table of a view has a row for each sample, all NaN where one of its modalities is
missing.

Letters: ``N`` training samples, ``B`` samples of a batch, ``F`` features of a view,
``M`` modalities, ``V`` views, ``L`` landmarks.
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn

from mmgraph.data.batch import Batch
from mmgraph.experts.product_view import ProductView
from mmgraph.nn.random_convolution import RandomConvolution
from mmgraph.nn.resampling import Sequences, resample
from mmgraph.nn.scaling import StandardScaler
from mmgraph.ops import offsets_of, present_rows
from mmgraph.schema import Schema

MAX_PAIRED = 6  # sequences up to which those that share a latent are paired
MAX_VIEWS, NUM_THRESHOLDS = 12, 2  # with more views, kernels have one threshold
MAX_PRODUCTS = 12  # views of a vector and sequences; none with more
MAX_FACTOR_WIDTH = 64  # features of the vector of a product
MAX_LANDMARKS = 2500  # of as many samples, fewer of more samples
MAX_CELLS = MAX_LANDMARKS**2  # of the kernel of all samples with the landmarks
CHUNK_SAMPLES = 512
ReadRows = Callable[[Tensor], tuple[Batch, Sequence[Tensor]]]
"""Maps indices of samples to their batch and their description tables."""


class SequenceView(nn.Module):
    """Random convolutions of one sequence modality, or of a pair of them.

    A single sequence is convolved as it was recorded, and resampled to 96 points. A
    pair is joined on a common clock of 96 points, and every kernel reads channels of
    both.

    Args:
        names: Names of one modality, or of two.
        channels: Number of channels of each.
        num_thresholds: Number of thresholds of a kernel.
    """

    def __init__(
        self,
        names: Sequence[str],
        channels: Sequence[int],
        *,
        num_thresholds: int = NUM_THRESHOLDS,
    ) -> None:
        super().__init__()
        self.names, self.channels = tuple(names), tuple(channels)
        self.num_thresholds = num_thresholds
        self.convolutions = nn.ModuleList(
            RandomConvolution(channels, num_thresholds=num_thresholds)
            for _ in range(1 if len(names) > 1 else 2)
        )

    @property
    def is_single_sequence(self) -> bool:
        """True for a view of one sequence modality."""
        return len(self.names) == 1

    @property
    def out_features(self) -> int:
        """Number of features ``F``."""
        return sum(c.out_features for c in self._convolutions)

    @property
    def _convolutions(self) -> list[RandomConvolution]:
        return [c for c in self.convolutions if isinstance(c, RandomConvolution)]

    def fit(
        self, batch: Batch, tables: Sequence[Tensor], generator: torch.Generator
    ) -> Tensor:
        """Fit the convolutions to training samples, and return their table."""

        def fit(c: RandomConvolution, values: Tensor, lengths: Tensor) -> Tensor:
            return c.fit(values, lengths, generator)

        return self._table(batch, fit)

    def forward(self, batch: Batch, tables: Sequence[Tensor]) -> Tensor:
        """Return the table ``[B, F]``.

        Args:
            batch: Rows of the samples. In a batch of regular layout, shapes do not
                depend on the data.
            tables: Not read.
        """
        return self._table(batch, lambda convolution, *x: convolution(*x))

    def _table(self, batch: Batch, convolve: Callable[..., Tensor]) -> Tensor:
        nothing = batch.x[batch.modalities[0]].new_full(
            (batch.num_samples, self.out_features), torch.nan
        )
        if not all(name in batch.x for name in self.names):
            return nothing
        lengths = [_lengths(batch, name) for name in self.names]
        seen = torch.stack(lengths).amin(0) > 0
        if batch.missing is not None:
            ends = [_padded(batch, *x) for x in zip(self.names, lengths, strict=True)]
            return torch.where(seen[:, None], self._convolve(ends, convolve), torch.nan)
        rows = torch.nonzero(seen)[:, 0]
        if not len(rows):
            return nothing
        ends = [
            _packed(batch, n, x, seen) for n, x in zip(self.names, lengths, strict=True)
        ]
        return nothing.index_copy(0, rows, self._convolve(ends, convolve))

    def _convolve(
        self, ends: Sequence[Sequences], convolve: Callable[..., Tensor]
    ) -> Tensor:
        resampled = resample(ends)
        inputs = [resampled] if len(ends) > 1 else [ends[0], resampled]
        parts = [
            convolve(convolution, x.values, x.lengths)
            for convolution, x in zip(self._convolutions, inputs, strict=True)
        ]
        return torch.cat(parts, 1) / len(parts) ** 0.5


def _lengths(batch: Batch, name: str) -> Tensor:
    if batch.missing is not None:
        rows = ~batch.missing[name]
        return rows.view(batch.num_samples, batch.max_per_sample[name]).sum(1)
    return offsets_of(batch.sample[name], batch.num_samples).diff()


def _padded(batch: Batch, name: str, lengths: Tensor) -> Sequences:
    shape = batch.num_samples, batch.max_per_sample[name]
    seconds = batch.time[name].view(shape) if name in batch.time else None
    return Sequences(batch.x[name].unflatten(0, shape), lengths, seconds)


def _packed(batch: Batch, name: str, lengths: Tensor, seen: Tensor) -> Sequences:
    rows = seen[batch.sample[name]]
    seconds = batch.time[name][rows] if name in batch.time else None
    return Sequences(batch.x[name][rows], lengths[seen], seconds)


class VectorView(nn.Module):
    """Standardized features and missing indicators of one modality.

    Args:
        names: Name of the modality.
        in_features: Number of features of the modality.
        table: Index of its description table.
    """

    DIVISORS = ("scale",)

    scale: Tensor

    def __init__(self, names: Sequence[str], in_features: int, table: int) -> None:
        super().__init__()
        self.names, self.in_features, self.table = tuple(names), in_features, table
        self.scaler = StandardScaler(in_features)
        self.register_buffer("scale", torch.ones(()))

    @property
    def is_single_sequence(self) -> bool:
        """False: the modality is a vector."""
        return False

    @property
    def out_features(self) -> int:
        """Number of features ``F``."""
        return self.scaler.out_channels

    def fit(
        self, batch: Batch, tables: Sequence[Tensor], generator: torch.Generator
    ) -> Tensor:
        """Fit the standardization to training samples, and return their table."""
        x = tables[self.table]
        seen = x[present_rows([x])[:, 0]]
        self.scaler.fit(seen)
        if len(seen):
            square = self.scaler(seen).square().sum(1).mean()
            self.scale.copy_(square.sqrt().clamp(min=1e-6))
        return self(batch, tables)

    def forward(self, batch: Batch, tables: Sequence[Tensor]) -> Tensor:
        """Return the table ``[B, F]``, whose mean squared norm is about one.

        Args:
            batch: Not read.
            tables: Description tables ``[B, F_m]`` of the modalities.
        """
        x = tables[self.table]
        z = self.scaler(x) / self.scale
        return torch.where(present_rows([x]), z, torch.nan)


View = SequenceView | VectorView | ProductView


def plan_views(
    schema: Schema, widths: Sequence[int], *, sequences_only: bool = False
) -> list[View]:
    """Return the unfitted views of a schema.

    Every sequence modality has a view, as has every vector modality if there is a
    sequence. Two sequences have a view together if a relation joins them. Sequences
    that send to the same latent node are related through it: up to six of them are
    paired as well. Each view of sequences is multiplied by that of a vector that is
    related to all of them, if the vector has at most 64 features, and there are at most
    12 such products.

    The views of single modalities come first, then those of pairs of sequences, then
    products. A product follows its factors, and products of single sequences come
    before those of pairs.

    Args:
        schema: Schema of the inputs.
        widths: Number of features of the description of each modality.
        sequences_only: Plan views of single sequences only.
    """
    ragged = [m for m in schema.modalities if m.tokens == "ragged" and not m.places]
    if not ragged:
        return []
    pairs = [] if sequences_only else _related_sequences(schema)
    plain = [] if sequences_only else list(zip(schema.modalities, widths, strict=True))
    many = len(ragged) + len(pairs) > MAX_VIEWS
    thresholds = 1 if many else NUM_THRESHOLDS
    channels = {m.name: int(m.channels or 0) for m in ragged}
    views: list[View] = [
        VectorView([m.name], width, table)
        for table, (m, width) in enumerate(plain)
        if m.name not in channels
    ]
    views += [
        SequenceView(names, [channels[n] for n in names], num_thresholds=thresholds)
        for names in [*((name,) for name in channels), *pairs]
    ]
    views.sort(key=lambda view: len(view.names))
    return views + ([] if sequences_only else _products(schema, views))


def _products(schema: Schema, views: Sequence[View]) -> list[View]:
    """Return the products of views of vectors and of sequences that are related."""
    related = {frozenset(pair) for pair in related_pairs(schema, schema.modality_names)}
    first = len(schema.modalities)  # tables before those of the views
    products: list[View] = [
        ProductView(
            [*vector.names, *sequence.names],
            first + v,
            first + s,
            vector.out_features,
            sequence.out_features,
        )
        for s, sequence in enumerate(views)
        for v, vector in enumerate(views)
        if isinstance(sequence, SequenceView)
        and isinstance(vector, VectorView)
        and vector.in_features <= MAX_FACTOR_WIDTH
        and all({*vector.names, name} in related for name in sequence.names)
    ]
    return products if len(products) <= MAX_PRODUCTS else []


def _related_sequences(schema: Schema) -> list[tuple[str, str]]:
    """Return the pairs of sequence modalities that a schema relates, in its order."""
    names = [m.name for m in schema.modalities if m.tokens == "ragged" and not m.places]
    return related_pairs(schema, names, by_latent=len(names) <= MAX_PAIRED)


def related_pairs(
    schema: Schema, names: Sequence[str], *, by_latent: bool = True
) -> list[tuple[str, str]]:
    """Return the pairs of names that a relation joins, or that send to one latent."""
    latents = {latent.name for latent in schema.latents}
    joined = {frozenset((r.source, r.target)) for r in schema.relations}
    into = {name: set[str]() for name in names}
    for r in schema.relations:
        if r.source in into and r.target in latents and by_latent:
            into[r.source].add(r.target)
    return [
        (a, b)
        for a, b in combinations(names, 2)
        if frozenset((a, b)) in joined or into[a] & into[b]
    ]


def view_tables(
    views: Iterable[nn.Module], batch: Batch, features: Sequence[Tensor]
) -> list[Tensor]:
    """Return the description tables of a batch, then those of its views.

    Args:
        views: Fitted views, in the order of :func:`plan_views`.
        batch: Rows of the samples.
        features: Description ``[B, F_m]`` of each modality; a missing one is an
            all-NaN row.
    """
    tables = list(features)
    for view in views:
        tables.append(view(batch, tables))
    return tables


@dataclass(frozen=True)
class ViewKernels:
    """Fitted views, and their linear kernels between training samples.

    Attributes:
        views: ``V`` views.
        landmarks: ``[L]`` training samples that are landmarks, ascending.
        kernels: ``[N, L]`` for each view, zero where a modality is missing.
        diagonal: ``[N]`` for each view, kernel of each sample with itself.
        basis: ``[L, F]`` for each view, features of the landmarks, zero where missing.
        needs: ``[V, M]`` Bool, True for the modalities of a view. Those of single
            modalities come first.
        is_product: ``[V]`` Bool, True for products of other views.
    """

    views: Sequence[View]
    landmarks: Tensor
    kernels: Sequence[Tensor]
    diagonal: Sequence[Tensor]
    basis: Sequence[Tensor]
    needs: Tensor
    is_product: Tensor

    @property
    def num_single(self) -> int:
        """Number of views of a single modality."""
        return int((self.needs.sum(1) == 1).sum())


def fit_views(
    views: Sequence[View],
    names: Sequence[str],
    num_samples: int,
    read: ReadRows,
    *,
    seed: int = 0,
) -> ViewKernels:
    """Fit views to training samples, and compute their kernels.

    With many samples, views are fitted to random landmarks, such that the kernel of all
    samples with the landmarks has at most 2500^2 cells.

    Args:
        views: Views that :func:`plan_views` returned.
        names: Names of all modalities.
        num_samples: ``N``.
        read: Reads samples.
        seed: Seed of landmarks and views.
    """
    count = max(1, min(num_samples, MAX_CELLS // num_samples))
    generator = torch.Generator().manual_seed(seed)
    landmarks = torch.randperm(num_samples, generator=generator)[:count].sort().values
    batch, features = read(landmarks)
    tables = list(features)
    for view in views:
        tables.append(view.fit(batch, tables, _generator(view.names, seed)))
    basis = [_observed(table) for table in tables[len(features) :]]
    if count == num_samples:
        kernels = [z @ z.T for z in basis]
        diagonal = [kernel.diagonal() for kernel in kernels]
    else:
        parts, squares = [], []
        for rows in torch.arange(num_samples).split(CHUNK_SAMPLES):
            own = [_observed(x) for x in view_tables(views, *read(rows))]
            pairs = zip(own[len(features) :], basis, strict=True)
            parts.append([table @ z.T for table, z in pairs])
            squares.append([x.square().sum(1) for x in own[len(features) :]])
        kernels = [torch.cat(each) for each in zip(*parts, strict=True)]
        diagonal = [torch.cat(each) for each in zip(*squares, strict=True)]
    needs = torch.tensor([[name in view.names for name in names] for view in views])
    is_product = torch.tensor([isinstance(view, ProductView) for view in views])
    return ViewKernels(views, landmarks, kernels, diagonal, basis, needs, is_product)


def _observed(table: Tensor) -> Tensor:
    """Return a table with zeros in the rows of missing modalities."""
    return torch.where(table.isnan(), 0, table)


def _generator(names: Sequence[str], seed: int) -> torch.Generator:
    """Return a generator that does not depend on the order of the modalities."""
    number = zlib.crc32("\n".join(sorted(names)).encode())
    return torch.Generator().manual_seed(number + (seed << 32))
