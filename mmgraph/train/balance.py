"""Modality imbalance: what a network predicts from each modality alone, and corrections.

A network that is trained on all modalities together can neglect those that others
dominate. The score of a modality is the mean of ``exp(-loss)`` on held-out samples when
it alone is shown: for classes, the mean probability of the true class.

References:
    Balanced Multimodal Learning via On-the-fly Gradient Modulation, Peng, Wei, Deng,
    Wang, Hu, 2022 (ratio, gradients). What Makes Training Multi-modal Classification
    Networks Hard?, Wang, Tran, Feiszli, 2020 (blend).

Letters: ``B`` samples, ``M`` modalities, ``E`` members.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from mmgraph.errors import CheckpointError
from mmgraph.missing import modality_dropout
from mmgraph.model import FusionModel
from mmgraph.train.validation import Validation

Balance: TypeAlias = Literal["dropout", "gradients", "blend"]

PARTS_OF_CHECK = "shown", "ratio", "correction"
SMALLEST_OVERFIT = 0.05  # nats; a smaller increase is not distinguished from noise


@dataclass(frozen=True)
class BalanceCheck:
    """Scores of single modalities at one validation.

    Attributes:
        step: Number of completed optimizer steps.
        shown: ``[M]`` score of the network when one modality is shown, on held-out
            samples that have it: the mean of ``exp(-loss)``, which is the mean
            probability of the true class; NaN where no held-out sample has it.
        ratio: ``[M]`` score relative to the mean of the other modalities.
        correction: ``[M]`` dropout rates ("dropout"), factors of the updates of the
            encoders ("gradients") or shares of the samples that show only this modality
            ("blend"); empty without correction.
    """

    step: int
    shown: tuple[float, ...]
    ratio: tuple[float, ...]
    correction: tuple[float, ...] = ()


def relative_scores(shown: Tensor) -> Tensor:
    """Return each score over the mean of the others, ``[M]``.

    Exactly 1 for equal scores, for a single modality, and where a score is NaN.
    """
    seen = ~shown.isnan()
    others = seen & ~torch.eye(len(shown), dtype=torch.bool, device=shown.device)
    difference = torch.where(others, shown[:, None] - shown, 0).sum(1)
    excess = difference / others.sum(1).clamp(min=1)  # over the mean of the others
    ratio = 1 + excess / (shown - excess).clamp(min=torch.finfo(shown.dtype).tiny)
    return torch.where(seen & others.any(1), ratio, 1.0)


def dropout_rates(ratio: Tensor, rate: float, strength: float) -> Tensor:
    """Return rates ``[M]`` of mean ``rate``, higher for modalities that dominate."""
    relative = ratio.clamp(min=0) ** strength
    return (rate * (relative / relative.mean())).clamp(max=1.0)


def update_factors(ratio: Tensor, strength: float) -> Tensor:
    """Return factors ``[M]`` below 1 for the encoders of modalities that dominate."""
    return 1 - (strength * (ratio - 1).clamp(min=0)).tanh()


def blend_shares(first: Tensor, last: Tensor, strength: float) -> Tensor:
    """Return the shares ``[M]`` of the samples that show one modality only.

    The weight of an objective (all modalities, or one of them) is the decrease of its
    held-out loss over the squared increase of its overfitting, the difference between
    held-out and training loss.

    Args:
        first: ``[2, 1 + M]`` held-out and training losses of all modalities and of each
            one, before the training.
        last: ``[2, 1 + M]`` the same now.
        strength: Factor of the shares; 0 for none.
    """
    gain = (first[0] - last[0]).clamp(min=0)
    overfit = ((last[0] - last[1]) - (first[0] - first[1])).clamp(min=SMALLEST_OVERFIT)
    weight = torch.where(gain.isnan(), 0, gain / overfit.square())
    return strength * weight[1:] / weight.sum().clamp(min=torch.finfo(gain.dtype).tiny)


class Correction:
    """Correction of the modality imbalance in optimizer steps.

    Args:
        kind: Kind of the correction, or None.
        rate: Mean rate of modality dropout.
        strength: Power of the ratios in the dropout rates, or factor in the others; 0
            trains without correction.
    """

    def __init__(
        self, kind: Balance | None = None, rate: float = 0.0, strength: float = 1.0
    ) -> None:
        self.kind, self.rate, self.strength = kind, rate, strength
        self.values: Tensor | None = None  # [M], as in BalanceCheck

    def update(self, ratio: Tensor, first: Tensor | None, last: Tensor) -> None:
        """Choose the correction of the next steps.

        Args:
            ratio: ``[M]`` relative scores.
            first: Losses before the training, as in :func:`blend_shares`.
            last: Losses now.
        """
        if self.kind == "dropout":
            self.values = dropout_rates(ratio, self.rate, self.strength)
        elif self.kind == "gradients":
            self.values = update_factors(ratio, self.strength)
        elif self.kind == "blend" and first is not None:
            self.values = blend_shares(first, last, self.strength)

    def keep(self, present: Tensor, generator: torch.Generator) -> Tensor:
        """Return the kept modalities ``[B, M]`` of a step."""
        if self.values is None or self.kind == "gradients":
            return modality_dropout(present, self.rate, generator)
        values = self.values.float()
        if self.kind == "dropout":
            return modality_dropout(present, values.to(present.device), generator)
        kept = modality_dropout(present, self.rate, generator)
        if not bool(values.any()):
            return kept
        # the share of each modality, then that of all of them
        draws = torch.rand(len(present), generator=generator, device=generator.device)
        chosen = torch.searchsorted(values.cumsum(0).to(draws.device), draws)
        names = torch.arange(len(values), device=chosen.device)
        only = (chosen[:, None] == names).to(present.device) & present
        return torch.where(only.any(1, keepdim=True), only, kept)

    @contextmanager
    def scaled_updates(self, graph: FusionModel) -> Iterator[None]:
        """Scale the updates of the encoders within the context.

        For gradient descent this is to scale gradients; AdamW normalizes gradients, so
        that a factor of them would have no effect.
        """
        before: list[tuple[Tensor, Tensor, float]] = []
        if self.kind == "gradients" and self.values is not None:
            factors = self.values.tolist()
            for name, factor in zip(graph.schema.modality_names, factors, strict=True):
                if factor < 1:
                    parameters = graph.encoders[name].parameters()
                    before += [(p, p.detach().clone(), factor) for p in parameters]
        yield
        with torch.no_grad():
            for parameter, old, factor in before:
                parameter.copy_(torch.lerp(old, parameter, factor))


class BalanceMonitor:
    """Record of what the networks predict from single modalities.

    Args:
        validation: Validation of the members.
        correction: Correction that follows the record.
    """

    def __init__(self, validation: Validation, correction: Correction) -> None:
        self.validation, self.correction = validation, correction
        self.checks: list[BalanceCheck] = []
        self.first: Tensor | None = None

    def start(self) -> None:
        """Measure the losses before the training, where the correction needs them."""
        if self.correction.kind == "blend":
            self.first = self._measure()[:2]

    def check(self, step: int) -> None:
        """Record the scores after a step, and choose the correction that follows."""
        measured = self._measure()
        shown = measured[2, 1:]
        ratio = relative_scores(shown)
        self.correction.update(ratio, self.first, measured[:2])
        values = self.correction.values
        correction = () if values is None else tuple(values.tolist())
        record = BalanceCheck(
            step, tuple(shown.tolist()), tuple(ratio.tolist()), correction
        )
        self.checks.append(record)

    def state(self) -> dict[str, Any]:
        """Return the record as JSON."""
        checks = [
            {"step": check.step}
            | {key: _plain(getattr(check, key)) for key in PARTS_OF_CHECK}
            for check in self.checks
        ]
        first = None if self.first is None else [_plain(x) for x in self.first.tolist()]
        return {"checks": checks, "first": first}

    def load_state(self, plain: dict[str, Any]) -> None:
        """Restore what :meth:`state` returned.

        Raises:
            CheckpointError: If a number of modalities differs.
            LookupError, TypeError, ValueError: If the content is damaged.
        """
        count = self.validation.samples.present.shape[1]
        self.checks = [
            BalanceCheck(
                int(each["step"]),
                _numbers(each["shown"], count),
                _numbers(each["ratio"], count),
                _numbers(each["correction"], count) if each["correction"] else (),
            )
            for each in plain["checks"]
        ]
        if plain["first"] is not None:
            rows = [_numbers(row, 1 + count) for row in plain["first"]]
            self.first = torch.tensor(rows, dtype=torch.float64)
        if self.checks and self.checks[-1].correction:
            last = self.checks[-1].correction
            self.correction.values = torch.tensor(last, dtype=torch.float64)

    @torch.no_grad()
    def _measure(self) -> Tensor:
        """Return held-out losses, training losses and held-out scores, ``[3, 1 + M]``.

        Of all modalities, then of each one on the samples that have it.
        """
        validation, processes = self.validation, self.validation.processes
        present = validation.samples.present
        result = torch.zeros(3, 1 + present.shape[1], dtype=torch.float64)
        if processes.is_main_process:
            single = torch.eye(present.shape[1], dtype=torch.bool)
            masks = [present, *(present & row for row in single.to(present.device))]
            result = torch.stack([self._measure_subset(mask) for mask in masks], 1)
        result = processes.broadcast(result.to(validation.best.device)).cpu()
        return result

    def _measure_subset(self, mask: Tensor) -> Tensor:
        """Return held-out loss, training loss and score ``[3]`` of a subset."""
        validation = self.validation
        losses = validation.losses_of(mask).double()
        weight, seen = validation.samples.sample_weight, mask.any(1)
        weights = validation.samples.member_weights.new_ones(losses.shape) * seen
        weights = weights.double() if weight is None else weights.double() * weight
        held_out = weights * validation.out
        trained = weights * (1 - validation.out)
        return torch.stack(
            [
                (losses * held_out).sum() / held_out.sum(),
                (losses * trained).sum() / trained.sum(),
                ((-losses).exp() * held_out).sum() / held_out.sum(),
            ]
        )


def _plain(values: Sequence[float]) -> list[float | None]:
    """Return numbers for JSON, which has no NaN."""
    return [None if math.isnan(value) else value for value in values]


def _numbers(values: Sequence[Any], count: int) -> tuple[float, ...]:
    if len(values) != count:
        raise CheckpointError(f"balance must have {count} numbers, got {len(values)}")
    return tuple(math.nan if value is None else float(value) for value in values)
