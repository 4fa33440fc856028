"""Contrastive training of the graph networks of an embedding model.

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
from mmgraph.data.column import AnyArray
from mmgraph.embedding.model import EmbeddingFusion, shift
from mmgraph.losses import info_nce, sigmoid_contrastive
from mmgraph.missing import modality_dropout
from mmgraph.train import BETAS, shrunk_beta
from mmgraph.train.divergence import describe_cause, warn_divergence

ContrastKind: TypeAlias = Literal["siglip", "infonce"]

SCALE, BIAS = 10.0, -10.0  # initial scale and bias, as in SigLIP
SCALE_RATE = 10.0  # their learning rate, relative to that of the graph
MAX_VALIDATION, VALIDATION_VIEWS = 512, 4
CHECKS, PATIENCE = 15, 5


class SimilarityScale(nn.Module):
    """Learned scale and bias that convert similarities to logits.

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
    """Training samples of the graph networks.

    Attributes:
        batch_of: Packs the samples of given indices.
        present: ``[N, M]`` Bool.
        evidence: ``[N, M, C]`` evidence by fits without the fold of a sample, for
            training: samples of one fold have evidence from the same pairs, so that it
            does not reveal which of them is which.
        validation_evidence: ``[N, M, C]`` evidence by fits without the group of a
            sample, for validation: nearly as accurate as that of new samples.
        groups: ``[N]`` group numbers; samples of one group are never negatives.
        classes: ``[N]`` class numbers, -1 if unknown: samples of one class are
            positives. None: only views of one sample are positives.
        folds: ``[N]`` fold of each sample. Samples of one fold are compared with each
            other; fold 0 is held out.
        ids: ``[N]`` ids of the samples, for messages; None if they have none.
    """

    batch_of: Callable[[Tensor], Batch]
    present: Tensor
    evidence: Tensor
    validation_evidence: Tensor
    groups: Tensor
    classes: Tensor | None
    folds: Tensor
    ids: AnyArray | None = None

    def pairs(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return positive and valid pairs of rows, ``[B, B]`` Bool each."""
        same = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        if self.classes is not None:
            y = self.classes[rows]
            known = (y >= 0)[:, None] & (y >= 0)
            return same | (known & (y[:, None] == y)), same | known
        group = self.groups[rows]
        return same, same | (group[:, None] != group)


@dataclass(frozen=True)
class ContrastOptions:
    """Options of contrastive training.

    Attributes:
        max_steps: Maximum number of optimizer steps.
        batch_size: Samples of a forward pass.
        contrast_size: Effective contrastive batch size: samples that are compared in a
            step, see :func:`cached_step`.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Weight decay of AdamW.
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
    """Compute the gradients of a loss over all chunks with the memory of one chunk.

    All chunks are embedded without gradients; the gradient of the loss with respect to
    the embeddings is then propagated through each chunk separately. The gradients equal
    those of one large batch.

    Args:
        embed: Maps row indices to ``[..., B, W]``. It must be deterministic.
        chunks: Row indices of each chunk.
        loss_of: Loss of all embeddings, concatenated along the second last dimension.

    Returns:
        The detached loss. Gradients are accumulated in the parameters.

    References:
        Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup, Gao,
        Zhang, Han, Callan, 2021 (GradCache).
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
    """Train the graph networks on views with disjoint modalities.

    The loss compares two views of every sample, each with a random part of its
    modalities. A loss that is not finite stops the training with a
    ``ConvergenceWarning`` that names samples and modalities.

    Args:
        model: Model with a fitted space.
        data: Training samples.
        options: Training options.
        generator: Random generator.
        on_step: Called with the number of each completed step.

    Returns:
        The weight beta of the graph networks, chosen on held-out samples and shrunk by
        the uncertainty of its gain; see :func:`mmgraph.train.shrunk_beta`.
    """
    validation = _Validation(model, data, generator)
    parts = [torch.nonzero(data.folds == j)[:, 0] for j in data.folds.unique() if j]
    parts = parts or [torch.arange(len(data.folds))]
    scale = SimilarityScale().to(data.evidence.device)
    rates = [options.learning_rate, SCALE_RATE * options.learning_rate]
    groups: list[dict[str, Any]] = [
        {"params": model.graph.parameters()},
        {"params": scale.parameters(), "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups,
        lr=options.learning_rate,
        weight_decay=options.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rates, total_steps=options.max_steps
    )
    every = max(1, options.max_steps // CHECKS)
    for step in range(1, options.max_steps + 1):
        rows = parts[step % len(parts)]
        order = torch.randperm(len(rows), generator=generator)
        chosen = rows[order[: options.contrast_size]]
        optimizer.zero_grad()
        loss = _backward(model, scale, data, chosen, options, generator)
        if not bool(loss.isfinite()):
            cause = _cause(model, data, chosen[: options.batch_size])
            warn_divergence(step, cause, options.learning_rate)
            break
        optimizer.step()
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
) -> Tensor:
    """Accumulate the gradients of one step in the parameters; return the loss."""
    first, second = split_views(data.present[rows], generator)
    positive, comparable = data.pairs(rows)
    valid = comparable & first.any(1)[:, None] & second.any(1)
    compare = sigmoid_contrastive if options.loss == "siglip" else info_nce

    def embed(at: Tensor) -> Tensor:
        views = [embed_view(model, data, rows[at], v[at]) for v in (first, second)]
        return torch.cat(views, dim=-1)

    def loss_of(z: Tensor) -> Tensor:
        a, b = z.chunk(2, dim=-1)
        return compare(scale(a @ b.transpose(-1, -2)), positive, valid).sum()

    numbers = torch.arange(len(rows), device=rows.device)
    return cached_step(embed, numbers.split(options.batch_size), loss_of)


@torch.no_grad()
def _cause(model: EmbeddingFusion, data: ContrastSet, rows: Tensor) -> str:
    """Return which samples and modalities have no finite embeddings."""

    def overflows(view: Tensor) -> Tensor:
        return ~embed_view(model, data, rows, view).isfinite().all(-1).all(0)

    names = model.graph.schema.modality_names
    ids = None if data.ids is None else data.ids[rows.cpu().numpy()]
    return describe_cause(overflows, data.present[rows], names, ids)


def split_views(present: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Split the modalities of each sample into two views, ``[B, M]`` Bool each."""
    first = modality_dropout(present, 0.5, generator)
    return first, present & ~first


def embed_view(
    model: EmbeddingFusion, data: ContrastSet, rows: Tensor, view: Tensor
) -> Tensor:
    """Return embeddings of a view of samples by every member, ``[E, B, W]``."""
    evidence = data.evidence[rows]
    z = model.space(evidence, view)
    batch = data.batch_of(rows).drop(view)
    return shift(z, model.graph(batch, model.space.by_modality(evidence)).logits)


class _Validation:
    """Held-out loss of the graph networks, and their best parameters."""

    def __init__(
        self, model: EmbeddingFusion, data: ContrastSet, generator: torch.Generator
    ) -> None:
        self.model, self.data = model, data
        rows = torch.nonzero((data.folds == 0) & (data.present.sum(1) > 1))[:, 0]
        order = torch.randperm(len(rows), generator=generator)
        self.rows = rows[order[:MAX_VALIDATION]].sort().values
        present = data.present[self.rows]
        self.views = [_draw_two(present, generator) for _ in range(VALIDATION_VIEWS)]
        self.positive, self.comparable = data.pairs(self.rows)
        self.best, self.waiting = math.inf, 0
        self.best_params = {k: p.detach().clone() for k, p in self._named()}

    def _named(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.model.graph.named_parameters())

    @torch.no_grad()
    def check(self) -> int:
        """Validate, and keep the best parameters.

        Returns:
            Number of successive validations without an improvement.
        """
        if not len(self.rows):
            return 0
        loss = float(self._of_each(1.0).mean())
        self.waiting += 1
        if loss < self.best:
            self.best, self.waiting = loss, 0
            self.best_params = {k: p.detach().clone() for k, p in self._named()}
        return self.waiting

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the best parameters."""
        for name, parameter in self._named():
            parameter.copy_(self.best_params[name])

    @torch.no_grad()
    def losses(self) -> Tensor:
        """Return the loss of each held-out sample with each candidate of ``BETAS``."""
        if not len(self.rows):
            return torch.full((len(BETAS), 0), torch.nan)
        return torch.stack([self._of_each(beta) for beta in BETAS])

    def _of_each(self, beta: float) -> Tensor:
        """Return one minus the mean nDCG of each held-out sample over both directions.

        Ranks do not depend on a temperature; unlike the likelihood, nDCG hardly rewards
        improvements at low ranks.
        """
        total = torch.zeros(len(self.rows), device=self.rows.device)
        for views in self.views:
            a, b = (self._embed(view, beta) for view in views)
            valid = self.comparable & views[0].any(1)[:, None] & views[1].any(1)
            forward = _ndcg_loss(a @ b.T, self.positive, valid)
            backward = _ndcg_loss(b @ a.T, self.positive.T, valid.T)
            total += (forward + backward) / (2 * len(self.views))
        return total

    def _embed(self, view: Tensor, beta: float) -> Tensor:
        evidence = self.data.validation_evidence[self.rows]
        z = self.model.space(evidence, view)
        if not beta:
            return z
        batch = self.data.batch_of(self.rows).drop(view)
        offset = self.model.graph(batch, self.model.space.by_modality(evidence)).logits
        return shift(z, beta * offset.mean(0))


def _draw_two(present: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw two modalities of each sample, one for each view: ``[B, M]`` Bool each."""
    draws = torch.rand(present.shape, generator=generator).to(present.device)
    order = draws.masked_fill(~present, 2.0).argsort(1)
    every = torch.zeros_like(present)
    first, second = (every.scatter(1, order[:, i : i + 1], True) for i in (0, 1))
    return first & present, second & present


def _ndcg_loss(scores: Tensor, positive: Tensor, valid: Tensor) -> Tensor:
    """Return one minus the nDCG of every row; zero for rows without a positive."""
    order = scores.masked_fill(~valid, -torch.inf).argsort(1, descending=True)
    relevant = (positive & valid).gather(1, order).to(scores.dtype)
    rank = torch.arange(2, scores.shape[1] + 2, device=scores.device)
    discount = 1 / rank.to(scores.dtype).log2()
    ideal = relevant.sort(1, descending=True).values @ discount
    gain = relevant @ discount / ideal.clamp(min=discount[-1])
    return torch.where(ideal > 0, 1 - gain, 0)
