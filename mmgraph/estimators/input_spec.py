"""Inputs of a fitted estimator: modalities, channels, encoders, unseen modalities.

Letters: ``N`` samples, ``M`` modalities, ``F`` features, ``C`` channels.
"""

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.categorical import align_channels
from mmgraph.data.column import Column, empty_column
from mmgraph.errors import CheckpointError, DataError
from mmgraph.estimators.featurize import Encoder, Featurizer
from mmgraph.schema import Modality, Schema


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
    """

    schema: Schema
    featurizer: Featurizer
    channels: Mapping[str, tuple[str, ...]]
    unseen: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()

    @classmethod
    def fit(
        cls,
        data: MultimodalData,
        *,
        encoders: Mapping[str, Encoder] | None = None,
        device: str | None = None,
        progress: bool | None = False,
    ) -> "tuple[InputSpec, MultimodalData]":
        """Describe training samples, and convert them to numbers.

        Args:
            data: Training samples, with the schema of the estimator, if any.
            encoders: Pretrained encoders by modality.
            device: Device on which encoders compute.
            progress: Show a progress bar while encoders compute; None shows it on a
                terminal only.

        Returns:
            The description, and the samples with the modalities in the order of the
            schema, texts, images and audio as vectors.

        Raises:
            DataError: If the data lack a modality of the schema.
            ConfigError: If an encoder is of an unknown modality or of another kind.
        """
        featurizer = Featurizer.fit(data, encoders, device)
        data = featurizer.transform(data, progress=progress)
        schema = data.schema
        _require_modalities(data, schema)
        data = data.select(schema.modality_names)
        spec = cls(
            schema,
            featurizer,
            {name: c.names for name, c in data.columns.items() if c.names},
            tuple(name for name, c in data.columns.items() if not c.present.any()),
            tuple(x.shape[1] for x in data.features().values()),
        )
        return spec, data

    def read(
        self, data: MultimodalData, *, progress: bool | None = False
    ) -> MultimodalData:
        """Convert new samples to the form of the training samples.

        Named channels are put in the order of the training, texts, images and audio
        become vectors, and content of unseen modalities is ignored.

        Args:
            data: Samples with any of the modalities of the training.
            progress: Show a progress bar while encoders compute; None shows it on a
                terminal only.

        Raises:
            DataError: If a modality is unknown, of another kind or of another width,
                or has other channels than in the training.
        """
        data = self._align_channels(data)
        self.featurizer.check_kinds(data, self._seen_modalities)
        data = self.featurizer.transform(data, progress=progress)
        unseen = {name: _nowhere(data) for name in self.unseen if name in data.columns}
        return data.mask(unseen).conform(self.schema)

    def read_stream(self, stream: MultimodalStream) -> MultimodalStream:
        """Declare modalities of a stream as sequences if they were in training.

        The schema of a stream is inferred from its first samples, in which a sequence
        can have a single row.

        Args:
            stream: Samples.
        """
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

    @property
    def _seen_modalities(self) -> list[Modality]:
        return [m for m in self.schema.modalities if m.name not in self.unseen]

    def _align_channels(self, data: MultimodalData) -> MultimodalData:
        """Put named channels in the order of the training.

        Channels without names keep their order; see :func:`align_channels` for
        categories.
        """
        columns = dict(data.columns)
        for name in self.channels.keys() & columns.keys():
            column, wanted = columns[name], self.channels[name]
            if not len(column.values) or column.names in ((), wanted):
                continue
            columns[name] = align_channels(name, column, wanted)
        return replace(data, columns=columns)

    # Saving

    def to_json(self) -> dict[str, Any]:
        """Return the description, without weights of encoders, as JSON."""
        return {
            "schema": self.schema.to_json(),
            "schema_hash": self.schema.hash,
            "channels": {name: list(each) for name, each in self.channels.items()},
            "unseen": list(self.unseen),
            "widths": list(self.widths),
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
        return cls(
            schema,
            featurizer or Featurizer.from_json(content),
            {name: tuple(each) for name, each in content["channels"].items()},
            tuple(schema.modality(name).name for name in content["unseen"]),
            tuple(int(width) for width in content["widths"]),
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
