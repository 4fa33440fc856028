"""Cooperative games: Shapley values and interactions as contrasts of coalitions.

A game assigns a value to each coalition of players. Every quantity here is a weighted
sum of differences between two coalitions, so that a player that never changes the value
has exactly 0.

Letters: ``N`` games, ``M`` players, ``C`` coalitions, ``T`` terms, ``R`` orders.
"""

import math
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Contrast:
    """Weighted differences between the values of two coalitions.

    Attributes:
        terms: For each quantity, the rows of two coalitions ``plus`` and ``minus``,
            each ``[T]``, and the weights ``[T]``.
    """

    terms: tuple[tuple[IntArray, IntArray, npt.NDArray[np.float64]], ...]

    def __call__(self, values: FloatArray) -> FloatArray:
        """Return the quantities ``[N, Q, ...]``, given values ``[N, C, ...]``."""
        rows = [
            np.tensordot(values[:, plus] - values[:, minus], weight, axes=(1, 0))
            for plus, minus, weight in self.terms
        ]
        empty = values[:, :0].astype(np.float64)
        return np.stack(rows, axis=1) if rows else empty

    @property
    def pairs(self) -> IntArray:
        """Pairs of coalitions that occur, ``[P, 2]``: plus, minus; each once."""
        stacked = [np.stack([plus, minus], axis=1) for plus, minus, _ in self.terms]
        pairs: IntArray = np.unique(np.concatenate(stacked), axis=0)
        return pairs


class Coalitions:
    """Coalitions whose values the requested quantities need, each listed once.

    Request the quantities first; ``keep`` then lists the coalitions to evaluate.

    Args:
        count: Number of players ``M``.
        ranks: ``[R, M]`` position of each player in random orders, from
            :func:`draw_ranks`, over which quantities are averaged; default: the exact
            mean over all orders, which needs all ``2 ** M`` coalitions.

    References:
        A Value for n-Person Games, Shapley, 1953. An Axiomatic Approach to the Concept
        of Interaction among Players in Cooperative Games, Grabisch, Roubens, 1999.

    Example:
        >>> from mmgraph.metrics.coalitions import Coalitions
        >>> game = Coalitions(2)
        >>> shares = game.shapley()
        >>> values = (game.keep @ [2.0, 1.0] + game.keep.all(1))[None]
        >>> shares(values)
        array([[2.5, 1.5]])
    """

    def __init__(self, count: int, ranks: IntArray | None = None) -> None:
        self.count = count
        self.ranks = ranks
        self._rows: dict[int, int] = {}

    @property
    def keep(self) -> BoolArray:
        """Members of each coalition, ``[C, M]``."""
        members = np.array(list(self._rows), dtype=object)[:, None]
        kept: BoolArray = (members >> np.arange(self.count)) & 1 == 1
        return kept

    def row(self, members: int) -> int:
        """Return the row of a coalition, which contains player m if bit m is set."""
        return self._rows.setdefault(members, len(self._rows))

    @property
    def everyone(self) -> int:
        """The coalition of all players."""
        return (1 << self.count) - 1

    def shapley(self) -> Contrast:
        r"""Shapley values of the players; they sum up to :math:`v(M) - v(\emptyset)`.

        .. math:: \phi_m = \sum_{S \not\ni m} \frac{s!\,(M - s - 1)!}{M!}
            \left(v(S \cup m) - v(S)\right)
        """
        if self.ranks is None:
            weights = [1 / math.comb(self.count - 1, s) for s in range(self.count)]
            terms = [
                [(s | 1 << m, s, weights[s.bit_count()] / self.count) for s in without]
                for m, without in ((m, self._without(m)) for m in range(self.count))
            ]
            return self._contrast(terms)
        weight = 1 / len(self.ranks)
        drawn: list[list[tuple[int, int, float]]] = [[] for _ in range(self.count)]
        for order in np.argsort(self.ranks, axis=1).tolist():
            before = 0
            for m in order:
                drawn[m].append((before | 1 << m, before, weight))
                before |= 1 << m
        return self._contrast(drawn)

    def alone(self) -> Contrast:
        r"""Values of single players, :math:`v(\{m\}) - v(\emptyset)`."""
        return self._contrast([[(1 << m, 0, 1.0)] for m in range(self.count)])

    def last(self) -> Contrast:
        r"""What the players add to all others, :math:`v(M) - v(M \setminus m)`."""
        everyone = self.everyone
        return self._contrast(
            [[(everyone, everyone ^ 1 << m, 1.0)] for m in range(self.count)]
        )

    def pairs(self) -> list[tuple[int, int]]:
        """Pairs of players in the order of :meth:`interactions`."""
        return list(combinations(range(self.count), 2))

    def interactions(self) -> Contrast:
        r"""Shapley interaction indices of the pairs; negative where players overlap.

        .. math:: I_{ij} = \sum_{S \not\ni i, j} \frac{s!\,(M - s - 2)!}{(M - 1)!}
            \left(v(S \cup ij) - v(S \cup i) - v(S \cup j) + v(S)\right)

        Random orders contribute the pairs that follow each other, ``S`` being the
        players before them. A pair that never does has the index 0.
        """
        drawn: dict[tuple[int, int], list[tuple[int, float]]] = {}
        if self.ranks is None:
            weights = [1 / math.comb(self.count - 2, s) for s in range(self.count - 1)]
            for i, j in self.pairs():
                drawn[i, j] = [
                    (s, weights[s.bit_count()] / (self.count - 1))
                    for s in self._without(i, j)
                ]
        else:
            for order in np.argsort(self.ranks, axis=1).tolist():
                before = 0
                for i, j in pairwise(order):
                    drawn.setdefault((min(i, j), max(i, j)), []).append((before, 1.0))
                    before |= 1 << i
            for pair, sampled in drawn.items():
                drawn[pair] = [(s, 1 / len(sampled)) for s, _ in sampled]
        terms = []
        for i, j in self.pairs():
            a, b = 1 << i, 1 << j
            each = drawn.get((i, j), [(0, 0.0)])
            terms.append(
                [(s | a | b, s | a, w) for s, w in each]
                + [(s, s | b, w) for s, w in each]
            )
        return self._contrast(terms)

    def _without(self, *players: int) -> list[int]:
        """Return all coalitions without some players."""
        excluded = sum(1 << m for m in players)
        return [s for s in range(1 << self.count) if not s & excluded]

    def _contrast(self, terms: list[list[tuple[int, int, float]]]) -> Contrast:
        return Contrast(
            tuple(
                (
                    np.array([self.row(plus) for plus, _, _ in each], dtype=np.int64),
                    np.array([self.row(minus) for _, minus, _ in each], dtype=np.int64),
                    np.array([weight for _, _, weight in each]),
                )
                for each in terms
            )
        )


def draw_ranks(orders: int, count: int, seed: int) -> IntArray:
    """Return the positions of players in random orders and their reverses.

    An order and its reverse are exact where only pairs of players interact.

    Args:
        orders: Number of random orders.
        count: Number of players ``M``.
        seed: Seed of the orders.

    Returns:
        ``[2 * orders, M]`` positions from 0.

    References:
        Polynomial Calculation of the Shapley Value Based on Sampling, Castro, Gomez,
        Tejada, 2009.
    """
    rng = np.random.default_rng(seed)
    rank = rng.permuted(np.tile(np.arange(count), (orders, 1)), axis=1)
    return np.concatenate([rank, count - 1 - rank])
