r"""Contributions of modalities to the score of a model over a data set.

A model that predicts from any subset of modalities defines a game: the value
:math:`v(S)` is the mean score of the predictions from the modalities :math:`S`. No
modality is imputed and no model is fitted again.

Letters: ``N`` samples, ``M`` modalities, ``C`` coalitions, ``P`` pairs of modalities.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mmgraph._frame import to_frame
from mmgraph.data import MultimodalData
from mmgraph.data.column import BoolArray
from mmgraph.errors import DataError
from mmgraph.estimators.explain import (
    FloatArray,
    coalition_predictions,
    coalitions_of,
)
from mmgraph.estimators.input_spec import removing_modalities
from mmgraph.evaluation.alarms import Alarm, find_alarms
from mmgraph.evaluation.sample_scores import Metric, SampleScores, sample_scores
from mmgraph.evaluation.table import Table, interval, signed, to_html, to_plain
from mmgraph.metrics.bootstrap import Interval, bootstrap_means
from mmgraph.metrics.coalitions import Contrast

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-6  # changes of a score below it are rounding errors of the model
MINOR = 0.25  # part of the larger of alone and last below which the smaller is minor;
# under the laws of the controls, 0.20 for `redundant` and 0.15 for `synergy`


class Contribution(NamedTuple):
    """Contribution of one modality to the mean score.

    Attributes:
        modality: Name of the modality.
        share: Shapley value; the shares add up to ``v(all) - v(nothing)``.
        alone: ``v({m}) - v(nothing)``.
        last: ``v(all) - v(all without m)``.
        verdict: "carries", "redundant", "only together", "silent" or "harms".
        present: Share of the samples in which the modality is observed.
    """

    modality: str
    share: Interval
    alone: Interval
    last: Interval
    verdict: str
    present: float


class Interaction(NamedTuple):
    """Interaction of two modalities in the mean score.

    Attributes:
        pair: Names of the modalities.
        value: Shapley interaction index: negative where they replace each other,
            positive where they contribute only together.
    """

    pair: tuple[str, str]
    value: Interval


@dataclass(frozen=True, repr=False)
class Contributions:
    """Contributions of the modalities to the score of a model on a data set.

    Returned by :func:`mmgraph.contributions`. It prints as a table, also in notebooks;
    :meth:`to_frame` returns a data frame of it.

    Attributes:
        modalities: One :class:`Contribution` per modality, largest share first.
        interactions: One :class:`Interaction` per pair, strongest first.
        alarms: Properties of model or data that make scores misleading, each with the
            figure that shows it.
        nothing: Mean score with nothing observed.
        complete: Mean score with all observed modalities.
        metric: Name of the score.
        num_samples: Number of samples with a label.
    """

    modalities: tuple[Contribution, ...]
    interactions: tuple[Interaction, ...]
    alarms: tuple[Alarm, ...]
    nothing: float
    complete: float
    metric: str
    num_samples: int

    def __repr__(self) -> str:
        return "\n".join(to_plain(self.table())).rstrip()

    def _repr_html_(self) -> str:
        """Return the table as HTML, for notebooks."""
        return to_html(self.table())

    def __getitem__(self, modality: str) -> Contribution:
        """Return the contribution of a modality.

        Raises:
            KeyError: If the modality is unknown.
        """
        by_name = {each.modality: each for each in self.modalities}
        return by_name[modality]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict per modality: means and bounds of share, alone and last."""
        return [
            {"modality": each.modality}
            | {
                f"{name}{end}": value
                for name in ("share", "alone", "last")
                for end, value in zip(
                    ("", "_low", "_high"), getattr(each, name), strict=True
                )
            }
            | {"verdict": each.verdict, "present": each.present}
            for each in self.modalities
        ]

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per modality as a data frame.

        Raises:
            ConfigError: If pandas is not installed.
        """
        return to_frame(self.rows)

    def partners(self, modality: str) -> list[Interaction]:
        """Return the interactions of a modality whose interval excludes 0."""
        return [
            each
            for each in self.interactions
            if modality in each.pair and (each.value.low > 0 or each.value.high < 0)
        ]

    def table(self, title: str = "Contributions of modalities") -> Table:
        """Return the contributions as a table of formatted cells.

        Args:
            title: Line above the table.
        """
        rows = tuple(
            (
                each.modality,
                signed(each.share.mean),
                interval(each.share.low, each.share.high),
                signed(each.alone.mean),
                signed(each.last.mean),
                each.verdict,
                f"{each.present:.0%}",
                self._strongest(each.modality),
            )
            for each in self.modalities
        )
        columns = ("modality", "share", "95% CI", "alone", "last", "verdict", "present")
        return Table(
            title,
            (*columns, "strongest interaction"),
            rows,
            (frozenset[int](),) * (len(columns) + 1),
            (self._summary(), *(f"Alarm: {alarm.text}" for alarm in self.alarms)),
            frozenset({0, 5, 7}),
        )

    def _summary(self) -> str:
        return (
            f"Mean {self.metric} of {self.num_samples} samples: "
            f"{self.nothing:.3f} with nothing observed, {self.complete:.3f} with all "
            f"modalities; the shares add up to {self.complete - self.nothing:.3f}."
        )

    def _strongest(self, modality: str) -> str:
        partners = self.partners(modality)
        if not partners:
            return ""
        first = partners[0]
        [other] = set(first.pair) - {modality}
        kind = "overlaps with" if first.value.mean < 0 else "complements"
        return f"{kind} {other} ({signed(first.value.mean)})"


def contributions(
    model: Any,  # noqa: ANN401
    data: MultimodalData,
    *,
    metric: Metric = "log_score",
    gallery: str | Sequence[str] | None = None,
    orders: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Contributions:
    r"""Measure what each modality contributes to the score of a fitted model.

    With :math:`v(S)` the mean score of the predictions from the modalities :math:`S`:

    - *share*: Shapley value; the shares add up to
      :math:`v(\mathrm{all}) - v(\emptyset)`.
    - *alone*: :math:`v(\{m\}) - v(\emptyset)`.
    - *last*: :math:`v(\mathrm{all}) - v(\mathrm{all} \setminus m)`.
    - *interaction* of two modalities: Shapley interaction index, negative where they
      replace each other and positive where they contribute only together.

    All are means over all samples; a modality that a sample lacks contributes exactly 0
    to it. Divide by ``present`` for the mean over the samples that have it.

    The verdict follows from the 95% bootstrap intervals of *alone* and *last*. Where
    alone is not above 0, last counts only if the share is above 0, too:

    =============  =======================================================
    verdict        condition
    =============  =======================================================
    carries        last > 0, none of the two cases that follow
    redundant      alone > 0; last is not, or is under a quarter of alone
    only together  last > 0; alone is under a quarter of last
    silent         neither alone > 0 nor last > 0
    harms          last < 0
    =============  =======================================================

    Alarms name what makes the score misleading: presence alone predicts the label; the
    share of a modality changes its sign between groups; predictions do not change
    when a modality is permuted among samples; one modality has nearly the whole share
    although another one would do nearly as well; a modality lowers the score.

    Args:
        model: A fitted estimator of mmgraph, a baseline, or any object with
            ``predict_proba`` and ``classes_``, or with ``predict``, that accepts
            ``MultimodalData`` with any subset of the modalities.
        data: Samples that the model was not trained on, with labels. Samples without a
            label are left out. Samples of one of at least 10 groups are resampled
            together; shares are compared between groups of at least 20 samples.
        metric: Score of each sample, higher is better. "log_score": log-probability of
            the true class, for a regressor the negative squared error, for a retriever
            nDCG. Or a function of labels ``[N]`` and predictions ``[N, K]`` (``[N]``
            for a regressor) that returns ``[N]`` scores.
        gallery: Modalities of the gallery entries of a retriever; the other modalities
            are the query, and their contributions are measured.
        orders: Number of random orders in which modalities are added, each with its
            reverse; default: all orders for up to 8 modalities, 32 random ones for
            more, which are a fast approximation.
        resamples: Number of bootstrap resamples.
        seed: Seed of resamples, orders and permutations.

    Raises:
        DataError: If no sample has a label, a class is unknown to the model, or
            ``orders`` is below one.
        ConfigError: If ``metric`` is unknown, or ``gallery`` is missing for a retriever
            or given for another model.

    References:
        A Value for n-Person Games, Shapley, 1953. An Axiomatic Approach to the Concept
        of Interaction among Players in Cooperative Games, Grabisch, Roubens, 1999.
        Understanding Global Feature Contributions With Additive Importance Measures
        (SAGE), Covert, Lundberg, Lee, 2020, arXiv 2004.00668. SHAPE: An Unified
        Approach to Evaluate the Contribution and Cooperation of Individual Modalities,
        Hu, Li, Zhou, 2022, arXiv 2205.00302.

    Example:
        >>> import mmgraph as mg
        >>> train, test = mg.load_dataset("heart").split(test_size=0.4, seed=0)
        >>> report = mg.contributions(mg.baselines.LateLogistic().fit(train), test)
        >>> report["history"].verdict
        'carries'
        >>> total = sum(each.share.mean for each in report.modalities)
        >>> abs(total - (report.complete - report.nothing)) < 1e-12
        True
    """
    if not isinstance(data, MultimodalData):
        raise DataError(
            f"data must be MultimodalData, got {type(data).__name__}. Build it with "
            "MultimodalData.from_arrays; use a sample of a stream."
        )
    with removing_modalities():
        return _measure(
            sample_scores(model, data, metric, gallery), orders, resamples, seed
        )


def _measure(
    scores: SampleScores, orders: int | None, resamples: int, seed: int
) -> Contributions:
    """Measure contributions to the scores of samples."""
    data = scores.data
    game = coalitions_of(len(data.modalities), orders, seed)
    contrasts = {"share": game.shapley(), "alone": game.alone(), "last": game.last()}
    contrasts["interaction"] = game.interactions()
    ends = game.row(0), game.row(game.everyone)
    values = _coalition_scores(scores, game.keep)
    intervals = {
        name: bootstrap_means(
            contrast(values), data.groups, resamples=resamples, seed=seed
        )
        for name, contrast in contrasts.items()
    }
    modalities = _contributions(data, intervals)
    pairs = [(data.modalities[i], data.modalities[j]) for i, j in game.pairs()]
    interactions = map(Interaction, pairs, intervals["interaction"])
    alarms = find_alarms(
        scores,
        intervals,
        contrasts["share"](values),
        _gains(contrasts["share"], values, game.keep, data.modalities),
        seed,
    )
    return Contributions(
        tuple(sorted(modalities, key=lambda each: -each.share.mean)),
        tuple(sorted(interactions, key=lambda each: -abs(each.value.mean))),
        tuple(alarms),
        float(values[:, ends[0]].mean()),
        float(values[:, ends[1]].mean()),
        scores.name,
        len(data),
    )


def _coalition_scores(scores: SampleScores, keep: BoolArray) -> FloatArray:
    """Return the score ``[N, C]`` of each sample from each coalition."""
    values = np.empty((len(scores.data), len(keep)))
    parts = coalition_predictions(scores.predict, scores.data, keep)
    for rows, predicted in parts:
        values[rows] = scores.score(rows, predicted)
    return values


def _gains(
    shares: Contrast,
    values: FloatArray,
    keep: BoolArray,
    names: tuple[str, ...],
) -> dict[tuple[tuple[str, ...], str], FloatArray]:
    """Return the change ``[N]`` of the score by each set and each modality added."""
    gains: dict[tuple[tuple[str, ...], str], FloatArray] = {}
    for plus, minus in shares.pairs:
        added = names[int(np.flatnonzero(keep[plus] & ~keep[minus])[0])]
        before = tuple(n for n, kept in zip(names, keep[minus], strict=True) if kept)
        gains[before, added] = values[:, plus] - values[:, minus]
    return gains


def _contributions(
    data: MultimodalData, intervals: dict[str, list[Interval]]
) -> list[Contribution]:
    present = data.present.mean(axis=0) if len(data) else np.zeros(data.shape[1])
    rows = zip(
        data.modalities,
        *(intervals[name] for name in ("share", "alone", "last")),
        present.tolist(),
        strict=True,
    )
    return [
        Contribution(name, share, alone, last, _verdict(share, alone, last), rate)
        for name, share, alone, last, rate in rows
    ]


def _verdict(share: Interval, alone: Interval, last: Interval) -> str:
    """Return the verdict on a modality, see :func:`contributions`."""
    useful_alone = alone.low > TOLERANCE
    # noise that the model fits raises a single difference in some draws
    useful_last = last.low > TOLERANCE and (useful_alone or share.low > TOLERANCE)
    if last.high < -TOLERANCE:
        return "harms"
    if useful_last and alone.mean < MINOR * last.mean:
        return "only together"
    if useful_alone and not (useful_last and last.mean >= MINOR * alone.mean):
        return "redundant"
    return "carries" if useful_last else "silent"
