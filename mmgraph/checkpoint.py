"""Saved models: safetensors and a JSON manifest, written atomically."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mmgraph.errors import CheckpointError
from mmgraph.files import (
    locked,
    parse_document,
    read_bytes,
    shorten,
    sweep,
    sync_folder,
    write_bytes,
)
from mmgraph.schema import Schema
from mmgraph.typing import PathLike

FORMAT = 3
MANIFEST = "mmgraph.json"
# Files are named by their content: a save does not overwrite files of the manifest.
WEIGHTS = "model-{}.safetensors"
PART = "part-{}.bin"
OWN_HASH = "manifest_sha256"
ATTEMPTS = 10  # of reading a folder that other processes save into
# errors that damaged or foreign content of a manifest can lead to
LOAD_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


class SavedModel(NamedTuple):
    """Content of the folder of a saved model.

    Attributes:
        tensors: Tensors by name.
        manifest: JSON content that describes the model.
        parts: Binary content of other libraries by name.
    """

    tensors: dict[str, Tensor]
    manifest: dict[str, Any]
    parts: dict[str, bytes]


def save(
    folder: PathLike,
    tensors: Mapping[str, Tensor],
    manifest: Mapping[str, Any],
    parts: Mapping[str, bytes] | None = None,
) -> None:
    """Save a model into a folder, replacing a model in it.

    Every file is written under a temporary name, flushed to disk and renamed. Weights
    are named by their SHA-256, and the manifest, which contains it, is written last, so
    that an interrupted save leaves the old model or the new one. The folder is locked:
    of several processes that save into it, the last one replaces the others. Files
    that interrupted saves left are deleted.

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
    document = {
        **manifest,
        "format": FORMAT,
        "weights_sha256": digest,
        "weights_bytes": len(weights),
    }
    files = {WEIGHTS.format(digest[:16]): weights}
    if parts:
        hashes = {
            name: hashlib.sha256(part).hexdigest() for name, part in parts.items()
        }
        document["parts_sha256"] = hashes
        document["parts_bytes"] = {name: len(part) for name, part in parts.items()}
        for name, part in parts.items():
            files[PART.format(hashes[name][:16])] = part
    document[OWN_HASH] = _hash_of(document)
    text = json.dumps(document, indent=1, sort_keys=True) + "\n"
    try:
        _make_folder(path)
        with locked(path):
            _replace(path, files, text.encode())
    except OSError as error:
        raise CheckpointError(
            f"Model folder {path} cannot be written: {error}."
        ) from None


def _make_folder(path: Path) -> None:
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        sync_folder(path.parent)


def _replace(folder: Path, files: Mapping[str, bytes], manifest: bytes) -> None:
    """Write the files, then the manifest; delete files that it does not name."""
    sweep(folder)
    before = set(_content_files(folder))
    try:
        for name, content in files.items():
            write_bytes(folder / name, content)
        write_bytes(folder / MANIFEST, manifest)
    except BaseException:  # the manifest is the old one or, at the end, the new one
        _delete_unnamed(folder, files.keys() - before)
        raise
    _delete_unnamed(folder, _content_files(folder))


def _content_files(folder: Path) -> list[str]:
    """Return the names of the files in a folder that are named by their content."""
    patterns = (WEIGHTS, PART)
    own = "|".join(re.escape(p).replace(r"\{\}", "[0-9a-f]{16}") for p in patterns)
    return [name for name in os.listdir(folder) if re.fullmatch(own, name)]


def _delete_unnamed(folder: Path, names: Iterable[str]) -> None:
    """Delete those files of a folder that its manifest does not name."""
    try:
        named = (folder / MANIFEST).read_text(encoding="utf-8")
    except FileNotFoundError:
        named = ""
    except (OSError, ValueError):  # a damaged manifest
        return
    for name in names:
        if re.split("[-.]", name)[1] not in named:
            with contextlib.suppress(OSError):
                (folder / name).unlink()


def remove(folder: PathLike) -> None:
    """Delete a saved model, what interrupted saves left, and the folder if it is empty.

    Other files are kept.

    Raises:
        CheckpointError: If files cannot be deleted.
    """
    path = Path(folder)
    try:
        with locked(path):
            (path / MANIFEST).unlink(missing_ok=True)
            _delete_unnamed(path, _content_files(path))
            sweep(path)
            if not os.listdir(path):
                path.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        raise CheckpointError(f"{path} cannot be deleted: {error}.") from None


