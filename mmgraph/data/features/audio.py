"""Audio files as mono signals, and their log-mel statistics."""

import struct
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph import files, limits
from mmgraph.data.features import VERSION
from mmgraph.data.io.parquet import one_line
from mmgraph.errors import ConfigError, DataError

WINDOW, HOP, BANDS = 0.064, 0.032, 32  # seconds, seconds, mel bands
LOWEST, HIGHEST = 50.0, 8000.0  # Hz
# Hz; the first mel band is below half of the lowest rate, and windows stay short
LOWEST_RATE, HIGHEST_RATE = 250, 10_000_000
REFERENCE_RATE = 16_000  # Hz; power is that of a tone sampled at this rate
NUM_AUDIO_FEATURES = 2 * BANDS
STEPS_AT_ONCE = 1024  # time steps whose spectra are in memory
# exceptions of SciPy for damaged WAV files
_DECODER_ERRORS = (
    *(ArithmeticError, EOFError, LookupError, MemoryError, NameError, OSError),
    *(TypeError, ValueError, struct.error),
)
_FILTERS = threading.Lock()  # filters of warnings belong to the whole process

FloatArray = npt.NDArray[np.float64]


def describe_audio(path: Path, *, version: int = VERSION) -> npt.NDArray[np.float32]:
    """Return mean and standard deviation of the log-mel spectrogram of an audio file.

    The spectrogram is defined in Hz and seconds, so that one sound has nearly equal
    features at every sampling rate. Mel bands above half the sampling rate, which the
    file does not contain, take the value of the highest band that it contains.

    Args:
        path: Audio file.
        version: 1 for the features of mmgraph 0.2, whose windows have 1024 samples at
            any rate. Both are equal at 16 kHz.

    Returns:
        ``[64]``: 32 means and 32 standard deviations over the time steps.

    Raises:
        ConfigError: If soundfile is needed and not installed.
        DataError: If the file is not audio, is empty, or its rate is below 250 Hz or
            above 10 MHz.
    """
    samples, rate = read_audio(path)
    if not len(samples):
        raise DataError(f"{path} must hold audio, got a file without samples.")
    if version == 1:
        mel = _log_mel(samples, rate, REFERENCE_RATE, min(HIGHEST, rate / 2))
    elif not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise DataError(
            f"{path} must have a sampling rate from {LOWEST_RATE} to {HIGHEST_RATE} "
            f"Hz, got {rate}.",
            "Read other signals as sequences of numbers.",
        )
    else:
        mel = _log_mel(samples, rate, rate, HIGHEST)
        known = int((_band_edges(HIGHEST)[2:] <= _mel(rate / 2) + 1e-6).sum())
        mel[:, known:] = mel[:, [max(known - 1, 0)]]
    return np.concatenate([mel.mean(axis=0), mel.std(axis=0)]).astype(np.float32)


def _log_mel(
    samples: FloatArray, rate: int, window_rate: int, top: float
) -> FloatArray:
    """Return the logarithm of the power in mel bands, ``[steps, 32]``.

    Args:
        samples: Signal.
        rate: Sampling rate, in Hz.
        window_rate: Rate at which windows have the duration `WINDOW`.
        top: Upper end of the highest band, in Hz.
    """
    window, hop = round(WINDOW * window_rate), round(HOP * window_rate)
    bands = _mel_bands(np.fft.rfftfreq(window, 1 / rate), top)
    # the power of a tone does not depend on the rate
    shape = np.hanning(window) * (WINDOW * REFERENCE_RATE / window)
    samples = np.pad(samples, (0, max(0, window - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    parts = []
    for start in range(0, len(frames), STEPS_AT_ONCE):
        spectra = np.fft.rfft(frames[start : start + STEPS_AT_ONCE] * shape, axis=1)
        parts.append(np.log(np.abs(spectra) ** 2 @ bands + 1e-8))
    return np.concatenate(parts)


def _mel_bands(hertz: npt.NDArray[Any], top: float) -> FloatArray:
    """Return triangular filters that are equidistant on the mel scale, ``[F, 32]``."""
    edges, at = _band_edges(top), _mel(hertz)[:, None]
    rising = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    return np.clip(np.minimum(rising, falling), 0, None)


def _band_edges(top: float) -> FloatArray:
    """Return the ends and centers of overlapping bands on the mel scale, ``[34]``."""
    return np.linspace(_mel(LOWEST), _mel(top), BANDS + 2)


def _mel(hertz: Any) -> Any:  # noqa: ANN401
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def read_audio(path: Path) -> tuple[FloatArray, int]:
    """Read an audio file as mono.

    WAV files of integers (8 to 32 bits) and floats are read by SciPy, other encodings
    and formats by soundfile.

    Args:
        path: Audio file.

    Returns:
        Mean of the channels, in [-1, 1], and the sampling rate in Hz.

    Raises:
        ConfigError: If soundfile is needed and not installed.
        DataError: If the file is not audio, is truncated, has more samples than
            ``mmgraph.limits`` allows, or samples that are not finite.
    """
    files.check_regular(path, DataError)
    signal = _read_wave(path) if path.suffix.lower() == ".wav" else None
    samples, rate = signal or _read_by_soundfile(path)
    _check_size(path, samples.size)
    values = np.atleast_2d(samples.T).mean(axis=0, dtype=np.float64)
    if samples.dtype.kind == "u":  # WAV stores 8-bit samples as unsigned integers
        values -= 128
    if samples.dtype.kind in "iu":
        values /= 1 << (8 * samples.dtype.itemsize - 1)
    if not np.isfinite(values).all():
        raise DataError(
            f"{path} must hold finite samples, got NaN or infinity. Write it again."
        )
    return values, rate


def _read_wave(path: Path) -> tuple[npt.NDArray[Any], int] | None:
    """Read a WAV file; None if its encoding needs soundfile.

    Raises:
        DataError: If the file is not WAV or is truncated.
    """
    from scipy.io import wavfile

    try:
        with _FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore", wavfile.WavFileWarning)  # other chunks
            warnings.filterwarnings("error", "Reached EOF prematurely")
            rate, samples = wavfile.read(path)
    except (*_DECODER_ERRORS, wavfile.WavFileWarning) as error:
        if "Unknown wave file format" in str(error):
            return None
        reason = one_line(error)
        raise DataError(f"{path} must be a WAV file, got {reason}.") from None
    if rate < 1:
        raise DataError(f"{path} must be a WAV file, got a sampling rate of {rate}.")
    return samples, int(rate)


def _read_by_soundfile(path: Path) -> tuple[npt.NDArray[Any], int]:
    try:
        import soundfile
    except ImportError:
        raise ConfigError(
            f"{path.name} needs soundfile, which is not installed. Install "
            "mmgraph[files], or convert the audio to WAV."
        ) from None
    try:
        with soundfile.SoundFile(path) as file:
            _check_size(path, file.frames * file.channels)
            return file.read(always_2d=True), int(file.samplerate)
    except DataError:
        raise
    except (RuntimeError, OSError, TypeError, ValueError) as error:
        reason = one_line(error)
        raise DataError(f"{path} must be an audio file, got {reason}.") from None


def _check_size(path: Path, samples: int) -> None:
    most = limits.current().audio_samples
    if samples > most:
        raise DataError(
            f"{path} must have at most {most} samples, got {samples}.",
            limits.remedy("audio_samples"),
        )
