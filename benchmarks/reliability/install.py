"""Row 17: an install with core dependencies alone."""

import ast
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from reliability.row import Row

ROOT = Path(__file__).resolve().parents[2]
MAX_SECONDS = 0.3
# Import names of the packages of extras, by the name of the distribution.
IMPORTS = {"pillow": "PIL", "faiss-cpu": "faiss", "pot": "ot"}
TOOLS = ("dev", "docs")  # extras of the project, not of the library
MARKS = "not slow and not long and not gpu"
CORE = "tests/data tests/estimators tests/graph tests/nn tests/test_checkpoint.py"

IMPORT = """
import time
import torch
start = time.process_time()
import mmgraph
print(time.process_time() - start)
"""
HIDE = """
import sys
from importlib.machinery import PathFinder
HIDDEN = set({hidden!r})
class Hide(PathFinder):  # as if the packages were not installed
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] not in HIDDEN:
            return PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [Hide if each is PathFinder else each for each in sys.meta_path]
"""
USE = """
import sys
import numpy as np
import mmgraph as mg
train, test = mg.load_dataset("heart").split(seed=0)
clf = mg.FusionClassifier(epochs=1, members=1, experts=("linear",)).fit(train)
clf.save_pretrained("model")
test.to_parquet("test.parquet")
mg.FusionClassifier.from_pretrained("model").predict(test)
print(mg.evaluate(clf, test, [0, 0.5]))
"""
COMMAND = """
from mmgraph.cli.app import app
failed = 0
for command in {commands!r}:
    try:
        app(list(command))
    except SystemExit as end:
        failed += bool(end.code)
    except BaseException:
        failed += 1
print("failed", failed)
"""
COMMANDS = (
    ("predict", "model", "test.parquet", "--output", "p.csv"),
    ("evaluate", "model", "test.parquet"),
    ("schema", "test.parquet"),
)


def row_17(full: bool) -> Row:
    """Import, use and command line without the packages of any extra.

    Args:
        full: Install a wheel without extras in a separate environment, and run a part
            of the tests there; otherwise, packages of extras are hidden.
    """
    if full:
        seconds = min(float(_python(IMPORT).stdout) for _ in range(3))
        failed, total = _run_in_new_environment(), 1
    else:
        failed, seconds = _run_hidden()
        total = 1 + len(COMMANDS)
    figure = f"{failed} of {total} runs failed; import {seconds:.3f} CPU-s over torch"
    return Row(
        17,
        "an install with core dependencies alone",
        f"everything runs; import under {MAX_SECONDS} CPU-seconds over torch",
        figure,
        not failed and seconds < MAX_SECONDS,
    )


def hidden_modules() -> list[str]:
    """Return the import names of the packages that only extras install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    core = set(map(_name, project["dependencies"]))
    extras = {
        _name(requirement)
        for extra, requirements in project["optional-dependencies"].items()
        for requirement in requirements
        if extra not in TOOLS
    }
    names = extras - core - {"mmgraph"}
    return sorted(IMPORTS.get(name, name.replace("-", "_")) for name in names)


def _name(requirement: str) -> str:
    for mark in "[<>=~!; ":
        requirement = requirement.partition(mark)[0]
    return requirement.lower()


def _run_hidden() -> tuple[int, float]:
    """Return the runs that fail without the packages of extras, and the import time."""
    hide = HIDE.format(hidden=hidden_modules())
    with tempfile.TemporaryDirectory() as folder:
        commands = COMMAND.format(commands=COMMANDS)
        run = _python(hide + IMPORT + USE + commands, cwd=folder)
    lines = run.stdout.splitlines() or [""]
    last = lines[-1].split()
    failed = int(last[1]) if last[:1] == ["failed"] else 1 + len(COMMANDS)
    return failed, float(lines[0] or "inf")


def _run_in_new_environment() -> int:
    """Return 1 if tests fail in an environment with core dependencies, else 0."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "bin" / "python"
        install = python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt"
        tools = "pytest", "pytest-xdist", "hypothesis", "beartype", "torchmetrics"
        steps = (
            (sys.executable, "-m", "venv", folder),
            (*install, ROOT, *tools),
            (python, "-m", "pytest", "-q", "-m", MARKS, *_tests_without_extras()),
        )
        return int(any(subprocess.run(step, cwd=ROOT).returncode for step in steps))


def _tests_without_extras() -> list[str]:
    """Return the files of tests that import no package of an extra themselves."""
    hidden, paths = set(hidden_modules()), []
    for name in CORE.split():
        path = ROOT / name
        paths += sorted(path.rglob("test_*.py")) if path.is_dir() else [path]
    return [str(path) for path in paths if not hidden & _imported(path)]


def _imported(path: Path) -> set[str]:
    """Return the packages that a file imports at its top level."""
    found = set()
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(str(node.module).partition(".")[0])
    return found


def _python(program: str, cwd: str | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", program], cwd=cwd, capture_output=True, text=True
    )
