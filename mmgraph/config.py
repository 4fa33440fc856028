"""Run files: the configuration of `mmgraph bench` and `mmgraph train`.

Values come from a JSON or TOML file, from the command line, or both (the command line
takes precedence). All errors are reported together, one line each.
"""

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from mmgraph.data.categorical import candidate_columns
from mmgraph.data.io.parquet import is_table
from mmgraph.errors import ConfigError
from mmgraph.files import parse_document, read_bytes, shorten

SUITES: dict[str, tuple[str, ...]] = {
    "medical": ("heart", "physionet2012"),
    "sensor": ("basic_motions", "utd_mhad", "wesad"),
    "relations": ("shapes_vqa", "nlvr", "kiba"),
    "all": (
        "heart",
        "physionet2012",
        "mfeat",
        "mfeat20",
        "basic_motions",
        "utd_mhad",
        "wesad",
        "tuxpaint",
        "wikipedia",
        "synergy",
        "redundant",
        "shortcut",
    ),
    "retrieval": (
        "tuxpaint-retrieval",
        "wikipedia-retrieval",
        "tuxpaint-matching",
        "spoken-digits-matching",
    ),
}

PARSERS = {".json": json.loads, ".toml": tomllib.loads}  # of run files
PAIR_TASKS = ("retrieval", "matching")  # tasks that need no label

