"""A self-contained page to explore the predictions of a saved model.

Predictions from all subsets of the modalities of each sample are computed beforehand,
so that the page needs no server: modalities are switched off and on in the browser.

The value of a modality that a sample lacks is estimated as by
:func:`mmgraph.acquisition.acquire`, with one difference: a donor is predicted from its
own modalities, so that no further predictions are needed. Donors are the samples of the
page with the nearest predictions from the same subset.

Letters: ``N`` samples, ``M`` modalities, ``C`` subsets, ``K`` classes, 1 for
regression.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph._html import render
from mmgraph.acquisition import MIN_DONORS, Belief, class_belief, value_belief
from mmgraph.data import MultimodalData
from mmgraph.data.column import BoolArray, IntArray
from mmgraph.data.stream.stream import in_memory
from mmgraph.data.targets import labeled_rows
from mmgraph.errors import ConfigError
from mmgraph.estimators import FusionClassifier, FusionRegressor
from mmgraph.estimators.explain import MAX_EXACT, coalition_predictions
from mmgraph.estimators.input_spec import removing_modalities
from mmgraph.files import write_text
from mmgraph.nn.heads import MultiLabel
from mmgraph.workflows.predict import calibrate_on
from mmgraph.workflows.samples import read_samples
from mmgraph.workflows.saved_model import (
    Task,
    Warn,
    check_given,
    load_model,
    no_op,
    resolve_columns,
    warn_missing_columns,
)

FloatArray: TypeAlias = npt.NDArray[np.float64]

TASKS: tuple[Task, ...] = ("classification", "regression")
NUM_DONORS = 20
MAX_NUMBERS = 700_000  # of a page, two bytes each: pages stay below 2 MB
UNKNOWN = 65535  # integer of a value that is not known
NEAR_ENDS = 2  # modalities that subsets have, or lack, of more than 8 modalities


@dataclass(frozen=True)
class ExploreRequest:
    """Model, samples and options.

    Attributes:
        model: Folder of the saved model.
        file: Parquet or CSV file, or folder of Parquet files; labels are optional.
        label: Column of labels; None is that of the training, if the file has it.
        modalities: Columns of modalities that differ from those of the training.
        id: Column of ids.
        conformal: File of labeled samples on which conformal sets or intervals are
            calibrated; None uses those that are saved with the model, if any.
        alpha: Miscoverage of a calibration on ``conformal``; None is the default.
        limit: Samples of the page, at most; drawn at random from more.
        seed: Seed of the draw.
        encoders: Paths of pretrained encoders that have moved, by modality.
    """

    model: Path
    file: Path
    label: str | None = None
    modalities: Mapping[str, tuple[str, ...]] | None = None
    id: str | None = None
    conformal: Path | None = None
    alpha: float | None = None
    limit: int = 200
    seed: int = 0
    encoders: Mapping[str, str] | None = None


def write_explore_page(
    request: ExploreRequest, path: Path, title: str, warn: Warn = no_op
) -> int:
    """Write the page of a saved model and the samples of a file.

    Args:
        request: Model, samples and options.
        path: File to write.
        title: Heading of the page.
        warn: Function that receives one line per modality without a column.

    Returns:
        Number of samples on the page.

    Raises:
        CheckpointError: If the folder contains no classifier or regressor.
        ConfigError: If an option does not apply to the model, or it predicts several
            labels or targets.
        DataError: If the file has no samples, or cannot be read.
    """
    model, columns = load_model(request.model, *TASKS, encoders=request.encoders)
    check_given(request.modalities, model)

    def read(file: Path, label: str | None) -> MultimodalData:
        samples = read_samples(
            file,
            modalities=resolve_columns(columns, file, request.modalities),
            label=label,
            id=request.id or columns.in_file(file).id,
        )
        warn_missing_columns(file, samples, model, warn)
        return in_memory(samples)

    data = read(request.file, request.label or columns.in_file(request.file).label)
    if request.conformal is not None:
        calibration = read(request.conformal, request.label or columns.label)
        calibrate_on(model, calibration, request.alpha)
    elif request.alpha is not None:
        calibrate_on(model, None, request.alpha)
    if len(data) > request.limit:
        rows = np.random.default_rng(request.seed).permutation(len(data))
        data = data[np.sort(rows[: request.limit])]
    content = page_content(model, data)
    text = render(
        "explore.html",
        title=title,
        content=json.dumps(content).replace("<", "\\u003c"),
        several=len(content["classes"] or ()) > 0,
    )
    write_text(path, text)
    return len(content["samples"])


def page_content(
    model: FusionClassifier | FusionRegressor, data: MultimodalData
) -> dict[str, Any]:
    """Return the content of the page as JSON.

    Args:
        model: Fitted classifier of one label, or regressor of one target.
        data: Samples; those beyond the size limit of a page are left out.

    Raises:
        ConfigError: If the model predicts several labels or targets.
    """
    classes = _classes_of(model)
    subsets = page_subsets(len(data.modalities))
    width = 2 * len(classes or (0,)) + 2 + len(data.modalities)
    data = data[: max(1, MAX_NUMBERS // (len(subsets) * width))]
    bits = 1 << np.arange(len(data.modalities))
    content: dict[str, Any] = {
        "modalities": list(data.modalities),
        "classes": classes,
        "samples": list(map(str, data.ids.tolist())),
        "labels": _labels(model, data),
        "present": (data.present @ bits).tolist(),
        "subsets": (subsets @ bits).tolist(),
        "alpha": None if model.conformal_ is None else model.conformal_.alpha,
    }
    with removing_modalities():
        outputs = _outputs(model, data, subsets)
    num = len(classes or (0,))
    predictions = outputs[..., :num]
    content["predictions"] = _encode(predictions, classes)
    if model.conformal_ is not None:
        content["supported"] = _bits(outputs[..., -1] > 0)
        sets = outputs[..., num:-1]
        content["sets"] = _bits(sets > 0) if classes else _encode(sets, None)
    belief = class_belief if classes else value_belief(np.asarray(model.scale_))
    values = subset_values(predictions, data.present, subsets, belief)
    top = float(np.nanmax(values)) if (~np.isnan(values)).any() else 0.0
    scaled = np.round(values / (top or 1.0) * (UNKNOWN - 1))
    content["top_value"] = top
    content["values"] = _integers(np.where(np.isnan(scaled), UNKNOWN, scaled))
    return content


def _classes_of(model: FusionClassifier | FusionRegressor) -> list[str] | None:
    """Return the names of the classes; None for a regressor.

    Raises:
        ConfigError: If the model predicts several labels or targets.
    """
    if isinstance(model, FusionClassifier):
        if not isinstance(model.model_.graph.task, MultiLabel):
            return [str(each) for each in model.classes_.tolist()]
    elif len(model.scale_) == 1:
        return None
    raise ConfigError(
        "explore must go with a model of one label or one target, got several. Use "
        "mmgraph predict --explain."
    )


def _labels(
    model: FusionClassifier | FusionRegressor, data: MultimodalData
) -> list[Any]:
    """Return names of classes, or numbers; None where a sample has no label."""
    if data.y is None or np.ndim(data.y) > 1:
        return [None] * len(data)
    known = labeled_rows(np.asarray(data.y))
    labels = [y if has else None for y, has in zip(data.y.tolist(), known, strict=True)]
    if isinstance(model, FusionRegressor):
        return labels
    names = {each: str(each) for each in model.classes_.tolist()}  # 1 equals 1.0
    return [None if y is None else names.get(y, str(y)) for y in labels]


def page_subsets(count: int) -> BoolArray:
    """Return the subsets of modalities ``[C, M]`` whose predictions a page holds.

    All subsets of up to 8 modalities; of more, those that have, or lack, at most two.
    """
    if count <= MAX_EXACT:
        masks = np.arange(2**count)
        return (masks[:, None] >> np.arange(count) & 1).astype(bool)
    few = [np.zeros(count, dtype=bool)]
    for first in range(count):
        for second in range(first, count):
            each = np.zeros(count, dtype=bool)
            each[[first, second]] = True
            few.append(each)
    assert NEAR_ENDS == 2
    return np.stack([*few, *(~each for each in few)])


def _outputs(
    model: FusionClassifier | FusionRegressor, data: MultimodalData, subsets: BoolArray
) -> FloatArray:
    """Return predictions, then sets or bounds and support, from all subsets."""
    calibrated = model.conformal_

    def predict(part: MultimodalData) -> FloatArray:
        proba = isinstance(model, FusionClassifier)
        values = model.predict_proba(part) if proba else model.predict(part)
        columns = [np.asarray(values, dtype=np.float64).reshape(len(part), -1)]
        if calibrated is not None:
            columns += [calibrated.predict(part).reshape(len(part), -1)]
            columns += [calibrated.supported(part)[:, None].astype(np.float64)]
        return np.concatenate(columns, axis=1)

    parts = [each for _, each in coalition_predictions(predict, data, subsets)]
    return np.concatenate(parts).astype(np.float64)


def subset_values(
    predictions: FloatArray, present: BoolArray, subsets: BoolArray, belief: Belief
) -> FloatArray:
    """Return the expected information of each modality that a sample lacks.

    Args:
        predictions: ``[N, C, K]`` predictions from each subset.
        present: ``[N, M]`` presence of the modalities.
        subsets: ``[C, M]`` subsets of modalities.
        belief: Belief whose expectation is the prediction from the subset.

    Returns:
        ``[N, C, M]`` in nats; NaN where a sample has the modality in the subset, lacks
        another one of the subset, or has too few donors.
    """
    bits = 1 << np.arange(present.shape[1])
    index = {mask: c for c, mask in enumerate((subsets @ bits).tolist())}
    values = np.full((len(present), *subsets.shape), np.nan)
    for c, subset in enumerate(subsets):
        has = (present | ~subset).all(axis=1)
        rows = np.flatnonzero(has)
        for m in np.flatnonzero(~subset).tolist():
            larger = index.get(int(subset @ bits) | int(bits[m]))
            donors = np.flatnonzero(has & present[:, m])
            if larger is not None and len(donors) > MIN_DONORS and len(rows):
                today, later = predictions[:, c], predictions[donors, larger]
                near = _nearest(today[rows], today[donors], rows, donors)
                values[rows, c, m] = belief(later[near], today[rows]).value
    return np.maximum(values, 0)


def _nearest(
    queries: FloatArray, candidates: FloatArray, rows: IntArray, donors: IntArray
) -> IntArray:
    """Return the nearest candidates ``[n, J]``, other than the sample itself."""
    from scipy.spatial.distance import cdist

    distance = cdist(queries, candidates)
    distance[rows[:, None] == donors] = np.inf
    count = min(NUM_DONORS, len(donors) - 1)
    nearest: IntArray = np.argsort(distance, axis=1, kind="stable")[:, :count]
    return nearest


def _encode(values: FloatArray, classes: list[str] | None) -> str:
    """Return probabilities as 16-bit integers, other numbers as float32."""
    if classes:
        return _integers(np.round(values * 65535))
    return base64.b64encode(values.astype("<f4").tobytes()).decode()


def _integers(values: FloatArray) -> str:
    return base64.b64encode(values.astype("<u2").tobytes()).decode()


def _bits(values: BoolArray) -> str:
    packed = np.packbits(values.ravel(), bitorder="little")
    return base64.b64encode(packed.tobytes()).decode()
