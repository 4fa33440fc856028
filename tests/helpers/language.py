"""Words that the project does not use of programs, models and data.

Run as a program, it prints every place in the given files or folders::

    python tests/helpers/language.py mmgraph docs README.md
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

# Models predict, functions return, files contain: things do not speak.
BANNED = re.compile(
    r"""\b(
      say|says|said|saying|tell|tells|told|telling|ask|asks|asked|asking
      |answer|answers|answered|answering|hear|hears|heard|hearing
      |trust|trusts|trusted|knows|wants|has\ a\ say|have\ a\ say|has\ no\ say
      |anew|mend|mends|mended|beside|goes\ on|go\ on|went\ on|going\ on
      |one's\ own|of\ its\ own|of\ their\ own|the\ crowd
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)
# Terms of the field that contain such a word.
ALLOWED = re.compile(
    r"visual question answering|question answering|trusted publish|trusted multi-view"
    r"|question-answering|untrusted",
    re.IGNORECASE,
)


def faults(path: Path) -> Iterator[str]:
    """Yield "file:line: word: text" for every banned word of a file."""
    for number, text in _texts(path):
        plain = ALLOWED.sub("", text)
        for match in BANNED.finditer(plain):
            yield f"{path}:{number}: {match.group()}: {text.strip()[:100]}"


def _texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the prose of a file: strings and comments of code, lines of the rest."""
    source = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(source.splitlines(), 1)
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for offset, line in enumerate(node.value.splitlines()):
                yield node.lineno + offset, line
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def files_of(path: Path) -> Iterator[Path]:
    """Yield the files with prose of a folder, or the file itself."""
    if path.is_file():
        yield path
        return
    for suffix in ("py", "md", "rst", "html"):
        yield from sorted(path.rglob(f"*.{suffix}"))


if __name__ == "__main__":
    found = [f for a in sys.argv[1:] for p in files_of(Path(a)) for f in faults(p)]
    print("\n".join(found))
    sys.exit(bool(found))
