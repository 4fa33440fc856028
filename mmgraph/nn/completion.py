"""Completion of missing modalities from the states of their placeholder nodes.

Letters: ``N`` placeholder nodes, ``D`` width, ``C`` channels, ``B`` samples.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgraph.losses import LossSums, gaussian_nll, masked_squared_error
from mmgraph.nn.linear import Linear

__all__ = ["Completed", "CompletionDecoder"]

MAX_LOG_VARIANCE = 8.0
NUM_SUMS = 4  # length of the sums of a completion loss


@dataclass(frozen=True)
class Completed:
    """Predicted content of one modality in the samples that lack it.

    Attributes:
        sample: ``[N]`` indices of the completed samples.
        h: ``[..., N, D]`` predicted mean of the node state.
        log_variance: ``[..., N, D]`` predicted log-variance of the node state.
        x: ``[..., N, C]`` predicted standardized features; None where the modality has
            no features of a fixed width.
    """

    sample: Tensor
    h: Tensor
    log_variance: Tensor
    x: Tensor | None

    @property
    def log_reliability(self) -> Tensor:
        """Non-positive logit bias ``[..., N]``: ``-softplus(mean log-variance)``."""
        return -F.softplus(self.log_variance.mean(-1))


class CompletionDecoder(nn.Module):
    """Predict the state and the features of a missing modality.

    The decoder reads the state of the modality's placeholder node, which has received
    messages from the observed modalities, and predicts a Gaussian over the state that
    the encoder would have produced.

    Args:
        hidden_channels: ``D``.
        channels: ``C``; None predicts the state only.
        members: Ensemble members computed together, or None for a single model.

    Example:
        >>> decoder = nn.CompletionDecoder(hidden_channels=16, channels=3)
        >>> completed = decoder(torch.randn(2, 16), sample=torch.tensor([0, 4]))
        >>> completed.h.shape, completed.x.shape
        (torch.Size([2, 16]), torch.Size([2, 3]))
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

    def forward(self, placeholder: Tensor, sample: Tensor) -> Completed:
        """Decode the states of placeholder nodes.

        Args:
            placeholder: ``[..., N, D]`` states.
            sample: ``[N]`` sample of each node.

        Returns:
            The predicted states and features, one row per node.
        """
        state = self.state(placeholder)
        bound = MAX_LOG_VARIANCE
        log_variance = self.log_variance(placeholder).clamp(-bound, bound)
        features = None if self.features is None else self.features(placeholder)
        return Completed(sample, state, log_variance, features)


def completion_loss(completed: Completed, state: Tensor, x: Tensor | None) -> LossSums:
    """Return the loss of completions of held-out modalities.

    Args:
        completed: Completions, one row for each held-out sample.
        state: ``[..., N, D]`` states of the encoder for the held-out rows; detached.
        x: ``[N, C]`` standardized features, NaN in missing cells; or None.

    Returns:
        Gaussian negative log-likelihood of the state plus mean squared error of the
        features, as ``NUM_SUMS`` sums; zero if nothing was held out.
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
