"""Errors that a user can cause. Each names its subject, the rule, what was got."""


class MMGraphError(ValueError):
    """Base of every error that mmgraph raises for wrong input."""


class SchemaError(MMGraphError):
    """A schema that cannot describe a sample's graph."""


class DataError(MMGraphError):
    """Data that does not fit its schema or itself."""


class CheckpointError(MMGraphError):
    """A saved model that is damaged, foreign or of another version."""


class ConfigError(MMGraphError):
    """A run file, option or argument that makes no sense."""


class PeerError(MMGraphError):
    """Another process of a training that runs in several stopped, or differs.

    Attributes:
        told: Whether that process says itself what went wrong.
    """

    told = False
