"""The command line."""

from mmgraph.cli import embedding as embedding  # adds its command to the app
from mmgraph.cli.commands import app, main

__all__ = ["app", "main"]
