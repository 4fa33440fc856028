"""Alarms: properties of model and data that make a score misleading.

Letters: ``N`` samples, ``M`` modalities.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.estimators.explain import FloatArray
from mmgraph.evaluation.sample_scores import SampleScores
from mmgraph.metrics.bootstrap import Interval
from mmgraph.metrics.shortcut import presence_interval

LEVEL = 0.05  # familywise error rate of an alarm over modalities and groups
MIN_GROUP = 20  # samples below which a group is not compared
UNREAD = 1e-6  # change of predictions below which a modality is not read
DOMINANT, NEARLY = 0.9, 0.9


class Alarm(NamedTuple):
    """A property that makes a score misleading.

    Attributes:
        kind: "presence predicts the label", "sign change", "not read", "dominance" or
            "lowers the score"; of data alone, also "constant channel", "identifier"
            or "fill value".
        text: Sentence with the figures.
        modality: Modality that it is about; "" for all.
        value: Figure that shows it, with its interval.
    """

    kind: str
    text: str
    modality: str
    value: Interval


def find_alarms(
    scores: SampleScores,
    intervals: Mapping[str, Sequence[Interval]],
    shares: FloatArray,
    gains: Mapping[tuple[tuple[str, ...], str], FloatArray],
    seed: int,
) -> list[Alarm]:
    """Return the alarms of a model on a data set.

    Args:
        scores: Samples and scores.
        intervals: "share" and "alone" of each modality.
        shares: ``[N, M]`` Shapley values of each sample.
        gains: Change ``[N]`` of the scores by each set of modalities and the modality
            that is added to it.
        seed: Seed of permutations.
    """
    return [
        *_shortcut(scores),
        *_sign_changes(scores.data, shares),
        *_unread(scores, seed),
        *_dominance(scores.data.modalities, intervals),
        *_lowered(gains),
    ]


def _shortcut(scores: SampleScores) -> Iterator[Alarm]:
    """Yield an alarm if the presence mask alone predicts the label."""
    if scores.labels is not None:
        yield from presence_alarm(scores.data, scores.labels)


def presence_alarm(data: MultimodalData, labels: npt.NDArray[Any]) -> Iterator[Alarm]:
    """Yield an alarm if the presence mask alone predicts known classes ``[N]``."""
    value = presence_interval(data.present, labels, data.groups)
    if value.low > 0.5:
        yield Alarm(
            "presence predicts the label",
            "which modalities are present predicts the label: AUROC "
            f"{value.mean:.2f} [{value.low:.2f}, {value.high:.2f}] of the presence "
            "mask alone. Scores change where other modalities go missing.",
            "",
            value,
        )


def _sign_changes(data: MultimodalData, shares: FloatArray) -> Iterator[Alarm]:
    """Yield an alarm for each modality that helps in one group and harms in another.

    Both signs must be significant after Bonferroni correction over groups and
    modalities.
    """
    if data.groups is None:
        return
    names, codes, counts = np.unique(
        data.groups, return_inverse=True, return_counts=True
    )
    chosen = np.flatnonzero(counts >= MIN_GROUP)
    if len(chosen) < 2:
        return
    z = _quantile(len(chosen) * shares.shape[1])
    for m, modality in enumerate(data.modalities):
        rows = [shares[codes == group, m] for group in chosen]
        bounds = [_normal_interval(each, z) for each in rows]
        worst = int(np.argmin([each.high for each in bounds]))
        best = int(np.argmax([each.low for each in bounds]))
        if bounds[worst].high < 0 < bounds[best].low:
            low, high = (_shown(names[chosen[i]]) for i in (worst, best))
            yield Alarm(
                "sign change",
                f"the share of {modality} changes its sign between groups: "
                f"{bounds[best].mean:+.3f} in {high}, {bounds[worst].mean:+.3f} in "
                f"{low}. Its relation to the label is not the same in all groups.",
                modality,
                bounds[worst],
            )


def _unread(scores: SampleScores, seed: int) -> Iterator[Alarm]:
    """Yield an alarm for each modality whose permutation changes no prediction."""
    data = scores.data
    before, rng = scores.predict(data), np.random.default_rng(seed)
    for modality, column in data.columns.items():
        rows = np.flatnonzero(column.present)
        if len(rows) < 2:
            continue
        source = np.arange(len(data))
        source[rows] = np.roll(rng.permutation(rows), 1)
        columns = {**data.columns, modality: column.take(source)}
        change = np.abs(scores.predict(replace(data, columns=columns)) - before)
        largest = float(change[~np.isnan(change)].max(initial=0.0))
        if largest < UNREAD:
            yield Alarm(
                "not read",
                f"predictions do not change when {modality} is permuted among samples: "
                "the model does not read its content.",
                modality,
                Interval(largest, largest, largest),
            )


def _dominance(
    names: tuple[str, ...], intervals: Mapping[str, Sequence[Interval]]
) -> Iterator[Alarm]:
    """Yield an alarm if a replaceable modality has nearly the whole share."""
    shares = dict(zip(names, (each.mean for each in intervals["share"]), strict=True))
    alone = dict(zip(names, (each.mean for each in intervals["alone"]), strict=True))
    total = sum(shares.values())
    for name, share in shares.items():
        others = {n: value for n, value in alone.items() if n != name}
        if not others or alone[name] <= 0 or share <= DOMINANT * total:
            continue
        second = max(others, key=others.__getitem__)
        if total > 0 and others[second] >= NEARLY * alone[name]:
            part = share / total
            yield Alarm(
                "dominance",
                f"{name} has {part:.0%} of the share although {second} alone "
                f"contributes nearly as much ({others[second]:.3f} against "
                f"{alone[name]:.3f}).",
                name,
                Interval(part, part, part),
            )


def _lowered(
    gains: Mapping[tuple[tuple[str, ...], str], FloatArray],
) -> Iterator[Alarm]:
    """Yield an alarm for each modality that lowers the score when it is added.

    Significant after Bonferroni correction over all sets that it is added to.
    """
    if not gains:
        return
    z = _quantile(len(gains))
    by_modality: dict[str, list[tuple[tuple[str, ...], Interval]]] = {}
    for (before, added), gain in gains.items():
        bounds = _normal_interval(gain, z)
        if bounds.high < 0:
            by_modality.setdefault(added, []).append((before, bounds))
    for modality, found in by_modality.items():
        before, bounds = min(found, key=lambda item: item[1].mean)
        yield Alarm(
            "lowers the score",
            f"{modality} lowers the score when it is added to "
            f"{', '.join(before) or 'nothing'}: {bounds.mean:+.3f} "
            f"({len(found)} of {sum(a == modality for _, a in gains)} sets of "
            "modalities).",
            modality,
            bounds,
        )


def _normal_interval(values: FloatArray, z: float) -> Interval:
    """Return the mean of values with bounds at ``z`` standard errors."""
    mean = float(values.mean())
    error = (
        float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else np.inf
    )
    return Interval(mean, mean - z * error, mean + z * error)


def _quantile(comparisons: int) -> float:
    from scipy.stats import norm

    return float(norm.isf(LEVEL / 2 / comparisons))


def _shown(group: Any) -> str:  # noqa: ANN401
    return f"group {group}"
