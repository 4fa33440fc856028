"""Train, predict and evaluate on a Parquet file of one's own.

A trained model is a folder: what `save_pretrained` writes, and `columns.json`, which
remembers which columns of the file are which modality.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmgraph.config import TrainConfig
from mmgraph.data import MultimodalData
from mmgraph.errors import CheckpointError, ConfigError, DataError
from mmgraph.schema import Schema
from mmgraph.train.folder import remove_progress

if TYPE_CHECKING:
    import pandas as pd

    from mmgraph.estimators import FusionClassifier, FusionRegressor

    Estimator = FusionClassifier | FusionRegressor

COLUMNS_FILE = "columns.json"
PROGRESS_FOLDER = "training"  # in the output folder, until the model is saved
Task = Literal["classification", "regression"]


@dataclass(frozen=True)
class Columns:
    """Which columns of a file are what.

    Attributes:
        task: What the model predicts.
        label: Column of labels.
        modalities: Columns of each modality; empty where the file says it itself.
        group: Column of groups, or None.
        id: Column of ids, or None.
    """

    task: Task
    label: str
    modalities: Mapping[str, tuple[str, ...]]
    group: str | None
    id: str | None

    def save(self, folder: Path) -> None:
        """Write `columns.json` into a folder."""
        text = json.dumps(vars(self), indent=1)
        (folder / COLUMNS_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Columns":
        """Read `columns.json` from a folder.

        Raises:
            CheckpointError: If it is missing or damaged.
        """
        path = folder / COLUMNS_FILE
        if not path.is_file():
            raise CheckpointError(
                f"Model folder must hold {COLUMNS_FILE} as mmgraph train writes it, "
                f"got none in '{folder}'."
            )
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            modalities = {m: tuple(names) for m, names in values["modalities"].items()}
            return cls(**{**values, "modalities": modalities})
        except (ValueError, KeyError, TypeError, AttributeError):
            raise CheckpointError(
                f"{path} must be JSON as mmgraph train writes it, got something "
                "else; train again."
            ) from None


def train_file(config: TrainConfig) -> tuple["Estimator", MultimodalData]:
    """Fit an estimator on a file and save it; under torchrun, in all its processes.

    Progress is kept in the output folder until the model is saved.

    Returns:
        The fitted estimator and the samples it saw.

    Raises:
        DataError: If the file, its columns or its labels cannot be used.
    """
    from mmgraph.distributed import join
    from mmgraph.estimators import FusionClassifier, FusionRegressor

    workers = join()
    data = workers.together(
        lambda: read_samples(
            config.file,
            modalities=config.modalities,
            label=config.label,
            group=config.group,
            id=config.id,
        )
    )
    task = _task(config, data)
    kind = FusionRegressor if task == "regression" else FusionClassifier
    options: dict[str, Any] = {} if config.epochs is None else {"epochs": config.epochs}
    progress = config.output / PROGRESS_FOLDER
    if config.fresh and workers.is_lead:
        remove_progress(progress)
    model = kind(seed=config.seed, checkpoint_dir=progress, **options).fit(data)
    columns = Columns(task, config.label, config.modalities, config.group, config.id)

    def save() -> None:
        if workers.is_lead:
            model.save_pretrained(config.output)
            columns.save(config.output)

    workers.together(save)
    return model, data


def _task(config: TrainConfig, data: MultimodalData) -> Task:
    if config.task != "auto":
        return config.task
    y = np.asarray(data.y)
    if y.dtype.kind != "f":
        return "classification"
    known = y[np.isfinite(y)]
    return "regression" if (known != np.round(known)).any() else "classification"


def read_samples(
    file: Path,
    *,
    modalities: Mapping[str, Sequence[str]],
    label: str | None,
    group: str | None = None,
    id: str | None = None,
) -> MultimodalData:
    """Read samples from a Parquet file.

    Args:
        file: One row per sample.
        modalities: Columns of each modality; empty where mmgraph wrote the file.
        label: Column of labels; None reads none.
        group: Column of groups, or None.
        id: Column of ids, or None.

    Raises:
        DataError: If the file or one of the columns is not there or unreadable.
    """
    if not file.is_file():
        raise DataError(f"Parquet file must exist, got '{file}'.")
    chosen = {
        name: columns[0] if len(columns) == 1 else list(columns)
        for name, columns in modalities.items()
    }
    data = MultimodalData.from_parquet(
        file,
        modalities=chosen or None,
        y=label,
        ids=id or "id",
        groups=group or "group",
    )
    if label is not None and data.y is None:
        raise DataError(
            f"{file} must hold the label column '{label}', got none of that name."
        )
    return data


def load_model(folder: Path) -> tuple["Estimator", Columns]:
    """Load an estimator and its columns from the folder of `mmgraph train`.

    Raises:
        CheckpointError: If the folder is not one of a trained model.
    """
    if not folder.is_dir():
        raise CheckpointError(f"Model folder must exist, got '{folder}'.")
    columns = Columns.load(folder)
    from mmgraph.estimators import FusionClassifier, FusionRegressor

    kind = FusionRegressor if columns.task == "regression" else FusionClassifier
    return kind.from_pretrained(folder), columns


def predict_file(folder: Path, file: Path) -> "pd.DataFrame":
    """Predict every sample of a file.

    A modality none of whose columns is in the file is missing for every sample.

    Returns:
        One row per sample: `id`, `prediction`, and for classes their probability.

    Raises:
        CheckpointError: If the folder is not one of a trained model.
        DataError: If the file cannot be read.
    """
    import pandas as pd

    model, columns = load_model(folder)
    data = read_samples(
        file, modalities=there(columns, file), label=None, id=columns.id
    )
    frame = pd.DataFrame({"id": data.ids})
    if columns.task == "regression":
        predicted = np.asarray(model.predict(data))
        return frame.assign(prediction=list(predicted))
    proba = model.predict_proba(data)
    classes = np.asarray(model.classes_)
    frame["prediction"] = classes[proba.argmax(1)] if len(proba) else classes[:0]
    for code, name in enumerate(classes):
        frame[f"probability_{name}"] = proba[:, code]
    return frame


def there(columns: Columns, file: Path) -> dict[str, tuple[str, ...]]:
    """Return the modalities of which the file has at least one column."""
    if not columns.modalities or not file.is_file():
        return dict(columns.modalities)
    from mmgraph.data.storage import read_table

    names = set(read_table(file).column_names)
    found = {m: c for m, c in columns.modalities.items() if names & set(c)}
    if not found:
        raise DataError(
            f"{file} must hold columns of at least one of the modalities "
            f"{', '.join(columns.modalities)}, got none."
        )
    return found


def save_predictions(frame: "pd.DataFrame", path: Path) -> None:
    """Write predictions as Parquet or CSV, by the ending of the path.

    Raises:
        ConfigError: If the ending is another.
    """
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".parquet":
        frame.to_parquet(path, index=False)
    else:
        raise ConfigError(f"Output must end in .parquet or .csv, got '{path}'.")


def evaluate_file(
    folder: Path,
    file: Path,
    label: str | None = None,
    rates: Sequence[float] = (0.0,),
    seeds: int = 3,
) -> dict[float, dict[str, float]]:
    """Score a model on a file with labels, at each test missing rate.

    Args:
        folder: Folder of `mmgraph train`.
        file: Parquet file with labels.
        label: Column of labels; the default is that of the training.
        rates: Shares of the observed modalities to remove; 0 is the file as it is.
        seeds: Masks per rate above 0; scores are their mean.

    Returns:
        Scores by rate, in the order given.

    Raises:
        DataError: If the file has no labels, or a class the model never saw.
    """
    from mmgraph.missing import mcar

    model, columns = load_model(folder)
    data = read_samples(
        file,
        modalities=there(columns, file),
        label=label or columns.label,
        id=columns.id,
    )
    found = {}
    for rate in rates:
        plans = [mcar(rate).plan(data, seed=s) for s in range(seeds if rate else 1)]
        scores = [_scores(model, columns.task, plan.apply(data)) for plan in plans]
        found[rate] = {
            name: float(np.mean([score[name] for score in scores]))
            for name in scores[0]
        }
    return found


def _scores(model: "Estimator", task: Task, data: MultimodalData) -> dict[str, float]:
    from mmgraph.metrics import classification_scores, regression_scores

    y = np.asarray(data.y)
    if task == "regression":
        return regression_scores(y, np.asarray(model.predict(data)))
    classes = np.asarray(model.classes_)
    unknown = sorted(set(y.tolist()) - set(classes.tolist()), key=str)
    if unknown:
        raise DataError(
            f"Labels must be classes of the training, {classes.tolist()}, "
            f"got {unknown[0]!r}."
        )
    codes = np.searchsorted(classes, y)
    return classification_scores(codes, np.asarray(model.predict_proba(data)))


def read_schema(source: str, modalities: Mapping[str, Sequence[str]]) -> Schema:
    """Return the schema of a data set by name, a Parquet file or a JSON file.

    Args:
        source: Name of a data set, or path that ends in .parquet or .json.
        modalities: Columns of each modality, for a file that mmgraph did not write.

    Raises:
        DataError: If it is no known data set or file.
        SchemaError: If the JSON file holds no valid schema.
    """
    path = Path(source)
    if path.suffix == ".parquet":
        return read_samples(path, modalities=modalities, label=None).schema
    if path.suffix == ".json":
        if not path.is_file():
            raise DataError(f"Schema file must exist, got '{path}'.")
        return Schema.from_json(path.read_text(encoding="utf-8"))
    from mmgraph.datasets.load import load_dataset

    return load_dataset(source).schema
