"""The nodes of one type.

Letters: ``B`` samples, ``N`` nodes.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mmgraph.ops import offsets_of, position_in


@dataclass(frozen=True)
class NodeSet:
    """The nodes of one type.

    Attributes:
        sample: ``[N]`` ascending sample number of each node.
        num_samples: ``B``.
        time: ``[N]`` seconds, ascending within a sample, or None.
        silent: ``[N]`` Bool, True for ghosts, which receive but do not send; or None.
        log_reliability: ``[..., N]`` at most 0, added to the logits of what is sent;
            None stands for 0.
        most: No sample has more nodes than that, where it is known beforehand. A
            set of ``B * most`` nodes has them all, and takes no look at its content.
    """

    sample: Tensor
    num_samples: int
    time: Tensor | None = None
    silent: Tensor | None = None
    log_reliability: Tensor | None = None
    most: int | None = None

    def __len__(self) -> int:
        return len(self.sample)

    @property
    def num_nodes(self) -> int:
        """``N``; stays symbolic while a model is exported, unlike ``len``."""
        return self.sample.shape[0]

    @property
    def heard_in(self) -> Tensor:
        """``[N]`` sample in which a node is heard: ``B``, which is none, if silent."""
        if self.silent is None:
            return self.sample
        return torch.where(self.silent, self.num_samples, self.sample)

    @property
    def is_even(self) -> bool:
        """Every sample has exactly ``width`` nodes."""
        return bool(self.num_nodes == self.num_samples * self.width)

    @cached_property
    def offsets(self) -> Tensor:
        """``[B + 1]`` first row of every sample, and the end."""
        return offsets_of(self.sample, self.num_samples)

    @property
    def position(self) -> Tensor:
        """``[N]`` place of each node within its sample."""
        if self.width <= 1:
            return torch.zeros_like(self.sample)
        if self.is_even:
            rows = torch.arange(self.num_nodes, device=self.sample.device)
            return rows - self.sample * self.width
        return position_in(self.sample, self.num_samples)

    @property
    def width(self) -> int:
        """Slots that a sample needs: ``most``, or the largest number of nodes."""
        return self._counted if self.most is None else self.most

    @cached_property
    def _counted(self) -> int:
        return int(torch.bincount(self.sample).amax()) if len(self) else 0
