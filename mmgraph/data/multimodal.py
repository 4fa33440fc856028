"""Multimodal samples in memory, with missing modalities.

Shapes: N samples, M modalities, T steps, C channels, L rows, K labels of one sample.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import numpy.typing as npt

from mmgraph._html import table_html
from mmgraph.data.batch import Batch, collate
from mmgraph.data.categories import codes_as_strings
from mmgraph.data.column import (
    AnyArray,
    BoolArray,
    Column,
    empty_column,
)
from mmgraph.data.concat import (
    concat_columns,
    join_columns,
    warn_lacking_channels,
)
from mmgraph.data.features.describe import describe_rows
from mmgraph.data.io.arrays import build_column
from mmgraph.data.io.arrow import as_table, parse_table
from mmgraph.data.io.dataframe import build_frame, parse_frame
from mmgraph.data.io.frames import check_same_index, unpack_frames
from mmgraph.data.io.hetero_data import build_graphs, parse_graphs
from mmgraph.data.io.parquet import build_table, read_table, write_table
from mmgraph.data.io.times import warn_origins
from mmgraph.data.retime import resample_columns, shift_columns, stretch_columns
from mmgraph.data.schema_inference import (
    fit_columns,
    infer_schema,
    narrow_schema,
    warn_self_loops,
)
from mmgraph.data.splits import (
    group_names,
    official_indices,
    split_indices,
    warn_official_split,
)
from mmgraph.data.string_cells import warn_about_numbers
from mmgraph.data.summary import DataSummary, summarize
from mmgraph.data.targets import (
    METADATA_NAMES,
    DefaultColumn,
    as_metadata,
    can_be_ids,
    check_known,
    check_unique,
    class_numbers,
    concat_metadata,
    default_roles,
    missing_labels,
    same_metadata,
    stratification_codes,
    warn_default_roles,
    warn_unused_ids,
)
from mmgraph.data.validation import (
    check_mapping,
    check_names,
    check_no_label_leak,
    count_samples,
    read_present,
    resolve_indices,
    time_roles,
)
from mmgraph.data.windows import Rule, cut_windows, window_ids
from mmgraph.errors import DataError, MMGraphError
from mmgraph.schema import Schema
from mmgraph.typing import (
    ArrayLike,
    ColumnLabel,
    FrameMapping,
    IndexLike,
    LabelLike,
    MaskLike,
    ModalityArrays,
    ModalityMapping,
    PathLike,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from torch_geometric.data import HeteroData

__all__ = ["Column", "MultimodalData"]


@dataclass(frozen=True, eq=False, repr=False)
class MultimodalData:
    """Incomplete multimodal data set of N samples in memory.

    Build it with :meth:`from_arrays`, :meth:`from_pandas`, :meth:`from_parquet`,
    :meth:`from_folder`, :meth:`from_recordings`, :meth:`from_arrow` or
    :meth:`from_hetero_data`. It is immutable: every method returns new data. It has
    ``len``, ``shape`` and indexing by rows, so that the splitters of scikit-learn
    accept it.

    Attributes:
        columns: One column per modality, in the order of the modalities. A sample
            without rows in a column lacks that modality.
        ids: ``[N]`` numbers or strings, unique when the data are built. Indexing with
            repeats repeats them.
        y: ``[N]`` labels, or ``[N, K]`` for several targets; missing labels are NaN or
            None. None if the data have no labels.
        groups: ``[N]`` names of the groups (hospital, subject) that must stay on one
            side of a split, or None.
        split_name: ``[N]`` part of an official split, such as "train" or "test"; or
            None.
        given_schema: Schema that was passed; None if it is inferred from the columns.

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
        arrays: ModalityArrays,
        *,
        y: LabelLike | None = None,
        ids: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        times: ModalityArrays | None = None,
        present: MaskLike | None = None,
        schema: Schema | None = None,
        split_name: ArrayLike | None = None,
    ) -> "MultimodalData":
        """Build data from arrays, tensors and lists.

        An entry that is None, empty or all NaN is a missing modality. NaN cells inside
        an observed entry are kept; infinite cells are an error.

        Args:
            arrays: Values by modality, with one entry per sample: numbers ``[N, C]`` or
                ``[N]``, sequences ``[N, T, C]``, or a list of N entries. The entries of
                a list are sequences ``[T_i, C]`` or ``[T_i]``, vectors ``[C]``,
                strings, or None. Strings are text; if the schema has kind "image" or
                "audio", they are paths of files. 1-D entries of equal length without
                times are read as vectors, otherwise as sequences of one channel;
                ``tokens`` of the schema overrides this rule. A data frame is a table,
                whose columns may be categories; those of a list with one data frame per
                sample are aligned by name, and a column of dates holds the times.
                Objects of pandas must have the same index.
            y: Labels, ``[N]`` numbers or strings, or ``[N, K]`` numbers for several
                targets; missing labels are NaN or None.
            ids: ``[N]`` unique numbers or strings. Default: 0 to N - 1.
            groups: ``[N]`` numbers or strings; samples of one group are never
                separated by a split.
            times: Time stamps in seconds of each row, by modality, in the layout of
                its values. The rows of a sample are sorted by time.
            present: Availability as ``[N, M]`` booleans, or ``[N]`` booleans by
                modality; True is observed. Values where it is False are never read.
                Default: the values alone decide.
            schema: Schema that the columns must fit. Default: a star of the modalities.
            split_name: ``[N]`` part of an official split ("train", "test"), or None.

        Returns:
            Data with the modalities in the order of ``arrays``.

        Raises:
            DataError: If lengths, shapes, types or indices contradict each other or the
                schema.

        Example:
            >>> labs = [[5.1, 40.0], [6.2, 38.0]]
            >>> ecg = [[[0.1], [0.3], [0.2]], None]  # 3 steps of 1 channel; missing
            >>> MultimodalData.from_arrays({"labs": labs, "ecg": ecg})
            MultimodalData: 2 samples
              labs: [N, 2] vector, 0% missing
              ecg: [N, T, 1] vector, 50% missing
        """
        check_mapping("arrays", arrays)
        names = tuple(arrays)
        num_samples = count_samples(arrays)
        keep = read_present(present, names, num_samples)
        times = {} if times is None else times
        if times:
            check_mapping("times", times)
        check_names("times", times, names)
        metadata = {"y": y, "ids": ids, "groups": groups, "split_name": split_name}
        clocks = {f"times[{name!r}]": each for name, each in times.items()}
        check_same_index({**arrays, **metadata, **clocks, "present": present})
        tokens = {m.name: m.tokens for m in schema.modalities} if schema else {}
        columns = {}
        for i, (name, content) in enumerate(arrays.items()):
            values = unpack_frames(name, content, times.get(name))
            column = build_column(
                name,
                values.content,
                present=keep[:, i],
                times=values.times,
                tokens=tokens.get(name),
            )
            columns[name] = values.label(column)
            if column.is_text and schema is None:
                warn_about_numbers(name, column.values)
        return cls.from_columns(
            columns, y=y, ids=ids, groups=groups, split_name=split_name, schema=schema
        )

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator["MultimodalData"]:
        return (self[i] for i in range(len(self)))

    def __array__(self, *_: object, **__: object) -> NoReturn:
        """Refuse the conversion to an array, which NumPy would make of single samples.

        Raises:
            DataError: Always.
        """
        raise DataError(
            "MultimodalData cannot be an array: its modalities have different shapes. "
            "Use data.features()[name] for numbers of a modality; the guide "
            "'scikit-learn' has a way for tools that need arrays."
        )

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

    def _repr_html_(self) -> str:
        """Return a table of the modalities as HTML for notebooks."""
        modalities = {m.name: m for m in self.schema.modalities}
        rows = []
        for name, column in self.columns.items():
            share = 1 - column.present.mean() if len(self) else 0.0
            kind, tokens = modalities[name].kind, modalities[name].tokens
            rows.append((name, kind, column.channels, tokens, f"{share:.0%}"))
        header = ("modality", "kind", "channels", "tokens", "missing")
        return table_html(f"MultimodalData: {self._caption}", header, rows)

    @property
    def _caption(self) -> str:
        """Number of samples, labels and groups as text."""
        parts = [f"{len(self)} samples"]
        if self.y is None:
            parts.append("no labels")
        else:
            classes = class_numbers(self.y)
            kind = "labels" if classes is None else f"{classes.max() + 1} classes"
            missing = int(missing_labels(self.y).sum())
            parts.append(f"{kind} (missing: {missing})" if missing else kind)
        if self.groups is not None:
            parts.append(f"{len(np.unique(self.groups))} groups")
        return "; ".join(parts)

    def __getitem__(self, key: IndexLike) -> "MultimodalData":
        """Return a selection of samples.

        Args:
            key: Integers, N booleans, a slice, one integer (data of one sample), or a
                tuple of one of these and ``...``, the form that scikit-learn uses.

        Returns:
            Data of the samples in the order of the key, with repeats.

        Raises:
            DataError: If an index is out of range or of an unknown type.

        Example:
            >>> data = MultimodalData.from_arrays({"a": [[1.0], [2.0], [3.0]]})
            >>> data[1:].ids
            array([1, 2])
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
        """Number of samples N and of modalities M."""
        return len(self), len(self.columns)

    @cached_property
    def present(self) -> BoolArray:
        """Availability ``[N, M]``: True where the modality was observed."""
        return np.stack([c.present for c in self.columns.values()], axis=1)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of the values, times, labels, groups and split names.

        Equal samples in the same order have equal fingerprints. Ids, channel names and
        the schema are not part of it. Benchmark results are stored under it.
        """
        sha = hashlib.sha256()
        for name, column in self.columns.items():
            sha.update(f"{name}{column.values.shape}".encode())
            for array in (*_cell_arrays(column), column.offsets, column.time):
                sha.update(_content_bytes(array))
        for array in (self.y, self.groups, self.split_name):
            sha.update(_content_bytes(array))
        return sha.hexdigest()

    def describe(self) -> DataSummary:
        """Return types, ranges and missing patterns of the data.

        Returns:
            Summary with one entry per modality and channel, the sets of present
            modalities, labels and groups. It prints as text and as tables in
            notebooks; ``to_frame()`` returns a data frame with one row per channel.

        Example:
            >>> labs = [[1.0, 4.0], [3.0, float("nan")], None]
            >>> arrays = {"labs": labs, "note": ["stable", None, None]}
            >>> MultimodalData.from_arrays(arrays, y=["a", "b", "b"]).describe()
            3 samples; 2 classes: b (67%), a (33%)
            labs: vector, 2 channels, 33% missing
              0: mean 2, sd 1, range [1, 3]
              1: mean 4, sd 0, range [4, 4], 50% missing
            note: text, 67% missing
              mean 6 characters, sd 0, range [6, 6]
            3 patterns of present modalities
              1 (33%): none
              1 (33%): labs
              1 (33%): labs, note
        """
        return summarize(self.columns, self.schema, self.y, self.groups)

    def with_schema(self, schema: Schema) -> "MultimodalData":
        """Return the data with another schema.

        A warning names relations in time that would connect nodes of merged rows with
        themselves only, see ``max_nodes`` of :class:`mmgraph.Modality`.

        Args:
            schema: Schema that the columns must fit. It may have modalities that the
                data lack: they count as missing in all samples.

        Returns:
            Data in the form of the schema, see :meth:`conform`.

        Raises:
            DataError: If a column does not fit the schema.

        Example:
            >>> arrays = {"a": [[1.0], [2.0]], "b": [[3.0], [4.0]]}
            >>> data = MultimodalData.from_arrays(arrays)
            >>> data.with_schema(Schema.late(data.schema.modalities)).schema.readout
            ('a', 'b')
        """
        data = replace(self.conform(schema), given_schema=schema)
        warn_self_loops(data.columns, schema)
        return data

    def conform(self, schema: Schema) -> "MultimodalData":
        """Return the data in the form of a schema, without adopting the schema.

        Lists of equal length are read as vectors by default; where the schema has
        ``tokens="ragged"``, they become sequences.

        Args:
            schema: Schema that the columns must fit.

        Returns:
            Data with converted columns and the schema they had before.

        Raises:
            DataError: If a column does not fit the schema.

        Example:
            >>> data = MultimodalData.from_arrays({"ecg": [[0.1, 0.2, 0.3]]})
            >>> schema = Schema.star([Modality("ecg", 1, tokens="ragged")])
            >>> data.conform(schema).columns["ecg"].lengths
            array([3])
        """
        return replace(self, columns=fit_columns(self.columns, schema))

    def check(self, schema: Schema) -> None:
        """Check that every column fits a schema.

        A modality of the schema that the data lack is no error: it is missing in all
        samples.

        Args:
            schema: Schema to compare with.

        Raises:
            DataError: If a modality is not in the schema, or its width, type or times
                differ.

        Example:
            >>> data = MultimodalData.from_arrays({"a": [[1.0, 2.0]]})
            >>> data.check(Schema.star([Modality("a", 2), Modality("b", 1)]))
        """
        fit_columns(self.columns, schema)

    def replace(self, **changes: ArrayLike | None) -> "MultimodalData":
        """Return the data with other ``y``, ``ids``, ``groups`` or ``split_name``.

        Args:
            **changes: New entries, one per sample; None removes them (default ids
                become 0 to N - 1).

        Returns:
            Data with the same columns and schema.

        Raises:
            DataError: If a name is unknown, or there is not one entry per sample.

        Example:
            >>> data = MultimodalData.from_arrays({"a": [[1.0], [2.0]]})
            >>> data.replace(y=["stable", "worse"]).y
            array(['stable', 'worse'], dtype='<U6')
        """
        unknown = sorted(set(changes) - set(self._metadata))
        if unknown:
            raise DataError(
                f"replace must name y, ids, groups or split_name, got {unknown[0]!r}. "
                "Build new data with from_arrays."
            )
        return self.from_columns(
            self.columns, schema=self.given_schema, **{**self._metadata, **changes}
        )

    @staticmethod
    def concat(parts: Sequence["MultimodalData"]) -> "MultimodalData":
        """Concatenate data along the samples, with the union of the modalities.

        Args:
            parts: Data to concatenate, at least one. A modality that a part lacks is
                missing in its samples, as is a column of a modality, with a warning.

        Returns:
            Data of all samples in order. If all parts have the default ids, the
            samples are renumbered from 0. The schema is kept if all parts have the
            same one.

        Raises:
            DataError: If ids repeat, columns differ in width or type, or only some
                parts have labels, groups or a split name.

        Example:
            >>> a = MultimodalData.from_arrays({"labs": [[1.0], [2.0]]})
            >>> b = MultimodalData.from_arrays({"ecg": [[0.5, 0.4]]})
            >>> MultimodalData.concat([a, b]).present
            array([[ True, False],
                   [ True, False],
                   [False,  True]])
        """
        if not parts:
            raise DataError("concat must get at least one part, got none. Pass data.")
        for part in parts:
            if not isinstance(part, MultimodalData):
                raise DataError(
                    f"concat must get MultimodalData, got {type(part).__name__}. "
                    "Remove it from the parts."
                )
        names = dict.fromkeys(name for part in parts for name in part.columns)
        columns = {}
        for name in names:
            pieces = [p.columns.get(name) or empty_column(len(p)) for p in parts]
            warn_lacking_channels(name, pieces)
            columns[name] = concat_columns(name, pieces)
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
        """Split at random into training and test data; groups stay together.

        A warning names an official split, which :meth:`official_split` returns.

        Args:
            test_size: Share of the samples in the test part, between 0 and 1. With
                groups it is approximate.
            seed: Seed of the random choice; the same seed gives the same split.
            stratify: Preserve the class proportions if ``y`` is discrete: integers,
                strings or booleans of at most 50 values, each of which occurs at
                least twice. Ignored otherwise.

        Returns:
            Training data and test data, samples in their original order.

        Raises:
            DataError: If there are fewer than two samples or groups.
            MMGraphError: If ``test_size`` is not between 0 and 1.

        Example:
            >>> arrays, y = {"a": torch.ones(10, 1)}, [0, 1] * 5
            >>> data = MultimodalData.from_arrays(arrays, y=y)
            >>> train, test = data.split(0.4)
            >>> len(train), test.y.tolist().count(1)
            (6, 2)
        """
        warn_official_split(self.split_name)
        train, test = split_indices(
            len(self),
            test_size,
            seed=seed,
            codes=stratification_codes(self.y) if stratify else None,
            groups=self.groups,
        )
        return self[train], self[test]

    def official_split(self) -> tuple["MultimodalData", "MultimodalData"]:
        """Return the training and test data of the official split, ``split_name``.

        Returns:
            Samples whose part is "train" and samples whose part is "test". Parts of
            other names, such as "validation", are in neither.

        Raises:
            DataError: If the data have no official split, or it lacks one of the parts.

        Example:
            >>> data = mmgraph.load_dataset("basic_motions")
            >>> train, test = data.official_split()
            >>> len(train), len(test)
            (40, 40)
        """
        train, test = official_indices(self.split_name)
        return self[train], self[test]

    def leave_one_group_out(
        self,
    ) -> Iterator[tuple[str | int, "MultimodalData", "MultimodalData"]]:
        """Yield one split per group: leave one subject, site or recording out.

        Yields:
            Name of the group, data of all other groups, and data of the group; in the
            order of the names.

        Raises:
            DataError: If the data have no groups, or only one.

        Example:
            >>> arrays = {"a": [[1.0], [2.0], [3.0]]}
            >>> data = MultimodalData.from_arrays(arrays, groups=["eva", "ann", "eva"])
            >>> for person, train, test in data.leave_one_group_out():
            ...     print(person, train.ids, test.ids)
            ann [0 2] [1]
            eva [1] [0 2]
        """
        for group in group_names(self.groups):
            held = self.groups == group
            yield group, self[~held], self[held]

    def mask(self, present: MaskLike) -> "MultimodalData":
        """Return the data without the modalities that a mask excludes.

        Args:
            present: ``[N, M]`` booleans, or ``[N]`` booleans by modality; False removes
                the modality from the sample. Modalities that are not named are kept.
                True does not restore what was missing before.

        Returns:
            Data of the same samples.

        Raises:
            DataError: If the shape is wrong or a modality is unknown.

        Example:
            >>> arrays = {"a": [[1.0], [2.0]], "b": [[3.0], [4.0]]}
            >>> data = MultimodalData.from_arrays(arrays)
            >>> data.mask({"b": [True, False]}).present
            array([[ True,  True],
                   [ True, False]])
        """
        keep = read_present(present, self.modalities, len(self))
        columns = {
            name: column.mask(keep[:, i])
            for i, (name, column) in enumerate(self.columns.items())
        }
        return replace(self, columns=columns)

    def select(self, modalities: Sequence[str]) -> "MultimodalData":
        """Return the data with a subset of the modalities.

        Args:
            modalities: Names, or one name; the result has their order.

        Returns:
            Data of the same samples. A schema that was passed is reduced to these
            modalities and the relations between them.

        Raises:
            DataError: If a modality is unknown or there is no name.

        Example:
            >>> data = MultimodalData.from_arrays({"a": [[1.0]], "b": [[2.0]]})
            >>> data.select(["b"]).modalities
            ('b',)
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

    def shift_times(self, seconds: Mapping[str, float | ArrayLike]) -> "MultimodalData":
        """Return the data with seconds added to the times of some modalities.

        Args:
            seconds: A number by modality, or ``[N]`` numbers, one per sample. NaN
                leaves the times of a sample unchanged. A clock that is ahead by the
                ``seconds`` of :func:`mmgraph.alignment.estimate_offset` is corrected by
                their negative.

        Returns:
            Data of the same samples.

        Raises:
            DataError: If a modality is unknown or has no times, or a shift is infinite.

        Example:
            >>> arrays, times = {"ecg": [[0.1, 0.4]]}, {"ecg": [[5.0, 5.5]]}
            >>> data = MultimodalData.from_arrays(arrays, times=times)
            >>> data.shift_times({"ecg": -0.5}).columns["ecg"].time
            array([4.5, 5. ])
        """
        return replace(self, columns=shift_columns(self.columns, seconds))

    def stretch_times(
        self, factors: Mapping[str, float | ArrayLike]
    ) -> "MultimodalData":
        """Return the data with the times of some modalities multiplied.

        The first row of each sample keeps its time.

        Args:
            factors: A factor above 0 by modality, or ``[N]`` factors, one per sample.
                NaN leaves the times of a sample unchanged.

        Returns:
            Data of the same samples.

        Raises:
            DataError: If a modality is unknown or has no times, or a factor is not
                above 0 and finite.

        Example:
            >>> arrays, times = {"ecg": [[0.1, 0.4]]}, {"ecg": [[5.0, 5.5]]}
            >>> data = MultimodalData.from_arrays(arrays, times=times)
            >>> data.stretch_times({"ecg": 2.0}).columns["ecg"].time
            array([5., 6.])
        """
        return replace(self, columns=stretch_columns(self.columns, factors))

    def resample(self, rates: float | Mapping[str, float]) -> "MultimodalData":
        """Return the data with sequences at regular times.

        To a lower rate, the rows of each interval are averaged, which damps frequencies
        above the new rate; to a higher rate, rows are interpolated linearly. Gaps of
        more than two periods stay gaps. Models need no common rate: resample to save
        memory and time, or to make irregular times regular.

        Args:
            rates: Hz of all sequences of numbers with times, or by modality.

        Returns:
            Data of the same samples.

        Raises:
            DataError: If a rate is not above 0, or a modality that is named is unknown,
                has no times, or holds categories or text.

        Example:
            >>> heart = {"hr": [[60.0, 62.0, 64.0, 66.0]]}
            >>> times = {"hr": [[0.0, 1.0, 2.0, 3.0]]}
            >>> data = MultimodalData.from_arrays(heart, times=times).resample(0.5)
            >>> data.columns["hr"].values[:, 0], data.columns["hr"].time
            (array([61., 65.], dtype=float32), array([0.5, 2.5]))
        """
        return replace(self, columns=resample_columns(self.columns, rates))

    def windows(
        self,
        seconds: float,
        *,
        step: float | None = None,
        label: str | None = None,
        rule: Rule = "majority",
        share: float = 0.0,
        coverage: float = 0.0,
    ) -> "MultimodalData":
        """Cut long recordings into windows of equal duration, by time.

        Sequences are cut at the same times, whatever their rates; modalities without
        times are repeated. The last window ends with the recording or before it.
        Windows in which no sensor has a row are left out.

        Args:
            seconds: Duration of a window.
            step: Seconds from the start of a window to the start of the next. Default:
                the duration; below it, windows overlap.
            label: Modality that holds labels over time, see :meth:`from_recordings`. It
                becomes ``y`` and is no modality of the windows; windows without label
                are left out. Default: windows have the label of their recording.
            rule: Label of a window: "majority", the label that holds longest; "last",
                that at its end; "center", that at its center; "mean", the mean of
                numbers over time. With "last" or "center" and a small step, there is
                one label per time step.
            share: Share of the window that the label (with "mean", any label) must
                cover; other windows are left out.
            coverage: Share of the rows, of those expected from the median step of the
                sensor in the recording, below which the sensor is missing in a window.

        Returns:
            Windows in the order of the recordings, with times from their start, and ids
            such as "p1@20" with the seconds from the start of the recording. Groups are
            those of the recordings, or else the recordings: windows of one recording
            stay on one side of a split.

        Raises:
            DataError: If a sequence has no times, no recording is long enough, no
                window has a label, or an argument is out of range.

        Example:
            >>> heart = {"hr": [[[60.0], [62.0], [64.0], [66.0]]]}
            >>> times = {"hr": [[0.0, 1.0, 2.0, 3.0]]}
            >>> data = MultimodalData.from_arrays(heart, times=times, ids=["p1"])
            >>> data.windows(2, step=1).ids
            array(['p1@0', 'p1@1', 'p1@2'], dtype='<U4')
        """
        columns, grid, y = cut_windows(
            self.columns,
            seconds,
            step,
            label=label,
            rule=rule,
            share=share,
            coverage=coverage,
        )
        schema = self.given_schema
        if schema is not None and label is not None:
            schema = narrow_schema(schema, [*columns])
        if label is None and self.y is not None:
            y = self.y[grid.sample]
        split = self.split_name
        return self.from_columns(
            columns,
            y=y,
            ids=window_ids(self.ids, grid),
            groups=(self.ids if self.groups is None else self.groups)[grid.sample],
            split_name=None if split is None else split[grid.sample],
            schema=schema,
        )

    def join(self, modalities: Sequence[str], *, name: str) -> "MultimodalData":
        """Return the data with several modalities as one: fusion at the data level.

        The joined modality is a vector. A sample has it if it has any of its parts; the
        cells of parts that it lacks are NaN. Categories stay categories.

        Args:
            modalities: Names of modalities of one vector per sample.
            name: Name of the joined modality, which takes the place of the first one.

        Returns:
            Data of the same samples, with a star of the modalities as schema; a schema
            that was passed is not kept.

        Raises:
            DataError: If a modality is unknown, named twice, a text or a sequence, has
                times, or ``name`` is the name of another modality.

        Example:
            >>> arrays = {"a": [[1.0], None], "b": [[2.0, 3.0], [4.0, 5.0]]}
            >>> data = MultimodalData.from_arrays(arrays)
            >>> data.join(["a", "b"], name="record").columns["record"].values
            array([[ 1.,  2.,  3.],
                   [nan,  4.,  5.]], dtype=float32)
        """
        names = [modalities] if isinstance(modalities, str) else list(modalities)
        check_names("join", names, self.modalities)
        if not names or len(set(names)) < len(names):
            raise DataError(
                f"join must name one or more modalities, each once, got {names}. List "
                "each modality once."
            )
        if not isinstance(name, str) or name in set(self.modalities) - set(names):
            raise DataError(
                f"name must be a name that no other modality has, got {name!r}. "
                f"Modalities: {', '.join(self.modalities)}."
            )
        joined = join_columns({each: self.columns[each] for each in names})
        first = min(map(self.modalities.index, names))
        columns = {
            (name if i == first else old): (joined if i == first else column)
            for i, (old, column) in enumerate(self.columns.items())
            if i == first or old not in names
        }
        return replace(self, columns=columns, given_schema=None)

    def features(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return one feature vector of fixed width per sample and modality.

        Returns:
            ``[N, F]`` by modality, all NaN where the modality is missing. F is C for
            single rows, with one channel per category; 25 C summary statistics for
            sequences; 256 hashed word counts for text; 384 color and edge features for
            an image and 64 log-mel features for an audio file given by its path.

        Raises:
            DataError: If a path does not lead to an image or audio file.

        Example:
            >>> data = MultimodalData.from_arrays({"note": ["stable", None]})
            >>> data.features()["note"].shape
            (2, 256)
        """
        return {
            name: describe_rows(column, self.schema.modality(name).kind)
            for name, column in self.columns.items()
        }

    def batch(self, indices: IndexLike | None = None) -> Batch:
        """Return samples as a batch of tensors, with the rows that were observed.

        Args:
            indices: Samples to pack, in this order. Default: all.

        Returns:
            Batch with float32 values. Float labels are float32, integer and boolean
            labels int64; string labels are left out.

        Raises:
            DataError: If an index is out of range, or a modality holds strings.

        Example:
            >>> data = MultimodalData.from_arrays({"a": [[1.0], None, [3.0]]})
            >>> data.batch([2, 1]).x["a"]
            tensor([[3.]])
        """
        return collate(self.columns, self.y, resolve_indices(indices, len(self)))

    def equals(self, other: "MultimodalData") -> bool:
        """Compare with other data; NaN equals NaN.

        Args:
            other: Data to compare with.

        Returns:
            True if both have the same values in the same order, and the same schema,
            channel names and metadata.

        Example:
            >>> data = MultimodalData.from_arrays({"a": [[1.0, float("nan")]]})
            >>> data.equals(data[[0]])
            True
        """
        pairs = zip(self._metadata.values(), other._metadata.values(), strict=True)
        return (
            self.modalities == other.modalities
            and self.schema == other.schema
            and all(same_metadata(a, b) for a, b in pairs)
            and all(c.equals(other.columns[n]) for n, c in self.columns.items())
        )

    @cached_property
    def schema(self) -> Schema:
        """Schema that was passed; otherwise a star of the columns."""
        return self.given_schema or infer_schema(self.columns)

    @classmethod
    def from_columns(
        cls,
        columns: Mapping[str, Column],
        *,
        y: LabelLike | None = None,
        ids: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        split_name: ArrayLike | None = None,
        schema: Schema | None = None,
    ) -> "MultimodalData":
        """Build data from columns.

        Args:
            columns: Columns by modality, at least one, all of the same length.
            y: Labels, see :meth:`from_arrays`.
            ids: ``[N]`` unique ids. Default: 0 to N - 1.
            groups: ``[N]`` groups, or None.
            split_name: ``[N]`` part of an official split, or None.
            schema: Schema that the columns must fit. Default: a star of the modalities.

        Returns:
            Data with the modalities in the order of ``columns``.

        Raises:
            DataError: If labels, ids, groups or the schema do not fit the columns.

        Example:
            >>> data = MultimodalData.from_arrays({"a": [[1.0], [2.0]]})
            >>> MultimodalData.from_columns(data.columns, y=[0, 1]).y
            array([0, 1])
        """
        num_samples = len(next(iter(columns.values())))

        def metadata(subject: str, values: ArrayLike | None) -> AnyArray | None:
            return None if values is None else as_metadata(subject, values, num_samples)

        unique_ids = metadata("ids", np.arange(num_samples) if ids is None else ids)
        assert unique_ids is not None
        check_unique(unique_ids)
        known_groups = metadata("groups", groups)
        if known_groups is not None:
            check_known("groups", known_groups)
        fitted = dict(columns) if schema is None else fit_columns(columns, schema)
        warn_origins(fitted)
        return cls(
            columns=fitted,
            ids=unique_ids,
            y=metadata("y", y),
            groups=known_groups,
            split_name=metadata("split_name", split_name),
            given_schema=schema,
        )

    @classmethod
    def from_arrow(
        cls,
        table: "pa.Table",
        *,
        modalities: ModalityMapping | None = None,
        y: str | Sequence[str] | None = METADATA_NAMES["y"],
        ids: str | None = METADATA_NAMES["ids"],
        groups: str | None = METADATA_NAMES["groups"],
    ) -> "MultimodalData":
        """Read an Arrow table with one row per sample.

        The guide "What mmgraph does with your columns" states what each column becomes.

        Args:
            table: Table that :meth:`to_arrow` returned, or any other table together
                with ``modalities``. Data frames of polars and of other libraries with
                the Arrow PyCapsule interface are tables, too.
            modalities: Columns of each modality, see :meth:`from_parquet`.
            y: Column of labels, or several columns for several targets; None reads
                none.
            ids: Column of ids, see :meth:`from_parquet`.
            groups: Column of groups, see :meth:`from_parquet`.

        Returns:
            Data of all rows.

        Raises:
            DataError: If a column does not exist or cannot be read.

        Example:
            >>> import pyarrow
            >>> table = pyarrow.table({"age": [61, None], "y": [0, 1]})
            >>> names = {"history": ["age"]}
            >>> MultimodalData.from_arrow(table, modalities=names, y="y").present
            array([[ True],
                   [False]])
        """
        table = as_table(table)
        check_no_label_leak(modalities, y)
        parts = parse_table(table, modalities=modalities, y=y, ids=ids, groups=groups)
        has_default_ids = modalities is not None and isinstance(ids, DefaultColumn)
        if (
            has_default_ids
            and parts["ids"] is not None
            and not can_be_ids(parts["ids"])
        ):
            parts["ids"] = None
            warn_unused_ids(str(ids))
        if modalities is not None:
            label = y if isinstance(y, str) else None
            roles = default_roles(
                {"y": label, "ids": ids, "groups": groups}, table.column_names
            )
            used = {
                column: field
                for column, field in roles.items()
                if parts[field] is not None
            }
            warn_default_roles(used | time_roles(modalities, table.column_names))
        return cls.from_columns(**parts)

    def to_arrow(self) -> "pa.Table":
        """Return an Arrow table with one row per sample.

        Returns:
            Table with one column per modality, null where it is missing, columns for
            ids, labels, groups and split, and the schema as metadata. The functions of
            :class:`mmgraph.Custom` topologies cannot be stored: such a schema is
            stored as a star.

        Raises:
            DataError: If a modality is named "id", "y", "group" or "split".

        Example:
            >>> data = MultimodalData.from_arrays({"note": ["stable", None]})
            >>> data.to_arrow().column_names
            ['id', 'note']
        """
        given = self.given_schema is not None
        return build_table(
            self.columns, self._metadata, self.schema, schema_given=given
        )

    @classmethod
    def from_parquet(
        cls,
        path: PathLike,
        *,
        modalities: ModalityMapping | None = None,
        y: str | Sequence[str] | None = METADATA_NAMES["y"],
        ids: str | None = METADATA_NAMES["ids"],
        groups: str | None = METADATA_NAMES["groups"],
    ) -> "MultimodalData":
        """Read a Parquet or CSV file with one row per sample.

        The guide "What mmgraph does with your columns" states what each column becomes.
        Ids, labels and groups keep every digit and leading zero.

        Args:
            path: Path of the file. A name that ends in .csv or .csv.gz is read as CSV
                in UTF-8, or in UTF-16 with a byte-order mark, with commas, semicolons,
                tabs or bars between columns, where an empty cell and NA are null.
            modalities: Columns of each modality, for files that :meth:`to_parquet` did
                not write: a list of numeric or categorical columns (see
                :meth:`from_pandas`), or the name of one column of strings (text, or
                categories if they are few and short), numbers or lists. Nulls are
                missing values.
            y: Column of labels, or several columns for several targets; None reads
                none. Default: "y", which must exist unless
                :meth:`to_parquet` wrote the file without labels.
            ids: Column of ids; None numbers the samples. Default: "id" if it exists,
                otherwise the samples are numbered. With ``modalities`` they are also
                numbered if "id" has repeats or nulls, or holds neither numbers nor
                strings.
            groups: Column of groups; None reads none. Default: "group" if it exists
                and holds numbers or strings. A `DataWarning` lists the defaults that
                were read from a file that :meth:`to_parquet` did not write.

        Returns:
            Data of all rows.

        Raises:
            DataError: If the file or a column does not exist or cannot be read; the
                message names both.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> data = MultimodalData.from_arrays({"note": ["stable", None]}, y=[0, 1])
            >>> with TemporaryDirectory() as folder:
            ...     data.to_parquet(f"{folder}/cohort.parquet")
            ...     MultimodalData.from_parquet(f"{folder}/cohort.parquet").equals(data)
            True
        """
        table = read_table(path)
        try:
            return cls.from_arrow(
                table, modalities=modalities, y=y, ids=ids, groups=groups
            )
        except MMGraphError as error:
            raise DataError.inside(path, error) from None

    @classmethod
    def from_folder(cls, folder: PathLike, *, raw: bool = False) -> "MultimodalData":
        """Read images, texts and audio from a folder; files of one stem are one sample.

        ``birds/robin.png``, ``birds/robin.txt`` and ``birds/robin.wav`` are the
        modalities ``image``, ``text`` and ``sound`` of the sample ``birds/robin``.
        By default an image becomes 384 color and edge features and an audio file 64
        log-mel features, without a pretrained model.

        Args:
            folder: Folder, searched recursively for images (``.png .jpg .tif`` and
                other formats of Pillow, which is needed), ``.txt`` in UTF-8, ``.wav``,
                and other audio (``.ogg .flac .mp3``; needs soundfile). A warning names
                files of other kinds; hidden files are ignored.
            raw: Keep the paths of images and audio for a pretrained encoder.
                Estimators without an encoder compute the features above.

        Returns:
            Data with the paths without suffix as ids, sorted, in Unicode normal form
            C.

        Raises:
            ConfigError: If Pillow or soundfile is needed and not installed.
            DataError: If there is no file, a file does not match its suffix, or a
                sample has two files of one modality.

        Example:
            >>> from pathlib import Path
            >>> from tempfile import TemporaryDirectory
            >>> with TemporaryDirectory() as folder:
            ...     _ = Path(folder, "robin.txt").write_text("a small bird")
            ...     MultimodalData.from_folder(folder).ids
            array(['robin'], dtype='<U5')
        """
        from mmgraph.data.io import folder as files

        samples = files.find_files(Path(folder))
        readers = files.RAW_READERS if raw else files.READERS
        columns = files.read_columns(list(samples.values()), readers)
        schema = files.raw_schema(list(columns)) if raw else None
        return cls.from_columns(columns, ids=list(samples), schema=schema)

    @classmethod
    def from_recordings(
        cls,
        folder: PathLike,
        labels: "PathLike | pd.DataFrame | pa.Table | None" = None,
        *,
        modalities: Mapping[str, Sequence[str]] | None = None,
        rates: float | Mapping[str, float] | None = None,
        time: str | None = None,
        y: str | None = METADATA_NAMES["y"],
        ids: str | None = None,
        groups: str | None = METADATA_NAMES["groups"],
    ) -> "MultimodalData":
        """Read a folder of recordings of sensors: CSV, Parquet, EDF, BDF or WFDB.

        A sample is a recording; :meth:`windows` cuts it into windows. Every sensor
        keeps its rate and the names of its channels. Rows that are all empty do not
        exist, so that a table may hold sensors of several rates.

        Args:
            folder: Folder, searched recursively. A recording ``p1`` is one file, such
                as ``p1.edf``, or one file per sensor: ``p1/acc.csv``, ``acc/p1.csv``,
                ``p1_acc.csv``, ``p1-acc.csv`` or ``p1.acc.csv``.
            labels: Table with one row per recording, or one row per interval with the
                columns "start" and "stop" on the clock of the recordings. It decides
                which recordings are read, and their order. None reads every file: those
                in subfolders as ``recording/sensor``, others as recordings.
            modalities: Names of the channels of each modality. Default: each sensor; in
                a file of several sensors, the channels with the same first word (up to
                a space, "_", "-" or "."), and the others alone.
            rates: Hz, one number or by modality, of tables without a column of times.
            time: Column of times in tables. Default: a column named like "time",
                "timestamp" or "time_ms", or the column of dates. It is no channel.
            y: Column of labels. Labels of intervals, and labels that are a column of
                the recordings, become a modality of this name for the ``label`` of
                :meth:`windows`.
            ids: Column of the recordings in the table of labels. Default: "recording",
                "id", "file", "filename" or "record".
            groups: Column of groups, such as the subject.

        Returns:
            Data with one sample per recording. Times of EDF and WFDB files count from
            the earliest start among the files of the recording.

        Raises:
            ConfigError: If edfio or wfdb is needed and not installed.
            DataError: If a file or the table cannot be read, a channel has no times and
                no rate, or its unit differs between recordings.

        Example:
            >>> import pandas as pd
            >>> from tempfile import TemporaryDirectory
            >>> acc = pd.DataFrame({"time": [0, 0.5], "x": [1, 3], "y": [2, 4]})
            >>> hr = pd.DataFrame({"time": [0], "bpm": [61]})
            >>> labels = pd.DataFrame({"recording": ["p1"], "activity": ["walk"]})
            >>> with TemporaryDirectory() as folder:
            ...     acc.to_csv(f"{folder}/p1_acc.csv", index=False)
            ...     hr.to_csv(f"{folder}/p1_hr.csv", index=False)
            ...     MultimodalData.from_recordings(folder, labels, y="activity")
            MultimodalData: 1 samples
              acc: [N, T, 2] vector, 0% missing
              hr: [N, T, 1] vector, 0% missing
        """
        from mmgraph.data.io import recordings as files

        files.check_rates(rates)
        table = (
            None
            if labels is None
            else files.read_label_table(labels, y=y, ids=ids, groups=groups)
        )
        known = None if table is None else table.recordings
        found = files.find_recordings(Path(folder), known, labels=labels)
        content = files.read_recordings(found, time)
        return cls.from_columns(
            **files.build_parts(
                [*found], content, table, modalities=modalities, rates=rates, y=y
            )
        )

    def to_parquet(self, path: PathLike) -> None:
        """Write a Parquet file with page checksums, for :meth:`from_parquet`.

        Args:
            path: File to write; replaced if it exists.

        Raises:
            DataError: If the file cannot be written, or a modality is named "id", "y",
                "group" or "split".

        Example:
            See :meth:`from_parquet`.
        """
        write_table(self.to_arrow(), path)

    @classmethod
    def from_pandas(
        cls,
        frame: "pd.DataFrame",
        modalities: FrameMapping,
        *,
        y: ColumnLabel | Iterable[ColumnLabel] | None = None,
        ids: ColumnLabel | None = None,
        groups: ColumnLabel | None = None,
    ) -> "MultimodalData":
        """Read a pandas data frame with one row per sample.

        The guide "What mmgraph does with your columns" states what each column becomes.

        Args:
            frame: Data frame. Booleans become 0 and 1, dates days; missing cells are
                missing values. Labels of columns may be numbers or tuples.
            modalities: Columns of each modality: a list of numeric and categorical
                columns, or the name of one column of strings (text, or categories if
                they are few and short) or of arrays (sequences). The times of a column
                "ecg" are read from "ecg.time" if it exists. Estimators encode a
                categorical column, of at most 64 categories, as one channel for each
                category in the training rows: "sex" becomes "sex=f" and "sex=m", both
                NaN where the cell is missing. "sex=f" in a list selects one category.
            y: Column of labels, or several columns for several targets; None reads
                none.
            ids: Column of ids; None numbers the samples.
            groups: Column of groups; None reads none.

        Returns:
            Data of all rows.

        Raises:
            DataError: If a column does not exist or cannot be read.

        Example:
            >>> import pandas as pd
            >>> frame = pd.DataFrame({"age": [61, 58], "sex": ["f", None]})
            >>> data = MultimodalData.from_pandas(frame, {"history": ["age", "sex"]})
            >>> data.columns["history"].names
            ('age', 'sex')
        """
        return cls.from_columns(**parse_frame(frame, modalities, y, ids, groups))

    def to_pandas(self) -> "pd.DataFrame":
        """Return a pandas data frame with one row per sample.

        Returns:
            Columns "id", "y" ("y.0", "y.1", ... for several targets), "group" and
            "split", as far as the data have them; then "modality.channel" for single
            rows, with categories as strings, and one column of arrays or strings, None
            where missing, for sequences and text. Times are in "modality.time".

        Raises:
            DataError: If two columns would have the same name.

        Example:
            >>> data = MultimodalData.from_arrays({"labs": [[1.0, 2.0]]}, y=[1])
            >>> list(data.to_pandas())
            ['id', 'y', 'labs.0', 'labs.1']
        """
        return build_frame(self.columns, self._metadata)

    @classmethod
    def from_hetero_data(
        cls, graphs: Iterable["HeteroData"], *, schema: Schema | None = None
    ) -> "MultimodalData":
        """Read one PyTorch Geometric graph per sample.

        Args:
            graphs: Heterogeneous graphs whose node types are the modalities: a list, a
                generator, a batch of PyTorch Geometric, or one graph. They have
                ``x [T, C]`` or ``text`` (a list of one string), and optionally
                ``time [T]``. A node type that is absent or has no rows is a missing
                modality. The graph attributes ``y``, ``id``, ``group`` and ``split``
                are read as well. Edges are ignored: the schema defines them.
            schema: Schema that determines which modalities are sequences. Default:
                those with more than one row in some sample.

        Returns:
            Data of all graphs.

        Raises:
            DataError: If there is no graph, or a node type has no ``x``.

        Example:
            >>> data = MultimodalData.from_arrays({"labs": [[1.0, 2.0], None]})
            >>> MultimodalData.from_hetero_data(data.to_hetero_data()).equals(data)
            True
        """
        return cls.from_columns(**parse_graphs(graphs, schema), schema=schema)

    def to_hetero_data(self) -> list["HeteroData"]:
        """Return one PyTorch Geometric graph per sample, without edges.

        Returns:
            Graphs in the form that :meth:`from_hetero_data` reads; a missing modality
            has no node type. Channel names are not stored.

        Raises:
            DataError: If a modality is named "id", "y", "group" or "split".

        Example:
            >>> data = MultimodalData.from_arrays({"labs": [[1.0, 2.0], None]})
            >>> [graph.node_types for graph in data.to_hetero_data()]
            [['labs'], []]
        """
        return build_graphs(self.columns, self._metadata)

    @property
    def _metadata(self) -> dict[str, AnyArray | None]:
        return {
            "ids": self.ids,
            "y": self.y,
            "groups": self.groups,
            "split_name": self.split_name,
        }


def _cell_arrays(column: Column) -> list[AnyArray]:
    """Return the values of a column; the strings of its cells if it has categories."""
    if not column.is_categorical:
        return [column.values]
    cells = [column.cells(field) for field in column.fields]
    return [
        values if categories is None else codes_as_strings(values, categories)
        for values, categories in cells
    ]


def _content_bytes(array: AnyArray | None) -> bytes:
    """Return the bytes of an array that a fingerprint is computed from."""
    if array is None:
        return b"-"
    if array.dtype.kind in "OUS":
        return "\x1f".join(map(str, array.ravel().tolist())).encode()
    return np.ascontiguousarray(array).tobytes()
