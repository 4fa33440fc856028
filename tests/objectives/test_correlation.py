"""Deep canonical correlation analysis against the closed form."""

import numpy as np
import pytest
import torch
from torch import nn

from mmgraph import (
    Batch,
    Classification,
    ConfigError,
    FusionModel,
    Modality,
    Schema,
    SchemaError,
)
from mmgraph.alignment import CCA
from mmgraph.nn import Encoded
from mmgraph.objectives import Correlation
from mmgraph.objectives.correlation import correlation_sums

NUM = 800


class Plain(nn.Module):
    """Rows as node states, padded to the width of the model."""

    def forward(self, x, sample, time, num_samples):
        return Encoded(nn.functional.pad(x, (0, 4 - x.shape[1])), sample, time)


def draw(num=NUM, seed=0):
    """Two modalities with canonical correlations of about 0.9 and 0.6."""
    rng = np.random.default_rng(seed)
    cause = rng.normal(size=(num, 2))
    noise = np.array([0.33, 0.8])
    arrays = {}
    for name, width in (("a", 4), ("b", 3)):
        z = cause + noise * rng.normal(size=(num, 2))
        rest = rng.normal(size=(num, width - 2))
        mixed = np.concatenate([z, rest], axis=1)
        arrays[name] = mixed @ rng.normal(size=(width, width))
        arrays[name] /= arrays[name].std(axis=0)
    return arrays


def batch_of(arrays, rows=None):
    """Return a batch of the rows that are not NaN."""
    x, sample = {}, {}
    for name, values in arrays.items():
        part = values if rows is None else values[rows]
        known = ~np.isnan(part).all(axis=1)
        x[name] = torch.from_numpy(part[known]).float()
        sample[name] = torch.from_numpy(np.flatnonzero(known))
    return Batch(len(part), x, sample)


@pytest.fixture(scope="module")
def model():
    schema = Schema.late([Modality("a", 4), Modality("b", 3)])
    return FusionModel(
        schema,
        Classification(2),
        hidden_channels=4,
        num_heads=1,
        num_layers=1,
        feed_forward="none",
        encoders={"a": Plain(), "b": Plain()},
    )


def loss_of(z, present, half):
    return correlation_sums(z, present, half).loss


def test_loss_is_that_of_the_covariances():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2, 40, 3, generator=generator, dtype=torch.float64)
    half = torch.arange(40) % 2
    found = loss_of(z, torch.ones(2, 40, dtype=torch.bool), half)
    cross = np.cov(z[0].T, z[1].T)[:3, 3:]
    first, second = (
        (np.cov(z[0, half == i].T) + np.cov(z[1, half == i].T)) / 2 for i in (0, 1)
    )
    expected = -2 * np.trace(cross) + np.trace(first @ second)
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_sums_of_parts_of_a_batch_add_up():
    z = torch.randn(3, 30, 2, dtype=torch.float64)
    present = torch.rand(3, 30) < 0.7
    z = torch.where(present[..., None], z, 0)
    half = torch.arange(30) % 2
    whole = correlation_sums(z, present, half)
    parts = [
        correlation_sums(z[:, rows], present[:, rows], half[rows])
        for rows in (slice(0, 11), slice(11, 30))
    ]
    total = sum(part.sums for part in parts)
    assert torch.allclose(total, whole.sums)
    assert torch.allclose(parts[0].of_sums(total), whole.loss)


def test_loss_is_unbiased_in_minibatches():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(20_000, 8, 2, generator=generator).double()  # V = I, C = 0
    present, half = torch.ones(1, 8, dtype=torch.bool), torch.arange(8) % 2
    pair = torch.stack([z, torch.randn(z.shape, generator=generator)], 1)
    losses = correlation_sums(pair, present.expand(2, -1), half).loss
    assert losses.mean() == pytest.approx(2.0, abs=0.05)  # tr V V


@pytest.mark.slow
def test_linear_encoders_reach_the_closed_form(model):
    arrays = draw()
    objective = Correlation(2).build(model.schema, channels=4)
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=500)
    batch = batch_of(arrays)
    with torch.no_grad():
        output = model(batch)
    for _ in range(500):
        loss = objective(output, batch, generator)["correlation"].loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    z, _ = objective.components(output, NUM)
    learned = dict(zip(("a", "b"), z.detach().double().numpy(), strict=True))
    exact = CCA(2, ridge=0.0).fit(arrays).correlations_
    assert exact[0] - exact[1] > 0.15
    found = CCA(2, ridge=0.0).fit(learned).correlations_
    assert found == pytest.approx(exact, abs=1e-2)
    covariance = sum(np.cov(x.T) for x in learned.values()) / 2
    variances = np.sort(np.linalg.eigvalsh(covariance))[::-1]
    assert variances == pytest.approx(exact, abs=0.05)
    assert loss.item() == pytest.approx(-(exact**2).sum(), abs=0.1)


def test_content_of_missing_modalities_is_not_read(model):
    arrays = draw(40)
    arrays["b"][:10] = np.nan
    arrays["a"][30:] = np.nan
    objective = Correlation(2).build(model.schema, channels=4)

    def loss(arrays):
        generator = torch.Generator().manual_seed(0)
        batch = batch_of(arrays)
        return objective(model(batch), batch, generator)["correlation"].loss.item()

    expected = loss(arrays)
    assert np.isfinite(expected)
    arrays["a"][:10] *= 7  # these samples have no b
    assert loss(arrays) == pytest.approx(expected, abs=1e-6)
    arrays["a"][12] *= 7
    assert loss(arrays) != pytest.approx(expected, abs=1e-6)


def test_batches_without_pairs_have_zero_loss_and_gradients(model):
    arrays = draw(8)
    arrays["b"][:] = np.nan
    objective = Correlation(2).build(model.schema, channels=4)
    batch = batch_of(arrays)
    lacking = Batch(8, {"a": batch.x["a"]}, {"a": batch.sample["a"]})
    for each in (batch, lacking):
        generator = torch.Generator().manual_seed(0)
        loss = objective(model(each), each, generator)["correlation"].loss
        assert loss.item() == 0
        loss.backward()
        for parameter in objective.parameters():
            assert not parameter.grad.any()


def test_members_have_losses_of_their_own():
    schema = Schema.star([Modality("a", 4), Modality("b", 3)])
    graph = FusionModel(
        schema, Classification(2), hidden_channels=8, num_heads=2, members=3
    )
    objective = Correlation(2).build(schema, channels=8, members=3)
    batch = batch_of(draw(20))
    generator = torch.Generator().manual_seed(0)
    assert objective(graph(batch), batch, generator)["correlation"].loss.shape == (3,)


def test_schemas_that_mix_modalities_are_refused():
    modalities = [Modality("a", 4), Modality("b", 3)]
    with pytest.raises(SchemaError, match="an edge from 'a' to 'b'"):
        Correlation().build(Schema.complete(modalities), channels=8)
    with pytest.raises(SchemaError, match=r"two modalities, got \['a'\]"):
        Correlation().build(Schema.late(modalities[:1]), channels=8)
    with pytest.raises(ConfigError, match="num_components must be at least 1, got 0"):
        Correlation(0)
