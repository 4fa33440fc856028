"""Validation of the members on held-out samples, and the weight of the graph.

Letters: ``B`` samples, ``M`` modalities, ``K`` outputs, ``E`` members.
"""

from typing import Any

import torch
from torch import Tensor

from mmgraph.distributed import SINGLE_PROCESS, ProcessGroup
from mmgraph.missing import modality_dropout
from mmgraph.model import FusionModel
from mmgraph.nn.evidence_pool import Pool
from mmgraph.train.batches import TrainingBatch
from mmgraph.train.divergence import DivergenceError, describe_cause
from mmgraph.train.progress_dir import restored

BETAS = tuple(0.25 * i for i in range(6))


def shrunk_beta(losses: Tensor, groups: Tensor, weight: Tensor | None = None) -> float:
    """Choose the weight of the graph, and shrink it by the uncertainty of its gain.

    The best candidate of ``BETAS`` is multiplied by ``max(0, 1 - s^2 / g^2)``, where
    ``g`` is its mean gain over the pool and ``s`` the standard error of that gain over
    groups of samples: a gain of one standard error gives 0, a gain of three 8/9 of the
    weight.

    References:
        Estimation with Quadratic Loss, James, Stein, 1961 (positive-part shrinkage).

    Args:
        losses: ``[candidates, n]`` held-out loss of each sample with each of
            ``BETAS``, NaN where a sample was not held out.
        groups: ``[n]`` group numbers; ungrouped samples have a number each.
        weight: ``[n]`` sample weights; None weights all samples equally.

    Returns:
        The weight; 0 without held-out samples or with a single group.
    """
    seen = ~losses[0].isnan()
    if not bool(seen.any()):
        return 0.0
    losses, groups = losses[:, seen], groups[seen]
    weight = None if weight is None else weight[seen]
    means = _mean(losses, weight)
    best = int(torch.where(means.isfinite(), means, torch.inf).argmin())
    difference = losses[0] - losses[best]
    _, group = groups.unique(return_inverse=True)
    count = int(group.max()) + 1
    gain = _mean(difference, weight)
    deviation = difference - gain
    total = torch.zeros(count, dtype=losses.dtype, device=losses.device)
    parts = deviation if weight is None else deviation * weight
    total = total.index_add(0, group, parts)
    scale = len(difference) if weight is None else weight.sum()
    variance = total.square().sum() / scale**2
    if best == 0 or count < 2:
        return 0.0
    return BETAS[best] * max(0.0, 1 - float(variance / gain.square()))


def _mean(x: Tensor, weight: Tensor | None) -> Tensor:
    """Return the mean over the last axis, weighted if there are weights."""
    return x.mean(-1) if weight is None else (x * weight).sum(-1) / weight.sum()


