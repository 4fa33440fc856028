"""Pretrained encoders of text, image and audio, as models of `transformers`.

Models are read from local folders or the local cache of the Hugging Face Hub, with
weights as safetensors only. The folder depends on ``data``; ``nn`` and ``estimators``
use it.
"""

from mmgraph.pretrained.encoder import PretrainedEncoder

__all__ = ["PretrainedEncoder"]
