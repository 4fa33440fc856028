"""Nearest neighbors by faiss: flat, graph (HNSW) and inverted lists (IVF).

Letters: `Q` queries, `N` entries, `D` width, `k` places.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.errors import CheckpointError, ConfigError

NUM_LINKS = 32  # of an HNSW node, twice as many on the lowest level
BUILD_EFFORT = 100  # candidates while an HNSW graph is built
EFFORT = {"flat": 0, "hnsw": 128, "ivf": 32}  # candidates, or lists that are read
EXACT_SHARE = 0.1  # a filter that passes fewer entries is searched exactly

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Allowed = NDArray[np.bool_]


def import_faiss() -> Any:  # noqa: ANN401
    """Return faiss.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise ConfigError(
            "This kind of index needs faiss, which is not installed. Install "
            "mmgraph[search], or use kind='exact'."
        ) from None
    return faiss


class FaissEngine:
    """Rows of unit length in a faiss structure.

    Rows that are removed stay in the structure as tombstones that no search returns;
    once they are the larger part, or for new training of the lists, it is built anew.

    Args:
        kind: "flat", "hnsw" or "ivf".
        vectors: [N, D] rows of unit length.
        content: What :meth:`to_bytes` gave for these rows, instead of building.

    References:
        Efficient and robust approximate nearest neighbor search using hierarchical
        navigable small world graphs. Malkov and Yashunin, 2016. arXiv:1603.09320.
        The Faiss library. Douze et al., 2024. arXiv:2401.08281.

    Raises:
        CheckpointError: If the content is not a structure of this many rows.
    """

    def __init__(
        self, kind: str, vectors: Floats, content: bytes | None = None
    ) -> None:
        self.kind = kind
        self._faiss = import_faiss()
        self._row_of = np.arange(len(vectors))
        if content is None:
            self._build(vectors)
        else:
            self._engine = self._from_bytes(content, vectors.shape)

    def _build(self, vectors: Floats) -> None:
        self._row_of = np.arange(len(vectors))
        self._engine = self._empty(*vectors.shape)
        if not self._engine.is_trained:
            self._engine.train(vectors)
        self._engine.add(vectors)

    def _empty(self, num_rows: int, channels: int) -> Any:  # noqa: ANN401
        faiss, product = self._faiss, self._faiss.METRIC_INNER_PRODUCT
        if self.kind == "hnsw":
            engine = faiss.IndexHNSWFlat(channels, NUM_LINKS, product)
            engine.hnsw.efConstruction = BUILD_EFFORT
            return engine
        if self.kind == "ivf" and num_rows:
            lists = max(1, round(num_rows**0.5))
            coarse = faiss.IndexFlatIP(channels)
            engine = faiss.IndexIVFFlat(coarse, channels, lists, product)
            engine.cp.min_points_per_centroid = 1  # else it warns below 39
            return engine
        return faiss.IndexFlatIP(channels)

    def _from_bytes(self, content: bytes, shape: tuple[int, ...]) -> Any:  # noqa: ANN401
        try:
            raw = np.frombuffer(content, dtype=np.uint8)
            engine = self._faiss.deserialize_index(raw)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise CheckpointError(
                f"The faiss part of an index is damaged: {reason}."
            ) from None
        expected = type(self._empty(*shape))
        if (engine.ntotal, engine.d) != shape or type(engine) is not expected:
            raise CheckpointError(
                f"The faiss part of an index must hold {shape[0]} vectors of width "
                f"{shape[1]} as {self.kind}, got {engine.ntotal} of width {engine.d} "
                f"as {type(engine).__name__}."
            )
        return engine

    def to_bytes(self, vectors: Floats) -> bytes:
        """Return the structure as bytes, without tombstones.

        Args:
            vectors: The rows that it holds, [N, D].
        """
        if len(self._row_of) > len(vectors):
            self._build(vectors)
        return bytes(self._faiss.serialize_index(self._engine).tobytes())

    def add(self, vectors: Floats, new: int) -> None:
        """Take in rows.

        Args:
            vectors: All rows, [N, D].
            new: How many of them, the last ones, are new.
        """
        before = len(vectors) - new
        trained_on = getattr(self._engine, "nlist", 0) ** 2
        if self.kind == "ivf" and len(vectors) > 4 * trained_on:
            self._build(vectors)  # lists of another size fit so many rows
            return
        self._engine.add(vectors[before:])
        self._row_of = np.append(self._row_of, np.arange(before, len(vectors)))

    def remove(self, gone: Allowed, vectors: Floats) -> None:
        """Forget rows.

        Args:
            gone: Which of the rows so far, [N_before].
            vectors: The rows that stay, [N, D].
        """
        if 2 * len(vectors) < len(self._row_of):
            self._build(vectors)
            return
        moved = np.where(gone, -1, np.cumsum(~gone) - 1)
        alive = self._row_of >= 0
        self._row_of[alive] = moved[self._row_of[alive]]

    def search(
        self, z: Floats, k: int, allowed: Allowed | None, effort: int | None
    ) -> tuple[Floats, Rows]:
        """Return the k most similar rows of each query.

        Args:
            z: Queries of unit length, [Q, D].
            k: Number of places.
            allowed: Rows that may be returned, [N]; None allows all.
            effort: Candidates (HNSW) or lists read (IVF); None is the default.

        Returns:
            Similarities and rows, each [Q, k]; -inf and -1 where fewer were found.
        """
        alive = self._row_of >= 0
        if allowed is not None:
            alive[alive] = allowed[self._row_of[alive]]
        effort = max(EFFORT[self.kind] if effort is None else effort, 1)
        params = self._parameters(k, effort, alive)
        scores, places = self._engine.search(z, k, params=params)
        found = places >= 0
        rows = np.where(found, self._row_of[places], -1)
        return np.where(found, scores, -np.inf).astype(np.float32), rows

    def _parameters(self, k: int, effort: int, alive: Allowed) -> Any:  # noqa: ANN401
        """Return search options; the fewer rows pass, the more candidates."""
        faiss, share, selected = self._faiss, float(alive.mean()), {}
        if share < 1:  # options keep what they are built with; an attribute would not
            bits = np.packbits(alive, bitorder="little")
            selected = {"sel": faiss.IDSelectorBitmap(bits)}
        if isinstance(self._engine, faiss.IndexHNSW):
            wanted = int(max(effort, k) / max(share, EXACT_SHARE))
            return faiss.SearchParametersHNSW(efSearch=wanted, **selected)
        if isinstance(self._engine, faiss.IndexIVF):
            wanted = min(int(effort / max(share, EXACT_SHARE)), self._engine.nlist)
            return faiss.SearchParametersIVF(nprobe=wanted, **selected)
        return faiss.SearchParameters(**selected)
