"""Provenance of a result: commit, versions, machine and time."""

import functools
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import mmgraph

PACKAGES = ("torch", "numpy", "scikit-learn", "torch-geometric")


@functools.cache
def read_commit(folder: Path | None = None) -> str:
    """Return the commit of the checkout that mmgraph is imported from.

    Args:
        folder: A folder of the checkout; default: the folder of the package.

    Returns:
        The hash, with "-dirty" if tracked files differ from it; the version of mmgraph
        if there is no checkout or no git.
    """
    folder = folder or Path(mmgraph.__file__).parent
    if not (folder.parent / ".git").exists():
        return mmgraph.__version__
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return mmgraph.__version__
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return f"{commit}-dirty" if changed else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@functools.cache
def read_versions() -> dict[str, str]:
    """Return the versions of Python, mmgraph and its numerical dependencies."""
    import platform
    from importlib.metadata import version

    own = {"python": platform.python_version(), "mmgraph": mmgraph.__version__}
    return own | {name: version(name) for name in PACKAGES}


def describe_run(command: str, config: BaseModel) -> dict[str, Any]:
    """Return one record of a run: command, options, commit, versions, machine."""
    import os
    import platform

    return {
        "command": command,
        "options": config.model_dump(mode="json", exclude={"output", "fresh"}),
        "commit": read_commit(),
        "versions": read_versions(),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count() or 1,
        },
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }
