"""The protocol: data set x model x missing rate x split, as resumable units."""

from mmgraph.benchmark.run import Outcome, Progress, run_bench

__all__ = ["Outcome", "Progress", "run_bench"]
