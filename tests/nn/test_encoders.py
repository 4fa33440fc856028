import math

import pytest
import torch

from mmgraph.nn import EmbeddingEncoder, Encoded, SequenceEncoder, VectorEncoder
from mmgraph.nn.scaling import CLIP, StandardScaler

NAN = math.nan


def vector_of(rows, encoder):
    """What the encoder's affine map gets: a map that passes its input on."""
    sample = torch.zeros(len(rows)).long()
    return encoder.prepare(Encoded(rows, sample, None), 1).h


# Standardization


def test_scaling_reads_observed_cells_of_the_given_rows_only():
    x = torch.tensor([[1.0, NAN], [3.0, 10.0], [NAN, 14.0], [5.0, 12.0]])
    scaler = StandardScaler(2)
    scaler.fit(x)
    torch.testing.assert_close(scaler.mean, torch.tensor([3.0, 12.0]))
    torch.testing.assert_close(scaler.scale.square(), torch.tensor([8 / 3, 8 / 3]))
    other = torch.tensor([[100.0, NAN]])
    before = scaler.mean.clone()
    scaled = scaler(other)
    assert torch.equal(scaler.mean, before)
    assert scaled.tolist() == [[CLIP, 0.0, 0.0, 1.0]]


def test_observed_training_cells_are_standardized():
    x = 5 + 3 * torch.randn(200, 3)
    x[torch.rand(200, 3) < 0.3] = NAN
    scaler = StandardScaler(3)
    scaler.fit(x)
    z, missing = scaler(x).chunk(2, 1)
    assert torch.equal(missing.bool(), x.isnan())
    assert not z[x.isnan()].any()
    for c in range(3):
        seen = z[~x[:, c].isnan(), c]
        assert abs(seen.mean().item()) < 1e-5
        assert seen.std(correction=0).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("constant", [0.0, 7.5, -1e6, 1e-9])
def test_a_constant_channel_is_scaled_by_one(constant):
    x = torch.full((5, 1), constant)
    scaler = StandardScaler(1)
    scaler.fit(x)
    assert scaler.scale.tolist() == [1]
    assert not scaler(x).any()
    assert scaler(x + 3)[0, 0].item() == pytest.approx(3, abs=0.1)


@pytest.mark.parametrize("value", [1e20, -1e30, 3e38, -99999.0])
def test_a_fill_value_has_no_say_in_the_scale(value):
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    clean, spoilt = x.clone(), x.clone()
    clean[::40, 0], spoilt[::40, 0] = NAN, value
    expected, scaler = StandardScaler(2), StandardScaler(2)
    expected.fit(clean)
    scaler.fit(spoilt)
    torch.testing.assert_close(scaler.state_dict(), expected.state_dict())
    outputs = scaler(spoilt)
    assert torch.equal(outputs[::40, 0], torch.full((5,), CLIP if value > 0 else -CLIP))
    assert torch.equal(outputs[:, 2:], torch.zeros(200, 2))


def test_what_is_only_far_is_counted():
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    x[0, 0], x[:, 1] = 1000.0, (x[:, 1] > 2.5).float()  # an error, a rare flag
    x[:, 2] = x[:, 2].mul(2).exp()  # a long tail
    scaler = StandardScaler(3)
    scaler.fit(x)
    torch.testing.assert_close(scaler.mean, x.mean(0))
    torch.testing.assert_close(scaler.scale, x.std(0, correction=0))


def test_a_channel_that_was_never_observed_and_no_rows_at_all_are_harmless():
    for x in (torch.full((3, 1), NAN), torch.empty(0, 1)):
        scaler = StandardScaler(1)
        scaler.fit(x)
        assert (scaler.mean.tolist(), scaler.scale.tolist()) == ([0], [1])
        assert scaler(torch.tensor([[2.0], [NAN]])).tolist() == [[2, 0], [0, 1]]


def test_statistics_are_saved_with_the_parameters():
    encoder = VectorEncoder(2, 4)
    encoder.fit(torch.randn(9, 2), torch.arange(9), 9)
    fresh = VectorEncoder(2, 4)
    fresh.load_state_dict(encoder.state_dict())
    assert torch.equal(fresh.scaler.mean, encoder.scaler.mean)
    assert encoder.scaler.mean.any()


# Vectors and embeddings


@pytest.mark.parametrize("members", [None, 3])
@pytest.mark.parametrize("cls", [VectorEncoder, EmbeddingEncoder])
def test_each_row_is_a_node_of_its_own(cls, members):
    encoder = cls(3, 8, members=members)
    x = torch.randn(5, 3)
    x[1, 2] = NAN
    sample, time = torch.tensor([0, 0, 1, 4, 4]), torch.arange(5.0)
    encoded = encoder(x, sample, time, 6)
    leading = () if members is None else (members,)
    assert encoded.h.shape == (*leading, 5, 8)
    assert encoded.h.isfinite().all()
    assert encoded.sample is sample
    assert encoded.time is time
    for row in range(5):
        alone = encoder(x[[row]], torch.tensor([0]), None, 1).h
        torch.testing.assert_close(alone[..., 0, :], encoded.h[..., row, :])


@pytest.mark.parametrize("cls", [VectorEncoder, EmbeddingEncoder, SequenceEncoder])
def test_a_batch_without_rows_gives_no_nodes_and_zero_gradients(cls):
    for members in (None, 2):
        encoder = cls(3, 8, members=members)
        nothing = torch.empty(0).long()
        encoder.fit(torch.empty(0, 3), nothing, 4)
        encoded = encoder(torch.empty(0, 3), nothing, torch.empty(0), 4)
        assert encoded.h.shape[-2:] == (0, 8)
        assert (len(encoded.sample), len(encoded.time)) == (0, 0)
        encoded.h.sum().backward()
        assert not any(p.grad.any() for p in encoder.parameters())


