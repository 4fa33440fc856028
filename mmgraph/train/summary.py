"""Numbers of a training that a model card shows: no value of a sample.

Letters: ``N`` samples, ``M`` modalities.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mmgraph.errors import CheckpointError
from mmgraph.files import shorten
from mmgraph.metrics.shortcut import presence_interval
from mmgraph.nn.evidence_pool import EvidencePool
from mmgraph.nn.heads import Classification, Task
from mmgraph.train.batches import TrainingSet

Score: TypeAlias = Callable[[Tensor, Tensor, Tensor | None], float]

MAX_PATTERNS = 1000  # distinct patterns of present modalities that are kept
MAX_ROWS = 2000  # samples that the scores of single modalities are measured on


@dataclass(frozen=True)
class TrainingSummary:
    """Numbers of a training: counts, shares and out-of-fold scores.

    Scores are those of the pooled base learners, as ``out_of_fold_score_``, on at most
    2000 samples.

    Attributes:
        num_samples: ``N``, of a stream those of its sample in memory.
        observed: ``[M]`` shares of the samples that have each modality.
        alone: ``[M]`` scores of each modality alone, on the samples that have it; NaN
            where none has it.
        nothing: Score with nothing observed.
        presence: AUROC of the presence mask alone with the bounds of its 95% interval;
            None for regression and for several labels.
        fingerprint: SHA-256 of the samples without labels; None if it is not known.
        patterns: Distinct patterns of present modalities; empty if they are more than
            1000 or not known.
        num_groups: Groups whose samples stay in the same fold; 0 if folds have no
            groups, None if it is not known.
    """

    num_samples: int
    observed: tuple[float, ...]
    alone: tuple[float, ...]
    nothing: float
    presence: tuple[float, float, float] | None
    fingerprint: str | None = None
    patterns: tuple[tuple[bool, ...], ...] = ()
    num_groups: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the numbers as JSON; NaN is null."""
        return {
            "num_samples": self.num_samples,
            "observed": list(self.observed),
            "alone": [None if math.isnan(x) else x for x in self.alone],
            "nothing": None if math.isnan(self.nothing) else self.nothing,
            "presence": self.presence and list(self.presence),
            "fingerprint": self.fingerprint,
            "patterns": [[int(x) for x in each] for each in self.patterns],
            "num_groups": self.num_groups,
        }

    @classmethod
    def from_json(
        cls, content: Mapping[str, Any], num_modalities: int
    ) -> "TrainingSummary":
        """Read the content of :meth:`to_json`.

        Args:
            content: JSON content.
            num_modalities: ``M``.

        Raises:
            CheckpointError: If it is not that of a model with ``M`` modalities.
        """
        observed, alone = _numbers(content["observed"]), _numbers(content["alone"])
        presence = content["presence"]
        bounds = None if presence is None else _numbers(presence)
        patterns = tuple(tuple(map(bool, p)) for p in content.get("patterns", ()))
        fits = len(observed) == len(alone) == num_modalities
        fits &= all(len(pattern) == num_modalities for pattern in patterns)
        if not fits or (bounds is not None and len(bounds) != 3):
            raise CheckpointError(
                f"training_summary must hold numbers of {num_modalities} modalities, "
                f"got {shorten(content)}."
            )
        nothing = _numbers([content["nothing"]])[0]
        three = None if bounds is None else (bounds[0], bounds[1], bounds[2])
        number, fingerprint = int(content["num_samples"]), content.get("fingerprint")
        groups = content.get("num_groups")
        num_groups = None if groups is None else int(groups)
        scores = observed, alone, nothing, three
        return cls(number, *scores, fingerprint, patterns, num_groups)


@torch.no_grad()
def summarize_training(
    known: TrainingSet,
    pool: EvidencePool,
    task: Task,
    score: Score,
    fingerprint: str | None = None,
    num_groups: int | None = None,
) -> TrainingSummary:
    """Summarize the training samples by their out-of-fold evidence.

    Args:
        known: Training samples.
        pool: Pool of the evidence.
        task: Prediction task.
        score: Function of predictions, targets and sample weights.
        fingerprint: SHA-256 of the samples without labels.
        num_groups: Groups whose samples stay in the same fold; 0 without groups.
    """
    step = max(1, -(-len(known) // MAX_ROWS))
    rows = torch.arange(0, len(known), step, device=known.y.device)
    present = known.present

    def score_of(subset: Tensor, rows: Tensor) -> float:
        if not len(rows) or (bool(subset.any()) and not pool.num_learners):
            return math.nan
        kept = present[rows] & subset
        joint = known.joint_evidence(kept, rows)
        predicted = task.activate(pool(known.evidence[rows], kept, joint))
        weight = None if known.sample_weight is None else known.sample_weight[rows]
        return score(predicted, known.y[rows], weight)

    subsets = torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
    presence = None
    if isinstance(task, Classification):
        seen, labels = present[rows].cpu().numpy(), known.y[rows].cpu().numpy()
        area = presence_interval(seen, labels, known.groups[rows].cpu().numpy())
        presence = (area.mean, area.low, area.high)
    return TrainingSummary(
        len(known),
        tuple(present.float().mean(0).tolist()),
        tuple(score_of(each, rows[present[rows, m]]) for m, each in enumerate(subsets)),
        score_of(torch.zeros_like(subsets[0]), rows),
        presence,
        fingerprint,
        _patterns(present),
        num_groups,
    )


def _patterns(present: Tensor) -> tuple[tuple[bool, ...], ...]:
    """Return the distinct rows of ``[N, M]``, none if they are too many."""
    distinct = torch.unique(present.cpu(), dim=0)
    return tuple(map(tuple, distinct.tolist())) if len(distinct) <= MAX_PATTERNS else ()


def _numbers(values: Any) -> tuple[float, ...]:  # noqa: ANN401
    return tuple(math.nan if value is None else float(value) for value in values)
