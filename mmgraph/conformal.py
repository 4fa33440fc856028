r"""Conformal prediction by observed subset of modalities.

A prediction set with miscoverage :math:`\alpha` contains the label with probability
:math:`1 - \alpha`. One threshold for all samples holds on average only: samples with
few modalities are covered less often. Here every subset :math:`S` has its own
threshold. It is computed on all calibration samples that have at least :math:`S`, with
everything else removed, so that calibration and test samples are predicted from the
same modalities.

For scores :math:`s_1, \ldots, s_n` of such samples, the threshold is the
:math:`\lceil (n + 1)(1 - \alpha) \rceil`-th smallest; coverage given :math:`S` is then
between :math:`1 - \alpha` and :math:`1 - \alpha + 1 / (n + 1)`, if samples are
exchangeable and modalities go missing independently of the label given what is
observed.

References:
    Conformal Prediction with Missing Values, Zaffran, Dieuleveut, Josse, Romano, 2023,
    arXiv 2306.02732 (masked calibration). Least Ambiguous Set-Valued Classifiers with
    Bounded Error Levels, Sadinle, Lei, Wasserman, 2019, arXiv 1609.00451.
    Classification with Valid and Adaptive Coverage, Romano, Sesia, Candes, 2020, arXiv
    2006.02544.

Letters: ``N`` samples, ``M`` modalities, ``K`` classes or targets, ``T`` thresholds of
a subset: 1, or one per class or target.
"""

import hashlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.data.column import BoolArray, IntArray
from mmgraph.errors import (
    Argument,
    CheckpointError,
    ConfigError,
    DataError,
    DataWarning,
)
from mmgraph.metrics.shortcut import presence_interval

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Predict: TypeAlias = Callable[[MultimodalData], FloatArray]
Condition = Literal["subset", "marginal"]
SetScore = Literal["aps", "lac"]

MAX_STORED = 6  # modalities up to which a saved model has the thresholds of all subsets
ROUNDING = 1e-9  # of (n + 1)(1 - alpha), a product of floats
ASSUMPTION = (
    "Coverage holds for each observed subset if samples are exchangeable and "
    "modalities go missing independently of the label, given what is observed."
)


class SubsetThreshold(NamedTuple):
    """Thresholds of one subset of modalities.

    Attributes:
        thresholds: ``[T]``; infinite where the calibration samples are too few.
        counts: ``[T]`` calibration samples of each.
        supported: False if fewer than ``min_samples`` calibration samples have the
            subset, so that the threshold is conservative rather than exact.
    """

    thresholds: tuple[float, ...]
    counts: tuple[int, ...]
    supported: bool


def conformal_quantile(scores: FloatArray, alpha: float) -> float:
    r"""Return the :math:`\lceil (n + 1)(1 - \alpha) \rceil`-th smallest score.

    Args:
        scores: ``[n]`` scores of calibration samples.
        alpha: Miscoverage between 0 and 1.

    Returns:
        The threshold; infinity if ``n`` is below ``1 / alpha - 1``.

    Example:
        >>> import numpy as np
        >>> from mmgraph.conformal import conformal_quantile
        >>> conformal_quantile(np.arange(1.0, 10.0), 0.1)
        9.0
        >>> conformal_quantile(np.arange(1.0, 9.0), 0.1)
        inf
    """
    rank = math.ceil((len(scores) + 1) * (1 - alpha) - ROUNDING)
    if rank > len(scores):
        return math.inf
    return float(np.partition(scores, rank - 1)[rank - 1])


