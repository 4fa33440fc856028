import pytest
import torch
from torch_geometric.data import Batch as PyGBatch
from torch_geometric.data import HeteroData

from mmgraph import Batch, DataError


@pytest.fixture
def batch():
    """Four samples: complete, only a, nothing at all, only the sequence s."""
    x = {"a": torch.randn(2, 3), "s": torch.randn(5, 2), "z": torch.empty(0, 1)}
    sample = {
        "a": torch.tensor([0, 1]),
        "s": torch.tensor([0, 0, 3, 3, 3]),
        "z": torch.empty(0).long(),
    }
    time = {"s": torch.tensor([0.0, 1.0, 0.0, 0.5, 2.0])}
    return Batch(4, x, sample, time, y=torch.tensor([0, 1, 0, 1]))


def assert_equal(one, other):
    assert one.num_samples == other.num_samples
    assert one.modalities == other.modalities
    assert one.time.keys() == other.time.keys()
    for field in ("x", "sample", "time"):
        for name, value in getattr(one, field).items():
            assert torch.equal(value, getattr(other, field)[name])
    for field in ("held_out", "y"):
        one_value, other_value = getattr(one, field), getattr(other, field)
        assert (one_value is None) == (other_value is None)
        assert one_value is None or torch.equal(one_value, other_value)


def test_present_is_true_where_a_modality_has_rows(batch):
    expected = [[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert batch.modalities == ("a", "s", "z")
    assert batch.observed.int().tolist() == expected
    assert batch.present.int().tolist() == expected
    assert batch.present.dtype == torch.bool


@pytest.mark.parametrize(
    ("x", "sample", "message"),
    [
        (torch.zeros(3), torch.zeros(3).long(), r"got \[3\] and \[3\] sample numbers"),
        (torch.zeros(3, 1), torch.zeros(2).long(), r"got \[3, 1\] and \[2\] sample"),
    ],
)
def test_contradicting_shapes_are_errors(x, sample, message):
    with pytest.raises(DataError, match=r"Batch\.x\['a'\] must have shape \[N, C\]"):
        Batch(1, {"a": x}, {"a": sample})
    with pytest.raises(DataError, match=message):
        Batch(1, {"a": x}, {"a": sample})


def test_dropping_removes_rows_and_keeps_samples(batch):
    keep = torch.tensor([[0, 1, 1], [1, 1, 1], [1, 1, 1], [1, 0, 1]]).bool()
    left = batch.drop(keep)
    assert left.num_samples == 4
    assert torch.equal(left.present, batch.present & keep)
    assert torch.equal(left.x["a"], batch.x["a"][1:])
    assert left.sample["s"].tolist() == [0, 0]
    assert torch.equal(left.x["s"], batch.x["s"][:2])
    assert left.time["s"].tolist() == [0, 1]
    assert left.y is batch.y
    assert len(batch.x["a"]) == 2, "the batch itself stays"


def test_held_out_modalities_are_observed_but_not_present(batch):
    hide = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 1, 1], [0, 1, 0]]).bool()
    hidden = batch.hold_out(hide)
    assert torch.equal(hidden.held_out, hide & batch.observed)
    assert torch.equal(hidden.observed, batch.observed)
    assert torch.equal(hidden.present, batch.observed & ~hide)
    assert_equal(hidden.visible(), batch.drop(~hide))
    assert hidden.visible().held_out is None
    assert batch.visible() is batch
    assert batch.held_out is None


@pytest.mark.parametrize(
    "wrong",
    [
        torch.ones(4, 2, dtype=torch.bool),
        torch.ones(3, 3, dtype=torch.bool),
        torch.ones(4, 3),
    ],
)
def test_an_invalid_held_out_mask_is_an_error(batch, wrong):
    with pytest.raises(
        DataError, match=r"held_out must be Bool of shape \[4, 3\], got"
    ):
        batch.hold_out(wrong)


def test_select_keeps_the_requested_order(batch):
    hidden = batch.hold_out(batch.observed)
    some = hidden.select(name for name in ("z", "a"))
    assert some.modalities == ("z", "a")
    assert (list(some.sample), list(some.time)) == (["z", "a"], [])
    assert torch.equal(some.held_out, hidden.held_out[:, [2, 0]])
    assert some.num_samples == 4
    assert list(batch.select(["s"]).time) == ["s"]


def test_a_dtype_converts_floats_only(batch):
    double = batch.hold_out(batch.observed).to(torch.float64)
    assert double.x["a"].dtype == torch.float64
    assert double.time["s"].dtype == torch.float32  # bfloat16 would lose seconds
    assert double.sample["a"].dtype == double.y.dtype == torch.int64
    assert double.held_out.dtype == torch.bool
    assert_equal(double.to(torch.float32), batch.hold_out(batch.observed))
    assert batch.to("cpu").device == torch.device("cpu")
    assert_equal(batch.to("cpu"), batch)
    moved = batch.to(torch.device("meta"))
    assert moved.device.type == moved.y.device.type == "meta"
    assert moved.time["s"].device.type == moved.sample["s"].device.type == "meta"


