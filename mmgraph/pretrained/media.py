"""Input values of pretrained encoders: texts, images and audio.

Letters: ``T`` points of a waveform, ``H`` and ``W`` pixels.
"""

import hashlib
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph import files
from mmgraph.data.features.audio import read_audio
from mmgraph.data.features.image import open_image
from mmgraph.errors import DataError

READER = b"2"  # version of the reading of files; cached vectors of others are not used
ACCEPTED = {
    "text": "strings",
    "image": "paths of image files, or arrays [H, W, 3] of uint8",
    "audio": "paths of audio files, or waveforms [T] at the sampling rate of the model",
}


def digest_of(value: object, kind: str, number: int) -> bytes:
    """Return a 16-byte hash of the content of a value.

    Args:
        value: A text; the path of an image or audio file, whose content is hashed; or
            an array.
        kind: "text", "image" or "audio".
        number: Index of the value, for the message.

    Raises:
        DataError: If the value has another type, or the file does not exist.
    """
    if kind == "text" and isinstance(value, str):
        return _digest(value.encode("utf-8", "surrogatepass"))
    if kind != "text" and isinstance(value, str | Path):
        files.check_regular(Path(value), DataError)
        try:
            content = READER + Path(value).read_bytes()
        except OSError as error:
            raise DataError(
                f"Value {number} must be the path of a file, got '{value}': "
                f"{error.strerror}."
            ) from None
        return _digest(content)
    if kind != "text" and isinstance(value, np.ndarray) and _fits(value, kind):
        head = f"{value.dtype.str}{value.shape}".encode()
        content = np.ascontiguousarray(value).tobytes()
        return _digest(head + content)
    shape = f" of shape {list(value.shape)}" if isinstance(value, np.ndarray) else ""
    raise DataError(
        f"Values to encode as {kind} must be {ACCEPTED[kind]}, got "
        f"{type(value).__name__}{shape} as value {number}."
    )


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _fits(value: npt.NDArray[Any], kind: str) -> bool:
    if kind == "image":
        return value.ndim == 3 and value.shape[2] == 3 and value.dtype == np.uint8
    return value.ndim == 1 and value.dtype.kind == "f" and len(value) > 0


def as_image(value: Any) -> npt.NDArray[np.uint8]:  # noqa: ANN401
    """Return an image in RGB on a white background, ``[H, W, 3]``.

    Args:
        value: Path of an image file, or an array, which is returned unchanged.

    Raises:
        ConfigError: If Pillow is not installed.
        DataError: If the file is not an image.
    """
    if isinstance(value, np.ndarray):
        return value
    return np.asarray(open_image(Path(value)), dtype=np.uint8)


def as_waveform(value: Any, rate: int, seconds: int) -> npt.NDArray[np.float32]:  # noqa: ANN401
    """Return the beginning of an audio signal at a sampling rate, ``[T]``.

    Args:
        value: Path of an audio file, or a waveform at this rate.
        rate: Sampling rate, in Hz.
        seconds: Largest duration; the rest is cut off.

    Raises:
        ConfigError: If soundfile is required and not installed.
        DataError: If the file is not an audio file, or is empty.
    """
    if isinstance(value, np.ndarray):
        samples = value
    else:
        samples, file_rate = read_audio(Path(value))
        if not len(samples):
            raise DataError(f"{value} must contain an audio signal, got an empty one.")
        samples = _resample(samples[: round(seconds * file_rate)], file_rate, rate)
    return samples[: round(seconds * rate)].astype(np.float32)


def _resample(samples: npt.NDArray[Any], file_rate: int, rate: int) -> npt.NDArray[Any]:
    if file_rate == rate:
        return samples
    from scipy.signal import resample_poly

    common = gcd(file_rate, rate)
    resampled: npt.NDArray[Any] = resample_poly(
        samples, rate // common, file_rate // common
    )
    return resampled
