r"""Comparison of new samples with the training samples of a model.

Modalities of one sample contradict each other if they are unlikely to be of the same
sample. Given the class, let them be independent; then

.. math::

    \frac{p(x_m, x_{\setminus m})}{p(x_m)\, p(x_{\setminus m})}
    = \sum_k \frac{p(k \mid x_m)\, p(k \mid x_{\setminus m})}{p(k)},

which compares modalities of one sample with modalities of different samples. For a
calibrated model, at most a share t of samples has a ratio below t (Markov's
inequality), so that the ratio is a conservative p-value.

Letters: ``N`` samples, ``M`` modalities, ``K`` classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.data.column import BoolArray
from mmgraph.data.notices import MAX_LISTED
from mmgraph.data.ranges import ChannelRanges
from mmgraph.estimators.explain import empty_sample
from mmgraph.estimators.input_spec import InputSpec
from mmgraph.train.summary import TrainingSummary

FloatArray: TypeAlias = npt.NDArray[np.floating[Any]]
Predict: TypeAlias = Callable[[MultimodalData], FloatArray]

UNRELIABLE = 0.1  # reliability below which a modality is treated as missing
EXPECTED_UNRELIABLE = 0.05  # more than this share of a modality is reported
CONTRADICTION = 0.01  # likelihood ratio below which modalities contradict each other
SIGNIFICANT = 0.0101  # p-value; a single sample below 0.01 is significant
MIN_CHANGE = 0.1  # change of a share of missing modalities that is reported
MIN_SHIFT = 1.0  # training standard deviations of a mean that is reported
MIN_SAMPLES = 20  # samples without which means and shares are not compared


class Finding(NamedTuple):
    """A difference between samples and the training samples.

    Attributes:
        kind: "unlike training", "new subset", "shifted channel", "share missing",
            "contradiction", or "input" for what reading the samples reports, such as
            unknown categories and values far out of range.
        modality: Name of the modality, "" if it concerns several.
        share: Share of the samples that have the modality, or of all samples; NaN if
            the finding has none.
        text: One sentence.
    """

    kind: str
    modality: str
    share: float
    text: str


@dataclass(frozen=True, repr=False)
class DataCheck:
    """Differences between samples and the training samples of a model.

    Returned by :meth:`mmgraph.FusionClassifier.check`. It prints one line per finding;
    ``pandas.DataFrame(check.rows)`` is a data frame of them.

    Attributes:
        findings: Findings, grouped by kind.
        reliability: ``[N, M]`` typicality of each row in (0, 1], NaN where the modality
            is missing; None for a model with ``reliability=None``.
        agreement: ``[N, M]`` ratio of the likelihoods that a modality and the others
            are of one sample and of different samples, NaN where undefined; None for
            models that do not predict one class.
        modalities: Names of the ``M`` modalities.
        num_samples: ``N``.
    """

    findings: tuple[Finding, ...]
    reliability: FloatArray | None
    agreement: FloatArray | None
    modalities: tuple[str, ...]
    num_samples: int

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict per finding: kind, modality, share and text."""
        return [finding._asdict() for finding in self.findings]

    def __repr__(self) -> str:
        if not self.findings:
            return f"{self.num_samples} samples are like the training samples."
        number = f"{self.num_samples} samples differ from the training samples:"
        return "\n".join([number, *(f"- {each.text}" for each in self.findings)])


def compare(
    data: MultimodalData,
    spec: InputSpec,
    summary: TrainingSummary | None,
    messages: Iterable[str],
    reliability: FloatArray | None,
    agreement: FloatArray | None,
) -> DataCheck:
    """Compare samples with the training samples.

    Args:
        data: Samples as :meth:`InputSpec.read` returns them, with all modalities.
        spec: Description of the inputs.
        summary: Numbers of the training; None if they are not known.
        messages: Warnings that were issued while the samples were read.
        reliability: ``[N, M]``, see :class:`DataCheck`.
        agreement: ``[N, M]``, see :class:`DataCheck`.
    """
    findings = [Finding("input", "", np.nan, each) for each in dict.fromkeys(messages)]
    if reliability is not None:
        findings += _atypical(data, reliability)
    if summary is not None:
        findings += _subsets(data, summary)
        findings += _missing_shares(data, summary)
    findings += _shifts(data, spec)
    if agreement is not None:
        findings += _contradictory(data, agreement)
    return DataCheck(
        tuple(findings), reliability, agreement, data.modalities, len(data)
    )


def contradictions(predict: Predict, data: MultimodalData) -> FloatArray:
    """Return the ratio ``[N, M]`` that a modality and the others belong together.

    Args:
        predict: Returns class probabilities ``[N, K]`` from any subset of modalities.
        data: Samples.

    Returns:
        Likelihood ratios, NaN where the modality or all others are missing.
    """
    present = data.present
    prior = np.asarray(predict(empty_sample(data)), dtype=np.float64)[0]
    ratios = np.full(present.shape, np.nan)
    for m in range(present.shape[1]):
        only = np.zeros(present.shape[1], dtype=bool)
        only[m] = True
        rows = np.flatnonzero(present[:, m] & present[:, ~only].any(axis=1))
        if len(rows):
            part = data[rows]
            alone = np.asarray(predict(part.mask(_repeated(only, part))))
            rest = np.asarray(predict(part.mask(_repeated(~only, part))))
            ratios[rows, m] = (alone.astype(np.float64) * rest / prior).sum(axis=1)
    return ratios


