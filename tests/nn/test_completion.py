import math

import pytest
import torch

from mmgraph import Batch, Classification, FusionModel, Modality, Schema, SchemaError
from mmgraph.losses import gaussian_nll
from mmgraph.nn import CompletionDecoder
from mmgraph.nn.completion import MAX_LOG_VARIANCE, Completed, completion_loss

SCHEMA = Schema.complete(
    [Modality("a", 3), Modality("b", 2, tokens="ragged", time=True), Modality("c", 4)]
)


def make_batch():
    """Five samples: 0 has a and b, 1 has a and c, 2 nothing, 3 b and c, 4 only c."""
    x = {"a": torch.randn(2, 3), "b": torch.randn(5, 2), "c": torch.randn(3, 4)}
    x["c"][0, 1] = math.nan
    sample = {
        "a": torch.tensor([0, 1]),
        "b": torch.tensor([0, 0, 3, 3, 3]),
        "c": torch.tensor([1, 3, 4]),
    }
    time = {"b": torch.tensor([0, 1.0, 0, 0.5, 2])}
    return Batch(5, x, sample, time)


def make_model(**options):
    options = {"completion": True, "hidden_channels": 8} | options
    return FusionModel(SCHEMA, task=Classification(2), **options)


def loss_of(output):
    return torch.stack([x.sum() for x in output.auxiliary]).sum()


HIDE = torch.tensor([[1, 0, 0], [0, 0, 1], [1, 1, 1], [0, 1, 0], [0, 0, 0]]).bool()


# The decoder


@pytest.mark.parametrize("members", [None, 3])
def test_reliability_is_never_above_one(members):
    decoder = CompletionDecoder(8, 5, members=members)
    leading = () if members is None else (members,)
    placeholder, sample = 50 * torch.randn(*leading, 40, 8), torch.arange(40)
    done = decoder(placeholder, sample)
    assert done.h.shape == (*leading, 40, 8)
    assert done.x.shape == (*leading, 40, 5)
    assert done.sample is sample
    assert done.log_reliability.shape == (*leading, 40)
    assert (done.log_reliability <= 0).all()
    assert done.log_reliability.std() > 0
    assert done.log_variance.abs().max() <= MAX_LOG_VARIANCE


def test_what_is_uncertain_is_unreliable():
    sure, unsure = (
        Completed(torch.arange(1), torch.zeros(1, 4), torch.full((1, 4), s), None)
        for s in (-3.0, 3.0)
    )
    assert sure.log_reliability.item() == pytest.approx(-math.log1p(math.exp(-3)))
    assert unsure.log_reliability < sure.log_reliability


def test_a_decoder_without_features_predicts_the_state_only():
    done = CompletionDecoder(8, None)(torch.randn(2, 8), torch.arange(2))
    assert done.x is None
    assert done.h.shape == (2, 8)


def test_the_loss_is_likelihood_plus_error_of_observed_cells():
    decoder = CompletionDecoder(8, 3)
    done = decoder(torch.randn(2, 8), torch.arange(2))
    state = torch.randn(2, 8, requires_grad=True)
    x = torch.tensor([[1.0, math.nan, 0.0], [math.nan, math.nan, 2.0]])
    seen = ~x.isnan()
    likelihood = gaussian_nll(done.h, done.log_variance, state).loss
    error = (done.x[seen] - x[seen]).square().mean()
    loss = completion_loss(done, state, x).loss
    torch.testing.assert_close(loss, likelihood + error)
    torch.testing.assert_close(completion_loss(done, state, None).loss, likelihood)
    loss.backward()
    assert state.grad is None
    assert all(p.grad.any() for p in decoder.parameters())


def test_the_loss_of_no_rows_is_zero_with_zero_gradients():
    decoder = CompletionDecoder(8, 3, members=2)
    done = decoder(torch.empty(2, 0, 8), torch.empty(0).long())
    loss = completion_loss(done, torch.empty(2, 0, 8), torch.empty(0, 3)).loss
    assert loss.tolist() == [0, 0]
    loss.sum().backward()
    assert not any(p.grad.any() for p in decoder.parameters())


# In a model


@pytest.mark.parametrize("members", [None, 2])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_what_is_held_out_is_completed_and_scored(num_layers, members):
    model = make_model(num_layers=num_layers, members=members)
    batch = make_batch()
    output = model(batch.hold_out(HIDE))
    samples = {name: done.sample.tolist() for name, done in output.completed.items()}
    assert samples == {"a": [0], "b": [3], "c": [1]}
    assert output.completed["a"].x.shape[-2:] == (1, 3)
    assert output.completed["b"].x is None
    assert len(output.auxiliary) == 3
    leading = () if members is None else (members,)
    assert all(loss.shape == leading for loss in output.auxiliary)
    loss_of(output).backward()
    for name in "abc":
        assert model.ghosts.states[name].grad.any()
        assert all(p.grad.any() for p in model.ghosts.decoders[name].parameters())


