"""Compare the cost of mmgraph with its distributed_errors: ``python benchmarks/speed.py --help``."""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler talks to stderr

from speed.program import main

if __name__ == "__main__":
    main()
