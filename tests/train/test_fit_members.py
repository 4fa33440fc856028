"""Training of members on the residual of the pool."""

from dataclasses import replace

import pytest
import torch
from toy_ensemble import MEMBERS, NUM, build, make

from mmgraph.train import TrainingSet, TrainOptions, fit_members
from mmgraph.train.validation import Validation

OPTIONS = TrainOptions(
    max_steps=150,
    batch_size=100,
    learning_rate=0.01,
    weight_decay=0.01,
    missing_rate=0.0,
)


def fit(data: TrainingSet, options: TrainOptions = OPTIONS, seed: int = 0, **model):
    graph, pool = build(**model)
    generator = torch.Generator().manual_seed(seed)
    steps: list[int] = []
    beta, history = fit_members(
        graph, pool, data, options, generator=generator, on_step=steps.append
    )
    return graph, beta, history, steps


@pytest.mark.slow
def test_interaction_is_learned_and_weighed_in():
    data = make()
    graph, beta, history, steps = fit(data)
    assert beta > 0.3
    logits = graph(data.batch_of(torch.arange(NUM)), torch.zeros(NUM, 2, 2)).logits
    hits = (logits.argmax(2) == data.y).float()
    held_out = data.member_weights == 0
    assert hits[held_out].mean() > 0.8
    assert history.steps == len(steps) == steps[-1]
    assert len(history.held_out_loss[0]) == MEMBERS


def test_batches_of_an_epoch_hold_every_sample_once():
    batches = make().batches(64, torch.Generator().manual_seed(0))
    for _ in range(2):
        epoch = [next(batches) for _ in range(3)]
        assert [len(part) for part in epoch] == [67, 67, 66]
        assert torch.cat([part.groups for part in epoch]).unique().numel() == NUM


def test_batches_resume_from_a_saved_state():
    generator = torch.Generator().manual_seed(0)
    first = make().batches(64, generator)
    next(first)
    saved, drawn = first.state(), generator.get_state()
    expected = [next(first).groups for _ in range(4)]
    generator.set_state(drawn)
    second = make().batches(64, generator)
    second.load_state(saved)
    resumed = [next(second).groups for _ in range(4)]
    assert all(torch.equal(x, y) for x, y in zip(expected, resumed, strict=True))


def test_any_source_feeds_the_loop():
    """A source of chunks, each shuffled, teaches what the whole set does."""
    data = make()

    class ChunkIterator:
        def validation_batch(self, most, generator):
            return data.take(torch.arange(most).clamp(max=NUM - 1).unique())

        def batches(self, batch_size, generator, processes):
            self.size, self.generator, self.left = batch_size, generator, []
            return self

        def __iter__(self):
            return self

        def __next__(self):
            if not self.left:
                for rows in torch.arange(NUM).chunk(2):
                    order = torch.randperm(len(rows), generator=self.generator)
                    self.left += rows[order].split(self.size)
            return data.take(self.left.pop(0))

        def state(self):
            return {}

        def load_state(self, state):
            assert not state

    _, beta, history, _ = fit(ChunkIterator())
    assert beta > 0.3
    assert len(history.beta_loss) == 6


def test_noise_is_not_weighed_in():
    _, beta, history, _ = fit(make("noise"), replace(OPTIONS, patience=4))
    assert beta <= 0.25
    assert history.steps < OPTIONS.max_steps  # stopped early


def test_members_keep_their_best_parameters():
    graph, pool = build()
    generator = torch.Generator().manual_seed(0)
    validation = Validation(
        graph, pool, make().validation_batch(NUM, generator), generator
    )
    bias = graph.head.linear.bias  # [E, 1, K]
    good = {name: p.detach().clone() for name, p in graph.named_parameters()}
    for spoilt in (0, 1):  # each member in turn predicts one class with certainty
        with torch.no_grad():
            bias[spoilt, 0, 0] = 100.0
        validation.check()
        with torch.no_grad():
            bias[spoilt, 0, 0] = good["head.linear.bias"][spoilt, 0, 0]
    with torch.no_grad():
        for p in graph.parameters():
            p.mul_(30)
    validation.check()
    validation.restore()
    for name, p in graph.named_parameters():
        assert torch.equal(p, good[name]), name


def test_samples_of_weight_zero_do_not_change_a_member():
    data = replace(make(), member_weights=torch.zeros(MEMBERS, NUM))
    options = replace(OPTIONS, max_steps=5, weight_decay=0.0)
    graph, _, _, _ = fit(data, options)
    before, _ = build()
    for name, parameter in graph.named_parameters():
        assert torch.equal(parameter, dict(before.named_parameters())[name])


def test_same_generator_gives_the_same_bits():
    options = replace(OPTIONS, max_steps=10, missing_rate=0.4)
    states = [fit(make(), options, seed)[0].state_dict() for seed in (0, 0, 1)]
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not all(torch.equal(states[0][k], states[2][k]) for k in states[0])


def test_completion_is_trained():
    options = replace(OPTIONS, max_steps=5, missing_rate=0.4)
    graph, _, _, _ = fit(make(), options, completion=True)
    before, _ = build(completion=True)
    old = dict(before.named_parameters())
    changed = [n for n, p in graph.named_parameters() if not torch.equal(p, old[n])]
    assert any("ghosts" in name for name in changed)
    assert all(p.isfinite().all() for p in graph.parameters())
