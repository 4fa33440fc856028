import math

import pytest
import torch
import torch.nn.functional as F

from mmgraph import losses

NAN = math.nan


def leaf(*shape):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def gradient(loss, x):
    (result,) = torch.autograd.grad(loss.sum(), x, materialize_grads=True)
    return result


def test_cross_entropy_leaves_unknown_classes_out():
    logits, y = leaf(5, 3), torch.tensor([0, -1, 2, 1, -1])
    known = y >= 0
    loss = losses.cross_entropy(logits, y)
    torch.testing.assert_close(loss, F.cross_entropy(logits[known], y[known]))
    assert not gradient(loss, logits)[~known].any()
    assert gradient(losses.cross_entropy(logits, y), logits)[known].all()


def test_binary_cross_entropy_leaves_unknown_cells_out():
    logits = leaf(4, 2)
    y = torch.tensor([[0, 1], [NAN, 1], [1, NAN], [NAN, NAN]], dtype=torch.float64)
    known = ~y.isnan()
    loss = losses.binary_cross_entropy(logits, y)
    expected = F.binary_cross_entropy_with_logits(logits[known], y[known])
    torch.testing.assert_close(loss, expected)
    assert not gradient(loss, logits)[~known].any()


def test_squared_error_leaves_unknown_cells_out():
    prediction = leaf(3, 2)
    y = torch.tensor([[0, 1], [NAN, 1], [NAN, NAN]], dtype=torch.float64)
    known = ~y.isnan()
    loss = losses.squared_error(prediction, y)
    torch.testing.assert_close(loss, F.mse_loss(prediction[known], y[known]))
    assert not gradient(loss, prediction)[~known].any()


