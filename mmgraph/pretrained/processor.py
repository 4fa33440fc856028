"""Preprocessing: tokenizers, image processors and feature extractors of models.

Letters: ``T`` tokens, ``N`` values, ``L`` tokens of all values together.
"""

import json
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmgraph.errors import ConfigError
from mmgraph.pretrained.backbone import Backbone, load_part, quiet
from mmgraph.pretrained.media import as_image, as_waveform
from mmgraph.pretrained.model_files import ModelFiles

Row: TypeAlias = npt.NDArray[Any]
Values: TypeAlias = Sequence[Any] | npt.NDArray[Any]

NO_LIMIT = 1_000_000  # tokenizers without a limit have a much larger max_length
SECONDS = 30
LENGTH_FILE = "sentence_bert_config.json"


class Processor:
    """Tokenizer, image processor or feature extractor of a pretrained model.

    Args:
        files: Files of the model.
        backbone: Model whose input is prepared.
        max_length: Largest number of tokens of a text (None: the limit of the model),
            or duration of audio in seconds (None: 30). The rest is cut off.

    Raises:
        ConfigError: If the files of the processor are missing, or ``max_length``
            exceeds the limit of the model.
    """

    def __init__(
        self, files: ModelFiles, backbone: Backbone, max_length: int | None
    ) -> None:
        self.kind, self.input_name = backbone.kind, backbone.input_name
        self.tool = _load_tool(files, self.kind)
        self.max_length = max_length or SECONDS
        if self.kind == "text":
            limit = _longest(files, self.tool, backbone)
            if max_length is not None and max_length > limit:
                raise ConfigError(
                    f"max_length must be at most {limit}, the limit of "
                    f"'{files.name}', got {max_length}."
                )
            self.max_length = max_length or limit

    def __call__(self, values: Values) -> list[Row]:
        """Return the model input of each value: tokens ``[T]``, pixels or a waveform.

        Raises:
            DataError: If a file is not an image or audio file.
        """
        if self.kind == "text":
            return self._tokens(values)
        prepare = self._pixels if self.kind == "image" else self._waveform
        return [prepare(value) for value in values]

    def _tokens(self, texts: Values) -> list[Row]:
        if not len(texts):
            return []
        with quiet():
            token_ids = self.tool(
                list(texts),
                truncation=True,
                max_length=self.max_length,
                return_attention_mask=False,
            )["input_ids"]
        # a text without any token becomes one unknown token
        unknown = [self.tool.unk_token_id or self.tool.eos_token_id or 0]
        return [np.array(ids or unknown, dtype=np.int64) for ids in token_ids]

    def _pixels(self, value: Any) -> Row:  # noqa: ANN401
        processed = self.tool(
            images=as_image(value),
            return_tensors="np",
            input_data_format="channels_last",
        )
        return np.asarray(processed[self.input_name][0], dtype=np.float32)

    def _waveform(self, value: Any) -> Row:  # noqa: ANN401
        rate = int(self.tool.sampling_rate)
        wave = as_waveform(value, rate, self.max_length)
        processed = self.tool(wave, sampling_rate=rate, return_tensors="np")
        return np.asarray(processed[self.input_name][0], dtype=np.float32)


def pad_tokens(tokens: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return padded texts ``[N, T]``, and their attention mask ``[N, T]``.

    Args:
        tokens: ``[L]`` tokens of all texts together.
        lengths: ``N`` numbers of tokens.
    """
    length = torch.tensor(lengths, device=tokens.device)
    mask = torch.arange(max(lengths), device=tokens.device) < length[:, None]
    x = torch.zeros(mask.shape, dtype=tokens.dtype, device=tokens.device)
    x[mask] = tokens
    return x, mask.long()


def _load_tool(files: ModelFiles, kind: str) -> Any:  # noqa: ANN401
    loader, file, options = {
        "text": ("AutoTokenizer", "tokenizer.json", {}),
        "image": ("AutoImageProcessor", "preprocessor_config.json", {"backend": "pil"}),
        "audio": ("AutoFeatureExtractor", "preprocessor_config.json", {}),
    }[kind]
    rule = (
        f"contain the processor of its input (such as {file}) in a form that "
        "transformers reads without torchvision"
    )
    return load_part(files, loader, rule, options)


def _longest(files: ModelFiles, tokenizer: Any, backbone: Backbone) -> int:  # noqa: ANN401
    """Return the largest number of tokens that the model supports."""
    limits = [int(min(tokenizer.model_max_length, NO_LIMIT))]
    path = files.folder / LENGTH_FILE
    if path.is_file():
        limit = json.loads(path.read_text(encoding="utf-8")).get("max_seq_length")
        limits += [int(limit)] if limit else []
    config: Any = getattr(backbone.model, "config", None)
    config = getattr(config, "text_config", config)
    positions = getattr(config, "max_position_embeddings", None)
    if positions and min(limits) == NO_LIMIT:
        limits.append(int(positions) - 2)  # some models do not use the first two
    return min(limits)
