"""Texts, pictures and sounds, and what an estimator turns them into vectors with.

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
from mmgraph.data.features import NUM_FEATURES, describe_rows
from mmgraph.errors import CheckpointError, ConfigError, DataError
from mmgraph.pretrained import PretrainedEncoder
from mmgraph.schema import NEEDS_ENCODER, Kind, Modality, Schema

Encoder: TypeAlias = PretrainedEncoder | str | os.PathLike[str]


@dataclass(frozen=True)
class RawInputs:
    """What the raw modalities of a training are, and what encodes them.

    Attributes:
        kinds: "text", "image" or "audio" by modality.
        encoders: The pretrained model of each modality that has one.
    """

    kinds: Mapping[str, Kind] = field(default_factory=dict)
    encoders: Mapping[str, PretrainedEncoder] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        data: MultimodalData,
        given: Mapping[str, object] | None,
        device: str | None = None,
    ) -> "RawInputs":
        """Choose encoders for data: those that are given, else those of its schema.

        Without a given schema, strings may be the paths of pictures or sounds: they
        are what their encoder takes.

        Args:
            data: The samples.
            given: Encoders by modality, or where they are.
            device: Where to compute what is not said otherwise.

        Raises:
            ConfigError: An encoder of a modality that the data does not have or that
                is numbers, or of another kind; something that is no encoder.
        """
        raw = {m.name: m for m in data.schema.modalities if m.kind in NEEDS_ENCODER}
        kinds = {name: modality.kind for name, modality in raw.items()}
        chosen = {name: m.encoder for name, m in raw.items() if m.encoder is not None}
        encoders = {}
        for name, encoder in (chosen | dict(given or {})).items():
            if name not in raw:
                raise ConfigError(
                    "encoders must name modalities of text, image or audio "
                    f"({', '.join(raw) or 'the data has none'}), got {name!r}."
                )
            wanted = None if data.given_schema is None else kinds[name]
            encoders[name] = _encoder(name, encoder, wanted, device)
            kinds[name] = encoders[name].kind
        return cls(kinds, encoders)

    def as_numbers(
        self, data: MultimodalData, *, progress: bool | None = False
    ) -> MultimodalData:
        """Replace texts, pictures and sounds by vectors.

        Those of a pretrained encoder where there is one; else hashed word counts,
        colours and edges, or a spectrum, which need no pretrained model.

        Args:
            data: The samples.
            progress: Show a bar while an encoder computes what it has not seen yet;
                None: only on a terminal.

        Raises:
            ConfigError: The model of an encoder is not there.
            DataError: A file that cannot be read.
        """
        columns, schema = dict(data.columns), data.schema
        raw = [m.name for m in schema.modalities if m.kind in NEEDS_ENCODER]
        if not raw:
            return data
        for name in [name for name in raw if name in columns]:
            kind = self.kinds.get(name, schema.modality(name).kind)
            rows = _vectors(columns[name], kind, self.encoders.get(name), progress)
            columns[name] = Column(rows, columns[name].offsets)
        modalities = [self._of_numbers(m) for m in schema.modalities]
        numbers = Schema(modalities, schema.latents, schema.relations, schema.readout)
        return replace(data, columns=columns).with_schema(numbers)

    def sharing(self) -> list[str]:
        """Name the modalities whose vectors are of the space of one pretrained model.

        Two texts of one model, or what a model such as CLIP puts into a common space;
        of several such models, the one of most modalities.
        """
        shared: dict[tuple[object, ...], list[str]] = {}
        for name, encoder in self.encoders.items():
            shared.setdefault(encoder.space, []).append(name)
        names = max(shared.values(), key=len, default=[])
        return names if len(names) > 1 else []

    def check(self, data: MultimodalData, modalities: Sequence[Modality]) -> None:
        """Refuse strings where the training had numbers, and numbers for strings.

        Raises:
            DataError: Naming the first modality that is of another kind.
        """
        for modality in modalities:
            column, raw = data.columns.get(modality.name), modality.name in self.kinds
            if column is None or not len(column.values) or raw == column.is_text:
                continue
            if raw and column.channels == modality.channels:  # vectors of such strings
                continue
            rule, got = ("strings", "numbers") if raw else ("numbers", "strings")
            raise DataError(
                f"Modality {modality.name!r} must hold {rule} as in the training, got "
                f"{got}. Check which column it is."
            )

    def _of_numbers(self, modality: Modality) -> Modality:
        """Return the modality of vectors that takes the place of a raw one."""
        if modality.kind not in NEEDS_ENCODER:
            return modality
        if modality.name in self.encoders:
            channels = self.encoders[modality.name].channels
            return Modality(modality.name, channels, kind="embedding")
        kind = self.kinds.get(modality.name, modality.kind)
        plain: Kind = "embedding" if kind == "text" else "vector"
        return Modality(modality.name, NUM_FEATURES[kind], kind=plain)

    # Saving

    def describe(self) -> dict[str, Any]:
        """Return what finds the same models again, as JSON; never their weights."""
        encoders = {name: each.describe() for name, each in self.encoders.items()}
        return {"kinds": dict(self.kinds), "encoders": encoders}

    @classmethod
    def restore(
        cls,
        folder: str | os.PathLike[str],
        described: Any,  # noqa: ANN401
        given: Mapping[str, Encoder] | None,
        device: str | None,
    ) -> "RawInputs":
        """Find the models that :meth:`describe` described.

        Args:
            folder: Where the estimator was saved.
            described: What was saved.
            given: Where encoders are now, by modality; default: where they were.
            device: Where to compute.

        Raises:
            CheckpointError: A damaged description; a model that is not there, or not
                the one that was described.
            ConfigError: An encoder of a modality that had none.
        """
        given = dict(given or {})
        try:
            kinds, facts = _read(described)
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
                f"({', '.join(facts) or 'none had'}), got {unknown[0]!r}."
            )
        return cls(kinds, encoders)


def _read(described: Any) -> tuple[dict[str, Kind], dict[str, dict[str, Any]]]:  # noqa: ANN401
    """Return kinds and encoders by modality; a TypeError for anything else."""
    kinds, facts = described["kinds"], described["encoders"]
    if not isinstance(kinds, dict) or not isinstance(facts, dict):
        raise TypeError(f"kinds {kinds!r}, encoders {facts!r}")
    if not all(kind in NEEDS_ENCODER for kind in kinds.values()):
        raise TypeError(f"kinds {kinds!r}")
    if not all(isinstance(each, dict) for each in facts.values()):
        raise TypeError(f"encoders {facts!r}")
    return kinds, facts


def _encoder(
    name: str, given: object, kind: Kind | None, device: str | None
) -> PretrainedEncoder:
    if isinstance(given, str | os.PathLike):
        return PretrainedEncoder(given, kind, device=device)
    if not isinstance(given, PretrainedEncoder):
        raise ConfigError(
            f"encoders[{name!r}] must be a PretrainedEncoder or where its model is, "
            f"got {type(given).__name__}."
        )
    if kind is not None and given.kind != kind:
        raise ConfigError(
            f"Modality {name!r} of kind {kind!r} must have an encoder of that kind, "
            f"got one of kind {given.kind!r}. Set kind={given.kind!r} in its Modality, "
            "or give another encoder."
        )
    return given


def _vectors(
    column: Column, kind: Kind, encoder: PretrainedEncoder | None, progress: bool | None
) -> npt.NDArray[np.float32]:
    """Return one vector for each row of a raw column, ``[L, F]``."""
    if encoder is not None:
        return encoder.encode(column.values, progress=progress)
    if not len(column.values):
        return np.empty((0, NUM_FEATURES[kind]), dtype=np.float32)
    return describe_rows(column, kind)[column.present]