UNKNOWN = {
    "cross_entropy": torch.full((4,), -1),
    "binary_cross_entropy": torch.full((4, 3), NAN, dtype=torch.float64),
    "squared_error": torch.full((4, 3), NAN, dtype=torch.float64),
}
ALIGNED_WEIGHTS = {
    "cross_entropy": torch.tensor([0, 1, 2, 0]),
    "binary_cross_entropy": torch.ones(4, 3, dtype=torch.float64),
    "squared_error": torch.ones(4, 3, dtype=torch.float64),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_a_loss_without_a_valid_term_is_zero_with_zero_gradients(name):
    function, logits = getattr(losses, name), leaf(4, 3)
    nobody = torch.zeros(4, dtype=torch.float64)
    for loss in (
        function(logits, UNKNOWN[name]),
        function(logits, ALIGNED_WEIGHTS[name], nobody),
        function(logits[:0], ALIGNED_WEIGHTS[name][:0]),
    ):
        assert loss.item() == 0
        assert not gradient(loss, logits).any()
    assert function(logits, ALIGNED_WEIGHTS[name]).item() > 0


@pytest.mark.parametrize("name", ALIGNED_WEIGHTS)
def test_members_have_a_loss_of_their_own_and_weights_count(name):
    function, logits, y = getattr(losses, name), leaf(2, 4, 3), ALIGNED_WEIGHTS[name]
    weight = torch.tensor([[1.0, 0, 0, 0], [0, 1, 1, 0]], dtype=torch.float64)
    expected = [function(logits[0, :1], y[:1]), function(logits[1, 1:3], y[1:3])]
    torch.testing.assert_close(function(logits, y, weight), torch.stack(expected))
    assert function(logits, y).shape == (2,)
    torch.testing.assert_close(function(logits, y)[1], function(logits[1], y))
    torch.testing.assert_close(function(logits, y, 7 * weight), torch.stack(expected))


def test_gaussian_likelihood_equals_torch_and_detaches_its_target():
    mean, log_variance, target = leaf(5, 3), leaf(5, 3), leaf(5, 3)
    loss = losses.gaussian_nll(mean, log_variance, target).loss
    expected = F.gaussian_nll_loss(mean, target.detach(), log_variance.exp())
    torch.testing.assert_close(loss, expected)
    assert gradient(loss, mean).any()
    assert torch.autograd.grad(loss.detach() + loss, target, allow_unused=True) == (
        None,
    )


def test_gaussian_likelihood_without_rows_is_zero_with_zero_gradients():
    mean, log_variance = leaf(2, 0, 3), leaf(2, 0, 3)
    loss = losses.gaussian_nll(mean, log_variance, torch.zeros(2, 0, 3).double()).loss
    assert loss.tolist() == [0, 0]
    loss.sum().backward()
    assert mean.grad.shape == log_variance.grad.shape == (2, 0, 3)


def test_masked_error_reads_valid_cells_only():
    prediction, target = leaf(2, 3, 2), torch.randn(3, 2, dtype=torch.float64)
    valid = torch.tensor([[True, False], [True, True], [False, False]])
    target[~valid] = NAN
    target.requires_grad_()
    loss = losses.masked_squared_error(prediction, target, valid).loss
    for member in range(2):
        expected = F.mse_loss(prediction[member][valid], target[valid])
        torch.testing.assert_close(loss[member], expected)
    grad = gradient(loss, prediction)
    assert not grad[:, ~valid].any()
    assert grad[:, valid].all()
    assert torch.autograd.grad(loss.sum() * 1, target, allow_unused=True) == (None,)
    nothing = losses.masked_squared_error(prediction, target, valid & ~valid).loss
    assert nothing.tolist() == [0, 0]
    assert not gradient(nothing, prediction).any()


def test_weighted_mean_of_weights_zero_is_zero():
    x = leaf(2, 3)
    weight = torch.tensor([[0.0, 0, 0], [0, 2, 2]], dtype=torch.float64)
    mean = losses.weighted_mean(x, weight)
    assert mean[0].item() == 0
    torch.testing.assert_close(mean[1], x[1, 1:].mean())
    assert not gradient(mean, x)[0].any()


def test_info_nce_is_cross_entropy_in_both_directions():
    scores, every = leaf(4, 4), torch.ones(4, 4, dtype=torch.bool)
    match, y = torch.eye(4, dtype=torch.bool), torch.arange(4)
    expected = (F.cross_entropy(scores, y) + F.cross_entropy(scores.T, y)) / 2
    torch.testing.assert_close(losses.info_nce(scores, match, every), expected)


def test_several_positives_share_a_row():
    scores, every = leaf(2, 3), torch.ones(2, 3, dtype=torch.bool)
    positive = torch.tensor([[True, True, False], [False, False, False]])
    there = -scores.log_softmax(1)[0, :2].mean()
    back = -scores.T.log_softmax(1)[:2, 0].mean()
    loss = losses.info_nce(scores, positive, every)
    torch.testing.assert_close(loss, (there + back) / 2)


def test_sigmoid_loss_decides_each_pair():
    scores, every = leaf(3, 3), torch.ones(3, 3, dtype=torch.bool)
    match = torch.eye(3, dtype=torch.bool)
    expected = F.binary_cross_entropy_with_logits(
        scores, match.double(), reduction="sum"
    )
    loss = losses.sigmoid_contrastive(scores, match, every)
    torch.testing.assert_close(loss, expected / 3)


@pytest.mark.parametrize("name", ["info_nce", "sigmoid_contrastive"])
def test_pairs_with_a_missing_side_are_not_read(name):
    function = getattr(losses, name)
    scores, match = leaf(2, 4, 4), torch.eye(4, dtype=torch.bool)
    a = torch.tensor([True, True, False, True])
    b = torch.tensor([True, True, True, False])
    valid = a[:, None] & b
    poisoned = torch.where(valid, scores, NAN)
    loss, clean = function(poisoned, match, valid), function(scores, match, valid)
    assert torch.equal(loss, clean)
    assert loss.shape == (2,)
    assert torch.equal(loss[1], function(scores[1], match, valid))
    gradients = gradient(loss, scores)
    assert not gradients[:, ~valid].any()
    assert torch.isfinite(gradients).all()
    smaller = function(scores[:, a][:, :, b], match[a][:, b], valid[a][:, b])
    torch.testing.assert_close(loss, smaller)


@pytest.mark.parametrize("name", ["info_nce", "sigmoid_contrastive"])
def test_contrast_without_a_valid_pair_is_zero_with_zero_gradients(name):
    function, scores = getattr(losses, name), leaf(3, 3)
    nobody, match = torch.zeros(3, 3, dtype=torch.bool), torch.eye(3, dtype=torch.bool)
    for loss in (
        function(scores, match, nobody),
        function(scores[:0], match[:0], nobody[:0]),
        function(scores[:, :0], match[:, :0], nobody[:, :0]),
    ):
        assert loss.item() == 0
        assert not gradient(loss, scores).any()
    assert function(scores, match, ~nobody).item() > 0
