"""Checks of the reliability of mmgraph, one row each; see SECURITY.md."""
