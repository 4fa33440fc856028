"""The command line."""

from mmgraph.cli import asking as asking  # adds its commands to the app
from mmgraph.cli import benching as benching
from mmgraph.cli import evaluating as evaluating
from mmgraph.cli import exporting as exporting
from mmgraph.cli import searching as searching
from mmgraph.cli import training as training
from mmgraph.cli.commands import app, main

__all__ = ["app", "main"]
