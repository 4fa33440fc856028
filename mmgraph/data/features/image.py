"""What a picture looks like, in numbers that need no pretrained model."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.errors import ConfigError, DataError

SIDE = 64  # pixels that a picture is brought to
GRID, BINS, LEVELS = 4, 8, 4
NUM_PICTURE_FEATURES = 3 * 8 * 8 + GRID * GRID * BINS + LEVELS**3


def open_picture(path: Path, side: int | None = None) -> Any:  # noqa: ANN401
    """Return a picture of at most ``side`` pixels on white ground, as RGB.

    Without ``side`` it keeps its size.

    Raises:
        ConfigError: If Pillow is not installed.
        DataError: If the file is not a picture.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ConfigError(
            "Pictures need Pillow, which is not installed. Install mmgraph[files]."
        ) from None
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path} must be a picture, got {error}.") from None
    if side is not None:
        picture.thumbnail((side, side))
    ground = Image.new("RGBA", picture.size, "white")
    return Image.alpha_composite(ground, picture).convert("RGB")


def describe_picture(path: Path) -> npt.NDArray[np.float32]:
    """Describe a picture by its colours and its edges.

    Mean colours of 8 x 8 cells, histograms of the directions of edges in 4 x 4 cells,
    and a histogram of 64 colours: enough to tell a red bird from a green car, far
    from what a pretrained network sees.

    References:
        Histograms of oriented gradients for human detection. Dalal and Triggs, 2005.

    Returns:
        ``[384]``.

    Raises:
        ConfigError: If Pillow is not installed.
        DataError: If the file is not a picture.
    """
    picture = open_picture(path, 4 * SIDE).resize((SIDE, SIDE))
    x = np.asarray(picture, dtype=np.float32) / 255  # [64, 64, 3]
    cells = x.reshape(8, SIDE // 8, 8, SIDE // 8, 3).mean(axis=(1, 3))
    parts = [cells.ravel(), _edges(x.mean(axis=2)), _colours(x)]
    return np.concatenate(parts).astype(np.float32)


def _edges(grey: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return how strong edges of each direction are in each cell, [4 * 4 * 8]."""
    dy, dx = np.gradient(grey)
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


def _colours(x: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the square roots of the shares of 4 levels of each colour, [64]."""
    level = np.minimum((x * LEVELS).astype(int), LEVELS - 1)
    code = (level[..., 0] * LEVELS + level[..., 1]) * LEVELS + level[..., 2]
    count = np.bincount(code.ravel(), minlength=LEVELS**3)
    return np.sqrt(count / count.sum())
