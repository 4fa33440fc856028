"""Project pages: decisions, experiments, changelog, contributing guide."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))
EXPERIMENTS = sorted((ROOT / "docs" / "experiments").glob("[!i]*.md"))
PAGES = [
    *DECISIONS,
    *EXPERIMENTS,
    *sorted((ROOT / "docs" / "benchmark").glob("*.md")),
    *(ROOT / f"{name}.md" for name in ("CONTRIBUTING", "RELEASE", "SECURITY")),
]
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
HALF_PAGE = 420  # words


@pytest.mark.parametrize("path", DECISIONS, ids=lambda p: p.name)
def test_a_decision_is_half_a_page_with_three_parts(path):
    text = path.read_text("utf-8")
    assert text.startswith(f"# {path.name[:3]} ")
    parts = ("**Context.**", "**Decision.**", "**Consequences.**")
    positions = [text.find(part) for part in parts]
    assert -1 not in positions
    assert positions == sorted(positions)
    assert len(text.split()) <= HALF_PAGE


@pytest.mark.parametrize("folder", ["decisions", "experiments"])
def test_the_index_lists_every_page(folder):
    index = (ROOT / "docs" / folder / "index.md").read_text("utf-8")
    pages = {p.name for p in DECISIONS + EXPERIMENTS if p.parent.name == folder}
    assert pages
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", index)) == pages


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.name)
def test_an_experiment_has_tables(path):
    assert re.search(r"^\|[-|: ]+\|$", path.read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_files_and_links_of_a_page_exist(path):
    text = path.read_text("utf-8")
    files = re.findall(r"`((?:mmgraph|tests|tools|docs|benchmarks)/[\w/.-]*)`", text)
    built = {"docs/_build/html"}
    missing = [n for n in files if n not in built and not (ROOT / n).exists()]
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    missing += [link for link in links if not (path.parent / link).exists()]
    assert missing == []


def test_the_contributing_guide_names_every_folder():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    folders = [
        p.name for p in (ROOT / "mmgraph").iterdir() if (p / "__init__.py").exists()
    ]
    assert len(folders) > 15
    assert [name for name in folders if f"`mmgraph/{name}/`" not in text] == []


def test_the_changelog_has_dated_releases_and_known_sections():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    first, *releases = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert first == "[Unreleased]"
    assert releases
    for release in releases:
        assert re.match(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", release)
    assert set(re.findall(r"^### (.*)$", text, re.MULTILINE)) <= KINDS
