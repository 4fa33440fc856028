"""A pretrained model that turns texts, pictures or sounds into vectors.

Letters: ``N`` values, ``C`` channels.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmgraph._progress import show_progress
from mmgraph.errors import CheckpointError, ConfigError, DataError
from mmgraph.pretrained.backbone import (
    KINDS,
    POOLINGS,
    Backbone,
    EncoderKind,
    Pooling,
    load_backbone,
)
from mmgraph.pretrained.feature_cache import FeatureCache
from mmgraph.pretrained.processor import Processor, Row, Values, pad_tokens
from mmgraph.pretrained.media import digest_of
from mmgraph.pretrained.model_files import Source, find_source

FloatRows = npt.NDArray[np.float32]

SMALLEST: dict[str, Any] = {  # of each kind, to learn how wide the vectors are
    "text": "a",
    "image": np.zeros((8, 8, 3), dtype=np.uint8),
    "audio": np.zeros(16_000, dtype=np.float32),
}


class Loaded:
    """A model in memory, and what it has said.

    Several encoders that are alike share one.
    """

    def __init__(self, backbone: Backbone, processor: Processor) -> None:
        self.backbone, self.processor = backbone, processor
        self.features = FeatureCache()


_SHARED: WeakValueDictionary[tuple[Any, ...], Loaded] = WeakValueDictionary()


class PretrainedEncoder:
    """A frozen model of `transformers` that turns each value into one vector.

    Estimators make one of every modality whose ``encoder`` the schema or the option
    ``encoders`` names; by itself it computes embeddings for any use. The model is
    loaded when it is first needed, from a folder or from the local cache of Hugging
    Face; weights are read as safetensors only, and no code of a model is run.

    What a value becomes depends on that value alone. Every distinct value is computed
    once and then remembered.

    Args:
        source: Folder of a transformers model, or its name on the Hugging Face Hub.
        kind: "text", "image" or "audio"; None: what the model takes. Models of
            several kinds, such as CLIP, need it.
        pooling: How the states of a model become one vector: "mean" over tokens,
            "cls" (the first), "last", or "pooler" (the model's own). None: what a
            folder of sentence-transformers says, with its normalization; else the
            class token for pictures where there is one; else the mean. Models of
            several kinds give their common space.
        max_length: Most tokens of a text (None: what the model takes) or seconds of a
            sound (None: 30); the rest is cut off.
        batch_size: Values computed at once.
        cache: Folder that keeps features; None: only memory does.
        download: Fetch from the Hub what is not on this machine.
        revision: Commit, tag or branch on the Hub.
        device: Where to compute; None: a GPU if there is one.
        lora_rank: Rank of the adapters that a :class:`mmgraph.FusionModel` trains in
            it (peft); None: it trains all weights. Frozen features have none.

    Raises:
        ConfigError: An unknown kind or pooling, or sizes below one.

    Example:
        >>> encoder = PretrainedEncoder("some/model", kind="text")  # loads nothing yet
        >>> encoder
        PretrainedEncoder('some/model', kind='text')
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        kind: str | None = None,
        *,
        pooling: str | None = None,
        max_length: int | None = None,
        batch_size: int = 32,
        cache: str | os.PathLike[str] | None = None,
        download: bool = False,
        revision: str | None = None,
        device: str | None = None,
        lora_rank: int | None = None,
    ) -> None:
        _check("kind", kind, KINDS)
        _check("pooling", pooling, POOLINGS)
        sizes = {"max_length": max_length, "batch_size": batch_size}
        for name, size in (sizes | {"lora_rank": lora_rank}).items():
            if size is not None and size < 1:
                raise ConfigError(f"{name} must be at least 1, got {size}.")
        self.source = os.fspath(source)
        self._kind = cast("EncoderKind | None", kind)
        self.pooling = cast("Pooling | None", pooling)
        self.max_length = max_length
        self.batch_size, self.cache = batch_size, cache
        self.download, self.revision, self.device = download, revision, device
        self.lora_rank = lora_rank

    def __repr__(self) -> str:
        kind = "" if self._kind is None else f", kind={self._kind!r}"
        return f"{type(self).__name__}({self.source!r}{kind})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "PretrainedEncoder":
        """Return itself: it never changes, and models are large."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Leave the model out: another process loads it again."""
        lazy = ("found", "loaded")
        return {name: value for name, value in vars(self).items() if name not in lazy}

    @cached_property
    def found(self) -> Source:
        """Where the model is.

        Raises:
            ConfigError: It is not on this machine.
        """
        return find_source(self.source, revision=self.revision, download=self.download)

    @cached_property
    def loaded(self) -> Loaded:
        """The model in memory.

        Raises:
            ConfigError: It is not there, or not what it should be.
        """
        place = torch.device(self.device or _default_device())
        key = (*self._identity, self.cache, place)
        known = _SHARED.get(key)
        if known is None:
            backbone, processor = self.load()
            backbone.to(place).requires_grad_(False)
            known = _SHARED[key] = Loaded(backbone, processor)
        return known

    def load(self) -> tuple[Backbone, Processor]:
        """Return a copy of the model that nothing else uses, and what prepares input.

        Raises:
            ConfigError: It is not there, or not what it should be.
        """
        backbone = load_backbone(self.found, self._kind, self.pooling)
        return backbone, Processor(self.found, backbone, self.max_length)

    @property
    def _identity(self) -> tuple[Any, ...]:
        """What decides about the features."""
        return (self.found.fingerprint, self._kind, self.pooling, self.max_length)

    @property
    def kind(self) -> EncoderKind:
        """What it reads: as given, or as the model says."""
        return self._kind or self.loaded.backbone.kind

    @property
    def space(self) -> tuple[str, ...]:
        """What encoders have in common whose vectors can be compared."""
        backbone = self.loaded.backbone
        own = () if backbone.joint else (backbone.kind, backbone.pooling)
        return (self.found.fingerprint, *own)

    @property
    def channels(self) -> int:
        """Width ``C`` of a vector."""
        return self.encode([SMALLEST[self.kind]], progress=False).shape[1]

    def encode(self, values: Values, *, progress: bool | None = None) -> FloatRows:
        """Return one vector for each value, ``[N, C]``.

        Args:
            values: Texts; or paths of pictures or sounds; or pictures as ``[H, W, 3]``
                arrays of uint8, waveforms ``[T]`` at the sampling rate of the model.
                None is a missing value.
            progress: Show a bar; None: only on a terminal.

        Returns:
            A missing value is a row of NaN.

        Raises:
            ConfigError: The model is not there, or takes another kind.
            DataError: A value of another type, or a file that cannot be read.
        """
        if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
            raise DataError(
                f"Values to encode must be a list with one entry a sample, got "
                f"{type(values).__name__}."
            )
        kind = self.kind
        rows = [i for i, value in enumerate(values) if value is not None]
        keys = {i: digest_of(values[i], kind, i) for i in rows}
        known = self.loaded.features.find(set(keys.values()), self._folder)
        firsts = {key: i for i, key in reversed(keys.items()) if key not in known}
        if firsts:
            known |= self._compute(values, firsts, progress)
        width = len(next(iter(known.values()))) if known else self.channels
        table = np.full((len(values), width), np.nan, dtype=np.float32)
        for i, key in keys.items():
            table[i] = known[key]
        return table

    @property
    def _folder(self) -> Path | None:
        """Folder of the features of just this model, read in just this way."""
        if self.cache is None:
            return None
        backbone, processor = self.loaded.backbone, self.loaded.processor
        parts = [self.found.fingerprint[:16], backbone.kind, backbone.pooling]
        return Path(self.cache) / "-".join([*parts, str(processor.max_length)])

    @torch.no_grad()
    def _compute(
        self, values: Values, firsts: dict[bytes, int], progress: bool | None
    ) -> dict[bytes, FloatRows]:
        """Return vectors by digest of values, a batch of about one length at a time."""
        length = len if self.kind == "text" else lambda _: 0
        order = sorted(firsts, key=lambda key: length(values[firsts[key]]))
        made: list[FloatRows] = []
        name = Path(self.source).name
        with show_progress(f"encoding by {name}", len(order), progress) as tell:
            for start in range(0, len(order), self.batch_size):
                keys = order[start : start + self.batch_size]
                prepared = self.loaded.processor([values[firsts[k]] for k in keys])
                made.append(self._forward(prepared).cpu().numpy())
                tell(start + len(keys))
        rows = np.concatenate(made)
        self.loaded.features.add(order, rows, self._folder)
        return dict(zip(order, rows, strict=True))

    def _forward(self, rows: list[Row]) -> Tensor:
        """Return vectors ``[N, C]``; rows of one shape are computed together."""
        backbone = self.loaded.backbone
        place = next(backbone.parameters()).device
        if self.kind == "text":
            tokens = torch.from_numpy(np.concatenate(rows)).to(place)
            return backbone(*pad_tokens(tokens, [len(row) for row in rows])).float()
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault(row.shape, []).append(i)
        parts = [
            backbone(torch.from_numpy(np.stack([rows[i] for i in same])).to(place))
            for same in groups.values()
        ]
        order = torch.tensor([i for same in groups.values() for i in same])
        return torch.cat(parts)[order.argsort().to(place)].float()

    # Saving

    def describe(self) -> dict[str, Any]:
        """Return what finds the same model again, as JSON; never its weights."""
        return {
            "source": str(self.found.folder)
            if self.found.revision is None
            else self.source,
            "revision": self.found.revision,
            "sha256": self.found.fingerprint,
            "kind": self.kind,
            "pooling": self.pooling,
            "max_length": self.max_length,
            "batch_size": self.batch_size,
        }

    @classmethod
    def restore(
        cls,
        name: str,
        described: dict[str, Any],
        given: "str | os.PathLike[str] | PretrainedEncoder | None",
        device: str | None = None,
    ) -> "PretrainedEncoder":
        """Find the model that :meth:`describe` described, and check that it is the one.

        Args:
            name: Modality, for the message.
            described: What was described.
            given: Where the model is now; None: where it was.
            device: Where to compute.

        Raises:
            CheckpointError: It is not there, or other weights are.
        """
        facts = dict(described)
        digest = facts.pop("sha256")
        if isinstance(given, PretrainedEncoder):
            encoder = given
        else:
            if given is not None:
                facts |= {"source": os.fspath(given), "revision": None}
            encoder = cls(**facts, device=device)
        try:
            same = encoder.found.fingerprint == digest
        except ConfigError as error:
            raise CheckpointError(
                f"Encoder of modality {name!r} must be where it was. {error.fault}",
                _remedy(name),
            ) from None
        if not same:
            raise CheckpointError(
                f"Encoder of modality {name!r} must be the one of the training, of "
                f"SHA-256 {digest[:16]}, got other files in '{encoder.source}'.",
                _remedy(name),
            )
        return encoder


def _remedy(modality: str) -> str:
    return f"Say where it is now with encoders={{{modality!r}: 'path'}}."


def _check(name: str, value: object, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}.")


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
