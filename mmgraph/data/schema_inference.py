"""What a schema and columns have to do with each other."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mmgraph.data.column import Column
from mmgraph.errors import DataError
from mmgraph.schema import NEEDS_ENCODER, Modality, Schema

PATHS = "strings (paths of files)"


def infer_schema(columns: Mapping[str, Column]) -> Schema:
    """Return the star of the modalities that columns hold: a fuse node hears all."""
    return Schema.star([_infer_modality(n, c) for n, c in columns.items()])


def fit_columns(columns: Mapping[str, Column], schema: Schema) -> dict[str, Column]:
    """Return columns in the form that a schema says; one without rows fits any.

    Lists that have one length look like vectors: where the schema has sequences, they
    are sequences, of one channel step after step, of more in one step.

    Raises:
        DataError: when a modality is unknown to the schema, or its width, type, number
            of rows or times are not what the schema says.
    """
    known = {m.name: m for m in schema.modalities}
    fitted = {}
    for name, column in columns.items():
        if name not in known:
            raise DataError(
                f"Modality {name!r} must be in the schema, which has "
                f"{', '.join(known)}.",
                "Leave it out with select.",
            )
        fitted[name] = _as_sequences(column, known[name])
        if len(column.values):
            _check_column(fitted[name], known[name])
    return fitted


def _as_sequences(column: Column, modality: Modality) -> Column:
    """Read vectors as sequences where the schema says that they are."""
    if not len(column.values) or column.is_text or column.ragged:
        return column
    if modality.tokens != "ragged":
        return column
    if column.channels != modality.channels == 1 and column.time is None:
        values = column.values.reshape(-1, 1)
        offsets = column.offsets * column.values.shape[1]
        return Column(values, offsets, None, (), ragged=True)
    return replace(column, ragged=True)


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
            "Give the channels of the schema, or a schema= that says sequences.",
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
