"""An index as files: safetensors, a JSON manifest, and what faiss built."""

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmgraph import checkpoint
from mmgraph.errors import CheckpointError
from mmgraph.retrieval.approximate import FaissEngine

if TYPE_CHECKING:
    from mmgraph.retrieval.index import Index

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
    from mmgraph.retrieval.index import KINDS

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
