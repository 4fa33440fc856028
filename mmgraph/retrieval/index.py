"""Index of embeddings: search, update, and storage.

Letters: `Q` queries, `N` entries, `D` width, `M` modalities, `k` results.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmgraph import checkpoint
from mmgraph._trace import describe_failure, trace
from mmgraph.data.targets import check_unique
from mmgraph.errors import CheckpointError, ConfigError, DataError
from mmgraph.files import shorten
from mmgraph.retrieval.approximate import EXACT_SHARE, FaissEngine
from mmgraph.retrieval.entries import as_unit_vectors, check_ids, is_missing
from mmgraph.retrieval.exact import nearest
from mmgraph.typing import ArrayLike, PathLike

KINDS = ("exact", "flat", "hnsw", "ivf")


@dataclass(frozen=True, eq=False)
class Hits:
    """Results of a search, best first.

    If fewer than k entries can be returned, the remaining results are empty: their
    score is -inf, their row -1, and their id -1 for integers or "" for strings.

    Attributes:
        ids: Ids of the entries, [Q, k].
        scores: Cosine similarities, float32 [Q, k].
        rows: Rows of the entries in the index, int64 [Q, k].
    """

    ids: NDArray[Any]
    scores: NDArray[np.float32]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def found(self) -> NDArray[np.bool_]:
        """True for results with an entry, False for empty ones, [Q, k]."""
        return self.rows >= 0


class Index:
    """Gallery of embeddings for search by cosine similarity.

    ``kind="exact"`` compares a query with every entry, by PyTorch. The other kinds use
    faiss (``mmgraph[search]``): ``"flat"`` is exact as well; ``"hnsw"`` (graph) and
    ``"ivf"`` (inverted lists) are approximate and faster. An HNSW graph that several
    threads build may differ from run to run; set ``OMP_NUM_THREADS=1`` to reproduce it.

    An entry whose vector is all NaN, because it lacks all embedded modalities, is left
    out of the index.

    Args:
        ids: N unique integers or strings.
        vectors: Embeddings [N, D], not zero; they are scaled to unit length.
        present: Modalities of each entry, booleans [N, M], for the filter ``require``
            of :meth:`search`. They may include modalities that were not embedded.
        modalities: Names of the M modalities.
        kind: "exact", "flat", "hnsw" or "ivf".
        device: Device of the "exact" search, such as "cpu" or "cuda".

    Attributes:
        ids: Ids of the entries, [N].
        vectors: Unit vectors, float32 tensor [N, D].
        present: Modalities of the entries, [N, M]; M is 0 if ``present`` was not given.
        modalities: Names of the modalities.
        kind: Kind of index.

    Raises:
        ConfigError: If the kind is unknown or faiss is not installed.
        DataError: If ids repeat, shapes differ, or a vector is zero or partly NaN.

    References:
        Efficient and robust approximate nearest neighbor search using hierarchical
        navigable small world graphs. Malkov and Yashunin, 2016. arXiv:1603.09320.
        The Faiss library. Douze et al., 2024. arXiv:2401.08281.

    Example:
        >>> import numpy as np
        >>> nan = float("nan")
        >>> vectors = [[1.0, 0.0], [0.6, 0.8], [nan, nan]]
        >>> index = Index(["cat", "dog", "owl"], vectors)
        >>> hits = index.search([0.0, 2.0], k=3)
        >>> hits.ids.tolist()
        [['dog', 'cat', '']]
        >>> hits.scores.tolist()[0][0] > 0.79, len(index)
        (True, 2)
    """

    def __init__(
        self,
        ids: ArrayLike,
        vectors: ArrayLike,
        *,
        present: ArrayLike | None = None,
        modalities: Sequence[str] = (),
        kind: str = "exact",
        device: str = "cpu",
    ) -> None:
        if kind not in KINDS:
            raise ConfigError(
                f"kind must be one of {', '.join(KINDS)}, got {kind!r}.",
                parameter="kind",
            )
        self.kind, self.device = kind, device
        self.modalities = tuple(modalities)
        self.ids, self._x, self.present = self._entries(ids, vectors, present)
        self._engine = None if kind == "exact" else FaissEngine(kind, self._x)
        self._tensor: torch.Tensor | None = None

    def _entries(
        self,
        ids: ArrayLike,
        vectors: ArrayLike,
        present: ArrayLike | None,
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_]]:
        """Return ids, unit vectors and modalities of the entries that have a vector."""
        x = as_unit_vectors("vectors", vectors)
        ids = check_ids(ids, len(x))
        table = self._table(present, len(x))
        has = ~is_missing(x)
        return ids[has], x[has], table[has]

    def _table(self, present: ArrayLike | None, num_entries: int) -> NDArray[np.bool_]:
        shape = (num_entries, len(self.modalities))
        table = np.ones((num_entries, 0)) if present is None else np.asarray(present)
        if table.shape != shape or (present is not None and table.dtype != bool):
            raise DataError(
                f"present must be booleans of shape {list(shape)}, one column for each "
                f"of the modalities {', '.join(self.modalities) or '(none)'}, got "
                f"{table.dtype} of shape {list(table.shape)}."
            )
        return table.astype(bool)

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        width = self._x.shape[1]
        return f"Index: {len(self)} entries of width {width}, {self.kind}"

    @property
    def vectors(self) -> torch.Tensor:
        """Unit vectors of the entries, float32 [N, D], on the device of the index."""
        if self._tensor is None:
            self._tensor = torch.from_numpy(self._x).to(self.device)
        return self._tensor

    def search(
        self,
        z: ArrayLike,
        k: int = 10,
        *,
        require: Sequence[str] = (),
        effort: int | None = None,
    ) -> Hits:
        """Return the k most similar entries of each query.

        If the filter ``require`` passes less than 10% of the entries, they are searched
        exactly, whatever the kind of index.

        Args:
            z: Queries [Q, D], or a single query [D]; an array, or a tensor on any
                device. A query that is all NaN, because its sample lacks all embedded
                modalities, has no results.
            k: Number of results per query.
            require: Modalities that an entry must have to be returned.
            effort: Search effort of approximate kinds, in place of their default:
                efSearch of "hnsw" (128), nprobe of "ivf" (32). Higher values increase
                recall and time.

        Returns:
            Ids, similarities and rows, each [Q, k].

        Raises:
            ConfigError: If k or effort is not an integer of at least 1.
            DataError: If widths differ, a query is zero or partly NaN, or the index has
                no such modality.
        """
        given = [k] if effort is None else [k, effort]
        if not all(isinstance(number, Integral) and number >= 1 for number in given):
            raise ConfigError(
                "k and effort must be integers of at least 1, got "
                f"k={k}, effort={effort}."
            )
        queries = as_unit_vectors("queries", z, width=self._x.shape[1])
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        present = ~is_missing(queries)
        allowed = self._allowed(require)
        if present.any() and len(self):
            scores[present], rows[present] = self._nearest(
                queries[present], k, allowed, effort
            )
        return Hits(self._ids_at(rows), scores, rows)

    def _allowed(self, require: Sequence[str]) -> NDArray[np.bool_] | None:
        names = [require] if isinstance(require, str) else list(require)
        unknown = [name for name in names if name not in self.modalities]
        if unknown:
            raise DataError(
                f"require must name modalities of the index, "
                f"{', '.join(self.modalities) or '(none)'}, got "
                f"{unknown[0]!r}.",
                parameter="require",
            )
        if not names:
            return None
        columns = [self.modalities.index(name) for name in names]
        return np.asarray(self.present[:, columns].all(axis=1))

    def _nearest(
        self,
        z: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.bool_] | None,
        effort: int | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        few = allowed is not None and allowed.mean() < EXACT_SHARE
        if self._engine is not None and not few:
            return self._engine.search(z, k, allowed, effort)
        x = self.vectors
        passed = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
        if allowed is not None:
            x = x[torch.from_numpy(passed).to(x.device)]
        scores, places = nearest(torch.from_numpy(z).to(x.device), x, k)
        rows = np.append(passed, -1)[places.cpu().numpy()]
        return scores.cpu().numpy(), rows

    def _ids_at(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        missing = np.zeros(1, self.ids.dtype) if self.ids.dtype.kind == "U" else [-1]
        return np.append(self.ids, missing).astype(self.ids.dtype)[rows]

    def add(
        self,
        ids: ArrayLike,
        vectors: ArrayLike,
        *,
        present: ArrayLike | None = None,
    ) -> "Index":
        """Add entries; those whose vector is all NaN are left out.

        Args:
            ids: n new integers or strings.
            vectors: Embeddings [n, D].
            present: Modalities of the entries, booleans [n, M]; required if the index
                has modalities.

        Returns:
            This index.

        Raises:
            DataError: If an id is in the index already, or types or shapes differ from
                those of the index.
        """
        x = as_unit_vectors("vectors", vectors, width=self._x.shape[1] or None)
        ids, x, table = self._entries(ids, x, present)
        if len(self) and len(ids) and ids.dtype.kind != self.ids.dtype.kind:
            raise DataError(
                f"ids must be of one type, got {ids.dtype} for an index of "
                f"{self.ids.dtype}.",
                parameter="ids",
            )
        repeated = np.isin(ids, self.ids)
        if repeated.any():
            raise DataError(
                "ids must be new to the index, got existing id "
                f"{ids[repeated][0].item()!r}. Remove it first.",
                parameter="ids",
            )
        self.ids = np.concatenate([self.ids, ids]) if len(self) else ids
        self.present = np.concatenate([self.present, table])
        self._x, self._tensor = np.concatenate([self._x, x]), None
        if self._engine is not None and len(ids):
            self._engine.add(self._x, len(ids))
        return self

    def remove(self, ids: ArrayLike | int | str) -> "Index":
        """Remove entries by id.

        Args:
            ids: Ids of the index, one or several.

        Returns:
            This index.

        Raises:
            DataError: If an id is not in the index.
        """
        ids = np.atleast_1d(np.asarray(ids))
        unknown = ids[~np.isin(ids, self.ids)]
        if len(unknown):
            raise DataError(
                "ids to remove must be in the index, got unknown id "
                f"{unknown[0].item()!r}. Entries without a vector are not in the index."
            )
        removed = np.isin(self.ids, ids)
        self.ids, self.present = self.ids[~removed], self.present[~removed]
        self._x, self._tensor = self._x[~removed], None
        if self._engine is not None and removed.any():
            self._engine.remove(removed, self._x)
        return self

    def save(self, folder: PathLike) -> None:
        """Save the index as safetensors, JSON, and a file of faiss for its kinds.

        Args:
            folder: Folder to write; an existing index in it is replaced.

        Raises:
            CheckpointError: If the folder cannot be written.
        """
        save_index(self, folder)

    @classmethod
    def load(cls, folder: PathLike, *, device: str = "cpu") -> "Index":
        """Load an index; searches return the same results as before it was saved.

        Args:
            folder: Folder that :meth:`save` wrote.
            device: Device of the "exact" search.

        Raises:
            CheckpointError: If a file is missing, damaged, or not of an index.
            ConfigError: If the kind requires faiss and it is not installed.
        """
        return load_index(cls, folder, device)


FAISS = "faiss"
UNIT_TOLERANCE = 1e-3


def save_index(index: "Index", folder: PathLike) -> None:
    """Write an index to a folder.

    Raises:
        CheckpointError: If the folder cannot be written.
    """
    tensors = {
        "vectors": torch.from_numpy(index._x),
        "present": torch.from_numpy(index.present),
        **_ids_as_tensors(index.ids),
    }
    manifest = {"index": index.kind, "modalities": list(index.modalities)}
    parts = {}
    if index._engine is not None:
        parts[FAISS] = index._engine.to_bytes(index._x)
    checkpoint.save(folder, tensors, manifest, parts)


def load_index(kind: type["Index"], folder: PathLike, device: str) -> "Index":
    """Read an index from a folder.

    Raises:
        CheckpointError: If a file is missing, damaged, or not of an index.
        ConfigError: If the kind requires faiss and it is not installed.
    """
    tensors, plain, parts = checkpoint.load(folder)
    manifest = trace(plain)
    if "index" not in manifest:
        raise CheckpointError(
            f"{folder} must contain an index, got a "
            f"{manifest.get('estimator', 'model')}. Create an index by mmgraph index."
        )
    try:
        index = kind.__new__(kind)
        index.kind, index.device = manifest["index"], device
        index.modalities = tuple(map(str, manifest["modalities"]))
        index.ids = _ids_from_tensors(tensors)
        index._x = tensors["vectors"].numpy()
        index.present = tensors["present"].numpy()
    except checkpoint.LOAD_ERRORS as error:
        raise CheckpointError(
            f"{folder} must contain an index of this version, got "
            f"{describe_failure(error, manifest)}. Create it again by mmgraph index."
        ) from None
    index._tensor, index._engine = None, None
    _check(index, folder)
    _check_values(index, folder)
    if index.kind != "exact":
        try:
            content = parts[FAISS]
            index._engine = FaissEngine(index.kind, index._x, content)
        except CheckpointError as error:
            raise CheckpointError(f"{folder}: {error}") from None
        except checkpoint.LOAD_ERRORS as error:
            if isinstance(error, ConfigError):  # faiss is not installed
                raise
            raise CheckpointError(
                f"{folder} must contain a faiss index, got {shorten(error)}."
            ) from None
    return index


def _check(index: "Index", folder: PathLike) -> None:
    num = len(index.ids)
    fits = (
        index.kind in KINDS
        and index._x.dtype == np.float32
        and index._x.ndim == 2
        and len(index._x) == num
        and index.present.dtype == bool
        and index.present.shape == (num, len(index.modalities))
    )
    if not fits:
        raise CheckpointError(
            f"{folder} must contain equal numbers of ids, vectors and rows of "
            "modalities, got different ones. Create the index again."
        )


def _check_values(index: "Index", folder: PathLike) -> None:
    """Check that vectors are of unit length, and ids unique."""
    length = np.linalg.norm(index._x, axis=1)
    if not (np.abs(length - 1) < UNIT_TOLERANCE).all():  # NaN is not below
        raise CheckpointError(
            f"{folder} must contain unit vectors, got others. Create the index again."
        )
    try:
        check_unique(index.ids)
    except DataError as error:
        raise CheckpointError(f"{folder}: {error.fault}") from None


def _ids_as_tensors(ids: NDArray[Any]) -> dict[str, Tensor]:
    if ids.dtype.kind != "U":
        return {"ids": torch.from_numpy(ids)}
    texts = [text.encode() for text in ids.tolist()]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    letters = np.frombuffer(b"".join(texts), dtype=np.uint8).copy()
    return {"id_letters": torch.from_numpy(letters), "id_ends": torch.from_numpy(ends)}


def _ids_from_tensors(tensors: dict[str, Tensor]) -> NDArray[Any]:
    if "ids" in tensors:
        return np.asarray(tensors["ids"].numpy(), dtype=np.int64)
    letters, ends = tensors["id_letters"].numpy().tobytes(), tensors["id_ends"].tolist()
    starts = [0, *ends][:-1]
    if sorted([*starts, len(letters)]) != [*starts, len(letters)]:
        raise ValueError("ends of ids that are not ascending")
    texts = [letters[a:b].decode() for a, b in zip(starts, ends, strict=True)]
    return np.array(texts, dtype=np.str_)
