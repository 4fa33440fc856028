"""Building blocks of a fusion model: encoders, graph layers, readouts, heads, pooling.

The blocks are independent of each other; :class:`mmgraph.FusionModel` combines them.
The folder depends on ``graph``, ``losses`` and ``pretrained``.
"""

from mmgraph.nn.attention.sparse import Attention
from mmgraph.nn.completion import CompletionDecoder
from mmgraph.nn.conv import RelationalAttention
from mmgraph.nn.encoders import (
    EmbeddingEncoder,
    Encoded,
    SequenceEncoder,
    VectorEncoder,
)
from mmgraph.nn.evidence_pool import EvidencePool
from mmgraph.nn.fusion import (
    ConcatFusion,
    FusionOperator,
    GatedFusion,
    LowRankFusion,
    MaxFusion,
    MeanFusion,
    ProductFusion,
    SumFusion,
)
from mmgraph.nn.heads import Classification, Head, MultiLabel, Regression, Survival
from mmgraph.nn.hgt import HGTLayer, relational_from_hgt
from mmgraph.nn.layer import FeedForward, GraphLayer, MixtureFeedForward
from mmgraph.nn.pyg import PyGConv
from mmgraph.nn.readout import (
    AttentionReadout,
    FuseReadout,
    FusionReadout,
    MaxReadout,
    MeanReadout,
)

__all__ = [
    "Attention",
    "AttentionReadout",
    "Classification",
    "CompletionDecoder",
    "ConcatFusion",
    "EmbeddingEncoder",
    "Encoded",
    "EvidencePool",
    "FeedForward",
    "FuseReadout",
    "FusionOperator",
    "FusionReadout",
    "GatedFusion",
    "GraphLayer",
    "HGTLayer",
    "Head",
    "LowRankFusion",
    "MaxFusion",
    "MaxReadout",
    "MeanFusion",
    "MeanReadout",
    "MixtureFeedForward",
    "MultiLabel",
    "ProductFusion",
    "PyGConv",
    "Regression",
    "RelationalAttention",
    "SequenceEncoder",
    "SumFusion",
    "Survival",
    "VectorEncoder",
    "relational_from_hgt",
]
