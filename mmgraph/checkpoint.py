"""Saved models: safetensors and a JSON manifest, written atomically."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from mmgraph.errors import CheckpointError
from mmgraph.schema import Schema
from mmgraph.typing import PathLike

FORMAT = 2
MANIFEST = "mmgraph.json"
# Files are named by their content: a save does not overwrite files of the manifest.
WEIGHTS = "model-{}.safetensors"
PART = "part-{}.bin"


def save(
    folder: PathLike,
    tensors: Mapping[str, Tensor],
    manifest: Mapping[str, Any],
    parts: Mapping[str, bytes] | None = None,
) -> None:
    """Save a model into a folder, replacing a model in it.

    Every file is written under a temporary name, flushed to disk and renamed. Weights
    are named by their SHA-256, and the manifest, which contains it, is written last, so
    that an interrupted save leaves the old model or the new one.

    Args:
        folder: Folder; created if necessary.
        tensors: Tensors by name.
        manifest: JSON content that describes the model.
        parts: Binary content of other libraries by name, each saved as a file.

    Raises:
        CheckpointError: If the folder cannot be written.
    """
    from safetensors.torch import save as to_bytes

    path = Path(folder)
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    weights = to_bytes(plain)
    digest = hashlib.sha256(weights).hexdigest()
    document = {**manifest, "format": FORMAT, "weights_sha256": digest}
    files = {path / WEIGHTS.format(digest[:16]): weights}
    if parts:
        hashes = {
            name: hashlib.sha256(part).hexdigest() for name, part in parts.items()
        }
        document["parts_sha256"] = hashes
        for name, part in parts.items():
            files[path / PART.format(hashes[name][:16])] = part
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    try:
        path.mkdir(parents=True, exist_ok=True)
        old = {*path.glob(WEIGHTS.format("*")), *path.glob(PART.format("*"))}
        try:
            for file, content in files.items():
                _write(file, content)
            _write(path / MANIFEST, text.encode())
        except BaseException:
            for file in files.keys() - old:
                file.unlink(missing_ok=True)
            raise
        for other in old - files.keys():
            other.unlink(missing_ok=True)
    except OSError as error:
        raise CheckpointError(
            f"Model folder {path} cannot be written: {error}."
        ) from None


def load(folder: PathLike) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load the tensors and the manifest of a saved model.

    Raises:
        CheckpointError: If a file is missing, damaged, of another program or of an
            unknown format.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    path = Path(folder)
    manifest = read_manifest(path)
    file, weights = _read_checked(
        path, WEIGHTS, manifest.get("weights_sha256"), "the weights"
    )
    try:
        return _migrate_names(from_bytes(weights), manifest), manifest
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file} must hold tensors, got: {error}.") from None


def load_part(folder: PathLike, manifest: Mapping[str, Any], name: str) -> bytes:
    """Read a part of a saved model, and verify its SHA-256.

    Raises:
        CheckpointError: If the file is missing or damaged.
    """
    hashes = manifest.get("parts_sha256")
    digest = hashes.get(name) if isinstance(hashes, dict) else None
    return _read_checked(Path(folder), PART, digest, f"its part {name!r}")[1]


def _read_checked(
    folder: Path, pattern: str, digest: object, what: str
) -> tuple[Path, bytes]:
    """Return the path of a file that is named by its hash, and its content."""
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise CheckpointError(
            f"{folder / MANIFEST} must name the SHA-256 of {what}, got {digest!r}."
        )
    file = folder / pattern.format(digest[:16])
    content = _read(file)
    if hashlib.sha256(content).hexdigest() != digest:
        raise CheckpointError(
            f"{file} must have the SHA-256 that {MANIFEST} names, got another. The "
            "file is damaged or belongs to another model."
        )
    return file, content


def read_manifest(folder: PathLike) -> dict[str, Any]:
    """Read the manifest of a saved model.

    Raises:
        CheckpointError: If the file is missing, damaged, of another program or of an
            unknown format.
    """
    path = Path(folder) / MANIFEST
    content = _read(path)
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} must be JSON, got {error}.") from None
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if version not in (1, FORMAT) or isinstance(version, bool):
        raise CheckpointError(
            f"{path} must be of format {FORMAT} or older, got {version!r}. Save the "
            "model again with this version of mmgraph."
        )
    return manifest if version == FORMAT else _migrate_manifest(path, manifest)


# Migrations of format 1 (mmgraph 0.1)

# parts of tensor names in format 1, and in the current format
RENAMED_TENSORS = dict(  # noqa: C408, old names on the left
    panel="ensemble",
    trust="modality_weight",
    joint_trust="joint_weight",
    pair_trust="pair_weights",
    class_trust="modality_weights",
    known="aligned_weight",
    crowd="reference",
    clock="time_encoding",
)
RENAMED_ENTRIES = {"panel": "ensemble", "num_crowd": "num_reference"}
OLD_FORMAT = "migrated_from"


def _migrate_names(
    tensors: dict[str, Tensor], manifest: Mapping[str, Any]
) -> dict[str, Tensor]:
    """Rename the tensors of a model of format 1."""
    if OLD_FORMAT not in manifest:
        return tensors
    return {
        ".".join(RENAMED_TENSORS.get(part, part) for part in name.split(".")): tensor
        for name, tensor in tensors.items()
    }


def _migrate_manifest(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Convert a manifest of format 1 to the current format.

    The description of the inputs, several entries in format 1, is one entry now.
    """
    manifest = {RENAMED_ENTRIES.get(k, k): v for k, v in manifest.items()}
    manifest[OLD_FORMAT] = manifest["format"]
    if "estimator" not in manifest:
        return manifest
    moved = {"schema", "schema_hash", "feature_widths", "unseen", "channels", "raw"}
    lacking = sorted(moved - manifest.keys())
    if lacking or not isinstance(manifest["raw"], dict):
        raise CheckpointError(
            f"{path} must have the description of inputs of mmgraph 0.1, got no "
            f"{lacking[0] if lacking else 'encoders'}."
        )
    inputs = {
        **{name: manifest[name] for name in ("schema", "schema_hash")},
        **{name: manifest[name] for name in ("unseen", "channels")},
        "widths": manifest["feature_widths"],
        **manifest["raw"],
    }
    kept = {name: value for name, value in manifest.items() if name not in moved}
    return kept | {"inputs": inputs}


def migrate_export(description: dict[str, Any]) -> dict[str, Any]:
    """Convert the description in an exported file of mmgraph 0.1 to the current format.

    Raises:
        KeyError, TypeError: If the content is damaged.
    """
    if "learned" not in description:
        return description
    learned = dict(description["learned"])
    schema = Schema.from_json(learned["schema"])
    inputs = {
        **{name: learned[name] for name in ("schema", "kinds", "channels", "unseen")},
        "schema_hash": schema.hash,
        "widths": [],  # exported files compute features themselves
        "encoders": dict.fromkeys(learned["encoded"]),
    }
    return description | {"inputs": inputs}


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read: {error.strerror}. Check that the folder holds a "
            "saved model."
        ) from None


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as part, part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary file in the same folder, which replaces a file at the end.

    If writing fails, the existing file is unchanged.
    """
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix
    )
    os.close(handle)
    try:
        yield Path(name)
        shutil.copymode(path, name) if path.exists() else Path(name).chmod(0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
