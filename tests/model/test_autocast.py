"""Models under bf16 autocast: near float32, finite, whatever is missing."""

import pytest
import torch

from mmgraph import Batch, Classification, FusionModel, Modality, Schema

B = 24
# products read rounded numbers and round their result, one after the other: encoder 2,
# each of two layers 6 (query, key, scores, values, output, feed-forward), head 1
ROUNDINGS = 15
TOLERANCE = ROUNDINGS * torch.finfo(torch.bfloat16).eps / 2


def batch_with(rate):
    generator = torch.Generator().manual_seed(0)
    present = torch.rand(B, 3, generator=generator) >= rate
    widths = {"a": 3, "b": 5, "c": 4}
    sample = {
        name: torch.nonzero(seen)[:, 0]
        for name, seen in zip(widths, present.T, strict=True)
    }
    x = {
        name: torch.randn(len(sample[name]), width, generator=generator)
        for name, width in widths.items()
    }
    return Batch(B, x, sample)


def outcome(model, batch, *, low):
    """Logits, and the gradients of their mean square."""
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        logits = model(batch).logits
    logits.float().square().mean().backward()
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return logits.detach().float(), torch.cat(gradients)


def distance(found, wanted):
    """Root mean square of the difference, over that of what is wanted."""
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("rate", [0.0, 0.4, 1.0], ids=["complete", "some", "nothing"])
@pytest.mark.parametrize("members", [None, 2])
@pytest.mark.parametrize("build", [Schema.complete, Schema.star])
def test_bf16_is_near_float32(build, members, rate):
    schema = build([Modality("a", 3), Modality("b", 5), Modality("c", 4)])
    model = FusionModel(schema, Classification(2), members=members)
    with torch.no_grad():  # biases begin at zero: nothing observed would say nothing
        model.head.linear.bias.fill_(0.5)
    batch = batch_with(rate)
    logits, gradients = outcome(model, batch, low=True)
    wanted, exact = outcome(model, batch, low=False)
    assert logits.isfinite().all()
    assert distance(logits, wanted) < TOLERANCE
    assert gradients.isfinite().all()
    assert distance(gradients, exact) < TOLERANCE
