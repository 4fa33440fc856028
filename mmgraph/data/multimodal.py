"""Samples with modalities that may be missing.

Shapes: N samples, M modalities, T steps, C channels, L rows, K labels of one sample.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.batch import Batch
from mmgraph.data.collate import collate
from mmgraph.data.column import (
    AnyArray,
    BoolArray,
    Column,
    concat_columns,
    empty_column,
)
from mmgraph.data.convert import build_column
from mmgraph.data.exchange import Exchange
from mmgraph.data.features import describe_rows
from mmgraph.data.fitting import fit_columns, narrow_schema
from mmgraph.data.labels import (
    class_codes,
    concat_plain,
    same_plain,
    split_indices,
)
from mmgraph.data.selection import (
    check_mapping,
    check_names,
    count_samples,
    read_present,
    resolve_indices,
)
from mmgraph.errors import DataError
from mmgraph.schema import Schema

__all__ = ["Column", "MultimodalData"]


@dataclass(frozen=True, eq=False, repr=False)
class MultimodalData(Exchange):
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
            y=concat_plain("y", [p.y for p in parts]),
            ids=None if numbered else concat_plain("ids", ids),
            groups=concat_plain("groups", [p.groups for p in parts]),
            split_name=concat_plain("split_name", [p.split_name for p in parts]),
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
            and all(same_plain(a, b) for a, b in plain)
            and all(c.equals(other.columns[n]) for n, c in self.columns.items())
        )
