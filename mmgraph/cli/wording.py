"""Errors of the library in the words of a command: options instead of arguments."""

import ast
import re
from collections.abc import Collection

from mmgraph.errors import MMGraphError

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


def in_options(error: MMGraphError, options: Collection[str]) -> str:
    """Return what an error says, told to the user of a command.

    An argument at the beginning is the option of that name, and so is one that the
    remedy names. A remedy by an option that the command lacks is replaced.

    Args:
        error: What went wrong.
        options: The options of the command, such as ``--label``.

    Example:
        >>> from mmgraph.cli.wording import in_options
        >>> from mmgraph.errors import DataError
        >>> error = DataError("ids must be known.", "Give y='died'.")
        >>> in_options(error, {"--id", "--label"})
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
