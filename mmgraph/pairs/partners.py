"""Wrong partners: sides of other samples, at random and among the most similar.

Letters: `N` samples, `F` features.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mmgraph.data import MultimodalData
from mmgraph.pairs.sides import IntArray

CELLS = 1 << 22  # pairs of which wrong partners are drawn at once
HARD = 10  # wrong sides most like the right one, of which a hard one is drawn

BoolTable = NDArray[np.bool_]


def side_vectors(data: MultimodalData, names: tuple[str, ...]) -> NDArray[np.floating]:
    """Return the standardised features of sides, [N, F], of unit length.

    Their inner product says how alike sides are, without any model. An empty side is
    zero.

    Args:
        data: Samples whose modalities are numbers.
        names: The modalities of the side.
    """
    from mmgraph.baselines.inputs import Standardiser

    tables = data.select(names).features().values()
    x = np.concatenate([Standardiser.fit(t).filled(t) for t in tables], axis=1)
    return np.asarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12))


def draw_partners(
    wrong: Callable[[slice], BoolTable],
    vectors: NDArray[np.floating],
    seed: int,
    alike: Callable[[slice], BoolTable] | None = None,
) -> dict[str, IntArray]:
    """Draw wrong partners for each sample.

    Args:
        wrong: For some of the samples, which samples are wrong partners of each,
            Bool [n, N].
        vectors: How alike right sides are, by their inner product, [N, F].
        seed: Of the lot.
        alike: In the same form, which samples have the same label; None: no labels.

    Returns:
        The samples [N] whose right sides are the wrong partners, -1 where there is
        none: "random"; "similar", one of the HARD wrong ones most like the right one;
        and, with labels, "same label".
    """
    rng, count = np.random.default_rng(seed), len(vectors)
    kinds = ["random", "similar"] + ["same label"] * (alike is not None)
    drawn = {kind: np.full(count, -1, dtype=np.int64) for kind in kinds}
    size = max(1, CELLS // max(count, 1))
    for part in (slice(i, i + size) for i in range(0, count, size)):
        allowed = {"random": wrong(part)}
        near = np.where(allowed["random"], vectors[part] @ vectors.T, -2)
        least = np.partition(near, max(count - HARD, 0), axis=1)
        limit = least[:, max(count - HARD, 0)][:, None]
        allowed["similar"] = allowed["random"] & (near >= limit)
        if alike is not None:
            allowed["same label"] = allowed["random"] & alike(part)
        lot = rng.random(near.shape)
        for kind, those in allowed.items():
            chosen = np.where(those, lot, -1).argmax(axis=1)
            drawn[kind][part] = np.where(those.any(axis=1), chosen, -1)
    return drawn
