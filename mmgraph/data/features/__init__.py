"""Handcrafted features of sequences, text, images and audio, without pretrained models.

They serve baselines and estimators as fixed-width inputs. Saved models keep the version
of the features that they were trained with: version 1 is that of mmgraph 0.2.
"""

VERSION = 2