class Validation:
    """Held-out losses of members, their best parameters, and the weight beta.

    Args:
        graph: Ensemble of graph networks.
        pool: Fitted pool of the evidence.
        samples: Validation samples; those of member weight 0 are held out.
        generator: Generator of the modality dropout under which members are validated
            in addition to the observed modalities.
        processes: Process group; the main process computes the losses.
    """

    def __init__(
        self,
        graph: FusionModel,
        pool: Pool,
        samples: TrainingBatch,
        generator: torch.Generator,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.graph, self.pool = graph, pool
        self.samples, self.processes = samples, processes
        present, evidence = samples.present, samples.evidence
        self.masks = [present, modality_dropout(present, 0.5, generator)]
        self.input = pool.by_modality(evidence)
        self.offsets = [
            pool(evidence, mask, samples.joint_evidence(mask)) for mask in self.masks
        ]
        self.shares = [pool.interaction_weight(mask) for mask in self.masks]
        self.out = (samples.member_weights == 0).to(evidence.dtype)
        self.losses: list[tuple[float, ...]] = []
        self.best = self.out.new_full((len(self.out),), torch.inf)
        self.best_params = {k: p.detach().clone() for k, p in graph.named_parameters()}
        self.waiting = 0

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the best parameters as tensors, and the losses as JSON."""
        tensors = {
            f"best_params.{name}": value for name, value in self.best_params.items()
        }
        plain = {"losses": self.losses, "waiting": self.waiting}
        return tensors | {"best": self.best}, plain

    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned.

        Raises:
            CheckpointError: If a tensor has another shape or type.
            LookupError, TypeError, ValueError: If the content is damaged.
        """
        self.best.copy_(restored(tensors, "best", self.best))
        for name, value in self.best_params.items():
            value.copy_(restored(tensors, f"best_params.{name}", value))
        self.losses = [tuple(map(float, losses)) for losses in plain["losses"]]
        self.waiting = int(plain["waiting"])

    @torch.no_grad()
    def joint(self) -> list[Tensor]:
        """Return the logits that the graph adds, ``[E, n, K]``, under each mask."""
        return [
            share * self.graph(self.samples.batch.drop(mask), self.input).logits
            for mask, share in zip(self.masks, self.shares, strict=True)
        ]

    @torch.no_grad()
    def losses_of(self, mask: Tensor) -> Tensor:
        """Return the loss ``[E, n]`` of each sample with the modalities of a mask."""
        samples = self.samples
        offset = self.pool(samples.evidence, mask, samples.joint_evidence(mask))
        graph = self.graph(samples.batch.drop(mask), self.input).logits
        logits = offset + self.pool.interaction_weight(mask) * graph
        return torch.stack([self._loss_of_each(member) for member in logits])

    def check(self) -> int:
        """Validate the members, and keep the parameters of those that improved.

        Returns:
            Number of successive validations without a member that improved.

        Raises:
            DivergenceError: If the loss of a member is not finite, after the others
                were kept.
        """
        loss = self.best.clone()
        if self.processes.is_main_process:
            loss = self._loss_of_members()
        loss = self.processes.broadcast(loss)
        self.losses.append(tuple(loss.tolist()))
        better = loss < self.best - 1e-5
        self.best = torch.where(better, loss, self.best)
        self.waiting = 0 if bool(better.any()) else self.waiting + 1
        for name, value in self.graph.named_parameters():
            self.best_params[name][better] = value.detach()[better]
        if not bool(loss.isfinite().all()):
            raise DivergenceError(
                self._cause() if self.processes.is_main_process else ""
            )
        return self.waiting

    @torch.no_grad()
    def restore(self) -> None:
        """Restore the best parameters of every member."""
        for name, value in self.graph.named_parameters():
            value.copy_(self.best_params[name])

    def choose_beta(self) -> tuple[float, tuple[float, ...]]:
        """Return the weight of the graph, and the mean loss of each candidate."""
        chosen = torch.zeros(1 + len(BETAS), dtype=torch.float64)
        if self.processes.is_main_process:
            losses = self.beta_losses()
            samples = self.samples
            beta = shrunk_beta(losses, samples.groups, samples.sample_weight)
            chosen = torch.tensor([beta, *losses.nanmean(1).tolist()]).to(chosen)
        beta, *means = self.processes.broadcast(chosen.to(self.best.device)).tolist()
        return beta, tuple(means)

    def beta_losses(self) -> Tensor:
        """Return the loss of each sample with each candidate, ``[candidates, n]``.

        A sample is predicted by the members from which it was held out; without any,
        its loss is NaN.
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

    @torch.no_grad()
    def _cause(self) -> str:
        """Return which held-out samples and modalities have no finite outputs."""

        def overflows(mask: Tensor) -> Tensor:
            batch = self.samples.batch.drop(mask)
            logits = self.graph(batch, self.input).logits
            return ~logits.square().isfinite().all(-1).all(0)

        names, samples = self.graph.schema.modality_names, self.samples
        known = samples.present, names, samples.ids
        return describe_cause(overflows, *known, batch="the held-out part")

    def _loss_of_members(self) -> Tensor:
        """Return the loss ``[E]`` of each member on its held-out samples."""
        weight, out = self.samples.sample_weight, self.out
        weights = out if weight is None else out * weight
        losses = [
            self.graph.task.loss(offset + joint, self.samples.y, weights)
            for offset, joint in zip(self.offsets, self.joint(), strict=True)
        ]
        return torch.stack(losses).mean(0)

    def _loss_of_each(self, logits: Tensor) -> Tensor:
        """Return the loss ``[n]`` of each sample."""
        task = self.graph.task
        alone = torch.vmap(lambda x, y: task.loss(x[None], y[None]))
        return alone(logits, self.samples.y)
