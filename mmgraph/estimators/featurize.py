"""Conversion of texts, images and audio to vectors.

Letters: ``L`` rows, ``F`` features.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph.data import MultimodalData
from mmgraph.data.column import Column
from mmgraph.data.features import VERSION
from mmgraph.data.features.describe import NUM_FEATURES, describe_rows
from mmgraph.data.vocabulary import Vocabulary
from mmgraph.errors import CheckpointError, ConfigError, DataError
from mmgraph.pretrained import PretrainedEncoder
from mmgraph.schema import NEEDS_ENCODER, Kind, Modality, Schema

Encoder: TypeAlias = PretrainedEncoder | str | os.PathLike[str]


@dataclass(frozen=True)
class Featurizer:
    """Kinds and pretrained encoders of text, image and audio modalities.

    Attributes:
        kinds: "text", "tokens", "image" or "audio" by modality.
        encoders: Pretrained encoder by modality; None if it is not loaded, in which
            case samples must hold the vectors of that encoder.
        version: Version of the features of modalities without an encoder.
        vocabularies: Vocabulary of each modality of kind "tokens".
    """

    kinds: Mapping[str, Kind] = field(default_factory=dict)
    encoders: Mapping[str, PretrainedEncoder | None] = field(default_factory=dict)
    version: int = VERSION
    vocabularies: Mapping[str, Vocabulary] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        data: MultimodalData,
        given: Mapping[str, object] | None = None,
        device: str | None = None,
    ) -> "Featurizer":
        """Choose the encoder of each modality: the given one, or that of the schema.

        Without a schema, the kind of the encoder determines whether strings are texts,
        or paths of images or audio files. Modalities of kind "tokens" get a vocabulary.

        Args:
            data: Training samples.
            given: Encoder, or its path or name, by modality.
            device: Device on which encoders compute.

        Raises:
            ConfigError: If an encoder is given for an unknown or a numeric modality, is
                of another kind, or is of another type.
        """
        raw = {m.name: m for m in data.schema.modalities if m.kind in NEEDS_ENCODER}
        kinds = {name: modality.kind for name, modality in raw.items()}
        chosen = {name: m.encoder for name, m in raw.items() if m.encoder is not None}
        encoders = {}
        for name, encoder in (chosen | dict(given or {})).items():
            if name not in raw:
                raise ConfigError(
                    "encoders must name modalities of text, image or audio "
                    f"({', '.join(raw) or 'the data has none'}), got {name!r}.",
                    parameter="encoders",
                )
            wanted = None if data.given_schema is None else kinds[name]
            encoders[name] = _encoder(name, encoder, wanted, device)
            kinds[name] = encoders[name].kind
        vocabularies = {
            name: Vocabulary.fit(data.columns[name].values)
            for name, kind in kinds.items()
            if kind == "tokens" and name in data.columns
        }
        return cls(kinds, encoders, vocabularies=vocabularies)

    def transform(
        self, data: MultimodalData, *, progress: bool | None = False
    ) -> MultimodalData:
        """Replace texts, images and audio by vectors.

        The vectors are those of the pretrained encoder if there is one; otherwise
        hashed word counts, counts of n-grams, colors and edges, or a spectrum.

        Args:
            data: Samples.
            progress: Show a progress bar while an encoder computes values that are not
                cached; None shows it on a terminal only.

        Raises:
            ConfigError: If the model of an encoder is not found.
            DataError: If a file cannot be read, or a modality must come with the
                vectors of an encoder that is not loaded.
        """
        columns, schema = dict(data.columns), data.schema
        raw = [m.name for m in schema.modalities if m.kind in NEEDS_ENCODER]
        if not raw:
            return data
        for name in [name for name in raw if name in columns]:
            kind = self.kinds.get(name, schema.modality(name).kind)
            rows = self._vectors(name, columns[name], kind, progress)
            columns[name] = Column(rows, columns[name].offsets)
        modalities = [self._as_vector(m) for m in schema.modalities]
        numbers = Schema(modalities, schema.latents, schema.relations, schema.readout)
        return replace(data, columns=columns).with_schema(numbers)

    def shared_space(self) -> list[str]:
        """Return the modalities that one pretrained model maps into a shared space.

        These are texts encoded by one model, or images and texts encoded by a model
        such as CLIP. Of several such models, the one with most modalities is used.
        """
        shared: dict[tuple[object, ...], list[str]] = {}
        for name, encoder in self.encoders.items():
            if encoder is not None:
                shared.setdefault(encoder.space, []).append(name)
        names = max(shared.values(), key=len, default=[])
        return names if len(names) > 1 else []

    def check_kinds(self, data: MultimodalData, modalities: Sequence[Modality]) -> None:
        """Check that modalities hold strings or numbers as in training.

        Raises:
            DataError: If a modality is of another kind, naming the first one.
        """
        for modality in modalities:
            column, raw = data.columns.get(modality.name), modality.name in self.kinds
            if column is None or not len(column.values) or raw == column.is_text:
                continue
            if raw and column.channels == modality.channels:  # vectors of an encoder
                continue
            rule, got = ("strings", "numbers") if raw else ("numbers", "strings")
            raise DataError(
                f"Modality {modality.name!r} must hold {rule} as in the training, got "
                f"{got}. Check which column it is."
            )

    def _as_vector(self, modality: Modality) -> Modality:
        """Return the vector modality that replaces a raw modality."""
        if modality.kind not in NEEDS_ENCODER:
            return modality
        encoder = self.encoders.get(modality.name)
        if encoder is not None:
            return Modality(modality.name, encoder.channels, kind="embedding")
        kind = self.kinds.get(modality.name, modality.kind)
        if modality.name in self.vocabularies:
            width = len(self.vocabularies[modality.name])
            return Modality(modality.name, width, kind="embedding")
        plain: Kind = "embedding" if kind == "text" else "vector"
        return Modality(modality.name, NUM_FEATURES[kind], kind=plain)

    def _vectors(
        self, name: str, column: Column, kind: Kind, progress: bool | None
    ) -> npt.NDArray[np.float32]:
        """Return one vector for each row of a raw column, ``[L, F]``."""
        encoder = self.encoders.get(name)
        if encoder is not None:
            return encoder.encode(column.values, progress=progress)
        if name in self.encoders:
            raise DataError(
                f"Modality {name!r} must hold the vectors of its pretrained encoder, "
                f"got {kind}. Compute them with PretrainedEncoder.encode."
            )
        if name in self.vocabularies:
            return self.vocabularies[name].transform(column.values)
        if not len(column.values):
            return np.empty((0, NUM_FEATURES[kind]), dtype=np.float32)
        return describe_rows(column, kind, version=self.version)[column.present]

    # Saving

    def to_json(self) -> dict[str, Any]:
        """Return kinds and the identity of encoders, without weights, as JSON."""
        encoders = {
            name: None if each is None else each.describe()
            for name, each in self.encoders.items()
        }
        content = {
            "kinds": dict(self.kinds),
            "encoders": encoders,
            "features_version": self.version,
        }
        known = {name: each.to_json() for name, each in self.vocabularies.items()}
        return content | ({"vocabularies": known} if known else {})

    def unloaded(self) -> "Featurizer":
        """Return a copy without encoders, which expects their vectors as inputs."""
        return replace(self, encoders=dict.fromkeys(self.encoders))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Featurizer":
        """Read the content of :meth:`to_json`, without loading encoders."""
        kinds, facts, version, vocabularies = _read(content)
        return cls(kinds, dict.fromkeys(facts), version, vocabularies)

    @classmethod
    def load(
        cls,
        folder: str | os.PathLike[str],
        content: Mapping[str, Any],
        given: Mapping[str, Encoder] | None = None,
        device: str | None = None,
    ) -> "Featurizer":
        """Read the content of :meth:`to_json`, and load the encoders.

        Args:
            folder: Folder of the saved estimator, for messages.
            content: JSON content.
            given: Encoder, or its path or name, by modality; default: the locations at
                the time of the fit.
            device: Device on which encoders compute.

        Raises:
            CheckpointError: If the content is damaged, or a model is not found or is
                another one.
            ConfigError: If an encoder is given for a modality that had none.
        """
        given = dict(given or {})
        try:
            kinds, facts, version, vocabularies = _read(content)
            unknown = sorted(given.keys() - facts.keys())
            encoders = {
                name: PretrainedEncoder.restore(name, each, given.get(name), device)
                for name, each in facts.items()
                if not unknown
            }
        except (AttributeError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{folder} must describe pretrained encoders as mmgraph saves them, "
                f"got: {error!r}."
            ) from None
        if unknown:
            raise ConfigError(
                "encoders must name modalities that had one in the training "
                f"({', '.join(facts) or 'none had'}), got {unknown[0]!r}.",
                parameter="encoders",
            )
        return cls(kinds, encoders, version, vocabularies)


def _read(
    content: Mapping[str, Any],
) -> tuple[dict[str, Kind], dict[str, dict[str, Any]], int, dict[str, Vocabulary]]:
    """Return kinds, encoders, version of the features, and vocabularies.

    Files of mmgraph 0.2 have no version; it is 1.

    Raises:
        TypeError: If the content has another structure.
    """
    kinds, facts = content["kinds"], content["encoders"]
    if not isinstance(kinds, dict) or not isinstance(facts, dict):
        raise TypeError(f"kinds {kinds!r}, encoders {facts!r}")
    if not all(kind in [*NEEDS_ENCODER] for kind in kinds.values()):
        raise TypeError(f"kinds {kinds!r}")
    if not all(each is None or isinstance(each, dict) for each in facts.values()):
        raise TypeError(f"encoders {facts!r}")
    version = content.get("features_version", 1)
    if type(version) is not int or not 1 <= version <= VERSION:
        raise TypeError(f"features_version {version!r}")
    vocabularies = {
        name: Vocabulary.from_json(each)
        for name, each in content.get("vocabularies", {}).items()
    }
    tokens = {name for name, kind in kinds.items() if kind == "tokens"}
    if not vocabularies.keys() <= tokens:
        raise TypeError(f"vocabularies of {sorted(vocabularies)}")
    return kinds, facts, version, vocabularies


def _encoder(
    name: str, given: object, kind: Kind | None, device: str | None
) -> PretrainedEncoder:
    if isinstance(given, str | os.PathLike):
        return PretrainedEncoder(given, kind, device=device)
    if not isinstance(given, PretrainedEncoder):
        raise ConfigError(
            f"encoders[{name!r}] must be a PretrainedEncoder or the path or name of a "
            f"model, got {type(given).__name__}."
        )
    if kind is not None and given.kind != kind:
        raise ConfigError(
            f"Modality {name!r} of kind {kind!r} must have an encoder of that kind, "
            f"got one of kind {given.kind!r}. Set kind={given.kind!r} in its Modality, "
            "or give another encoder."
        )
    return given
