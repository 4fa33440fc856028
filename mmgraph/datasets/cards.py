"""Dataset cards: content, origin and license of a data set.

A card is a Markdown file, ``datasets/<name>/card.md``. Its first fenced ``json`` block
holds the fields of `DatasetCard`; the rest is documentation.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmgraph.errors import DataError

_JSON_BLOCK = re.compile(r"^```json\n(.*?)^```", re.DOTALL | re.MULTILINE)


def cards_folder() -> Path:
    """Return the folder of the cards: in an installed package, else in the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "_datasets"
    return installed if installed.is_dir() else package.parent / "datasets"


@dataclass(frozen=True)
class ModalityCard:
    """Description of a modality in a dataset card.

    Attributes:
        name: Name of the modality.
        channels: Number of values per row; None for text.
        kind: ``"vector"``, ``"embedding"`` or ``"tokens"``.
        tokens: ``"single"`` or ``"ragged"``.
        time: True if its rows have times, in seconds.
        missing: Share of samples without it, in [0, 1], rounded to 4 digits.
        meaning: Description in one line, with units where they are known.
    """

    name: str
    channels: int | None
    kind: str
    tokens: str
    time: bool
    missing: float
    meaning: str


@dataclass(frozen=True)
class DatasetCard:
    """Machine-readable part of a dataset card.

    Attributes:
        name: Name for `load_dataset`.
        title: Title in one line.
        task: Prediction task: ``"classification"``.
        num_samples: Number of samples.
        classes: Names of the classes, in the order of the codes in ``data.y``.
        metric: Main metric, a name in `mmgraph.metrics`.
        modalities: One entry per modality, in the order of the data.
        group: Meaning of ``data.groups``, such as "subject"; or None.
        split: Number of samples in each part of the official split, or None.
        license: License of the data, in one line.
        origin: Origin of the raw data.
        citation: Publication to cite.
        shipped: True if the package contains the data.
        sha256: SHA-256 of ``data.parquet``; None if the data are not shipped.
        written_with: Library and version that wrote ``data.parquet``; another version
            writes the same data with another hash.
        mirror: Path of the file below the data folder; None if there is none.
        mirror_sha256: SHA-256 of that file.
    """

    name: str
    title: str
    task: str
    num_samples: int
    classes: tuple[str, ...]
    metric: str
    modalities: tuple[ModalityCard, ...]
    group: str | None
    split: Mapping[str, int] | None
    license: str
    origin: str
    citation: str
    shipped: bool
    sha256: str | None
    written_with: str | None
    mirror: str | None
    mirror_sha256: str | None

    @classmethod
    def from_markdown(cls, text: str) -> "DatasetCard":
        """Read the first ``json`` block of a card.

        Args:
            text: Text of the Markdown file.

        Raises:
            DataError: If there is no such block, it is not valid JSON, or its fields
                differ from those of this class.
        """
        block = _JSON_BLOCK.search(text)
        if block is None:
            raise DataError(
                "Card: the text must begin with a fenced ```json block, got none. "
                "Copy the block of another card."
            )
        try:
            fields: dict[str, Any] = json.loads(block.group(1))
            fields["modalities"] = tuple(
                ModalityCard(**entry) for entry in fields["modalities"]
            )
            fields["classes"] = tuple(fields["classes"])
            return cls(**fields)
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(
                f"Card: the json block must hold the fields of DatasetCard, got "
                f"{error!r}. Compare it with another card."
            ) from error
