"""What a ghost node has heard, turned into the content that is missing.

Letters: ``N`` ghosts, ``D`` width, ``C`` channels, ``B`` samples.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgraph.losses import LossSums, gaussian_nll, masked_squared_error
from mmgraph.nn.linear import Linear

__all__ = ["Completed", "CompletionDecoder"]

MAX_LOG_VARIANCE = 8.0
NUM_SUMS = 4  # that the loss of a completion is made of


@dataclass(frozen=True)
class Completed:
    """The completion of one modality.

    Attributes:
        sample: ``[N]`` samples whose modality is completed.
        h: ``[..., N, D]`` expected node state.
        log_variance: ``[..., N, D]`` its uncertainty.
        x: ``[..., N, C]`` expected standardized features, or None where the modality
            has no features of a fixed width.
    """

    sample: Tensor
    h: Tensor
    log_variance: Tensor
    x: Tensor | None

    @property
    def log_reliability(self) -> Tensor:
        """``[..., N]`` at most 0: ``-softplus(mean log-variance)``."""
        return -F.softplus(self.log_variance.mean(-1))


class CompletionDecoder(nn.Module):
    """Predict the state and the features of a missing modality from its ghost.

    Args:
        hidden_channels: ``D``.
        channels: ``C``, or None to predict the state only.
        members: Ensemble members computed together, or None.
    """

    def __init__(
        self,
        hidden_channels: int,
        channels: int | None,
        *,
        members: int | None = None,
    ) -> None:
        super().__init__()
        self.state = Linear(hidden_channels, hidden_channels, members=members)
        self.log_variance = Linear(
            hidden_channels, hidden_channels, members=members, scale=0.1
        )
        self.features = (
            None
            if channels is None
            else Linear(hidden_channels, channels, members=members)
        )

    def forward(self, ghost: Tensor, sample: Tensor) -> Completed:
        """Decode ghost states ``[..., N, D]`` of the samples ``[N]``."""
        state = self.state(ghost)
        bound = MAX_LOG_VARIANCE
        log_variance = self.log_variance(ghost).clamp(-bound, bound)
        features = None if self.features is None else self.features(ghost)
        return Completed(sample, state, log_variance, features)


def completion_loss(completed: Completed, state: Tensor, x: Tensor | None) -> LossSums:
    """Score a completion against what was held out.

    Args:
        completed: Its rows are those that were held out.
        state: ``[..., N, D]`` the encoder's states; detached.
        x: ``[N, C]`` standardized features, NaN where a cell is missing, or None.

    Returns:
        Gaussian negative log-likelihood of the state plus mean squared error of the
        features; zero where nothing was held out. There are ``NUM_SUMS`` sums.
    """
    likelihood = gaussian_nll(completed.h, completed.log_variance, state)
    if x is None or completed.x is None:
        sums = F.pad(likelihood.sums, (0, NUM_SUMS // 2))
        return LossSums(sums, lambda s: likelihood.of_sums(s[..., :2]))
    error = masked_squared_error(completed.x, x, ~torch.isnan(x))
    return LossSums(
        torch.cat([likelihood.sums, error.sums], -1),
        lambda s: likelihood.of_sums(s[..., :2]) + error.of_sums(s[..., 2:]),
    )
