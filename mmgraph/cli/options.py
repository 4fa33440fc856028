"""How the command line reads its arguments and tells the user's mistakes."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand

from mmgraph.errors import ConfigError

if TYPE_CHECKING:
    pass

Value = TypeVar("Value")

MANY = {"--missing", "--train-missing", "--models"}  # options that take several values


class SeveralValues(TyperCommand):
    """Lets some options take several values: `--missing 0 .3 .5`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Join the values after such an option with commas, then parse."""
        return list(super().parse_args(ctx, join_values(args)))


class Recorded(SeveralValues):
    """Hands the command its own command line, for the record of the run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Pass what was typed through a hidden option, then parse."""
        typed = shlex.join(["mmgraph", str(ctx.info_name), *args])
        return super().parse_args(ctx, ["--typed", typed, *args])


def join_values(arguments: list[str]) -> list[str]:
    """Join the values that follow an option of `MANY` into one.

    Values of a rate end at the first argument that is no number, values of
    `--models` at the next option.

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
    if option == "--models":
        return argument.startswith("-")
    from mmgraph.data.categorical import is_number

    return not all(map(is_number, argument.split(",")))


def parse_rates(text: str | None, option: str) -> tuple[float, ...] | None:
    """Read rates that were written with commas or spaces between them.

    Args:
        text: For example "0,.3,.5", or None for not given.
        option: Name of the option, for the message.

    Raises:
        ConfigError: If one of them is not a number.

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
            f"{option} must be numbers such as 0 .3 .5, got {text!r}."
        ) from None


def parse_names(text: str | None) -> tuple[str, ...] | None:
    """Read names that were written with commas or spaces between them."""
    return None if text is None else tuple(text.replace(",", " ").split())


def parse_modalities(options: list[str] | None) -> dict[str, tuple[str, ...]] | None:
    """Read `name=column,column` options.

    Args:
        options: One string for each modality, or None for not given.

    Raises:
        ConfigError: If one has no name, no "=" or no column, or a name is twice.

    Example:
        >>> from mmgraph.cli.options import parse_modalities
        >>> parse_modalities(["labs=wbc,crp"])
        {'labs': ('wbc', 'crp')}
    """
    return _by_name(options, "--modality", "NAME=COLUMN,COLUMN", "one", _columns)


def _columns(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def parse_encoders(options: list[str] | None) -> dict[str, str] | None:
    """Read `name=path` options.

    Args:
        options: One string for each modality, or None for not given.

    Raises:
        ConfigError: If one has no name, no "=" or no path, or a name is twice.

    Example:
        >>> from mmgraph.cli.options import parse_encoders
        >>> parse_encoders(["note=models/minilm"])
        {'note': 'models/minilm'}
    """
    return _by_name(options, "--encoder", "NAME=PATH", "modality", str)


def _by_name(
    options: list[str] | None,
    flag: str,
    form: str,
    what: str,
    read: Callable[[str], Value],
) -> dict[str, Value] | None:
    """Read `name=value` options: what is behind the sign, by name."""
    if not options:
        return None
    found: dict[str, Value] = {}
    for option in options:
        name, _, text = option.partition("=")
        value = read(text)
        if not name or not value:
            raise ConfigError(f"{flag} must be {form}, got {option!r}.")
        if name in found:
            raise ConfigError(f"{flag} must name each {what} once, got {name!r} twice.")
        found[name] = value
    return found


File = Annotated[
    Path,
    typer.Argument(
        metavar="FILE.parquet",
        help="One row per sample (.parquet, .csv); or a folder of Parquet files.",
    ),
]

ModelFolder = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL_DIR",
        help="Folder of mmgraph train, which remembers the columns; or of "
        "save_pretrained, for a file that mmgraph wrote, or --modality.",
    ),
]

ModalityOption = Annotated[
    list[str] | None,
    typer.Option(
        "--modality",
        metavar="NAME=COLUMN,COLUMN",
        help="Columns of one modality; give it once for each. Of several columns one "
        "of words has a channel for each; sex=f names one.",
    ),
]

RunFile = Annotated[
    Path | None, typer.Option(help="Run file (.json, .toml) with these options.")
]

IdOption = Annotated[
    str | None, typer.Option("--id", help="Column that names the samples.")
]

MovedEncoderOption = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="NAME=PATH",
        help="Where the pretrained model of a modality is now, if it has moved since "
        "the training; give it once for each.",
    ),
]
