"""Every package that mmgraph imports is declared, with a lower bound."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted((ROOT / "mmgraph").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Import names that differ from the name of the distribution.
DISTRIBUTIONS = {
    "PIL": "pillow",
    "faiss": "faiss-cpu",
    "ot": "pot",
    "sklearn": "scikit-learn",
}
# Extras of the library itself; the others are for development.
TOOLS = {"all", "dev", "docs"}


def distribution(module: str) -> str:
    """Return the name of the distribution that a module belongs to."""
    top = module.partition(".")[0]
    return DISTRIBUTIONS.get(top, top.replace("_", "-")).lower()


def declared(requirements: list[str]) -> set[str]:
    names = (re.match(r"[A-Za-z0-9._-]+", entry) for entry in requirements)
    return {match[0].lower() for match in names if match} - {"mmgraph"}


def foreign(node: ast.AST) -> list[str]:
    """Return the distributions of a statement, without the standard library."""
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        modules = [node.module]
    else:
        return []
    tops = {module.partition(".")[0] for module in modules}
    return [distribution(top) for top in tops - sys.stdlib_module_names - {"mmgraph"}]


def is_typing_block(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def at_import(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run when a module is imported."""
    for node in ast.iter_child_nodes(tree):
        if is_typing_block(node):
            continue
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from at_import(node)


def undeclared(source: str) -> set[str]:
    """Return what a file imports without a declaration, or too early for an extra."""
    tree = ast.parse(source)
    core = declared(PROJECT["dependencies"])
    optional = set().union(*(declared(EXTRAS[e]) for e in EXTRAS.keys() - TOOLS))
    early = {name for node in at_import(tree) for name in foreign(node)}
    anywhere = {name for node in ast.walk(tree) for name in foreign(node)}
    return (early - core) | (anywhere - core - optional)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_are_declared(path):
    assert undeclared(path.read_text("utf-8")) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import requests", {"requests"}),
        ("def f():\n    import requests", {"requests"}),
        ("class A:\n    import pandas as pd", {"pandas"}),
        ("try:\n    import faiss\nexcept ImportError:\n    pass", {"faiss-cpu"}),
        ("def f():\n    import faiss\n    from PIL import Image", set()),
        ("if TYPE_CHECKING:\n    import pandas", set()),
        ("import os, torch\nfrom sklearn.base import clone\nfrom . import x", set()),
    ],
)
def test_undeclared_imports_are_found(source, found):
    assert undeclared(source) == found


def test_core_dependencies_are_imported():
    sources = (ast.parse(path.read_text("utf-8")) for path in FILES)
    used = {name for tree in sources for n in ast.walk(tree) for name in foreign(n)}
    assert declared(PROJECT["dependencies"]) - used == set()


def test_every_dependency_has_a_lower_bound(monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "tools")
    from minimum_versions import lower_bounds, main

    requirements = PROJECT["dependencies"] + [r for e in EXTRAS.values() for r in e]
    assert set(lower_bounds(requirements)) == declared(requirements)
    main(["pandas"])
    assert "pandas==" in capsys.readouterr().out
    with pytest.raises(ValueError, match="'numpy' must have a lower bound"):
        lower_bounds(["numpy"])


def test_citation_has_the_version():
    import mmgraph

    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {mmgraph.__version__}\n" in citation
