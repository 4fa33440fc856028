"""An index of embeddings: what it holds, searches, adds and removes.

Letters: `Q` queries, `N` entries, `D` width, `M` modalities, `k` places.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmgraph import checkpoint
from mmgraph.errors import CheckpointError, ConfigError, DataError
from mmgraph.retrieval.approximate import EXACT_SHARE, FaissEngine
from mmgraph.retrieval.entries import as_directions, check_ids, is_nothing
from mmgraph.retrieval.exact import nearest

KINDS = ("exact", "flat", "hnsw", "ivf")


@dataclass(frozen=True, eq=False)
class Hits:
    """What a search found, best first.

    Where fewer than k entries could be returned, the last places are missing: their
    score is -inf, their id -1 for numbers and "" for strings, their row -1.

    Attributes:
        ids: Ids of the entries, [Q, k].
        scores: Cosine similarities, float32 [Q, k].
        rows: Positions of the entries in the index, int64 [Q, k].
    """

    ids: NDArray[Any]
    scores: NDArray[np.float32]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def found(self) -> NDArray[np.bool_]:
        """Which places hold an entry, [Q, k]."""
        return self.rows >= 0


class Index:
    """Search a gallery of embeddings by cosine similarity.

    An entry whose vector is all NaN has none of the modalities that were embedded: it
    is left out, so that no search can return it. ``kind="exact"`` compares with every
    entry; the others are faiss (``mmgraph[search]``): ``"flat"`` is as exact,
    ``"hnsw"`` and ``"ivf"`` are faster and may miss some. A graph that several threads
    built may differ from run to run; ``OMP_NUM_THREADS=1`` gives the same bits.

    Args:
        ids: N unique numbers or strings.
        vectors: [N, D] of any length but zero; they are brought to unit length.
        present: Which modalities each entry has, booleans [N, M]: what a search can
            ask for, whatever was embedded.
        modalities: Names of the M modalities.
        kind: "exact", "flat", "hnsw" or "ivf".
        device: Where "exact" computes.

    Attributes:
        ids: [N].
        vectors: float32 tensor [N, D] of unit length.
        present: [N, M]; M is 0 where no table was given.
        modalities: Names.
        kind: As given.

    Raises:
        ConfigError: If the kind is unknown or faiss is not installed.
        DataError: If ids repeat, shapes differ, or a vector is zero or partly NaN.

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
        ids: Any,  # noqa: ANN401
        vectors: Any,  # noqa: ANN401
        *,
        present: Any = None,  # noqa: ANN401
        modalities: Sequence[str] = (),
        kind: str = "exact",
        device: str = "cpu",
    ) -> None:
        if kind not in KINDS:
            raise ConfigError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}.")
        self.kind, self.device = kind, device
        self.modalities = tuple(modalities)
        self.ids, self._x, self.present = self._entries(ids, vectors, present)
        self._engine = None if kind == "exact" else FaissEngine(kind, self._x)
        self._tensor: torch.Tensor | None = None

    def _entries(
        self,
        ids: Any,  # noqa: ANN401
        vectors: Any,  # noqa: ANN401
        present: Any,  # noqa: ANN401
    ) -> tuple[NDArray[Any], NDArray[np.float32], NDArray[np.bool_]]:
        """Return checked ids, unit vectors and table of the entries with a vector."""
        x = as_directions("vectors", vectors)
        ids = check_ids(ids, len(x))
        table = self._table(present, len(x))
        has = ~is_nothing(x)
        return ids[has], x[has], table[has]

    def _table(self, present: Any, num_entries: int) -> NDArray[np.bool_]:  # noqa: ANN401
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
        """The entries, unit length, float32 [N, D] on the device of the index."""
        if self._tensor is None:
            self._tensor = torch.from_numpy(self._x).to(self.device)
        return self._tensor

    def search(
        self,
        z: Any,  # noqa: ANN401
        k: int = 10,
        *,
        require: Sequence[str] = (),
        effort: int | None = None,
    ) -> Hits:
        """Return the k entries that are most similar to each query.

        A query that is all NaN (nothing to go by) finds nothing. A filter that leaves
        few entries is searched exactly, whatever the kind.

        Args:
            z: Queries, [Q, D] or one [D], an array or tensor of any device.
            k: Number of places.
            require: Modalities that an entry must have to be returned.
            effort: Candidates that "hnsw" keeps, or lists that "ivf" reads, instead
                of its default: more find more and take longer.

        Raises:
            ConfigError: If k or effort is below 1, or no whole number.
            DataError: If widths differ, a query is zero or partly NaN, or a modality
                is not in the table.
        """
        given = [k] if effort is None else [k, effort]
        if not all(isinstance(number, Integral) and number >= 1 for number in given):
            raise ConfigError(
                "k and effort must be whole numbers of at least 1, got "
                f"k={k}, effort={effort}."
            )
        queries = as_directions("queries", z, width=self._x.shape[1])
        scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        known = ~is_nothing(queries)
        allowed = self._allowed(require)
        if known.any() and len(self):
            scores[known], rows[known] = self._find(queries[known], k, allowed, effort)
        return Hits(self._ids_at(rows), scores, rows)

    def _allowed(self, require: Sequence[str]) -> NDArray[np.bool_] | None:
        names = [require] if isinstance(require, str) else list(require)
        unknown = [name for name in names if name not in self.modalities]
        if unknown:
            raise DataError(
                f"require must name modalities of the index, "
                f"{', '.join(self.modalities) or '(it was given none)'}, got "
                f"{unknown[0]!r}."
            )
        if not names:
            return None
        columns = [self.modalities.index(name) for name in names]
        return np.asarray(self.present[:, columns].all(axis=1))

    def _find(
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
        ids: Any,  # noqa: ANN401
        vectors: Any,  # noqa: ANN401
        *,
        present: Any = None,  # noqa: ANN401
    ) -> "Index":
        """Add entries; those whose vector is all NaN are left out.

        Args:
            ids: n numbers or strings that the index does not have.
            vectors: [n, D].
            present: Booleans [n, M], needed where the index has such a table.

        Returns:
            This index.

        Raises:
            DataError: If an id is there already, or anything does not fit.
        """
        x = as_directions("vectors", vectors, width=self._x.shape[1] or None)
        ids, x, table = self._entries(ids, x, present)
        if len(self) and len(ids) and ids.dtype.kind != self.ids.dtype.kind:
            raise DataError(
                f"ids must be of one type, got {ids.dtype} for an index of "
                f"{self.ids.dtype}."
            )
        again = np.isin(ids, self.ids)
        if again.any():
            raise DataError(
                f"ids must be new to the index, got {ids[again][0].item()!r}, which is "
                "there. Remove it first."
            )
        self.ids = np.concatenate([self.ids, ids]) if len(self) else ids
        self.present = np.concatenate([self.present, table])
        self._x, self._tensor = np.concatenate([self._x, x]), None
        if self._engine is not None and len(ids):
            self._engine.add(self._x, len(ids))
        return self

    def remove(self, ids: Any) -> "Index":  # noqa: ANN401
        """Remove entries by id.

        Returns:
            This index.

        Raises:
            DataError: If an id is not in the index.
        """
        ids = np.atleast_1d(np.asarray(ids))
        unknown = ids[~np.isin(ids, self.ids)]
        if len(unknown):
            raise DataError(
                f"remove must be given ids of the index, got {unknown[0].item()!r}, "
                "which is not there (or had no vector)."
            )
        gone = np.isin(self.ids, ids)
        self.ids, self.present = self.ids[~gone], self.present[~gone]
        self._x, self._tensor = self._x[~gone], None
        if self._engine is not None and gone.any():
            self._engine.remove(gone, self._x)
        return self

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Save as safetensors and JSON, and what faiss built as a file beside them.

        Raises:
            CheckpointError: If the folder cannot be written.
        """

        save_index(self, folder)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, device: str = "cpu") -> "Index":
        """Load what :meth:`save` wrote; it finds the same as before.

        Raises:
            CheckpointError: If a file is missing, damaged or of something else.
            ConfigError: If the kind needs faiss and it is not installed.
        """

        return load_index(cls, folder, device)


FAISS = "faiss"


def save_index(index: "Index", folder: str | os.PathLike[str]) -> None:
    """Write an index into a folder.

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


