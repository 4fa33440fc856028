"""Features that were computed before, in memory and on disk.

Letters: ``N`` values, ``C`` channels.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mmgraph.errors import ConfigError

FloatRows = npt.NDArray[np.float32]
MEMORY = 512 << 20  # bytes of rows that are kept in memory
KEY_BYTES = 16


class FeatureCache:
    """Rows by the digest of what they were computed from.

    On disk, rows that were computed together are one file of safetensors, written
    under a temporary name and renamed, so that several processes can share a folder.
    A file that is damaged is as if it were not there.
    """

    def __init__(self) -> None:
        self.rows: dict[bytes, FloatRows] = {}
        self.size = 0
        self.files: dict[Path, dict[bytes, int]] = {}  # the rows that a file has

    def find(self, keys: set[bytes], folder: Path | None) -> dict[bytes, FloatRows]:
        """Return the rows ``[C]`` that are known, by digest.

        Args:
            keys: Of what is wanted.
            folder: Where to look for what memory does not have, or None.
        """
        found = {key: self.rows[key] for key in keys if key in self.rows}
        wanted = keys - found.keys()
        if folder is None or not wanted:
            return found
        for path in sorted(folder.glob("*.safetensors")):
            if path not in self.files:
                self.files[path] = _keys_of(path)
            here = [key for key in wanted if key in self.files[path]]
            if here:
                rows = _rows_of(path, [self.files[path][key] for key in here])
                found |= dict(zip(here, rows, strict=True))
                self._remember(here, rows)
                wanted -= set(here)
        return found

    def add(self, keys: Sequence[bytes], rows: FloatRows, folder: Path | None) -> None:
        """Keep rows ``[N, C]``: in memory as far as they fit, in a folder all of them.

        Raises:
            ConfigError: The folder cannot be written.
        """
        self._remember(keys, rows)
        if folder is None:
            return
        from safetensors.numpy import save

        table = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY_BYTES)
        content = save({"key": table.copy(), "x": np.ascontiguousarray(rows)})
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=folder, suffix=".part")
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(name, Path(name).with_suffix(".safetensors"))
        except OSError as error:
            raise ConfigError(
                f"cache must be a folder that can be written, got '{folder}': "
                f"{error.strerror}."
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
    """Return the row of each digest in a file; none of one that is damaged."""
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
