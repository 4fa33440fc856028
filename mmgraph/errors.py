"""Errors that a user can cause. Each names its subject, the rule, what was got."""


class MMGraphError(ValueError):
    """Base of every error that mmgraph raises for wrong input.

    Args:
        fault: Subject, rule and what was got; a remedy may follow.
        remedy: What to do about it, apart where it names arguments of Python: a
            program that has other words for them may say it in those.
        place: File or part of the data in which it is.
    """

    def __init__(self, fault: str, remedy: str = "", *, place: str = "") -> None:
        said = " ".join(filter(None, (fault, remedy)))
        super().__init__(f"{place}: {said}" if place else said)
        self.fault, self.remedy, self.place = fault, remedy, place


class SchemaError(MMGraphError):
    """A schema that cannot describe a sample's graph."""


class DataError(MMGraphError):
    """Data that does not fit its schema or itself."""

    @classmethod
    def inside(cls, place: object, error: MMGraphError) -> "DataError":
        """Return an error as one of a file or part of the data."""
        where = f"{place}: {error.place}" if error.place else str(place)
        return cls(error.fault, error.remedy, place=where)


class CheckpointError(MMGraphError):
    """A saved model that is damaged, foreign or of another version."""


class ConfigError(MMGraphError):
    """A run file, option or argument that makes no sense."""


class PeerError(MMGraphError):
    """Another process of a training that runs in several stopped, or differs.

    Attributes:
        reported: Whether that process says itself what went wrong.
    """

    reported = False


class DataWarning(UserWarning):
    """Data that can be used, but perhaps not as they were meant."""
