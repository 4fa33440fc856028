"""Training a graph to move embeddings, beyond what closed-form maps reach.

Letters: ``N`` samples, ``B`` samples of a batch, ``M`` modalities, ``C`` channels of
evidence, ``W`` width of an embedding, ``E`` members.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from mmgraph.data.batch import Batch
from mmgraph.embedding.model import EmbeddingFusion, shift
from mmgraph.losses import info_nce, sigmoid_contrastive
from mmgraph.missing import modality_dropout
from mmgraph.train import BETAS, shrunk_beta

ContrastKind: TypeAlias = Literal["siglip", "infonce"]

SCALE, BIAS = 10.0, -10.0  # where temperature and bias begin, as in SigLIP
SCALE_RATE = 10.0  # times the learning rate of the graph
MAX_VALIDATION, VALIDATION_VIEWS = 512, 4
CHECKS, PATIENCE = 15, 5


class SimilarityScale(nn.Module):
    """A learned temperature and bias: similarities become logits.

    References:
        Learning Transferable Visual Models From Natural Language Supervision, Radford
        et al., 2021 (learned temperature). Sigmoid Loss for Language Image
        Pre-Training, Zhai et al., 2023 (bias).
    """

    def __init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(math.log(SCALE)))
        self.bias = nn.Parameter(torch.tensor(BIAS))

    def forward(self, similarity: Tensor) -> Tensor:
        """Map cosines of any shape to logits."""
        return self.log_scale.exp() * similarity + self.bias


@dataclass(frozen=True)
class ContrastSet:
    """What a graph learns from.

    Attributes:
        batch_of: Packs samples by their numbers.
        present: ``[N, M]`` Bool.
        evidence: ``[N, M, C]`` by fits without a sample's fold, to learn from: samples
            of one fold know the same, so that nothing but content tells them apart.
        validation_evidence: ``[N, M, C]`` by fits without just the sample, which are
            nearly as good as those that predictions are made with.
        groups: ``[N]`` numbers; samples of a group are no negatives of each other.
        classes: ``[N]``, -1 unknown: what is of one class belongs together; or None,
            where only what is of one sample does.
        folds: ``[N]``; those of one fold are compared with each other. Fold 0 is
            held out.
    """

    batch_of: Callable[[Tensor], Batch]
    present: Tensor
    evidence: Tensor
    validation_evidence: Tensor
    groups: Tensor
    classes: Tensor | None
    folds: Tensor

    def pairs(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return which pairs of rows are positive, and which count: ``[B, B]``."""
        same = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        if self.classes is not None:
            y = self.classes[rows]
            known = (y >= 0)[:, None] & (y >= 0)
            return same | (known & (y[:, None] == y)), same | known
        group = self.groups[rows]
        return same, same | (group[:, None] != group)


@dataclass(frozen=True)
class ContrastOptions:
    """How a graph is trained.

    Attributes:
        max_steps: Most optimiser steps.
        batch_size: Samples that are computed at once.
        contrast_size: Samples that are compared in a step; see :func:`cached_step`.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Of AdamW.
        loss: "siglip" or "infonce".
    """

    max_steps: int
    batch_size: int
    contrast_size: int
    learning_rate: float
    weight_decay: float
    loss: ContrastKind


def cached_step(
    embed: Callable[[Tensor], Tensor],
    chunks: Sequence[Tensor],
    loss_of: Callable[[Tensor], Tensor],
) -> Tensor:
    """Back-propagate a loss over all chunks with the memory of one.

    Embeds all chunks without a graph, takes the loss's gradient with respect to the
    embeddings, then embeds chunk by chunk again and passes its part of the gradient
    on: the same gradients as from one large batch.

    References:
        Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, Gao,
        Zhang, Han, Callan, 2021 (GradCache).

    Args:
        embed: Maps row numbers to ``[..., B, W]``; gives the same when asked again.
        chunks: Row numbers.
        loss_of: The loss of all embeddings, joined along the last axis but one.

    Returns:
        The loss, detached; gradients are left at the parameters.
    """
    if len(chunks) == 1:
        loss = loss_of(embed(chunks[0]))
        loss.backward()
        return loss.detach()
    with torch.no_grad():
        parts = [embed(chunk) for chunk in chunks]
    z = torch.cat(parts, dim=-2).requires_grad_()
    loss = loss_of(z)
    loss.backward()
    assert z.grad is not None
    sizes = [len(chunk) for chunk in chunks]
    for chunk, gradient in zip(chunks, z.grad.split(sizes, dim=-2), strict=True):
        embed(chunk).backward(gradient)
    return loss.detach()


