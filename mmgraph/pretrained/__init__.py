"""Frozen models of `transformers` that turn texts, pictures and sounds into vectors."""

from mmgraph.pretrained.encoder import PretrainedEncoder

__all__ = ["PretrainedEncoder"]
