"""Correlation of the states of modalities: deep canonical correlation analysis.

Letters: `B` samples, `M` modalities, `N` nodes, `D` width, `R` components; `...` are
the members of an ensemble.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mmgraph._random import draws_from
from mmgraph.data.batch import Batch
from mmgraph.errors import ConfigError, SchemaError
from mmgraph.losses import LossSums, at_least_float
from mmgraph.model import FusionOutput
from mmgraph.nn.linear import Linear
from mmgraph.nn.type_dict import TypeDict
from mmgraph.ops import segment_mean
from mmgraph.schema import Schema

NAME = "correlation"


@dataclass(frozen=True)
class Correlation:
    r"""Correlation of the states of modalities (deep canonical correlation analysis).

    The states of each modality are mapped to components z that correlate with those of
    the other modalities. With the mean C of the cross-covariances of z over ordered
    pairs of modalities, and the mean V of their covariances, the loss is

    .. math:: -2\, \mathrm{tr}\, C + \mathrm{tr}\, V V.

    It has no inverse, and is unbiased in minibatches: the two factors V are those of
    two random halves of a batch. At its minimum over linear maps of two modalities, the
    components are the canonical variates with variances equal to their correlations,
    and the loss is minus the sum of the squared correlations.

    A cross-covariance covers the samples that have both modalities, a covariance those
    that have the modality and at least one other. Modalities with fewer than two such
    samples in one of the halves are left out of a batch.

    References:
        Deep Canonical Correlation Analysis, Andrew, Arora, Bilmes, Livescu, 2013.
        Unconstrained Stochastic CCA: Unifying Multiview and Self-Supervised Learning,
        Chapman, Wells, Lawry Aguila, 2024 (the loss).

    Attributes:
        num_components: Number of components ``R``.

    Raises:
        ConfigError: If ``num_components`` is below 1.

    Example:
        >>> schema = Schema.late([Modality("labs", 3), Modality("ecg", 2)])
        >>> model = FusionModel(schema, task=Classification(2))
        >>> objective = objectives.Correlation(2).build(schema, channels=32)
        >>> rows = torch.arange(8)
        >>> x = {"labs": torch.randn(8, 3), "ecg": torch.randn(8, 2)}
        >>> batch = Batch(8, x, {"labs": rows, "ecg": rows})
        >>> generator = torch.Generator().manual_seed(0)
        >>> loss = objective(model(batch), batch, generator)["correlation"].loss
        >>> loss.backward()
    """

    num_components: int = 10

    def __post_init__(self) -> None:
        if self.num_components < 1:
            raise ConfigError(
                f"num_components must be at least 1, got {self.num_components}. The "
                "default is 10."
            )

    def build(
        self,
        schema: Schema,
        channels: int,
        members: int | None = None,
        *,
        seed: int = 0,
    ) -> "CorrelationLoss":
        """Return the module that learns the components.

        Args:
            schema: Schema of the model, with at least two modalities and without edges
                from one modality to another: a state that contains the content of
                another modality correlates with it whatever is learned.
            channels: Width ``D`` of node states, ``hidden_channels`` of the model.
            members: Ensemble members of the model, or None for a single model.
            seed: Seed of the initial maps.

        Raises:
            SchemaError: If the schema has fewer than two modalities, or a modality
                receives messages from another node type.
        """
        names = schema.modality_names
        if len(names) < 2:
            raise SchemaError(
                f"Correlation must have at least two modalities, got {list(names)}. "
                "Add one."
            )
        for source, _, target in schema.edge_types:
            if target in names and source != target:
                raise SchemaError(
                    "Correlation must have modalities that receive no messages, got an "
                    f"edge from {source!r} to {target!r}. Use Schema.late."
                )
        with draws_from(seed):
            maps = {
                name: Linear(channels, self.num_components, members=members)
                for name in names
            }
        return CorrelationLoss(maps)


class CorrelationLoss(nn.Module):
    """Loss of :class:`Correlation`, with a linear map for each modality.

    Args:
        maps: Maps from states ``D`` to components ``R`` by modality.
    """

    def __init__(self, maps: dict[str, Linear]) -> None:
        super().__init__()
        self.maps = TypeDict(maps)

    def components(
        self, output: FusionOutput, num_samples: int
    ) -> tuple[Float[Tensor, "... M B R"], Bool[Tensor, "M B"]]:
        """Return the components of all modalities, and which of them are observed.

        Args:
            output: Output of the model. The state of a modality is the mean of its
                nodes.
            num_samples: ``B``.

        Returns:
            Components, zero where a modality is missing; and True where it is present.
        """
        states, present = [], []
        for name, project in self.maps.items():
            sample = output.sample_dict[name]
            h = segment_mean(output.h_dict[name], sample, num_samples + 1)
            seen = torch.bincount(sample, minlength=num_samples + 1)[:num_samples] > 0
            z = at_least_float(project(h)[..., :num_samples, :])
            states.append(torch.where(seen[:, None], z, 0))
            present.append(seen)
        return torch.stack(states, -3), torch.stack(present)

    def forward(
        self, output: FusionOutput, batch: Batch, generator: torch.Generator
    ) -> dict[str, LossSums]:
        """Return the loss of a batch as sums over its samples.

        Args:
            output: Output of the model for the batch.
            batch: Samples.
            generator: Generator of the two halves of the batch.
        """
        z, present = self.components(output, batch.num_samples)
        order = torch.randperm(
            batch.num_samples, generator=generator, device=generator.device
        )
        half = (order % 2).to(z.device)
        return {NAME: correlation_sums(z, present, half)}


def correlation_sums(
    z: Float[Tensor, "... M B R"], present: Bool[Tensor, "M B"], half: Tensor
) -> LossSums:
    """Return the loss of components as a function of sums over samples.

    Args:
        z: Components, zero where a modality is missing.
        present: Which modalities each sample has.
        half: ``[B]`` 0 or 1, the half of each sample.
    """
    num_modalities, _, num_components = z.shape[-3:]
    seen = present.to(z.dtype)
    linked = seen * (seen.sum(0) > 1)
    shares = torch.stack([linked * (half == i) for i in (0, 1)])  # [2, M, B]
    shapes = [
        (num_modalities, num_modalities),
        (num_modalities, num_modalities, num_components),
        (num_modalities, num_modalities, num_components),
        (2, num_modalities),
        (2, num_modalities, num_components),
        (2, num_modalities, num_components, num_components),
    ]
    parts = [
        (seen @ seen.T).expand(*z.shape[:-3], *shapes[0]),
        torch.einsum("...mbr,kb->...mkr", z, seen),
        torch.einsum("...mbr,...kbr->...mkr", z, z),
        shares.sum(-1).expand(*z.shape[:-3], *shapes[3]),
        torch.einsum("hmb,...mbr->...hmr", shares, z),
        torch.einsum("hmb,...mbr,...mbs->...hmrs", shares, z, z),
    ]
    flat = [
        part.flatten(-len(shape)) for part, shape in zip(parts, shapes, strict=True)
    ]
    ends = [0]
    for part in flat:
        ends.append(ends[-1] + part.shape[-1])

    def of_sums(sums: Tensor) -> Tensor:
        cells = [
            sums[..., start:end].unflatten(-1, shape)
            for (start, end), shape in zip(pairwise(ends), shapes, strict=True)
        ]
        return _loss(*cells)

    return LossSums(torch.cat(flat, -1), of_sums)


def _loss(
    pairs: Tensor,
    means: Tensor,
    products: Tensor,
    counts: Tensor,
    totals: Tensor,
    squares: Tensor,
) -> Tensor:
    """Return the loss ``[...]`` of the sums of :func:`correlation_sums`."""
    used = (counts >= 2).all(-2)  # [..., M]
    both = (pairs >= 2) & used[..., None] & used[..., None, :]
    both = both & ~torch.eye(both.shape[-1], dtype=torch.bool, device=both.device)
    count = pairs.clamp(min=2)[..., None]
    centered = products - means * means.transpose(-2, -3) / count
    cross = (centered / (count - 1)).sum(-1)  # [..., M, M] traces
    cross = _mean_where(cross, both, (-2, -1))
    count = counts.clamp(min=2)[..., None, None]
    outer = totals[..., None] * totals[..., None, :]
    own = (squares - outer / count) / (count - 1)  # [..., 2, M, R, R]
    chosen = used[..., None, :, None, None].expand(own.shape)
    first, second = _mean_where(own, chosen, (-3,)).unbind(-3)
    loss = (first * second).sum((-2, -1)) - 2 * cross
    return torch.where(both.any(-1).any(-1), loss, 0 * loss)


def _mean_where(x: Tensor, chosen: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return the mean of the chosen entries; zero without any."""
    count = chosen.sum(axes).clamp(min=1)
    return torch.where(chosen, x, 0).sum(axes) / count
