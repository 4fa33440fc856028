"""Cost of mmgraph relative to other implementations.

Parts: ``workloads`` (random incomplete batches), ``contenders`` (one step of each
layer on them), ``pairing`` (interleaved timing), ``parts`` (what is compared),
``report`` (table, summary, JSON), ``plotting``.
"""
