"""The compiled kernels compute the same as torch, on every processor."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from random_graphs import TOPOLOGIES, mixed_relations, node_set, ragged_graph

import mmgraph
from mmgraph import Full, Relation, native
from mmgraph.graph import NodeSet
from mmgraph.graph.graph import Graph
from mmgraph.native import library
from mmgraph.nn import RelationalAttention
from mmgraph.nn.segment_linear import SegmentParams, segment_linear

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(native.__file__).parent
BUILT = sorted(path.name for path in FOLDER.glob("kernels-*.so"))
needs_kernels = pytest.mark.skipif(
    not BUILT, reason="no compiler when it was installed"
)


def runnable():
    """Libraries that were built and that this processor can run."""
    capability = torch.backends.cpu.get_cpu_capability()
    variants = library.VARIANTS.get(capability, ("any",))
    return [name for name in BUILT if name[8:-3] in variants]


@pytest.fixture(params=runnable() or ["none"])
def kernels(request, monkeypatch):
    """Run the test with each library in turn."""
    if request.param == "none":
        pytest.skip("no kernels were built")
    loaded = library.declare(FOLDER / request.param)
    monkeypatch.setattr(library, "find_library", lambda: loaded)
    return request.param


@pytest.fixture
def by_torch(monkeypatch):
    """Give a function that runs another one without kernels."""

    def run(function):
        with monkeypatch.context() as patch:
            patch.setattr(library, "find_library", lambda: None)
            return function()

    return run


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_kernels_are_built_where_there_is_a_compiler():
    assert "kernels-any.so" in BUILT


@pytest.mark.slow
def test_an_environment_variable_leaves_them_unused():
    program = "from mmgraph import native; print(native.is_available())"
    for value, expected in (("0", "False"), ("1", str(bool(BUILT)))):
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            env={**os.environ, "MMGRAPH_NATIVE": value},
        )
        assert done.stdout.strip() == expected


def test_a_library_that_cannot_be_loaded_warns_and_is_not_used(monkeypatch, tmp_path):
    (tmp_path / "kernels-any.so").write_bytes(b"not a library")
    monkeypatch.setattr(library, "__file__", str(tmp_path / "library.py"))
    with pytest.warns(RuntimeWarning, match=r"kernels-any\.so cannot be used"):
        assert library.find_library.__wrapped__() is None


@needs_kernels
def test_a_library_of_other_sources_warns_and_is_not_used(monkeypatch):
    monkeypatch.setattr(library, "digest_sources", lambda: "of other sources")
    with pytest.warns(RuntimeWarning, match="compiled from other sources"):
        assert library.find_library.__wrapped__() is None


@pytest.mark.parametrize("compiler", ["false", "no-such-compiler"])
def test_without_a_compiler_the_package_is_pure(
    compiler, monkeypatch, tmp_path, capsys
):
    monkeypatch.syspath_prepend(str(ROOT))
    from hatch_build import compile_kernels

    folder = tmp_path / "mmgraph" / "native"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("*.so"))
    monkeypatch.setenv("CXX", compiler)
    assert compile_kernels(tmp_path) == []
    assert not list(folder.glob("*.so"))
    assert "PyTorch operations" in capsys.readouterr().err


# Attention


def layer_and_states(seed, *, members=None, heads=2, width=8, sink=True, shared=False):
    torch.manual_seed(seed)
    layer = RelationalAttention(
        mixed_relations(Full()),
        heads * width,
        num_heads=heads,
        members=members,
        null_sink=sink,
    )
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.4 * torch.randn_like(p))
    graph = ragged_graph(seed)
    leading = () if members is None or shared else (members,)
    num_nodes = sum(len(nodes) for nodes in graph.nodes.values())
    h = torch.randn(*leading, num_nodes, heads * width).requires_grad_()
    return layer, h, graph


def outcome(layer, h, graph):
    """Outputs and gradients of a loss that weighs every cell differently."""
    attended = layer(h, graph).table
    weight = torch.linspace(-1, 2, attended.numel(), dtype=attended.dtype).view(
        attended.shape
    )
    inputs = [h, *layer.parameters()]
    loss = (attended * weight).sum()
    return [attended, *torch.autograd.grad(loss, inputs, materialize_grads=True)]


def in_double(layer, h, graph):
    """The same in float64, for which there are no kernels."""
    layer.double()
    exact = outcome(layer, h.detach().double().requires_grad_(), graph)
    layer.float()
    return [value.float() for value in exact]


def assert_near(found, wanted):
    scale = max(float(x.detach().abs().max()) for x in wanted if x.numel())
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-6 * scale)


CASES = [
    {"heads": 2, "width": 8},
    {"heads": 1, "width": 24, "members": 3},
    {"heads": 4, "width": 16, "sink": False},
    {"heads": 2, "width": 32, "members": 2, "shared": True},
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_attention_is_that_of_torch(kernels, case, seed):
    layer, h, graph = layer_and_states(seed, **case)
    assert layer._is_fused(h, graph)
    assert_near(outcome(layer, h, graph), in_double(layer, h, graph))


def test_it_is_used_where_scores_depend_on_types_alone(kernels):
    layer, h, graph = layer_and_states(0)
    for other in (h.double(), h.bfloat16(), h.to("meta")):
        assert not layer._is_fused(other, graph)
    layer.execution = "dense"
    assert not layer._is_fused(h, graph)
    for name, topology in TOPOLOGIES.items():
        other = RelationalAttention(
            mixed_relations(topology), 16, timed=("a", "b"), num_heads=2
        )
        assert not other._is_fused(h, graph), name
    narrow = RelationalAttention(mixed_relations(Full()), 8, num_heads=2)
    assert not narrow._is_fused(h[:, :8], graph)


def test_receive_only_rows_are_neither_attended_nor_changed(kernels):
    layer, h, graph = layer_and_states(3)
    a = graph.nodes["a"]
    receive_only = torch.arange(len(a)) % 2 == 0
    graph.nodes["a"] = NodeSet(a.sample, a.num_samples, a.time, receive_only)
    assert_near(outcome(layer, h, graph), in_double(layer, h, graph))
    key_value = layer.key_value(h, graph.rows)
    query = layer.query(h, graph.rows)
    poisoned = key_value.detach().clone()
    poisoned[: len(a)][receive_only] = torch.nan
    parts = layer.bias, layer.sink, graph
    found = []
    for source in (key_value.detach(), poisoned):
        source.requires_grad_()
        attended = layer._fused(query, source, *parts)
        found.append(
            [attended, *torch.autograd.grad(attended.sum(), [source, layer.bias])]
        )
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))


def test_a_sample_alone_is_the_sample_in_a_batch(kernels):
    counts = [3, 0, 40, 1, 17]
    relations = [Relation("a", "f"), Relation("a", "a"), Relation("f", "a")]
    layer = RelationalAttention(relations, 32, num_heads=2)
    graph = Graph({"a": node_set(counts), "f": node_set([2] * len(counts))}, 5)
    h = torch.randn(sum(counts) + 10, 32)
    together = layer(h, graph)
    for i, count in enumerate(counts):
        own = graph.nodes["a"].sample == i
        both = torch.cat([own, graph.nodes["f"].sample == i])
        alone = layer(h[both], Graph({"a": node_set([count]), "f": node_set([2])}, 1))
        assert torch.equal(alone["a"], together["a"][own])
        assert torch.equal(alone["f"], together["f"][2 * i : 2 * i + 2])


@pytest.mark.parametrize("size", [1e-3, 10.0, 100.0])
def test_extreme_scores(kernels, size):
    layer, h, graph = layer_and_states(1, heads=2, width=16)
    with torch.no_grad():
        layer.bias.normal_().mul_(size)
        layer.sink.normal_().mul_(size)
    assert_near(outcome(layer, h, graph), in_double(layer, h, graph))


@pytest.mark.parametrize("large", [1e30, -1e30])
def test_scores_that_leave_nothing_to_others(kernels, by_torch, large):
    layer, h, graph = layer_and_states(1, heads=2, width=16)
    with torch.no_grad():
        layer.bias[0] = large
        layer.sink[1] = large
    found = outcome(layer, h, graph)
    assert all(value.isfinite().all() for value in found)
    assert_near(found, by_torch(lambda: outcome(layer, h, graph)))


def test_without_a_sink_a_target_without_sources_receives_zero(kernels):
    """Both targets attend together; in the first sample u has no source."""
    names = [("a", "t"), ("b", "t"), ("c", "t"), ("a", "u"), ("b", "u")]
    layer = RelationalAttention(
        [Relation(*pair) for pair in names], 16, num_heads=2, null_sink=False
    )
    assert len(layer._groups) == 1
    counts = {"a": [0, 1], "b": [0, 2], "c": [1, 1], "t": [1, 1], "u": [1, 1]}
    graph = Graph({name: node_set(count) for name, count in counts.items()}, 2)
    h = torch.randn(10, 16).requires_grad_()
    with torch.no_grad():
        assert torch.equal(layer(h, graph)["u"][0], layer.out.bias[1, 0])
    assert_near(outcome(layer, h, graph), in_double(layer, h, graph))


def test_a_nan_is_passed_on_to_its_own_sample_alone(kernels):
    layer, h, graph = layer_and_states(2)
    with torch.no_grad():
        clean = layer(h, graph)["f"]
        h[0] = torch.nan  # the one node of type a in sample 2
        dirty = layer(h, graph)["f"]
    own = graph.nodes["f"].sample == 2
    assert dirty[own].isnan().all()
    assert torch.equal(dirty[~own], clean[~own])


def test_results_do_not_depend_on_threads(kernels):
    graph = Graph({"a": node_set([9] * 64), "f": node_set([1] * 64)}, 64)
    layer = RelationalAttention([Relation("a", "f"), Relation("a", "a")], 64)
    h = torch.randn(64 * 10, 64).requires_grad_()
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(outcome(layer, h, graph))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0][0], results[1][0])
    assert_near(results[1], results[0])


# Maps


def random_params(seed, sizes, widths, members=None, shared=False):
    """Two maps of one table: of all types but the last, and of every second one."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator).requires_grad_()

    leading = () if members is None else (members,)
    ends = torch.tensor(sizes).cumsum(0).tolist()
    segments = [
        (n, end - size, end)
        for n, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]
    count, (before, *after) = len(sizes), widths
    maps = [
        SegmentParams(
            draw(*leading, count, before, out), draw(*leading, count, 1, out), part
        )
        for out, part in zip(after, (segments[:-1], segments[::2]), strict=True)
    ]
    return draw(*(() if shared else leading), ends[-1], before), maps


