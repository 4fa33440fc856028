"""Checkpoint directory of a training: safetensors and JSON, written atomically."""

import contextlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmgraph._trace import describe_failure, trace
from mmgraph.checkpoint import LOAD_ERRORS, MANIFEST, load, remove, save
from mmgraph.errors import CheckpointError
from mmgraph.files import parse_document, read_bytes, shorten
from mmgraph.typing import PathLike

FIRST_SAVE = re.compile(r"\.?(model-[0-9a-f]{16}|mmgraph)\b")
MAX_SAVES = 20  # time between two saves, in units of the duration of a save


class CheckpointDir:
    """Directory that holds the progress of one training, in parts.

    Each part is saved like a model, so that an interrupted save leaves the last one.

    Args:
        path: Directory; created by the first save.
        run: Data and options of the training, by name. Progress of another run is
            refused.
    """

    def __init__(self, path: PathLike, run: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.run: dict[str, Any] = json.loads(json.dumps(run))
        self.next_save: dict[str, float] = {}

    def is_due(self, part: str) -> bool:
        """Return True if a save now takes a small share of the time since the last."""
        return time.monotonic() >= self.next_save.get(part, 0.0)

    def save(
        self, part: str, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]
    ) -> None:
        """Replace a part.

        Args:
            part: Name of the part.
            tensors: Tensors by name.
            plain: JSON content.

        Raises:
            CheckpointError: If the directory cannot be written.
        """
        start = time.monotonic()
        save(self.path / part, tensors, {"run": self.run, "plain": plain})
        end = time.monotonic()
        self.next_save[part] = end + MAX_SAVES * (end - start)

    def load(self, part: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return the tensors and the JSON content of a part, or None without one.

        Raises:
            CheckpointError: If the part is damaged, or belongs to another run.
        """
        if not (self.path / part / MANIFEST).exists():
            return None
        tensors, manifest, _ = load(self.path / part)
        saved = manifest.get("run")
        if saved != self.run:
            saved = saved if isinstance(saved, dict) else {}
            names = sorted({*saved, *self.run})
            both = [(n, saved.get(n, ...), self.run.get(n, ...)) for n in names]
            different = [n for n, old, new in both if old != new] or ["content"]
            raise CheckpointError(
                f"{self.path} must hold progress of this training, got progress with "
                f"other {', '.join(different)}. Train with the same data and options "
                "to resume, or delete the directory (mmgraph train --fresh) to start "
                "over."
            )
        plain = manifest.get("plain")
        if not isinstance(plain, dict) or not plain:
            raise CheckpointError(
                f"{self.path / part} must hold progress, got plain {shorten(plain)}."
            )
        return tensors, plain

    @contextlib.contextmanager
    def restoring(self, part: str, plain: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Name part and entry in the error about content that does not fit.

        Args:
            part: Name of the part.
            plain: JSON content of the part.

        Yields:
            The JSON content.

        Raises:
            CheckpointError: If the block raises an error of damaged content.
        """
        document = trace(plain)
        try:
            yield document
        except LOAD_ERRORS as error:
            raise CheckpointError(
                f"{self.path / part} must hold progress of this training and this "
                f"version, got: {describe_failure(error, document)}. Delete "
                "the directory (mmgraph train --fresh) to start over."
            ) from None

    def remove(self) -> None:
        """Delete the progress, and the directory if nothing else is in it."""
        remove_progress(self.path)


def remove_progress(directory: Path) -> None:
    """Delete the progress of a training, and the directory if it is empty then.

    Other files are kept, also models in subfolders.
    """
    with contextlib.suppress(FileNotFoundError):
        for part in sorted(directory.iterdir()):
            if part.is_dir() and _is_progress(part):
                remove(part)
    _remove_if_empty(directory)


def _is_progress(part: Path) -> bool:
    """Return True for a part, also one whose first save was interrupted."""
    path = part / MANIFEST
    if not path.exists():
        names = [file.name for file in part.iterdir()]
        return bool(names) and all(map(FIRST_SAVE.match, names))
    with contextlib.suppress(CheckpointError):
        content = read_bytes(path, "document_bytes", CheckpointError)
        manifest = parse_document(content, str(path), CheckpointError)
        return isinstance(manifest, dict) and {"run", "plain"} <= manifest.keys()
    return False


def _remove_if_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()


def restored(tensors: Mapping[str, Tensor], name: str, like: Tensor) -> Tensor:
    """Return a saved tensor after a comparison of its shape and type.

    Args:
        tensors: Saved tensors by name.
        name: Name of the tensor.
        like: Tensor of the required shape and type.

    Raises:
        CheckpointError: If there is none, it has another shape or type, or is NaN.
    """
    saved = tensors.get(name)
    if saved is None or saved.shape != like.shape or saved.dtype != like.dtype:
        got = "none" if saved is None else f"{saved.dtype} {list(saved.shape)}"
        raise CheckpointError(
            f"tensor {name!r} must be {like.dtype} {list(like.shape)}, got {got}"
        )
    if bool(saved.isnan().any()):
        raise CheckpointError(f"tensor {name!r} must hold numbers, got NaN")
    return saved
