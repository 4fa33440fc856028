"""How many optimiser steps a graph is trained for."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StepSchedule:
    """Steps of a training: what ``epochs`` says, or an estimator's own rule.

    Attributes:
        epochs: Passes over the samples, where the user names none.
        min_steps: Fewest steps of these, for small sets.
        max_steps: Most steps of these, for large sets.
        at_least_one_epoch: Never less than one pass, however large the set.
    """

    epochs: int
    min_steps: int
    max_steps: int
    at_least_one_epoch: bool = False

    def steps(self, epochs: int | None, num_samples: int, batch_size: int) -> int:
        """Return the most steps of a training.

        Args:
            epochs: What the user asks for; None: the rule.
            num_samples: Samples of a pass.
            batch_size: Samples of a step.
        """
        per_epoch = max(1, round(num_samples / batch_size))
        if epochs is not None:
            return max(2, epochs * per_epoch)  # one is all warm-up
        steps = min(max(self.epochs * per_epoch, self.min_steps), self.max_steps)
        return max(steps, per_epoch) if self.at_least_one_epoch else steps
