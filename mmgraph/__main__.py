"""`python -m mmgraph` is the command `mmgraph`."""

from mmgraph.cli import main

if __name__ == "__main__":
    main()
