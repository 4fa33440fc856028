"""Files of pretrained models: in a local folder or the cache of the Hugging Face Hub.

Models are downloaded only on request (``download=True``); otherwise a name on the Hub
is looked up in the local cache.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mmgraph.errors import Argument, ConfigError

CONFIG_FILE = "config.json"
POOLING_FILE = "1_Pooling/config.json"  # written by sentence-transformers
# without pickled weights
FILE_PATTERNS = ("*.json", "*.txt", "*.model", "*.safetensors")
EXTRA = "Install mmgraph[transformers]."


@dataclass(frozen=True)
class ModelFiles:
    """Local files of a pretrained model.

    Attributes:
        name: Folder or name on the Hub, as given.
        folder: Folder of the files.
        revision: Commit on the Hub; None for a local folder.
    """

    name: str
    folder: Path
    revision: str | None

    @property
    def sha256(self) -> str:
        """SHA-256 of weights, configuration and vocabulary, in hexadecimal digits."""
        files = [path for kind in FILE_PATTERNS for path in self.folder.glob(kind)]
        pooling = self.folder / POOLING_FILE
        files += [pooling] if pooling.is_file() else []
        digest = hashlib.sha256()
        for path in sorted(files):
            status = path.stat()
            file_digest = _digest(path.resolve(), status.st_size, status.st_mtime_ns)
            name = path.relative_to(self.folder).as_posix()
            digest.update(f"{name} {file_digest}\n".encode())
        return digest.hexdigest()


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, time: int) -> str:
    """Return the SHA-256 of a file; cached while size and time are unchanged."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_model_files(name: str, *, revision: str | None, download: bool) -> ModelFiles:
    """Find a model by folder, or by name on the Hugging Face Hub.

    Args:
        name: A folder, or a name such as "sentence-transformers/all-MiniLM-L6-v2".
        revision: Commit, tag or branch on the Hub; None for the main branch.
        download: Download the model if it is not in the local cache.

    Raises:
        ConfigError: If the folder does not exist or contains no transformers model, the
            name is not in the local cache, or `transformers` is not installed.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        source = ModelFiles(name, folder.resolve(), None)
    elif _is_path(name):
        raise ConfigError(
            f"Encoder must be the folder of a transformers model, got '{name}', which "
            "does not exist."
        )
    else:
        folder = _snapshot(name, revision, download)
        source = ModelFiles(name, folder, folder.name)
    if not (source.folder / CONFIG_FILE).is_file():
        raise ConfigError(
            f"Encoder '{name}' must contain {CONFIG_FILE}, got no such file. Save the "
            "model by save_pretrained of transformers."
        )
    if not any(source.folder.glob("*.safetensors")):
        raise ConfigError(
            f"Encoder '{name}' must contain its weights as .safetensors, got no such "
            "file. Pickled weights are not read: save the model again with a current "
            "version of transformers."
        )
    return source


def _is_path(name: str) -> bool:
    """Return True for a path, False for a name on the Hub ("model", "owner/model")."""
    return name.startswith((".", "~", "/")) or name.count("/") > 1 or "\\" in name


def _snapshot(name: str, revision: str | None, download: bool) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise ConfigError(
            f"Encoder '{name}' requires transformers, which is not installed. {EXTRA}"
        ) from None
    patterns = [*FILE_PATTERNS, POOLING_FILE]
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                allow_patterns=patterns,
                local_files_only=not download,
            )
        )
    except (HfHubHTTPError, OSError, ValueError) as error:
        if download:
            raise ConfigError(
                f"Encoder '{name}' could not be downloaded: {error}"
            ) from None
        raise ConfigError(
            f"Encoder '{name}' must be a folder, or a name in the local cache of "
            "Hugging Face, got neither.",
            (
                "Give the path of its folder, or download it: PretrainedEncoder",
                f"('{name}', ",
                Argument("download", True),
                ").",
            ),
        ) from None
