"""Suffixes of image and audio files, and texts that are paths of such files."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmgraph.data.notices import warn

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif"),
    *(".tiff", ".jp2", ".ppm", ".pgm", ".pbm", ".pnm"),
)
AUDIO_SUFFIXES = (
    *(".wav", ".ogg", ".oga", ".opus", ".flac", ".mp3", ".aif", ".aiff", ".au"),
    *(".caf", ".w64"),
)


def warn_about_paths(texts: Sequence[str] | npt.NDArray[np.object_]) -> None:
    """Warn if most texts are paths of image or audio files.

    Args:
        texts: Texts whose words are about to be read.
    """
    for kind, suffixes in (("image", IMAGE_SUFFIXES), ("audio", AUDIO_SUFFIXES)):
        paths = [text for text in texts if text.strip().lower().endswith(suffixes)]
        if len(paths) * 2 > len(texts):
            warn(
                f"Texts such as {paths[0]!r} are paths of {kind} files; their words "
                f"are read, not the files. Give the modality the kind {kind!r} in a "
                "schema, or a pretrained encoder, to read the files."
            )
