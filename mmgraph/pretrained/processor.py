"""From values to the rows that a pretrained model takes.

Letters: ``T`` tokens, ``N`` rows.
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
from mmgraph.pretrained.media import as_picture, as_waveform
from mmgraph.pretrained.model_files import Source

Row: TypeAlias = npt.NDArray[Any]
Values: TypeAlias = Sequence[Any] | npt.NDArray[Any]

UNKNOWN = 1_000_000  # a tokenizer without a limit says a much greater number
SECONDS = 30
LENGTH_FILE = "sentence_bert_config.json"


class Processor:
    """A model's own tokenizer, image processor or feature extractor.

    Args:
        source: Where it is.
        backbone: The model.
        max_length: Most tokens of a text (None: what the model takes), most seconds of
            a sound (None: 30). The rest is cut off.

    Raises:
        ConfigError: The folder does not have it, or the length is too great.
    """

    def __init__(
        self, source: Source, backbone: Backbone, max_length: int | None
    ) -> None:
        self.kind, self.input_name = backbone.kind, backbone.input_name
        self.tool = _load_tool(source, self.kind)
        self.max_length = max_length or SECONDS
        if self.kind == "text":
            limit = _longest(source, self.tool, backbone)
            if max_length is not None and max_length > limit:
                raise ConfigError(
                    f"max_length must be at most {limit}, which is what "
                    f"'{source.name}' takes, got {max_length}."
                )
            self.max_length = max_length or limit

    def __call__(self, values: Values) -> list[Row]:
        """Return the row of each value: ``[T]`` tokens, or an array of another shape.

        Raises:
            DataError: A file that is no picture or sound.
        """
        if self.kind == "text":
            return self._tokens(values)
        prepare = self._pixels if self.kind == "image" else self._sound
        return [prepare(value) for value in values]

    def _tokens(self, texts: Values) -> list[Row]:
        if not len(texts):
            return []
        with quiet():
            found = self.tool(
                list(texts),
                truncation=True,
                max_length=self.max_length,
                return_attention_mask=False,
            )["input_ids"]
        # of a text that the tokenizer leaves nothing of, something has to be read
        nothing = [self.tool.unk_token_id or self.tool.eos_token_id or 0]
        return [np.array(ids or nothing, dtype=np.int64) for ids in found]

    def _pixels(self, value: Any) -> Row:  # noqa: ANN401
        made = self.tool(
            images=as_picture(value),
            return_tensors="np",
            input_data_format="channels_last",
        )
        return np.asarray(made[self.input_name][0], dtype=np.float32)

    def _sound(self, value: Any) -> Row:  # noqa: ANN401
        rate = int(self.tool.sampling_rate)
        wave = as_waveform(value, rate, self.max_length)
        made = self.tool(wave, sampling_rate=rate, return_tensors="np")
        return np.asarray(made[self.input_name][0], dtype=np.float32)


def pad_tokens(tokens: Tensor, lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return texts ``[N, T]`` and the mask of what is no padding.

    Args:
        tokens: ``[L]`` of all texts together.
        lengths: ``N`` numbers of tokens.
    """
    length = torch.tensor(lengths, device=tokens.device)
    mask = torch.arange(max(lengths), device=tokens.device) < length[:, None]
    x = torch.zeros(mask.shape, dtype=tokens.dtype, device=tokens.device)
    x[mask] = tokens
    return x, mask.long()


def _load_tool(source: Source, kind: str) -> Any:  # noqa: ANN401
    loader, file, options = {
        "text": ("AutoTokenizer", "tokenizer.json", {}),
        "image": ("AutoImageProcessor", "preprocessor_config.json", {"backend": "pil"}),
        "audio": ("AutoFeatureExtractor", "preprocessor_config.json", {}),
    }[kind]
    rule = (
        f"hold what prepares its input ({file} or the like) in a form that "
        "transformers reads without torchvision"
    )
    return load_part(source, loader, rule, options)


def _longest(source: Source, tokenizer: Any, backbone: Backbone) -> int:  # noqa: ANN401
    """Return how many tokens the model takes at most."""
    found = [int(min(tokenizer.model_max_length, UNKNOWN))]
    path = source.folder / LENGTH_FILE
    if path.is_file():
        said = json.loads(path.read_text(encoding="utf-8")).get("max_seq_length")
        found += [int(said)] if said else []
    config: Any = getattr(backbone.model, "config", None)
    config = getattr(config, "text_config", config)
    places = getattr(config, "max_position_embeddings", None)
    if places and min(found) == UNKNOWN:
        found.append(int(places) - 2)  # some models leave the first two unused
    return min(found)
