"""What no file of the project may contain, read from its syntax tree and text."""

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import mmgraph

ROOT = Path(__file__).resolve().parent.parent
CORE = sorted((ROOT / "mmgraph").rglob("*.py"))
FOLDERS = ("mmgraph", "datasets", "examples", "benchmarks")
CHECKED = sorted(p for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))

# Dotted names, after aliases are resolved; a banned name bans what is inside it.
BANNED = (
    "builtins.eval",
    "builtins.exec",
    "cloudpickle",
    "dill",
    "eval",
    "exec",
    "joblib",
    "marshal",
    "numpy.nan_to_num",
    "pickle",
    "shelve",
    "torch.hub",
    "torch.jit.load",
    "torch.load",
    "torch.nan_to_num",
    "torch.package",
    "torch.serialization",
    "torch_geometric.io.fs.torch_load",
    "torchvision",
    "yaml.full_load",
    "yaml.load",
    "yaml.unsafe_load",
)
# Methods that are banned whatever they are called on.
BANNED_METHODS = ("nan_to_num", "nan_to_num_", "read_pickle", "to_pickle", "torch_load")
HOMES = "work|tmp|home|root|Users|mnt|scratch"
MACHINE_PATH = re.compile(rf"(?<![\w.~/\-])/(?:{HOMES})(?:/|\b)|\b[A-Z]:\\\\?\w")


def _is_banned(name: str) -> bool:
    return any(name == banned or name.startswith(banned + ".") for banned in BANNED)


def _imports(tree: ast.AST) -> dict[str, str]:
    """Map each local name to the dotted name that it was imported from."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                names[alias.asname or top] = alias.name if alias.asname else top
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return names


def _dotted(node: ast.expr, aliases: dict[str, str]) -> str:
    """Return the dotted name of an expression; "" where it has none."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        start = _dotted(node.value, aliases)
        return f"{start}.{node.attr}" if start else ""
    return ""


def _modules(node: ast.AST) -> list[str]:
    """Return the dotted names that an import statement binds or loads."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _call_faults(node: ast.Call, aliases: dict[str, str], may_print: bool) -> list[str]:
    name = _dotted(node.func, aliases)
    faults = []
    if name == "print" and not may_print:
        faults.append("print")
    for keyword in node.keywords:
        off = isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        if keyword.arg == "allow_pickle" and not off:
            faults.append("allow_pickle")
    if name in {"__import__", "importlib.import_module"}:
        texts = [arg.value for arg in node.args if isinstance(arg, ast.Constant)]
        faults += [text for text in texts if isinstance(text, str) and _is_banned(text)]
    return faults


def _faults(source: str, *, may_print: bool = False) -> Iterator[str]:
    """Yield "line: what" for everything in the source that is banned."""
    tree = ast.parse(source)
    aliases = _imports(tree)
    for node in ast.walk(tree):
        found = [name for name in _modules(node) if _is_banned(name)]
        if isinstance(node, ast.Name | ast.Attribute):
            name = _dotted(node, aliases)
            found += [name] if _is_banned(name) else []
        if isinstance(node, ast.Attribute) and node.attr in BANNED_METHODS:
            found.append(node.attr)
        if isinstance(node, ast.Call):
            found += _call_faults(node, aliases, may_print)
        yield from (f"{getattr(node, 'lineno', 0)}: {what}" for what in found)
    yield from _path_faults(source)


def _path_faults(text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        if MACHINE_PATH.search(line):
            yield f"{number}: machine path"


BAD = {
    "import pickle": "pickle",
    "from pickle import loads": "pickle.loads",
    "import cloudpickle as cp": "cloudpickle",
    "import joblib": "joblib",
    "from joblib import dump": "joblib.dump",
    "import importlib\nimportlib.import_module('pickle')": "pickle",
    "__import__('joblib')": "joblib",
    "import torch\ntorch.load('x')": "torch.load",
    "import torch as t\nt.load('x')": "torch.load",
    "from torch import load\nload('x')": "torch.load",
    "import torch\nread = torch.load": "torch.load",
    "import torch\ntorch.serialization.load('x')": "torch.serialization",
    "from torch_geometric.io import fs\nfs.torch_load('x')": "torch_load",
    "import numpy as np\nnp.load('x', allow_pickle=True)": "allow_pickle",
    "import numpy as np\nflag = 1\nnp.load('x', allow_pickle=flag)": "allow_pickle",
    "import pandas as pd\npd.read_pickle('x')": "read_pickle",
    "import yaml\nyaml.load('x')": "yaml.load",
    "from yaml import load": "yaml.load",
    "eval('1')": "eval",
    "exec('1')": "exec",
    "import builtins\nbuiltins.eval('1')": "builtins.eval",
    "print('x')": "print",
    "import torchvision": "torchvision",
    "from torchvision.transforms import Resize": "torchvision",
    "import numpy as np\nnp.nan_to_num(x)": "nan_to_num",
    "x.nan_to_num(0.0)": "nan_to_num",
    "path = '/" + "home/someone/data'": "machine path",
    "# see /" + "work/main": "machine path",
    "path = '/" + "tmp'": "machine path",
    "path = 'C:" + "\\\\Users'": "machine path",
}
GOOD = (
    "import torch\nmodel.eval()\ntorch.save",
    "import numpy as np\nnp.load('x', allow_pickle=False)",
    "import yaml\nyaml.safe_load('x')",
    "from mmgraph.checkpoint import load\nload('x')",
    "console.print('x')",
    "url = 'https://example.org/home/work/x'\npath = 'runs/tmp/x'",
    "from . import pickle_free",
)


@pytest.mark.parametrize(("source", "what"), BAD.items())
def test_checker_fires_on_what_is_banned(source: str, what: str) -> None:
    assert any(what in fault for fault in _faults(source))


@pytest.mark.parametrize("source", GOOD)
def test_checker_accepts_what_is_allowed(source: str) -> None:
    assert list(_faults(source)) == []


@pytest.mark.parametrize("path", CHECKED, ids=lambda p: str(p.relative_to(ROOT)))
def test_file_contains_nothing_banned(path: Path) -> None:
    is_library = path.is_relative_to(ROOT / "mmgraph")
    may_print = not is_library or path == ROOT / "mmgraph" / "cli.py"
    source = path.read_text(encoding="utf-8")
    assert list(_faults(source, may_print=may_print)) == []


def test_other_texts_contain_no_machine_path() -> None:
    texts = [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("docs/**/*.md")]
    texts += [*ROOT.glob("datasets/*/card.md"), ROOT / "Makefile", ROOT / ".ci/run"]
    found = {p.name: list(_path_faults(p.read_text(encoding="utf-8"))) for p in texts}
    assert {name: faults for name, faults in found.items() if faults} == {}


@pytest.mark.parametrize("name", mmgraph.__all__)
def test_public_name_is_documented(name: str) -> None:
    value = getattr(mmgraph, name)
    # A class must have its own words: __doc__ would be inherited or made up.
    doc = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    assert doc, f"mmgraph.{name} has no docstring"
    assert not doc.startswith(f"{name}("), f"mmgraph.{name} needs its own docstring"
