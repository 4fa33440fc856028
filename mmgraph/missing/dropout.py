"""Modality dropout for training.

Letters: `B` samples of a batch, `M` modalities.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from mmgraph.missing.base import check_rate


def modality_dropout(
    present: Bool[Tensor, "B M"], rate: float | int, generator: torch.Generator
) -> Bool[Tensor, "B M"]:
    """Hide observed modalities at random, a new choice for every sample.

    Each sample gets a rate of its own from U(0, 2 * rate), so that a model sees
    nearly complete and nearly empty samples alike. One modality, chosen at random,
    stays where all would go; a sample with nothing observed stays so.

    Args:
        present: True where observed.
        rate: Mean rate in [0, 1]; above 0.5 some samples keep just one modality.
        generator: Randomness; its device may differ from that of `present`.

    Returns:
        True where observed and kept.

    Raises:
        ConfigError: If the rate is outside [0, 1].

    Example:
        >>> from mmgraph.missing import modality_dropout
        >>> present = torch.tensor([[True, True], [False, True], [False, False]])
        >>> modality_dropout(present, 1.0, torch.Generator().manual_seed(0)).sum(1)
        tensor([1, 1, 0])
    """
    check_rate("modality_dropout", rate)
    num_samples, num_modalities = present.shape
    draws = torch.rand(
        (num_samples, 2 * num_modalities + 1),
        generator=generator,
        device=generator.device,
    ).to(present.device)
    kept = present & (draws[:, :num_modalities] >= 2 * rate * draws[:, -1:])
    order = draws[:, num_modalities:-1].masked_fill(~present, -1.0)
    first = order == order.max(dim=1, keepdim=True).values
    rescued: Tensor = first & present & ~kept.any(dim=1, keepdim=True)
    kept |= rescued
    return kept
