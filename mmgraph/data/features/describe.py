"""One vector of fixed width per sample and modality, for models that need one.

Shapes: N samples, C channels, F features.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmgraph.data.column import Column
from mmgraph.data.features.audio import NUM_SOUND_FEATURES, describe_sound
from mmgraph.data.features.image import NUM_PICTURE_FEATURES, describe_picture
from mmgraph.ops import position_in, segment_statistics

NUM_PARTS = 4
NUM_TEXT_FEATURES = 256
# of what is not numbers, by the kind of the modality
NUM_FEATURES = {
    "text": NUM_TEXT_FEATURES,
    "image": NUM_PICTURE_FEATURES,
    "audio": NUM_SOUND_FEATURES,
}


def describe_rows(column: Column, kind: str) -> npt.NDArray[np.float32]:
    """Describe each sample's rows by one vector; all NaN where it has none.

    A single row is its own description (F = C). A sequence is described by mean,
    standard deviation, minimum, maximum and mean absolute step of each channel, over
    the whole and over each quarter of its rows (F = 25 C); NaN where a channel was
    not observed there. Text is described by hashed word counts of unit length
    (F = 256), a picture by its colours and edges (384), a sound by its spectrum (64).

    Args:
        column: Rows of numbers, texts, or paths of pictures or sounds.
        kind: Of the modality.

    Returns:
        ``[N, F]``.

    Raises:
        DataError: A file that is no picture or sound.
    """
    if column.is_text:
        rows = _describe_raw(column, kind)
    elif column.ragged:
        lengths = torch.from_numpy(column.lengths[column.present])
        sample = torch.repeat_interleave(lengths)
        position = position_in(sample, len(lengths))
        values = torch.from_numpy(column.values)
        rows = describe_sequences(values, sample, position, lengths).numpy()
    else:
        rows = column.values
    table = np.full((len(column), rows.shape[1]), np.nan, dtype=np.float32)
    table[column.present] = rows
    return table


def describe_sequences(
    x: Tensor, sample: Tensor, position: Tensor, lengths: Tensor
) -> Tensor:
    """Return ``[n, 25 C]`` of n sequences; see :func:`describe_rows`.

    Args:
        x: ``[L, C]`` rows of all sequences; all-NaN ones at the end of a sequence add
            nothing to it where they stand at its last place.
        sample: ``[L]`` ascending sequence of each row.
        position: ``[L]`` place of each row in its sequence, below its length.
        lengths: ``[n]``, at least 1.
    """
    num, width = lengths.shape[0], 5 * x.shape[1]
    part = NUM_PARTS * position // lengths[sample]
    whole = segment_statistics(x, sample, num)
    parts = segment_statistics(x, NUM_PARTS * sample + part, NUM_PARTS * num)
    return torch.cat([whole, parts.reshape(num, NUM_PARTS * width)], dim=1)


def _describe_raw(column: Column, kind: str) -> npt.NDArray[np.float32]:
    if kind not in ("image", "audio"):
        return _hash_words(column)
    describe = describe_picture if kind == "image" else describe_sound
    rows = [describe(Path(path)) for path in column.values]
    return np.concatenate(
        [np.empty((0, NUM_FEATURES[kind]), np.float32), *(row[None] for row in rows)]
    )


def _hash_words(column: Column) -> npt.NDArray[np.float32]:
    from sklearn.feature_extraction.text import HashingVectorizer

    if not len(column.values):
        return np.empty((0, NUM_TEXT_FEATURES), dtype=np.float32)
    hasher = HashingVectorizer(n_features=NUM_TEXT_FEATURES, dtype=np.float32)
    return np.asarray(hasher.transform(column.values).toarray(), dtype=np.float32)
