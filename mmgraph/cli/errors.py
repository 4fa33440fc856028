"""Errors of the library in the words of a command: options instead of arguments."""

import ast
import inspect
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

import typer
from typer.core import TyperGroup

from mmgraph.errors import MMGraphError, PeerError

if TYPE_CHECKING:
    pass

# Arguments whose option has another name than they have.
OPTIONS = {
    **{"modalities": "--modality", "encoders": "--encoder", "y": "--label"},
    **{"ids": "--id", "groups": "--group"},
}
# What takes the place of a name of Python in a remedy.
NAMES = {
    "FusionClassifier": "--task classification",
    "FusionRegressor": "--task regression",
    "mmgraph.datasets.dataset_names()": "mmgraph datasets",
    "from_pretrained": "mmgraph predict, embed or search",
    "select": "--only",
}
# What is told where a command lacks the option of a remedy.
OTHERWISE = {"--download": "Give the path of its folder."}
AS_TRAINED = "Give a file as in the training, or one that mmgraph wrote."
TO_TRAIN = "Check what --modality and --schema say of the file."
_SUBJECT = re.compile(r"^([a-z_]+)(?:\.\d+)?(?= (?:must|is) )", re.MULTILINE)
_ARGUMENT = re.compile(r"\b([a-z_]+)=(\{.*?\}(?!\})|'[^']*'|None\b)?")
_OPTION = re.compile(r"(?<!\S)--[a-z-]+")


def to_cli_message(error: MMGraphError, options: Collection[str]) -> str:
    """Return what an error says, told to the user of a command.

    An argument at the beginning is the option of that name, and so is one that the
    remedy names. A remedy by an option that the command lacks is replaced.

    Args:
        error: What went wrong.
        options: The options of the command, such as ``--label``.

    Example:
        >>> from mmgraph.cli.errors import to_cli_message
        >>> from mmgraph.errors import DataError
        >>> error = DataError("ids must be known.", "Give y='died'.")
        >>> to_cli_message(error, {"--id", "--label"})
        '--id must be known. Give --label died.'
    """

    def subject(found: re.Match[str]) -> str:
        option = _option(found[1])
        return option if option in options else found[0]

    fault = _SUBJECT.sub(subject, error.fault)
    remedy = error.remedy
    for name, word in NAMES.items():
        remedy = remedy.replace(name, word)
    named = _OPTION.findall(remedy) + [_option(a) for a, _ in _ARGUMENT.findall(remedy)]
    lacking = [option for option in named if option not in options]
    if lacking:
        usual = TO_TRAIN if "--schema" in options else AS_TRAINED
        remedy = OTHERWISE.get(lacking[0], usual)
    else:
        remedy = _ARGUMENT.sub(_as_option, remedy)
    said = " ".join(filter(None, (fault, remedy)))
    return f"{error.place}: {said}" if error.place else said


def _option(argument: str) -> str:
    return OPTIONS.get(argument, "--" + argument.replace("_", "-"))


def _as_option(found: re.Match[str]) -> str:
    """Return an argument, with its value if there is one, as it is typed.

    A value that is an example in words, such as ``{'note': module}``, stays as it is.
    """
    option = _option(found[1])
    try:
        value = ast.literal_eval(found[2] or "''")
    except (ValueError, SyntaxError):
        return found[0]
    if value is None:
        return f"no {option}"
    if not isinstance(value, dict):
        return f"{option} {value}".strip()
    entries = {
        name: each if isinstance(each, str) else ",".join(each)
        for name, each in value.items()
    }
    return " ".join(f"{option} {name}={each}" for name, each in entries.items())


# What typer raises for a wrong command line; it has no public name there.
UsageError: type[Any] = typer.BadParameter.__mro__[1]


class CLIGroup(TyperGroup):
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
        with self._handle_errors(ctx):
            return list(super().parse_args(ctx, args))

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401
        """Run a command; exit 2 for what the user can mend."""
        with self._handle_errors(ctx):
            return super().invoke(ctx)

    @contextmanager
    def _handle_errors(self, ctx: Any) -> Iterator[None]:  # noqa: ANN401
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
            silent = error.reported or os.environ.get("RANK", "0") != "0"
            _exit_saying("" if silent else str(error))
        except MMGraphError as error:
            _exit_saying(to_cli_message(error, self._options(ctx)))
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
    """Warn what the user can mend, a line for each thing."""
    for line in text.splitlines():
        typer.echo(f"Error: {line}", err=True)
    raise typer.Exit(2) from None
