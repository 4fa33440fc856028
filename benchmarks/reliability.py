"""Measure the reliability of mmgraph, one row a promise, see ``--help``."""

from reliability.program import main

if __name__ == "__main__":
    main()