def load_index(
    kind: type["Index"], folder: str | os.PathLike[str], device: str
) -> "Index":
    """Read an index from a folder.

    Raises:
        CheckpointError: If a file is missing, damaged or of something else.
        ConfigError: If the index needs faiss and it is not installed.
    """
    tensors, manifest = checkpoint.load(folder)
    if "index" not in manifest:
        raise CheckpointError(
            f"{folder} must hold an index, got a {manifest.get('estimator', 'model')}. "
            "Make one with mmgraph index."
        )
    try:
        index = kind.__new__(kind)
        index.kind, index.device = manifest["index"], device
        index.modalities = tuple(manifest["modalities"])
        index.ids = _ids_from_tensors(tensors)
        index._x = tensors["vectors"].numpy()
        index.present = tensors["present"].numpy()
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder} does not describe an index of this version: {error!r}."
        ) from None
    index._tensor, index._engine = None, None
    _check(index, folder)
    if index.kind != "exact":
        content = checkpoint.load_part(folder, manifest, FAISS)
        index._engine = FaissEngine(index.kind, index._x, content)
    return index


def _check(index: "Index", folder: str | os.PathLike[str]) -> None:

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
            f"{folder} must hold as many ids, vectors and rows of modalities, got an "
            "index whose parts do not fit each other."
        )


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
    texts = [letters[a:b].decode() for a, b in zip(starts, ends, strict=True)]
    return np.array(texts, dtype=np.str_)
