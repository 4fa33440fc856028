"""Mutated files: every loader accepts them or raises an error of mmgraph."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_mutated_file_crashes_a_loader():
    from reliability.fuzz import count_kinds, fuzz

    outcomes = fuzz(100, seed=1_000_000, slow=10)
    bad = [o for o in outcomes if o.kind not in ("accepted", "refused")]
    assert bad == []
    table = count_kinds(outcomes)
    assert len(table) >= 15
    assert sum(kinds["refused"] for kinds in table.values()) > 500
