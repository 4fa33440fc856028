"""Model card: the README.md of a model folder.

It describes inputs, training and calibration by names, counts and scores, and contains
no value of a sample.

References:
    Model Cards for Model Reporting, Mitchell et al., 2019, arXiv 1810.03993.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mmgraph.conformal import ASSUMPTION, ConformalPrediction
from mmgraph.errors import CheckpointError
from mmgraph.files import replacing
from mmgraph.train.summary import TrainingSummary

CARD = "README.md"
FRONT = "---\nlibrary_name: mmgraph\ntags:\n- multimodal\n- missing-modalities\n---"
MARK = "<!-- Written by mmgraph. Saving the model again replaces this file. -->"
MAX_NAMES = 10  # classes and channels that are listed


class Input(NamedTuple):
    """Content of one modality.

    Attributes:
        modality: Name.
        kind: "numbers", or the kind of a text, image or audio modality.
        channels: Names of the channels; empty if they have none.
        num_features: Number of features.
    """

    modality: str
    kind: str
    channels: Sequence[str]
    num_features: int


def model_card(
    name: str,
    inputs: Sequence[Input],
    *,
    predicts: str,
    score: str = "",
    out_of_fold: float = math.nan,
    summary: TrainingSummary | None = None,
    weights: Mapping[str, float] | None = None,
    conformal: ConformalPrediction | None = None,
) -> str:
    """Return the text of the model card of a fitted estimator as Markdown.

    Args:
        name: Class of the estimator.
        inputs: Content of each modality.
        predicts: What the model predicts, at the end of a sentence.
        score: Name of the score.
        out_of_fold: Score with all observed modalities.
        summary: Numbers of the training; None if they are not known.
        weights: Weights of base learners and graph; None without base learners.
        conformal: Conformal predictions, if the model has them.
    """
    parts = [
        f"# {name}",
        f"Predicts {predicts} from any subset of {len(inputs)} modalities.",
        "```python\nimport mmgraph as mg\n\n"
        f'model = mg.{name}.from_pretrained("path/of/this/folder")\n```',
        "## Modalities",
        _table(*_modalities(inputs, summary)),
    ]
    if summary is not None:
        parts += ["## Scores", *_scores(score, out_of_fold, summary)]
    if weights is not None:
        parts += ["## Weights", *_weights(weights)]
    if conformal is not None:
        parts += ["## Calibration", *_calibration(conformal)]
    return "\n\n".join(parts) + "\n"


def list_names(names: Iterable[object]) -> str:
    """Return names separated by commas; of many the first ones and the number."""
    every = [_escape(name) for name in names]
    more = f", ... ({len(every)} in total)" if len(every) > MAX_NAMES else ""
    return ", ".join(every[:MAX_NAMES]) + more


def write_card(folder: Path, text: str) -> None:
    """Write the model card into a folder; a README.md of other origin is kept.

    Args:
        folder: Folder of the model.
        text: Text of the model card.

    Raises:
        CheckpointError: If the file cannot be written.
    """
    path = folder / CARD
    try:
        if path.exists() and MARK not in path.read_text("utf-8", errors="replace"):
            return
        with replacing(path) as part:
            part.write_text("\n\n".join((FRONT, MARK, text)), encoding="utf-8")
    except OSError as error:
        raise CheckpointError(f"{path} cannot be written: {error}.") from None


def _modalities(
    inputs: Sequence[Input], summary: TrainingSummary | None
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of modalities."""
    header = ["modality", "content", "features"]
    rows = [
        [each.modality, each.kind, list_names(each.channels) or str(each.num_features)]
        for each in inputs
    ]
    if summary is not None:
        header += ["observed in training", "out-of-fold score alone"]
        for row, share, alone in zip(
            rows, summary.observed, summary.alone, strict=True
        ):
            row += [f"{share:.0%}", _number(alone)]
    return header, rows


def _scores(score: str, out_of_fold: float, summary: TrainingSummary) -> list[str]:
    """Return the paragraphs about scores and what makes them misleading."""
    parts = [
        f"{score} of the pooled base learners on {summary.num_samples} training "
        "samples, each outside of the folds that they were fitted to, without the "
        f"graph networks: {_number(out_of_fold)} with all observed modalities, "
        f"{_number(summary.nothing)} with nothing observed. Held-out samples: "
        "`mmgraph evaluate`, `mmgraph contributions`."
    ]
    if summary.num_groups is not None:
        parts.append(
            f"{summary.num_groups} groups: samples of a group stay in the same fold."
            if summary.num_groups
            else "No groups: samples are assigned to folds independently. If several "
            "samples belong to one person or site, the score is too optimistic; give "
            "groups (`mmgraph train --group`)."
        )
    if summary.presence is not None:
        mean, low, high = summary.presence
        figure = f"AUROC {mean:.2f}, 95% CI [{low:.2f}, {high:.2f}]"
        parts.append(
            "**Alarm: which modalities are present predicts the label** "
            f"({figure} of the presence mask alone). Scores change where other "
            "modalities go missing."
            if low > 0.5
            else "Which modalities are present does not predict the label "
            f"({figure} of the presence mask alone)."
        )
    return parts


def _weights(weights: Mapping[str, float]) -> list[str]:
    """Return the paragraphs about the weights of base learners and graph."""
    parts = [
        "Factors of the evidence in the score of a sample with all modalities:",
        _table(["part", "weight"], [[k, _number(v)] for k, v in weights.items()]),
    ]
    if not weights["graph"]:
        parts.append(
            "The graph networks are not used: they did not reduce the loss on held-out "
            "samples, or the level of fusion has none."
        )
    return parts


def _calibration(conformal: ConformalPrediction) -> list[str]:
    """Return the paragraphs about conformal predictions."""
    rows = [
        [
            str(row["subset"]).replace("+", ", "),
            str(row["calibration_samples"]),
            "yes" if row["supported"] else "no: too few samples",
        ]
        for row in conformal.table_
    ]
    return [
        f"`model.conformal_` contains the label with a probability of "
        f"{1 - conformal.alpha:g}. {ASSUMPTION}",
        _table(["observed", "calibration samples", "supported"], rows),
    ]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *([*map(_escape, row)] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _escape(text: object) -> str:
    """Return text as one line without the characters of tables and HTML."""
    line = " ".join(str(text).split())
    for mark, entity in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        ("|", "&#124;"),
        ("`", "&#96;"),
    ):
        line = line.replace(mark, entity)
    return line


def _number(value: float) -> str:
    return "not measured" if math.isnan(value) else f"{value:.3f}"
