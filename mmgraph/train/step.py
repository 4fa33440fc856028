"""Optimizer step of all members on a batch.

Letters: ``B`` samples, ``M`` modalities, ``K`` outputs, ``E`` members.
"""

import json
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mmgraph.distributed import SINGLE_PROCESS, ProcessGroup, distributed_errors
from mmgraph.errors import CheckpointError
from mmgraph.losses import LossSums, label_weight, ratio
from mmgraph.model import FusionModel
from mmgraph.nn.evidence_pool import Pool
from mmgraph.train.balance import Balance, Correction
from mmgraph.train.batches import TrainingBatch
from mmgraph.train.divergence import DivergenceError, describe_cause
from mmgraph.train.progress_dir import restored

MOMENTS = "optimizer"


@dataclass(frozen=True)
class TrainOptions:
    """Training options of the members.

    Attributes:
        max_steps: Maximum number of optimizer steps.
        batch_size: Samples of a step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: Weight decay of AdamW.
        missing_rate: Mean rate of modality dropout; the rate of a sample is drawn
            from U(0, 2 rate).
        checks: Number of validations over the whole schedule.
        patience: Number of successive validations without a better loss of any member
            after which training stops.
        completion_weight: Weight of auxiliary losses.
        monitor: Record what the networks predict from single modalities: at the end, or
            at every validation if ``balance`` needs it.
        balance: Correction of the modality imbalance: "dropout" drops modalities that
            dominate more often, "gradients" scales the updates of their encoders, and
            "blend" shows some samples with one modality only; None for none.
        balance_strength: Power of the ratios of "dropout", factor of the others.
    """

    max_steps: int = 1000
    batch_size: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 0.05
    missing_rate: float = 0.35
    checks: int = 25
    patience: int = 8
    completion_weight: float = 0.1
    monitor: bool = False
    balance: Balance | None = None
    balance_strength: float = 1.0


