"""Image files as RGB, and their color and edge features."""

import contextlib
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph import files, limits
from mmgraph.data.features import VERSION
from mmgraph.data.io.parquet import one_line
from mmgraph.errors import ConfigError, DataError

SIDE = 64  # pixels per side after resizing
GRID, BINS, LEVELS = 4, 8, 4  # cells per side, edge directions, levels per color
NUM_IMAGE_FEATURES = 3 * 8 * 8 + GRID * GRID * BINS + LEVELS**3
# formats of pixels; others of Pillow start programs (EPS) or need further libraries
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "JPEG2000", "PPM")
WHITE_16 = 65535  # white in images of 16 bits per channel
# exceptions of Pillow for damaged files, apart from those of its decompression limit
_DECODER_ERRORS = (
    *(ArithmeticError, AttributeError, LookupError, MemoryError, OSError),
    *(RuntimeError, SyntaxError, TypeError, ValueError, struct.error, zlib.error),
)


def open_image(path: Path, side: int | None = None, *, version: int = VERSION) -> Any:  # noqa: ANN401
    """Open an image as 8-bit RGB, as a viewer shows it.

    The orientation in EXIF is applied, transparent pixels become white, and of several
    frames or pages the first is read. Grayscale of 16 bits is divided by 257, so that
    65535 is white. Pixels of floating point must be in [0, 1]; NaN is transparent.

    Args:
        path: Image file in one of `FORMATS`.
        side: Largest width and height in pixels. Default: the size of the file.
        version: 1 for the reading of mmgraph 0.2, which ignores the orientation and
            clips values above 255.

    Returns:
        Image of Pillow.

    Raises:
        ConfigError: If Pillow is not installed.
        DataError: If the file is not an image, is damaged, has more pixels than
            ``mmgraph.limits`` allows, or values out of range.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ConfigError(
            "Images need Pillow, which is not installed. Install mmgraph[files]."
        ) from None
    Image.init()
    files.check_regular(path, DataError)
    formats = [name for name in FORMATS if name in Image.OPEN]
    bombs = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with Image.open(path, formats=formats) as opened:
            _check_pixels(path, opened.width * opened.height)
            opened.load()
            image = opened.convert("RGBA") if version == 1 else _to_rgba(opened)
    except DataError:
        raise
    except bombs as error:
        raise DataError(
            f"{path} must have fewer pixels, got {error}",
            "If the file is right, raise PIL.Image.MAX_IMAGE_PIXELS.",
        ) from None
    except _DECODER_ERRORS as error:
        raise DataError(f"{path} must be an image, got {one_line(error)}.") from None
    if side is not None:
        image.thumbnail((side, side))
    background = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(background, image).convert("RGB")


def _check_pixels(path: Path, pixels: int) -> None:
    most = limits.current().pixels
    if pixels > most:
        raise DataError(
            f"{path} must have at most {most} pixels, got {pixels}.",
            limits.remedy("pixels"),
        )


def _to_rgba(image: Any) -> Any:  # noqa: ANN401
    """Return an image with its orientation applied, in 8 bits per channel.

    Raises:
        ValueError: If values of more than 8 bits are out of range.
    """
    from PIL import Image, ImageOps

    if image.mode == "F" or image.mode.startswith("I"):
        gray, alpha = _to_bytes(np.asarray(image, dtype=np.float64), image.mode == "F")
        exif = image.getexif()
        image = Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)])
        image.info["exif"] = exif.tobytes()
    with contextlib.suppress(*_DECODER_ERRORS):  # an image with damaged metadata
        image = ImageOps.exif_transpose(image)
    return image.convert("RGBA")


def _to_bytes(
    values: npt.NDArray[np.float64], fractions: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return gray levels and opacity, ``[H, W]`` each, of values of many levels."""
    white = 1 if fractions else WHITE_16
    known = ~np.isnan(values)
    low, high = values.min(initial=0, where=known), values.max(initial=0, where=known)
    slack = white / 255  # resampling exceeds the range by less than one level
    if low < -slack or high > white + slack:
        kind = "floating-point" if fractions else "16-bit"
        raise ValueError(
            f"{kind} values from {low:g} to {high:g} instead of 0 to {white}; convert "
            "it to 8 bits"
        )
    gray = np.round(np.clip(np.where(known, values, 0) / white, 0, 1) * 255)
    return gray.astype(np.uint8), np.where(known, 255, 0).astype(np.uint8)


def describe_image(path: Path, *, version: int = VERSION) -> npt.NDArray[np.float32]:
    """Return color and edge features of an image.

    They are the mean colors of 8 x 8 cells, histograms of oriented gradients in 4 x 4
    cells, and a histogram of 64 colors. They separate images that differ in color or
    outline, and are far weaker than the embedding of a pretrained network.

    Args:
        path: Image file.
        version: See :func:`open_image`.

    Returns:
        ``[384]``.

    Raises:
        ConfigError: If Pillow is not installed.
        DataError: If the file is not an image; see :func:`open_image`.

    References:
        Histograms of oriented gradients for human detection. Dalal and Triggs, 2005.
    """
    image = open_image(path, 4 * SIDE, version=version).resize((SIDE, SIDE))
    x = np.asarray(image, dtype=np.float32) / 255  # [64, 64, 3]
    cells = x.reshape(8, SIDE // 8, 8, SIDE // 8, 3).mean(axis=(1, 3))
    parts = [cells.ravel(), _edge_histograms(x.mean(axis=2)), _color_histogram(x)]
    return np.concatenate(parts).astype(np.float32)


def _edge_histograms(gray: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the square roots of the edge strength per cell and direction, [128]."""
    dy, dx = np.gradient(gray)
    angle = np.mod(np.arctan2(dy, dx), np.pi)
    direction = np.minimum((angle / np.pi * BINS).astype(int), BINS - 1)
    place = np.arange(SIDE) * GRID // SIDE
    cell = place[:, None] * GRID + place[None]
    strength = np.bincount(
        (cell * BINS + direction).ravel(),
        weights=np.hypot(dx, dy).ravel(),
        minlength=GRID * GRID * BINS,
    )
    return np.sqrt(strength / max(float(strength.sum()), 1e-6))


def _color_histogram(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the square roots of the shares of 64 colors (4 levels a channel), [64]."""
    level = np.minimum((x * LEVELS).astype(int), LEVELS - 1)
    code = (level[..., 0] * LEVELS + level[..., 1]) * LEVELS + level[..., 2]
    count = np.bincount(code.ravel(), minlength=LEVELS**3)
    return np.sqrt(count / count.sum())
