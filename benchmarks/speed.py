"""Compare the cost of mmgraph with its peers: ``python benchmarks/speed.py --help``."""

from speed.program import main

if __name__ == "__main__":
    main()
