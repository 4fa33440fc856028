"""Train and evaluate on Parquet files of one's own.

A trained model is a folder: what `save_pretrained` writes, and `columns.json`, which
remembers which columns of the file are which modality.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmgraph.config import TrainConfig
from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.errors import CheckpointError, DataError
from mmgraph.schema import Schema
from mmgraph.train.folder import remove_progress

if TYPE_CHECKING:
    from mmgraph.estimators import FusionClassifier, FusionRegressor

    Estimator = FusionClassifier | FusionRegressor

COLUMNS_FILE = "columns.json"
PROGRESS_FOLDER = "training"  # in the output folder, until the model is saved
Task = Literal["classification", "regression"]
Samples = MultimodalData | MultimodalStream


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


def train_file(config: TrainConfig) -> tuple["Estimator", Samples]:
    """Fit an estimator on a file or folder, under torchrun in all its processes.

    Progress is kept in the output folder until the model is saved there.

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
            memory=config.memory,
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


def _task(config: TrainConfig, data: Samples) -> Task:
    """Return what was asked for, or what the labels (of a folder: the first) are."""
    if config.task != "auto":
        return config.task
    first = next(data.chunks()) if isinstance(data, MultimodalStream) else data
    y = np.asarray(first.y)
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
    memory: int = 1024,
) -> Samples:
    """Read a Parquet file or a folder of files, or open a folder of them as a stream.

    Args:
        file: One row per sample; a folder of such files; or a folder of pictures,
            texts and sounds, see `MultimodalData.from_folder`.
        modalities: Columns of each modality; empty where mmgraph wrote the file.
        label: Column of labels; None reads none.
        group: Column of groups, or None.
        id: Column of ids, or None.
        memory: Megabytes that a stream may take.

    Raises:
        DataError: If the file or one of the columns is not there or unreadable.
    """
    if label is None and file.is_dir() and not any(file.rglob("*.parquet")):
        return MultimodalData.from_folder(file)
    if not file.exists():
        raise DataError(f"Parquet file must exist, got '{file}'.")
    chosen = {
        name: columns[0] if len(columns) == 1 else list(columns)
        for name, columns in modalities.items()
    }
    fields: dict[str, Any] = {
        **{"modalities": chosen or None, "y": label},
        **{"ids": id or "id", "groups": group or "group"},
    }
    if file.is_dir():
        stream = MultimodalStream.from_parquet(file, memory=memory << 20, **fields)
        data = next(stream.chunks(1))
    else:
        stream, data = None, MultimodalData.from_parquet(file, **fields)
    if label is not None and data.y is None:
        raise DataError(
            f"{file} must hold the label column '{label}', got none of that name."
        )
    return stream or data


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


def there(columns: Columns, file: Path) -> dict[str, tuple[str, ...]]:
    """Return the modalities of which the file has at least one column."""
    first = next(iter(sorted(file.rglob("*.parquet"))), file)
    if not columns.modalities or not first.is_file():
        return dict(columns.modalities)
    from mmgraph.data.storage import column_names

    names = set(column_names(first))
    found = {m: c for m, c in columns.modalities.items() if names & set(c)}
    if not found:
        raise DataError(
            f"{file} must hold columns of at least one of the modalities "
            f"{', '.join(columns.modalities)}, got none."
        )
    return found


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
    model, columns = load_model(folder)
    samples = read_samples(
        file,
        modalities=there(columns, file),
        label=label or columns.label,
        id=columns.id,
    )
    found = {}
    for rate in rates:
        scores = [
            _scores(model, columns.task, _thinned(samples, rate, seed))
            for seed in range(seeds if rate else 1)
        ]
        found[rate] = {
            name: float(np.mean([score[name] for score in scores]))
            for name in scores[0]
        }
    return found


def _thinned(samples: Samples, rate: float, seed: int) -> Iterator[MultimodalData]:
    """Yield the samples, a chunk of a stream at a time, with modalities removed."""
    from mmgraph.missing import mcar

    parts = samples.chunks() if isinstance(samples, MultimodalStream) else [samples]
    for number, data in enumerate(parts):
        yield mcar(rate).plan(data, seed=seed + 1000 * number).apply(data)


def _scores(
    model: "Estimator", task: Task, parts: Iterable[MultimodalData]
) -> dict[str, float]:
    from mmgraph.metrics import classification_scores, regression_scores

    ask = model.predict if task == "regression" else model.predict_proba
    pairs = [(np.asarray(data.y), np.asarray(ask(data))) for data in parts]
    y, said = (np.concatenate(each) for each in zip(*pairs, strict=True))
    if task == "regression":
        return regression_scores(y, said)
    classes = np.asarray(model.classes_)
    unknown = sorted(set(y.tolist()) - set(classes.tolist()), key=str)
    if unknown:
        raise DataError(
            f"Labels must be classes of the training, {classes.tolist()}, "
            f"got {unknown[0]!r}."
        )
    return classification_scores(np.searchsorted(classes, y), said)


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