def mapped(h, maps):
    tables = segment_linear(h, *maps)
    inputs = [h, *(x for each in maps for x in each[:2])]
    loss = sum(
        (x * torch.linspace(-1, 2, x.numel()).view(x.shape)).sum() for x in tables
    )
    return [*tables, *torch.autograd.grad(loss, inputs)]


@pytest.mark.parametrize(
    ("sizes", "widths", "members", "shared"),
    [
        ([5, 1, 30], (8, 8, 16), None, False),
        ([13, 0, 24, 7], (32, 32, 64), 3, False),
        ([2, 3], (7, 5, 3), None, False),
        ([700, 40], (130, 96, 33), None, False),
        ([40, 50, 60], (64, 40, 1), 2, True),
        ([0, 4], (6, 4, 4), None, False),
    ],
)
def test_segment_linear_is_that_of_torch(
    kernels, by_torch, sizes, widths, members, shared
):
    h, maps = random_params(0, sizes, widths, members, shared)
    assert_near(mapped(h, maps), by_torch(lambda: mapped(h, maps)))


def test_a_mapped_row_does_not_depend_on_its_mates(kernels):
    h, (first, _) = random_params(1, [100, 57], (48, 40, 8))
    (together,) = segment_linear(h, first)
    for row in (0, 11, 12, 99):
        alone = first._replace(segments=[(0, 0, 1)])
        assert torch.equal(segment_linear(h[row : row + 1], alone)[0][0], together[row])


