"""What a schema and columns have to do with each other."""

from collections.abc import Mapping, Sequence

from mmgraph.data.column import Column
from mmgraph.errors import DataError
from mmgraph.schema import NEEDS_ENCODER, Modality, Schema

PATHS = "strings (paths of files)"


def infer_schema(columns: Mapping[str, Column]) -> Schema:
    """Return the star of the modalities that columns hold: a fuse node hears all."""
    return Schema.star([_infer_modality(n, c) for n, c in columns.items()])


def check_schema(columns: Mapping[str, Column], schema: Schema) -> None:
    """Check that every column fits its modality; one without rows fits any.

    Raises:
        DataError: when a modality is unknown to the schema, or its width, type, number
            of rows or times are not what the schema says.
    """
    known = {m.name: m for m in schema.modalities}
    for name, column in columns.items():
        if name not in known:
            raise DataError(
                f"Modality {name!r} must be in the schema, which has "
                f"{', '.join(known)}.",
                "Leave it out with select.",
            )
        if len(column.values):
            _check_column(column, known[name])


def narrow_schema(schema: Schema, names: Sequence[str]) -> Schema:
    """Return the schema without other modalities and the relations that join them."""
    dropped = set(schema.modality_names) - set(names)
    readout = tuple(n for n in schema.readout or () if n not in dropped)
    return Schema(
        modalities=[schema.modality(name) for name in names],
        latents=schema.latents,
        relations=[r for r in schema.relations if not {r.source, r.target} & dropped],
        readout=readout or None,
    )


def _infer_modality(name: str, column: Column) -> Modality:
    return Modality(
        name,
        channels=column.channels,
        kind="text" if column.is_text else "vector",
        tokens="ragged" if column.ragged else "single",
        time=column.time is not None,
    )


def _check_column(column: Column, modality: Modality) -> None:
    name = modality.name
    if column.is_text != (modality.kind in NEEDS_ENCODER):
        got = "strings" if column.is_text else "numbers"
        rules = {"text": "strings", "image": PATHS, "audio": PATHS}
        rule = rules.get(modality.kind, "numbers")
        raise DataError(
            f"Modality {name!r} must hold {rule}, got {got}. Check which column it is."
        )
    if modality.channels not in (None, column.channels):
        raise DataError(
            f"Modality {name!r} must have {modality.channels} channels, got "
            f"{column.channels}.",
            _for_channels(column, modality),
        )
    if column.ragged and modality.tokens == "single":
        raise DataError(
            f"Modality {name!r} must have one row per sample, got sequences.",
            "Set tokens='ragged' in its Modality.",
        )
    if modality.time and column.time is None:
        raise DataError(
            f"Modality {name!r} must have times, got none.",
            f"Pass times={{{name!r}: ...}}, or set time=False in its Modality.",
        )


def _for_channels(column: Column, modality: Modality) -> str:
    """Return a remedy; lists of one sample do not show that they are sequences."""
    if modality.tokens == "ragged" and modality.channels == 1 and not column.ragged:
        return "Where its lists are sequences, say so by the schema= of the training."
    return "Give the channels that the schema was made for."