@dataclass
class Thresholds:
    """Thresholds by subset of modalities, computed on first use.

    Attributes:
        modalities: Names of the ``M`` modalities.
        alpha: Miscoverage.
        condition: "subset" or "marginal".
        min_samples: Calibration samples below which a subset is not supported.
        known: Thresholds of the subsets that were used, by presence of the modalities.
        marginal: Thresholds for all samples together.
        scores: Function of calibration samples and a mask ``[N, M]`` to the scores
            ``[N, T]``, NaN where a score does not count; None for loaded thresholds.
        present: ``[N, M]`` presence of the modalities in the calibration samples.
    """

    modalities: tuple[str, ...]
    alpha: float
    condition: Condition
    min_samples: int
    marginal: SubsetThreshold
    known: dict[tuple[bool, ...], SubsetThreshold] = field(default_factory=dict)
    scores: Callable[[IntArray, BoolArray], FloatArray] | None = None
    present: BoolArray | None = None

    def __call__(self, present: BoolArray) -> tuple[FloatArray, BoolArray]:
        """Return thresholds and support of samples.

        Args:
            present: ``[N, M]`` presence of the modalities.

        Returns:
            ``[N, T]`` thresholds, and ``[N]`` True where they are supported.
        """
        if self.condition == "marginal":
            rows = [self.marginal] * len(present)
        else:
            rows = [self._of(tuple(row)) for row in present.tolist()]
        width = len(self.marginal.thresholds)
        thresholds = np.array([row.thresholds for row in rows]).reshape(-1, width)
        return thresholds, np.array([row.supported for row in rows], dtype=bool)

    def _of(self, subset: tuple[bool, ...]) -> SubsetThreshold:
        """Return the thresholds of a subset."""
        if subset not in self.known:
            if self.scores is None or self.present is None:
                return self.marginal._replace(supported=False)
            self.known[subset] = self._compute(np.array(subset))
        return self.known[subset]

    def _compute(self, subset: BoolArray) -> SubsetThreshold:
        """Return the thresholds of masked calibration, nested where it has too few."""
        assert self.scores is not None
        assert self.present is not None
        rows = np.flatnonzero((self.present | ~subset).all(axis=1))
        exact = summarize(self.scores(rows, subset), self.alpha)
        if min(exact.counts) >= self.min_samples:
            return exact
        # all samples keep what they share with the subset: less is known of them
        nested = summarize(
            self.scores(np.arange(len(self.present)), subset), self.alpha
        )
        enough = [count >= self.min_samples for count in exact.counts]
        chosen = [exact if ok else nested for ok in enough]
        return SubsetThreshold(
            tuple(each.thresholds[t] for t, each in enumerate(chosen)),
            exact.counts,
            all(enough),
        )

    def fill(self) -> None:
        """Compute the thresholds of the subsets that a saved model has.

        All subsets of up to 6 modalities; of more, those that were used and those of
        the calibration samples.
        """
        if self.present is None or self.condition == "marginal":
            return
        count = len(self.modalities)
        rows = np.unique(self.present, axis=0).tolist()
        every = product((False, True), repeat=count) if count <= MAX_STORED else rows
        for subset in every:
            self._of(tuple(subset))

    @property
    def table(self) -> list[dict[str, Any]]:
        """One dict per subset that was used: names, samples, thresholds, support."""
        if self.condition == "marginal":
            return [_row("all samples", self.marginal)]
        return [
            _row(self._names(subset), each)
            for subset, each in sorted(
                self.known.items(), key=lambda item: sum(item[0])
            )
        ]

    def _names(self, subset: Sequence[bool]) -> str:
        pairs = zip(self.modalities, subset, strict=True)
        return "+".join(name for name, kept in pairs if kept) or "nothing"

    def to_json(self) -> dict[str, Any]:
        """Return the thresholds as JSON."""
        self.fill()
        return {
            "modalities": list(self.modalities),
            "alpha": self.alpha,
            "condition": self.condition,
            "min_samples": self.min_samples,
            "marginal": _to_json(self.marginal),
            "known": [[list(s), _to_json(each)] for s, each in self.known.items()],
        }

    @classmethod
    def from_json(
        cls, content: Mapping[str, Any], modalities: tuple[str, ...], width: int
    ) -> "Thresholds":
        """Read the content of :meth:`to_json`.

        Args:
            content: JSON content.
            modalities: Modalities of the model.
            width: Number of thresholds of a subset.

        Raises:
            CheckpointError: If the content is not that of the model.
        """
        known = {
            tuple(map(bool, subset)): _from_json(each, width)
            for subset, each in content["known"]
        }
        alpha, least = float(content["alpha"]), int(content["min_samples"])
        condition = content["condition"]
        fits = tuple(content["modalities"]) == modalities
        fits &= all(len(subset) == len(modalities) for subset in known)
        if not fits or condition not in get_args(Condition) or not 0 < alpha < 1:
            raise CheckpointError(
                "Conformal thresholds must be of the modalities of the model, got "
                "others."
            )
        marginal = _from_json(content["marginal"], width)
        return cls(modalities, alpha, condition, least, marginal, known)


def summarize(scores: FloatArray, alpha: float) -> SubsetThreshold:
    """Return the thresholds of calibration scores.

    Args:
        scores: ``[N, T]`` scores, NaN where a score does not count.
        alpha: Miscoverage.
    """
    columns = [column[~np.isnan(column)] for column in scores.T]
    return SubsetThreshold(
        tuple(conformal_quantile(column, alpha) for column in columns),
        tuple(len(column) for column in columns),
        True,
    )


def _row(subset: str, each: SubsetThreshold) -> dict[str, Any]:
    several = len(each.thresholds) > 1
    return {
        "subset": subset,
        "calibration_samples": list(each.counts) if several else each.counts[0],
        "threshold": list(each.thresholds) if several else each.thresholds[0],
        "supported": each.supported,
    }


def _to_json(each: SubsetThreshold) -> dict[str, Any]:
    finite = [None if math.isinf(x) else x for x in each.thresholds]  # JSON has no inf
    return {**each._asdict(), "thresholds": finite}


