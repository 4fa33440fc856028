"""Training the members of an ensemble together, on what the evidence leaves over.

Letters: ``N`` samples, ``B`` samples of a batch, ``M`` modalities, ``K`` outputs,
``E`` members.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmgraph.batch import Batch
from mmgraph.missing import modality_dropout
from mmgraph.model import FusionModel
from mmgraph.nn.pool import EvidencePool, interaction_share

BETAS = tuple(0.25 * i for i in range(6))
MAX_JUDGED = 1000


@dataclass(frozen=True)
class TrainOptions:
    """How members are trained.

    Attributes:
        max_steps: Most optimiser steps.
        batch_size: Samples a step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        missing_rate: Mean rate of modality dropout; the rate of a sample is drawn
            from U(0, 2 rate).
        checks: How often held-out loss is measured over the whole schedule.
        patience: Checks without a better loss of any member before stopping.
        completion_weight: Weight of auxiliary losses.
    """

    max_steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    missing_rate: float = 0.35
    checks: int = 25
    patience: int = 15
    completion_weight: float = 0.1


@dataclass(frozen=True)
class TrainingSet:
    """What members learn from.

    Attributes:
        batch_of: Packs samples by their numbers.
        present: ``[N, M]`` Bool.
        evidence: ``[N, M, X, K]`` out-of-fold evidence.
        y: Targets of the task.
        bags: ``[E, N]`` weight of each sample for each member; 0 is held out.
        groups: ``[N]`` numbers of what belongs together (each sample alone, or not).
    """

    batch_of: Callable[[Tensor], Batch]
    present: Tensor
    evidence: Tensor
    y: Tensor
    bags: Tensor
    groups: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class History:
    """What training did.

    Attributes:
        steps: Optimiser steps.
        held_out_loss: ``[checks, E]``.
        beta_loss: Held-out loss of each candidate of ``BETAS``.
    """

    steps: int
    held_out_loss: tuple[tuple[float, ...], ...]
    beta_loss: tuple[float, ...]


def fit_members(
    graph: FusionModel,
    pool: EvidencePool,
    data: TrainingSet,
    options: TrainOptions,
    *,
    generator: torch.Generator,
    on_step: Callable[[int], None] = lambda _: None,
) -> tuple[float, History]:
    """Fit the graph's members to the residual of the pool; choose beta.

    Every member minimises the task's loss of ``pool + share * graph`` on its own bag
    (see :func:`interaction_share`), under
    modality dropout drawn anew for each batch, and keeps its parameters of the check
    with the lowest loss on the samples that its bag holds out.

    Returns:
        The weight of the graph's logits, chosen on held-out samples, and the history.
    """
    optimiser = torch.optim.AdamW(
        graph.parameters(),
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
        fused=True,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, options.learning_rate, total_steps=options.max_steps
    )
    judge = _Judge(graph, pool, data, generator)
    every = max(1, options.max_steps // options.checks)
    batches = _endless_batches(len(data), options.batch_size, generator)
    step = 0
    for step in range(1, options.max_steps + 1):
        _update(graph, pool, data, next(batches), options, optimiser, generator)
        schedule.step()
        on_step(step)
        if step % every == 0 and judge.check() >= options.patience:
            break
    judge.restore()
    losses = judge.beta_losses()
    beta = shrunk_beta(losses, data.groups[judge.indices])
    means = tuple(losses.nanmean(1).tolist())
    return beta, History(step, tuple(judge.losses), means)


def shrunk_beta(losses: Tensor, groups: Tensor) -> float:
    """Choose the weight of the graph, and shrink it by how sure its gain is.

    With the best candidate's mean gain over the pool ``g`` and its standard error
    ``s`` over groups of samples, its weight is multiplied by ``max(0, 1 - s^2 / g^2)``:
    a gain within its error counts nothing, one of three errors nearly all.

    References:
        Estimation with Quadratic Loss, James, Stein, 1961 (positive-part shrinkage).

    Args:
        losses: ``[candidates, n]`` held-out loss of each sample with each of
            ``BETAS``, NaN where a sample was not held out.
        groups: ``[n]`` numbers of what belongs together; samples of their own where
            nothing does.
    """
    seen = ~losses[0].isnan()
    if not bool(seen.any()):
        return 0.0
    losses, groups = losses[:, seen], groups[seen]
    best = int(losses.mean(1).argmin())
    difference = losses[0] - losses[best]
    _, group = groups.unique(return_inverse=True)
    count = int(group.max()) + 1
    gain = difference.mean()
    total = torch.zeros(count, dtype=losses.dtype, device=losses.device)
    total = total.index_add(0, group, difference - gain)
    variance = total.square().sum() / len(difference) ** 2
    if best == 0 or count < 2:
        return 0.0
    return BETAS[best] * max(0.0, 1 - float(variance / gain.square()))


def _update(
    graph: FusionModel,
    pool: EvidencePool,
    data: TrainingSet,
    indices: Tensor,
    options: TrainOptions,
    optimiser: torch.optim.Optimizer,
    generator: torch.Generator,
) -> None:
    """Take one step on some samples, with some of their modalities hidden."""
    present = data.present[indices]
    kept = modality_dropout(present, options.missing_rate, generator)
    batch = data.batch_of(indices)
    batch = batch.hold_out(present & ~kept) if graph.ghosts else batch.drop(kept)
    evidence = data.evidence[indices]
    output = graph(batch, pool.by_modality(evidence))
    logits = pool(evidence, kept) + interaction_share(kept) * output.logits
    bags = data.bags[:, indices]
    # every member's sum over its bag, on the scale of a mean over a full batch
    share = bags.sum(1) / bags.shape[1]
    loss = (graph.task.loss(logits, data.y[indices], bags) * share).sum()
    for extra in output.auxiliary:
        loss = loss + options.completion_weight * extra.sum()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


def _endless_batches(
    num_samples: int, batch_size: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield batches of one permutation after the other, none smaller than half."""
    size = min(batch_size, num_samples)
    while True:
        order = torch.randperm(num_samples, generator=generator)
        yield from order.chunk(max(1, round(num_samples / size)))


