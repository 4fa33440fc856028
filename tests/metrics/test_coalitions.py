"""Shapley values and interactions as contrasts of coalitions."""

import numpy as np
import pytest

from mmgraph.metrics.bootstrap import bootstrap_means
from mmgraph.metrics.coalitions import Coalitions, draw_ranks
from mmgraph.metrics.shortcut import presence_auroc, presence_interval

RNG = np.random.default_rng(0)


def play(game: Coalitions, value) -> np.ndarray:
    """Return the values ``[1, C]`` of the coalitions of a game."""
    return np.array([[value(frozenset(np.flatnonzero(row))) for row in game.keep]])


def random_game(count: int, seed: int = 0):
    table = np.random.default_rng(seed).normal(size=2**count)
    return lambda s: table[sum(1 << i for i in s)]


@pytest.mark.parametrize("orders", [None, 3])
def test_shares_sum_to_the_value_of_all_minus_nothing(orders):
    game = Coalitions(5, None if orders is None else draw_ranks(orders, 5, 0))
    shares = game.shapley()
    value = random_game(5)
    total = shares(play(game, value)).sum()
    assert total == pytest.approx(value(range(5)) - value(()), abs=1e-12)


def test_equal_players_have_equal_shares_and_a_dummy_has_zero():
    game = Coalitions(4)
    shares, pairs = game.shapley(), game.interactions()
    # players 0 and 1 are copies, player 3 is never read
    values = play(
        game, lambda s: 2.0 * bool({0, 1} & s) + 0.5 * (2 in s) * (0 in s or 1 in s)
    )
    [share], [index] = shares(values), pairs(values)
    assert share[0] == pytest.approx(share[1], abs=1e-12)
    assert share[3] == 0
    by_pair = dict(zip(game.pairs(), index, strict=True))
    assert by_pair[0, 1] < 0 < by_pair[0, 2]
    assert [by_pair[i, 3] for i in range(3)] == pytest.approx([0, 0, 0], abs=1e-12)


def test_quantities_are_linear_in_the_game():
    game = Coalitions(4)
    contrasts = [game.shapley(), game.alone(), game.last(), game.interactions()]
    a, b = play(game, random_game(4, 1)), play(game, random_game(4, 2))
    for contrast in contrasts:
        np.testing.assert_allclose(contrast(a + 2 * b), contrast(a) + 2 * contrast(b))


def test_a_game_of_two_players_has_a_closed_form():
    game = Coalitions(2)
    shares, alone, last = game.shapley(), game.alone(), game.last()
    index = game.interactions()
    v = {
        frozenset(): 1.0,
        frozenset({0}): 4.0,
        frozenset({1}): 2.0,
        frozenset({0, 1}): 9.0,
    }
    values = play(game, v.__getitem__)
    np.testing.assert_allclose(shares(values), [[5, 3]])
    np.testing.assert_allclose(alone(values), [[3, 1]])
    np.testing.assert_allclose(last(values), [[7, 5]])
    np.testing.assert_allclose(index(values), [[4]])


def test_interactions_follow_their_definition():
    """Mean over sets, weighted by size: Grabisch and Roubens, 1999."""
    from itertools import combinations
    from math import factorial

    count, value = 4, random_game(4, 3)
    game = Coalitions(count)
    index = game.interactions()
    [found] = index(play(game, value))
    for (i, j), got in zip(game.pairs(), found, strict=True):
        others, expected = [k for k in range(count) if k not in (i, j)], 0.0
        for size in range(count - 1):
            weight = (
                factorial(size) * factorial(count - size - 2) / factorial(count - 1)
            )
            for s in combinations(others, size):
                gain = value((*s, i, j)) - value((*s, i)) - value((*s, j)) + value(s)
                expected += weight * gain
        assert got == pytest.approx(expected, abs=1e-12)


def test_random_orders_approach_exact_interactions():
    value = random_game(5, 4)
    exact, drawn = Coalitions(5), Coalitions(5, draw_ranks(600, 5, 0))
    results = []
    for game in (exact, drawn):
        contrast = game.interactions()
        results.append(contrast(play(game, value))[0])
    assert np.abs(results[0] - results[1]).max() < 0.25
    assert np.abs(results[0]).max() > 1


def test_a_single_player_has_no_pairs():
    game = Coalitions(1)
    shares, index = game.shapley(), game.interactions()
    values = play(game, lambda s: 3.0 * len(s))
    np.testing.assert_allclose(shares(values), [[3]])
    assert index(values).shape == (1, 0)


# Intervals


def test_intervals_of_repeated_groups_are_wider():
    values = np.repeat(RNG.normal(size=(40, 1)), 10, axis=0)
    groups = np.repeat(np.arange(40), 10)
    [alone], [grouped] = bootstrap_means(values), bootstrap_means(values, groups)
    assert alone.mean == pytest.approx(grouped.mean, abs=1e-12)
    assert grouped.high - grouped.low > 2.5 * (alone.high - alone.low)  # sqrt(10)


def test_intervals_cover_the_mean_and_are_reproducible():
    hits = 0
    for seed in range(200):
        values = np.random.default_rng(seed).normal(size=(60, 1))
        [each] = bootstrap_means(values, resamples=300, seed=seed)
        hits += each.low <= 0 <= each.high
    assert 0.89 <= hits / 200 <= 0.99
    assert bootstrap_means(values, seed=1) == bootstrap_means(values, seed=1)


def test_few_groups_are_not_resampled_and_a_single_sample_has_no_interval():
    values = RNG.normal(size=(60, 1))
    assert bootstrap_means(values, np.arange(60) % 9) == bootstrap_means(values)
    assert bootstrap_means(values, np.arange(60) % 10) != bootstrap_means(values)
    [each] = bootstrap_means(np.ones((1, 1)))
    assert each.mean == 1
    assert np.isnan([each.low, each.high]).all()


# Presence


def informative(num: int = 400, effect: float = 0.3):
    y = RNG.integers(2, size=num)
    return np.stack([RNG.random(num) < 0.4 + effect * y, RNG.random(num) < 0.6], 1), y


def test_presence_that_depends_on_the_label_is_found():
    present, y = informative()
    value = presence_interval(present, y)
    assert 0.55 < value.low < value.mean < value.high < 0.75
    assert value.mean == presence_auroc(present, y)[0]


def test_presence_without_a_relation_is_rarely_found():
    hits = sum(presence_interval(*informative(200, 0.0)).low > 0.5 for _ in range(60))
    assert hits <= 4


def test_the_interval_is_that_of_the_bootstrap():
    from mmgraph.metrics import auroc

    present, y = informative()
    value, (_, proba) = presence_interval(present, y), presence_auroc(present, y)
    draws = (RNG.integers(len(y), size=len(y)) for _ in range(400))
    areas = [auroc(y[rows], proba[rows]) for rows in draws]
    assert value.high - value.low == pytest.approx(3.92 * np.std(areas), rel=0.15)


def test_repeated_groups_widen_the_interval_of_presence():
    present, y = informative(100, 0.4)
    present, y, groups = (np.repeat(x, 8, axis=0) for x in (present, y, np.arange(100)))
    free, grouped = presence_interval(present, y), presence_interval(present, y, groups)
    assert grouped.high - grouped.low > 2 * (free.high - free.low)


def test_presence_without_variation_is_chance():
    y = np.arange(20) % 2
    assert presence_interval(np.ones((20, 3), bool), y) == (0.5, 0.5, 0.5)
    one_class = presence_interval(RNG.random((20, 3)) > 0.5, np.zeros(20, int))
    assert one_class == (0.5, 0.5, 0.5)
