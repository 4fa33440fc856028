"""Where a training keeps its progress: safetensors and JSON, written atomically."""

import contextlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmgraph.checkpoint import MANIFEST, WEIGHTS, load, save
from mmgraph.errors import CheckpointError

MAX_SAVES = 20  # a save waits until so many times its own duration have passed


class CheckpointDir:
    """Where a training keeps its progress: parts, each saved like a model.

    Args:
        path: The folder; it need not exist yet.
        run: What the training is of, by name: data and options. Progress of another
            run is refused.
    """

    def __init__(self, path: str | os.PathLike[str], run: Mapping[str, Any]) -> None:
        self.path = Path(path)
        self.run: dict[str, Any] = json.loads(json.dumps(run))
        self.free: dict[str, float] = {}

    def is_due(self, part: str) -> bool:
        """Whether saving now costs little beside the time since the last save."""
        return time.monotonic() >= self.free.get(part, 0.0)

    def save(
        self, part: str, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]
    ) -> None:
        """Replace a part.

        Raises:
            CheckpointError: If the folder cannot be written.
        """
        start = time.monotonic()
        save(self.path / part, tensors, {"run": self.run, "plain": plain})
        end = time.monotonic()
        self.free[part] = end + MAX_SAVES * (end - start)

    def load(self, part: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Return a part, or None where there is none yet.

        Raises:
            CheckpointError: It is damaged, or of another run.
        """
        if not (self.path / part / MANIFEST).exists():
            return None
        tensors, manifest = load(self.path / part)
        kept = manifest.get("run")
        if kept != self.run:
            kept = kept if isinstance(kept, dict) else {}
            names = sorted({*kept, *self.run})
            other = [n for n in names if kept.get(n) != self.run.get(n)]
            raise CheckpointError(
                f"{self.path} must hold progress of this training, got one of other "
                f"{', '.join(other)}. Train with the same to go on, or delete the "
                "folder (mmgraph train --fresh does) to begin anew."
            )
        return tensors, manifest["plain"]

    def remove(self) -> None:
        """Delete the progress, and the folder if it held nothing else."""
        remove_progress(self.path)


def remove_progress(folder: Path) -> None:
    """Delete what a training kept in a folder, and the folder if nothing is left."""
    for manifest in folder.glob(f"*/{MANIFEST}"):
        part = manifest.parent
        for file in (manifest, *part.glob(WEIGHTS.format("*"))):
            file.unlink(missing_ok=True)
        _remove_if_empty(part)
    _remove_if_empty(folder)


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
