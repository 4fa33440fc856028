"""How good a saved model is on samples that it has not seen."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmgraph.benchmark.pairs import Scores, mean_scores
from mmgraph.cli.reading import read_samples
from mmgraph.cli.workflow import (
    Columns,
    Task,
    Tell,
    as_trained,
    check_given,
    load_model,
    silent,
    telling_missing,
    there,
)
from mmgraph.config import PAIR_TASKS
from mmgraph.data import MultimodalData
from mmgraph.data.labels import labelled_rows
from mmgraph.errors import ConfigError, DataError

TASKS: tuple[Task, ...] = ("classification", "regression", "retrieval", "matching")
SEEDS = 3  # masks per rate above 0


@dataclass(frozen=True)
class Question:
    """What is to be measured.

    Attributes:
        model: Folder of `mmgraph train`.
        file: Parquet file, folder of them, or of pictures, texts and sounds.
        label: Column of labels; None is that of the training.
        modalities: Columns of modalities; those of others are as in the training.
        group: Column whose equal values belong together, for retrieval and matching;
            None is that of the training.
        rates: Shares of the observed modalities to remove; 0 is the file as it is.
        query: Modalities that a retriever is asked by; None is each by itself.
        gallery: Modalities that a retriever finds; None is each by itself.
        seed: Of masks and wrong partners.
        encoders: Where pretrained encoders are now, by modality, if they have moved.
    """

    model: Path
    file: Path
    label: str | None = None
    modalities: Mapping[str, tuple[str, ...]] | None = None
    group: str | None = None
    rates: tuple[float, ...] = (0.0,)
    query: tuple[str, ...] | None = None
    gallery: tuple[str, ...] | None = None
    seed: int = 0
    encoders: Mapping[str, str] | None = None

    def mask_seeds(self, rate: float) -> range:
        """Return the seeds of the masks at a rate; scores are their mean."""
        return range(self.seed * SEEDS, self.seed * SEEDS + (SEEDS if rate else 1))

    def check(self, task: Task) -> None:
        """Refuse options that a model of this task has no use for.

        Raises:
            ConfigError: Naming the first one.
        """
        sides = {"--query": self.query, "--gallery": self.gallery}
        given = [option for option, value in sides.items() if value is not None]
        given = [] if task == "retrieval" else given
        if task not in PAIR_TASKS and self.group is not None:
            given.append("--group")
        if given:
            raise ConfigError(
                f"{given[0]} must go with a retriever{_or_matcher(given[0])}, got a "
                f"model of {task}. Leave it out."
            )
        if self.seed < 0:
            raise ConfigError(f"--seed must be at least 0, got {self.seed}.")
        wrong = [rate for rate in self.rates if not 0 <= rate <= 1]
        if wrong:
            raise ConfigError(f"--missing must be rates from 0 to 1, got {wrong[0]}.")


def _or_matcher(option: str) -> str:
    return " or matcher" if option == "--group" else ""


@dataclass(frozen=True)
class Measured:
    """Scores of a model.

    Attributes:
        lines: Missing rate, what was asked ("" where there is one thing to ask), and
            scores by name.
        asked: What the second is; "" where it is not shown.
        notes: What a reader has to know.
    """

    lines: tuple[tuple[float, str, Scores], ...]
    asked: str = ""
    notes: tuple[str, ...] = ()


def measure(question: Question, tell: Tell = silent) -> Measured:
    """Score a saved model on a file, at each test missing rate.

    Args:
        question: What is to be measured.
        tell: Takes a line that names the modalities of the model that the file lacks.

    Raises:
        CheckpointError: If the folder is not one of a model.
        ConfigError: If an option does not fit the model.
        DataError: If the file has no labels to score by, or a class that the model
            never saw; or lacks the modalities that belong together.
    """
    model, columns = load_model(question.model, *TASKS, encoders=question.encoders)
    question.check(columns.task)
    check_given(question.modalities, model)
    if columns.task in PAIR_TASKS:
        from mmgraph.cli.pairing import measure_pairs

        return measure_pairs(model, columns, question, tell)
    return _measure_labels(model, columns, question, tell)


def _measure_labels(
    model: Any,  # noqa: ANN401
    columns: Columns,
    question: Question,
    tell: Tell,
) -> Measured:
    samples = read_samples(
        question.file,
        modalities=there(columns, question.file, question.modalities),
        label=question.label or columns.label,
        id=columns.id,
    )
    samples, lines = as_trained(samples, model), []
    for rate in question.rates:
        scores = {}
        for seed in question.mask_seeds(rate):
            parts = telling_missing(question.file, samples, model, tell)
            kept = _scored(parts, rate, seed)
            scores[str(seed)] = _scores(model, columns.task, kept)
        lines.append((rate, "", mean_scores(scores)))
    return Measured(tuple(lines))


def _scored(
    parts: Iterable[MultimodalData], rate: float, seed: int
) -> Iterator[MultimodalData]:
    """Yield the samples with labels, a chunk at a time, with modalities removed."""
    for number, data in enumerate(parts):
        known = labelled_rows(np.asarray(data.y))
        if known.any():
            yield thin(data, rate, seed + 1000 * number)[known]


def thin(data: MultimodalData, rate: float, seed: int) -> MultimodalData:
    """Remove a share of the observed modalities, completely at random."""
    from mmgraph.missing import mcar

    return mcar(rate).plan(data, seed=seed).apply(data)


def _scores(
    model: Any,  # noqa: ANN401
    task: Task,
    parts: Iterable[MultimodalData],
) -> Scores:
    from mmgraph.metrics import classification_scores, regression_scores

    ask = model.predict if task == "regression" else model.predict_proba
    pairs = [(np.asarray(data.y), np.asarray(ask(data))) for data in parts]
    if not pairs:
        raise DataError(
            "evaluate must get at least one sample with a label, got none. Give "
            "another file or --label."
        )
    y, said = (np.concatenate(each) for each in zip(*pairs, strict=True))
    if task == "regression":
        if y.dtype.kind not in "fiub":
            raise DataError(
                "Labels must be numbers for a model of regression, got strings.",
                "Choose another column by --label.",
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


def names_of(values: Sequence[str]) -> str:
    """Return names as a sentence takes them."""
    return ", ".join(values) or "none"
