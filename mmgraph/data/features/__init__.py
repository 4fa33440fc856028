"""Plain features of texts, images and audio, which need no pretrained model."""
