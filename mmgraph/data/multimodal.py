"""Samples with modalities that may be missing.

Shapes: N samples, M modalities, T steps, C channels, L rows, K labels of one sample.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mmgraph.data.batch import Batch, collate
from mmgraph.data.column import (
    AnyArray,
    BoolArray,
    Column,
    concat_columns,
    empty_column,
)
from mmgraph.data.features.describe import describe_rows
from mmgraph.data.io.arrays import build_column
from mmgraph.data.io.arrow import parse_table
from mmgraph.data.io.dataframe import build_frame, parse_frame
from mmgraph.data.io.hetero_data import build_graphs, parse_graphs
from mmgraph.data.io.parquet import build_table, read_table, write_table
from mmgraph.data.schema_inference import fit_columns, infer_schema, narrow_schema
from mmgraph.data.splits import split_indices
from mmgraph.data.targets import (
    METADATA_NAMES,
    DefaultColumn,
    as_metadata,
    can_be_ids,
    check_known,
    check_unique,
    class_codes,
    concat_metadata,
    same_metadata,
)
from mmgraph.data.validation import (
    check_labels_apart,
    check_mapping,
    check_names,
    count_samples,
    read_present,
    resolve_indices,
)
from mmgraph.errors import DataError, MMGraphError
from mmgraph.schema import Schema

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from torch_geometric.data import HeteroData

__all__ = ["Column", "MultimodalData"]


@dataclass(frozen=True, eq=False, repr=False)
class MultimodalData:
    """Hold N samples, each with whatever modalities were observed.

    Build it with ``from_arrays``, ``from_pandas``, ``from_parquet``, ``from_arrow`` or
    ``from_hetero_data``. It is never changed: every method returns new data.
    scikit-learn can index and split it.

    Attributes:
        columns: one column per modality, in the order of the modalities.
        ids: ``[N]`` numbers or strings, unique when built.
        y: ``[N]`` labels or ``[N, K]`` for several, missing ones NaN or None; or None.
        groups: ``[N]`` what belongs together (hospital, subject), or None.
        split_name: ``[N]`` "train" or "test" of an official split, or None.
        given_schema: the schema that was given; None infers it from the columns.

    Example:
        >>> labs = [[1.0, 2.0], [float("nan"), float("nan")], [3.0, float("nan")]]
        >>> note = ["stable", "worse", None]
        >>> data = MultimodalData.from_arrays({"labs": labs, "note": note}, y=[0, 1, 0])
        >>> data.present
        array([[ True,  True],
               [False,  True],
               [ True, False]])
        >>> data[[2, 0]].ids
        array([2, 0])
    """

    columns: dict[str, Column]
    ids: AnyArray
    y: AnyArray | None = None
    groups: AnyArray | None = None
    split_name: AnyArray | None = None
    given_schema: Schema | None = None

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, Any],
        *,
        y: Any = None,  # noqa: ANN401
        ids: Any = None,  # noqa: ANN401
        groups: Any = None,  # noqa: ANN401
        times: Mapping[str, Any] | None = None,
        present: Any = None,  # noqa: ANN401
        schema: Schema | None = None,
        split_name: Any = None,  # noqa: ANN401
    ) -> "MultimodalData":
        """Build data from arrays, tensors and lists.

        An entry that is None, empty or all NaN is missing. NaN cells inside an
        observed entry are kept, infinite ones are an error. A list of 1-D entries
        holds vectors ``[C]`` when all have one length and no times are given, else
        sequences of one channel; a schema's ``tokens`` decides where there is one.

        Args:
            arrays: modality to ``[N, C]`` or ``[N]`` numbers, ``[N, T, C]`` sequences,
                or a list of N entries: arrays ``[T_i, C]`` or ``[T_i]``, vectors
                ``[C]``, strings (text; where a schema says image or audio, paths of
                files), or None.
            y: N labels, or ``[N, K]``; missing ones are NaN or None.
            ids: N unique numbers or strings; default 0 to N - 1.
            groups: N numbers or strings; samples of a group are never split.
            times: modality to the seconds of its rows, laid out like the modality.
                Rows are sorted by them.
            present: ``[N, M]`` booleans, or modality to ``[N]``; what it says is
                missing is never read.
            schema: what the columns must fit; default: a star of them.
            split_name: N names of an official split, or None.

        Raises:
            DataError: when parts do not fit each other, the schema or these rules.
        """
        check_mapping("arrays", arrays)
        names = tuple(arrays)
        num_samples = count_samples(arrays)
        keep = read_present(present, names, num_samples)
        times = {} if times is None else times
        if times:
            check_mapping("times", times)
        check_names("times", times, names)
        tokens = {m.name: m.tokens for m in schema.modalities} if schema else {}
        columns = {
            name: build_column(
                name,
                content,
                present=keep[:, i],
                times=times.get(name),
                tokens=tokens.get(name),
            )
            for i, (name, content) in enumerate(arrays.items())
        }
        return cls.from_columns(
            columns, y=y, ids=ids, groups=groups, split_name=split_name, schema=schema
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator["MultimodalData"]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        modalities = {m.name: m for m in self.schema.modalities}
        lines = [f"MultimodalData: {len(self)} samples"]
        for name, column in self.columns.items():
            shape = "[N]" if column.is_text else f"[N, {column.channels}]"
            if column.ragged:
                shape = f"[N, T, {column.channels}]"
            share = 1 - column.present.mean() if len(self) else 0.0
            lines.append(
                f"  {name}: {shape} {modalities[name].kind}, {share:.0%} missing"
            )
        return "\n".join(lines)

    def __getitem__(self, key: Any) -> "MultimodalData":  # noqa: ANN401
        """Return some samples, in the order asked for and with repeats.

        Args:
            key: integers, N booleans, a slice, one integer (data of one sample), or a
                tuple of one of these and ``...`` as scikit-learn sends it.

        Raises:
            DataError: when an index is out of range or of another type.
        """
        indices = resolve_indices(key, len(self))

        def pick(values: AnyArray | None) -> AnyArray | None:
            return None if values is None else values[indices]

        return replace(
            self,
            columns={name: c.take(indices) for name, c in self.columns.items()},
            ids=self.ids[indices],
            y=pick(self.y),
            groups=pick(self.groups),
            split_name=pick(self.split_name),
        )

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return tuple(self.columns)

    @property
    def shape(self) -> tuple[int, int]:
        """N and M."""
        return len(self), len(self.columns)

    @cached_property
    def present(self) -> BoolArray:
        """``[N, M]`` True where a modality was observed."""
        return np.stack([c.present for c in self.columns.values()], axis=1)

    def with_schema(self, schema: Schema) -> "MultimodalData":
        """Return the data with another schema.

        Raises:
            DataError: when a column does not fit it.
        """
        return replace(self.conform(schema), given_schema=schema)

    def conform(self, schema: Schema) -> "MultimodalData":
        """Return the data in the form that a schema says, with the schema it has.

        Lists of one length are vectors by themselves; where the schema has sequences,
        they are sequences.

        Raises:
            DataError: when a column does not fit it.
        """
        return replace(self, columns=fit_columns(self.columns, schema))

    def check(self, schema: Schema) -> None:
        """Check that every column fits a schema.

        A modality that only the schema has is fine: it is missing in all samples.

        Raises:
            DataError: when a modality is unknown to it or of another width or type.
        """
        fit_columns(self.columns, schema)

    def replace(self, **changes: Any) -> "MultimodalData":  # noqa: ANN401
        """Return the data with other ``y``, ``ids``, ``groups`` or ``split_name``.

        Raises:
            DataError: when one of them does not have one entry per sample.
        """
        unknown = sorted(set(changes) - set(self._plain))
        if unknown:
            raise DataError(
                f"replace must name y, ids, groups or split_name, got {unknown[0]!r}. "
                "Build new data with from_arrays."
            )
        return self.from_columns(
            self.columns, schema=self.given_schema, **{**self._plain, **changes}
        )

    @staticmethod
    def concat(parts: Sequence["MultimodalData"]) -> "MultimodalData":
        """Join data, sample after sample, with the modalities of all of them.

        A modality that a part does not have is missing there. Parts that are all
        numbered from 0 (the default ids) are numbered anew.

        Raises:
            DataError: when ids repeat, columns differ in width or type, or only some
                parts have labels, groups or a split name.
        """
        if not parts:
            raise DataError("concat must get at least one part, got none. Give data.")
        for part in parts:
            if not isinstance(part, MultimodalData):
                raise DataError(
                    f"concat must get MultimodalData, got {type(part).__name__}. "
                    "Leave it out."
                )
        names = dict.fromkeys(name for part in parts for name in part.columns)
        columns = {
            name: concat_columns(
                name,
                [p.columns.get(name) or empty_column(len(p)) for p in parts],
            )
            for name in names
        }
        ids = [p.ids for p in parts]
        numbered = all(np.array_equal(i, np.arange(len(i))) for i in ids)
        schemas = {p.given_schema for p in parts}
        return MultimodalData.from_columns(
            columns,
            y=concat_metadata("y", [p.y for p in parts]),
            ids=None if numbered else concat_metadata("ids", ids),
            groups=concat_metadata("groups", [p.groups for p in parts]),
            split_name=concat_metadata("split_name", [p.split_name for p in parts]),
            schema=schemas.pop() if len(schemas) == 1 else None,
        )

    def split(
        self, test_size: float = 0.2, *, seed: int = 0, stratify: bool = True
    ) -> tuple["MultimodalData", "MultimodalData"]:
        """Split at random into train and test; groups stay together.

        Args:
            test_size: share of the samples (about that share where there are groups).
            seed: of the random choice; the same seed gives the same split.
            stratify: keep the shares of the classes where ``y`` is discrete (integers,
                strings or booleans of at most 50 values, each at least twice).

        Raises:
            DataError: when there are fewer than two samples or groups.
            MMGraphError: when the size is not between 0 and 1.
        """
        train, test = split_indices(
            len(self),
            test_size,
            seed=seed,
            codes=class_codes(self.y) if stratify else None,
            groups=self.groups,
        )
        return self[train], self[test]

    def mask(self, present: Any) -> "MultimodalData":  # noqa: ANN401
        """Keep a modality of a sample only where it was observed and is ``present``.

        Args:
            present: ``[N, M]`` booleans, or modality to ``[N]``.

        Raises:
            DataError: when the shape is wrong or a modality is unknown.
        """
        keep = read_present(present, self.modalities, len(self))
        columns = {
            name: column.mask(keep[:, i])
            for i, (name, column) in enumerate(self.columns.items())
        }
        return replace(self, columns=columns)

    def select(self, modalities: Sequence[str]) -> "MultimodalData":
        """Keep only some modalities, in the order given.

        Raises:
            DataError: when a modality is unknown or none is named.
        """
        names = [modalities] if isinstance(modalities, str) else list(modalities)
        check_names("select", names, self.modalities)
        if not names:
            raise DataError(
                "select must name at least one modality, got none. Add one."
            )
        schema = self.given_schema
        return replace(
            self,
            columns={name: self.columns[name] for name in names},
            given_schema=None if schema is None else narrow_schema(schema, names),
        )

    def features(self) -> dict[str, npt.NDArray[np.float32]]:
        """Describe every modality by one vector per sample; all NaN where missing.

        Returns:
            Modality to ``[N, F]``: F = C for single rows, 25 C statistics for
            sequences, 256 hashed word counts for text, 384 numbers for a picture
            and 64 for a sound that is given by its path.

        Raises:
            DataError: when a path is not one of a picture or sound.
        """
        return {
            name: describe_rows(column, self.schema.modality(name).kind)
            for name, column in self.columns.items()
        }

    def batch(self, indices: Any = None) -> Batch:  # noqa: ANN401
        """Pack some samples (default: all) as tensors; see ``collate``.

        Raises:
            DataError: when an index is out of range or a modality is text or files.
        """
        return collate(self.columns, self.y, resolve_indices(indices, len(self)))

    def equals(self, other: "MultimodalData") -> bool:
        """Tell whether two data hold the same bits and order; NaN equals NaN."""
        plain = [(self.y, other.y), (self.ids, other.ids)]
        plain += [(self.groups, other.groups), (self.split_name, other.split_name)]
        return (
            self.modalities == other.modalities
            and self.schema == other.schema
            and all(same_metadata(a, b) for a, b in plain)
            and all(c.equals(other.columns[n]) for n, c in self.columns.items())
        )

    @cached_property
    def schema(self) -> Schema:
        """The schema that was given, or a star of the columns."""
        return self.given_schema or infer_schema(self.columns)

    @classmethod
    def from_columns(
        cls,
        columns: Mapping[str, Column],
        *,
        y: Any = None,  # noqa: ANN401
        ids: Any = None,  # noqa: ANN401
        groups: Any = None,  # noqa: ANN401
        split_name: Any = None,  # noqa: ANN401
        schema: Schema | None = None,
    ) -> "MultimodalData":
        """Build data from columns of one length; see ``from_arrays`` for the rest.

        Raises:
            DataError: when labels, ids, groups or the schema do not fit the columns.
        """
        num = len(next(iter(columns.values())))

        def plain(subject: str, values: Any) -> AnyArray | None:  # noqa: ANN401
            return None if values is None else as_metadata(subject, values, num)

        known_ids = np.arange(num) if ids is None else as_metadata("ids", ids, num)
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
        cls,
        table: "pa.Table",
        *,
        modalities: Mapping[str, str | Sequence[str]] | None = None,
        y: str | None = METADATA_NAMES["y"],
        ids: str | None = METADATA_NAMES["ids"],
        groups: str | None = METADATA_NAMES["groups"],
    ) -> "MultimodalData":
        """Read an Arrow table; see ``from_parquet`` for the arguments.

        Raises:
            DataError: when a column is missing or cannot be read.
        """
        check_labels_apart(modalities, y)
        parts = parse_table(table, modalities=modalities, y=y, ids=ids, groups=groups)
        foreign = modalities is not None and isinstance(ids, DefaultColumn)
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
        cls,
        path: str | PathLike[str],
        *,
        modalities: Mapping[str, str | Sequence[str]] | None = None,
        y: str | None = METADATA_NAMES["y"],
        ids: str | None = METADATA_NAMES["ids"],
        groups: str | None = METADATA_NAMES["groups"],
    ) -> "MultimodalData":
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
        cls, folder: str | PathLike[str], *, raw: bool = False
    ) -> "MultimodalData":
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
        from mmgraph.data.io import folder as files

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
        cls,
        frame: "pd.DataFrame",
        modalities: Mapping[str, str | Sequence[str]],
        *,
        y: str | Sequence[str] | None = None,
        ids: str | None = None,
        groups: str | None = None,
    ) -> "MultimodalData":
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
        cls, graphs: Sequence["HeteroData"], *, schema: Schema | None = None
    ) -> "MultimodalData":
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
