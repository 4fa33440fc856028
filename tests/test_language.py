"""Prose of the project: programs, models and data do not speak."""

from pathlib import Path

import language
import pytest

ROOT = Path(__file__).resolve().parent.parent
PLACES = (
    "README.md",
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "RELEASE.md",
    "SECURITY.md",
    "Makefile",
    "constraints.txt",
    "hatch_build.py",
    "pyproject.toml",
    ".github",
    "benchmarks",
    "conftest.py",
    "datasets",
    "docs",
    "examples",
    "mmgraph",
    "tools",
)


def test_places_exist():
    assert [place for place in PLACES if not (ROOT / place).exists()] == []


@pytest.mark.parametrize("place", PLACES)
def test_things_do_not_speak(place):
    files = list(language.files_of(ROOT / place))
    files += sorted((ROOT / place).rglob("*.yml")) if place == ".github" else []
    assert files
    assert [fault for path in files for fault in language.faults(path)] == []


@pytest.mark.parametrize(
    ("name", "text", "num_faults"),
    [
        ("a.md", "The model says yes.\nIt was told so.", 2),
        ("a.md", "Visual question answering with untrusted files.", 0),
        ("a.py", '"""Ask the model."""\n# what a node hears\nasked = 1', 2),
        ("a.py", "def tell(x):\n    return x", 0),
    ],
)
def test_planted_words_are_found(tmp_path, name, text, num_faults):
    (tmp_path / name).write_text(text, "utf-8")
    assert len(list(language.faults(tmp_path / name))) == num_faults
