"""Data sets by name: those that ship, those that are looked up, three controls.

Every set has a card. Sets that may be shared lie beside the card as ``data.parquet``;
the others are read from a folder of mirrored files; controls are drawn from known laws.
"""

import difflib
import hashlib
from pathlib import Path

import numpy as np

from mmgraph.data import MultimodalData
from mmgraph.datasets.cards import DatasetCard, ModalityCard
from mmgraph.datasets.controls import CONTROLS, synthetic
from mmgraph.datasets.mirrors import from_mirror, mirror_root
from mmgraph.errors import DataError

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


def load_dataset(name: str, *, root: str | Path | None = None) -> MultimodalData:
    """Load a data set by name.

    Args:
        name: One of `dataset_names`.
        root: Folder of mirrored files, for sets that are not shipped. ``None`` takes
            ``$MMGRAPH_DATA`` where that is set, else ``shared/datasets`` beside the
            checkout. Shipped sets and controls do not look at it.

    Returns:
        The samples. Natural missingness is kept: a sample owns no row of a modality
        that was not observed. An official split is in ``data.split_name``.

    Raises:
        DataError: If the name is unknown, the files are absent, or their content is
            not what the card says.

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
    """List the names that `load_dataset` knows, in alphabetical order."""
    cards = {path.parent.name for path in _cards_folder().glob("*/card.md")}
    return tuple(sorted(cards | set(CONTROLS)))


def dataset_card(name: str) -> DatasetCard:
    """Return the card of a data set.

    Args:
        name: One of `dataset_names`.

    Returns:
        The machine-readable part of its card.

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
            else "See mmgraph.datasets.dataset_names()."
        )
        raise DataError(
            f"Data set: name must be one of {', '.join(known)}, got {name!r}.", hint
        )
    if name in CONTROLS:
        return _control_card(name)
    text = (dataset_folder(name) / "card.md").read_text("utf-8")
    return DatasetCard.from_markdown(text)


def dataset_folder(name: str) -> Path:
    """Return the folder of a card: inside an installed wheel, else in the checkout."""
    return _cards_folder() / name


def read_shipped(card: DatasetCard, folder: Path) -> MultimodalData:
    """Read ``data.parquet`` of a shipped set after checking its hash.

    Args:
        card: The card of the set.
        folder: The folder that holds the file.

    Returns:
        The samples.

    Raises:
        DataError: If the file is absent or its SHA-256 is not that of the card.
    """
    path = folder / "data.parquet"
    if not path.is_file():
        raise DataError(
            f"Data set {card.name!r}: data.parquet must lie beside its card, got none "
            f"in {folder}. Make it: python datasets/{card.name}/prepare.py"
        )
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    if got != card.sha256:
        raise DataError(
            f"Data set {card.name!r}: {path} must have SHA-256 {card.sha256}, got "
            f"{got}. Restore the file or run datasets/{card.name}/prepare.py."
        )
    return MultimodalData.from_parquet(path)


def find_mirror(card: DatasetCard, root: str | Path | None = None) -> Path:
    """Find the mirrored file of a set.

    Args:
        card: The card of the set.
        root: As in `load_dataset`.

    Returns:
        The path of the file.

    Raises:
        DataError: If the set has no mirror or the file is absent.
    """
    path = mirror_root(root) / str(card.mirror)
    if card.mirror is None or not path.is_file():
        raise DataError(
            f"Data set {card.name!r} is not shipped ({card.license}): its file must be "
            f"at {path}, got none. Put it there, or name the folder that holds "
            f"{card.mirror} in $MMGRAPH_DATA; datasets/{card.name}/card.md "
            f"says where it comes from, and `python datasets/{card.name}/prepare.py "
            "--source DIR` checks it."
        )
    return path


def check_data(card: DatasetCard, data: MultimodalData) -> None:
    """Check that data have the shapes and the missing shares of their card.

    Args:
        card: The card.
        data: The samples.

    Raises:
        DataError: If anything differs.
    """
    missing = (~data.present).sum(axis=0).tolist()
    got = {
        "num_samples": len(data),
        "modalities": [
            (name, int(column.values.shape[1]), round(count / max(len(data), 1), 4))
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
                f"Data set {card.name!r}: {key} must be {value} as its card says, got "
                f"{got[key]}. The raw files are of another version than the card."
            )


def _split_sizes(data: MultimodalData) -> dict[str, int] | None:
    if data.split_name is None:
        return None
    names, counts = np.unique(data.split_name, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def _cards_folder() -> Path:
    package = Path(__file__).parents[1]
    wheel = package / "_datasets"
    return wheel if wheel.is_dir() else package.parent / "datasets"


def _control_card(name: str) -> DatasetCard:
    """Describe a control by what its law draws."""
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
        license="that of mmgraph: the data are drawn by its code",
        origin=f"mmgraph.datasets.synthetic({name!r})",
        citation="mmgraph",
        shipped=True,
        sha256=None,
        written_with=None,
        mirror=None,
        mirror_sha256=None,
    )
