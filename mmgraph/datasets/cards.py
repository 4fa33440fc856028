"""Cards: what a data set is, where it comes from and what one may do with it.

A card is a Markdown page, ``datasets/<name>/card.md``. Its first fenced ``json``
block holds the fields of `DatasetCard`; the rest is for people.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmgraph.errors import DataError

_JSON_BLOCK = re.compile(r"^```json\n(.*?)^```", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class ModalityCard:
    """What a card says about one modality.

    Attributes:
        name: Its name in the data.
        channels: Values per row.
        kind: ``"vector"`` or ``"embedding"``.
        tokens: ``"single"`` or ``"ragged"``.
        time: Whether its rows have times, in seconds.
        missing: Share of samples without it, in [0, 1], rounded to 4 digits.
        meaning: One line for people, with units where they are known.
    """

    name: str
    channels: int
    kind: str
    tokens: str
    time: bool
    missing: float
    meaning: str


@dataclass(frozen=True)
class DatasetCard:
    """The machine-readable part of a card.

    Attributes:
        name: Name for `load_dataset`.
        title: One line for people.
        task: What is predicted: ``"classification"``.
        num_samples: Number of samples.
        classes: Names of the classes, in the order of the codes in `y`.
        metric: The score to report first, a name in `mmgraph.metrics`.
        modalities: One entry per modality, in the order of the data.
        group: What one value of ``data.groups`` stands for, or ``None``.
        split: Number of samples in each part of the official split, or ``None``.
        license: Terms of the data, in one line.
        origin: Where the raw data come from.
        citation: What to cite.
        shipped: Whether the data come with mmgraph.
        sha256: Of ``data.parquet``; ``None`` where the set is not shipped.
        written_with: The library that wrote ``data.parquet``: another version writes
            the same data with another hash.
        mirror: File below the mirror folder; ``None`` where the set is not mirrored.
        mirror_sha256: Of that file.
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
            text: The whole card.

        Returns:
            The card.

        Raises:
            DataError: If there is no such block, it is not valid JSON, or its
                fields are not exactly those of this class.
        """
        block = _JSON_BLOCK.search(text)
        if block is None:
            raise DataError(
                "Card: the text must begin with a fenced ```json block, got none. "
                "Copy one from another card."
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