def _hash_of(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the content of a manifest, without its own hash."""
    content = {name: value for name, value in manifest.items() if name != OWN_HASH}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def load(folder: PathLike) -> SavedModel:
    """Load a saved model.

    While another process saves into the folder, the old or the new model is loaded.

    Raises:
        CheckpointError: If a file is missing, damaged, of another program or of an
            unknown format.
    """
    path = Path(folder)
    try:
        return _load_between_saves(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}.") from None


def _load_between_saves(folder: Path) -> SavedModel:
    """Load again if the manifest was replaced, and at last with savers locked out.

    Stamps of two manifests can be equal, so only an error under the lock is certain.
    """
    for _ in range(ATTEMPTS):
        before = _stamp(folder)
        try:
            return _load(folder)
        except (CheckpointError, OSError):  # a file can vanish before it is opened
            if _stamp(folder) == before:
                break
    with locked(folder, shared=True) if folder.is_dir() else contextlib.nullcontext():
        return _load(folder)


def _stamp(folder: Path) -> tuple[int, ...]:
    """Return what changes whenever a manifest is replaced."""
    try:
        facts = (folder / MANIFEST).stat()
    except (OSError, ValueError):
        return ()
    return facts.st_ino, facts.st_mtime_ns, facts.st_size


def _load(folder: Path) -> SavedModel:
    from safetensors import SafetensorError
    from safetensors.torch import load as from_bytes

    manifest = read_manifest(folder)
    no_size = None if manifest["format"] < 3 else -1
    facts = manifest.get("weights_sha256"), manifest.get("weights_bytes", no_size)
    file, weights = _read_checked(folder, WEIGHTS, "weights", *facts)
    try:
        tensors = _migrate_names(from_bytes(weights), manifest)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{file} must hold tensors, got: {shorten(error)}."
        ) from None
    hashes, sizes = manifest.get("parts_sha256", {}), manifest.get("parts_bytes", {})
    if not isinstance(hashes, dict) or not isinstance(sizes, dict):
        raise CheckpointError(
            f"{folder / MANIFEST} must name the parts of the model, got "
            f"parts_sha256 {shorten(hashes)} and parts_bytes {shorten(sizes)}."
        )
    parts = {}
    for name, digest in hashes.items():
        facts = digest, sizes.get(name, no_size)
        parts[name] = _read_checked(folder, PART, f"part {name!r}", *facts)[1]
    return SavedModel(tensors, manifest, parts)


def _read_checked(
    folder: Path, pattern: str, what: str, digest: object, size: object
) -> tuple[Path, bytes]:
    """Return the path and the content of a file that is named by its hash.

    The size, which formats before 3 lack, is compared before the file is read.
    """
    if not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{64}", digest):
        raise CheckpointError(
            f"{folder / MANIFEST} must name the SHA-256 of the {what}, got "
            f"{shorten(digest)}."
        )
    file = folder / pattern.format(digest[:16])
    content = None
    if size is None or not file.is_file() or file.stat().st_size == size:
        content = _read(file, "model_bytes")
    if content is None or hashlib.sha256(content).hexdigest() != digest:
        raise CheckpointError(
            f"{file} must have the SHA-256 that {MANIFEST} names, got another. The "
            "file is damaged or belongs to another model."
        )
    return file, content


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        CheckpointError: If a tensor contains such a value.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"Tensor {shorten(name)} must hold finite numbers, got NaN or infinity."
            )


def read_manifest(folder: PathLike) -> dict[str, Any]:
    """Read the manifest of a saved model.

    Raises:
        CheckpointError: If the file is missing, damaged, of another program or of an
            unknown format.
    """
    path = Path(folder) / MANIFEST
    manifest = parse_document(_read(path, "document_bytes"), str(path), CheckpointError)
    version = manifest.get("format") if isinstance(manifest, dict) else None
    if version not in (1, 2, FORMAT) or type(version) is not int:
        raise CheckpointError(
            f"{path} must be of format {FORMAT} or older, got {shorten(version)}. Save "
            "the model again with this version of mmgraph."
        )
    own = manifest.get(OWN_HASH)
    if (version >= 3 or own is not None) and own != _hash_of(manifest):
        raise CheckpointError(
            f"{path} must have the content whose SHA-256 is its {OWN_HASH}, got "
            "another. The file is damaged or was edited: save the model again."
        )
    return manifest if version > 1 else _migrate_manifest(path, manifest)


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


def _read(path: Path, limit: str) -> bytes:
    remedy = "Check that the folder holds a saved model."
    return read_bytes(path, limit, CheckpointError, remedy=remedy)
