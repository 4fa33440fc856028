import ctypes

import pytest
import torch
import torch.nn.functional as F

from mmgraph import ops

INDEX = torch.tensor([0, 0, 2, 2, 2, 5])
NUM_SEGMENTS = 7  # 1, 3, 4 and 6 are empty


def rows(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def by_segment(x, reduce, index=INDEX):
    """Reduce the rows of each segment with a plain loop; empty ones are zero."""
    result = torch.zeros(*x.shape[:-2], NUM_SEGMENTS, x.shape[-1], dtype=x.dtype)
    for s in index.unique():
        result[..., s, :] = reduce(x[..., index == s, :])
    return result


REFERENCES = {
    "segment_sum": lambda part: part.sum(-2),
    "segment_mean": lambda part: part.mean(-2),
    "segment_max": lambda part: part.amax(-2),
}


def test_a_row_is_present_where_one_of_its_cells_is_known():
    nan = float("nan")
    tables = [
        torch.tensor([[1.0, nan], [nan, nan]]),
        torch.tensor([[nan], [torch.inf]]),
    ]
    assert ops.present_rows(tables).tolist() == [[True, False], [False, True]]
    assert ops.present_rows([x[:0] for x in tables]).shape == (0, 2)


@pytest.mark.parametrize("index", [INDEX, INDEX.flip(0)], ids=["sorted", "unsorted"])
@pytest.mark.parametrize("leading", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("name", REFERENCES)
def test_segments_equal_a_loop(name, leading, index):
    x = rows(*leading, 6, 4)
    function = getattr(ops, name)
    result = function(x, index, NUM_SEGMENTS)
    torch.testing.assert_close(result, by_segment(x, REFERENCES[name], index))
    assert not result[..., [1, 3, 4, 6], :].any()
    assert torch.autograd.gradcheck(lambda x: function(x, index, NUM_SEGMENTS), x)


@pytest.mark.parametrize("name", REFERENCES)
def test_segments_of_no_rows_are_zero(name):
    result = getattr(ops, name)(torch.empty(0, 4), torch.empty(0).long(), 3)
    assert torch.equal(result, torch.zeros(3, 4))


def test_a_maximum_of_negative_rows_is_negative():
    x = torch.tensor([[-3.0], [-2.0], [-5.0]])
    result = ops.segment_max(x, torch.tensor([0, 0, 2]), 3)
    assert result.tolist() == [[-2.0], [0.0], [-5.0]]


@pytest.mark.parametrize("leading", [(), (3,)], ids=str)
@pytest.mark.parametrize("with_sink", [False, True])
def test_softmax_equals_a_loop(with_sink, leading):
    logits = rows(*leading, 6, 2)
    sink = rows(*leading, NUM_SEGMENTS, 2) if with_sink else None
    weight = ops.segment_softmax(logits, INDEX, NUM_SEGMENTS, sink)
    expected = torch.zeros_like(weight)
    for s in INDEX.unique():
        part = logits[..., s == INDEX, :]
        if sink is not None:
            part = torch.cat([part, sink[..., [s], :]], -2)
        share = part.softmax(-2)
        count = int((s == INDEX).sum())
        expected[..., s == INDEX, :] = share[..., :count, :]
    torch.testing.assert_close(weight, expected)
    inputs = [logits] if sink is None else [logits, sink]
    assert torch.autograd.gradcheck(
        lambda *t: ops.segment_softmax(t[0], INDEX, NUM_SEGMENTS, *t[1:]), inputs
    )


def test_softmax_weights_sum_to_one_without_a_sink_and_less_with_one():
    logits = torch.randn(6, 2)
    weight = ops.segment_softmax(logits, INDEX, NUM_SEGMENTS)
    total = ops.segment_sum(weight, INDEX, NUM_SEGMENTS)
    torch.testing.assert_close(total[[0, 2, 5]], torch.ones(3, 2))
    sink = torch.zeros(NUM_SEGMENTS, 2)
    weight = ops.segment_softmax(logits, INDEX, NUM_SEGMENTS, sink)
    assert (ops.segment_sum(weight, INDEX, NUM_SEGMENTS) < 1).all()


def test_softmax_of_huge_logits_is_finite():
    logits = torch.tensor([[1e4], [1e4], [-1e4], [-1e4], [-1e4], [3e4]])
    weight = ops.segment_softmax(logits, INDEX, NUM_SEGMENTS)
    expected = torch.tensor([1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3, 1.0])
    torch.testing.assert_close(weight[:, 0], expected)
    sink = torch.full((NUM_SEGMENTS, 1), 3e4)
    weight = ops.segment_softmax(logits, INDEX, NUM_SEGMENTS, sink)
    assert weight[:, 0].tolist() == [0, 0, 0, 0, 0, 0.5]


def test_softmax_of_no_rows_is_empty():
    weight = ops.segment_softmax(torch.empty(0, 2), torch.empty(0).long(), 3)
    assert weight.shape == (0, 2)


def test_statistics_equal_a_loop_and_leave_missing_cells_out():
    x = torch.randn(12, 3, dtype=torch.float64)
    x[torch.rand(12, 3) < 0.3] = torch.nan
    index = torch.tensor([0] * 5 + [1] * 4 + [3] * 3)
    x[9:, 1] = torch.nan  # a channel that segment 3 never observed
    x[9:, 2] = torch.tensor([torch.nan, 7.0, torch.nan])  # a single observation
    result = ops.segment_statistics(x, index, 5).view(5, 5, 3)  # statistic, channel
    for s in range(5):
        for c in range(3):
            column = x[index == s, c]
            seen = column[~column.isnan()]
            if not len(seen):
                assert result[s, :, c].isnan().all()
                continue
            step = column.diff().abs()
            step = step[~step.isnan()]
            expected = [
                seen.mean(),
                seen.std(correction=0).clamp(min=1e-6),
                seen.min(),
                seen.max(),
                step.mean() if len(step) else torch.tensor(0.0),
            ]
            for got, want in zip(result[s, :, c], expected, strict=True):
                assert float(got) == pytest.approx(float(want), abs=1e-12)
    assert result[2].isnan().all()
    assert not result[3, :, 2].isnan().any()


def test_a_single_row_has_a_tiny_deviation_and_no_step():
    result = ops.segment_statistics(torch.tensor([[2.0, -3.0]]), torch.tensor([0]), 1)
    expected = [2.0, -3.0, 1e-6, 1e-6, 2.0, -3.0, 2.0, -3.0, 0.0, 0.0]
    torch.testing.assert_close(result, torch.tensor([expected]))


def test_statistics_of_no_rows_are_missing():
    result = ops.segment_statistics(torch.empty(0, 2), torch.empty(0).long(), 3)
    assert result.shape == (3, 10)
    assert result.isnan().all()


def test_offsets_and_positions_count_rows():
    sample = torch.tensor([0, 0, 2, 2, 2, 5])
    assert ops.offsets_of(sample, 7).tolist() == [0, 2, 2, 5, 5, 5, 6, 6]
    assert ops.position_in(sample, 7).tolist() == [0, 1, 0, 1, 2, 0]
    nothing = torch.empty(0).long()
    assert ops.offsets_of(nothing, 2).tolist() == [0, 0, 0]
    assert ops.position_in(nothing, 2).tolist() == []
    assert ops.offsets_of(nothing, 0).tolist() == [0]


def test_ranges_are_written_out():
    start, stop = torch.tensor([3, 5, 9, 0]), torch.tensor([5, 5, 7, 1])
    which, found = ops.ranges_to_rows(start, stop)
    assert which.tolist() == [0, 0, 3]
    assert found.tolist() == [3, 4, 0]
    nothing = torch.empty(0).long()
    assert [part.tolist() for part in ops.ranges_to_rows(nothing, nothing)] == [[], []]


@pytest.mark.parametrize("leading", [(), (2,)], ids=str)
def test_slots_hold_rows_and_empty_ones_zero(leading):
    x, slot = rows(*leading, 3, 2), torch.tensor([4, 0, 2])
    laid_out = ops.to_slots(x, slot, 6)
    assert laid_out.shape == (*leading, 6, 2)
    assert torch.equal(laid_out[..., slot, :], x)
    assert not laid_out[..., [1, 3, 5], :].any()
    filled = ops.filled_slots(slot, 6)
    assert filled.tolist() == [True, False, True, False, True, False]
    assert torch.autograd.gradcheck(lambda x: ops.to_slots(x, slot, 6), x)


@pytest.mark.parametrize("leading", [(), (3,)], ids=str)
def test_torch_scatter_gives_the_same_sums_and_gradients(leading, monkeypatch):
    pytest.importorskip("torch_scatter", reason="needs the extra 'scatter'")
    x = rows(*leading, 6, 4)
    results = []
    for installed in (True, False):
        monkeypatch.setattr(ops, "HAS_TORCH_SCATTER", installed)
        total = ops.segment_sum(x, INDEX, NUM_SEGMENTS)
        (gradient,) = torch.autograd.grad(total.square().sum(), x)
        results.append((total, gradient))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("shape", [(5, 7), (2, 5, 7), (3, 0, 4), (1, 1)])
def test_gelu_has_the_values_and_gradients_of_torch(shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    mine, theirs = ops.gelu(x), F.gelu(x)
    torch.testing.assert_close(mine, theirs)
    assert mine.is_contiguous()
    gradients = [torch.autograd.grad(y.square().sum(), x)[0] for y in (mine, theirs)]
    torch.testing.assert_close(*gradients)


class _Allocated(ctypes.Structure):
    """What ``mallinfo2`` of glibc returns."""

    _fields_ = (
        *((f"number_{i}", ctypes.c_size_t) for i in range(4)),
        ("mapped", ctypes.c_size_t),
        *((f"number_{i}", ctypes.c_size_t) for i in (5, 6)),
        ("in_use", ctypes.c_size_t),
        *((f"number_{i}", ctypes.c_size_t) for i in (8, 9)),
    )


def test_gelu_keeps_no_kernel_for_every_number_of_rows():
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        pytest.skip("needs glibc")
    libc.mallinfo2.restype = _Allocated

    def allocated():
        found = libc.mallinfo2()
        return found.in_use + found.mapped

    def run(num_rows):
        x = torch.randn(2, num_rows, 64, requires_grad=True)
        ops.gelu(x).sum().backward()

    run(3000)
    before = allocated()
    for num_rows in range(3001, 3065):
        run(num_rows)
    assert allocated() - before < 64 * 1024  # torch's own keeps 4 MB
