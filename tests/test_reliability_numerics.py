"""Numeric rows of the reliability table: they hold, and planted faults are caught."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mmgraph as mg
from mmgraph.serving import batch_invariant

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from reliability import invariants, numerics, source_check


def test_no_code_of_files_is_run():
    assert source_check.dangerous_uses() == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "np.load(path)",
        "np.load(path, allow_pickle=flag)",
        "eval(text)",
        "yaml.load(text)",
        "subprocess.run(command, shell=True)",
    ],
)
def test_planted_uses_are_found(source):
    assert list(source_check.dangerous(source))


def test_contents_of_masked_slots_change_nothing():
    assert invariants.differing_contents(6) == (0, 6)


def test_a_leak_of_masked_slots_is_found(monkeypatch):
    monkeypatch.setattr(mg.Batch, "drop", lambda self, *_: self)
    assert invariants.differing_contents(6)[0] > 0


@pytest.mark.slow
def test_batch_mates_and_order_change_little():
    assert invariants.change_by_batch_mates(torch.float64, (3, 17), 11) <= 1e-12
    assert invariants.change_by_batch_mates(torch.float32, (3, 17), 11) <= 1e-6
    assert invariants.change_by_order(torch.float64, 11) <= 1e-12


@pytest.mark.slow
def test_batch_mates_and_order_change_little_in_any_type():
    worst = invariants.largest_changes(30)
    assert worst[torch.float64] <= 1e-12
    assert worst[torch.float32] <= 1e-6
    assert 0 < worst[torch.bfloat16] <= 2**-7


@pytest.mark.slow
def test_edge_inputs_give_finite_outputs_or_named_errors():
    row = numerics.row_09(full=False)
    assert row.reached, row.figure


def test_a_foreign_error_and_a_nan_are_faults():
    assert numerics._fault(lambda: 1 / 0).startswith("ZeroDivisionError")
    assert numerics._fault(lambda: [np.nan]) == "not finite"
    assert numerics._fault(lambda: [1.0]) == ""


def test_samples_have_equal_bits_in_every_batch():
    model, data = numerics.make_model(), numerics.make_data(12)
    with batch_invariant():
        whole = model.predict_proba(data)
        for rows in ([3], [11, 3], range(5), [7] * 3):
            part = model.predict_proba(data[list(rows)])
            assert np.array_equal(part, whole[list(rows)])
        assert np.array_equal(model.transform(data[:2]), model.transform(data)[:2])
    np.testing.assert_allclose(model.predict_proba(data), whole, atol=1e-6)
