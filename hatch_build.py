"""Compile the kernels of mmgraph.native where a C++ compiler is.

Without one the package is pure Python and runs on torch alone.
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

WITHOUT = "mmgraph runs on torch alone, slower"
FOLDER = Path("mmgraph", "native")
OPTIONS = ("-std=c++17", "-O3", "-shared", "-fPIC")
ARITHMETIC = ("-fno-math-errno", "-ffp-contract=fast")
# One library for each generation of processors: the fastest that runs is loaded.
GENERATIONS = {
    "v4": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
    "v3": ("-march=x86-64-v3",),
}


class KernelHook(BuildHookInterface):
    """Adds the compiled libraries to wheels and editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; on failure say so and go on without."""
        if self.target_name != "wheel":
            return
        built = list(compile_kernels(Path(self.root)))
        if built:
            build_data["artifacts"] += [f"/{path.as_posix()}" for path in built]
            build_data["pure_python"] = False
            name = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{name}"


def compile_kernels(root: Path) -> list[Path]:
    """Compile what this machine can; return the libraries, relative to ``root``."""
    compiler = shutil.which(os.environ.get("CXX") or "c++")
    if compiler is None or sys.platform == "win32":
        print(f"{WITHOUT}: no C++ compiler was found", file=sys.stderr)
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
    """Compile one library, with threads if the compiler has OpenMP."""
    read = runpy.run_path(str(root / FOLDER / "sources.py"))
    sources = [str(FOLDER / name) for name in read["SOURCES"]]
    digest = f'-DMMGRAPH_SOURCES="{read["digest_sources"]()}"'
    said = ""
    for threads in (("-fopenmp",), ()):
        flags = *OPTIONS, *ARITHMETIC, *options, *threads, digest
        command = [compiler, *flags, *sources, "-o", str(path)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        if done.returncode == 0:
            return True
        said = done.stderr
    print(f"{WITHOUT}: {path.name} was not compiled: {said}", file=sys.stderr)
    return False


if __name__ == "__main__":
    for each in compile_kernels(Path(__file__).parent):
        print(each)