Rate = Annotated[float, Field(ge=0.0, le=0.95)]
Rates = Annotated[tuple[Rate, ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Config = TypeVar("Config", bound=BaseModel)


def is_file(name: str) -> bool:
    """Return whether the name of a data set is the path of a file."""
    return is_table(name)


class FileColumns(BaseModel):
    """Columns of a file by role.

    Attributes:
        label: Column to predict, or None.
        modalities: Columns of each modality; empty for files written by mmgraph.
        group: Column of groups that are kept together in splits, or None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: Annotated[str, Field(min_length=1)] | None = None
    modalities: dict[str, tuple[str, ...]] = {}
    group: str | None = None

    @model_validator(mode="after")
    def _label_is_not_a_feature(self) -> "FileColumns":
        for name, columns in self.modalities.items():
            if self.label in {x for field in columns for x in candidate_columns(field)}:
                raise ValueError(
                    f"modality {name!r} must not contain the label {self.label!r}, "
                    "got it among its columns; leave it out"
                )
        return self


def as_sources(
    modalities: Mapping[str, Sequence[str]],
) -> dict[str, str | list[str]] | None:
    """Return columns as arguments of `from_parquet`: a single column as its name.

    A list stays a list: it is what a new file has of several columns of the training.
    """
    sources = {
        name: columns[0]
        if len(columns) == 1 and not isinstance(columns, list)
        else list(columns)
        for name, columns in modalities.items()
    }
    return sources or None


class BenchConfig(FileColumns):
    """Configuration of `mmgraph bench`; label, modalities and group apply to files.

    Attributes:
        datasets: Names of data sets, or Parquet or CSV files. The label of a file is
            its column "y" by default.
        suite: Named group of data sets, added to `datasets`. Its data sets that are not
            on this machine are skipped with a notice.
        models: Names of models; empty means all but registered ones and those of one
            level of fusion, mmgraph_data, mmgraph_feature and mmgraph_model.
        missing: Test missing rates, in [0, 0.95], in addition to natural missingness.
        train_missing: Train missing rates, in addition to natural missingness.
        corrupt: Corruptions of each modality in turn: noise:SD, scale:FACTOR, shuffle,
            swap; classification only.
        seeds: Training seeds on an official split.
        mask_seeds: Masks per test missing rate; None means as many as `seeds`.
        folds: Number of folds of cross-validation.
        repeats: Number of repeats of cross-validation, with different folds each.
        metric: Score of tables and curves; "auto" is that of the card of the data set.
        output: Folder of results, table and page.
        jobs: Number of worker processes; the default is one per core.
        fresh: Whether to delete earlier results in `output`.
    """

    datasets: tuple[str, ...] = ()
    suite: Literal["medical", "sensor", "all", "retrieval"] | None = None
    models: tuple[str, ...] = ()
    missing: Rates = (0.0, 0.3, 0.5, 0.7)
    train_missing: Rates = (0.0,)
    corrupt: tuple[str, ...] = ()
    seeds: Count = 3
    mask_seeds: Count | None = None
    folds: Annotated[int, Field(ge=2)] = 5
    repeats: Count = 1
    metric: Literal[
        "auto",
        "auroc",
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "recall_at_1",
        "recall_at_5",
        "recall_at_10",
        "mrr",
        "map",
        "auroc_random",
        "auroc_hard",
    ] = "auto"
    output: Path = Path("runs/bench")
    jobs: Count = Field(default_factory=lambda: os.cpu_count() or 1)
    fresh: bool = False

    @field_validator("missing", "train_missing")
    @classmethod
    def _sort(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(rates)))

    @model_validator(mode="after")
    def _columns_are_of_files(self) -> "BenchConfig":
        given = [name for name in FileColumns.model_fields if getattr(self, name)]
        if given and not self.files:
            raise ConfigError(
                f"{given[0]} must go with a Parquet or CSV file, got "
                f"{', '.join(self.dataset_names) or 'none'}; name a file or leave "
                f"{given[0]} out",
                parameter=given[0],
            )
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def files(self) -> tuple[str, ...]:
        """The data sets that are files."""
        return tuple(name for name in self.datasets if is_file(name))

    @property
    def dataset_names(self) -> tuple[str, ...]:
        """Names in `datasets` and in the suite, without repetitions, in order."""
        suite = SUITES[self.suite] if self.suite else ()
        return tuple(dict.fromkeys((*self.datasets, *suite)))


class TrainConfig(FileColumns):
    """Configuration of `mmgraph train`.

    For retrieval and matching a label is optional; samples of one class then belong
    together, too.

    Attributes:
        file: Parquet or CSV file with one row per sample, a folder of Parquet files, a
            folder of images, texts and audio files, or a folder of recordings together
            with `labels`.
        encoders: Path or name of the pretrained encoder of each text, image or audio
            modality; empty means hashed or handcrafted features.
        graph: JSON file of the schema, "schema" in run files; None is a star of all
            modalities.
        id: Column of sample ids, or None for the row number.
        labels: Table of labels of a folder of recordings, which then holds the columns
            of label, group and id; None for other files.
        rates: Hz of the recordings of each modality without times.
        window: Duration of the windows that recordings are cut into, in seconds; None
            keeps them whole.
        step: Seconds from the start of a window to that of the next; None is `window`.
        output: Folder that the model is saved in.
        test: Share of the samples, or file with samples, that the model is scored on
            after the training and not trained on; None scores nothing.
        task: "auto" is survival with ``time``, regression for fractional numbers or
            many different whole numbers, else classification; "retrieval" and
            "matching" learn which modalities belong to one sample.
        time: Column of times to an event, or to censoring where the label, whether the
            event was observed, is 0 (survival).
        left: Modalities of the left side (matching).
        right: Modalities of the right side (matching).
        aligned: Modalities in a shared embedding space (retrieval and matching); None
            lets the estimator detect them.
        seed: Random seed of the training.
        level: Level of fusion, of classification, regression and survival: "data",
            "feature", "model", or "all".
        epochs: Maximum number of epochs; None is the default of the estimator.
        device: Device of PyTorch; None is a GPU if there is one.
        memory: Memory limit in megabytes for streaming a folder, beyond the model.
        fresh: Whether to discard the checkpoint of an interrupted training.
        overwrite: Whether to replace a model of another task or of other columns.
    """

    file: Path
    encoders: dict[str, str] = {}
    graph: Annotated[Path | None, Field(alias="schema")] = None
    id: str | None = None
    labels: Path | None = None
    rates: dict[str, Annotated[float, Field(gt=0)]] = {}
    window: Annotated[float, Field(gt=0)] | None = None
    step: Annotated[float, Field(gt=0)] | None = None
    output: Path
    test: Path | float | None = None
    task: Literal[
        "auto", "classification", "regression", "survival", "retrieval", "matching"
    ] = "auto"
    time: Annotated[str, Field(min_length=1)] | None = None
    left: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    aligned: tuple[str, ...] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    level: Literal["all", "data", "feature", "model"] = "all"
    epochs: Count | None = None
    device: str | None = None
    memory: Count = 1024
    fresh: bool = False
    overwrite: bool = False

    @model_validator(mode="after")
    def _task_has_what_it_needs(self) -> "TrainConfig":
        if self.label is None and self.task not in PAIR_TASKS:
            raise ConfigError(
                "label is required, got nothing; only --task retrieval and matching "
                "need none",
                parameter="label",
            )
        if self.task == "matching" and not (self.left and self.right):
            raise ValueError(
                "left and right are required for matching, got "
                f"{','.join(self.left) or 'none'} and {','.join(self.right) or 'none'}"
                "; name modalities of both sides with --left and --right"
            )
        if self.task != "matching" and (self.left or self.right):
            raise ValueError(
                f"left and right are sides of matching, got task {self.task!r}; "
                "leave both out or use --task matching"
            )
        if self.time is not None and self.task not in ("auto", "survival"):
            raise ValueError(
                f"time must go with survival, got task {self.task!r}; leave it out or "
                "use --task survival"
            )
        times = {name for names in self.modalities.values() for name in names}
        if self.time is not None and self.time in {self.label, *times}:
            raise ValueError(
                f"time must not be the label or in a modality, got {self.time!r}; name "
                "another column"
            )
        if self.labels is None and (self.rates or self.window or self.step):
            raise ConfigError(
                "labels is required for recordings with a rate, window or step, got "
                "nothing; give the table of labels",
                parameter="labels",
            )
        if self.step is not None and self.window is None:
            raise ValueError("window is required with step, got none; give seconds")
        if isinstance(self.test, float) and not 0 < self.test < 1:
            raise ValueError(
                f"test must be a share between 0 and 1, or a file, got {self.test:g}; "
                "0.2 holds out a fifth of the samples"
            )
        if self.level != "all" and self.task in PAIR_TASKS:
            raise ValueError(
                f"level must be all for task {self.task!r}, got {self.level!r}; only "
                "classifiers and regressors have levels of fusion"
            )
        if self.aligned is not None and self.task not in PAIR_TASKS:
            raise ValueError(
                "aligned modalities are compared by retrieval and matching, got task "
                f"{self.task!r}; leave --aligned out or choose one of these tasks"
            )
        return self

    @property
    def target(self) -> str | tuple[str, str] | None:
        """Column of labels, or those of events and times."""
        if self.label is None or self.time is None:
            return self.label
        return self.label, self.time


def read_run_file(path: str | Path) -> dict[str, Any]:
    """Read a run file.

    Args:
        path: JSON or TOML file with one table of options.

    Returns:
        The options as written, not yet checked; {} for an empty TOML file.

    Raises:
        ConfigError: If the file does not exist, has another ending, cannot be parsed,
            or contains anything but a table.
    """
    path = Path(path)
    if path.suffix not in PARSERS:
        raise ConfigError(f"Run file must end in .json or .toml, got '{path}'.")
    if not path.exists():
        raise ConfigError(f"Run file must exist, got '{path}'.")
    subject, kind = f"Run file '{path}'", f"valid {path.suffix[1:].upper()}"
    content = read_bytes(path, "run_file_bytes", ConfigError, subject=subject)
    parse = PARSERS[path.suffix]
    values = parse_document(content, subject, ConfigError, parse=parse, kind=kind)
    if not isinstance(values, dict):
        raise ConfigError(
            f"Run file '{path}' must contain a table of options, "
            f"got {type(values).__name__}."
        )
    return values


def build_config(
    kind: type[Config],
    values: Mapping[str, Any],
    *,
    run_file: str | Path | None = None,
) -> Config:
    """Build a checked, immutable configuration.

    Args:
        kind: `BenchConfig` or `TrainConfig`.
        values: Options by name; None means not given.
        run_file: File with options that are used where `values` has none.

    Returns:
        The configuration.

    Raises:
        ConfigError: If an option is invalid; the message has one line per error.

    Example:
        >>> from mmgraph.config import BenchConfig, build_config
        >>> build_config(BenchConfig, {"missing": (0.5, 0.0)}).missing
        (0.0, 0.5)
    """
    given = {name: value for name, value in values.items() if value is not None}
    stored = read_run_file(run_file) if run_file else {}
    try:
        return kind.model_validate({**stored, **given})
    except ValidationError as error:
        place = f"Run file '{run_file}'"
        places = dict.fromkeys(stored.keys() - given.keys(), place)
        raise ConfigError.join(_errors(error, kind, places)) from None


def _errors(
    error: ValidationError, kind: type[BaseModel], places: Mapping[str, str]
) -> list[ConfigError]:
    """Return the single errors, without containers of other errors.

    Args:
        error: Error of pydantic.
        kind: Class of the configuration.
        places: Run file of each option that it contains.
    """
    errors = error.errors()
    containers = {each["loc"][:-1] for each in errors}
    joined = []
    for each in errors:
        if each["loc"] in containers and each["loc"]:
            continue
        place = places.get(str(each["loc"][0]), "") if each["loc"] else ""
        parameter = "" if place else _parameter(each)
        joined.append(ConfigError(_line(each, kind), parameter=parameter, place=place))
    return joined


def _path(error: Mapping[str, Any]) -> str:
    """Return the option of an error, such as ``seed`` or ``missing.1``."""
    return ".".join(map(str, error["loc"]))


def _parameter(error: Mapping[str, Any]) -> str:
    """Return the option with which the line of an error begins."""
    inner = error.get("ctx", {}).get("error")
    return _path(error) or getattr(inner, "parameter", "")


def _line(error: Mapping[str, Any], kind: type[BaseModel]) -> str:
    """Return an error of pydantic as one line in the style of the library."""
    path = _path(error)
    if error["type"] == "missing":
        return f"{path} is required, got nothing."
    if error["type"] == "extra_forbidden":
        fields = kind.model_fields.items()
        keys = sorted(field.alias or name for name, field in fields)
        return f"Key '{path}' must be one of {', '.join(keys)}."
    if error["type"] == "value_error":
        return ": ".join(filter(None, (path, f"{error['ctx']['error']}.")))
    rule = error["msg"].removeprefix("Input ").removeprefix("should ")
    rule = rule.replace("valid tuple", "list")
    return f"{path} must {rule}, got {shorten(error['input'])}."
