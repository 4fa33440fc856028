"""Errors of the library as messages of a command: options instead of arguments."""

import ast
import inspect
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from mmgraph.errors import MMGraphError, PeerError

# Options of arguments with another name.
OPTIONS = {
    **{"modalities": "--modality", "encoders": "--encoder", "y": "--label"},
    **{"ids": "--id", "groups": "--group"},
}
# Replacements of names of Python in a remedy.
NAMES = {
    "FusionClassifier": "--task classification",
    "FusionRegressor": "--task regression",
    "mmgraph.datasets.dataset_names()": "mmgraph datasets",
    "from_pretrained": "mmgraph predict, embed or search",
    "select": "--only",
}
# Remedies for commands that lack the option of the original remedy.
OTHERWISE = {"--download": "Give the path of its folder."}
AS_TRAINED = (
    "Give a file with the columns of the training file, or one written by mmgraph."
)
TO_TRAIN = "Check the columns in --modality and the nodes in --schema."
_SUBJECT = re.compile(r"^([a-z_]+)(?:\.\d+)?(?= (?:must|is) )", re.MULTILINE)
_ARGUMENT = re.compile(r"\b([a-z_]+)=(\{.*?\}(?!\})|'[^']*'|None\b)?")
_OPTION = re.compile(r"(?<!\S)--[a-z-]+")


def to_cli_message(error: MMGraphError, options: Collection[str]) -> str:
    """Return the message of an error for the user of a command.

    An argument at the beginning of the message and arguments in the remedy become the
    options of that name. A remedy with an option that the command lacks is replaced.

    Args:
        error: Error of the library.
        options: Options of the command, such as ``--label``.

    Example:
        >>> from mmgraph.cli.errors import to_cli_message
        >>> from mmgraph.errors import DataError
        >>> error = DataError("ids must be known.", "Give y='died'.")
        >>> to_cli_message(error, {"--id", "--label"})
        '--id must be known. Give --label died.'
    """

    def subject(match: re.Match[str]) -> str:
        option = _option(match[1])
        return option if option in options else match[0]

    fault = _SUBJECT.sub(subject, error.fault)
    remedy = error.remedy
    for name, word in NAMES.items():
        remedy = remedy.replace(name, word)
    named = _OPTION.findall(remedy) + [_option(a) for a, _ in _ARGUMENT.findall(remedy)]
    lacking = [option for option in named if option not in options]
    if lacking:
        default = TO_TRAIN if "--schema" in options else AS_TRAINED
        remedy = OTHERWISE.get(lacking[0], default)
    else:
        remedy = _ARGUMENT.sub(_as_option, remedy)
    message = " ".join(filter(None, (fault, remedy)))
    return f"{error.place}: {message}" if error.place else message


def _option(argument: str) -> str:
    return OPTIONS.get(argument, "--" + argument.replace("_", "-"))


def _as_option(match: re.Match[str]) -> str:
    """Return an argument and its value, if any, in the syntax of the command line.

    A value that is not a literal, such as ``{'note': module}``, is not changed.
    """
    option = _option(match[1])
    try:
        value = ast.literal_eval(match[2] or "''")
    except (ValueError, SyntaxError):
        return match[0]
    if value is None:
        return f"no {option}"
    if not isinstance(value, dict):
        return f"{option} {value}".strip()
    entries = {
        name: each if isinstance(each, str) else ",".join(each)
        for name, each in value.items()
    }
    return " ".join(f"{option} {name}={each}" for name, each in entries.items())


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
