"""Exceptions for invalid input, and a warning for suspicious data.

A message consists of the subject, the rule, the value that was found and a remedy.
"""


class MMGraphError(ValueError):
    """Base class of all exceptions that mmgraph raises for invalid input.

    Args:
        fault: Subject, rule and the value that was found; a remedy may follow.
        remedy: How to correct the input. It is a separate argument where it names
            Python parameters, so that the command line can show its own options.
        place: File or part of the data that contains the fault.
    """

    def __init__(self, fault: str, remedy: str = "", *, place: str = "") -> None:
        message = " ".join(filter(None, (fault, remedy)))
        super().__init__(f"{place}: {message}" if place else message)
        self.fault, self.remedy, self.place = fault, remedy, place


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
        return cls(error.fault, error.remedy, place=where)


class CheckpointError(MMGraphError):
    """Saved model that is damaged, of an unknown format or of an unknown version."""


class ConfigError(MMGraphError):
    """Invalid run file, option or argument."""


class PeerError(MMGraphError):
    """Failure or divergence of another process of a distributed training.

    Attributes:
        reported: True if the other process reports the cause itself.
    """

    reported = False


class DataWarning(UserWarning):
    """Warning about data that are valid but may not be used as intended."""
