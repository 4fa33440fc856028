"""Where the files of a pretrained model are, and what they are.

Nothing is downloaded unless asked: a name is looked up in the local cache of Hugging
Face, where an earlier download has left it.
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mmgraph.errors import ConfigError

CONFIG = "config.json"
POOLING = "1_Pooling/config.json"  # as sentence-transformers writes it
# never weights that are pickled
FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
EXTRA = "Install mmgraph[transformers]."


@dataclass(frozen=True)
class Source:
    """A model that was found.

    Attributes:
        name: As it was asked for.
        folder: Where its files are.
        revision: The commit on the Hub, or None for a folder.
    """

    name: str
    folder: Path
    revision: str | None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of weights, configuration and vocabulary."""
        files = [path for kind in FILES for path in self.folder.glob(kind)]
        pooling = self.folder / POOLING
        files += [pooling] if pooling.is_file() else []
        digest = hashlib.sha256()
        for path in sorted(files):
            facts = path.stat()
            own = _digest(path.resolve(), facts.st_size, facts.st_mtime_ns)
            digest.update(
                f"{path.relative_to(self.folder).as_posix()} {own}\n".encode()
            )
        return digest.hexdigest()


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, time: int) -> str:
    """Return the SHA-256 of a file; of one that has not changed, only once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find_source(name: str, *, revision: str | None, download: bool) -> Source:
    """Find a model by the path of its folder, or by its name on the Hugging Face Hub.

    Args:
        name: A folder, or a name such as "sentence-transformers/all-MiniLM-L6-v2".
        revision: Commit, tag or branch of a name; None: the main branch.
        download: Fetch what the local cache does not have.

    Raises:
        ConfigError: No such folder, no transformers model in it, or a name that the
            local cache does not have; `transformers` is not installed.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        source = Source(name, folder.resolve(), None)
    elif _is_path(name):
        raise ConfigError(
            f"Encoder must be the folder of a transformers model, got '{name}', which "
            "is not there."
        )
    else:
        folder = _snapshot(name, revision, download)
        source = Source(name, folder, folder.name)
    if not (source.folder / CONFIG).is_file():
        raise ConfigError(
            f"Encoder '{name}' must hold {CONFIG} as save_pretrained of a transformers "
            "model writes it, got none."
        )
    if not any(source.folder.glob("*.safetensors")):
        raise ConfigError(
            f"Encoder '{name}' must hold its weights as .safetensors, got none: "
            "pickled ones are not read. Save the model again with a current "
            "transformers."
        )
    return source


def _is_path(name: str) -> bool:
    """Tell a path from a name on the Hub, which is "model" or "owner/model"."""
    return name.startswith((".", "~", "/")) or name.count("/") > 1 or "\\" in name


def _snapshot(name: str, revision: str | None, download: bool) -> Path:
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError:
        raise ConfigError(
            f"Encoder '{name}' needs transformers, which is not installed. {EXTRA}"
        ) from None
    patterns = [*FILES, POOLING]
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
            "Give the path of its folder, or ask for the download: "
            f"PretrainedEncoder('{name}', download=True).",
        ) from None
