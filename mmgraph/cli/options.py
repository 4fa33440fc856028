"""Options shared by several commands, and the parsing of their values."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from mmgraph.errors import ConfigError

Value = TypeVar("Value")

MANY = {
    "--missing",
    "--train-missing",
    "--models",
    "--corrupt",
    "--metrics",
}  # options that take several values


class SeveralValues(TyperCommand):
    """Command whose options may have several values: `--missing 0 .3 .5`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Join the values after such an option with commas, then parse."""
        return list(super().parse_args(ctx, join_values(args)))


class Recorded(SeveralValues):
    """Command that receives its own command line, for the record of a run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Pass the command line through a hidden option, then parse."""
        typed = shlex.join(["mmgraph", str(ctx.info_name), *args])
        return super().parse_args(ctx, ["--typed", typed, *args])


def join_values(arguments: list[str]) -> list[str]:
    """Join the values that follow an option of `MANY` into one.

    Rates end at the first argument that is not a number, values of `--models`,
    `--corrupt` and `--metrics` at the next option.

    Example:
        >>> from mmgraph.cli.options import join_values
        >>> join_values(["--missing", "0", ".3", "heart"])
        ['--missing', '0,.3', 'heart']
    """
    joined: list[str] = []
    option = ""
    for argument in arguments:
        follows = bool(option) and not _ends(option, argument)
        if follows and joined[-1] != option:
            joined[-1] += f",{argument}"
        else:
            joined.append(argument)
        if not follows:
            option = argument if argument in MANY else ""
    return joined


def _ends(option: str, argument: str) -> bool:
    if option in ("--models", "--corrupt", "--metrics"):
        return argument.startswith("-")
    from mmgraph.data.categorical import is_number

    return not all(map(is_number, argument.split(",")))


def parse_rates(text: str | None, option: str) -> tuple[float, ...] | None:
    """Parse rates separated by commas or spaces.

    Args:
        text: For example "0,.3,.5"; None if the option is not given.
        option: Name of the option, for the message.

    Raises:
        ConfigError: If a rate is not a number.

    Example:
        >>> from mmgraph.cli.options import parse_rates
        >>> parse_rates("0,.3", "--missing")
        (0.0, 0.3)
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise ConfigError(
            f"{option} must be numbers such as 0 0.3 0.5, got {text!r}."
        ) from None


def parse_names(text: str | None) -> tuple[str, ...] | None:
    """Parse names separated by commas or spaces."""
    return None if text is None else tuple(text.replace(",", " ").split())


def parse_number(text: str | None) -> float | str | None:
    """Parse a number; other text, such as the name of a file, stays text.

    Example:
        >>> from mmgraph.cli.options import parse_number
        >>> parse_number("0.2"), parse_number("test.csv")
        (0.2, 'test.csv')
    """
    try:
        return text if text is None else float(text)
    except ValueError:
        return text


def parse_modalities(options: list[str] | None) -> dict[str, tuple[str, ...]] | None:
    """Parse `name=column,column` options.

    Args:
        options: One string per modality; None if the option is not given.

    Raises:
        ConfigError: If a string has no name, no "=" or no column, or a name is
            repeated.

    Example:
        >>> from mmgraph.cli.options import parse_modalities
        >>> parse_modalities(["labs=wbc,crp"])
        {'labs': ('wbc', 'crp')}
    """
    return _by_name(options, "--modality", "NAME=COLUMN,COLUMN", "one", _columns)


def _columns(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_encoders(options: list[str] | None) -> dict[str, str] | None:
    """Parse `name=path` options.

    Args:
        options: One string per modality; None if the option is not given.

    Raises:
        ConfigError: If a string has no name, no "=" or no path, or a name is repeated.

    Example:
        >>> from mmgraph.cli.options import parse_encoders
        >>> parse_encoders(["note=models/minilm"])
        {'note': 'models/minilm'}
    """
    return _by_name(options, "--encoder", "NAME=PATH", "modality", str)


def parse_frequencies(options: list[str] | None) -> dict[str, str] | None:
    """Parse `name=hertz` options.

    Args:
        options: One string per modality; None if the option is not given.

    Raises:
        ConfigError: If a string has no name, no "=" or no number, or a name is
            repeated.

    Example:
        >>> from mmgraph.cli.options import parse_frequencies
        >>> parse_frequencies(["acc=50"])
        {'acc': '50'}
    """
    return _by_name(options, "--rate", "NAME=HZ", "modality", str)


def _by_name(
    options: list[str] | None,
    flag: str,
    form: str,
    what: str,
    read: Callable[[str], Value],
) -> dict[str, Value] | None:
    """Parse `name=value` options to a mapping from names to values."""
    if not options:
        return None
    values: dict[str, Value] = {}
    for option in options:
        name, _, text = option.partition("=")
        value = read(text)
        if not name or not value:
            raise ConfigError(f"{flag} must be {form}, got {option!r}.")
        if name in values:
            raise ConfigError(f"{flag} must name each {what} once, got {name!r} twice.")
        values[name] = value
    return values


File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE.parquet",
        help="File with one row per sample (.parquet, .csv), or a folder of Parquet "
        "files.",
    ),
]

ModelFolder = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL_DIR",
        help="Model folder written by mmgraph train, which also stores the column "
        "names; or by save_pretrained, with --modality for files that mmgraph did not "
        "write.",
    ),
]

ModalityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--modality",
        metavar="NAME=COLUMN,COLUMN",
        help="Columns of one modality; repeat the option for each modality. "
        "Categorical columns are one-hot encoded (one feature per category); sex=f "
        "keeps a single category.",
    ),
]

RunFile = Annotated[
    Path | None, typer.Option(help="JSON or TOML file with these options.")
]

IdOption = Annotated[str | None, typer.Option("--id", help="Column of sample ids.")]

MovedEncoderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="NAME=PATH",
        help="New path of the pretrained encoder of a modality, if it has moved since "
        "training; repeat the option for each modality.",
    ),
]

AlphaOption = Annotated[
    float | None,
    typer.Option(
        help="Share of samples whose label may be outside (--conformal; default: 0.1)."
    ),
]

OnlyOption = Annotated[
    str | None,
    typer.Option(
        "--only",
        "--use-modalities",
        metavar="NAME,NAME",
        help="Embed only these modalities (default: all).",
    ),
]

DeviceOption = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Device of PyTorch: cpu, cuda, cuda:1 (default: a GPU if there is one).",
    ),
]
