"""The documentation: complete reference pages, links, numbers and examples."""

import doctest
import importlib.util
import re
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import mmgraph
from mmgraph import typing

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
API = sorted((DOCS / "api").glob("*.md"))
MODULES = {
    # pages of their own
    "mmgraph": {
        *("alignment", "baselines", "corruption", "kernels"),
        *("metrics", "missing", "nn", "objectives", "plotting"),
    },
    "mmgraph.nn": {"Classification", "MultiLabel", "Regression"},  # the same classes
    "mmgraph.alignment": set(),
    "mmgraph.metrics": set(),
    "mmgraph.missing": {"MaskPlan"},
    "mmgraph.corruption": set(),
    "mmgraph.baselines": set(),
    "mmgraph.kernels": set(),
    "mmgraph.losses": set(),
    "mmgraph.objectives": set(),
    "mmgraph.plotting": set(),
    "mmgraph.serving": set(),
}
PAGES = [DOCS / "getting_started.md", *sorted((DOCS / "concepts").glob("*.md"))]
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
RESULTS = ROOT / "benchmarks" / "results" / "classification" / "table.md"
NUMBER = re.compile("[-\N{MINUS SIGN}]?\\d*\\.\\d+")


def load(name: str) -> ModuleType:
    """Return a script of the documentation as a module."""
    [path] = DOCS.glob(f"**/{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def listed_names() -> list[str]:
    """Return the full names in the summaries of the API pages, in order."""
    names = []
    for page in API:
        text = page.read_text("utf-8")
        names += re.findall(r"^\.\. py:data:: (\S+)$", text, re.MULTILINE)
        for block in text.split(".. currentmodule:: ")[1:]:
            module, rest = block.split("\n", 1)
            entries = rest.split("```")[0]
            names += [
                f"{module}.{name}"
                for name in re.findall(r"^   (\w+)$", entries, re.MULTILINE)
            ]
    return names


def test_every_type_is_on_the_page_of_types():
    page = (DOCS / "api" / "typing.md").read_text("utf-8")
    listed = re.findall(r"^\.\. auto(?:data|class):: (\w+)$", page, re.MULTILINE)
    assert sorted(listed) == sorted(typing.__all__)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_on_an_api_page(module):
    public = {f"{module}.{n}" for n in import_module(module).__all__}
    elsewhere = {f"{module}.{n}" for n in MODULES[module]}
    assert elsewhere <= public
    assert public - elsewhere - set(listed_names()) == set()


def test_api_pages_list_public_names_once():
    names = listed_names()
    assert len(names) == len(set(names))
    for name in names:
        module, last = name.rsplit(".", 1)
        assert last in import_module(module).__all__, f"{name} is not public"


def test_public_modules_have_a_page():
    modules = {
        name
        for name in mmgraph.__all__
        if isinstance(getattr(mmgraph, name), ModuleType)
    }
    assert modules == MODULES["mmgraph"]
    found = "".join(page.read_text("utf-8") for page in API)
    for module in MODULES:
        assert f".. py:module:: {module}\n" in found


def test_links_of_the_readme_exist():
    readme = (ROOT / "README.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)#]+)(#[^)]*)?\)", readme)
    local = [link for link, _ in links if not link.startswith(("http:", "https:"))]
    assert local
    assert [link for link in local if not (ROOT / link).exists()] == []


def _numbers(text):
    return [float(n.replace("\N{MINUS SIGN}", "-")) for n in NUMBER.findall(text)]


def test_results_in_the_readme_are_those_of_the_committed_table():
    readme = (ROOT / "README.md").read_text("utf-8")
    block = readme.split("<!-- results -->")[1].split("<!-- /results -->")[0]
    table = RESULTS.read_text("utf-8")
    ranks = re.search(r"^\| model \| mean rank .*\n.*\n(?:\|.*\n)+", table, re.M)[0]
    lines = [line.strip("| \n").split(" | ") for line in ranks.splitlines()]
    without_edges = dict(
        zip(lines[0], next(x for x in lines if "no_edges" in x[0]), strict=True)
    )
    rows = [row.strip("| ").split(" | ") for row in block.splitlines() if "`" in row]
    assert len(rows) == 12
    for name, score, ours, plain, best, difference, p in rows:
        [line] = re.findall(rf"^\| {name} \| {score} \| .*\]  *\|.*\|$", table, re.M)
        mean, _, other, _, *interval, _ = _numbers(line)
        assert best.split("`")[1] in line
        assert _numbers(ours) == [mean]
        assert _numbers(plain) == _numbers(without_edges[name])
        assert _numbers(best) == [other]
        assert _numbers(difference) == interval
        assert line.endswith(f"| {p} |")


def test_docs_extra_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extra = project["optional-dependencies"]["docs"]
    needed = {re.match(r"[\w-]+", entry)[0] for entry in extra} - {"mmgraph"}
    pins = (ROOT / "constraints.txt").read_text("utf-8")
    pinned = set(re.findall(r"^([\w-]+)==", pins, re.MULTILINE))
    assert len(needed) >= 6
    assert needed <= pinned


def test_extras_are_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    page = (DOCS / "getting_started.md").read_text("utf-8")
    explained = set(re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE))
    assert explained == set(project["optional-dependencies"])


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_examples_of_a_page_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(page), module_relative=False, optionflags=OPTIONS)
    assert result.failed == 0
    has_examples = ">>>" in page.read_text("utf-8")
    assert bool(result.attempted) == has_examples


