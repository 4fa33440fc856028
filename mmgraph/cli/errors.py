"""Errors of the library as messages of a command: options instead of arguments."""

import inspect
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from mmgraph.errors import Argument, Code, ConfigError, MMGraphError, PeerError

# Options of parameters with another name.
OPTIONS = {
    **{"modalities": "--modality", "encoders": "--encoder", "y": "--label"},
    **{"ids": "--id", "groups": "--group", "rates": "--rate"},
}
# Equivalents of classes and functions.
EQUIVALENTS = {
    "FusionClassifier": "--task classification",
    "FusionRegressor": "--task regression",
    "mmgraph.datasets.dataset_names()": "mmgraph datasets",
    'y=["event", "time"]': "--label EVENT --time TIME",
    "from_pretrained": "mmgraph predict, embed or search",
    "select": "--only",
}
# Remedies for commands that lack the option of the original remedy.
OTHERWISE = {
    "--download": "Give the path of its folder.",
    "--min-samples": "Use more samples.",
}
AS_TRAINED = (
    "Give a file with the columns of the training file, or one written by mmgraph."
)
TO_TRAIN = "Check the columns in --modality and the nodes in --schema."


def to_cli_message(error: MMGraphError, options: Collection[str]) -> str:
    """Return the message of an error for the user of a command.

    The parameter at the beginning of the message, and parameters in the remedy, become
    the options of that name. A remedy with an option that the command lacks is
    replaced.

    Args:
        error: Error of the library.
        options: Options of the command, such as ``--label``.

    Example:
        >>> from mmgraph.cli.errors import to_cli_message
        >>> from mmgraph.errors import Argument, DataError
        >>> remedy = "Give ", Argument("y", "died"), "."
        >>> error = DataError("ids must be known.", remedy, parameter="ids")
        >>> to_cli_message(error, {"--id", "--label"})
        '--id must be known. Give --label died.'
    """
    if isinstance(error, ConfigError) and error.parts:
        return "\n".join(to_cli_message(part, options) for part in error.parts)
    message = " ".join(filter(None, (_fault(error, options), _remedy(error, options))))
    return f"{error.place}: {message}" if error.place else message


def _fault(error: MMGraphError, options: Collection[str]) -> str:
    """Return the fault with the option in place of the parameter."""
    option = _option(error.parameter)
    if option not in options or not error.fault.startswith(f"{error.parameter} "):
        return error.fault
    return option + error.fault.removeprefix(error.parameter)


def _remedy(error: MMGraphError, options: Collection[str]) -> str:
    """Return the remedy with options in place of parameters and code."""
    if isinstance(error.remedy, str):
        return error.remedy
    named = [_equivalent(part) for part in error.remedy if not isinstance(part, str)]
    lacking = [each for each in named if each[:2] == "--" and each not in options]
    if lacking:
        default = TO_TRAIN if "--schema" in options else AS_TRAINED
        return OTHERWISE.get(lacking[0], default)
    return "".join(map(_as_text, error.remedy))


def _option(parameter: str) -> str:
    """Return the option of a parameter; that of ``missing`` for ``missing.1``."""
    parameter = parameter.partition(".")[0]
    return OPTIONS.get(parameter, "--" + parameter.replace("_", "-"))


def _equivalent(part: Argument | Code) -> str:
    """Return the option of a parameter or of code, without its value."""
    if isinstance(part, Argument):
        return _option(part.name)
    return EQUIVALENTS[part.name].split()[0]


def _as_text(part: str | Argument | Code) -> str:
    """Return a part of a remedy in the syntax of the command line."""
    if isinstance(part, str):
        return part
    if isinstance(part, Code):
        return EQUIVALENTS[part.name]
    option, value = _option(part.name), part.value
    if value is None:
        return f"no {option}"
    if isinstance(value, Mapping):
        entries = {
            name: each if isinstance(each, str) else ",".join(map(str, each))
            for name, each in value.items()
        }
        return " ".join(f"{option} {name}={each}" for name, each in entries.items())
    if isinstance(value, list):
        return f"{option} {','.join(map(str, value))}"
    return option if value is ... else f"{option} {value}"


# Error of typer for an invalid command line; typer has no public name for it.
UsageError: type[Any] = typer.BadParameter.__mro__[1]


class CLIGroup(TyperGroup):
    """Group of commands that prints errors of the user in one line each."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        """Return a command; paragraphs of its help are joined to single lines."""
        command = super().get_command(ctx, cmd_name)
        if command is not None and command.help:
            paragraphs = inspect.cleandoc(command.help).split("\n\n")
            command.help = "\n\n".join(" ".join(p.split()) for p in paragraphs)
        return command

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401
        """Parse the arguments before the command; exit with 2 for an unknown option."""
        if not args:  # shows the help
            return list(super().parse_args(ctx, args))
        with self._handle_errors(ctx):
            return list(super().parse_args(ctx, args))

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        """Run a command; exit with 2 for errors of the user."""
        with self._handle_errors(ctx):
            return super().invoke(ctx)

    @contextmanager
    def _handle_errors(self, ctx: Any) -> Iterator[None]:  # noqa: ANN401
        try:
            yield
        except BrokenPipeError:  # `mmgraph bench | head`: the reader has closed
            raise
        except UsageError as error:
            text = " ".join(error.format_message().split()).rstrip(".")
            command = ctx.invoked_subcommand if error.ctx is not ctx else None
            usage = " ".join(filter(None, ("mmgraph", command, "--help")))
            _exit_with(f"{text}. See {usage}.")
        except PeerError as error:
            is_reported = error.reported or os.environ.get("RANK", "0") != "0"
            _exit_with("" if is_reported else str(error))
        except MMGraphError as error:
            _exit_with(to_cli_message(error, self._options(ctx)))
        except OSError as error:
            _exit_with(str(error))
        except KeyboardInterrupt:
            typer.echo("Interrupted. Finished work is kept.", err=True)
            raise typer.Exit(130) from None

    def _options(self, ctx: Any) -> set[str]:  # noqa: ANN401
        """Return the options of the command that runs."""
        command = self.get_command(ctx, ctx.invoked_subcommand)
        return {option for each in command.params for option in each.opts}


def _exit_with(text: str) -> NoReturn:
    """Print one line per error and exit with code 2."""
    for line in text.splitlines():
        typer.echo(f"Error: {line}", err=True)
    raise typer.Exit(2) from None


def bad_usage(text: str) -> Exception:
    """Return an error of the command line; the message ends with a hint to --help."""
    return typer.BadParameter(f"{text}.")
