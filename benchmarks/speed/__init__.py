"""What mmgraph costs beside other ways to compute the same, as ratios.

Parts: ``workloads`` (random incomplete batches), ``contenders`` (one step of each
layer on them), ``pairing`` (interleaved timing), ``parts`` (what is compared),
``report`` (table, summary, JSON), ``plotting``.
"""
