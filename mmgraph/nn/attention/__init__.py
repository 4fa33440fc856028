"""Execution paths of relational attention: dense, packed, sparse and compiled.

:class:`mmgraph.nn.RelationalAttention` holds the parameters and selects the path; no
other module imports from here.
"""