def test_a_vector_row_is_a_map_of_its_values_and_flags():
    encoder = VectorEncoder(2, 4)
    encoder.fit(torch.tensor([[0.0, 1.0], [2.0, 3.0]]), torch.arange(2), 2)
    given = vector_of(torch.tensor([[3.0, NAN]]), encoder)
    assert given.tolist() == [[2.0, 0.0, 0.0, 1.0]]


def test_an_embedding_is_normalised_by_row_and_a_missing_cell_counts_as_zero():
    x = torch.tensor([[1.0, NAN, 5.0], [3.0, 3.0, 3.0]])
    given = vector_of(x, EmbeddingEncoder(3, 4))
    row = torch.tensor([1.0, 0.0, 5.0])
    expected = (row - row.mean()) / (row.var(correction=0) + 1e-5).sqrt()
    torch.testing.assert_close(given[0], expected)
    assert not given[1].any()


def test_the_scale_of_an_embedding_does_not_matter():
    encoder, x = EmbeddingEncoder(6, 4), torch.randn(3, 6)
    sample = torch.arange(3)
    once, twice = (encoder(k * x, sample, None, 3).h for k in (1, 100))
    torch.testing.assert_close(once, twice, rtol=1e-3, atol=1e-3)


# Sequences

LENGTHS = [3, 0, 4, 11, 1]


def sequences(channels=2):
    sample = torch.repeat_interleave(torch.tensor(LENGTHS))
    x = torch.randn(len(sample), channels)
    x[torch.rand(x.shape) < 0.2] = NAN
    x[-1, 0] = NAN  # the only row of the last sample
    return x, sample, torch.rand(len(sample)).cumsum(0)


def summary_of(rows, place):
    """The five statistics by channel, and the place, with a plain loop."""
    mean, std, low, high, step = [], [], [], [], []
    for column in rows.T:
        seen = column[~column.isnan()]
        steps = column.diff().abs()
        steps = steps[~steps.isnan()]
        known = len(seen) > 0
        mean.append(seen.mean().item() if known else NAN)
        std.append(max(seen.std(correction=0).item(), 1e-6) if known else NAN)
        low.append(seen.min().item() if known else NAN)
        high.append(seen.max().item() if known else NAN)
        default = 0.0 if known else NAN
        step.append(steps.mean().item() if len(steps) else default)
    return [*mean, *std, *low, *high, *step, place]


def expected_segments(x, sample, time, max_nodes):
    rows, owner, when = [], [], []
    for s, length in enumerate(LENGTHS):
        mine, clock = x[sample == s], time[sample == s]
        nodes = min(length, max_nodes)
        number = torch.tensor([p * nodes // length for p in range(length)])
        for node in range(nodes):
            rows.append(summary_of(mine[number == node], node / nodes))
            owner.append(s)
            when.append(clock[number == node].mean())
    return torch.tensor(rows), owner, torch.stack(when)


@pytest.mark.parametrize("max_nodes", [1, 4, 16])
def test_segments_equal_a_loop(max_nodes):
    x, sample, time = sequences()
    encoder = SequenceEncoder(2, 8, max_nodes=max_nodes)
    caught = []
    encoder.vector.scaler.register_forward_pre_hook(
        lambda _, args: caught.append(args[0])
    )
    encoded = encoder(x, sample, time, len(LENGTHS))
    rows, owner, when = expected_segments(x, sample, time, max_nodes)
    assert encoded.sample.tolist() == owner
    assert encoded.h.shape == (len(owner), 8)
    torch.testing.assert_close(encoded.time, when)
    torch.testing.assert_close(caught[0], rows, equal_nan=True, rtol=1e-4, atol=1e-5)


def test_a_sequence_is_summarised_without_its_mates():
    x, sample, time = sequences()
    encoder = SequenceEncoder(2, 8, max_nodes=4)
    encoder.fit(x, sample, len(LENGTHS))
    together = encoder(x, sample, time, len(LENGTHS))
    for s, length in enumerate(LENGTHS):
        mine = sample == s
        alone = encoder(x[mine], torch.zeros(length).long(), time[mine], 1)
        expected = together.h[together.sample == s]
        torch.testing.assert_close(alone.h, expected, rtol=1e-4, atol=1e-5)


def test_sequences_are_standardised_by_their_segments():
    x, sample, _ = sequences()
    encoder = SequenceEncoder(2, 8, max_nodes=4)
    encoder.fit(x, sample, len(LENGTHS))
    rows, _, _ = expected_segments(x, sample, torch.arange(len(x)).float(), 4)
    expected = rows.nanmean(0)
    torch.testing.assert_close(
        encoder.vector.scaler.mean, expected, rtol=1e-4, atol=1e-5
    )


def test_a_sequence_without_time_has_none():
    x, sample, _ = sequences()
    assert SequenceEncoder(2, 8)(x, sample, None, len(LENGTHS)).time is None


def test_members_of_a_sequence_encoder_differ():
    x, sample, time = sequences()
    h = SequenceEncoder(2, 8, members=2)(x, sample, time, len(LENGTHS)).h
    assert h.shape[0] == 2
    assert not torch.allclose(h[0], h[1])
