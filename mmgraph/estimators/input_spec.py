"""Inputs of a fitted estimator: modalities, channels, encoders, unseen modalities.

Letters: ``N`` samples, ``M`` modalities, ``F`` features, ``C`` channels.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.categories import Categories
from mmgraph.data.column import AnyArray, BoolArray, Column, empty_column
from mmgraph.data.concat import as_text
from mmgraph.data.encoder import ChannelEncoder, encode_columns, fit_encoders
from mmgraph.data.notices import MAX_LISTED, warn
from mmgraph.data.ranges import ChannelRanges, fit_ranges, replace_values
from mmgraph.data.schema_inference import resize_schema
from mmgraph.data.stream.stream import declare_strings
from mmgraph.errors import CheckpointError, DataError
from mmgraph.estimators.featurize import Encoder, Featurizer
from mmgraph.model_card import Input
from mmgraph.schema import Modality, Schema

_REMOVING: ContextVar[bool] = ContextVar("removing", default=False)


@contextmanager
def removing_modalities() -> Iterator[None]:
    """Predict without warnings about subsets of modalities, which are intended."""
    token = _REMOVING.set(True)
    try:
        yield
    finally:
        _REMOVING.reset(token)


@dataclass(frozen=True)
class InputSpec:
    """Description of the inputs of a fitted estimator.

    Estimators, exported files, the command line and evaluation read samples with it.

    Attributes:
        schema: Schema of the inputs, texts, images and audio as vectors.
        featurizer: Kinds and pretrained encoders of text, image and audio modalities.
        channels: Channel names of each modality whose channels are named.
        unseen: Modalities without usable training samples. Their content is ignored.
        widths: Number of features of each modality, in the order of the schema.
        categories: Categories with a channel, by modality and categorical column.
        ranges: Fill values and ranges of the channels of modalities of numbers.
        companions: Modalities that every training sample with a modality had as well,
            by modality.
    """

    schema: Schema
    featurizer: Featurizer
    channels: Mapping[str, tuple[str, ...]]
    unseen: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    categories: Mapping[str, Mapping[str, Categories]] = field(default_factory=dict)
    ranges: Mapping[str, ChannelRanges] = field(default_factory=dict)
    companions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        data: MultimodalData,
        *,
        encoders: Mapping[str, Encoder] | None = None,
        device: str | None = None,
        progress: bool | None = False,
        categories_as_text: bool = False,
    ) -> "tuple[InputSpec, MultimodalData]":
        """Describe training samples, and convert them to numbers.

        Args:
            data: Training samples, with the schema of the estimator, if any.
            encoders: Pretrained encoders by modality.
            device: Device on which encoders compute.
            progress: Show a progress bar while encoders compute; None shows it on a
                terminal only.
            categories_as_text: Read a modality of one categorical column as text, such
                as repeated captions, which are compared by their words.

        Returns:
            The description, and the samples with the modalities in the order of the
            schema: one channel per category that occurs, texts, images and audio as
            vectors.

        Raises:
            DataError: If the data lack a modality of the schema, or a column has more
                than 64 categories.
            ConfigError: If an encoder is of an unknown modality or of another kind.
        """
        data = declare_texts(data, data.columns if categories_as_text else encoders)
        channels = fit_encoders(data.columns)
        data = _with_columns(data, encode_columns(data.columns, channels))
        featurizer = Featurizer.fit(data, encoders, device)
        data = featurizer.transform(data, progress=progress)
        schema = data.schema
        _require_modalities(data, schema)
        data = data.select(schema.modality_names)
        numbers = data.columns.keys() - featurizer.kinds.keys()
        ranges = fit_ranges({n: c for n, c in data.columns.items() if n in numbers})
        data = _read_ranges(data, ranges)
        spec = cls(
            schema,
            featurizer,
            {name: each.names for name, each in channels.items()},
            tuple(name for name, c in data.columns.items() if not c.present.any()),
            tuple(x.shape[1] for x in data.features().values()),
            {n: each.categories for n, each in channels.items() if each.categories},
            ranges,
            _find_companions(data),
        )
        return spec, data

    def read(
        self, data: MultimodalData, *, progress: bool | None = False
    ) -> MultimodalData:
        """Convert new samples to the form of the training samples.

        Columns are aligned with those of the training, see
        :meth:`mmgraph.data.encoder.ChannelEncoder.transform`; texts, images and audio
        become vectors, content of unseen modalities is ignored, and fill values are
        missing cells. Values far outside the training data are reported.

        Args:
            data: Samples with any of the modalities of the training.
            progress: Show a progress bar while encoders compute; None shows it on a
                terminal only.

        Raises:
            DataError: If a modality is unknown, of another kind or of another width,
                or has a column that the training lacked.
        """
        data = self._align_columns(data)
        self.featurizer.check_kinds(data, self._seen_modalities)
        data = self.featurizer.transform(data, progress=progress)
        unseen = {name: _nowhere(data) for name in self.unseen if name in data.columns}
        return _read_ranges(data.mask(unseen).conform(self.schema), self.ranges)

    def read_table(self, name: str, values: AnyArray) -> AnyArray:
        """Return new single rows of a modality, NaN where they mark missing cells.

        Args:
            name: Name of the modality.
            values: ``[N, C]`` numbers with the channels of the training.
        """
        ranges = self.ranges.get(name)
        if ranges is None or values.shape[1] != len(ranges.lower):
            return values
        fields = self.channels.get(name) or tuple(map(str, range(values.shape[1])))
        return ranges.read(name, values, fields)

    def read_stream(self, stream: MultimodalStream) -> MultimodalStream:
        """Read sequences and categories of a stream as in training.

        The schema of a stream is inferred from its first samples, in which a sequence
        can have a single row, and categories can be numbers.

        Args:
            stream: Samples.
        """
        categorical = {c for known in self.categories.values() for c in known}
        source = declare_strings(stream.source, categorical, self.featurizer.kinds)
        stream = replace(stream, source=source)
        ragged = {m.name: m for m in self._seen_modalities if m.tokens == "ragged"}
        modalities = [ragged.get(m.name, m) for m in stream.schema.modalities]
        return stream.with_schema(Schema.star(modalities)) if ragged else stream

    def features(self, data: MultimodalData) -> list[Tensor]:
        """Return features ``[N, F_m]`` of each modality; all NaN if it is missing.

        Args:
            data: Samples that :meth:`read` returned.

        Raises:
            DataError: If a modality has another number of features.
        """
        features, result = data.features(), []
        for name, width in zip(self.schema.modality_names, self.widths, strict=True):
            x = features.get(name)
            if x is None or not data.columns[name].present.any():
                x = np.full((len(data), width), np.nan, dtype=np.float32)
            if x.shape[1] != width:
                raise DataError(
                    f"Modality {name!r} must have {width} features, got {x.shape[1]}."
                )
            result.append(torch.from_numpy(x))
        return result

    def complete(self, data: MultimodalData) -> MultimodalData:
        """Return the samples with every modality of the schema, in its order."""
        columns: dict[str, Column] = {
            name: data.columns.get(name) or empty_column(len(data))
            for name in self.schema.modality_names
        }
        return replace(data, columns=columns)

    def absent(self, names: Collection[str]) -> list[str]:
        """Return the modalities of the training that are not in ``names``."""
        return [m.name for m in self._seen_modalities if m.name not in names]

    def warn_subsets(self, data: MultimodalData) -> None:
        """Warn about modalities that no training sample had without another one.

        Args:
            data: Samples that :meth:`read` returned.
        """
        if _REMOVING.get():
            return
        parts = []
        for name in self.companions.keys() & data.columns.keys():
            present = data.columns[name].present
            for other in self.companions[name]:
                column = data.columns.get(other)
                alone = present if column is None else present & ~column.present
                if alone.any():
                    parts.append(f"{name} without {other} ({alone.sum()} samples)")
        if parts:
            listed = "; ".join(sorted(parts)[:MAX_LISTED])
            more = "; ..." if len(parts) > MAX_LISTED else ""
            warn(
                "Samples have subsets of modalities that no training sample had: "
                f"{listed}{more}. Measure with mmgraph.evaluate how well such samples "
                "are predicted."
            )

    @property
    def inputs(self) -> list[Input]:
        """Content of each modality, for the model card."""
        return [
            Input(
                modality.name,
                self.featurizer.kinds.get(modality.name) or "numbers",
                self.channels.get(modality.name, ()),
                width,
            )
            for modality, width in zip(self.schema.modalities, self.widths, strict=True)
        ]

    @property
    def _seen_modalities(self) -> list[Modality]:
        return [m for m in self.schema.modalities if m.name not in self.unseen]

    def _align_columns(self, data: MultimodalData) -> MultimodalData:
        """Return new samples with the columns of the training, and texts as strings."""
        seen = {modality.name: modality for modality in self._seen_modalities}
        encoders = {
            name: ChannelEncoder(names, self.categories.get(name, {}))
            for name, names in self.channels.items()
            if name in seen
        }
        columns = encode_columns(data.columns, encoders)
        for name in self.featurizer.kinds.keys() & columns.keys() & seen.keys():
            if columns[name].channels != seen[name].channels:  # vectors of an encoder
                columns[name] = as_text(columns[name])
        return _with_columns(data, columns)

    # Saving

    def to_json(self) -> dict[str, Any]:
        """Return the description, without weights of encoders, as JSON."""
        return {
            "schema": self.schema.to_json(),
            "schema_hash": self.schema.hash,
            "channels": {name: list(each) for name, each in self.channels.items()},
            "unseen": list(self.unseen),
            "widths": list(self.widths),
            "categories": {
                name: {column: list(known) for column, known in each.items()}
                for name, each in self.categories.items()
            },
            "ranges": {name: each.to_json() for name, each in self.ranges.items()},
            "companions": {name: list(each) for name, each in self.companions.items()},
            **self.featurizer.to_json(),
        }

    @classmethod
    def from_json(
        cls,
        content: Mapping[str, Any],
        *,
        functions: Mapping[str, Callable[..., Any]] | None = None,
        featurizer: Featurizer | None = None,
    ) -> "InputSpec":
        """Read the content of :meth:`to_json`.

        Args:
            content: JSON content.
            functions: Function of each Custom topology of the schema, by name.
            featurizer: Featurizer with loaded encoders; default: one without encoders,
                which expects their vectors as inputs.

        Raises:
            CheckpointError: If the schema differs from the saved one.
            LookupError, TypeError, ValueError: If the content is damaged.
        """
        schema = Schema.from_json(content["schema"], dict(functions or {}))
        if schema.hash != content["schema_hash"]:
            raise CheckpointError(
                "The schema must have the hash that was saved, got another one. Check "
                "the functions of custom topologies."
            )
        widths = content["widths"]
        if not all(type(width) is int and width > 0 for width in widths):
            raise CheckpointError(f"widths must be integers above 0, got {widths!r}.")
        channels = _read_channels(schema, content["channels"])
        return cls(
            schema,
            featurizer or Featurizer.from_json(content),
            channels,
            tuple(schema.modality(name).name for name in content["unseen"]),
            tuple(widths),
            _read_categories(content.get("categories"), channels),
            {
                name: ChannelRanges.from_json(each, schema.modality(name).channels or 0)
                for name, each in content.get("ranges", {}).items()
            },
            {
                schema.modality(name).name: tuple(schema.modality(n).name for n in each)
                for name, each in content.get("companions", {}).items()
            },
        )

    def with_encoders(
        self,
        folder: str | os.PathLike[str],
        content: Mapping[str, Any],
        encoders: Mapping[str, Encoder] | None,
        device: str | None,
    ) -> "InputSpec":
        """Return the description with its pretrained encoders loaded.

        Args:
            folder: Folder of the saved model, for messages.
            content: JSON content of the description.
            encoders: Encoder, or its path or name, by modality; default: the locations
                at the time of the fit.
            device: Device on which encoders compute.

        Raises:
            CheckpointError: If a model is not found, or is another one.
            ConfigError: If an encoder is given for a modality that had none.
        """
        loaded = Featurizer.load(folder, content, encoders, device)
        return replace(self, featurizer=loaded)


def _read_channels(
    schema: Schema, content: Mapping[str, Any]
) -> dict[str, tuple[str, ...]]:
    """Return the saved names of channels, as many as the schema has."""
    for name, names in content.items():
        wanted = schema.modality(name).channels
        if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
            raise CheckpointError(f"Channel names of {name!r} must be strings.")
        if len(names) != wanted:
            raise CheckpointError(
                f"Modality {name!r} must have {wanted} channel names, got {len(names)}."
            )
    return {name: tuple(names) for name, names in content.items()}


def _find_companions(data: MultimodalData) -> dict[str, tuple[str, ...]]:
    """Return the modalities that accompany each modality in all samples."""
    present = data.present
    observed: BoolArray = np.asarray(present.any(axis=0))
    companions = {}
    for i, name in enumerate(data.modalities):
        always: BoolArray = np.asarray(present[present[:, i]].all(axis=0) & observed)
        others = (n for n, a in zip(data.modalities, always, strict=True) if a)
        names = tuple(other for other in others if other != name)
        if observed[i] and names:
            companions[name] = names
    return companions


def _read_ranges(
    data: MultimodalData, ranges: Mapping[str, ChannelRanges]
) -> MultimodalData:
    """Return the data without fill values, with warnings about values out of range."""
    columns = dict(data.columns)
    for name in ranges.keys() & columns.keys():
        column = columns[name]
        if len(column.values):
            values = ranges[name].read(name, column.values, column.fields)
            columns[name] = replace_values(column, name, values)
    return replace(data, columns=columns)


def _nowhere(data: MultimodalData) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.zeros(len(data), dtype=bool)


def _require_modalities(data: MultimodalData, schema: Schema) -> None:
    """Check that training data have all modalities of the schema."""
    lacking = [name for name in schema.modality_names if name not in data.columns]
    if lacking:
        raise DataError(
            f"Training data must have the modality {lacking[0]!r} of the schema, got "
            f"{', '.join(data.modalities)}. Add it, with None for missing rows."
        )


def declare_texts(
    data: MultimodalData, names: Collection[str] | None
) -> MultimodalData:
    """Return the data with modalities of one categorical column as text.

    Args:
        data: Samples.
        names: Modalities that are text, such as those with a pretrained encoder.
    """
    columns = {
        name: as_text(column)
        if name in (names or ()) and column.is_categorical
        else column
        for name, column in data.columns.items()
    }
    return _with_columns(data, columns)


def _with_columns(data: MultimodalData, columns: dict[str, Column]) -> MultimodalData:
    """Return the data with other columns, and a schema of their widths."""
    changed = {n: c for n, c in columns.items() if c is not data.columns[n]}
    if not changed:
        return data
    schema = data.given_schema
    return replace(
        data,
        columns=columns,
        given_schema=None if schema is None else resize_schema(schema, changed),
    )


def _read_categories(
    saved: Mapping[str, Mapping[str, Any]] | None,
    channels: Mapping[str, tuple[str, ...]],
) -> dict[str, dict[str, Categories]]:
    """Return the categories of a saved description, by modality and column.

    Earlier versions saved the names of the channels only.

    Raises:
        TypeError: If categories are not those of the channels.
    """
    if saved is None:
        encoders = {n: ChannelEncoder.from_names(c) for n, c in channels.items()}
        return {n: dict(e.categories) for n, e in encoders.items() if e.categories}
    read = {
        name: {str(column): tuple(map(str, known)) for column, known in each.items()}
        for name, each in saved.items()
    }
    for name, each in read.items():
        names = {f"{column}={k}" for column, known in each.items() for k in known}
        if not names <= set(channels[name]):
            raise TypeError(f"categories of {name!r} without a channel")
    return read