def test_nothing_held_out_means_no_loss_and_no_completion():
    model, batch = make_model(), make_batch()
    for nothing in (batch, batch.hold_out(HIDE & False)):
        output = model(nothing)
        assert output.auxiliary == ()
        assert output.completed == {}
        torch.testing.assert_close(output.logits, model(batch).logits)


def test_what_is_requested_is_completed_where_it_is_missing_but_not_scored():
    model, batch = make_model(), make_batch()
    output = model(batch, complete=["a", "b"])
    assert output.completed["a"].sample.tolist() == [2, 3, 4]
    assert output.completed["b"].sample.tolist() == [1, 2, 4]
    assert output.auxiliary == ()
    both = model(batch.hold_out(HIDE), complete=["a"])
    assert both.completed["a"].sample.tolist() == [0, 2, 3, 4]
    assert both.completed["c"].sample.tolist() == [1]
    alone = model(batch.hold_out(HIDE))
    torch.testing.assert_close(loss_of(both), loss_of(alone))


def test_receive_only_placeholders_change_no_prediction():
    model, batch = make_model(promote=False), make_batch()
    requested = model(batch, complete=["a", "b", "c"])
    torch.testing.assert_close(requested.logits, model(batch).logits)


def test_promoted_placeholders_change_the_predictions_of_their_samples_only():
    batch = make_batch()
    model = make_model(promote=True)
    before, after = model(batch).logits, model(batch, complete=["b"]).logits
    same = torch.isclose(before, after, rtol=1e-5, atol=1e-7).all(1)
    assert same.tolist() == [True, False, False, True, False]


def test_an_unreliable_completion_hardly_counts():
    batch, model = make_batch(), make_model(promote=True)
    with torch.no_grad():
        decoder = model.ghosts.decoders["b"]
        gap = {}
        for log_variance in (-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE):
            decoder.log_variance.weight.zero_()
            decoder.log_variance.bias.fill_(log_variance)
            change = model(batch, complete=["b"]).logits - model(batch).logits
            gap[log_variance] = change.norm()
    assert gap[MAX_LOG_VARIANCE] < 0.05 * gap[-MAX_LOG_VARIANCE]
    assert gap[-MAX_LOG_VARIANCE] > 0


@pytest.mark.parametrize("execution", ["dense", "sparse"])
def test_targets_are_detached_and_hidden_content_reaches_no_prediction(execution):
    model = make_model(promote=True, execution=execution)
    batch = make_batch()
    only_a = HIDE & torch.tensor([True, False, False])
    hidden = batch.hold_out(only_a)
    hidden.x["a"].requires_grad_()
    output = model(hidden)
    gradient = torch.autograd.grad(
        output.logits.sum() + loss_of(output), hidden.x["a"], retain_graph=True
    )[0]
    assert not gradient[0].any()
    assert gradient[1].any()


def test_a_modality_that_nobody_has_is_completed():
    """Held-out rows of a modality are the only ones that its encoder could see."""
    model, batch = make_model(promote=True), make_batch()
    output = model(batch.select(["a", "c"]), complete=["b"])
    assert output.completed["b"].sample.tolist() == [0, 1, 2, 3, 4]
    assert output.logits.isfinite().all()


def test_completion_must_be_built_in_and_modalities_be_known():
    message = r"built with completion=True to complete a, c\."
    with pytest.raises(SchemaError, match=message):
        make_model(completion=False)(make_batch(), complete=["a", "c"])
    with pytest.raises(SchemaError, match="Modality 'zz' is unknown"):
        make_model()(make_batch(), complete=["zz"])


def test_a_placeholder_does_not_reveal_the_time_of_hidden_rows():
    timed = [Modality("labs", 1, time=True), Modality("ecg", 1, time=True)]
    schema = Schema.complete(timed)
    model = FusionModel(
        schema, Classification(2), hidden_channels=8, completion=True, promote=True
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    each, x = torch.arange(1), torch.ones(1, 1)
    outputs = []
    for seconds in (0.0, 5.0, 9.0):
        time = {"labs": torch.tensor([seconds]), "ecg": torch.tensor([7.0])}
        batch = Batch(1, dict.fromkeys(time, x), dict.fromkeys(time, each), time)
        outputs.append(model(batch.hold_out(torch.tensor([[True, False]]))).logits)
    gone = batch.drop(torch.tensor([[False, True]]))
    outputs.append(model(gone, complete=["labs"]).logits)
    assert all(torch.equal(each, outputs[0]) for each in outputs)
