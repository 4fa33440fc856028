"""The command line."""

from mmgraph.cli.commands import app, main

__all__ = ["app", "main"]