# Scripts of the site


def test_examples_without_their_packages_are_listed_but_not_run(tmp_path):
    conf = load("conf")
    (tmp_path / "plain.py").write_text("import numpy as np\nfrom . import x")
    assert re.search(conf._executed(tmp_path), f"{tmp_path}/plain.py")

    body = "def f():\n    from no_such_package.part import x"
    (tmp_path / "needs_more.py").write_text(body)
    pattern = conf._executed(tmp_path)
    assert conf._imported(tmp_path / "needs_more.py") == {"no_such_package"}
    assert re.search(pattern, f"{tmp_path}/plain.py")
    assert not re.search(pattern, f"{tmp_path}/needs_more.py")


def test_dead_links_of_a_site_are_found(tmp_path, monkeypatch, capsys):
    check_links = load("check_links")
    good = '<a href="b.html#there">b</a><a href="https://x.org">x</a><img src="c.svg">'
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(good + '<a href="sub/">s</a>', "utf-8")
    (tmp_path / "b.html").write_text('<p id="there">b</p><a href="#there">b</a>')
    (tmp_path / "c.svg").write_text("<svg/>")
    (tmp_path / "sub" / "index.html").write_text('<a href="../a.html">a</a>')
    monkeypatch.setattr(sys, "argv", ["check_links.py", str(tmp_path)])
    assert check_links.find_dead_links(tmp_path) == []
    assert check_links.main() == 0

    (tmp_path / "b.html").write_text('<a href="#there">b</a><img src="no.png">')
    assert check_links.find_dead_links(tmp_path) == [
        "a.html: b.html#there",
        "b.html: #there",
        "b.html: no.png",
    ]
    assert check_links.main() == 1
    assert "3 dead links" in capsys.readouterr().out


def test_a_site_without_pages_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["check_links.py", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"has no HTML files\. Build the site"):
        load("check_links").main()


@pytest.mark.parametrize(
    ("source", "depth", "expected"),
    [
        ("[x](serving.md)", 0, "[x](serving.md)"),
        ("[x](../serving.md#a)", 1, "[x](../serving.md#a)"),
        ("[x](../CHANGELOG.md)", 0, "[x](/changelog.md)"),
        ("[x](../../benchmarks/results)", 1, "[x](/results/index.md)"),
        ("[the list](../benchmarks/a.py)", 0, "the list (`benchmarks/a.py`)"),
        ("[`benchmarks/a.py`](../benchmarks/a.py)", 0, "`benchmarks/a.py`"),
    ],
)
def test_links_out_of_the_documentation_stay_within_the_site(source, depth, expected):
    assert load("repository_links").rewrite(source, depth) == expected
