"""Feature vectors of fixed width per sample and modality.

Shapes: N samples, C channels, F features.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmgraph.data.column import Column
from mmgraph.data.features import VERSION
from mmgraph.data.features.audio import NUM_AUDIO_FEATURES, describe_audio
from mmgraph.data.features.image import NUM_IMAGE_FEATURES, describe_image
from mmgraph.data.features.suffixes import warn_about_paths
from mmgraph.data.features.text import NUM_TEXT_FEATURES, describe_texts
from mmgraph.ops import position_in, segment_statistics

NUM_PARTS = 4
# widths of the features of strings, by kind of the modality
NUM_FEATURES = {
    "text": NUM_TEXT_FEATURES,
    "tokens": NUM_TEXT_FEATURES,  # without a vocabulary
    "image": NUM_IMAGE_FEATURES,
    "audio": NUM_AUDIO_FEATURES,
}


def describe_rows(
    column: Column, kind: str, *, version: int = VERSION
) -> npt.NDArray[np.float32]:
    """Return one feature vector per sample.

    A single row is returned with one channel per category, and otherwise unchanged
    (F = C). A sequence becomes the mean, standard deviation, minimum, maximum and mean
    absolute difference of successive values of each channel, over all rows and over
    each quarter of them (F = 25 C), NaN where the channel was not observed. Text
    becomes hashed word counts of unit length (F = 256), an image color and edge
    features (384), audio log-mel statistics (64).

    Args:
        column: Rows of numbers, texts, or paths of image or audio files.
        kind: Kind of the modality.
        version: Version of the features of texts, images and audio.

    Returns:
        ``[N, F]``, all NaN where the modality is missing.

    Raises:
        DataError: If a file is not an image or audio file.
    """
    column = column.encode()
    if column.is_text:
        rows = _describe_raw(column, kind, version)
    elif column.ragged:
        lengths = torch.from_numpy(column.lengths[column.present])
        sample = torch.repeat_interleave(lengths)
        position = position_in(sample, len(lengths))
        values = torch.from_numpy(np.require(column.values, requirements="W"))
        rows = describe_sequences(values, sample, position, lengths).numpy()
    else:
        rows = column.values
    table = np.full((len(column), rows.shape[1]), np.nan, dtype=np.float32)
    table[column.present] = rows
    return table


def describe_sequences(
    x: Tensor, sample: Tensor, position: Tensor, lengths: Tensor
) -> Tensor:
    """Return summary statistics of sequences; see :func:`describe_rows`.

    Args:
        x: ``[L, C]`` rows of all sequences. Padding rows are all NaN and have the last
            position of their sequence.
        sample: ``[L]`` sequence of each row, ascending.
        position: ``[L]`` position of each row in its sequence, below its length.
        lengths: ``[n]`` number of rows of each sequence, at least 1.

    Returns:
        ``[n, 25 C]``.
    """
    num, width = lengths.shape[0], 5 * x.shape[1]
    part = NUM_PARTS * position // lengths[sample]
    whole = segment_statistics(x, sample, num)
    parts = segment_statistics(x, NUM_PARTS * sample + part, NUM_PARTS * num)
    return torch.cat([whole, parts.reshape(num, NUM_PARTS * width)], dim=1)


def _describe_raw(column: Column, kind: str, version: int) -> npt.NDArray[np.float32]:
    if kind not in ("image", "audio"):
        warn_about_paths(column.values)
        return describe_texts(column.values, version=version)
    describe = describe_image if kind == "image" else describe_audio
    rows = [describe(Path(path), version=version) for path in column.values]
    return np.concatenate(
        [np.empty((0, NUM_FEATURES[kind]), np.float32), *(row[None] for row in rows)]
    )
