"""Import graph of the package, read from its syntax trees.

Imports inside functions and under ``TYPE_CHECKING`` count like any other. Run as a
program, it prints circles and the number of imports inside each folder.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import networkx as nx

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "mmgraph"


def module_name(path: Path) -> str:
    """Dotted name of a source file; that of the folder for ``__init__.py``."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def build_graph() -> nx.DiGraph:
    """Modules of the package, and an edge for each import between them."""
    files = {module_name(p): p for p in sorted((ROOT / PACKAGE).rglob("*.py"))}
    graph = nx.DiGraph()
    graph.add_nodes_from(files)
    for name, path in files.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for target in _imports(tree, files.keys()):
            if target != name:
                graph.add_edge(name, target)
    return graph


def _imports(tree: ast.AST, modules: "set[str] | object") -> Iterator[str]:
    known = set(modules)  # type: ignore[call-overload]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                target = inner if inner in known else node.module
                if target in known and target != PACKAGE:
                    yield target


def circles(graph: nx.DiGraph) -> list[list[str]]:
    """Groups of modules that import each other."""
    groups = nx.strongly_connected_components(graph)
    return sorted(sorted(group) for group in groups if len(group) > 1)


def inner_imports(graph: nx.DiGraph, folder: str) -> int:
    """Number of imports between the files of one folder."""
    inside = {n for n in graph if n == folder or n.rpartition(".")[0] == folder}
    return graph.subgraph(inside).number_of_edges()


if __name__ == "__main__":
    graph = build_graph()
    for circle in circles(graph):
        print("circle:", ", ".join(circle))
    folders = Counter(n.rpartition(".")[0] for n in graph)
    for folder, files in sorted(folders.items()):
        if folder:
            print(f"{folder}: {files} files, {inner_imports(graph, folder)} imports")
