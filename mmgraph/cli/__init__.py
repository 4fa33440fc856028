"""Command line: one file per command.

A command parses its options, calls one function of ``workflows`` and prints the result.
Only this package prints.
"""

from mmgraph.cli import align as align  # each module adds its command to the app
from mmgraph.cli import bench as bench
from mmgraph.cli import contributions as contributions
from mmgraph.cli import datasets as datasets
from mmgraph.cli import evaluate as evaluate
from mmgraph.cli import explore as explore
from mmgraph.cli import export as export
from mmgraph.cli import info as info
from mmgraph.cli import predict as predict
from mmgraph.cli import report as report
from mmgraph.cli import schema as schema
from mmgraph.cli import search as search
from mmgraph.cli import serve as serve
from mmgraph.cli import train as train
from mmgraph.cli.app import app, main

__all__ = ["app", "main"]
