"""Handcrafted features of sequences, text, images and audio, without pretrained models.

They serve baselines and estimators as fixed-width inputs.
"""
