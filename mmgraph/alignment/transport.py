"""Optimal transport between the samples of two modalities, without pairs.

Letters: `N` and `G` rows of both sides, `F` features.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.distance import cdist

from mmgraph.alignment.rows import BoolArray, FloatArray, RowReader, as_rows, observed
from mmgraph.data import MultimodalData
from mmgraph.data.validation import check_names
from mmgraph.errors import ConfigError, DataError
from mmgraph.typing import ArrayLike, ModalityArrays

Kind: TypeAlias = Literal["linear", "gromov", "fused"]

EPSILONS = (0.1, 0.05, 0.02, 0.01, 0.005)  # weights of the entropy; distances are <= 1
OUTER_STEPS, INNER_STEPS = 31, 50  # POT measures convergence every ten steps
LAST_STEPS = 20  # without entropy
TOLERANCE = 1e-7  # change of the plan
NEIGHBORS, MIN_NEIGHBORS = (
    0.05,
    5,
)  # of a sample: share of the samples, and least number
MIN_CORRELATED = 3  # features; correlations of fewer are -1 or 1
MAX_CELLS = 400_000_000  # 3 GB in double precision
COST_WEIGHT = 0.5  # of the costs of pairs in fused transport


@dataclass(frozen=True, eq=False)
class Transport:
    """Plan of transport between the samples of two modalities.

    Attributes:
        plan: ``[N, G]`` mass that goes from each sample of the first side to each one
            of the second. It sums to 1, and each sample that has the modality sends or
            receives the same mass, unless it is unbalanced. Rows and columns of samples
            that lack the modality are zero.
        cost: Cost of the plan, without entropy and penalties.
        mapped: ``[N, F]`` barycentric projection: the mean of the second side, weighted
            by the plan, for each sample of the first; NaN for samples without mass.
    """

    plan: FloatArray
    cost: float
    mapped: FloatArray


def transport(
    data: MultimodalData | ModalityArrays | ArrayLike,
    a: str | ArrayLike,
    b: str | None = None,
    *,
    kind: Kind = "linear",
    cost: ArrayLike | None = None,
    epsilon: float | None = None,
    unbalanced: float | None = None,
) -> Transport:
    r"""Return the optimal transport from the samples of one modality to another.

    It needs the extra ``align`` (POT). No sample has to have both modalities.

    A plan is a table of masses whose sums over rows and columns are the masses of the
    samples. Linear transport minimizes :math:`\sum_{ij} M_{ij} T_{ij}` with the costs M
    of a common space. Gromov-Wasserstein transport compares distances within each side,
    so that the sides may have different features:

    .. math:: \sum_{ijkl} (D_{ik} - E_{jl})^2\, T_{ij} T_{kl}

    The problem is not convex. It is solved with an entropy whose weight decreases, and
    last without entropy; each solution is the start of the next one, and the plan of
    least cost is kept.

    Args:
        data: Samples, or arrays ``[N, F]`` by modality; or the rows ``[N, F]`` of the
            first side. A row of NaN is missing.
        a: Name of the first modality, or the rows ``[G, F]`` of the second side.
        b: Name of the second modality; None for two arrays.
        kind: "linear" compares rows in a common space, such as variates of
            :class:`mmgraph.alignment.CCA`, by their squared distance. "gromov" compares
            the distances within each side: the number of steps between two samples in a
            graph of nearest neighbors (5% of the samples, at least 5) by correlation,
            by distance for fewer than three features. "fused" is "gromov" with known
            costs of some pairs.
        cost: ``[N, G]`` costs, at least 0: those of "linear" in place of squared
            distances; those of "fused", where samples that have both modalities are
            known pairs by default: 0 for them and 1 for either with any other sample.
        epsilon: Weight of the entropy, relative to the largest cost or distance.
            Default: none; "gromov" and "fused" approach it from 0.1. A plan with
            entropy is smoother.
        unbalanced: For "linear": penalty of masses that differ from those of the
            samples, relative to the largest cost, so that samples without a counterpart
            are left out. Default: masses are fixed.

    Returns:
        Plan, its cost, and the projection of the first side on the second.

    Raises:
        ConfigError: If an option is invalid, or POT is not installed.
        DataError: If a side has no rows, rows are partly NaN, shapes do not fit, or the
            plan has more than 400 million cells.

    References:
        Gromov-Wasserstein Distances and the Metric Approach to Object Matching, Memoli,
        2011. Gromov-Wasserstein Averaging of Kernel and Distance Matrices, Peyre,
        Cuturi, Solomon, 2016. SCOT: Single-Cell Multi-Omics Alignment with Optimal
        Transport, Demetci, Santorella, Sandstede, Noble, Singh, 2022 (distances on
        graphs of nearest neighbors). Optimal Transport for Structured Data with
        Application on Graphs, Vayer, Chapel, Flamary, Tavenard, Courty, 2019 (fused).
        Near-Linear Time Approximation Algorithms for Optimal Transport via Sinkhorn
        Iteration, Altschuler, Weed, Rigollet, 2017 (rounding). Solved by POT: Python
        Optimal Transport, Flamary et al., 2021.

    Example:
        >>> from mmgraph.alignment import transport
        >>> x = [[0.0], [1.0], [5.0]]
        >>> y = [[5.1], [0.1], [float("nan")], [0.9]]
        >>> (transport(x, y).plan * 3).round(2)
        array([[0., 1., 0., 0.],
               [0., 0., 0., 1.],
               [1., 0., 0., 0.]])
    """
    _check_options(kind, cost, epsilon, unbalanced)
    x, y, known = _read_sides(data, a, b)
    rows, columns = _complete(x, "first"), _complete(y, "second")
    left, right = x[rows], y[columns]
    if len(left) * len(right) > MAX_CELLS:
        raise DataError(
            f"A plan must have at most {MAX_CELLS} cells, got {len(left)} x "
            f"{len(right)}. Draw fewer samples."
        )
    table = _cost_table(kind, cost, left, right, (x, y), known, (rows, columns))
    masses = np.full(len(left), 1 / len(left)), np.full(len(right), 1 / len(right))
    if kind == "linear":
        assert table is not None
        found = _linear(masses, table, epsilon, unbalanced)
        value = float((table * found).sum())
    else:
        distances = graph_distances(left), graph_distances(right)
        found = _gromov(masses, distances, table, epsilon)
        value = _gromov_cost(found, distances, table)
    plan = np.zeros((len(x), len(y)))
    plan[np.ix_(rows, columns)] = found
    sent = found.sum(axis=1, keepdims=True)
    mapped = np.full((len(x), y.shape[1]), np.nan)
    projected = found @ right / np.where(sent > 0, sent, 1)
    mapped[rows] = np.where(sent > 0, projected, np.nan)
    return Transport(plan, value, mapped)


def graph_distances(x: FloatArray) -> FloatArray:
    """Return the distances of samples on the graph of their nearest neighbors.

    Args:
        x: ``[n, F]`` rows.

    Returns:
        ``[n, n]`` numbers of steps, divided by the largest one; that of samples without
        a path is 1.
    """
    count = min(max(MIN_NEIGHBORS, round(NEIGHBORS * len(x))), len(x) - 1)
    if count < 1:
        return np.zeros((len(x), len(x)))
    metric = "correlation" if x.shape[1] >= MIN_CORRELATED else "euclidean"
    if metric == "correlation":
        centered = x - x.mean(axis=1, keepdims=True)
        length = np.linalg.norm(centered, axis=1, keepdims=True)
        x = centered / np.where(length > 0, length, 1)
    distance = cdist(x, x, "sqeuclidean")  # of unit vectors: 2 - 2 cosine
    np.fill_diagonal(distance, np.inf)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :count]
    start = np.repeat(np.arange(len(x)), count)
    edges = csr_matrix(
        (np.ones(nearest.size), (start, nearest.ravel())), distance.shape
    )
    steps = shortest_path(edges, directed=False, unweighted=True)
    largest = steps[np.isfinite(steps)].max()
    return np.asarray(np.minimum(steps / max(largest, 1), 1))


def _check_options(
    kind: str, cost: object, epsilon: float | None, unbalanced: float | None
) -> None:
    if kind not in ("linear", "gromov", "fused"):
        raise ConfigError(
            f"kind must be 'linear', 'gromov' or 'fused', got {kind!r}. Choose one."
        )
    if kind == "gromov" and cost is not None:
        raise ConfigError(
            "cost must be None for kind 'gromov', got one. Choose kind='fused'."
        )
    if kind != "linear" and unbalanced is not None:
        raise ConfigError(
            f"unbalanced must be None for kind {kind!r}, got {unbalanced}. Choose "
            "kind='linear'."
        )
    for name, value in (("epsilon", epsilon), ("unbalanced", unbalanced)):
        if value is not None and not 0 < value < np.inf:
            raise ConfigError(
                f"{name} must be above 0, got {value}. Leave it out for the default."
            )


def _read_sides(
    data: MultimodalData | ModalityArrays | ArrayLike,
    a: str | ArrayLike,
    b: str | None,
) -> tuple[FloatArray, FloatArray, bool]:
    """Return the rows of both sides, and whether row i of both is the same sample."""
    if isinstance(data, MultimodalData | Mapping):
        if not isinstance(a, str) or not isinstance(b, str):
            raise ConfigError(
                "transport must get the names of two modalities of the data, got "
                f"a={a!r}, b={b!r}. Name both."
            )
        rows = RowReader.fit(data).read(data)
        check_names("transport", [a, b], tuple(rows))
        return rows[a], rows[b], True
    if isinstance(a, str) or b is not None:
        raise ConfigError(
            "transport must get two arrays, or data and two names, got an array and a "
            "name. Pass the rows of both sides."
        )
    return as_rows("The first side", data), as_rows("The second side", a), False


def _complete(x: FloatArray, side: str) -> BoolArray:
    """Return which rows are observed.

    Raises:
        DataError: If there is none, or one is partly NaN.
    """
    present = observed(x)
    if not present.any():
        raise DataError(
            f"transport needs rows on both sides, got none on the {side} one. Add "
            "samples with this modality."
        )
    partly = np.isnan(x).any(axis=1) & present
    if partly.any():
        raise DataError(
            f"Rows of the {side} side must have no NaN, or only NaN if missing, got "
            f"some of each in row {int(partly.argmax())}. Impute the cells."
        )
    return present


def _cost_table(
    kind: Kind,
    cost: ArrayLike | None,
    left: FloatArray,
    right: FloatArray,
    sides: tuple[FloatArray, FloatArray],
    same_samples: bool,
    kept: tuple[BoolArray, BoolArray],
) -> FloatArray | None:
    """Return the costs of the observed rows; None for "gromov"."""
    if kind == "gromov":
        return None
    if cost is not None:
        table = as_rows("cost", cost)
        shape = [len(side) for side in sides]
        if list(table.shape) != shape or np.isnan(table).any() or table.min() < 0:
            raise DataError(
                f"cost must be numbers of at least 0 of shape {shape}, got shape "
                f"{list(table.shape)} or others. Give the cost of each pair of samples."
            )
        return table[np.ix_(*kept)]
    if kind == "linear":
        if left.shape[1] != right.shape[1]:
            raise DataError(
                "transport of kind 'linear' needs one space, got widths "
                f"{left.shape[1]} and {right.shape[1]}. Map both sides by "
                "mmgraph.alignment.CCA, or choose kind='gromov'."
            )
        return np.asarray(cdist(left, right, "sqeuclidean"))
    pairs = kept[0] & kept[1] if same_samples else np.zeros(0, dtype=bool)
    if not pairs.any():
        raise DataError(
            "transport of kind 'fused' needs known pairs, got no sample with both "
            "modalities and no cost. Give cost, or choose kind='gromov'."
        )
    apart = (pairs[:, None] | pairs) & ~np.eye(len(pairs), dtype=bool)
    return apart.astype(np.float64)[np.ix_(*kept)]


Masses: TypeAlias = tuple[FloatArray, FloatArray]


def _linear(
    masses: Masses, table: FloatArray, epsilon: float | None, unbalanced: float | None
) -> FloatArray:
    ot = _import_pot()
    scaled = table / (table.max() or 1)
    if unbalanced is not None:
        entropy = 0.0 if epsilon is None else epsilon
        return np.asarray(
            ot.unbalanced.mm_unbalanced(*masses, scaled, unbalanced, reg=entropy)
        )
    if epsilon is None:
        return np.asarray(ot.emd(*masses, scaled))
    plan = ot.sinkhorn(
        *masses, scaled, epsilon, method="sinkhorn_log", numItermax=10_000, warn=False
    )
    return _round(plan, masses)


def _gromov(
    masses: Masses,
    distances: Masses,
    table: FloatArray | None,
    epsilon: float | None,
) -> FloatArray:
    """Return the plan of least cost over decreasing weights of the entropy."""
    scaled = None if table is None else table / (table.max() or 1)
    best, least = np.outer(*masses), np.inf
    plan: FloatArray | None = None
    for weight in (*EPSILONS, 0) if epsilon is None else (epsilon,):
        start = best if weight == 0 else plan
        plan = _solve(masses, distances, scaled, weight, start)
        if not np.isfinite(plan).all():
            break  # the entropy is too small for double precision
        found = _round(plan, masses)
        value = _gromov_cost(found, distances, scaled)
        if value < least:
            best, least = found, value
    return best


def _solve(
    masses: Masses,
    distances: Masses,
    table: FloatArray | None,
    epsilon: float,
    start: FloatArray | None,
) -> FloatArray:
    """Find a local optimum from the plan ``start``; 0 is no entropy."""
    gromov = _import_pot().gromov
    sides: tuple[FloatArray, ...] = (*distances, *masses)
    options: dict[str, Any] = {"symmetric": True, "G0": start}
    if table is not None:
        sides, options["alpha"] = (table, *sides), 1 - COST_WEIGHT
    name = "gromov_wasserstein" if table is None else "fused_gromov_wasserstein"
    if epsilon == 0:
        options["max_iter"] = LAST_STEPS
    else:
        name = f"entropic_{name}"
        options |= {"max_iter": OUTER_STEPS, "tol": TOLERANCE, "epsilon": epsilon}
        options |= {"numItermax": INNER_STEPS, "warn": False}
    solver = getattr(gromov, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # convergence is measured by the cost
        return np.asarray(solver(*sides, **options))


def _gromov_cost(
    plan: FloatArray, distances: Masses, table: FloatArray | None
) -> float:
    """Return the cost of a plan: differences of distances, and costs of pairs."""
    left, right = distances
    sent, received = plan.sum(axis=1), plan.sum(axis=0)
    squares = sent @ left**2 @ sent + received @ right**2 @ received
    value = float(squares - 2 * ((left @ plan @ right) * plan).sum())
    if table is None:
        return value
    linear = float((table * plan).sum())
    return (1 - COST_WEIGHT) * value + COST_WEIGHT * linear


def _round(plan: npt.ArrayLike, masses: Masses) -> FloatArray:
    """Return the nearby plan whose sums are exactly the masses."""
    rounded = np.asarray(plan, dtype=np.float64)
    for axis, mass in ((1, masses[0]), (0, masses[1])):
        total = rounded.sum(axis=axis)
        share = np.minimum(mass / np.where(total > 0, total, 1), 1)
        rounded = rounded * np.expand_dims(share, axis)
    lack = masses[0] - rounded.sum(axis=1), masses[1] - rounded.sum(axis=0)
    total = lack[0].sum()
    return rounded + np.outer(*lack) / total if total > 0 else rounded


def _import_pot() -> Any:  # noqa: ANN401
    try:
        import ot
    except ImportError:
        raise ConfigError(
            "transport needs POT, which is not installed. Install mmgraph[align]."
        ) from None
    return ot
