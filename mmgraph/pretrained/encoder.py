"""Pretrained encoder of text, image or audio.

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
from mmgraph.errors import Argument, CheckpointError, ConfigError, DataError, Remedy
from mmgraph.pretrained.backbone import (
    KINDS,
    POOLINGS,
    Backbone,
    EncoderKind,
    Pooling,
    load_backbone,
)
from mmgraph.pretrained.feature_cache import FeatureCache
from mmgraph.pretrained.media import digest_of
from mmgraph.pretrained.model_files import ModelFiles, find_model_files
from mmgraph.pretrained.processor import Processor, Row, Values, pad_tokens
from mmgraph.typing import PathLike

FloatRows = npt.NDArray[np.float32]

MINIMAL_INPUT: dict[str, Any] = {  # by kind, to determine the width of vectors
    "text": "a",
    "image": np.zeros((8, 8, 3), dtype=np.uint8),
    "audio": np.zeros(16_000, dtype=np.float32),
}


class LoadedModel:
    """Model in memory with its cache of features; encoders of one model share it."""

    def __init__(self, backbone: Backbone, processor: Processor) -> None:
        self.backbone, self.processor = backbone, processor
        self.features = FeatureCache()


_SHARED: WeakValueDictionary[tuple[Any, ...], LoadedModel] = WeakValueDictionary()


class PretrainedEncoder:
    """Frozen `transformers` model that encodes each text, image or audio as a vector.

    Estimators use one for every modality whose ``encoder`` is named in the schema or in
    their parameter ``encoders``. It can also be used alone to compute embeddings.

    The model is loaded on first use, from a folder or from the local cache of the
    Hugging Face Hub. Weights are read as safetensors only, and no code of the model is
    executed. The vector of a value depends on this value only; vectors of distinct
    values are computed once and cached.

    Args:
        source: Folder of a transformers model, or its name on the Hugging Face Hub.
        kind: "text", "image" or "audio"; None for that of the model. Required for
            models of several kinds, such as CLIP.
        pooling: Pooling of the hidden states to one vector: "mean" over tokens, "cls"
            (first token), "last" (last token), or "pooler" (pooling layer of the
            model). None for the configured pooling and normalization of a
            sentence-transformers model; else "cls" for image models with a class token;
            else "mean". Models of several kinds return vectors of their shared
            embedding space instead.
        max_length: Largest number of tokens of a text (None: the limit of the model),
            or duration of audio in seconds (None: 30). The rest is cut off.
        batch_size: Number of values in one forward pass.
        cache: Folder for computed vectors, shared by runs; None caches in memory only.
        download: Download the model from the Hub if it is not in the local cache.
        revision: Commit, tag or branch on the Hub; None for the main branch.
        device: Device of the model; None for a GPU if available, else the CPU.
        lora_rank: Rank of the low-rank adapters (LoRA, by peft) when a
            :class:`mmgraph.FusionModel` fine-tunes the model; None fine-tunes all
            weights. Unused by :meth:`encode`.

    Raises:
        ConfigError: If kind or pooling is unknown, or a size is below 1.

    Example:
        >>> encoder = PretrainedEncoder("some/model", kind="text")  # not loaded yet
        >>> encoder
        PretrainedEncoder('some/model', kind='text')
    """

    def __init__(
        self,
        source: PathLike,
        kind: str | None = None,
        *,
        pooling: str | None = None,
        max_length: int | None = None,
        batch_size: int = 32,
        cache: PathLike | None = None,
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
        """Return self: an encoder is immutable, and models are large."""
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the model, which another process loads again."""
        lazy = ("files", "loaded")
        return {name: value for name, value in vars(self).items() if name not in lazy}

    @cached_property
    def files(self) -> ModelFiles:
        """Local files of the model.

        Raises:
            ConfigError: If the model is not on this machine.
        """
        return find_model_files(
            self.source, revision=self.revision, download=self.download
        )

    @cached_property
    def loaded(self) -> LoadedModel:
        """Model in memory, shared by equal encoders.

        Raises:
            ConfigError: If the model is not found or cannot be read.
        """
        device = torch.device(self.device or _default_device())
        key = (*self._identity, self.cache, device)
        model = _SHARED.get(key)
        if model is None:
            backbone, processor = self.load()
            backbone.to(device).requires_grad_(False)
            model = _SHARED[key] = LoadedModel(backbone, processor)
        return model

    def load(self) -> tuple[Backbone, Processor]:
        """Load a separate copy of the model, for fine-tuning.

        Returns:
            The model, and the processor of its input.

        Raises:
            ConfigError: If the model is not found or cannot be read.
        """
        backbone = load_backbone(self.files, self._kind, self.pooling)
        return backbone, Processor(self.files, backbone, self.max_length)

    @property
    def _identity(self) -> tuple[Any, ...]:
        """Key of everything that determines the vectors."""
        return (self.files.sha256, self._kind, self.pooling, self.max_length)

    @property
    def kind(self) -> EncoderKind:
        """Kind of input, "text", "image" or "audio": as given, or that of the model."""
        return self._kind or self.loaded.backbone.kind

    @property
    def space(self) -> tuple[str, ...]:
        """Key of the embedding space; vectors of equal keys are comparable."""
        backbone = self.loaded.backbone
        separate = () if backbone.joint else (backbone.kind, backbone.pooling)
        return (self.files.sha256, *separate)

    @property
    def channels(self) -> int:
        """Width ``C`` of a vector."""
        return self.encode([MINIMAL_INPUT[self.kind]], progress=False).shape[1]

    def encode(self, values: Values, *, progress: bool | None = None) -> FloatRows:
        """Return one vector for each value.

        Args:
            values: Texts; paths of image or audio files; images as ``[H, W, 3]`` arrays
                of uint8; or waveforms ``[T]`` at the sampling rate of the model. None
                is a missing value.
            progress: Show a progress bar; None shows it on a terminal only.

        Returns:
            Vectors, float32 ``[N, C]``; a row of NaN for a missing value.

        Raises:
            ConfigError: If the model is not found or cannot be read, or has another
                kind.
            DataError: If a value has another type, or a file cannot be read.
        """
        if isinstance(values, str) or not isinstance(values, Sequence | np.ndarray):
            raise DataError(
                f"values must be a list or array with one entry per sample, got "
                f"{type(values).__name__}."
            )
        kind = self.kind
        rows = [i for i, value in enumerate(values) if value is not None]
        keys = {i: digest_of(values[i], kind, i) for i in rows}
        vectors = self.loaded.features.find(set(keys.values()), self._folder)
        firsts = {key: i for i, key in reversed(keys.items()) if key not in vectors}
        if firsts:
            vectors |= self._compute(values, firsts, progress)
        width = len(next(iter(vectors.values()))) if vectors else self.channels
        table = np.full((len(values), width), np.nan, dtype=np.float32)
        for i, key in keys.items():
            table[i] = vectors[key]
        return table

    @property
    def _folder(self) -> Path | None:
        """Folder of the cached vectors of this model, pooling and length."""
        if self.cache is None:
            return None
        backbone, processor = self.loaded.backbone, self.loaded.processor
        parts = [self.files.sha256[:16], backbone.kind, backbone.pooling]
        return Path(self.cache) / "-".join([*parts, str(processor.max_length)])

    @torch.no_grad()
    def _compute(
        self, values: Values, firsts: dict[bytes, int], progress: bool | None
    ) -> dict[bytes, FloatRows]:
        """Return vectors by digest of the value, in batches of similar length."""
        length = len if self.kind == "text" else lambda _: 0
        order = sorted(firsts, key=lambda key: length(values[firsts[key]]))
        parts: list[FloatRows] = []
        name = Path(self.source).name
        with show_progress(f"encoding by {name}", len(order), progress) as report:
            for start in range(0, len(order), self.batch_size):
                keys = order[start : start + self.batch_size]
                prepared = self.loaded.processor([values[firsts[k]] for k in keys])
                parts.append(self._forward(prepared).cpu().numpy())
                report(start + len(keys))
        rows = np.concatenate(parts)
        self.loaded.features.add(order, rows, self._folder)
        return dict(zip(order, rows, strict=True))

    def _forward(self, rows: list[Row]) -> Tensor:
        """Return vectors ``[N, C]``; inputs of equal shape are computed together."""
        backbone = self.loaded.backbone
        device = next(backbone.parameters()).device
        if self.kind == "text":
            tokens = torch.from_numpy(np.concatenate(rows)).to(device)
            return backbone(*pad_tokens(tokens, [len(row) for row in rows])).float()
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault(row.shape, []).append(i)
        parts = [
            backbone(torch.from_numpy(np.stack([rows[i] for i in same])).to(device))
            for same in groups.values()
        ]
        order = torch.tensor([i for same in groups.values() for i in same])
        return torch.cat(parts)[order.argsort().to(device)].float()

    def describe(self) -> dict[str, Any]:
        """Return the configuration of the encoder as JSON, without weights."""
        return {
            "source": str(self.files.folder)
            if self.files.revision is None
            else self.source,
            "revision": self.files.revision,
            "sha256": self.files.sha256,
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
        given: "PathLike | PretrainedEncoder | None",
        device: str | None = None,
    ) -> "PretrainedEncoder":
        """Return the encoder of a configuration of :meth:`describe`.

        Args:
            name: Modality, for the message.
            described: Configuration.
            given: Current folder or name of the model, or an encoder of it; None for
                the source in the configuration.
            device: Device of the model; None for a GPU if available, else the CPU.

        Raises:
            CheckpointError: If the model is not found, or its files differ from those
                of the configuration.
        """
        options = dict(described)
        digest = options.pop("sha256")
        if isinstance(given, PretrainedEncoder):
            encoder = given
        else:
            if given is not None:
                options |= {"source": os.fspath(given), "revision": None}
            encoder = cls(**options, device=device)
        try:
            same = encoder.files.sha256 == digest
        except ConfigError as error:
            raise CheckpointError(
                f"Encoder of modality {name!r} must be at its original path. "
                f"{error.fault}",
                _remedy(name),
            ) from None
        if not same:
            raise CheckpointError(
                f"Encoder of modality {name!r} must be that of the training, with "
                f"SHA-256 {digest[:16]}, got other files in '{encoder.source}'.",
                _remedy(name),
            )
        return encoder


def _remedy(modality: str) -> Remedy:
    current = Argument("encoders", {modality: "path"})
    return "Give its current path: ", current, "."


def _check(name: str, value: object, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}.")


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