def test_pyg_round_trip_is_equal(batch):
    data = batch.to_hetero_data()
    assert data.node_types == ["a", "s", "z"]
    assert torch.equal(data["s"].batch, batch.sample["s"])
    assert "time" not in data["a"]
    assert_equal(Batch.from_hetero_data(data), batch)


def test_pyg_data_has_no_rows_that_are_held_out(batch):
    hide = torch.zeros(4, 3, dtype=torch.bool)
    hide[0] = True
    data = batch.hold_out(hide).to_hetero_data()
    assert torch.equal(data["a"].x, batch.x["a"][1:])
    assert_equal(Batch.from_hetero_data(data), batch.drop(~hide))


def test_a_pyg_batch_of_graphs_is_read_and_sorted():
    graphs = []
    for count in (1, 3):
        graph = HeteroData()
        graph["a"].x, graph["a"].time = torch.randn(count, 2), torch.arange(count) / 2
        graphs.append(graph)
    together = PyGBatch.from_data_list(graphs)
    batch = Batch.from_hetero_data(together)
    assert batch.num_samples == 2
    assert batch.sample["a"].tolist() == [0, 1, 1, 1]
    assert torch.equal(batch.x["a"], torch.cat([g["a"].x for g in graphs]))
    assert batch.y is None
    order = torch.tensor([3, 0, 2, 1])
    for key in ("x", "batch", "time"):
        together["a"][key] = together["a"][key][order]
    mixed = Batch.from_hetero_data(together)
    assert mixed.sample["a"].tolist() == [0, 1, 1, 1]
    assert torch.equal(mixed.x["a"], batch.x["a"])  # in the order of time
    assert torch.equal(mixed.time["a"], batch.time["a"])


def test_pyg_data_without_batch_is_an_error():
    data = HeteroData()
    data["a"].x = torch.zeros(2, 1)
    with pytest.raises(DataError, match=r"HeteroData\['a'\] must have .*, got x\. Use"):
        Batch.from_hetero_data(data)
    data = HeteroData()
    data["b"].num_nodes = None
    with pytest.raises(DataError, match=r"HeteroData\['b'\] must have x and batch"):
        Batch.from_hetero_data(data)


def test_rows_of_graphs_are_sorted_by_time_and_empty_graphs_count():
    graphs = []
    for rows in ([3.0, 1.0, 2.0], [5.0, 4.0], []):
        graph = HeteroData()
        graph["s"].x = torch.tensor(rows)[:, None]
        graph["s"].time = torch.tensor(rows, dtype=torch.float64)
        graphs.append(graph)
    batch = Batch.from_hetero_data(PyGBatch.from_data_list(graphs))
    assert batch.num_samples == 3
    assert batch.x["s"][:, 0].tolist() == [1, 2, 3, 4, 5]
    assert batch.time["s"].tolist() == [1, 2, 3, 4, 5]
    assert batch.sample["s"].tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("field", ["time", "missing"])
def test_time_and_missing_name_modalities_of_the_batch(field):
    x, sample = {"a": torch.zeros(2, 3)}, {"a": torch.arange(2)}
    said = {"a": torch.zeros(2), "z": torch.zeros(2)}
    message = rf"Batch\.{field} must name modalities of Batch\.x \(a\), got 'z'\."
    with pytest.raises(DataError, match=message):
        Batch(2, x, sample, **{field: said})


def test_rows_are_sorted_by_sample_and_time():
    sample = torch.tensor([1, 0, 1, 0])
    time = torch.tensor([5.0, 2.0, 4.0, 2.0])
    batch = Batch(2, {"a": torch.arange(4.0)[:, None]}, {"a": sample}, {"a": time})
    assert batch.x["a"].ravel().tolist() == [1, 3, 2, 0]
    assert batch.sample["a"].tolist() == [0, 0, 1, 1]
    assert batch.time["a"].tolist() == [2, 2, 4, 5]
    assert sample.tolist() == [1, 0, 1, 0]  # the tensors of the user are unchanged


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample": {"a": torch.tensor([0, 2])}}, "must be from 0 to 1, got 2. Number"),
        ({"sample": {"a": torch.tensor([-5, 0])}}, "must be from 0 to 1, got -5"),
        (
            {"sample": {"a": torch.tensor([0.0, 1.0])}},
            "must be int64, got torch.float32",
        ),
        ({"time": {"a": torch.zeros(3)}}, "must have one entry per row, got .3. for 2"),
        (
            {"time": {"a": torch.tensor([0, torch.nan])}},
            "must be finite, got NaN or inf",
        ),
        (
            {"sample": {"a": torch.tensor([1, 1])}, "max_per_sample": {"a": 1}},
            "must be at least the number of rows of any sample, got 1",
        ),
    ],
)
def test_rows_of_no_sample_are_errors(changes, message):
    fields = {"x": {"a": torch.zeros(2, 1)}, "sample": {"a": torch.tensor([0, 1])}}
    with pytest.raises(DataError, match=message):
        Batch(2, **{**fields, **changes})
