"""Checkpoint directory of a training: safetensors and JSON, written atomically."""

import contextlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmgraph.checkpoint import MANIFEST, WEIGHTS, load, save
from mmgraph.errors import CheckpointError
from mmgraph.typing import PathLike

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
        tensors, manifest = load(self.path / part)
        saved = manifest.get("run")
        if saved != self.run:
            saved = saved if isinstance(saved, dict) else {}
            names = sorted({*saved, *self.run})
            different = [n for n in names if saved.get(n) != self.run.get(n)]
            raise CheckpointError(
                f"{self.path} must hold progress of this training, got progress with "
                f"other {', '.join(different)}. Train with the same data and options "
                "to resume, or delete the directory (mmgraph train --fresh) to start "
                "over."
            )
        return tensors, manifest["plain"]

    def remove(self) -> None:
        """Delete the progress, and the directory if nothing else is in it."""
        remove_progress(self.path)


def remove_progress(directory: Path) -> None:
    """Delete the progress of a training, and the directory if it is empty then."""
    for manifest in directory.glob(f"*/{MANIFEST}"):
        part = manifest.parent
        for file in (manifest, *part.glob(WEIGHTS.format("*"))):
            file.unlink(missing_ok=True)
        _remove_if_empty(part)
    _remove_if_empty(directory)


def _remove_if_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        directory.rmdir()
