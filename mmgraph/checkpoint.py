"""Saved models: safetensors and a JSON manifest, written atomically, never pickle."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mmgraph.errors import CheckpointError

FORMAT = 1
MANIFEST = "mmgraph.json"
WEIGHTS = "model-{}.safetensors"  # named by content: a save replaces no weights


def save(
    folder: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    manifest: Mapping[str, Any],
) -> None:
    """Write a model into a folder, replacing a model that is there.

    Every file is written under a temporary name, flushed to disk and renamed. Weights
    are named by their SHA-256; the manifest, which holds it, comes last. So whatever
    interrupts a save, the folder holds the old model or the new one.

    Raises:
        CheckpointError: If the folder cannot be written.
    """
    from safetensors.torch import save as to_bytes

    path = Path(folder)
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    weights = to_bytes(plain)
    digest = hashlib.sha256(weights).hexdigest()
    document = {**manifest, "format": FORMAT, "weights_sha256": digest}
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    file = path / WEIGHTS.format(digest[:16])
    try:
        path.mkdir(parents=True, exist_ok=True)
        old = set(path.glob(WEIGHTS.format("*")))
        _write(file, weights)
        try:
            _write(path / MANIFEST, text.encode())
        except BaseException:
            if file not in old:
                file.unlink(missing_ok=True)
            raise
        for other in old - {file}:
            other.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"Model folder {path} cannot be written: {error}."
        ) from None


def load(folder: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a model's tensors and manifest, and check them against each other.

    Raises:
        CheckpointError: A missing, damaged or foreign file, or another format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    path = Path(folder)
    manifest = _read_manifest(path / MANIFEST)
    digest = manifest.get("weights_sha256")
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise CheckpointError(
            f"{path / MANIFEST} must name the SHA-256 of the weights, got {digest!r}."
        )
    file = path / WEIGHTS.format(digest[:16])
    weights = _read(file)
    if hashlib.sha256(weights).hexdigest() != digest:
        raise CheckpointError(
            f"{file} must have the SHA-256 that {MANIFEST} names, got another. The "
            "file is damaged or belongs to another model."
        )
    try:
        return from_bytes(weights), manifest
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged: {error}.") from None


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} must be JSON, got {error}.") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        got = manifest.get("format") if isinstance(manifest, dict) else None
        raise CheckpointError(
            f"{path} must be of format {FORMAT}, got {got!r}. Save the model again "
            "with this version of mmgraph."
        )
    return manifest


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror}. Is the folder a saved model?"
        ) from None


def _write(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(path, name) if path.exists() else Path(name).chmod(0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
