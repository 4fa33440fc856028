"""Run files: what `mmgraph bench` and `mmgraph train` are asked to do.

Values come from a JSON or TOML file, from the command line, or both (the
command line wins). Everything that is wrong is told at once, one line each.
"""

import json
import os
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

SUITES: dict[str, tuple[str, ...]] = {
    "medical": ("heart", "physionet2012"),
    "sensor": ("basic_motions", "utd_mhad", "wesad"),
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

PAIR_TASKS = ("retrieval", "matching")  # of training, that need no label

Rate = Annotated[float, Field(ge=0.0, le=0.95)]
Rates = Annotated[tuple[Rate, ...], Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Config = TypeVar("Config", bound=BaseModel)


def is_file(name: str) -> bool:
    """Tell whether the name of a data set is that of a file."""
    return is_table(name)


class FileColumns(BaseModel):
    """Which columns of a file of one's own are what.

    Attributes:
        label: Column to predict, or None.
        modalities: Columns of each modality; empty means as the file says.
        group: Column whose values must not be torn apart in a split, or None.
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
                    f"modality {name!r} must not hold the label {self.label!r}, "
                    "got it among its columns; leave it out"
                )
        return self


def as_sources(
    modalities: Mapping[str, Sequence[str]],
) -> dict[str, str | list[str]] | None:
    """Return columns as `from_parquet` takes them: one by its name may be of text."""
    found = {
        name: columns[0] if len(columns) == 1 else list(columns)
        for name, columns in modalities.items()
    }
    return found or None


class BenchConfig(FileColumns):
    """What `mmgraph bench` runs; label, modalities and group are of the files.

    Attributes:
        datasets: Names of data sets, or Parquet or CSV files; the label of a file is
            its column "y" unless one is given.
        suite: A named list of data sets, added to `datasets`. Sets of a suite
            that are not on this machine are skipped with a notice.
        models: Names of models; empty means all.
        missing: Test missing rates, in [0, .95]; 0 is what the data itself lacks.
        train_missing: Train missing rates, on top of what the data lacks.
        seeds: Training seeds on an official split.
        mask_seeds: Masks per test rate; None means as many as `seeds`.
        folds: Folds of the cross-validation.
        repeats: Repeats of the cross-validation, each with other folds.
        metric: What tables and curves show; "auto" is what the card of the
            data set says.
        output: Folder for results, table and page.
        jobs: Processes; the default is one per core.
        fresh: Forget earlier results in `output`.
    """

    datasets: tuple[str, ...] = ()
    suite: Literal["medical", "sensor", "all", "retrieval"] | None = None
    models: tuple[str, ...] = ()
    missing: Rates = (0.0, 0.3, 0.5, 0.7)
    train_missing: Rates = (0.0,)
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
            raise ValueError(
                f"{given[0]} must go with a Parquet or CSV file of one's own, got "
                f"{', '.join(self.dataset_names) or 'none'}; name one or leave it out"
            )
        return self

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def files(self) -> tuple[str, ...]:
        """The data sets that are files of one's own."""
        return tuple(name for name in self.datasets if is_file(name))

    @property
    def dataset_names(self) -> tuple[str, ...]:
        """Names given plus those of the suite, each once, in order."""
        suite = SUITES[self.suite] if self.suite else ()
        return tuple(dict.fromkeys((*self.datasets, *suite)))


class TrainConfig(FileColumns):
    """What `mmgraph train` fits.

    Where pairs are learned from there may be no label; given there, what is of one
    class belongs together, too.

    Attributes:
        file: Parquet file with one row per sample, a folder of such files, or a
            folder of pictures, texts and sounds.
        encoders: Folder or name of a pretrained model by modality of text, or of
            paths of pictures or sounds; empty means plain features.
        graph: JSON file of the schema, "schema" in run files; None is a star of what
            the file holds.
        id: Column that names the samples, or None for the row number.
        output: Folder that the model is saved in.
        task: "auto" is regression for fractional numbers, else classification;
            "retrieval" and "matching" learn which modalities are of one sample.
        left: Modalities of the left side, of matching.
        right: Modalities of the right side, of matching.
        aligned: Modalities whose vectors one model put into one space, of retrieval
            and matching; None leaves it to the estimator.
        seed: Seed of everything random.
        epochs: Most epochs of the training; None is the estimator's default.
        memory: Megabytes that training on a folder may take, beyond the model.
        fresh: Forget the progress of an interrupted training in `output`.
    """

    file: Path
    encoders: dict[str, str] = {}
    graph: Annotated[Path | None, Field(alias="schema")] = None
    id: str | None = None
    output: Path
    task: Literal["auto", "classification", "regression", "retrieval", "matching"] = (
        "auto"
    )
    left: tuple[str, ...] = ()
    right: tuple[str, ...] = ()
    aligned: tuple[str, ...] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    epochs: Count | None = None
    memory: Count = 1024
    fresh: bool = False

    @model_validator(mode="after")
    def _task_has_what_it_needs(self) -> "TrainConfig":
        if self.label is None and self.task not in PAIR_TASKS:
            raise ValueError(
                "label is required, got nothing; only --task retrieval and matching "
                "learn without"
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
                "leave them out or use --task matching"
            )
        if self.aligned is not None and self.task not in PAIR_TASKS:
            raise ValueError(
                "aligned modalities are compared by retrieval and matching, got task "
                f"{self.task!r}; leave them out or give one of these tasks"
            )
        return self


def read_run_file(path: str | Path) -> dict[str, Any]:
    """Read a run file.

    Args:
        path: A `.json` or `.toml` file that holds one table of options.

    Returns:
        The options as written, not yet checked; an empty file of TOML is {}.

    Raises:
        ConfigError: If the file is missing, is of another kind, does not parse,
            or holds something other than a table.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"Run file must exist, got '{path}'.")
    try:
        values = _parse(path.read_text(encoding="utf-8"), path)
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"Run file '{path}' must parse, got: {error}.") from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"Run file '{path}' must hold a table of options, "
            f"got {type(values).__name__}."
        )
    return values


def _parse(text: str, path: Path) -> object:
    if path.suffix == ".json":
        return json.loads(text)
    if path.suffix == ".toml":
        import tomllib

        return tomllib.loads(text)
    raise ConfigError(f"Run file must end in .json or .toml, got '{path}'.")


def build_config(
    kind: type[Config],
    values: Mapping[str, Any],
    *,
    run_file: str | Path | None = None,
) -> Config:
    """Check options and freeze them.

    Args:
        kind: `BenchConfig` or `TrainConfig`.
        values: Options by name; None means not given.
        run_file: File whose options hold where `values` has none.

    Returns:
        The checked configuration.

    Raises:
        ConfigError: With one line for each thing that is wrong.

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
        raise ConfigError("\n".join(_lines(error))) from None


def _lines(error: ValidationError) -> list[str]:
    """Return one line for each thing that is wrong, not for what it is part of."""
    found = error.errors()
    whole = {each["loc"][:-1] for each in found}
    return [
        _line(each) for each in found if each["loc"] not in whole or not each["loc"]
    ]


def _line(error: Mapping[str, Any]) -> str:
    """Return one error of pydantic as one line in the words of the library."""
    path = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{path} is required, got nothing."
    if error["type"] == "extra_forbidden":
        return f"{path} is not an option; see --help."
    if error["type"] == "value_error":
        return ": ".join(filter(None, (path, f"{error['ctx']['error']}.")))
    rule = error["msg"].removeprefix("Input ").removeprefix("should ")
    rule = rule.replace("valid tuple", "list")
    return f"{path} must {rule}, got {error['input']!r}."
