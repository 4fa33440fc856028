"""The benchmark: models compared on data sets under missing modalities.

The protocol fits every model on the same splits and scores it on the same mask plans.
Units of work (data set, model, train rate, split) are resumable; summaries, tables,
figures and the page are computed from their result lines. The package may import
everything but workflows and ``cli``.
"""

from mmgraph.benchmark.run import Outcome, Progress, run_bench

__all__ = ["Outcome", "Progress", "run_bench"]
