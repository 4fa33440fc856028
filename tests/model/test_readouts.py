"""Readouts of a model by name, and operators of users."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mmgraph import (
    Batch,
    Classification,
    ConfigError,
    FusionModel,
    Modality,
    Schema,
)
from mmgraph.nn import GatedFusion

MODALITIES = [Modality("a", 3), Modality("b", 2, tokens="ragged"), Modality("c", 4)]
OPERATORS = ("concat", "sum", "mean", "max", "product", "gated", "low_rank")
NAMES = (*OPERATORS, "attention")
LATE = Schema.late(MODALITIES)


@pytest.fixture
def batch():
    """Four samples: 0 is complete, 1 has a and c, 2 has b alone, 3 has nothing."""
    x = {"a": torch.randn(2, 3), "b": torch.randn(5, 2), "c": torch.randn(2, 4)}
    sample = {
        "a": torch.tensor([0, 1]),
        "b": torch.tensor([0, 0, 2, 2, 2]),
        "c": torch.tensor([0, 1]),
    }
    return Batch(4, x, sample)


def make_model(readout, schema=LATE, **options):
    options = {"hidden_channels": 8, "num_layers": 1} | options
    return FusionModel(schema, Classification(3), readout=readout, **options)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("members", [None, 2])
def test_every_readout_predicts_and_is_the_prior_without_input(name, members, batch):
    model = make_model(name, members=members)
    out = model(batch)
    leading = () if members is None else (members,)
    assert out.logits.shape == (*leading, 4, 3)
    assert not out.z[..., 3, :].any()
    assert out.z[..., :3, :].any(-1).all()


@pytest.mark.parametrize("name", ["fuse", *NAMES])
def test_a_saved_model_predicts_the_same(name, batch, tmp_path):
    schema = Schema.star(MODALITIES) if name == "fuse" else LATE
    one, other = (make_model(name, schema, seed=seed, members=2) for seed in (1, 2))
    one.fit_scaling(batch)
    save_file(one.state_dict(), tmp_path / "model.safetensors")
    assert not torch.equal(other(batch).logits, one(batch).logits)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other(batch).logits, one(batch).logits)


@pytest.mark.parametrize("name", ["fuse", *OPERATORS])
def test_latents_can_be_read_by_an_operator(name, batch):
    model = make_model(name, Schema.bottleneck(MODALITIES, 2), num_layers=2)
    assert model(batch).logits.shape == (4, 3)


def test_without_samples_there_is_nothing():
    x, none = {"a": torch.empty(0, 3)}, {"a": torch.empty(0).long()}
    for name in NAMES:
        assert make_model(name)(Batch(0, x, none)).logits.shape == (0, 3)


def test_a_function_returns_an_operator(batch):
    def build(num_modalities, channels, members):
        return GatedFusion(num_modalities, channels, members=members)

    model = make_model(build, members=2, seed=3)
    named = make_model("gated", members=2, seed=3)
    assert torch.equal(model(batch).logits, named(batch).logits)


class Own(nn.Module):
    """The state of the first modality, with a wrong width on request."""

    def __init__(self, width, out_channels):
        super().__init__()
        self.width = width
        if out_channels is not None:
            self.out_channels = out_channels

    def forward(self, u, present):
        u = torch.where(present[..., None], u, 0)
        return None if self.width is None else u[..., 0, : self.width]


@pytest.mark.parametrize(
    ("readout", "message"),
    [
        (
            "gate",
            r"one of auto, fuse, mean, max, attention, concat, sum, product, gated, "
            r"low_rank, or a function .* got 'gate'\. Check the spelling\.",
        ),
        (7, r"readout must be one of .* got 7\. Check"),
        (
            lambda num, channels, members: Own(8, None),
            r"must have out_channels, .* got None of a Own\. Set self\.out_channels",
        ),
        (
            lambda num, channels, members: Own(5, 8),
            r"must return shape \[2, 8\] for states of shape \[2, 3, 8\], got \[2, 5\]",
        ),
        (
            lambda num, channels, members: Own(None, 8),
            r"must return shape \[2, 8\] .* got a NoneType\. Correct its result",
        ),
    ],
    ids=["unknown", "number", "width", "shape", "nothing"],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_no_readout_is_rejected(readout, message):
    with pytest.raises(ConfigError, match=message):
        make_model(readout)


def test_the_trial_run_has_the_axis_of_members():
    with pytest.raises(ConfigError, match=r"shape \[4, 2, 8\] .* got \[4, 2, 5\]"):
        make_model(lambda num, channels, members: Own(5, 8), members=4)


class Served(nn.Module):
    """Models as one function of tensors alone."""

    def __init__(self, models):
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, a, c, present):
        batch = Batch.regular({"a": a, "c": c}, present)
        return torch.stack([model(batch).logits for model in self.models])


@pytest.mark.long
@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore:.*LeafSpec")
def test_every_operator_is_exported(tmp_path):
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package)
    import onnxruntime

    schema = Schema.late([MODALITIES[0], MODALITIES[2]])
    served = Served([make_model(name, schema) for name in OPERATORS]).eval()
    inputs = (torch.randn(5, 3), torch.randn(5, 4), torch.rand(5, 2) > 0.4)
    rows = torch.export.Dim("rows", min=1)
    program = torch.export.export(served, inputs, dynamic_shapes=({0: rows},) * 3)
    path = tmp_path / "model.onnx"
    exported = torch.onnx.export(program, dynamo=True, verbose=False)
    exported.save(path, external_data=False)
    session = onnxruntime.InferenceSession(path)
    present = torch.tensor([[True, True], [False, True], [True, False], [False] * 2])
    a, c = torch.randn(4, 3), torch.randn(4, 4)
    names = [each.name for each in session.get_inputs()]
    given = dict(zip(names, (a.numpy(), c.numpy(), present.numpy()), strict=True))
    (found,) = session.run(None, given)
    expected = served(a, c, present).detach().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


COMPILED = """
import torch
from mmgraph import nn
kinds = (nn.ConcatFusion, nn.SumFusion, nn.MeanFusion, nn.MaxFusion, nn.ProductFusion,
         nn.GatedFusion, nn.LowRankFusion)
present = torch.tensor([[True, True], [False, True], [False, False]])
operators = torch.nn.ModuleList(kind(2, 4, members=2) for kind in kinds).double()
u, results = torch.randn(2, 3, 2, 4).double().requires_grad_(), []
def fuse(u):
    return torch.cat([operator(u, present) for operator in operators], -1)
for function in (torch.compile(fuse, fullgraph=True, backend="aot_eager"), fuse):
    result = function(u)
    inputs = [u, *operators.parameters()]
    results.append((result, torch.autograd.grad(result.sin().sum(), inputs)))
torch.testing.assert_close(*results)
"""


@pytest.mark.slow
def test_operators_are_compiled_whole():
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
