"""The structure of the package: no import circle, and folders that stay small."""

import tomllib
from pathlib import Path

import import_graph
import networkx as nx

ROOT = Path(__file__).parents[1]


def test_there_is_no_import_circle():
    assert import_graph.circles(import_graph.build_graph()) == []


def test_a_planted_circle_is_found():
    graph = import_graph.build_graph().copy()
    graph.add_edge("mmgraph.schema", "mmgraph.estimators.base")
    assert any("mmgraph.schema" in circle for circle in import_graph.circles(graph))


def test_the_graph_holds_lazy_imports():
    graph = import_graph.build_graph()
    # inside a function, under TYPE_CHECKING, and at the top of a module
    assert graph.has_edge("mmgraph.workflows.saved_model", "mmgraph.workflows.load")
    assert graph.has_edge("mmgraph.estimators.retriever", "mmgraph.retrieval")
    assert graph.has_edge("mmgraph.estimators.classifier", "mmgraph.schema")
    assert nx.is_directed(graph)


def test_estimators_are_a_thin_facade():
    graph = import_graph.build_graph()
    files = [n for n in graph if n.startswith("mmgraph.estimators")]
    assert len(files) <= 15
    assert import_graph.inner_imports(graph, "mmgraph.estimators") <= 40


def test_shapes_are_checked_in_every_module_that_declares_them():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (option,) = (
        text
        for text in options["tool"]["pytest"]["ini_options"]["addopts"]
        if text.startswith("--jaxtyping-packages=")
    )
    *checked, _ = option.partition("=")[2].split(",")
    declaring = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in (ROOT / "mmgraph").rglob("*.py")
        if "from jaxtyping import" in path.read_text(encoding="utf-8")
    ]
    assert declaring
    for module in declaring:
        assert any(module == name or module.startswith(f"{name}.") for name in checked)
