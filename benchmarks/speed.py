"""Compare the speed of mmgraph with other implementations, see ``--help``."""

import os

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler prints to stderr

from speed.program import main

if __name__ == "__main__":
    main()
