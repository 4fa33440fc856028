"""Cache of computed features, in memory and on disk.

Letters: ``N`` values, ``C`` channels.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmgraph.errors import ConfigError
from mmgraph.files import sweep, write_bytes

FloatRows = npt.NDArray[np.float32]
MEMORY = 512 << 20  # limit of cached rows in memory, in bytes
KEY_BYTES = 16


class FeatureCache:
    """Feature vectors by the digest of their input.

    On disk, vectors that were computed together are one safetensors file. It is written
    under a temporary name and renamed, so that several processes can share a folder.
    Damaged files are ignored.
    """

    def __init__(self) -> None:
        self.rows: dict[bytes, FloatRows] = {}
        self.size = 0
        self.files: dict[Path, dict[bytes, int]] = {}  # row of each digest, by file

    def find(self, keys: set[bytes], folder: Path | None) -> dict[bytes, FloatRows]:
        """Return the cached vectors ``[C]`` by digest.

        Args:
            keys: Digests to look up.
            folder: Folder to read where memory does not have a vector; None for none.
        """
        cached = {key: self.rows[key] for key in keys if key in self.rows}
        wanted = keys - cached.keys()
        if folder is None or not wanted:
            return cached
        for path in sorted(folder.glob("[!.]*.safetensors")):
            if path not in self.files:
                self.files[path] = _keys_of(path)
            here = [key for key in wanted if key in self.files[path]]
            if here:
                rows = _rows_of(path, [self.files[path][key] for key in here])
                cached |= dict(zip(here, rows, strict=True))
                self._remember(here, rows)
                wanted -= set(here)
        return cached

    def add(self, keys: Sequence[bytes], rows: FloatRows, folder: Path | None) -> None:
        """Cache vectors: all in a folder, and in memory up to its limit.

        Args:
            keys: ``N`` digests.
            rows: ``[N, C]`` vectors.
            folder: Folder to write; None for memory only.

        Raises:
            ConfigError: If the folder cannot be written.
        """
        self._remember(keys, rows)
        if folder is None:
            return
        from safetensors.numpy import save

        table = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY_BYTES)
        content = save({"key": table.copy(), "x": np.ascontiguousarray(rows)})
        try:
            folder.mkdir(parents=True, exist_ok=True)
            sweep(folder)
            name = hashlib.sha256(content).hexdigest()[:16]
            write_bytes(folder / f"{name}.safetensors", content)
        except OSError as error:
            raise ConfigError(
                f"cache must be a writable folder, got '{folder}': {error.strerror}."
            ) from None

    def _remember(self, keys: Sequence[bytes], rows: FloatRows) -> None:
        for key, row in zip(keys, rows, strict=True):
            if self.size + row.nbytes > MEMORY:
                return
            if key not in self.rows:
                self.rows[key] = row.copy()
                self.size += row.nbytes


def _rows_of(path: Path, numbers: list[int]) -> FloatRows:
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        rows: FloatRows = file.get_tensor("x")[numbers]
        return rows


def _keys_of(path: Path) -> dict[bytes, int]:
    """Return the row of each digest in a file; empty for a damaged file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            x, keys = file.get_slice("x"), file.get_tensor("key")
            shape, kind = x.get_shape(), x.get_dtype()
    except (SafetensorError, OSError):
        return {}
    fits = keys.dtype == np.uint8 and keys.shape[1:] == (KEY_BYTES,)
    if not fits or len(shape) != 2 or shape[0] != len(keys) or kind != "F32":
        return {}
    return {key.tobytes(): row for row, key in enumerate(keys)}
