"""Limits on the content of files."""

import subprocess
import sys

import pytest

from mmgraph import limits
from mmgraph.errors import ConfigError


def test_limits_are_changed_inside_a_block_only():
    before = limits.current()
    with limits.override(table_bytes=5, csv_expansion=3):
        assert (limits.current().table_bytes, limits.current().csv_expansion) == (5, 3)
    assert limits.current() == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tables=5", r"Limit must be one of document_bytes, .*, got 'tables'\."),
        ("pixels=x", r"Limit pixels must be an integer of at least 1, got 'x'\."),
        ("pixels", r"Limit pixels must be an integer of at least 1, got ''\."),
        ("pixels=0", r"Limit pixels must be an integer of at least 1, got '0'\."),
    ],
)
def test_unknown_limits_are_refused(text, message):
    with pytest.raises(ConfigError, match=message):
        limits.parse(text)


def test_the_environment_changes_limits():
    program = "from mmgraph import limits; print(limits.current().pixels)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"MMGRAPH_LIMITS": "pixels=123"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "123\n"
