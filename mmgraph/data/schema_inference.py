"""Inference of a schema from columns, and conversion of columns to a schema."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mmgraph.data.column import Column
from mmgraph.data.concat import as_text
from mmgraph.data.notices import warn
from mmgraph.errors import Argument, Code, DataError
from mmgraph.schema import NEEDS_ENCODER, Kind, Modality, Schema, TimeWindow

PATHS = "strings (paths of files)"
MERGED = 0.5  # share of samples whose rows are merged, from which edges are checked
ALMOST_ALL = 0.9  # share of merged samples whose neighboring nodes are not connected


def infer_schema(columns: Mapping[str, Column]) -> Schema:
    """Return the star schema of the columns."""
    return Schema.star([_infer_modality(n, c) for n, c in columns.items()])


def fit_columns(columns: Mapping[str, Column], schema: Schema) -> dict[str, Column]:
    """Return the columns in the form of a schema.

    Lists of equal length were read as vectors. Where the schema has sequences they are
    converted: with one channel to one step per value, otherwise to a single step.

    Args:
        columns: Columns by modality. One without rows fits any modality.
        schema: Schema with at least these modalities.

    Raises:
        DataError: If a modality is not in the schema, or its width, type, number of
            rows or times contradict the schema.
    """
    known = {m.name: m for m in schema.modalities}
    columns = {
        n: _as_text(c, known[n]) if n in known else c for n, c in columns.items()
    }
    fitted = {}
    for name, column in columns.items():
        if name not in known:
            raise DataError(
                f"Modality {name!r} must be in the schema, which has "
                f"{', '.join(known)}.",
                ("Leave it out with ", Code("select"), "."),
            )
        fitted[name] = _as_sequences(column, known[name])
        if len(column.values):
            _check_column(fitted[name], known[name])
    return fitted


def _as_text(column: Column, modality: Modality) -> Column:
    """Convert categories and single numbers to text if the schema has text."""
    raw = modality.kind in NEEDS_ENCODER and modality.channels is None
    return as_text(column) if raw and column.names else column


def _as_sequences(column: Column, modality: Modality) -> Column:
    """Convert vectors to sequences if the schema has ``tokens="ragged"``."""
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
    """Return the schema of some modalities and the relations between them."""
    dropped = set(schema.modality_names) - set(names)
    readout = tuple(n for n in schema.readout or () if n not in dropped)
    return Schema(
        modalities=[schema.modality(name) for name in names],
        latents=schema.latents,
        relations=[r for r in schema.relations if not {r.source, r.target} & dropped],
        readout=readout or None,
    )


def resize_schema(schema: Schema, columns: Mapping[str, Column]) -> Schema:
    """Return the schema with the widths and kinds of columns.

    Args:
        schema: Schema with the modalities of the columns.
        columns: Columns by modality.
    """
    modalities = [
        _resize(m, columns[m.name]) if m.name in columns else m
        for m in schema.modalities
    ]
    return replace(schema, modalities=modalities)


def _resize(modality: Modality, column: Column) -> Modality:
    kind: Kind = modality.kind
    if column.is_text != (kind in NEEDS_ENCODER):
        kind = "text" if column.is_text else "vector"
    places = modality.places if kind == modality.kind else 0
    return replace(modality, channels=column.width, kind=kind, places=places)


def _infer_modality(name: str, column: Column) -> Modality:
    return Modality(
        name,
        channels=column.width,
        kind="text" if column.is_text else "vector",
        tokens="ragged" if column.ragged else "single",
        time=column.time is not None,
    )


def _check_column(column: Column, modality: Modality) -> None:
    name = modality.name
    if column.is_text != (modality.kind in NEEDS_ENCODER):
        got = "strings" if column.is_text else "numbers"
        rules = {"text": "strings", "tokens": "strings", "image": PATHS, "audio": PATHS}
        rule = rules.get(modality.kind, "numbers")
        raise DataError(
            f"Modality {name!r} must hold {rule}, got {got}. Check the column names."
        )
    # the number of categories is learned from training samples
    if modality.channels not in (None, column.width) and not column.is_categorical:
        raise DataError(
            f"Modality {name!r} must have {modality.channels} channels, got "
            f"{column.channels}.",
            (
                "Use the channels of the schema, or a ",
                Argument("schema"),
                " with ragged tokens.",
            ),
        )
    if column.ragged and modality.tokens == "single":
        raise DataError(
            f"Modality {name!r} must have one row per sample, got sequences.",
            ("Set ", Argument("tokens", "ragged"), " in its Modality."),
        )
    if modality.time and column.time is None:
        raise DataError(
            f"Modality {name!r} must have times, got none.",
            (
                "Pass ",
                Argument("times", {name: [0.0, 1.0]}),
                ", or set ",
                Argument("time", False),
                " in its Modality.",
            ),
        )


def warn_self_loops(columns: Mapping[str, Column], schema: Schema) -> None:
    """Warn about relations in time that connect merged nodes with themselves only.

    A sequence of more than ``max_nodes`` rows becomes that many nodes, whose distance
    can exceed the reach of a `TimeWindow`.

    Args:
        columns: Columns in the form of the schema.
        schema: Schema with the relations.
    """
    for relation in schema.relations:
        name, topology = relation.source, relation.topology
        column = columns.get(name)
        if name != relation.target or not isinstance(topology, TimeWindow):
            continue
        if column is None or column.time is None or not column.present.any():
            continue
        most = schema.modality(name).max_nodes
        merged = np.flatnonzero(column.lengths > most)
        if len(merged) <= MERGED * column.present.sum():
            continue
        first, last = column.offsets[merged], column.offsets[merged + 1] - 1
        rows = column.lengths[merged]
        spacing = (column.time[last] - column.time[first]) / (rows - 1) * rows / most
        if (spacing > topology.seconds).mean() < ALMOST_ALL:
            continue
        typical = float(np.median(spacing))
        enough = (
            ""
            if not topology.seconds
            else (
                f", or max_nodes={int(np.ceil(2 * typical * most / topology.seconds))}"
            )
        )
        warn(
            f"Relation {relation.edge_type} connects nodes at most "
            f"{topology.seconds:g} s apart, but sequences of {name!r} are merged into "
            f"{most} nodes {typical:.2g} s apart: nearly all of its edges are "
            f"self-loops. Use TimeWindow({2 * typical:.2g}){enough}."
        )
