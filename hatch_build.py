"""Build hook that compiles the C++ kernels of mmgraph.native.

Wheels and editable installs contain the compiled kernels if a C++ compiler is
available. Otherwise the package is pure Python and all computations run in PyTorch,
more slowly. ``MMGRAPH_PURE=1`` in the environment skips compilation and builds a pure
wheel (``py3-none-any``).

A compiled wheel is tagged for the platform it was built on, ``py3-none-linux_x86_64``
for instance. Package indexes do not accept that tag: ``auditwheel repair`` turns it
into a manylinux tag, see ``[tool.cibuildwheel]`` in pyproject.toml.
"""

import os
import platform
import runpy
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

FALLBACK = "mmgraph will use PyTorch operations instead of compiled kernels"
FOLDER = Path("mmgraph", "native")
OPTIONS = ("-std=c++17", "-O3", "-shared", "-fPIC")
ARITHMETIC = ("-fno-math-errno", "-ffp-contract=fast")
# One library per instruction set level; the best one the processor supports is loaded.
GENERATIONS = {
    "v4": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
    "v3": ("-march=x86-64-v3",),
}


class KernelHook(BuildHookInterface):
    """Add the compiled libraries to wheels and editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile the kernels and set the wheel tag; fall back to a pure wheel."""
        if self.target_name != "wheel" or os.environ.get("MMGRAPH_PURE") == "1":
            return
        built = list(compile_kernels(Path(self.root)))
        if built:
            build_data["artifacts"] += [f"/{path.as_posix()}" for path in built]
            build_data["pure_python"] = False
            name = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{name}"


def compile_kernels(root: Path) -> list[Path]:
    """Compile one library for each instruction set level of this machine.

    Args:
        root: Root of the repository.

    Returns:
        The compiled libraries, relative to ``root``; empty without a compiler.
    """
    compiler = shutil.which(os.environ.get("CXX") or "c++")
    if compiler is None or sys.platform == "win32":
        print(f"{FALLBACK}: no C++ compiler found", file=sys.stderr)
        return []
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    variants = {"any": (), **(GENERATIONS if x86 else {})}
    built = []
    for name, options in variants.items():
        path = FOLDER / f"kernels-{name}.so"
        if _compile(root, compiler, path, options):
            built.append(path)
    return built


def _compile(root: Path, compiler: str, path: Path, options: tuple[str, ...]) -> bool:
    """Compile one library, with OpenMP if the compiler supports it."""
    read = runpy.run_path(str(root / FOLDER / "sources.py"))
    sources = [str(FOLDER / name) for name in read["SOURCES"]]
    digest = f'-DMMGRAPH_SOURCES="{read["digest_sources"]()}"'
    message = ""
    for threads in (("-fopenmp",), ()):
        flags = *OPTIONS, *ARITHMETIC, *options, *threads, digest
        command = [compiler, *flags, *sources, "-o", str(path)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        if done.returncode == 0:
            return True
        message = done.stderr
    print(f"{FALLBACK}: {path.name} was not compiled: {message}", file=sys.stderr)
    return False


if __name__ == "__main__":
    for each in compile_kernels(Path(__file__).parent):
        print(each)
