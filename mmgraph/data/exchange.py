"""The parts of data, and the formats that it comes in and goes out.

Shapes: N samples, T steps, C channels, K labels of one sample.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mmgraph.data.column import AnyArray, Column
from mmgraph.data.fitting import fit_columns, infer_schema
from mmgraph.data.frames import build_frame, parse_frame
from mmgraph.data.hetero import build_graphs, parse_graphs
from mmgraph.data.labels import (
    PLAIN_NAMES,
    Usual,
    as_plain,
    can_be_ids,
    check_known,
    check_unique,
)
from mmgraph.data.reading import parse_table
from mmgraph.data.selection import check_labels_apart
from mmgraph.data.storage import build_table, read_table, write_table
from mmgraph.errors import DataError, MMGraphError
from mmgraph.schema import Schema

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from torch_geometric.data import HeteroData

Data = TypeVar("Data", bound="Exchange")


@dataclass(frozen=True, eq=False, repr=False)
class Exchange:
    """Hold columns and what is known of each sample; read and write them.

    Users meet it as ``MultimodalData``, which adds what is done with data.

    Attributes:
        columns: one column per modality, in the order of the modalities.
        ids: ``[N]`` numbers or strings, unique when built.
        y: ``[N]`` labels or ``[N, K]`` for several, missing ones NaN or None; or None.
        groups: ``[N]`` what belongs together (hospital, subject), or None.
        split_name: ``[N]`` "train" or "test" of an official split, or None.
        given_schema: the schema that was given; None infers it from the columns.
    """

    columns: dict[str, Column]
    ids: AnyArray
    y: AnyArray | None = None
    groups: AnyArray | None = None
    split_name: AnyArray | None = None
    given_schema: Schema | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def schema(self) -> Schema:
        """The schema that was given, or a star of the columns."""
        return self.given_schema or infer_schema(self.columns)

    @classmethod
    def from_columns(
        cls: type[Data],
        columns: Mapping[str, Column],
        *,
        y: Any = None,  # noqa: ANN401
        ids: Any = None,  # noqa: ANN401
        groups: Any = None,  # noqa: ANN401
        split_name: Any = None,  # noqa: ANN401
        schema: Schema | None = None,
    ) -> Data:
        """Build data from columns of one length; see ``from_arrays`` for the rest.

        Raises:
            DataError: when labels, ids, groups or the schema do not fit the columns.
        """
        num = len(next(iter(columns.values())))

        def plain(subject: str, values: Any) -> AnyArray | None:  # noqa: ANN401
            return None if values is None else as_plain(subject, values, num)

        known_ids = np.arange(num) if ids is None else as_plain("ids", ids, num)
        check_unique(known_ids)
        known_groups = plain("groups", groups)
        if known_groups is not None:
            check_known("groups", known_groups)
        fitted = dict(columns) if schema is None else fit_columns(columns, schema)
        return cls(
            columns=fitted,
            ids=known_ids,
            y=plain("y", y),
            groups=known_groups,
            split_name=plain("split_name", split_name),
            given_schema=schema,
        )

    @classmethod
    def from_arrow(
        cls: type[Data],
        table: "pa.Table",
        *,
        modalities: Mapping[str, str | Sequence[str]] | None = None,
        y: str | None = PLAIN_NAMES["y"],
        ids: str | None = PLAIN_NAMES["ids"],
        groups: str | None = PLAIN_NAMES["groups"],
    ) -> Data:
        """Read an Arrow table; see ``from_parquet`` for the arguments.

        Raises:
            DataError: when a column is missing or cannot be read.
        """
        check_labels_apart(modalities, y)
        parts = parse_table(table, modalities=modalities, y=y, ids=ids, groups=groups)
        foreign = modalities is not None and isinstance(ids, Usual)
        if foreign and parts["ids"] is not None and not can_be_ids(parts["ids"]):
            parts["ids"] = None
        return cls.from_columns(**parts)

    def to_arrow(self) -> "pa.Table":
        """Return a table with one row per sample; missing ones are null.

        Functions of ``Custom`` relations are not stored: the schema is then stored as
        a star.

        Raises:
            DataError: when a modality is named "id", "y", "group" or "split".
        """
        given = self.given_schema is not None
        return build_table(self.columns, self._plain, self.schema, schema_given=given)

    @classmethod
    def from_parquet(
        cls: type[Data],
        path: str | PathLike[str],
        *,
        modalities: Mapping[str, str | Sequence[str]] | None = None,
        y: str | None = PLAIN_NAMES["y"],
        ids: str | None = PLAIN_NAMES["ids"],
        groups: str | None = PLAIN_NAMES["groups"],
    ) -> Data:
        """Read a Parquet file, one's own or any other with a row per sample.

        Args:
            path: of the file; one that ends in .csv or .csv.gz is read as such, and an
                empty cell is null.
            modalities: for files that ``to_parquet`` did not write: modality to a list
                of its columns of numbers or words (see ``from_pandas``), or to the name
                of one column of strings (text), numbers or lists. Nulls are unknown or
                missing.
            y: column of labels; None reads none. A file that ``to_parquet`` wrote
                without labels has none.
            ids: column of ids; default: "id" where it is there, else samples are
                numbered; with ``modalities`` also where "id" has repeats, nulls or
                other things than numbers and strings.
            groups: column of groups; default: "group" where it is there and holds
                numbers or strings.

        Raises:
            DataError: naming the file, and the column that is missing or unreadable.
        """
        table = read_table(path)
        try:
            return cls.from_arrow(
                table, modalities=modalities, y=y, ids=ids, groups=groups
            )
        except MMGraphError as error:
            raise DataError.inside(path, error) from None

    @classmethod
    def from_folder(
        cls: type[Data], folder: str | PathLike[str], *, raw: bool = False
    ) -> Data:
        """Read pictures, texts and sounds; files of one stem are one sample.

        ``birds/robin.png``, ``birds/robin.txt`` and ``birds/robin.wav`` are the
        modalities ``image``, ``text`` and ``sound`` of the sample ``birds/robin``.
        Pictures become 384 numbers (colours and edges), sounds 64 (spectrum): no
        pretrained model is needed.

        Args:
            folder: searched with its subfolders; ``.png .jpg .jpeg .webp .bmp .gif``
                (Pillow), ``.txt`` in UTF-8, ``.wav``, ``.ogg .flac .mp3`` (soundfile).
            raw: keep the paths of pictures and sounds, for a pretrained encoder to
                read; estimators without one turn them into those numbers.

        Raises:
            ConfigError: when ``mmgraph[files]`` is needed and not installed.
            DataError: when nothing is found, a file is not what its ending says, or
                a sample has two files of one modality.
        """
        from mmgraph.data import folder as files

        found = files.find_files(Path(folder))
        readers = files.RAW_READERS if raw else files.READERS
        columns = files.read_columns(list(found.values()), readers)
        schema = files.raw_schema(list(columns)) if raw else None
        return cls.from_columns(columns, ids=list(found), schema=schema)

    def to_parquet(self, path: str | PathLike[str]) -> None:
        """Write a Parquet file with page checksums; ``from_parquet`` reads it back.

        Raises:
            DataError: when the file cannot be written or a name is taken.
        """
        write_table(self.to_arrow(), path)

    @classmethod
    def from_pandas(
        cls: type[Data],
        frame: "pd.DataFrame",
        modalities: Mapping[str, str | Sequence[str]],
        *,
        y: str | Sequence[str] | None = None,
        ids: str | None = None,
        groups: str | None = None,
    ) -> Data:
        """Read a data frame with one row per sample.

        Args:
            frame: booleans become 0 and 1; a missing cell is unknown.
            modalities: modality to a list of its columns, or to one column of strings
                (text; by name, not in a list) or of arrays (sequences). Times of a
                column "ecg" are read from "ecg.time" where it exists. A column of words
                in a list, of at most 64 different ones, becomes a channel for each:
                "sex=f" and "sex=m" are 1 or 0, both NaN where the cell is missing.
                "sex=f" in a list names one word.
            y: column of labels, or several columns; None reads none.
            ids: column of ids; default: samples are numbered.
            groups: column of groups, or None.

        Raises:
            DataError: when a column is unknown, or holds neither numbers nor words.

        Example:
            >>> import pandas as pd
            >>> frame = pd.DataFrame({"age": [61, 58], "sex": ["f", None]})
            >>> data = MultimodalData.from_pandas(frame, {"history": ["age", "sex"]})
            >>> data.columns["history"].names
            ('age', 'sex=f')
        """
        check_labels_apart(modalities, y)
        return cls.from_columns(**parse_frame(frame, modalities, y, ids, groups))

    def to_pandas(self) -> "pd.DataFrame":
        """Return a data frame with one row per sample.

        Columns: "id", "y" ("y.0", ... for several), "group" and "split" where there
        are some, then "modality.channel" for single rows, and one column of arrays
        (None where missing) or strings for sequences and text; times are
        "modality.time".

        Raises:
            DataError: when two columns would have the same name.
        """
        return build_frame(self.columns, self._plain)

    @classmethod
    def from_hetero_data(
        cls: type[Data], graphs: Sequence["HeteroData"], *, schema: Schema | None = None
    ) -> Data:
        """Read one PyTorch Geometric graph per sample.

        Args:
            graphs: node types are modalities with ``x [T, C]`` (or a list of one
                string ``text``) and optionally ``time [T]``; a node type without rows
                or without a place in the graph is missing. Also read: ``y``, ``id``,
                ``group`` and ``split``.
            schema: says which modalities are ragged; without it, those with more than
                one row in some sample.

        Raises:
            DataError: when there is no graph or a node type has no ``x``.
        """
        return cls.from_columns(**parse_graphs(graphs, schema), schema=schema)

    def to_hetero_data(self) -> list["HeteroData"]:
        """Return one PyTorch Geometric graph per sample, without edges.

        Channel names are not kept.

        Raises:
            DataError: when a modality is named like labels, ids, groups or splits.
        """
        return build_graphs(self.columns, self._plain)

    @property
    def _plain(self) -> dict[str, AnyArray | None]:
        return {
            "ids": self.ids,
            "y": self.y,
            "groups": self.groups,
            "split_name": self.split_name,
        }
