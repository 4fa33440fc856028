"""From a text, picture or sound as it was given to what a processor takes.

Letters: ``T`` samples of a waveform, ``H`` and ``W`` pixels.
"""

import hashlib
from math import gcd
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.data.features.audio import read_audio
from mmgraph.data.features.image import open_image
from mmgraph.errors import DataError

TAKEN = {
    "text": "strings",
    "image": "paths of pictures, or arrays [H, W, 3] of uint8",
    "audio": "paths of sounds, or waveforms [T] at the rate of the model",
}


def digest_of(value: object, kind: str, number: int) -> bytes:
    """Return 16 bytes that stand for the content of a value.

    Args:
        value: A text; or the path of a picture or sound, whose bytes count; or an
            array.
        kind: "text", "image" or "audio".
        number: Of the value, for the message.

    Raises:
        DataError: A value of another type, or a file that is not there.
    """
    if kind == "text" and isinstance(value, str):
        return hashlib.blake2b(
            value.encode("utf-8", "surrogatepass"), digest_size=16
        ).digest()
    if kind != "text" and isinstance(value, str | Path):
        try:
            content = Path(value).read_bytes()
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
        f"Values to encode as {kind} must be {TAKEN[kind]}, got "
        f"{type(value).__name__}{shape} as value {number}."
    )


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def _fits(value: npt.NDArray[Any], kind: str) -> bool:
    if kind == "image":
        return value.ndim == 3 and value.shape[2] == 3 and value.dtype == np.uint8
    return value.ndim == 1 and value.dtype.kind == "f" and len(value) > 0


def as_picture(value: Any) -> npt.NDArray[np.uint8]:  # noqa: ANN401
    """Return a picture on white ground as RGB, ``[H, W, 3]``.

    Raises:
        ConfigError: Pillow is not installed.
        DataError: A file that is not a picture.
    """
    if isinstance(value, np.ndarray):
        return value
    return np.asarray(open_image(Path(value)), dtype=np.uint8)


def as_waveform(value: Any, rate: int, seconds: int) -> npt.NDArray[np.float32]:  # noqa: ANN401
    """Return the beginning of a sound at a sampling rate, ``[T]``.

    Args:
        value: Path of a file, or a waveform that has the rate.
        rate: Samples per second.
        seconds: What comes later is cut off.

    Raises:
        ConfigError: soundfile is needed and not installed.
        DataError: A file that is not a sound, or holds none.
    """
    if isinstance(value, np.ndarray):
        samples = value
    else:
        samples, own = read_audio(Path(value))
        if not len(samples):
            raise DataError(f"{value} must hold a sound, got one without a sample.")
        samples = _resampled(samples[: round(seconds * own)], own, rate)
    return samples[: round(seconds * rate)].astype(np.float32)


def _resampled(samples: npt.NDArray[Any], own: int, rate: int) -> npt.NDArray[Any]:
    if own == rate:
        return samples
    from scipy.signal import resample_poly

    common = gcd(own, rate)
    resampled: npt.NDArray[Any] = resample_poly(samples, rate // common, own // common)
    return resampled