def fit_contrast(
    model: EmbeddingFusion,
    data: ContrastSet,
    options: ContrastOptions,
    *,
    generator: torch.Generator,
    on_step: Callable[[int], None] = lambda _: None,
) -> float:
    """Train the graph on views of disjoint modalities; return its weight beta.

    The loss compares two views of every sample, each with a random part of its
    modalities. Beta is chosen, and shrunk by how sure its gain is, on samples that
    the graph was not trained on; see :func:`mmgraph.train.shrunk_beta`.
    """
    validation = _Validation(model, data, generator)
    parts = [torch.nonzero(data.folds == j)[:, 0] for j in data.folds.unique() if j]
    parts = parts or [torch.arange(len(data.folds))]
    scale = SimilarityScale().to(data.evidence.device)
    rates = [options.learning_rate, SCALE_RATE * options.learning_rate]
    learned: list[dict[str, Any]] = [
        {"params": model.graph.parameters()},
        {"params": scale.parameters(), "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(
        learned,
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, rates, total_steps=options.max_steps
    )
    every = max(1, options.max_steps // CHECKS)
    for step in range(1, options.max_steps + 1):
        rows = parts[step % len(parts)]
        order = torch.randperm(len(rows), generator=generator)
        chosen = rows[order[: options.contrast_size]]
        optimiser.zero_grad()
        _backward(model, scale, data, chosen, options, generator)
        optimiser.step()
        schedule.step()
        on_step(step)
        if step % every == 0 and validation.check() >= PATIENCE:
            break
    validation.restore()
    return shrunk_beta(validation.losses(), data.groups[validation.rows])


def _backward(
    model: EmbeddingFusion,
    scale: SimilarityScale,
    data: ContrastSet,
    rows: Tensor,
    options: ContrastOptions,
    generator: torch.Generator,
) -> None:
    """Leave the gradients of one step at the parameters."""
    first, second = split_views(data.present[rows], generator)
    positive, apart = data.pairs(rows)
    valid = apart & first.any(1)[:, None] & second.any(1)
    compare = sigmoid_contrastive if options.loss == "siglip" else info_nce

    def embed(at: Tensor) -> Tensor:
        views = [embed_view(model, data, rows[at], v[at]) for v in (first, second)]
        return torch.cat(views, dim=-1)

    def loss_of(z: Tensor) -> Tensor:
        a, b = z.chunk(2, dim=-1)
        return compare(scale(a @ b.transpose(-1, -2)), positive, valid).sum()

    numbers = torch.arange(len(rows), device=rows.device)
    cached_step(embed, numbers.split(options.batch_size), loss_of)


def split_views(present: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Deal the modalities of each sample out to two views, ``[B, M]`` Bool each."""
    first = modality_dropout(present, 0.5, generator)
    return first, present & ~first


def embed_view(
    model: EmbeddingFusion, data: ContrastSet, rows: Tensor, view: Tensor
) -> Tensor:
    """Embed some modalities of samples by every member, ``[E, B, W]``."""
    evidence = data.evidence[rows]
    z = model.space(evidence, view)
    batch = data.batch_of(rows).drop(view)
    return shift(z, model.graph(batch, model.space.by_modality(evidence)).logits)


class _Validation:
    """Loss on held-out samples, the best parameters, and the weight beta."""

    def __init__(
        self, model: EmbeddingFusion, data: ContrastSet, generator: torch.Generator
    ) -> None:
        self.model, self.data = model, data
        rows = torch.nonzero((data.folds == 0) & (data.present.sum(1) > 1))[:, 0]
        order = torch.randperm(len(rows), generator=generator)
        self.rows = rows[order[:MAX_VALIDATION]].sort().values
        present = data.present[self.rows]
        self.views = [_two_of(present, generator) for _ in range(VALIDATION_VIEWS)]
        self.positive, self.apart = data.pairs(self.rows)
        self.best, self.waiting = math.inf, 0
        self.kept = {k: p.detach().clone() for k, p in self._named()}

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.model.graph.named_parameters())

    @torch.no_grad()
    def check(self) -> int:
        """Keep the parameters if they are the best; return how long none were."""
        if not len(self.rows):
            return 0
        loss = float(self._of_each(1.0).mean())
        self.waiting += 1
        if loss < self.best:
            self.best, self.waiting = loss, 0
            self.kept = {k: p.detach().clone() for k, p in self._named()}
        return self.waiting

    @torch.no_grad()
    def restore(self) -> None:
        """Give the graph its best parameters back."""
        for name, parameter in self._named():
            parameter.copy_(self.kept[name])

    @torch.no_grad()
    def losses(self) -> Tensor:
        """Loss of each held-out sample with each candidate of ``BETAS``."""
        if not len(self.rows):
            return torch.full((len(BETAS), 0), torch.nan)
        return torch.stack([self._of_each(beta) for beta in BETAS])

    def _of_each(self, beta: float) -> Tensor:
        """Return one minus the nDCG of each held-out sample, over both directions.

        Ranks do not depend on a temperature and, unlike likelihoods, do not reward a
        better place among the last.
        """
        total = torch.zeros(len(self.rows), device=self.rows.device)
        for views in self.views:
            a, b = (self._embed(view, beta) for view in views)
            valid = self.apart & views[0].any(1)[:, None] & views[1].any(1)
            there = _gain_lost(a @ b.T, self.positive, valid)
            back = _gain_lost(b @ a.T, self.positive.T, valid.T)
            total += (there + back) / (2 * len(self.views))
        return total

    def _embed(self, view: Tensor, beta: float) -> Tensor:
        evidence = self.data.validation_evidence[self.rows]
        z = self.model.space(evidence, view)
        if not beta:
            return z
        batch = self.data.batch_of(self.rows).drop(view)
        said = self.model.graph(batch, self.model.space.by_modality(evidence)).logits
        return shift(z, beta * said.mean(0))


def _two_of(present: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Choose two modalities of each sample, the hardest views: ``[B, M]`` Bool each."""
    draws = torch.rand(present.shape, generator=generator).to(present.device)
    order = draws.masked_fill(~present, 2.0).argsort(1)
    every = torch.zeros_like(present)
    first, second = (every.scatter(1, order[:, i : i + 1], True) for i in (0, 1))
    return first & present, second & present


def _gain_lost(scores: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
    """Return one minus the nDCG of every row; zero for a row without a partner."""
    order = scores.masked_fill(~valid, -torch.inf).argsort(1, descending=True)
    relevant = (positive & valid).gather(1, order).to(scores.dtype)
    place = torch.arange(2, scores.shape[1] + 2, device=scores.device)
    discount = 1 / place.to(scores.dtype).log2()
    ideal = relevant.sort(1, descending=True).values @ discount
    gain = relevant @ discount / ideal.clamp(min=discount[-1])
    return torch.where(ideal > 0, 1 - gain, 0)
