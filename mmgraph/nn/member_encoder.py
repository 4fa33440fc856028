"""Custom encoders with one copy for each ensemble member.

Letters: ``E`` members, ``N`` nodes, ``L`` rows, ``C`` channels, ``D`` width.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from mmgraph.errors import ConfigError
from mmgraph.nn.encoders import Encoded
from mmgraph.nn.members import MemberModules

__all__ = ["MemberEncoder"]


class MemberEncoder(nn.Module):
    """Custom encoder of a modality with one copy for each ensemble member.

    Args:
        build: Function without arguments that returns a new encoder.
        members: ``E``.
        channels: ``D``.
    """

    def __init__(
        self, build: Callable[[], nn.Module], members: int, channels: int
    ) -> None:
        super().__init__()
        self.copies, self.members = MemberModules(build, members), members
        self.channels = channels

    def fit(self, x: Tensor, sample: Tensor, num_samples: int) -> None:
        """Fit the copies on rows ``[L, C]`` of training samples, if they have a fit."""
        if hasattr(self.copies.template, "fit"):
            self.copies.update(
                lambda each: cast("Any", each).fit(x, sample, num_samples)
            )

    def forward(
        self, x: Tensor, sample: Tensor, time: Tensor | None, num_samples: int
    ) -> Encoded:
        """Return nodes with states ``[E, N, D]``.

        Args:
            x: ``[L, C]`` rows.
            sample: ``[L]`` ascending sample indices.
            time: ``[L]`` seconds, or None.
            num_samples: Number of samples.

        Raises:
            ConfigError: If the encoder returns something else or another width.
        """
        rows = x, sample, time, num_samples
        encoded = [self.copies(member, *rows) for member in range(self.members)]
        first = encoded[0]
        if not isinstance(first, Encoded):
            raise ConfigError(
                f"An encoder must return Encoded, got {type(first).__name__} from "
                f"{self.copies.name}. Return mmgraph.nn.Encoded(h, sample, time)."
            )
        if first.h.ndim != 2 or first.h.shape[1] != self.channels:
            raise ConfigError(
                f"An encoder must return states of shape [N, {self.channels}], got "
                f"{list(first.h.shape)} from {self.copies.name}. Its width is "
                "hidden_channels."
            )
        return first._replace(h=torch.stack([each.h for each in encoded]))
