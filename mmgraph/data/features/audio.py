"""Log-mel statistics of audio files."""

import wave
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.errors import ConfigError, DataError

WINDOW, HOP, BANDS = 1024, 512, 32  # audio samples, audio samples, mel bands
LOWEST, HIGHEST = 50.0, 8000.0  # Hz
NUM_AUDIO_FEATURES = 2 * BANDS


def describe_audio(path: Path) -> npt.NDArray[np.float32]:
    """Return mean and standard deviation of the log-mel spectrogram of an audio file.

    WAV files with integer samples are read directly; other formats need soundfile.

    Args:
        path: Audio file.

    Returns:
        ``[64]``: 32 means and 32 standard deviations over the time steps.

    Raises:
        ConfigError: If soundfile is needed and not installed.
        DataError: If the file is not audio or is empty.
    """
    samples, rate = read_audio(path)
    if not len(samples):
        raise DataError(f"{path} must hold audio, got a file without samples.")
    samples = np.pad(samples, (0, max(0, WINDOW - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), axis=1)) ** 2
    mel = np.log(power @ _mel_bands(rate) + 1e-8)  # [steps, 32]
    return np.concatenate([mel.mean(axis=0), mel.std(axis=0)]).astype(np.float32)


def read_audio(path: Path) -> tuple[npt.NDArray[np.float64], int]:
    """Read an audio file as mono.

    Args:
        path: Audio file.

    Returns:
        Mean of the channels, in [-1, 1], and the sampling rate in Hz.

    Raises:
        ConfigError: If soundfile is needed and not installed.
        DataError: If the file is not audio.
    """
    if path.suffix.lower() == ".wav":
        try:
            return _read_wave(path)
        except (wave.Error, EOFError) as error:
            if "unknown format" not in str(error):
                raise DataError(f"{path} must be a WAV file, got {error}.") from None
    try:
        import soundfile
    except ImportError:
        raise ConfigError(
            f"{path.name} needs soundfile, which is not installed. Install "
            "mmgraph[files], or convert the audio to WAV."
        ) from None
    try:
        samples, rate = soundfile.read(path, always_2d=True)
    except (RuntimeError, OSError) as error:
        reason = str(error).rstrip(".")
        raise DataError(f"{path} must be an audio file, got {reason}.") from None
    return np.asarray(samples, dtype=np.float64).mean(axis=1), int(rate)


def _read_wave(path: Path) -> tuple[npt.NDArray[np.float64], int]:
    with wave.open(str(path), "rb") as file:
        width, channels = file.getsampwidth(), file.getnchannels()
        raw = np.frombuffer(file.readframes(file.getnframes()), dtype=np.uint8)
        rate = file.getframerate()
    raw = raw[: len(raw) // (width * channels) * width * channels]
    cells = raw.reshape(-1, width).astype(np.int64)
    whole: Any = (cells << (8 * np.arange(width))).sum(axis=1)
    half = 1 << (8 * width - 1)
    # WAV stores 8-bit samples as unsigned, all other widths as signed integers
    signed = whole - half if width == 1 else (whole + half) % (2 * half) - half
    return (signed / half).reshape(-1, channels).mean(axis=1), rate


def _mel_bands(rate: int) -> npt.NDArray[np.float64]:
    """Return triangular filters that are equidistant on the mel scale, [513, 32]."""
    top = min(HIGHEST, rate / 2)
    edges = np.linspace(_mel(LOWEST), _mel(top), BANDS + 2)
    at = _mel(np.fft.rfftfreq(WINDOW, 1 / rate))[:, None]
    rising = (at - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - at) / (edges[2:] - edges[1:-1])
    return np.clip(np.minimum(rising, falling), 0, None)


def _mel(hertz: Any) -> Any:  # noqa: ANN401
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)
