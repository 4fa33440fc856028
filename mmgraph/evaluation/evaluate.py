"""Scores of a fitted model under scenarios of missing modalities."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.stream.stream import DataOrStream, in_memory, parts_of
from mmgraph.errors import ConfigError, DataError, DataWarning
from mmgraph.estimators import FusionEstimator, FusionMatcher, FusionRetriever
from mmgraph.evaluation.matching import score_matcher
from mmgraph.evaluation.result import Evaluation
from mmgraph.evaluation.retrieval import score_retriever
from mmgraph.evaluation.scenarios import Missing, build_scenarios
from mmgraph.evaluation.supervised import score_labels

RATES = (0.0, 0.3, 0.5, 0.7)


def evaluate(
    model: Any,  # noqa: ANN401
    data: DataOrStream,
    missing: Sequence[Missing] | None = None,
    *,
    query: Sequence[str] | None = None,
    gallery: Sequence[str] | None = None,
    seeds: int = 3,
    seed: int = 0,
) -> Evaluation:
    """Score a fitted model while modalities go missing.

    A classifier or regressor predicts the labels of the data; samples without one are
    left out. A retriever looks up every modality by every other, or as ``query`` and
    ``gallery`` say: modalities go missing from queries only. A matcher tells true
    pairs from wrong partners that are drawn at random, among the most similar and,
    with labels, from the same class.

    What the data lack stays missing under every pattern. The masks are those that
    ``pattern.plan(data, seed)`` draws, the same for every model.

    Args:
        model: A fitted estimator of mmgraph, a baseline, or anything with
            ``predict_proba`` and ``classes_``, or ``predict``, on ``MultimodalData``.
        data: Samples with labels, or with what belongs together. A stream is read
            anew for every mask (labels only).
        missing: Shares of the observed modalities to remove completely at random, 0
            for the data as they are; or patterns of :mod:`mmgraph.missing`. Default:
            0, .3, .5 and .7 of labels, 0 of retrievers and matchers.
        query: Modalities to ask a retriever by, together; default: each alone.
        gallery: Modalities that a retriever finds, together; default: each alone.
        seeds: Masks of each pattern; scores are means over them.
        seed: Of the masks and of wrong partners.

    Returns:
        One line a pattern and question; it prints as a table, and ``rows`` are dicts.
        Scores are nan where there is nothing to score.

    Raises:
        ConfigError: A rate outside 0 to 1, something that is no pattern, sides for a
            model that is no retriever, or modalities that it does not know.
        DataError: No labels, or a class that the model never saw; for a retriever or
            matcher fewer than two modalities.

    Example:
        >>> import mmgraph as mg
        >>> train, test = mg.load_dataset("heart").split(test_size=0.4, seed=0)
        >>> clf = mg.baselines.LateLogistic().fit(train)
        >>> found = mg.evaluate(clf, test, [0, 0.5, mg.missing.only(["history"])])
        >>> [row["missing"] for row in found.rows]
        ['0', '0.5', 'only(history)']
        >>> found.rows[0]["auroc"] > found.rows[1]["auroc"]
        True
    """
    pairs = isinstance(model, FusionMatcher | FusionRetriever)
    usual = (0.0,) if pairs else RATES
    asked = build_scenarios(usual if missing is None else missing, seeds, seed)
    if not isinstance(data, MultimodalData | MultimodalStream):
        raise DataError(
            f"Data must be MultimodalData, got {type(data).__name__}. Build it with "
            "MultimodalData.from_arrays."
        )
    if isinstance(model, FusionRetriever):
        whole = in_memory(data)
        return score_retriever(model, whole, asked, query=query, gallery=gallery)
    if query is not None or gallery is not None:
        raise ConfigError(
            f"query and gallery must go with a retriever, got {type(model).__name__}. "
            "Leave them out."
        )
    if isinstance(model, FusionMatcher):
        return score_matcher(model, in_memory(data), asked)
    observed: set[str] = set()
    found = score_labels(model, lambda: _watch(parts_of(data), observed), asked)
    _warn_unobserved(model, data, observed)
    return found


def _watch(
    parts: Iterable[MultimodalData], observed: set[str]
) -> Iterator[MultimodalData]:
    """Yield the parts, and note which modalities have an observed value."""
    for part in parts:
        observed.update(name for name, c in part.columns.items() if c.present.any())
        yield part


def _warn_unobserved(model: object, data: DataOrStream, observed: set[str]) -> None:
    """Warn about modalities of the model that data has, but without any value."""
    if not isinstance(model, FusionEstimator):
        return
    names = data.schema.modality_names
    empty = [n for n in names if n not in observed and n not in model.unseen_]
    empty = [n for n in empty if n in model.schema_.modality_names]
    if empty and observed:
        warnings.warn(
            f"No value of {', '.join(empty)} is observed; they are missing in every "
            "sample.",
            DataWarning,
            stacklevel=3,
        )
