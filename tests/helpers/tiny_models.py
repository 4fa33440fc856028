"""Transformers models with random weights, a few kilobytes each."""

from pathlib import Path

import numpy as np
import torch

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
WORDS = (
    *("a", "red", "blue", "green", "bird", "car", "boat", "sings", "drives"),
    *("floats", "on", "the", "sea", "good", "bad"),
)
SIDE = 32


def save(model, tool, folder: Path) -> str:
    model.save_pretrained(folder)
    tool.save_pretrained(folder)
    return str(folder)


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", *WORDS])}
    tool = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tool.pre_tokenizer = pre_tokenizers.Whitespace()
    tool.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", special_tokens=[("[CLS]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tool, unk_token="[UNK]", pad_token="[PAD]"
    )


def make_text(folder: Path, seed: int = 0) -> str:
    from transformers import BertConfig, BertModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = BertConfig(
            **SMALL, vocab_size=len(WORDS) + 3, max_position_embeddings=20
        )
        config.initializer_range = 0.5
        return save(BertModel(config), tokenizer(), folder)


def make_image(folder: Path) -> str:
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = ViTConfig(**SMALL, image_size=SIDE, patch_size=8)
        tool = ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})
        return save(ViTModel(config, add_pooling_layer=False), tool, folder)


def make_audio(folder: Path) -> str:
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = Wav2Vec2Config(
            **SMALL,
            conv_dim=[8, 8],
            conv_stride=[5, 4],
            conv_kernel=[10, 8],
            num_feat_extract_layers=2,
            num_conv_pos_embeddings=4,
            num_conv_pos_embedding_groups=2,
        )
        return save(Wav2Vec2Model(config), Wav2Vec2FeatureExtractor(), folder)


def make_clip(folder: Path) -> str:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ends = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 0}
        text = {**SMALL, **ends, "vocab_size": len(WORDS) + 3}
        text["max_position_embeddings"] = 20
        image = {**SMALL, "image_size": SIDE, "patch_size": 8}
        config = CLIPConfig(text_config=text, vision_config=image, projection_dim=8)
        tool = CLIPImageProcessorPil(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
        )
        save(CLIPModel(config), tokenizer(), folder)
        tool.save_pretrained(folder)
        return str(folder)


MAKERS = {
    "text": make_text,
    "image": make_image,
    "audio": make_audio,
    "clip": make_clip,
}


def some_text(number: int) -> str:
    rng = np.random.default_rng(number)
    return " ".join(rng.choice(WORDS, size=1 + number % 7))


def some_picture(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    size = (20 + number % 3, 30 - number % 4, 3)
    return rng.integers(0, 256, size, dtype=np.uint8)


def some_sound(number: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    return rng.normal(size=2000 + 100 * (number % 3)).astype(np.float32)


SOME = {"text": some_text, "image": some_picture, "audio": some_sound}