def describe_unreliable(
    present: BoolArray, unreliable: BoolArray, names: Sequence[str]
) -> str:
    """Return which modalities have more unreliable rows than expected, or "".

    Args:
        present: ``[N, M]`` presence of the modalities.
        unreliable: ``[N, M]`` rows that are treated as missing.
        names: Names of the ``M`` modalities.
    """
    parts = []
    for m, name in enumerate(names):
        count, total = int(unreliable[:, m].sum()), int(present[:, m].sum())
        if count > EXPECTED_UNRELIABLE * total:
            parts.append(f"{name} ({count} of {total} samples)")
    return ", ".join(parts)


def _repeated(kept: BoolArray, data: MultimodalData) -> BoolArray:
    return np.tile(kept, (len(data), 1))


def _unexpected(count: int, total: int, expected: float) -> bool:
    """Return True if a share is larger than expected, by more than chance."""
    from scipy.stats import binom

    return bool(binom.sf(count - 1, total, expected) < SIGNIFICANT)


def _atypical(data: MultimodalData, reliability: FloatArray) -> Iterator[Finding]:
    for m, name in enumerate(data.modalities):
        total = int(data.present[:, m].sum())
        count = int((reliability[:, m] < UNRELIABLE).sum())
        if count > EXPECTED_UNRELIABLE * total:
            yield Finding(
                "unlike training",
                name,
                count / total,
                f"{name}: {count / total:.0%} of the rows are unlike anything in "
                "training; the model treats them as missing.",
            )


def _subsets(data: MultimodalData, summary: TrainingSummary) -> Iterator[Finding]:
    if not summary.patterns:
        return
    known = set(summary.patterns)
    patterns, counts = np.unique(data.present, axis=0, return_counts=True)
    pairs = zip(map(tuple, patterns.tolist()), counts.tolist(), strict=True)
    new = sorted(((n, p) for p, n in pairs if p not in known), reverse=True)
    if new:
        count = sum(n for n, _ in new)
        listed = "; ".join(
            f"{_names(p, data.modalities)} ({n})" for n, p in new[:MAX_LISTED]
        )
        more = "; ..." if len(new) > MAX_LISTED else ""
        yield Finding(
            "new subset",
            "",
            count / len(data),
            f"{count / len(data):.0%} of the samples have a subset of modalities that "
            f"no training sample had: {listed}{more}.",
        )


def _names(pattern: Sequence[bool], names: Sequence[str]) -> str:
    kept = [name for name, has in zip(names, pattern, strict=True) if has]
    return "+".join(kept) or "nothing"


def _missing_shares(
    data: MultimodalData, summary: TrainingSummary
) -> Iterator[Finding]:
    total, before = len(data), summary.num_samples
    if total < MIN_SAMPLES:
        return
    for m, name in enumerate(data.modalities):
        had = summary.observed[m]
        has = float(data.present[:, m].mean())
        pooled = (had * before + has * total) / (before + total)
        spread = np.sqrt(pooled * (1 - pooled) * (1 / before + 1 / total))
        change = abs(has - had)
        if change >= MIN_CHANGE and change > 4 * spread:
            yield Finding(
                "share missing",
                name,
                1 - has,
                f"{name} is missing in {1 - has:.0%} of the samples, in training in "
                f"{1 - had:.0%}.",
            )


def _shifts(data: MultimodalData, spec: InputSpec) -> Iterator[Finding]:
    for name, ranges in spec.ranges.items():
        column = data.columns[name]
        parts = _shifted_channels(column.values, column.fields, ranges)
        if parts:
            listed = "; ".join(parts[:MAX_LISTED])
            more = "; ..." if len(parts) > MAX_LISTED else ""
            yield Finding(
                "shifted channel",
                name,
                np.nan,
                f"{name} has other means than in training, in training standard "
                f"deviations: {listed}{more}. Check units and calibration.",
            )


def _shifted_channels(
    values: npt.NDArray[Any], fields: Sequence[str], ranges: ChannelRanges
) -> list[str]:
    """Return the channels whose mean differs from that of the training."""
    if not ranges.mean or not len(values):
        return []
    cells = values.astype(np.float64)
    counts = (~np.isnan(cells)).sum(axis=0)
    means = np.nansum(cells, axis=0) / np.maximum(counts, 1)
    mean, sd = np.array(ranges.mean), np.array(ranges.sd)
    usable = (counts >= MIN_SAMPLES) & (sd > 0)
    shift = np.where(usable, (means - mean) / np.where(sd > 0, sd, 1), 0)
    far = np.abs(shift) > MIN_SHIFT + 3 / np.sqrt(np.maximum(counts, 1))
    order = np.argsort(-np.abs(shift), kind="stable")
    return [f"{fields[c]} {shift[c]:+.1f}" for c in order if far[c]]


def _contradictory(data: MultimodalData, agreement: FloatArray) -> Iterator[Finding]:
    for m, name in enumerate(data.modalities):
        total = int((~np.isnan(agreement[:, m])).sum())
        count = int((agreement[:, m] < CONTRADICTION).sum())
        if total and _unexpected(count, total, CONTRADICTION):
            yield Finding(
                "contradiction",
                name,
                count / total,
                f"{name} contradicts the other modalities in {count} of {total} "
                f"samples ({CONTRADICTION:.0%} are expected at most).",
            )
