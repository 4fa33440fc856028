"""Maximum number of optimizer steps of a training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StepSchedule:
    """Rule for the number of steps where the user sets no number of epochs.

    Attributes:
        epochs: Passes over the samples, within the bounds below.
        min_steps: Lower bound, which applies to small data.
        max_steps: Upper bound, which applies to large data.
        at_least_one_epoch: Train for a full pass even beyond ``max_steps``.
    """

    epochs: int
    min_steps: int
    max_steps: int
    at_least_one_epoch: bool = False

    def steps(self, epochs: int | None, num_samples: int, batch_size: int) -> int:
        """Return the maximum number of steps.

        Args:
            epochs: Passes over the samples; None: the rule of this schedule.
            num_samples: Samples of a pass.
            batch_size: Samples of a step.
        """
        per_epoch = max(1, round(num_samples / batch_size))
        if epochs is not None:
            return max(2, epochs * per_epoch)  # a single step would be all warm-up
        steps = min(max(self.epochs * per_epoch, self.min_steps), self.max_steps)
        return max(steps, per_epoch) if self.at_least_one_epoch else steps
