"""Exceptions for invalid input, and a warning for suspicious data.

A message consists of the subject, the rule, the value that was found and a remedy.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeAlias


@dataclass(frozen=True)
class Argument:
    """Parameter in a remedy, with an example of its value.

    It is written as in Python; the command line writes the option instead.

    Attributes:
        name: Name of the parameter.
        value: Example of its value; default: none.

    Example:
        >>> str(Argument("modalities", {"labs": ["wbc", "crp"]})), str(Argument("y"))
        ("modalities={'labs': ['wbc', 'crp']}", 'y')
    """

    name: str
    value: object = ...

    def __str__(self) -> str:
        return self.name if self.value is ... else f"{self.name}={self.value!r}"


@dataclass(frozen=True)
class Code:
    """Class or function in a remedy; the command line names its equivalent.

    Attributes:
        name: The name as written in Python.
    """

    name: str

    def __str__(self) -> str:
        return self.name


Remedy: TypeAlias = str | Sequence[str | Argument | Code]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "Did you mean 'x'?" for the most similar known name, or "" without one.

    Names that differ in upper and lower case only are equal.

    Example:
        >>> from mmgraph.errors import did_you_mean
        >>> did_you_mean("CRP", ["wbc", "crp"]), did_you_mean("age", ["wbc", "crp"])
        ("Did you mean 'crp'?", '')
    """
    by_folded = {str(each).casefold(): each for each in known}
    close = get_close_matches(str(name).casefold(), list(by_folded), n=1)
    return f"Did you mean {by_folded[close[0]]!r}?" if close else ""


class MMGraphError(ValueError):
    """Base class of all exceptions that mmgraph raises for invalid input.

    Args:
        fault: Subject, rule and the value that was found; a remedy may follow.
        remedy: How to correct the input. It is a separate argument where it names
            parameters or other code: text and `Argument` or `Code` in turn, so that
            the command line can name its own options.
        place: File or part of the data that contains the fault.
        parameter: Parameter with whose name the fault begins, if any.
    """

    def __init__(
        self,
        fault: str,
        remedy: Remedy = "",
        *,
        place: str = "",
        parameter: str = "",
    ) -> None:
        message = " ".join(filter(None, (fault, "".join(map(str, remedy)))))
        super().__init__(f"{place}: {message}" if place else message)
        self.fault, self.remedy, self.place = fault, remedy, place
        self.parameter = parameter


class SchemaError(MMGraphError):
    """Schema that does not define a valid graph."""


class DataError(MMGraphError):
    """Data that contradict their schema or each other."""

    @classmethod
    def inside(cls, place: object, error: MMGraphError) -> "DataError":
        """Return the error with the file or part of the data as its location.

        Args:
            place: File or part of the data.
            error: Error that was raised while it was read.
        """
        where = f"{place}: {error.place}" if error.place else str(place)
        return cls(error.fault, error.remedy, place=where, parameter=error.parameter)


class CheckpointError(MMGraphError):
    """Saved model that is damaged, of an unknown format or of an unknown version."""


class ConfigError(MMGraphError):
    """Invalid run file, option or argument.

    Attributes:
        parts: The single errors if there are several.
    """

    parts: Sequence[MMGraphError] = ()

    @classmethod
    def join(cls, parts: "Sequence[ConfigError]") -> "ConfigError":
        """Return one error with one line per part; a single part is returned."""
        if len(parts) == 1:
            return parts[0]
        error = cls("\n".join(map(str, parts)))
        error.parts = parts
        return error


class PeerError(MMGraphError):
    """Failure or divergence of another process of a distributed training.

    Attributes:
        reported: True if the other process reports the cause itself.
    """

    reported = False


class DataWarning(UserWarning):
    """Warning about data that are valid but may not be used as intended."""
