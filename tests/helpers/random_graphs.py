"""Random ragged graphs for the tests of graphs and of what runs on them."""

import torch

from mmgraph.graph import NodeSet
from mmgraph.graph.graph import Graph
from mmgraph.schema import (
    Custom,
    Full,
    KNearest,
    Relation,
    SameIndex,
    TimeWindow,
)


def node_set(counts, *, timed=False, generator=None, dtype=torch.float64, step=0.25):
    """Nodes of samples with so many each; times on a grid, so that ties happen."""
    sample = torch.repeat_interleave(torch.tensor(counts, dtype=torch.long))
    time = None
    if timed:
        ticks = torch.randint(0, 7, (len(sample),), generator=generator)
        time = (torch.sort(sample * 100 + ticks).values - sample * 100).to(dtype) * step
    return NodeSet(sample, len(counts), time)


def random_counts(num_samples, high, generator):
    return torch.randint(0, high, (num_samples,), generator=generator).tolist()


def ragged_graph(seed=0, num_samples=6):
    """Timed a and b, untimed c, latent f.

    Corners: sample 0 has nothing but f, sample 1 no a, sample 2 only one a; types c
    and b are missing in other samples too.
    """
    generator = torch.Generator().manual_seed(seed)
    a = [0, 0, 1, *random_counts(num_samples - 3, 6, generator)]
    b = [0, 2, 0, *random_counts(num_samples - 3, 4, generator)]
    c = [0, 1, 0, *random_counts(num_samples - 3, 2, generator)]
    nodes = {
        "a": node_set(a, timed=True, generator=generator),
        "b": node_set(b, timed=True, generator=generator),
        "c": node_set(c),
        "f": node_set([2] * num_samples),
    }
    return Graph(nodes, num_samples)


def every_second(source, target):
    """Pairs of a sample with an even sum of positions, in no order, some twice."""
    same = source.sample[:, None] == target.sample[None, :]
    even = (source.position[:, None] + target.position[None, :]) % 2 == 0
    edge_index = torch.nonzero(same & even).T
    return torch.cat([edge_index.flip(1), edge_index[:, :2]], dim=1)


TOPOLOGIES = {
    "full": Full(),
    "same_index": SameIndex(),
    "window": TimeWindow(0.5),
    "window_zero": TimeWindow(0.0),
    "nearest_1": KNearest(1),
    "nearest_3": KNearest(3),
    "custom": Custom(every_second, "every_second"),
}


def mixed_relations(topology):
    """Two relations between the same types, self and cross relations, a latent."""
    return [
        Relation("a", "a", "r", topology),
        Relation("a", "b", "r", topology),
        Relation("a", "b"),
        Relation("b", "a"),
        Relation("c", "a"),
        Relation("a", "f"),
        Relation("b", "f"),
        Relation("f", "c"),
    ]
