"""Nodes of one type in all samples of a batch.

Letters: ``B`` samples, ``N`` nodes.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mmgraph.ops import offsets_of, position_in


@dataclass(frozen=True)
class NodeSet:
    """Nodes of one type, ordered by sample.

    The source and target arguments of the function of a :class:`mmgraph.Custom`
    topology are node sets.

    Attributes:
        sample: ``[N]`` ascending index of the sample of each node.
        num_samples: ``B``.
        time: ``[N]`` seconds, ascending within a sample, or None.
        receive_only: ``[N]`` Bool, True for nodes that receive messages and send none,
            such as placeholder nodes; None if every node sends.
        log_reliability: ``[..., N]`` non-positive bias on the attention logits of
            outgoing messages; None stands for 0.
        max_per_sample: Upper bound on the number of nodes per sample, where it is known
            without reading ``sample``. A set of ``B * max_per_sample`` nodes has
            exactly that many in every sample.
    """

    sample: Tensor
    num_samples: int
    time: Tensor | None = None
    receive_only: Tensor | None = None
    log_reliability: Tensor | None = None
    max_per_sample: int | None = None

    def __len__(self) -> int:
        return len(self.sample)

    @property
    def num_nodes(self) -> int:
        """``N``; unlike ``len``, it stays symbolic during export."""
        return self.sample.shape[0]

    @property
    def sends_to(self) -> Tensor:
        """``[N]`` sample that each node sends to; ``B``, none, if receive-only."""
        if self.receive_only is None:
            return self.sample
        return torch.where(self.receive_only, self.num_samples, self.sample)

    @property
    def is_even(self) -> bool:
        """Whether every sample has exactly ``width`` nodes."""
        return bool(self.num_nodes == self.num_samples * self.width)

    @cached_property
    def offsets(self) -> Tensor:
        """``[B + 1]`` first row of every sample, followed by ``N``."""
        return offsets_of(self.sample, self.num_samples)

    @property
    def position(self) -> Tensor:
        """``[N]`` index of each node within its sample."""
        if self.width <= 1:
            return torch.zeros_like(self.sample)
        if self.is_even:
            rows = torch.arange(self.num_nodes, device=self.sample.device)
            return rows - self.sample * self.width
        return position_in(self.sample, self.num_samples)

    @property
    def width(self) -> int:
        """Slots per sample: ``max_per_sample``, or else the largest number of nodes."""
        return self._max_count if self.max_per_sample is None else self.max_per_sample

    @cached_property
    def _max_count(self) -> int:
        return int(torch.bincount(self.sample).amax()) if len(self) else 0
