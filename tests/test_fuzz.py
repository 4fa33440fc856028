"""Mutated files: every loader accepts them or raises an error of mmgraph."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

# in a separate process: types of shapes are not checked outside of tests
PROGRAM = """
import json
from reliability.fuzz import count_kinds, fuzz
outcomes = fuzz(100, seed=1_000_000, slow=10)
print(json.dumps({k: dict(v) for k, v in count_kinds(outcomes).items()}))
"""


@pytest.mark.slow
def test_no_mutated_file_crashes_a_loader():
    folder = Path(__file__).parents[1] / "benchmarks"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    table = json.loads(done.stdout.splitlines()[-1])
    other = {k: v for k, v in table.items() if v.keys() - {"accepted", "refused"}}
    assert other == {}
    assert len(table) >= 15
    assert sum(kinds.get("refused", 0) for kinds in table.values()) > 500