def _from_json(content: Mapping[str, Any], width: int) -> SubsetThreshold:
    thresholds = [math.inf if x is None else float(x) for x in content["thresholds"]]
    counts = [int(x) for x in content["counts"]]
    if len(thresholds) != width or len(counts) != width or np.isnan(thresholds).any():
        raise CheckpointError(
            f"Conformal thresholds must be {width} numbers, got others."
        )
    return SubsetThreshold(tuple(thresholds), tuple(counts), bool(content["supported"]))


# Scores


def class_scores(
    proba: FloatArray, kind: SetScore, uniform: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    r"""Return the nonconformity scores ``[N, K]`` of all classes.

    "lac" is :math:`1 - p_k`. "aps" is the probability of the classes that are more
    probable than :math:`k`, plus :math:`u\, p_k` with :math:`u` uniform in [0, 1].

    Args:
        proba: ``[N, K]`` class probabilities.
        kind: "aps" or "lac".
        uniform: ``[N]`` random numbers of "aps".
    """
    p = proba.astype(np.float64)
    if kind == "lac":
        return 1 - p
    order = np.argsort(-p, axis=1, kind="stable")
    ranked = np.take_along_axis(p, order, axis=1)
    ahead = ranked.cumsum(axis=1) - ranked
    first = np.zeros(p.shape, dtype=np.int64)  # of classes that are equally probable
    rank = np.arange(1, p.shape[1])
    first[:, 1:] = np.where(ranked[:, 1:] < ranked[:, :-1], rank, 0)
    first = np.maximum.accumulate(first, axis=1)
    scores = np.empty_like(p)
    np.put_along_axis(scores, order, np.take_along_axis(ahead, first, axis=1), axis=1)
    return scores + uniform[:, None] * p


def uniform_numbers(
    ids: npt.NDArray[Any], seed: int, part: str
) -> npt.NDArray[np.float64]:
    """Return a uniform random number per sample, which only its id and seed determine.

    The set of a sample does not depend on the samples it is predicted with.

    Args:
        ids: ``[N]`` ids.
        seed: Seed.
        part: Name of the part of the data, whose numbers differ from other parts.
    """
    texts = (f"{seed}:{part}:{each}".encode() for each in ids.tolist())
    digests = (hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    numbers = [int.from_bytes(digest, "big") for digest in digests]
    return np.array(numbers, dtype=np.float64) / 2.0**64


# Results


class ConformalPrediction:
    """Conformal predictions of a fitted estimator: base of sets and intervals.

    Attributes:
        alpha: Miscoverage.
    """

    _thresholds: Thresholds
    _read: Callable[[Any], MultimodalData]
    _predict: Predict

    @property
    def alpha(self) -> float:
        """Miscoverage: share of the samples whose label may be outside."""
        return self._thresholds.alpha

    @property
    def table_(self) -> list[dict[str, Any]]:
        """One dict per subset of modalities that was used, smallest first.

        ``subset`` (names joined by "+"), ``calibration_samples``, ``threshold`` (one
        per class or target if there are several) and ``supported``: False if fewer
        than ``min_samples`` calibration samples have the subset.
        """
        return self._thresholds.table

    def predict(self, X: Any) -> npt.NDArray[Any]:  # noqa: ANN401, N803
        """Return the sets or intervals of samples."""
        raise AssertionError("defined by sets and intervals")

    def supported(self, X: Any) -> BoolArray:  # noqa: ANN401, N803
        """Return ``[N]``: True where enough calibration samples have the subset."""
        return self._thresholds(self._read(X).present)[1]

    def to_json(self) -> dict[str, Any]:
        """Return thresholds and options as JSON."""
        raise AssertionError("defined by sets and intervals")

    def __repr__(self) -> str:
        kind = self._thresholds.condition
        name = type(self).__name__
        return f"{name}(alpha={self.alpha:g}, condition={kind!r}). {ASSUMPTION}"


class ConformalSets(ConformalPrediction):
    """Sets of classes that contain the true one with a given probability.

    Returned by :meth:`mmgraph.FusionClassifier.conformal`.

    Attributes:
        alpha: Miscoverage.
        classes_: ``[K]`` classes.
        score: "aps" or "lac".
    """

    def __init__(
        self,
        thresholds: Thresholds,
        read: Callable[[Any], MultimodalData],
        predict: Predict,
        classes: npt.NDArray[Any],
        score: SetScore,
        seed: int,
    ) -> None:
        self._thresholds, self._read, self._predict = thresholds, read, predict
        self.classes_, self.score, self._seed = classes, score, seed

    def predict(self, X: Any) -> BoolArray:  # noqa: ANN401, N803
        """Return the prediction sets ``[N, K]``: True where a class is not excluded.

        Args:
            X: Samples with any of the modalities of the training, also none.

        Raises:
            DataError: If a modality is unknown or of another width.
        """
        data = self._read(X)
        uniform = uniform_numbers(data.ids, self._seed, "test")
        scores = class_scores(self._predict(data), self.score, uniform)
        sets: BoolArray = scores <= self._thresholds(data.present)[0]
        return sets

    def to_json(self) -> dict[str, Any]:
        """Return thresholds and options as JSON."""
        return {
            "thresholds": self._thresholds.to_json(),
            "score": self.score,
            "seed": self._seed,
            "by_class": len(self._thresholds.marginal.thresholds) > 1,
        }


class ConformalIntervals(ConformalPrediction):
    """Intervals that contain each target with a given probability.

    Returned by :meth:`mmgraph.FusionRegressor.conformal`.

    Attributes:
        alpha: Miscoverage of each target.
    """

    def __init__(
        self,
        thresholds: Thresholds,
        read: Callable[[Any], MultimodalData],
        predict: Predict,
        flat: bool,
    ) -> None:
        self._thresholds, self._read, self._predict = thresholds, read, predict
        self._flat = flat

    def predict(self, X: Any) -> FloatArray:  # noqa: ANN401, N803
        """Return lower and upper bounds ``[N, 2]``, or ``[N, K, 2]`` of K targets.

        Args:
            X: Samples with any of the modalities of the training, also none.

        Raises:
            DataError: If a modality is unknown or of another width.
        """
        data = self._read(X)
        center = self._predict(data)
        half = self._thresholds(data.present)[0]
        bounds: FloatArray = np.stack([center - half, center + half], axis=2)
        return bounds[:, 0] if self._flat else bounds

    def to_json(self) -> dict[str, Any]:
        """Return the thresholds as JSON."""
        return {"thresholds": self._thresholds.to_json()}


# Calibration


def check_options(alpha: float, condition: str, min_samples: int) -> None:
    """Check the options of a calibration.

    Raises:
        ConfigError: If one has an invalid value.
    """
    number = isinstance(alpha, float | int | np.floating) and not isinstance(
        alpha, bool
    )
    if not number or not 0 < alpha < 1:
        raise ConfigError(
            f"alpha must be between 0 and 1, got {alpha!r}. It is the share of samples "
            "whose label may be outside, such as 0.1.",
            parameter="alpha",
        )
    if condition not in get_args(Condition):
        raise ConfigError(
            f"condition must be 'subset' or 'marginal', got {condition!r}.",
            parameter="condition",
        )
    if type(min_samples) is not int or min_samples < 1:
        raise ConfigError(
            f"min_samples must be a whole number above 0, got {min_samples!r}.",
            parameter="min_samples",
        )


def calibrate(
    data: MultimodalData,
    score: Callable[[MultimodalData, IntArray], FloatArray],
    *,
    alpha: float,
    condition: Condition,
    min_samples: int,
) -> Thresholds:
    """Return thresholds that calibration samples determine.

    Args:
        data: Labeled calibration samples with all modalities of the model.
        score: Function of masked samples and their row numbers to scores ``[n, T]``.
        alpha: Miscoverage.
        condition: "subset": a threshold per subset of modalities; "marginal": one.
        min_samples: Calibration samples below which a subset is not supported.

    Raises:
        ConfigError: If an option has an invalid value.
        DataError: If there are fewer than ``min_samples`` samples.
    """
    check_options(alpha, condition, min_samples)
    if len(data) < min_samples:
        raise DataError(
            f"calibration must have at least {min_samples} samples with a label, got "
            f"{len(data)}.",
            ("Use more samples, or a smaller ", Argument("min_samples"), "."),
        )

    def masked_scores(rows: IntArray, subset: BoolArray) -> FloatArray:
        part = data[rows].mask(np.tile(subset, (len(rows), 1)))
        return score(part, rows)

    everything = np.ones(len(data.modalities), dtype=bool)
    marginal = summarize(masked_scores(np.arange(len(data)), everything), alpha)
    return Thresholds(
        data.modalities,
        float(alpha),
        condition,
        min_samples,
        marginal,
        scores=masked_scores,
        present=data.present,
    )


def warn_informative(data: MultimodalData, y: npt.NDArray[Any]) -> None:
    """Warn if presence predicts the label, which voids coverage by subset."""
    value = presence_interval(data.present, y, data.groups)
    if value.low > 0.5:
        warnings.warn(
            "Which modalities are present predicts the label in the calibration "
            f"samples (AUROC {value.mean:.2f} [{value.low:.2f}, {value.high:.2f}] of "
            "the presence mask): coverage is not guaranteed for each subset.",
            DataWarning,
            stacklevel=3,
        )
