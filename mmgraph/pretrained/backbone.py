"""Pretrained models as functions from model inputs to one vector each.

Letters: ``N`` rows, ``T`` tokens, ``C`` channels of a vector.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgraph._random import separate_draws
from mmgraph.errors import ConfigError
from mmgraph.pretrained.model_files import EXTRA, POOLING_FILE, ModelFiles

EncoderKind: TypeAlias = Literal["text", "image", "audio"]
Pooling: TypeAlias = Literal["mean", "cls", "last", "pooler"]

KINDS = get_args(EncoderKind)
POOLINGS = get_args(Pooling)
INPUTS: dict[str, EncoderKind] = {
    "input_ids": "text",
    "pixel_values": "image",
    "input_values": "audio",
    "input_features": "audio",
}
UNREADABLE = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError)
CLASS_TOKENS = ("cls_token", "class_embedding")


class Backbone(nn.Module):
    """Transformers model with pooling.

    The model stays in evaluation mode, without dropout and with fixed statistics of
    batch normalization.

    Args:
        model: Transformers model.
        kind: Kind of input: "text", "image" or "audio".
        pooling: Pooling of the hidden states to one vector.
        normalize: Scale vectors to unit length.
        joint: The model has a shared embedding space of several kinds, which
            ``get_{kind}_features`` computes.
    """

    def __init__(
        self,
        model: nn.Module,
        kind: EncoderKind,
        pooling: Pooling,
        *,
        normalize: bool,
        joint: bool,
    ) -> None:
        super().__init__()
        self.model, self.kind, self.pooling = model, kind, pooling
        self.normalize, self.joint = normalize, joint
        self.eval()

    @property
    def input_name(self) -> str:
        """Name of the model's input."""
        name = str(getattr(self.model, "main_input_name", ""))
        fallback = {kind: name for name, kind in reversed(INPUTS.items())}
        return name if INPUTS.get(name) == self.kind else fallback[self.kind]

    def train(self, mode: bool = True) -> "Backbone":
        """Stay in evaluation mode, so that a vector depends on its input only."""
        return super().train(False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return one vector for each input, ``[N, C]``.

        Args:
            x: ``[N, T]`` tokens, ``[N, ...]`` pixels, or ``[N, ...]`` audio.
            mask: ``[N, T]`` attention mask, 1 for tokens and 0 for padding; or None.
        """
        inputs = {self.input_name: x}
        if mask is not None:
            inputs["attention_mask"] = mask
        if self.joint:
            output = getattr(self.model, f"get_{self.kind}_features")(**inputs)
            z = output if isinstance(output, Tensor) else output.pooler_output
        else:
            z = self._pool(self.model(**inputs), mask)
        return F.normalize(z, dim=-1) if self.normalize else z

    def _pool(self, output: Any, mask: Tensor | None) -> Tensor:  # noqa: ANN401
        if self.pooling == "pooler":
            pooled: Tensor = output.pooler_output
            return pooled.flatten(1)
        states: Tensor = output.last_hidden_state
        if states.ndim > 3:  # [N, C, height, width] of a convolutional network
            return states.flatten(2).mean(2)
        if self.pooling == "cls":
            return states[:, 0]
        if mask is None:
            return states[:, -1] if self.pooling == "last" else states.mean(1)
        if self.pooling == "last":
            rows = torch.arange(len(states), device=states.device)
            return states[rows, mask.sum(1) - 1]
        weight = mask[..., None].to(states.dtype)
        return (states * weight).sum(1) / weight.sum(1)


def load_backbone(
    files: ModelFiles, kind: EncoderKind | None, pooling: Pooling | None
) -> Backbone:
    """Load a model from its folder, in single precision.

    Args:
        files: Files of the model.
        kind: Kind of input; None for that of the model.
        pooling: Pooling; None for the configured pooling of a sentence-transformers
            model, else the class token of image models that have one, else the mean.

    Raises:
        ConfigError: If transformers is not installed or cannot read the model, weights
            are missing, or the model does not support the kind.
    """
    model = _load_model(files, needs_pooler=pooling == "pooler")
    input_name = str(getattr(model, "main_input_name", ""))
    joint = hasattr(model, "get_text_features") and [
        each for each in KINDS if hasattr(model, f"get_{each}_features")
    ]
    if joint:
        kinds = list(joint)
    else:
        kinds = [INPUTS[input_name]] if input_name in INPUTS else []
    if kind is None and len(kinds) == 1:
        kind = kinds[0]
    if kind is None or kind not in kinds:
        raise ConfigError(
            f"kind of encoder '{files.name}' must be one that it supports "
            f"({' or '.join(kinds) or 'none'}), got {kind!r}. Give "
            f"PretrainedEncoder('{files.name}', kind=...), or use another model."
        )
    normalize = False
    if pooling is None:
        pooling, normalize = _sentence_pooling(files)
        if kind == "image" and _has_class_token(model):
            pooling = "cls"
    if not joint and getattr(model.config, "is_encoder_decoder", False):
        model = model.get_encoder()
    return Backbone(
        model.float(),
        kind,
        pooling,
        normalize=normalize,
        joint=bool(joint),
    )


def _load_model(files: ModelFiles, *, needs_pooler: bool) -> Any:  # noqa: ANN401
    model, info = load_part(
        files,
        "AutoModel",
        "be a model that transformers can read",
        {"use_safetensors": True, "output_loading_info": True},
    )
    missing = sorted(map(str, info["missing_keys"]))
    missing = [name for name in missing if needs_pooler or "pooler" not in name]
    if missing:
        raise ConfigError(
            f"Encoder '{files.name}' must contain all weights of its architecture, got "
            f"{len(missing)} without values, such as {missing[0]}. Save it again."
        )
    return model


def load_part(
    files: ModelFiles, loader: str, rule: str, options: Mapping[str, object]
) -> Any:  # noqa: ANN401
    """Load a part of a model by transformers, offline and without executing its code.

    Args:
        files: Files of the model.
        loader: Name of the class of transformers that reads the part.
        rule: Requirement for the error message, such as "be a model ...".
        options: Keyword arguments of the loader.

    Raises:
        ConfigError: If transformers is not installed or cannot read the part.
    """
    try:
        import transformers
    except ImportError:
        raise ConfigError(
            f"Encoder '{files.name}' requires transformers, which is not installed. "
            f"{EXTRA}"
        ) from None
    try:
        with quiet(), separate_draws():  # of weights that the files lack
            return getattr(transformers, loader).from_pretrained(
                files.folder,
                local_files_only=True,
                trust_remote_code=False,
                **options,
            )
    except UNREADABLE as error:
        raise ConfigError(f"Encoder '{files.name}' must {rule}, got: {error}") from None


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress progress bars and log messages of transformers."""
    from transformers.utils import logging

    shown, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if shown:
            logging.enable_progress_bar()


def _has_class_token(model: nn.Module) -> bool:
    return any(name.endswith(CLASS_TOKENS) for name, _ in model.named_parameters())


def _sentence_pooling(files: ModelFiles) -> tuple[Pooling, bool]:
    """Return pooling and normalization of a sentence-transformers model.

    Other models have the pooling "mean", without normalization.

    References:
        Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks. Reimers and
        Gurevych, 2019.

    Raises:
        ConfigError: If the configured pooling is not supported.
    """
    path = files.folder / POOLING_FILE
    if not path.is_file():
        return "mean", False
    config = json.loads(path.read_text(encoding="utf-8"))
    chosen = [k for k, on in config.items() if k.startswith("pooling_mode_") and on]
    names: dict[str, Pooling] = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_lasttoken": "last",
    }
    if len(chosen) != 1 or chosen[0] not in names:
        raise ConfigError(
            f"Encoder '{files.name}' must have one pooling of {', '.join(names)}, got "
            f"{', '.join(chosen) or 'none'}. Give one, such as pooling='mean'."
        )
    modules = files.folder / "modules.json"
    normalize = modules.is_file() and "Normalize" in modules.read_text(encoding="utf-8")
    return names[chosen[0]], normalize