def test_segment_linear_does_not_depend_on_threads(kernels):
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(mapped(*random_params(2, [700, 300, 55], (64, 64, 96))))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(x, y) for x, y in zip(*results, strict=True))


def test_rows_in_another_order_of_memory(kernels, by_torch):
    """States that are transposed or a part of others; weights that members share."""
    h, maps = random_params(3, [6, 9], (8, 8, 8), members=2)
    shared = [SegmentParams(m.weight[0], m.bias[0], m.segments) for m in maps]
    expected = by_torch(lambda: segment_linear(h, *shared))
    turned = h.detach().mT.contiguous().mT
    longer = torch.empty(2, 8 * 15 + 5)[:, : 8 * 15].unflatten(1, (15, 8))
    for given in (turned, longer.copy_(h.detach())):
        assert_near(segment_linear(given, *shared), expected)


def test_attention_in_another_order_of_memory(kernels):
    layer, h, graph = layer_and_states(4, heads=2, width=16)
    query, source = layer.query(h, graph.rows), layer.key_value(h, graph.rows)
    attended = layer._fused(query, source, layer.bias, layer.sink, graph)
    turned = (x.mT.contiguous().mT for x in (query, source, layer.bias, layer.sink))
    assert torch.equal(layer._fused(*turned, graph), attended)


@needs_kernels
def test_a_model_predicts_the_same_without_kernels(by_torch):
    data = mmgraph.load_dataset("heart")[:60]
    torch.manual_seed(0)
    model = mmgraph.FusionModel(data.schema, mmgraph.Classification(2))
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(std=0.1)
        logits = [model(data.batch(range(60))).logits]
        logits += by_torch(lambda: [model(data.batch(range(60))).logits])
    assert not torch.equal(*logits)  # computed in two ways
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-5)


def test_structures_have_the_fields_of_the_sources():
    """Names and order in ctypes are those of the C++ structures."""
    from mmgraph.native import attention_kernel, segment_linear_kernel

    for structure, name, file in (
        (attention_kernel._Attention, "Attention", "attention.cpp"),
        (segment_linear_kernel._SegmentLinear, "SegmentLinear", "segment_linear.cpp"),
    ):
        source = (FOLDER / file).read_text(encoding="utf-8")
        body = source.split(f"struct {name} {{")[1].split("};")[0]
        lines = [line.split("//")[0] for line in body.splitlines()]
        text = " ".join(lines).replace("const float", "").replace("int64_t", "")
        text = text.replace("const uint8_t", "").replace("const ", "")
        names = [x.strip(" *") for x in text.replace(";", ",").split(",")]
        assert [x for x in names if x] == [field[0] for field in structure._fields_]
        assert ctypes.sizeof(structure) == 8 * len(structure._fields_)
