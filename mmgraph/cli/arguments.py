"""How the command line reads its arguments and tells the user's mistakes."""

import inspect
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from mmgraph.cli.wording import in_options
from mmgraph.errors import ConfigError, MMGraphError, PeerError

Value = TypeVar("Value")

# What typer raises for a wrong command line; it has no public name there.
UsageError: type[Any] = typer.BadParameter.__mro__[1]
MANY = {"--missing", "--train-missing", "--models"}  # options that take several values


class OneLineErrors(TyperGroup):
    """Tells errors of the user in one line each, and wraps help as the screen is."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        """Return a command whose paragraphs of help are lines without breaks."""
        command = super().get_command(ctx, cmd_name)
        if command is not None and command.help:
            paragraphs = inspect.cleandoc(command.help).split("\n\n")
            command.help = "\n\n".join(" ".join(p.split()) for p in paragraphs)
        return command

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Parse what stands before the command; exit 2 for what is no option."""
        if not args:  # shows the help
            return list(super().parse_args(ctx, args))
        with self._told_in_one_line(ctx):
            return list(super().parse_args(ctx, args))

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        """Run a command; exit 2 for what the user can mend."""
        with self._told_in_one_line(ctx):
            return super().invoke(ctx)

    @contextmanager
    def _told_in_one_line(self, ctx: Any) -> Iterator[None]:  # noqa: ANN401
        try:
            yield
        except BrokenPipeError:  # `mmgraph bench | head`: nobody reads on
            raise
        except UsageError as error:
            said = " ".join(error.format_message().split()).rstrip(".")
            command = ctx.invoked_subcommand if error.ctx is not ctx else None
            asked = " ".join(filter(None, ("mmgraph", command, "--help")))
            _exit_saying(f"{said}. See {asked}.")
        except PeerError as error:
            silent = error.told or os.environ.get("RANK", "0") != "0"
            _exit_saying("" if silent else str(error))
        except MMGraphError as error:
            _exit_saying(in_options(error, self._options(ctx)))
        except OSError as error:
            _exit_saying(str(error))
        except KeyboardInterrupt:
            typer.echo("Interrupted. What is finished is kept.", err=True)
            raise typer.Exit(130) from None

    def _options(self, ctx: Any) -> set[str]:  # noqa: ANN401
        """Return the options of the command that runs."""
        command = self.get_command(ctx, ctx.invoked_subcommand)
        return {option for each in command.params for option in each.opts}


def _exit_saying(text: str) -> NoReturn:
    """Tell what the user can mend, a line for each thing."""
    for line in text.splitlines():
        typer.echo(f"Error: {line}", err=True)
    raise typer.Exit(2) from None


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
        >>> from mmgraph.cli.arguments import join_values
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
    from mmgraph.data.words import is_number

    return not all(map(is_number, argument.split(",")))


def parse_rates(text: str | None, option: str) -> tuple[float, ...] | None:
    """Read rates that were written with commas or spaces between them.

    Args:
        text: For example "0,.3,.5", or None for not given.
        option: Name of the option, for the message.

    Raises:
        ConfigError: If one of them is not a number.

    Example:
        >>> from mmgraph.cli.arguments import parse_rates
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
        >>> from mmgraph.cli.arguments import parse_modalities
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
        >>> from mmgraph.cli.arguments import parse_encoders
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
