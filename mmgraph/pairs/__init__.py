"""How well sides of samples are found and matched: what is asked, and the scores.

A side is some of the modalities of a sample. Letters: `N` samples, `Q` queries, `G`
gallery entries.
"""

from mmgraph.pairs.finding import score_finding
from mmgraph.pairs.matching import score_matching
from mmgraph.pairs.partners import HARD, draw_partners, side_vectors
from mmgraph.pairs.sides import Direction, contents, firsts, has_any, related

__all__ = [
    "HARD",
    "Direction",
    "contents",
    "draw_partners",
    "firsts",
    "has_any",
    "related",
    "score_finding",
    "score_matching",
    "side_vectors",
]
