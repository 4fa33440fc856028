"""Base learner on the edges between objects, conditioned on the text of a sample.

Letters: ``N`` training samples, ``B`` samples of a batch, ``P`` objects of a sample,
``C`` channels of an object, ``D`` width of its state, ``V`` width of the text, ``R``
classes of relative places, ``H`` heads, ``K`` outputs, ``E`` models, ``J`` folds.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn

from mmgraph._random import draws_from
from mmgraph.data.batch import Batch
from mmgraph.experts.links import Link, link_of, to_score
from mmgraph.nn.heads import Classification, Task
from mmgraph.nn.linear import Linear, parameter
from mmgraph.nn.scaling import StandardScaler
from mmgraph.ops import position_in
from mmgraph.schema import Modality, Schema

MAX_OBJECTS = 32  # of a sample; further ones are not read
MAX_CONTEXTS = 4  # pairs of a text and a modality of objects
MAX_OUTPUTS = 16
WIDTH, TEMPERATURE = 16, 0.5
NUM_BOUNDS = 4  # of a coordinate of the relative place, which has five classes
INITIAL = 0.05  # bound of the initial weights of the text
BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 256, 0.04, 0.5
EPOCHS, MIN_STEPS, MAX_STEPS = 100, 300, 1500
TRIAL_SHARE = 4  # the class that edges support is chosen after a quarter of the steps
MIN_SAMPLES = 50


class ObjectView(nn.Module):
    """Rows of the objects of each sample as a table of fixed width.

    Args:
        name: Name of the modality.
        channels: Number of its channels, coordinates included.
        num_objects: ``P``; further objects are not read.
    """

    def __init__(self, name: str, channels: int, num_objects: int) -> None:
        super().__init__()
        self.name, self.channels, self.num_objects = name, channels, num_objects

    def forward(self, batch: Batch, tables: Sequence[Tensor]) -> Tensor:
        """Return the table ``[B, P C]``, NaN where there is no object.

        Args:
            batch: Rows of the samples. In a batch of regular layout, shapes do not
                depend on the data.
            tables: Not read.
        """
        shape = batch.num_samples, self.num_objects, self.channels
        nothing = batch.x[batch.modalities[0]].new_full(shape, torch.nan)
        if self.name not in batch.x:
            return nothing.flatten(1)
        x, sample = batch.x[self.name], batch.sample[self.name]
        if batch.missing is not None:
            rows = x.masked_fill(batch.missing[self.name][:, None], torch.nan)
            width = batch.max_per_sample[self.name]
            rows = rows.unflatten(0, (batch.num_samples, width))
            return torch.cat([rows, nothing], 1)[:, : self.num_objects].flatten(1)
        place = position_in(sample, batch.num_samples)
        kept = place < self.num_objects
        return nothing.index_put((sample[kept], place[kept]), x[kept]).flatten(1)


class RelationExpert(nn.Module):
    r"""Scores of the edges between objects, pooled over all edges of a sample.

    The text :math:`u` of a sample decides which objects and which relative places make
    an edge count. The edge from object i to object j has the score

    .. math:: e_{ij}^h = a_h(u) \cdot \phi(x_i) + b_h(u) \cdot \phi(x_j)
        + r_h(u)[\mathrm{class}(p_j - p_i)],

    with linear maps :math:`a_h, b_h, r_h` of the text, a perceptron :math:`\phi` of the
    channels of an object, and five classes of each coordinate of the relative place.
    Heads pool edges by :math:`\tau \log \sum_{ij} \exp(e_{ij}^h / \tau)`, a smooth
    maximum: one edge suffices to support an output. Absolute places are not read, so
    that predictions do not change under translation. A sample without text or without
    objects gets the prior.

    There is one model for each fold, trained without that fold.

    References:
        A Simple Neural Network Module for Relational Reasoning, Santoro et al., 2017,
        arXiv 1706.01427. FiLM: Visual Reasoning with a General Conditioning Layer,
        Perez, Strub, de Vries, Dumoulin, Courville, 2018, arXiv 1709.07871.

    Args:
        text_width: ``V``.
        channels: ``C``, coordinates included.
        places: Number of coordinates.
        out_channels: ``K``.
        link: Link function of the task.
        text: Index of the modality of texts.
        objects: Index of the modality of objects.
        table: Index of the table of objects, from the end of the tables.
        num_heads: ``H``.
        num_folds: ``J``.
        has_edges: Read pairs of objects; otherwise single objects only.
    """

    bounds: Tensor
    prior: Tensor

    def __init__(
        self,
        text_width: int,
        channels: int,
        places: int,
        out_channels: int,
        link: Link,
        *,
        text: int,
        objects: int,
        table: int,
        num_heads: int = 2,
        num_folds: int = 1,
        has_edges: bool = True,
    ) -> None:
        super().__init__()
        self.channels, self.places, self.link = channels, places, link
        self.text, self.objects, self.table = text, objects, table
        self.num_heads, self.num_folds, self.has_edges = num_heads, num_folds, has_edges
        self.num_classes = (NUM_BOUNDS + 1) ** places
        self.scaler = StandardScaler(channels - places)
        width = self.scaler.out_channels
        self.inner = Linear(width, 2 * WIDTH, members=num_folds)
        self.outer = Linear(2 * WIDTH, WIDTH, members=num_folds)
        each = 2 * WIDTH + self.num_classes if has_edges else WIDTH
        self.maps = parameter(
            text_width, num_heads * each, members=num_folds, bound=INITIAL
        )
        self.head = parameter(num_heads, out_channels, members=num_folds)
        self.rest = Linear(text_width, out_channels, members=num_folds, scale=0.0)
        self.register_buffer("bounds", torch.zeros(places, NUM_BOUNDS))
        self.register_buffer("prior", torch.zeros(out_channels))

    @torch.no_grad()
    def fit_inputs(self, rows: Tensor) -> None:
        """Fit the standardization and the classes of relative places.

        The classes of a coordinate are zero, and small and large differences of either
        sign: those up to and above the median of their distinct absolute values.

        Args:
            rows: ``[N, P, C]`` objects of training samples, NaN where there is none.
        """
        seen = rows[~rows.isnan().all(-1)]
        self.scaler.fit(seen[:, self.places :])
        place = rows[:256, :, : self.places]
        for axis, x in enumerate(place.unbind(-1)):
            size = (x[:, None] - x[:, :, None]).abs().flatten()
            size = size[size > 0].unique()  # NaN is not above zero
            if len(size):
                middle = size[(len(size) - 1) // 2]
                above = size[size > middle]
                high = (middle + above[0]) / 2 if len(above) else 2 * middle
                low = size[0] / 2
                self.bounds[axis] = torch.stack([-high, -low, low, high])

    def forward(
        self, tables: Sequence[Tensor], present: Tensor, fold: Tensor | None = None
    ) -> Tensor:
        """Map tables to scores ``[B, K]``.

        Args:
            tables: Description of each modality, then tables of the views.
            present: ``[B, M]`` Bool; tables of missing modalities are not read.
            fold: ``[B]`` folds of training samples, which are predicted by the model
                that was fitted without the fold. Default: the mean over all models.
        """
        both = present[:, self.text] & present[:, self.objects]
        logits = self.logits(tables[self.text], tables[self.table], both)
        scores = to_score(self.prior + logits, self.link)  # [J, B, K]
        if fold is None:
            mean = scores.mean(0)
        else:
            mean = scores[fold, torch.arange(len(fold), device=fold.device)]
        return torch.where(both[:, None], mean, self.prior)

    def logits(self, text: Tensor, table: Tensor, both: Tensor) -> Tensor:
        """Return the logits ``[E, B, K]`` of all models.

        Args:
            text: ``[B, V]``.
            table: ``[B, P C]`` objects.
            both: ``[B]`` Bool, True for samples that have both.
        """
        u = torch.where(both[:, None], text, 0)
        u = u.masked_fill(u.isnan(), 0)
        u = u / u.square().sum(1, keepdim=True).clamp(min=1e-12).sqrt()
        rows = table.unflatten(1, (-1, self.channels))
        exists = ~rows.isnan().all(-1) & both[:, None]
        rows = torch.where(exists[..., None], rows, 0)
        pooled = self._pool(u, rows, exists)
        return pooled @ self.head + self.rest(u)

    def _pool(self, u: Tensor, rows: Tensor, exists: Tensor) -> Tensor:
        """Return the pooled scores ``[E, B, H]`` of the edges of each sample."""
        count = rows.shape[1]
        z = self.scaler(rows[..., self.places :].flatten(0, 1))
        states = self.outer(self.inner(z).relu()).unflatten(1, (-1, count))
        maps = (u @ self.maps).unflatten(-1, (self.num_heads, -1))  # [E, B, H, ..]
        sends, *others = maps.split(
            [WIDTH, WIDTH, self.num_classes] if self.has_edges else [WIDTH], -1
        )
        scores, seen = sends @ states.mT, exists[:, None]  # [E, B, H, P]
        if others:
            receives, of_class = others
            received = receives @ states.mT
            pair = scores[..., :, None] + received[..., None, :]
            number = self._classes(rows).flatten(1)[:, None]  # [B, 1, P P]
            number = number.expand(of_class.shape[0], -1, self.num_heads, -1)
            scores = pair.flatten(-2) + of_class.gather(-1, number)
            seen = (exists[:, :, None] & exists[:, None]).flatten(1)[:, None]
        # without an object, a finite value that the caller does not read
        seen = seen | ~exists.any(1)[:, None, None]
        total = scores.shape[-1]
        smooth = scores.masked_fill(~seen, -torch.inf) / TEMPERATURE
        return TEMPERATURE * (smooth.logsumexp(-1) - math.log(total))

    def _classes(self, rows: Tensor) -> Tensor:
        """Return the class of the relative place of each pair, ``[B, P, P]``."""
        place = rows[..., : self.places]
        place = place.masked_fill(place.isnan(), 0)
        step = place[:, None] - place[:, :, None]  # [B, P, P, axes]
        index = (step[..., None] > self.bounds).sum(-1)
        base = NUM_BOUNDS + 1
        power = torch.tensor([base**i for i in range(self.places)], device=index.device)
        return (index * power).sum(-1)


@dataclass(frozen=True)
class RelationTraining:
    """Texts, and tables of objects of the training samples.

    Attributes:
        views: Views of the modalities of objects.
        tables: ``[N, P C]`` for each view.
        schema: Schema of the inputs.
        texts: Names of the modalities of n-grams.
    """

    views: Sequence[ObjectView]
    tables: Sequence[Tensor]
    schema: Schema
    texts: Sequence[str] = ()


def plan_objects(schema: Schema, longest: Iterable[int]) -> list[ObjectView]:
    """Return a view for each modality of objects that texts can be related to.

    Args:
        schema: Schema of the inputs.
        longest: Number of rows of the longest training sample, by modality.
    """
    if not _texts(schema):
        return []
    pairs = zip(schema.modalities, longest, strict=True)
    return [
        ObjectView(m.name, int(m.channels or 0), min(count, MAX_OBJECTS))
        for m, count in pairs
        if m.places and count
    ]


def _texts(schema: Schema) -> list[Modality]:
    return [
        m for m in schema.modalities if m.kind == "embedding" and m.tokens == "single"
    ]


def fit_relations(
    training: RelationTraining,
    features: Sequence[Tensor],
    present: Tensor,
    y: Tensor,
    task: Task,
    folds: Tensor,
    prior: Tensor,
    *,
    seed: int = 0,
    weight: Tensor | None = None,
    has_edges: bool = True,
) -> list[RelationExpert]:
    """Fit a base learner to each pair of a text and a modality of objects.

    Of two classes, the one that is supported by an edge is chosen by the out-of-fold
    loss of models of either, which are trained for a quarter of the steps.

    Args:
        training: Tables of objects.
        features: ``[N, F_m]`` by modality.
        present: ``[N, M]`` Bool.
        y: Encoded targets.
        task: Prediction task.
        folds: ``[N]`` fold of each sample, from 0.
        prior: ``[K]`` scores of the prior.
        seed: Seed of initial weights and batches.
        weight: ``[N]`` sample weights; None weights all samples equally.
        has_edges: Read pairs of objects; otherwise single objects only.

    Returns:
        Base learners; none without enough samples.
    """
    schema, names = training.schema, training.schema.modality_names
    num_folds = int(folds.max()) + 1
    if num_folds < 2 or task.out_channels > MAX_OUTPUTS:
        return []
    fitted: list[RelationExpert] = []
    for (number, view), modality in product(enumerate(training.views), _texts(schema)):
        text, objects = names.index(modality.name), names.index(view.name)
        rows = torch.nonzero(present[:, text] & present[:, objects])[:, 0]
        if len(rows) < MIN_SAMPLES or len(fitted) == MAX_CONTEXTS:
            continue
        data = _Samples(
            features[text][rows],
            training.tables[number][rows],
            y[rows],
            folds[rows],
            None if weight is None else weight[rows],
        )
        build = partial(
            RelationExpert,
            features[text].shape[1],
            view.channels,
            schema.modality(view.name).places,
            task.out_channels,
            link_of(task),
            text=text,
            objects=objects,
            table=number - len(training.views),
            num_heads=_num_heads(task),
            num_folds=num_folds,
            has_edges=has_edges,
        )
        fitted.append(_fit_relation(build, data, task, prior, seed))
    return fitted


def _fit_relation(
    build: Callable[[], RelationExpert],
    data: "_Samples",
    task: Task,
    prior: Tensor,
    seed: int,
) -> RelationExpert:
    """Choose the class that edges support, if there are two, and train."""

    def initial() -> RelationExpert:
        with draws_from(seed):
            expert = build()
        expert.prior.copy_(prior)
        return expert

    support = None
    if _is_binary(task):
        trials = [
            _train(initial(), data, task, each, seed, TRIAL_SHARE) for each in range(2)
        ]
        support = int(trials[1] <= trials[0])
    expert = initial()
    _train(expert, data, task, support, seed)
    return expert


def _is_binary(task: Task) -> bool:
    return isinstance(task, Classification) and task.num_classes == 2


def _num_heads(task: Task) -> int:
    """Return two heads for the supported class of two, and for each output."""
    return 2 if _is_binary(task) else 2 * task.out_channels


@dataclass(frozen=True)
class _Samples:
    """Samples with a text and objects.

    Attributes:
        text: ``[n, V]``.
        table: ``[n, P C]``.
        y: Encoded targets.
        folds: ``[n]``.
        weight: ``[n]`` sample weights, or None.
    """

    text: Tensor
    table: Tensor
    y: Tensor
    folds: Tensor
    weight: Tensor | None

    def loss(self, expert: RelationExpert, task: Task, rows: Tensor) -> Tensor:
        """Return the loss ``[J, 2]`` of each model outside and inside its fold."""
        every = torch.ones_like(rows, dtype=torch.bool)
        logits = expert.logits(self.text[rows], self.table[rows], every)
        own = self.folds[rows] == torch.arange(expert.num_folds)[:, None]  # [J, n]
        weight = torch.ones(len(rows)) if self.weight is None else self.weight[rows]
        scores, y = expert.prior + logits, self.y[rows]
        outside = task.loss(scores, y, (~own) * weight)
        return torch.stack([outside, task.loss(scores, y, own * weight)], 1)


def _train(
    expert: RelationExpert,
    data: _Samples,
    task: Task,
    support: int | None,
    seed: int,
    share: int = 1,
) -> float:
    """Train the models of all folds together, and return their out-of-fold loss.

    Args:
        expert: Base learner with initial weights.
        data: Training samples.
        task: Prediction task.
        support: Class that edges support; None: each output has separate heads.
        seed: Seed of the batches.
        share: Divisor of the number of steps.
    """
    expert.fit_inputs(data.table.unflatten(1, (-1, expert.channels)))
    with torch.no_grad():
        heads = torch.arange(expert.num_heads)
        outputs = heads % expert.head.shape[-1] if support is None else heads * 0
        outputs = outputs if support is None else outputs + support
        expert.head[:, heads, outputs] = 0.5
    generator = torch.Generator().manual_seed(seed)
    count = len(data.y)
    size = min(BATCH_SIZE, count)
    steps = min(max(EPOCHS * count // size, MIN_STEPS), MAX_STEPS) // share
    optimizer = torch.optim.AdamW(
        expert.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=steps
    )
    for _ in range(steps):
        rows = torch.randint(count, (size,), generator=generator)
        optimizer.zero_grad()
        data.loss(expert, task, rows)[:, 0].sum().backward()
        optimizer.step()
        schedule.step()
    expert.requires_grad_(False)
    chunks = torch.arange(count).split(BATCH_SIZE)
    parts = [data.loss(expert, task, rows)[:, 1].sum() * len(rows) for rows in chunks]
    return float(torch.stack(parts).sum() / count)
