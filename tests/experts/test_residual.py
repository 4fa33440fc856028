"""ResidualFusion: the pool when beta is zero, the prior when nothing is observed."""

import pytest
import torch
from torch import Tensor, nn

from mmgraph import Batch, Classification, FusionModel, Modality, Schema
from mmgraph.experts.ensemble import ExpertEnsemble
from mmgraph.experts.linear import LinearExpert
from mmgraph.experts.residual import ResidualFusion
from mmgraph.nn.evidence_pool import EvidencePool

WIDTHS = (3, 2)


@pytest.fixture
def model() -> ResidualFusion:
    """Two modalities, two random linear experts each, three members."""
    modalities = [Modality("a", 3), Modality("b", 2)]
    task = Classification(2)
    experts = nn.ModuleList(
        nn.ModuleList(LinearExpert(width, 2, "softmax") for _ in range(2))
        for width in WIDTHS
    )
    for module in experts.modules():
        if isinstance(module, LinearExpert):
            module.weight.copy_(torch.randn_like(module.weight))
    pool = EvidencePool(2, 2, 2)
    pool.prior.copy_(torch.tensor([0.3, 0.7]).log())
    graph = FusionModel(
        Schema.star(modalities),
        task,
        hidden_channels=8,
        num_heads=2,
        evidence_channels=2,
        members=3,
    )
    ensemble = ExpertEnsemble(experts, nn.ModuleList(), pool)
    return ResidualFusion(ensemble, graph).requires_grad_(False)


def inputs() -> tuple[Batch, list[Tensor]]:
    """Three samples: both modalities, only the second, nothing."""
    a, b = torch.randn(1, 3), torch.randn(2, 2)
    batch = Batch(
        3, {"a": a, "b": b}, {"a": torch.tensor([0]), "b": torch.tensor([0, 1])}
    )
    features = [torch.full((3, width), torch.nan) for width in WIDTHS]
    features[0][:1], features[1][:2] = a, b
    return batch, features


def test_evidence_is_what_experts_say_beyond_the_prior(model):
    _, features = inputs()
    evidence, present = model.ensemble.evidence(features)
    assert present.tolist() == [[True, True], [False, True], [False, False]]
    assert evidence.shape == (3, 2, 2, 2)
    predicted = (
        model.ensemble.expert_lists[1][0](features[1][:2]) - model.ensemble.pool.prior
    )
    assert torch.allclose(evidence[:2, 1, 0], predicted)
    assert torch.equal(evidence[~present], torch.zeros(3, 2, 2))


def test_without_beta_it_is_the_pool(model):
    batch, features = inputs()
    pooled = model.ensemble.pool(*model.ensemble.evidence(features)).softmax(1)
    assert torch.allclose(model(batch, features), pooled)
    model.beta.fill_(1.0)
    assert not torch.allclose(model(batch, features)[:2], pooled[:2])


def test_members_are_averaged_as_probabilities(model):
    batch, features = inputs()
    model.beta.fill_(0.5)
    evidence, present = model.ensemble.evidence(features)
    joint = model.graph(batch, model.ensemble.pool.by_modality(evidence)).logits
    assert joint.shape == (3, 3, 2)
    count = present.sum(1, keepdim=True)
    share = 1 - 1 / count.clamp(min=1)  # one modality alone has none to meet
    logits = model.ensemble.pool(evidence, present) + 0.5 * share * joint
    expected = logits.softmax(2).mean(0)
    assert torch.allclose(model(batch, features)[:2], expected[:2], atol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_sample_without_anything_gets_the_prior(model, beta):
    batch, features = inputs()
    model.beta.fill_(beta)
    with torch.no_grad():
        model.ensemble.pool.bias.fill_(2.0)
    assert torch.allclose(model(batch, features)[2], torch.tensor([0.3, 0.7]))