class Objective(nn.Module):
    """Loss of all members on this process's part of a batch.

    Every loss is a function of sums over the whole batch. Its value here covers this
    part for the task and all parts for auxiliary losses; its gradients, summed over
    processes, are those of the whole batch. Processes exchange sums inside ``forward``
    only: afterwards DDP sends gradients as soon as they are ready.

    Args:
        graph: Ensemble of graph networks.
        pool: Fitted pool of the evidence.
        auxiliary_weight: Weight of auxiliary losses.
        processes: Process group.
    """

    def __init__(
        self,
        graph: FusionModel,
        pool: Pool,
        auxiliary_weight: float,
        processes: ProcessGroup,
    ) -> None:
        super().__init__()
        self.graph, self.pool, self.processes = graph, pool, processes
        self.auxiliary_weight = auxiliary_weight
        # modalities that this part lacks may be in another process's part, so DDP must
        # search for unused parameters; it warns if the first step has none, hence this
        self.unused = nn.Parameter(torch.empty(0))

    def forward(self, part: TrainingBatch, kept: Tensor) -> Tensor:
        """Return the loss with the modalities ``kept [B, M]`` of those present."""
        if self.graph.ghosts:
            batch = part.batch.hold_out(part.present & ~kept)
        else:
            batch = part.batch.drop(kept)
        output = self.graph(batch, self.pool.by_modality(part.evidence))
        offset = self.pool(part.evidence, kept, part.joint_evidence(kept))
        logits = offset + self.pool.interaction_weight(kept) * output.logits
        weights = part.member_weights
        own = label_weight(part.y, weights)
        weight, in_batch, extras = self._over_all(
            own, weights.sum(1), output.auxiliary_sums
        )
        # each member's weighted sum, on the scale of a mean over a full batch
        share = ratio(own, weight) * (in_batch / (part.total or len(part)))
        loss = (self.graph.task.loss(logits, part.y, weights) * share).sum()
        for extra in extras:
            loss = loss + self.auxiliary_weight * extra.sum()
        return loss

    def overflows(self, part: TrainingBatch, kept: Tensor) -> Tensor:
        """Return the samples ``[B]`` whose squared logits are not finite."""
        batch = part.batch.drop(kept)
        output = self.graph(batch, self.pool.by_modality(part.evidence))
        offset = self.pool(part.evidence, kept, part.joint_evidence(kept))
        logits = offset + self.pool.interaction_weight(kept) * output.logits
        return ~logits.square().isfinite().all(-1).all(0)

    def _over_all(
        self, weight: Tensor, in_batch: Tensor, own: dict[str, LossSums]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Return two sums ``[E]`` and the auxiliary losses over all processes."""
        if self.processes.size == 1:
            return weight, in_batch, [each.loss for each in own.values()]
        lengths = self.graph.auxiliary_lengths
        none = weight.new_zeros(len(weight), 1)
        columns = [weight[:, None], in_batch[:, None]] + [
            own[name].sums if name in own else none.expand(-1, length)
            for name, length in lengths.items()
        ]
        mine = torch.cat(columns, 1)
        # the value of all processes, with the gradient of this one
        sums = self.processes.sum(mine) + mine - mine.detach()
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
    """Sum gradients over processes; by default DDP averages them."""
    work = torch.distributed.all_reduce(bucket.buffer(), async_op=True)
    return work.get_future().then(lambda done: done.value()[0])


class TrainStep:
    """Optimizer steps on the residual of the pool, with a one-cycle schedule.

    The processes of a group take one step together, equal to the step of a single
    process on the whole batch.

    Args:
        graph: Ensemble of graph networks.
        pool: Fitted pool of the evidence.
        options: Training options.
        generator: Generator of modality dropout, in the same state in every process.
        processes: Process group.
    """

    def __init__(
        self,
        graph: FusionModel,
        pool: Pool,
        options: TrainOptions,
        generator: torch.Generator,
        processes: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.graph, self.options, self.generator = graph, options, generator
        self.correction = Correction(
            options.balance, options.missing_rate, options.balance_strength
        )
        self.optimizer = torch.optim.AdamW(
            graph.parameters(),
            lr=options.learning_rate,
            weight_decay=options.weight_decay,
            fused=True,
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, options.learning_rate, total_steps=options.max_steps
        )
        self.processes = processes
        self.objective = Objective(graph, pool, options.completion_weight, processes)
        self.loss: nn.Module = self.objective
        if processes.size > 1:
            parallel = DistributedDataParallel(
                self.objective, find_unused_parameters=True
            )
            parallel.register_comm_hook(None, _sum)
            self.loss = parallel

    def __call__(self, part: TrainingBatch) -> None:
        """Take one step on samples, under modality dropout.

        Raises:
            DivergenceError: If the loss is not finite; nothing is changed.
        """
        self.optimizer.zero_grad()
        kept = self._keep(part)
        with distributed_errors(), warnings.catch_warnings():
            # DDP copies gradients of one column that have other strides
            warnings.filterwarnings("ignore", message="Grad strides do not match")
            loss = self.loss(part, kept)
            self._require_finite(loss, part, kept)
            loss.backward()
        with self.correction.scaled_updates(self.graph):
            self.optimizer.step()
        self.schedule.step()

    @torch.no_grad()
    def _require_finite(self, loss: Tensor, part: TrainingBatch, kept: Tensor) -> None:
        """Check the loss in all processes, which stop together.

        Raises:
            DivergenceError: If it is not finite.
        """
        failed = self.processes.sum((~loss.detach().isfinite()).float())
        if not bool(failed):
            return
        names = self.graph.schema.modality_names
        cause = (
            ""
            if bool(loss.isfinite())
            else describe_cause(
                lambda mask: self.objective.overflows(part, mask), kept, names, part.ids
            )
        )
        raise DivergenceError("; ".join(filter(None, self.processes.gather(cause))))

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return parameters and moments as tensors, and the schedule as JSON."""
        tensors = {f"graph.{k}": p.detach() for k, p in self.graph.named_parameters()}
        saved = self.optimizer.state_dict()
        for number, moments in saved["state"].items():
            tensors |= {f"{MOMENTS}.{number}.{k}": x for k, x in moments.items()}
        schedule = self.schedule.state_dict()
        return tensors, {"groups": saved["param_groups"], "schedule": schedule}

    @property
    def max_steps(self) -> int:
        """Maximum number of optimizer steps."""
        return self.options.max_steps

    @torch.no_grad()
    def load_state(
        self, tensors: dict[str, Tensor], plain: dict[str, Any], step: int
    ) -> None:
        """Restore what :meth:`state` returned.

        Args:
            tensors: Parameters and moments. Their shapes and types are compared first:
                the fused kernel of the optimizer reads and writes without checks.
            plain: Options of the optimizer, and the schedule.
            step: Number of completed steps.

        Raises:
            CheckpointError: If the content is of another training or damaged.
            LookupError, TypeError, ValueError: If the content is damaged.
        """
        parameters = dict(self.graph.named_parameters())
        moments: dict[int, dict[str, Tensor]] = {}
        for number, parameter in enumerate(parameters.values()):
            prefix = f"{MOMENTS}.{number}."
            names = {name for name in tensors if name.startswith(prefix)}
            if names:  # a parameter without gradients has no moments
                moments[number] = _read_moments(tensors, prefix, parameter)
        known = {f"graph.{name}" for name in parameters}
        known |= {f"{MOMENTS}.{n}.{key}" for n, each in moments.items() for key in each}
        if tensors.keys() - known:
            raise CheckpointError(f"unknown tensor {min(tensors.keys() - known)!r}")
        self._check_schedule(plain, step)
        saved = {
            name: restored(tensors, f"graph.{name}", p)
            for name, p in parameters.items()
        }
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])
        state = {"state": moments, "param_groups": plain["groups"]}
        self.optimizer.load_state_dict(state)
        self.schedule.load_state_dict(plain["schedule"])

    def _check_schedule(self, plain: dict[str, Any], step: int) -> None:
        """Compare saved options and schedule with those of this training.

        Only the learning rate, the betas and the number of steps may differ.
        """
        current = json.loads(json.dumps(self.state()[1]))
        group, own = dict(plain["groups"][0]), current["groups"][0]
        schedule, expected = dict(plain["schedule"]), current["schedule"]
        rates, betas = [group["lr"]], group["betas"]
        valid = all(0 < x < 1 for x in betas) and 0 < rates[0] <= own["max_lr"]
        group |= {"lr": own["lr"], "betas": own["betas"]}
        steps = {"last_epoch": step, "_step_count": step + 1, "_last_lr": rates}
        if not (
            valid
            and _same_json([group], current["groups"])
            and len(plain["groups"]) == 1
            and len(betas) == 2
            and _same_json(schedule, expected | steps)
        ):
            raise CheckpointError("options of another optimizer or schedule")

    def _keep(self, part: TrainingBatch) -> Tensor:
        """Return kept modalities ``[B, M]``, drawn for the batch of all processes."""
        total, last = part.total or len(part), part.first + len(part)
        present = part.present.new_zeros(total, part.present.shape[1])
        present[part.first : last] = part.present
        kept = self.correction.keep(present, self.generator)
        return kept[part.first : last]


def _same_json(a: object, b: object) -> bool:
    """Return True if values are equal and of equal types: 0 differs from false."""
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


def _read_moments(
    tensors: dict[str, Tensor], prefix: str, parameter: Tensor
) -> dict[str, Tensor]:
    """Return the moments of a parameter, of its shape and type, and its step."""
    count = torch.zeros((), dtype=torch.float32)
    likes = {"step": count, "exp_avg": parameter, "exp_avg_sq": parameter}
    moments = {key: restored(tensors, prefix + key, x) for key, x in likes.items()}
    if bool((moments["exp_avg_sq"] < 0).any()) or not moments["step"] >= 1:
        raise CheckpointError(f"moments {prefix!r} must not be negative")
    return moments
