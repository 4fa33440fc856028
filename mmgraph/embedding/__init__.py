"""Shared embedding spaces of retriever and matcher.

Kernel ridge regression onto training pairs, class probabilities, weights of modalities,
hubness correction, and contrastive training of the residual graph network. Imported by
``estimators`` only; it may import ``experts`` and everything below.
"""
