"""Exact nearest neighbors by blocked matrix products, in bounded memory.

Letters: `Q` queries, `N` entries, `D` width, `k` results.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

QUERIES, ENTRIES = 256, 16384  # a block of similarities takes 16 MB


def nearest(
    z: Float[Tensor, "Q D"], x: Float[Tensor, "N D"], k: int
) -> tuple[Float[Tensor, "Q k"], Int[Tensor, "Q k"]]:
    """Return the k largest inner products of each query, and the rows of the entries.

    At most one block of similarities is in memory at a time.

    Args:
        z: Queries.
        x: Entries.
        k: Number of results.

    Returns:
        Inner products and rows, best first; -inf and -1 for results beyond N.
    """
    parts = [_nearest_of_block(part, x, k) for part in z.split(QUERIES)]
    scores, rows = zip(*parts, strict=True) if parts else ((), ())
    empty = z.new_empty((0, k))
    return torch.cat([empty, *scores]), torch.cat([empty.long(), *rows])


def _nearest_of_block(z: Tensor, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    scores = z.new_full((len(z), k), -torch.inf)
    rows = torch.full(scores.shape, -1, dtype=torch.int64, device=z.device)
    for start in range(0, len(x), ENTRIES):
        block = z @ x[start : start + ENTRIES].T
        best, place = block.topk(min(k, block.shape[1]), dim=1)
        scores, order = torch.cat([scores, best], dim=1).topk(k, dim=1)
        rows = torch.cat([rows, place + start], dim=1).gather(1, order)
    return scores, rows
