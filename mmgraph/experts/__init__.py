"""Base learners of a stacked ensemble and their combination.

Linear, spline and forest learners of one modality, random and boosted trees of all
modalities, out-of-fold evidence, and the log-linear opinion pool. Imported by
``embedding`` and ``estimators``; it may import ``train``, ``model``, ``nn`` and below.
"""
