"""A pretrained model as a map from prepared rows to one vector each.

Letters: ``N`` rows, ``T`` tokens, ``C`` channels of a vector.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgraph.errors import ConfigError
from mmgraph.pretrained.model_files import EXTRA, POOLING, Source

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
    """A transformers model and what is read of it.

    Args:
        model: The model, in evaluation mode: no dropout, and statistics of batch
            normalization as they were learned.
        kind: What it reads.
        pooling: How states become one vector.
        normalize: Give vectors unit length.
        joint: It has one space for several kinds, read by ``get_{kind}_features``.
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
        """What the model calls its input."""
        name = str(getattr(self.model, "main_input_name", ""))
        fallback = {kind: name for name, kind in reversed(INPUTS.items())}
        return name if INPUTS.get(name) == self.kind else fallback[self.kind]

    def train(self, mode: bool = True) -> "Backbone":
        """Stay in evaluation mode: what a row becomes depends on nothing else."""
        return super().train(False)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return one vector for each row, ``[N, C]``.

        Args:
            x: ``[N, T]`` tokens, ``[N, ...]`` pixels or sounds.
            mask: ``[N, T]`` one where there is a token, zero where there is padding.
        """
        inputs = {self.input_name: x}
        if mask is not None:
            inputs["attention_mask"] = mask
        if self.joint:
            answer = getattr(self.model, f"get_{self.kind}_features")(**inputs)
            z = answer if isinstance(answer, Tensor) else answer.pooler_output
        else:
            z = self._pool(self.model(**inputs), mask)
        return F.normalize(z, dim=-1) if self.normalize else z

    def _pool(self, answer: Any, mask: Tensor | None) -> Tensor:  # noqa: ANN401
        if self.pooling == "pooler":
            pooled: Tensor = answer.pooler_output
            return pooled.flatten(1)
        states: Tensor = answer.last_hidden_state
        if states.ndim > 3:  # [N, C, height, width] of a convolutional network
            return states.flatten(2).mean(2)
        if self.pooling == "cls":
            return states[:, 0]
        if mask is None:
            return states[:, -1] if self.pooling == "last" else states.mean(1)
        if self.pooling == "last":
            rows = torch.arange(len(states), device=states.device)
            return states[rows, mask.sum(1) - 1]
        there = mask[..., None].to(states.dtype)
        return (states * there).sum(1) / there.sum(1)


def load_backbone(
    source: Source, kind: EncoderKind | None, pooling: Pooling | None
) -> Backbone:
    """Load a model from its folder, in single precision.

    Args:
        source: Where it is.
        kind: What it shall read; None: what it was made for.
        pooling: None: what its folder says (sentence-transformers), else the class
            token of pictures where there is one, else the mean.

    Raises:
        ConfigError: transformers is not installed or cannot read the model; weights
            are missing; or the model takes another kind.
    """
    model = _load_model(source, needs_pooler=pooling == "pooler")
    takes = str(getattr(model, "main_input_name", ""))
    joint = hasattr(model, "get_text_features") and [
        each for each in KINDS if hasattr(model, f"get_{each}_features")
    ]
    known = list(joint) if joint else [INPUTS[takes]] if takes in INPUTS else []
    if kind is None and len(known) == 1:
        kind = known[0]
    if kind is None or kind not in known:
        raise ConfigError(
            f"Encoder '{source.name}' must be asked for a kind that it takes, "
            f"{' or '.join(known) or 'none of those known'}, got {kind!r}. Name it: "
            f"PretrainedEncoder('{source.name}', kind=...), or give another model."
        )
    normalize = False
    if pooling is None:
        pooling, normalize = _sentence_pooling(source)
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


def _load_model(source: Source, *, needs_pooler: bool) -> Any:  # noqa: ANN401
    model, facts = load_part(
        source,
        "AutoModel",
        "be a model that transformers reads",
        {"use_safetensors": True, "output_loading_info": True},
    )
    missing = sorted(map(str, facts["missing_keys"]))
    missing = [name for name in missing if needs_pooler or "pooler" not in name]
    if missing:
        raise ConfigError(
            f"Encoder '{source.name}' must hold all weights of its architecture, got "
            f"none for {len(missing)}, such as {missing[0]}."
        )
    return model


def load_part(
    source: Source, loader: str, rule: str, options: Mapping[str, object]
) -> Any:  # noqa: ANN401
    """Load what transformers reads from a folder: only data, from nowhere else.

    Args:
        source: Where it is.
        loader: The class of transformers that reads it.
        rule: What the encoder must be or hold, for the error.
        options: Of the loader.

    Raises:
        ConfigError: transformers is not installed or cannot read it.
    """
    try:
        import transformers
    except ImportError:
        raise ConfigError(
            f"Encoder '{source.name}' needs transformers, which is not installed. "
            f"{EXTRA}"
        ) from None
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            return getattr(transformers, loader).from_pretrained(
                source.folder,
                local_files_only=True,
                trust_remote_code=False,
                **options,
            )
    except UNREADABLE as error:
        raise ConfigError(
            f"Encoder '{source.name}' must {rule}, got: {error}"
        ) from None


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from writing to the terminal what nobody asked for."""
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


def _sentence_pooling(source: Source) -> tuple[Pooling, bool]:
    """Return what a folder of sentence-transformers says of pooling and length.

    References:
        Sentence-BERT: Sentence Embeddings using Siamese BERT-Networks. Reimers and
        Gurevych, 2019.

    Raises:
        ConfigError: A pooling that is not known here.
    """
    path = source.folder / POOLING
    if not path.is_file():
        return "mean", False
    facts = json.loads(path.read_text(encoding="utf-8"))
    chosen = [k for k, on in facts.items() if k.startswith("pooling_mode_") and on]
    names: dict[str, Pooling] = {
        "pooling_mode_mean_tokens": "mean",
        "pooling_mode_cls_token": "cls",
        "pooling_mode_lasttoken": "last",
    }
    if len(chosen) != 1 or chosen[0] not in names:
        raise ConfigError(
            f"Encoder '{source.name}' must pool by one of {', '.join(names)}, got "
            f"{', '.join(chosen) or 'nothing'}. Name it: pooling='mean'."
        )
    modules = source.folder / "modules.json"
    normalize = modules.is_file() and "Normalize" in modules.read_text(encoding="utf-8")
    return names[chosen[0]], normalize
