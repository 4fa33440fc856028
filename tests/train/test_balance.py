"""Modality imbalance: scores of single modalities, and corrections of training."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy_ensemble import MEMBERS, NUM, make

from mmgraph import (
    Batch,
    CheckpointError,
    Classification,
    ConfigError,
    FusionClassifier,
    FusionModel,
    Modality,
    Schema,
)
from mmgraph.nn.evidence_pool import EvidencePool
from mmgraph.train import TrainOptions, fit_members
from mmgraph.train.balance import (
    BalanceMonitor,
    Correction,
    blend_shares,
    dropout_rates,
    relative_scores,
    update_factors,
)
from mmgraph.train.validation import Validation

KINDS = ("dropout", "gradients", "blend")
OPTIONS = TrainOptions(max_steps=6, batch_size=100, checks=3, monitor=True)


def labeled(noise: float = 3.0):
    """Return samples whose first modality has the label, the second much less so."""
    data = make()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, NUM, 2, generator=generator)
    y = (torch.arange(NUM) % 2).long()
    x[0, :, 0] += 4.0 * y
    x[1, :, 0] = x[1, :, 0] * noise + 4.0 * y

    def batch_of(indices):
        rows = torch.arange(len(indices))
        sample = {"a": rows, "b": rows}
        return Batch(len(indices), {"a": x[0, indices], "b": x[1, indices]}, sample)

    evidence = torch.zeros(NUM, 2, 0, 2)
    return replace(data, batch_of=batch_of, evidence=evidence, y=y)


def build():
    """Return graph networks without base learners, and their pool."""
    schema = Schema.star([Modality("a", 2), Modality("b", 2)])
    sizes = {"hidden_channels": 8, "num_heads": 2, "members": MEMBERS}
    graph = FusionModel(schema, Classification(2), readout="attention", **sizes)
    return graph, EvidencePool(2, 0, 2).requires_grad_(False)


def fit(options=OPTIONS, data=None):
    graph, pool = build()
    generator = torch.Generator().manual_seed(0)
    data = labeled() if data is None else data
    _, history = fit_members(graph, pool, data, options, generator=generator)
    return graph, history


def test_ratio_is_the_score_over_the_mean_of_the_others():
    shown = torch.tensor([0.8, 0.4, 0.2], dtype=torch.float64)
    expected = torch.tensor([0.8 / 0.3, 0.4 / 0.5, 0.2 / 0.6], dtype=torch.float64)
    assert torch.allclose(relative_scores(shown), expected)
    unseen = relative_scores(torch.tensor([0.8, torch.nan, 0.4]).double())
    assert torch.allclose(unseen, torch.tensor([2.0, 1.0, 0.5]).double())


@pytest.mark.parametrize("count", [1, 2, 3, 6, 7])
def test_equal_modalities_are_not_corrected(count):
    for score in (0.1, 0.7, 1 / 3):
        ratio = relative_scores(torch.full((count,), score, dtype=torch.float64))
        assert ratio.tolist() == [1.0] * count
        assert dropout_rates(ratio, 0.35, 1.0).tolist() == [0.35] * count
        assert update_factors(ratio, 1.0).tolist() == [1.0] * count


def test_corrections_follow_their_formulas():
    ratio = torch.tensor([2.0, 0.5, 0.5], dtype=torch.float64)
    rates = dropout_rates(ratio, 0.3, 1.0)
    assert rates.tolist() == pytest.approx([0.6, 0.15, 0.15])
    assert dropout_rates(ratio, 0.9, 2.0).max() == 1
    assert update_factors(ratio, 0.5).tolist() == pytest.approx(
        [1 - np.tanh(0.5), 1, 1]
    )
    first = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    last = torch.tensor([[0.5, 0.8, 1.2], [0.3, 0.4, 0.2]])
    weights = np.array([0.5 / 0.2**2, 0.2 / 0.4**2, 0])  # all modalities, a, b
    shares = blend_shares(first, last, 1.0)
    assert shares.tolist() == pytest.approx((weights / weights.sum())[1:])
    halved = blend_shares(first, last, 0.5)
    assert torch.allclose(halved, shares / 2)
    assert blend_shares(first, first + 1, 1.0).tolist() == [0, 0]  # nothing gained


@pytest.mark.parametrize("kind", KINDS)
def test_strength_of_zero_is_the_uncorrected_training_bit_for_bit(kind):
    expected, _ = fit(replace(OPTIONS, monitor=False))
    same = replace(OPTIONS, balance=kind, balance_strength=0.0)
    found, history = fit(same)
    for (name, p), q in zip(
        expected.named_parameters(), found.parameters(), strict=True
    ):
        assert torch.equal(p, q), name
    assert len(history.balance) == 4
    other, _ = fit(replace(same, balance_strength=1.0))
    pairs = zip(expected.parameters(), other.parameters(), strict=True)
    assert not all(torch.equal(p, q) for p, q in pairs)


def test_history_has_the_score_of_each_modality_alone():
    graph, history = fit(replace(OPTIONS, max_steps=40))
    [record] = history.balance
    data = labeled()
    held_out = data.member_weights == 0
    batch = data.batch_of(torch.arange(NUM))
    for m in range(2):
        kept = torch.zeros(NUM, 2, dtype=torch.bool)
        kept[:, m] = True
        proba = graph(batch.drop(kept)).logits.softmax(-1)
        true = proba[:, torch.arange(NUM), data.y][held_out]
        assert record.shown[m] == pytest.approx(true.mean().item(), abs=1e-5)
    assert record.shown[0] > record.shown[1]  # b is noisy
    assert record.ratio[0] == pytest.approx(record.shown[0] / record.shown[1])
    assert record.correction == ()


def test_dominating_modalities_are_dropped_more_often():
    correction = Correction("dropout", 0.3)
    ratio = torch.tensor([1.5, 0.5], dtype=torch.float64)
    correction.update(ratio, None, torch.zeros(2, 3))
    present = torch.ones(4000, 2, dtype=torch.bool)
    kept = correction.keep(present, torch.Generator().manual_seed(0))
    only_b = (kept[:, 1] & ~kept[:, 0]).float().mean()
    only_a = (kept[:, 0] & ~kept[:, 1]).float().mean()
    assert only_b > 2 * only_a > 0


def test_blend_shows_one_modality_where_it_is_present():
    correction = Correction("blend", 0.0)
    correction.values = torch.tensor([0.25, 0.5], dtype=torch.float64)
    present = torch.ones(4000, 2, dtype=torch.bool)
    present[::2, 1] = False
    kept = correction.keep(present, torch.Generator().manual_seed(0))
    assert not (kept & ~present).any()
    assert kept.any(1).all()
    both = kept[1::2]
    assert (both == torch.tensor([True, False])).all(1).float().mean() == pytest.approx(
        0.25, abs=0.03
    )
    assert both.all(1).float().mean() == pytest.approx(0.25, abs=0.03)


def test_updates_of_dominating_encoders_are_scaled():
    graph, _ = build()
    correction = Correction("gradients")
    correction.values = torch.tensor([0.25, 1.0], dtype=torch.float64)
    before = {name: p.detach().clone() for name, p in graph.named_parameters()}
    with correction.scaled_updates(graph), torch.no_grad():
        for p in graph.parameters():
            p.add_(1.0)
    own = {id(p) for p in graph.encoders["a"].parameters()}
    for name, p in graph.named_parameters():
        expected = 0.25 if id(p) in own else 1.0
        assert torch.allclose(p - before[name], torch.tensor(expected)), name


def test_a_modality_without_held_out_samples_is_not_corrected():
    data = labeled()
    present = data.present.clone()
    present[:, 1] = False
    options = replace(OPTIONS, balance="dropout", missing_rate=0.3)
    _, history = fit(options, replace(data, present=present))
    assert np.isnan(history.balance[-1].shown[1])
    assert history.balance[-1].ratio == (1.0, 1.0)
    assert history.balance[-1].correction == pytest.approx((0.3, 0.3))


def test_saved_monitors_resume():
    graph, pool = build()
    generator = torch.Generator().manual_seed(0)
    batch = labeled().validation_batch(NUM, generator)
    validation = Validation(graph, pool, batch, generator)
    first = BalanceMonitor(validation, Correction("blend", 0.3))
    first.start()
    first.check(3)
    second = BalanceMonitor(validation, Correction("blend", 0.3))
    second.load_state(first.state())
    assert second.checks == first.checks
    assert torch.equal(second.first, first.first)
    assert torch.equal(second.correction.values, first.correction.values)
    damaged = first.state()
    damaged["checks"][0]["shown"] = [0.5]
    with pytest.raises(CheckpointError, match="balance must have 2 numbers, got 1"):
        second.load_state(damaged)


def test_estimators_correct_networks_without_base_learners_only():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    y = (x[:, 0] > 0).astype(int)
    small = {"members": 1, "epochs": 1, "hidden_channels": 8, "num_heads": 2}
    clf = FusionClassifier(**small, level="feature", balance="dropout").fit(x, y)
    assert clf.history_.balance[-1].ratio == (1.0,)
    with pytest.raises(ConfigError, match="balance must be None for level='all'"):
        FusionClassifier(**small, balance="dropout").fit(x, y)
    with pytest.raises(ConfigError, match="balance must be None or one of dropout"):
        FusionClassifier(**small, level="feature", balance="equal").fit(x, y)
