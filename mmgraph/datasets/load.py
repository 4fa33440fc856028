"""Loading of data sets by name.

Every data set has a card. Data whose license allows it are shipped as ``data.parquet``
in the folder of the card; the others are read from a data folder of the user; controls
are drawn from known distributions.
"""

import difflib
import hashlib
from pathlib import Path

import numpy as np

from mmgraph.data import MultimodalData
from mmgraph.data.column import Column
from mmgraph.datasets.cards import DatasetCard, ModalityCard, cards_folder
from mmgraph.datasets.controls import CONTROLS, synthetic
from mmgraph.datasets.mirrors import from_mirror, mirror_root
from mmgraph.errors import Code, DataError
from mmgraph.typing import PathLike

__all__ = [
    "DatasetCard",
    "ModalityCard",
    "check_data",
    "dataset_card",
    "dataset_folder",
    "dataset_names",
    "find_mirror",
    "load_dataset",
    "read_shipped",
    "synthetic",
]


def load_dataset(name: str, *, root: PathLike | None = None) -> MultimodalData:
    """Load a data set by name.

    Args:
        name: One of `dataset_names`.
        root: Data folder with the files of data sets that are not shipped. Default:
            the environment variable ``MMGRAPH_DATA``; without it, a checkout uses
            ``../shared/datasets``. Ignored for shipped data sets and controls.

    Returns:
        Data with the missing modalities of the original data set. An official split is
        in ``data.split_name``.

    Raises:
        DataError: If the name is unknown, a file does not exist, or its content
            differs from the card.

    Example:
        >>> data = load_dataset("heart")
        >>> data.shape
        (920, 6)
    """
    card = dataset_card(name)
    if name in CONTROLS:
        return synthetic(name)
    if card.shipped:
        data = read_shipped(card, dataset_folder(name))
    else:
        data = from_mirror(name, find_mirror(card, root))
    check_data(card, data)
    return data


def dataset_names() -> tuple[str, ...]:
    """Return the names of all data sets in alphabetical order."""
    cards = {path.parent.name for path in cards_folder().glob("*/card.md")}
    return tuple(sorted(cards | set(CONTROLS)))


def dataset_card(name: str) -> DatasetCard:
    """Return the card of a data set.

    Args:
        name: One of `dataset_names`.

    Returns:
        Machine-readable part of the card.

    Raises:
        DataError: If the name is unknown or the card is damaged.

    Example:
        >>> dataset_card("heart").classes
        ('no disease', 'disease')
    """
    known = dataset_names()
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = (
            f"Did you mean {close[0]!r}?"
            if close
            else ("See ", Code("mmgraph.datasets.dataset_names()"), ".")
        )
        raise DataError(
            f"Data set: name must be one of {', '.join(known)}, got {name!r}.", hint
        )
    if name in CONTROLS:
        return _control_card(name)
    text = (dataset_folder(name) / "card.md").read_text("utf-8")
    return DatasetCard.from_markdown(text)


def dataset_folder(name: str) -> Path:
    """Return the folder that contains the card of a data set."""
    return cards_folder() / name


def read_shipped(card: DatasetCard, folder: Path) -> MultimodalData:
    """Read ``data.parquet`` of a shipped data set after verifying its hash.

    Args:
        card: Card of the data set.
        folder: Folder that contains the file.

    Raises:
        DataError: If the file does not exist or its SHA-256 differs from the card.
    """
    path = folder / "data.parquet"
    if not path.is_file():
        raise DataError(
            f"Data set {card.name!r}: data.parquet must be in the folder of its card, "
            f"got none in {folder}. Create it: python datasets/{card.name}/prepare.py"
        )
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    if got != card.sha256:
        raise DataError(
            f"Data set {card.name!r}: {path} must have SHA-256 {card.sha256}, got "
            f"{got}. Restore the file or run datasets/{card.name}/prepare.py."
        )
    return MultimodalData.from_parquet(path)


def find_mirror(card: DatasetCard, root: PathLike | None = None) -> Path:
    """Return the path of the file of a data set that is not shipped.

    Args:
        card: Card of the data set.
        root: Data folder, see `load_dataset`.

    Raises:
        DataError: If the data set is shipped, there is no data folder, or the folder
            does not contain the file.
    """
    if card.mirror is None:
        raise DataError(
            f"Data set {card.name!r} must have a file in the data folder, got a data "
            "set that is part of the package. Use load_dataset without a folder."
        )
    folder = mirror_root(root)
    if folder is not None and (folder / card.mirror).is_file():
        return folder / card.mirror
    where = "no data folder" if folder is None else f"no file {folder / card.mirror}"
    raise DataError(
        f"Data set {card.name!r} is not part of mmgraph ({card.license}): its file "
        f"{card.mirror} must be in your data folder, got {where}. Obtain the data as "
        f"`mmgraph datasets {card.name}` describes, and set the environment variable "
        "MMGRAPH_DATA to the folder, or pass it to load_dataset as root."
    )


def check_data(card: DatasetCard, data: MultimodalData) -> None:
    """Check that the sizes, missing shares and splits of data agree with their card.

    Args:
        card: Card of the data set.
        data: Data to check.

    Raises:
        DataError: If they differ.
    """
    missing = (~data.present).sum(axis=0).tolist()
    got = {
        "num_samples": len(data),
        "modalities": [
            (name, _num_channels(column), round(count / max(len(data), 1), 4))
            for (name, column), count in zip(data.columns.items(), missing, strict=True)
        ],
        "groups": data.groups is not None,
        "split": _split_sizes(data),
    }
    expected = {
        "num_samples": card.num_samples,
        "modalities": [(m.name, m.channels, m.missing) for m in card.modalities],
        "groups": card.group is not None,
        "split": card.split,
    }
    for key, value in expected.items():
        if got[key] != value:
            raise DataError(
                f"Data set {card.name!r}: {key} must be {value} as in its card, got "
                f"{got[key]}. Use the version of the raw files that the card describes."
            )


def _num_channels(column: Column) -> int | None:
    """Return the number of values of a row; None for text."""
    return None if column.is_text else int(column.values.shape[1])


def _split_sizes(data: MultimodalData) -> dict[str, int] | None:
    if data.split_name is None:
        return None
    names, counts = np.unique(data.split_name, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def _control_card(name: str) -> DatasetCard:
    """Return the card of a control, from data that are drawn from it."""
    data = synthetic(name)
    missing = 1 - data.present.mean(axis=0)
    modalities = tuple(
        ModalityCard(
            name=modality,
            channels=int(column.values.shape[1]),
            kind="vector",
            tokens="single",
            time=False,
            missing=round(float(share), 4),
            meaning="synthetic features",
        )
        for (modality, column), share in zip(data.columns.items(), missing, strict=True)
    )
    return DatasetCard(
        name=name,
        title=CONTROLS[name],
        task="classification",
        num_samples=len(data),
        classes=("0", "1"),
        metric="auroc",
        modalities=modalities,
        group=None,
        split=None,
        license="license of mmgraph; the data are drawn by its code",
        origin=f"mmgraph.datasets.synthetic({name!r})",
        citation="mmgraph",
        shipped=True,
        sha256=None,
        written_with=None,
        mirror=None,
        mirror_sha256=None,
    )
