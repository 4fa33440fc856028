"""Color and edge features of image files."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.errors import ConfigError, DataError

SIDE = 64  # pixels per side after resizing
GRID, BINS, LEVELS = 4, 8, 4  # cells per side, edge directions, levels per color
NUM_IMAGE_FEATURES = 3 * 8 * 8 + GRID * GRID * BINS + LEVELS**3


def open_image(path: Path, side: int | None = None) -> Any:  # noqa: ANN401
    """Open an image as RGB; transparent pixels become white.

    Args:
        path: Image file.
        side: Largest width and height in pixels. Default: the size of the file.

    Returns:
        Image of Pillow.

    Raises:
        ConfigError: If Pillow is not installed.
        DataError: If the file is not an image.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ConfigError(
            "Images need Pillow, which is not installed. Install mmgraph[files]."
        ) from None
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} must be an image, got {error}.") from None
    if side is not None:
        image.thumbnail((side, side))
    background = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(background, image).convert("RGB")


def describe_image(path: Path) -> npt.NDArray[np.float32]:
    """Return color and edge features of an image.

    They are the mean colors of 8 x 8 cells, histograms of oriented gradients in 4 x 4
    cells, and a histogram of 64 colors. They separate images that differ in color or
    outline, and are far weaker than the embedding of a pretrained network.

    Args:
        path: Image file.

    Returns:
        ``[384]``.

    Raises:
        ConfigError: If Pillow is not installed.
        DataError: If the file is not an image.

    References:
        Histograms of oriented gradients for human detection. Dalal and Triggs, 2005.
    """
    image = open_image(path, 4 * SIDE).resize((SIDE, SIDE))
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