class _Judge:
    """Held-out losses of members, their best parameters, and the weight beta."""

    def __init__(
        self,
        graph: FusionModel,
        pool: EvidencePool,
        data: TrainingSet,
        generator: torch.Generator,
    ) -> None:
        self.graph, self.pool, self.data = graph, pool, data
        order = torch.randperm(len(data), generator=generator)
        self.indices = order[:MAX_JUDGED].sort().values
        present = data.present[self.indices]
        self.masks = [present, modality_dropout(present, 0.5, generator)]
        self.batch = data.batch_of(self.indices)
        self.evidence = data.evidence[self.indices]
        self.input = pool.by_modality(self.evidence)
        self.offsets = [pool(self.evidence, mask) for mask in self.masks]
        self.shares = [interaction_share(mask) for mask in self.masks]
        self.out = (data.bags[:, self.indices] == 0).to(self.evidence.dtype)
        self.y = data.y[self.indices]
        self.losses: list[tuple[float, ...]] = []
        self.best = torch.full((len(self.out),), torch.inf)
        self.kept = {k: p.detach().clone() for k, p in graph.named_parameters()}
        self.waiting = 0

    @torch.no_grad()
    def joint(self) -> list[Tensor]:
        """Return what the graph adds, ``[E, n, K]``, under each mask."""
        return [
            share * self.graph(self.batch.drop(mask), self.input).logits
            for mask, share in zip(self.masks, self.shares, strict=True)
        ]

    def check(self) -> int:
        """Measure; keep better members; return the number of checks without one."""
        loss = torch.stack(
            [
                self.graph.task.loss(offset + joint, self.y, self.out)
                for offset, joint in zip(self.offsets, self.joint(), strict=True)
            ]
        ).mean(0)
        self.losses.append(tuple(loss.tolist()))
        better = loss < self.best - 1e-5
        self.best = torch.where(better, loss, self.best)
        self.waiting = 0 if bool(better.any()) else self.waiting + 1
        for name, value in self.graph.named_parameters():
            self.kept[name][better] = value.detach()[better]
        return self.waiting

    @torch.no_grad()
    def restore(self) -> None:
        """Give every member its best parameters back."""
        for name, value in self.graph.named_parameters():
            value.copy_(self.kept[name])

    def beta_losses(self) -> Tensor:
        """Loss of each sample with each candidate, ``[candidates, n]``.

        A sample is judged by the members that held it out, and is NaN without one.
        """
        count = self.out.sum(0)
        share = (self.out / count.clamp(min=1))[..., None]
        joints = [(joint * share).sum(0) for joint in self.joint()]
        losses = [
            torch.stack(
                [
                    self._loss_of_each(offset + beta * joint)
                    for offset, joint in zip(self.offsets, joints, strict=True)
                ]
            ).mean(0)
            for beta in BETAS
        ]
        return torch.where(count > 0, torch.stack(losses), torch.nan)

    def _loss_of_each(self, logits: Tensor) -> Tensor:
        """Return the loss ``[n]`` of each sample alone."""
        task = self.graph.task
        alone = torch.vmap(lambda x, y: task.loss(x[None], y[None]))
        return alone(logits, self.y)
