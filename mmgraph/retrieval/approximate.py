"""Nearest neighbors by faiss: flat, graph (HNSW) and inverted lists (IVF).

Letters: `Q` queries, `N` entries, `D` width, `k` results.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.errors import CheckpointError, ConfigError
from mmgraph.files import shorten

NUM_LINKS = 32  # M of HNSW: links per node, twice as many on the lowest level
EF_CONSTRUCTION = 100  # candidates during the construction of an HNSW graph
DEFAULT_EFFORT = {"flat": 0, "hnsw": 128, "ivf": 32}  # efSearch, nprobe
EXACT_SHARE = 0.1  # a filter that passes a smaller share is searched exactly

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


def import_faiss() -> Any:  # noqa: ANN401
    """Return the module faiss.

    Raises:
        ConfigError: If faiss is not installed.
    """
    try:
        import faiss
    except ImportError:
        raise ConfigError(
            "This kind of index requires faiss, which is not installed. Install "
            "mmgraph[search], or use kind='exact'."
        ) from None
    return faiss


class FaissEngine:
    """Unit vectors in a faiss index.

    Removed rows remain in the faiss index as tombstones, which no search returns. The
    index is rebuilt when most rows are tombstones, or when the number of rows requires
    another number of inverted lists.

    Args:
        kind: "flat", "hnsw" or "ivf".
        vectors: Unit vectors, [N, D].
        content: Serialized index of these rows, from :meth:`to_bytes`; None builds it.

    References:
        Efficient and robust approximate nearest neighbor search using hierarchical
        navigable small world graphs. Malkov and Yashunin, 2016. arXiv:1603.09320.
        The Faiss library. Douze et al., 2024. arXiv:2401.08281.

    Raises:
        ConfigError: If faiss is not installed.
        CheckpointError: If the content is not an index of this kind and shape.
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
            self._engine = self._from_bytes(content, vectors)

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
            engine.hnsw.efConstruction = EF_CONSTRUCTION
            return engine
        if self.kind == "ivf" and num_rows:
            lists = max(1, round(num_rows**0.5))
            coarse = faiss.IndexFlatIP(channels)
            engine = faiss.IndexIVFFlat(coarse, channels, lists, product)
            engine.cp.min_points_per_centroid = 1  # avoids a warning below 39
            return engine
        return faiss.IndexFlatIP(channels)

    def _from_bytes(self, content: bytes, vectors: Floats) -> Any:  # noqa: ANN401
        shape = vectors.shape
        try:
            raw = np.frombuffer(content, dtype=np.uint8)
            engine = self._faiss.deserialize_index(raw)
        except (AssertionError, MemoryError, RuntimeError, TypeError) as error:
            raise CheckpointError(
                f"The faiss part of an index is damaged: {shorten(error)}."
            ) from None
        expected = type(self._empty(*shape))
        if (engine.ntotal, engine.d) != shape or type(engine) is not expected:
            raise CheckpointError(
                f"The faiss part of an index must hold {shape[0]} vectors of width "
                f"{shape[1]} as {self.kind}, got {engine.ntotal} of width {engine.d} "
                f"as {type(engine).__name__}."
            )
        if not self._holds(engine, vectors):
            raise CheckpointError(
                "The faiss part of an index must hold the vectors of the index, got "
                "others. Create the index again."
            )
        return engine

    def _holds(self, engine: Any, vectors: Floats) -> bool:  # noqa: ANN401
        """Return True if an engine holds each vector once, under its row."""
        if not isinstance(engine, self._faiss.IndexIVF):
            stored = engine.reconstruct_n(0, len(vectors))
            return engine.ntotal == len(vectors) and np.array_equal(stored, vectors)
        lists, pointer = engine.invlists, self._faiss.rev_swig_ptr
        if not 1 <= lists.nlist == engine.nlist <= max(1, len(vectors)):
            return False
        ids: list[Rows] = [np.empty(0, dtype=np.int64)]
        for number in range(lists.nlist):
            size = lists.list_size(number)
            if size > len(vectors):
                return False
            if size:
                ids.append(pointer(lists.get_ids(number), size).copy())
                codes = pointer(lists.get_codes(number), size * lists.code_size)
                if ids[-1].min() < 0 or ids[-1].max() >= len(vectors):
                    return False
                if codes.tobytes() != vectors[ids[-1]].tobytes():
                    return False
        rows = np.sort(np.concatenate(ids))
        return np.array_equal(rows, np.arange(len(vectors)))

    def to_bytes(self, vectors: Floats) -> bytes:
        """Return the serialized index, without tombstones.

        Args:
            vectors: Rows of the index, [N, D].
        """
        if len(self._row_of) > len(vectors):
            self._build(vectors)
        return bytes(self._faiss.serialize_index(self._engine).tobytes())

    def add(self, vectors: Floats, new: int) -> None:
        """Add rows.

        Args:
            vectors: All rows, with the new ones at the end, [N, D].
            new: Number of new rows.
        """
        before = len(vectors) - new
        trained_on = getattr(self._engine, "nlist", 0) ** 2
        if self.kind == "ivf" and len(vectors) > 4 * trained_on:
            self._build(vectors)  # with more inverted lists
            return
        self._engine.add(vectors[before:])
        self._row_of = np.append(self._row_of, np.arange(before, len(vectors)))

    def remove(self, gone: Mask, vectors: Floats) -> None:
        """Remove rows.

        Args:
            gone: True for the rows to remove, [N_before].
            vectors: Remaining rows, [N, D].
        """
        if 2 * len(vectors) < len(self._row_of):
            self._build(vectors)
            return
        moved = np.where(gone, -1, np.cumsum(~gone) - 1)
        alive = self._row_of >= 0
        self._row_of[alive] = moved[self._row_of[alive]]

    def search(
        self, z: Floats, k: int, allowed: Mask | None, effort: int | None
    ) -> tuple[Floats, Rows]:
        """Return the k most similar rows of each query.

        Args:
            z: Queries of unit length, [Q, D].
            k: Number of results.
            allowed: True for rows that may be returned, [N]; None allows all.
            effort: efSearch (HNSW) or nprobe (IVF); None for the default.

        Returns:
            Similarities and rows, each [Q, k]; -inf and -1 where fewer were found.
        """
        alive = self._row_of >= 0
        if allowed is not None:
            alive[alive] = allowed[self._row_of[alive]]
        effort = max(DEFAULT_EFFORT[self.kind] if effort is None else effort, 1)
        params = self._parameters(k, effort, alive)
        scores, labels = self._engine.search(z, k, params=params)
        valid = labels >= 0
        rows = np.where(valid, self._row_of[labels], -1)
        return np.where(valid, scores, -np.inf).astype(np.float32), rows

    def _parameters(self, k: int, effort: int, alive: Mask) -> Any:  # noqa: ANN401
        """Return search parameters; the effort increases with the filtered share."""
        faiss, share, selected = self._faiss, float(alive.mean()), {}
        if share < 1:
            # a keyword argument keeps the selector alive; an attribute does not
            bits = np.packbits(alive, bitorder="little")
            selected = {"sel": faiss.IDSelectorBitmap(bits)}
        if isinstance(self._engine, faiss.IndexHNSW):
            wanted = int(max(effort, k) / max(share, EXACT_SHARE))
            return faiss.SearchParametersHNSW(efSearch=wanted, **selected)
        if isinstance(self._engine, faiss.IndexIVF):
            wanted = min(int(effort / max(share, EXACT_SHARE)), self._engine.nlist)
            return faiss.SearchParametersIVF(nprobe=wanted, **selected)
        return faiss.SearchParameters(**selected)
