"""How well a model predicts labels.

Letters: `N` samples, `K` classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np

from mmgraph.data import MultimodalData
from mmgraph.data.targets import labelled_rows
from mmgraph.errors import DataError
from mmgraph.evaluation.result import Evaluation, ScoreRow
from mmgraph.evaluation.scenarios import Scenario
from mmgraph.metrics.scores import Scores, mean_scores

Parts: TypeAlias = Callable[[], Iterable[MultimodalData]]

SEED_STRIDE = 1000  # seeds between the masks of parts


def score_labels(
    model: Any,  # noqa: ANN401
    parts: Parts,
    asked: Sequence[Scenario],
) -> Evaluation:
    """Score a classifier or regressor under each missing pattern.

    Args:
        model: Fitted; what has `predict_proba` is a classifier.
        parts: Reads the samples anew, some at a time.
        asked: What is removed.

    Raises:
        DataError: No sample with a label, a class that the model never saw, words for
            a regressor, or several labels a sample.
    """
    lines = []
    for removal in asked:
        found = {
            str(seed): _scores(model, _labelled(parts(), removal, seed))
            for seed in removal
        }
        lines.append(ScoreRow(removal.name, "", mean_scores(found)))
    return Evaluation(tuple(lines))


def _labelled(
    parts: Iterable[MultimodalData], removal: Scenario, seed: int
) -> Iterator[MultimodalData]:
    """Yield the samples with labels, a part at a time, with modalities removed."""
    for number, data in enumerate(parts):
        if data.y is None:
            continue
        known = labelled_rows(np.asarray(data.y))
        if known.any():
            yield removal.apply(data, seed + SEED_STRIDE * number)[known]


def _scores(
    model: Any,  # noqa: ANN401
    parts: Iterable[MultimodalData],
) -> Scores:
    from mmgraph.metrics import classification_scores, regression_scores

    classifies = hasattr(model, "predict_proba")
    ask = model.predict_proba if classifies else model.predict
    pairs = [(np.asarray(data.y), np.asarray(ask(data))) for data in parts]
    if not pairs:
        raise DataError(
            "evaluate must get at least one sample with a label, got none.",
            "Give other samples, or labels by y=.",
        )
    y, said = (np.concatenate(each) for each in zip(*pairs, strict=True))
    if not classifies:
        if y.dtype.kind not in "fiub":
            raise DataError(
                "Labels must be numbers for a model of regression, got strings.",
                "Give other labels by y=.",
            )
        return regression_scores(y, said)
    if y.ndim > 1:
        raise DataError(
            f"evaluate must get one label a sample, got {y.shape[1]}. Score several in "
            "Python with FusionClassifier.score."
        )
    classes = np.asarray(model.classes_)
    unknown = sorted(set(y.tolist()) - set(classes.tolist()), key=str)
    if unknown:
        raise DataError(
            f"Labels must be classes of the training, {classes.tolist()}, "
            f"got {unknown[0]!r}."
        )
    return classification_scores(np.searchsorted(classes, y), said)
