"""Modality dropout for training.

Letters: `B` samples of a batch, `M` modalities.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mmgraph.missing.base import check_rate


def modality_dropout(
    present: Bool[Tensor, "B M"],
    rate: float | int | Float[Tensor, " M"],
    generator: torch.Generator,
) -> Bool[Tensor, "B M"]:
    """Return a random mask that drops observed modalities, per sample.

    The rate of each sample is drawn from U(0, 2 * rate), so that training covers
    nearly complete and nearly empty samples. If all modalities of a sample would be
    dropped, one of them, chosen at random, is kept.

    Args:
        present: True where the modality is observed.
        rate: Mean dropout rate in [0, 1], of all modalities or of each one; above 0.5
            some samples keep only one modality.
        generator: Random number generator; its device may differ from `present`.

    Returns:
        True where the modality is observed and kept.

    Raises:
        ConfigError: If a rate is outside [0, 1].

    Example:
        >>> from mmgraph.missing import modality_dropout
        >>> present = torch.tensor([[True, True], [False, True], [False, False]])
        >>> modality_dropout(present, 1.0, torch.Generator().manual_seed(0)).sum(1)
        tensor([1, 1, 0])
    """
    for each in rate.tolist() if isinstance(rate, Tensor) else [rate]:
        check_rate("modality_dropout", each)
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
