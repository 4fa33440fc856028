"""One optimiser step of all members on a batch.

Letters: ``B`` samples, ``M`` modalities, ``K`` outputs, ``E`` members.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmgraph.distributed import SINGLE_PROCESS, ProcessGroup, distributed_errors
from mmgraph.losses import LossSums, label_weight, ratio
from mmgraph.missing import modality_dropout
from mmgraph.model import FusionModel
from mmgraph.nn.evidence_pool import Pool, interaction_weight
from mmgraph.train.batches import TrainingBatch


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
    patience: int = 8
    completion_weight: float = 0.1


class Objective(nn.Module):
    """The loss of all members on a process's part of a batch.

    Every loss is a function of sums over the whole batch. Its value here counts this
    part for the task and all parts for auxiliary losses; its gradients, summed over
    processes, are those of the whole batch. What processes exchange, they exchange
    inside ``forward``: afterwards DDP sends gradients when they are ready.

    Args:
        graph: The members.
        pool: What adds up the evidence.
        auxiliary_weight: Weight of auxiliary losses.
        workers: Who train together.
    """

    def __init__(
        self,
        graph: FusionModel,
        pool: Pool,
        auxiliary_weight: float,
        workers: ProcessGroup,
    ) -> None:
        super().__init__()
        self.graph, self.pool, self.workers = graph, pool, workers
        self.auxiliary_weight = auxiliary_weight
        # what one process lacks may be in another's part, so DDP must look for unused
        # parameters; it warns where the first step has none, hence this one
        self.unused = nn.Parameter(torch.empty(0))

    def forward(self, part: TrainingBatch, kept: Tensor) -> Tensor:
        """Return the loss where of the modalities present only ``kept [B, M]`` stay."""
        if self.graph.ghosts:
            batch = part.batch.hold_out(part.present & ~kept)
        else:
            batch = part.batch.drop(kept)
        output = self.graph(batch, self.pool.by_modality(part.evidence))
        offset = self.pool(part.evidence, kept, part.joint_evidence(kept))
        logits = offset + interaction_weight(kept) * output.logits
        own = label_weight(part.y, part.bags)
        weight, in_bag, extras = self._over_all(
            own, part.bags.sum(1), output.auxiliary_sums
        )
        # every member's sum over its bag, on the scale of a mean over a full batch
        share = ratio(own, weight) * (in_bag / (part.total or len(part)))
        loss = (self.graph.task.loss(logits, part.y, part.bags) * share).sum()
        for extra in extras:
            loss = loss + self.auxiliary_weight * extra.sum()
        return loss

    def _over_all(
        self, weight: Tensor, in_bag: Tensor, own: dict[str, LossSums]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return two sums ``[E]`` and the auxiliary losses over all processes."""
        if self.workers.size == 1:
            return weight, in_bag, [each.loss for each in own.values()]
        lengths = self.graph.auxiliary_lengths
        none = weight.new_zeros(len(weight), 1)
        columns = [weight[:, None], in_bag[:, None]] + [
            own[name].sums if name in own else none.expand(-1, length)
            for name, length in lengths.items()
        ]
        mine = torch.cat(columns, 1)
        # the value is everyone's, the gradient this process's
        sums = self.workers.sum(mine) + mine - mine.detach()
        parts = sums.split([1, 1, *lengths.values()], 1)
        extras = [
            own[name].of_sums(part)
            for name, part in zip(lengths, parts[2:], strict=True)
            if name in own
        ]
        return parts[0][:, 0], parts[1][:, 0], extras


def _sum(
    state: None,
    bucket: torch.distributed.GradBucket,  # type: ignore[name-defined]
) -> torch.futures.Future[Tensor]:
    """Add gradients up over processes; DDP alone would average them."""
    work = torch.distributed.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


class TrainStep:
    """Takes steps: optimiser, schedule, and the loss of what the pool leaves over.

    Processes that train together take one step on all their parts of a batch, as one
    process would that has it all.

    Args:
        graph: The members.
        pool: What adds up the evidence.
        options: How they are trained.
        generator: Of modality dropout; in the same state on every process.
        workers: Who train together.
    """

    def __init__(
        self,
        graph: FusionModel,
        pool: Pool,
        options: TrainOptions,
        generator: torch.Generator,
        workers: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.graph, self.options, self.generator = graph, options, generator
        self.optimiser = torch.optim.AdamW(
            graph.parameters(),
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
            fused=True,
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimiser, options.learning_rate, total_steps=options.max_steps
        )
        objective = Objective(graph, pool, options.completion_weight, workers)
        self.loss: nn.Module = objective
        if workers.size > 1:
            parallel = DistributedDataParallel(objective, find_unused_parameters=True)
            parallel.register_comm_hook(None, _sum)
            self.loss = parallel

    def __call__(self, part: TrainingBatch) -> None:
        """Take one step on some samples, with some of their modalities hidden."""
        self.optimiser.zero_grad()
        with distributed_errors(), warnings.catch_warnings():
            # a gradient of one column may have other strides: DDP copies it
            warnings.filterwarnings("ignore", message="Grad strides do not match")
            self.loss(part, self._keep(part)).backward()
        self.optimiser.step()
        self.schedule.step()

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return parameters, moments and schedule, as tensors and as JSON."""
        tensors = {f"graph.{k}": p.detach() for k, p in self.graph.named_parameters()}
        saved = self.optimiser.state_dict()
        for number, moments in saved["state"].items():
            tensors |= {f"optimiser.{number}.{k}": x for k, x in moments.items()}
        schedule = self.schedule.state_dict()
        return tensors, {"groups": saved["param_groups"], "schedule": schedule}

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """Go on where another one was."""
        for name, parameter in self.graph.named_parameters():
            parameter.copy_(tensors[f"graph.{name}"])
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            kind, number, *key = name.split(".")
            if kind == "optimiser":
                moments.setdefault(int(number), {})[key[0]] = value
        state = {"state": moments, "param_groups": plain["groups"]}
        self.optimiser.load_state_dict(state)
        self.schedule.load_state_dict(plain["schedule"])

    def _keep(self, part: TrainingBatch) -> Tensor:
        """Return ``[B, M]`` what stays, as drawn for the batch of all processes."""
        total, last = part.total or len(part), part.first + len(part)
        present = part.present.new_zeros(total, part.present.shape[1])
        present[part.first : last] = part.present
        kept = modality_dropout(present, self.options.missing_rate, self.generator)
        return kept[part.first : last]
