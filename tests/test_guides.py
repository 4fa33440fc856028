"""The code of the user guides, run in the order in which a reader meets it.

Blocks of ``python`` are doctests that share one namespace per page; blocks of ``bash``
run in the same temporary folder. A block that cannot run here (several GPUs, a data
set that is not shipped) follows a line ``<!-- not run: reason -->``.
"""

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
GUIDES = ROOT / "docs" / "guides"
PAGES = sorted(GUIDES.glob("*.md"))
FENCE = re.compile(
    r"^(?P<indent> *)(?P<fence>`{3,})(?P<info>[^\n`]*)\n(?P<body>.*?)^ *(?P=fence) *$",
    re.MULTILINE | re.DOTALL,
)
NOT_RUN = re.compile(r"<!-- not run: [^>\n]+ -->\s*\Z")
NUMBER = re.compile(r"[-\N{MINUS SIGN}]?\d*\.\d+(?:e[-+]?\d+)?")
LANGUAGES = {"python", "bash", "text", "toml", "json", "csv", ""}
TOLERANCE = 0.06  # fits differ between processors: a sample or two of a small test part
OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
# pages that take the longest, about 15 seconds or more of one core
LONG = {
    "command_line",
    "sensors",
    "tuning",
    "retrieval_matching",
    "benchmarking",
    "incomplete_cohort",
    "images_texts_sounds",
    "serving",
    "large_data",
    "schemas_and_layers",
    "distributed",
    "survival",
}
RUNS = [
    pytest.param(
        page,
        id=page.stem,
        marks=pytest.mark.long if page.stem in LONG else pytest.mark.slow,
    )
    for page in PAGES
]


class Block(NamedTuple):
    """A fenced block of a page: its language, line number and content."""

    language: str
    line: int
    body: str


def blocks(text: str) -> Iterator[Block]:
    """Yield the blocks that must run, in order."""
    for match in FENCE.finditer(text):
        language = match["info"].strip()
        if language in ("python", "bash") and not NOT_RUN.search(text[: match.start()]):
            line = text.count("\n", 0, match.start()) + 1
            yield Block(language, line, match["body"])


class NearNumbers(doctest.OutputChecker):
    """Compares text as doctest does, and decimal numbers up to a tolerance."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        """Return True where the output is as expected."""
        if super().check_output(want, got, optionflags):
            return True
        if len(NUMBER.findall(want)) != len(NUMBER.findall(got)):
            return False
        pairs = zip(NUMBER.findall(want), NUMBER.findall(got), strict=True)
        near = all(abs(_value(a) - _value(b)) <= TOLERANCE for a, b in pairs)
        blank = [NUMBER.sub("#", text) for text in (want, got)]
        return near and super().check_output(*blank, optionflags)


def _value(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-"))


def run_python(page: str, block: Block, names: dict[str, object]) -> None:
    """Run one block as a doctest; fail with what it printed."""
    test = doctest.DocTestParser().get_doctest(
        block.body, names, f"{page}, line {block.line}", page, block.line
    )
    assert test.examples, f"{page}:{block.line}: a python block must have >>> examples"
    runner = doctest.DocTestRunner(NearNumbers(), optionflags=OPTIONS, verbose=False)
    printed: list[str] = []
    runner.run(test, out=printed.append, clear_globs=False)
    if runner.failures:
        pytest.fail("".join(printed), pytrace=False)
    names.update(test.globs)


def run_bash(page: str, block: Block, folder: Path) -> None:
    """Run one block in bash; fail with what it wrote to standard error."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    script = (
        f'mmgraph() {{ "{sys.executable}" -m mmgraph "$@"; }}\nset -e\n{block.body}'
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=env, capture_output=True, text=True
    )
    if done.returncode:
        pytest.fail(f"{page}:{block.line}\n{done.stdout}\n{done.stderr}", pytrace=False)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("page", RUNS)
def test_the_code_of_a_guide_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    # not "__main__", in whose file Python 3.13 looks for the source of classes
    module = ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", module)
    names: dict[str, object] = vars(module)
    for block in blocks(page.read_text("utf-8")):
        if block.language == "python":
            run_python(page.name, block, names)
        else:
            run_bash(page.name, block, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_of_a_guide_name_their_language(page: Path):
    for match in FENCE.finditer(page.read_text("utf-8")):
        info = match["info"].strip()
        assert info in LANGUAGES or info.startswith("{"), f"{page.name}: {info!r}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_of_a_guide_resolve(page: Path):
    text = FENCE.sub("", page.read_text("utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            assert anchor in anchors(file), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub and MyST make them."""
    text = FENCE.sub("", page.read_text("utf-8"))
    found = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


def test_every_guide_is_in_the_index():
    index = (GUIDES / "index.md").read_text("utf-8")
    listed = set(re.findall(r"^([a-z_]+)$", index, re.MULTILINE))
    assert listed == {page.stem for page in PAGES} - {"index"}


def test_numbers_are_compared_up_to_a_tolerance():
    check = NearNumbers().check_output
    assert check("auroc .902 of 12\n", "auroc 0.91 of 12\n", OPTIONS)
    assert not check("auroc .902 of 12\n", "auroc .802 of 12\n", OPTIONS)
    assert not check("auroc .902 of 12\n", "auroc .902 of 13\n", OPTIONS)
