"""Validating members on what their bags hold out, and the weight of the graph.

Letters: ``B`` samples, ``M`` modalities, ``K`` outputs, ``E`` members.
"""

from typing import Any

import torch
from torch import Tensor

from mmgraph.distributed import SINGLE_PROCESS, ProcessGroup
from mmgraph.missing import modality_dropout
from mmgraph.model import FusionModel
from mmgraph.nn.evidence_pool import Pool, interaction_weight
from mmgraph.train.batches import TrainingBatch

BETAS = tuple(0.25 * i for i in range(6))


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


class Validation:
    """Held-out losses of members, their best parameters, and the weight beta.

    Args:
        graph: The members.
        pool: What adds up the evidence.
        samples: What they are judged on; a bag's weight of 0 is held out.
        generator: Of the mask under which they are judged beside the true one.
        workers: Who train together; the lead judges for all.
    """

    def __init__(
        self,
        graph: FusionModel,
        pool: Pool,
        samples: TrainingBatch,
        generator: torch.Generator,
        workers: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.graph, self.samples, self.workers = graph, samples, workers
        present, evidence = samples.present, samples.evidence
        self.masks = [present, modality_dropout(present, 0.5, generator)]
        self.input = pool.by_modality(evidence)
        self.offsets = [
            pool(evidence, mask, samples.joint_evidence(mask)) for mask in self.masks
        ]
        self.shares = [interaction_weight(mask) for mask in self.masks]
        self.out = (samples.bags == 0).to(evidence.dtype)
        self.losses: list[tuple[float, ...]] = []
        self.best = self.out.new_full((len(self.out),), torch.inf)
        self.kept = {k: p.detach().clone() for k, p in graph.named_parameters()}
        self.waiting = 0

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the best members and what was measured, as tensors and as JSON."""
        tensors = {f"kept.{name}": value for name, value in self.kept.items()}
        plain = {"losses": self.losses, "waiting": self.waiting}
        return tensors | {"best": self.best}, plain

    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Go on where another one was."""
        self.best.copy_(tensors["best"])
        for name, value in self.kept.items():
            value.copy_(tensors[f"kept.{name}"])
        self.losses = [tuple(losses) for losses in plain["losses"]]
        self.waiting = plain["waiting"]

    @torch.no_grad()
    def joint(self) -> list[Tensor]:
        """Return what the graph adds, ``[E, n, K]``, under each mask."""
        return [
            share * self.graph(self.samples.batch.drop(mask), self.input).logits
            for mask, share in zip(self.masks, self.shares, strict=True)
        ]

    def check(self) -> int:
        """Measure; keep better members; return the number of checks without one."""
        loss = self.best.clone()
        if self.workers.is_main_process:
            loss = self._loss_of_members()
        loss = self.workers.broadcast(loss)
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

    def choose_beta(self) -> tuple[float, tuple[float, ...]]:
        """Return the weight of the graph, and the mean loss of each candidate."""
        chosen = torch.zeros(1 + len(BETAS), dtype=torch.float64)
        if self.workers.is_main_process:
            losses = self.beta_losses()
            beta = shrunk_beta(losses, self.samples.groups)
            chosen = torch.tensor([beta, *losses.nanmean(1).tolist()]).to(chosen)
        beta, *means = self.workers.broadcast(chosen.to(self.best.device)).tolist()
        return beta, tuple(means)

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

    def _loss_of_members(self) -> Tensor:
        """Return the loss ``[E]`` of each member on what its bag holds out."""
        losses = [
            self.graph.task.loss(offset + joint, self.samples.y, self.out)
            for offset, joint in zip(self.offsets, self.joint(), strict=True)
        ]
        return torch.stack(losses).mean(0)

    def _loss_of_each(self, logits: Tensor) -> Tensor:
        """Return the loss ``[n]`` of each sample alone."""
        task = self.graph.task
        alone = torch.vmap(lambda x, y: task.loss(x[None], y[None]))
        return alone(logits, self.samples.y)
