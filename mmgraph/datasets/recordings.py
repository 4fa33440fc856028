"""Converters of public recordings: sequences of several sensors with their own clocks.

Letters: ``N`` samples, ``L`` rows of all sequences, ``n`` rows of one sequence, ``P``
points of a grid, ``C`` channels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mmgraph.data import MultimodalData

Arrays: TypeAlias = Mapping[str, NDArray[Any]]
FloatArray: TypeAlias = NDArray[np.float64]

INERTIAL_RATE = 50.0  # Hz, nominal (UTD-MHAD)
BANDS = ("g", "r", "i", "z")
DAY = 86_400.0  # seconds
GRID_DAYS, SMOOTHING_DAYS = 3.0, 6.0
FLUX_UNIT = 8.0  # around which arcsinh turns from linear to logarithmic
WEARABLES = ("phone_acc", "phone_gyro", "watch_acc", "watch_gyro")
FRAME_RATE, VOICE_RATE = 25.0, 100.0  # Hz (GRID)
LETTER, MARGIN = 3, 6.0  # index of the word, frames around it
LIPS_WIDTH = 6, 8  # lowest spatial frequencies of the images of lips


def smooth_with_errors(
    times: FloatArray,
    values: FloatArray,
    errors: FloatArray,
    grid: FloatArray,
    width: float,
) -> tuple[FloatArray, FloatArray]:
    """Average measurements around the points of a grid by their precision.

    The weight of a measurement is a Gaussian of its distance in time, divided by the
    square of its standard error. A point far from all measurements gets the value of
    the nearest one, and a large standard error.

    Args:
        times: ``[n]``.
        values: ``[n]``.
        errors: ``[n]`` standard errors, above 0.
        grid: ``[P]`` points in the unit of the times.
        width: Standard deviation of the Gaussian.

    Returns:
        ``[P]`` means, and ``[P]`` sums of the weights: their precisions if the
        measurements are independent and lie at the point.
    """
    distance = (grid[:, None] - times) / width
    exponent = -0.5 * distance**2 - 2 * np.log(errors)
    largest = exponent.max(axis=1, keepdims=True)
    weight = np.exp(exponent - largest)
    total = weight.sum(axis=1)
    return weight @ values / total, total * np.exp(largest[:, 0])


def utd_mhad(arrays: Arrays) -> MultimodalData:
    """Three sequences; odd subjects for training, even subjects for testing.

    The clocks of camera and sensor disagree. A skeleton is stretched to the seconds of
    the sensor, so that equal times are equal shares of the recording.
    """
    inertial, skeleton = arrays["inertial_offsets"], arrays["skeleton_offsets"]
    steps, frames = np.diff(inertial), np.diff(skeleton)
    frame_rate = INERTIAL_RATE * np.maximum(frames - 1, 1) / np.maximum(steps - 1, 1)
    subject = arrays["subject"]
    keys = zip(arrays["action"] + 1, subject, arrays["trial"], strict=True)
    return MultimodalData.from_arrays(
        {
            "acc": np.split(arrays["acc"], inertial[1:-1]),
            "gyro": np.split(arrays["gyro"], inertial[1:-1]),
            "skeleton": np.split(arrays["skeleton"], skeleton[1:-1]),
        },
        y=arrays["action"],
        ids=np.array([f"a{action}_s{who}_t{trial}" for action, who, trial in keys]),
        groups=subject,
        times={
            "acc": _time_stamps(inertial, INERTIAL_RATE),
            "gyro": _time_stamps(inertial, INERTIAL_RATE),
            "skeleton": _time_stamps(skeleton, np.repeat(frame_rate, frames)),
        },
        split_name=np.where(subject % 2 == 1, "train", "test"),
    )


def _time_stamps(
    offsets: NDArray[Any], rate: float | FloatArray
) -> Sequence[FloatArray]:
    """Return the seconds since the start of each sequence, at `rate` Hz of each row."""
    rows = np.arange(offsets[-1]) - np.repeat(offsets[:-1], np.diff(offsets))
    return np.split(rows / rate, offsets[1:-1])


def snpcc(arrays: Arrays) -> MultimodalData:
    """Light curves in four bands, and the host galaxy.

    Every band is averaged by precision on a grid of 3 days. Its channels are arcsinh of
    the flux in units of 8, and arcsinh of its ratio to the standard error.
    """
    rows = np.flatnonzero(arrays["part"] > 0)
    curves = {band: _light_curves(arrays, band, rows) for band in BANDS}
    return MultimodalData.from_arrays(
        {band: [x for x, _ in curves[band]] for band in BANDS}
        | {"host": arrays["host"][rows]},
        y=arrays["y"][rows],
        ids=arrays["snid"][rows],
        times={band: [seconds for _, seconds in curves[band]] for band in BANDS},
        split_name=np.where(arrays["part"][rows] == 1, "train", "test"),
    )


def _light_curves(
    arrays: Arrays, band: str, rows: NDArray[np.int64]
) -> list[tuple[NDArray[np.float32], FloatArray]]:
    """Return channels ``[P, 2]`` and seconds ``[P]`` of a band for each sample."""
    observed, offsets = arrays[band].astype(np.float64), arrays[f"{band}_offsets"]
    curves = []
    for row in rows:
        own = observed[offsets[row] : offsets[row + 1]]
        days, flux, error = own[own[:, 2] > 0].T  # other rows are not measurements
        if not len(days):
            curves.append((np.empty((0, 2), np.float32), days))
            continue
        first, last = np.floor(days[0] / GRID_DAYS), np.ceil(days[-1] / GRID_DAYS)
        grid = GRID_DAYS * np.arange(first, last + 1)
        mean, precision = smooth_with_errors(days, flux, error, grid, SMOOTHING_DAYS)
        channels = [mean / FLUX_UNIT, mean * np.sqrt(precision)]
        curves.append((np.arcsinh(channels).T.astype(np.float32), grid * DAY))
    return curves


def phone_watch_har(arrays: Arrays) -> MultimodalData:
    """Accelerometer and gyroscope of a phone and of a watch, windows of a second."""
    names = arrays["classes"]
    sequences = {
        name: np.split(arrays[name], arrays[f"{name}_offsets"][1:-1])
        for name in WEARABLES
    }
    return MultimodalData.from_arrays(
        {name: [x[:, 1:] for x in each] for name, each in sequences.items()},
        y=names[arrays["y"]],
        groups=arrays["subject"],
        times={name: [x[:, 0] for x in each] for name, each in sequences.items()},
    )


def grid_av(
    arrays: Arrays, *, whole: bool = False, decibels: float | None = None
) -> MultimodalData:
    """Lips and voice of a speaker, cut to a spoken letter.

    Args:
        arrays: Raw arrays.
        whole: Keep the sentence of 3 seconds in place of the letter.
        decibels: Ratio of the power of the clip to that of white noise that is added to
            the voice; None adds none.
    """
    lips = _low_frequencies(arrays["lips"])
    voice = arrays["logmel"].astype(np.float32)
    if decibels is not None:
        voice = _with_noise(voice, decibels)
    spans = arrays["word_frames"][:, LETTER] + np.array([-MARGIN, MARGIN])
    start = np.zeros(len(lips)) if whole else spans[:, 0]
    stop = np.full(len(lips), lips.shape[1]) if whole else spans[:, 1]
    content, times = {}, {}
    for name, x, rate in (("lips", lips, FRAME_RATE), ("voice", voice, VOICE_RATE)):
        seconds = np.arange(x.shape[1]) / rate
        keep = [
            (seconds >= a) & (seconds < b)
            for a, b in zip(start / FRAME_RATE, stop / FRAME_RATE, strict=True)
        ]
        content[name] = [each[own] for each, own in zip(x, keep, strict=True)]
        times[name] = [seconds[own] for own in keep]
    return MultimodalData.from_arrays(
        content,
        y=arrays["words"][:, LETTER],
        ids=arrays["name"],
        times=times,
        split_name=np.where(arrays["part"] == 1, "train", "test"),
    )


def _low_frequencies(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the lowest frequencies of the cosine transform of images, ``[N, T, C]``.

    Args:
        images: ``[N, T, H, W]`` gray values.
    """
    basis = [
        np.cos(np.pi * np.outer(np.arange(count), np.arange(size) + 0.5) / size)
        for count, size in zip(LIPS_WIDTH, images.shape[2:], strict=True)
    ]
    x = np.einsum("nthw,ah,bw->ntab", images / np.float32(255), *basis, optimize=True)
    return x.reshape(*images.shape[:2], -1).astype(np.float32)


def _with_noise(logmel: NDArray[np.float32], decibels: float) -> NDArray[np.float32]:
    """Add the power of white noise to log powers ``[N, T, C]``; the draw is fixed."""
    power = np.exp(logmel)
    level = power.mean(axis=(1, 2), keepdims=True) * 10 ** (-decibels / 10)
    noise = np.random.default_rng(0).exponential(size=power.shape)
    return np.log(power + level * noise).astype(np.float32)
