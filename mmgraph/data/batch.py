"""Batches: tensors of the observed rows, packed by modality.

Letters: ``B`` samples, ``M`` modalities, ``N`` rows, ``C`` channels. A missing modality
has no rows: it costs nothing, and no placeholder value can leak into the model.
"""

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from mmgraph.data.categories import encode_rows
from mmgraph.data.column import AnyArray, Column, IntArray
from mmgraph.data.targets import labels_as_floats
from mmgraph.errors import DataError
from mmgraph.ops import filled_slots

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


@dataclass(frozen=True)
class Batch:
    """Observed rows of several samples as tensors.

    Attributes:
        num_samples: Number of samples ``B``, including those without any row.
        x: ``[N_m, C_m]`` rows of each modality. A NaN cell is a missing value in an
            observed row.
        sample: ``[N_m]`` sample number of each row. Rows that are not sorted by sample
            and time are sorted when the batch is built.
        time: ``[N_m]`` time stamps in seconds, for the modalities that have time. All
            modalities of a sample share one origin; only differences are used.
        held_out: ``[B, M]`` Bool, True where an observed modality is held out as a
            reconstruction target; or None. A held-out modality is never an input.
        missing: ``[N_m]`` Bool by modality in a batch of regular layout (see
            :meth:`regular`): True where a row is padding. None in a packed batch.
        max_per_sample: Upper bound on the number of rows per sample, by modality, where
            it is known in advance.
        y: ``[B]`` or ``[B, K]`` targets, or None.

    Raises:
        DataError: If shapes contradict each other, sample numbers are out of range,
            times are not finite, or ``time`` or ``missing`` name a modality that is
            not in ``x``.

    Example:
        >>> x = {"labs": torch.randn(1, 3), "ecg": torch.randn(4, 2)}
        >>> sample = {"labs": torch.tensor([0]), "ecg": torch.tensor([0, 0, 1, 1])}
        >>> Batch(2, x, sample).present
        tensor([[ True,  True],
                [False,  True]])
    """

    num_samples: int
    x: dict[str, Tensor]
    sample: dict[str, Tensor]
    time: dict[str, Tensor] = field(default_factory=dict)
    held_out: Tensor | None = None
    y: Tensor | None = None
    missing: dict[str, Tensor] | None = None
    max_per_sample: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.x or self.x.keys() != self.sample.keys():
            raise DataError(
                "Batch must have at least one modality, and sample numbers for each, "
                f"got x of {list(self.x)} and sample of {list(self.sample)}."
            )
        for name, x in self.x.items():
            if x.ndim != 2 or self.sample[name].shape != x.shape[:1]:
                raise DataError(
                    f"Batch.x[{name!r}] must have shape [N, C] with one sample number "
                    f"per row, got {list(x.shape)} and "
                    f"{list(self.sample[name].shape)} sample numbers."
                )
        for field_name in ("time", "missing"):
            for name in getattr(self, field_name) or ():
                if name not in self.x:
                    raise DataError(
                        f"Batch.{field_name} must name modalities of Batch.x "
                        f"({', '.join(self.x)}), got {name!r}."
                    )
        if self.missing is None:  # a regular layout is sorted by construction
            fields = ("x", "sample", "time")
            vars(self).update({field: dict(getattr(self, field)) for field in fields})
            for name in self.x:
                self._check_rows(name)
                self._sort_rows(name)

    def _check_rows(self, name: str) -> None:
        """Check that the rows of a modality belong to samples."""
        sample, time = self.sample[name], self.time.get(name)
        if sample.dtype != torch.int64:
            raise DataError(
                f"Batch.sample[{name!r}] must be int64, got {sample.dtype}. Convert it."
            )
        if time is not None and time.shape != sample.shape:
            raise DataError(
                f"Batch.time[{name!r}] must have one entry per row, got "
                f"{list(time.shape)} for {len(sample)} rows."
            )
        if not len(sample):
            return
        first, last = sample.aminmax()
        if first < 0 or last >= self.num_samples:
            got = int(first if first < 0 else last)
            raise DataError(
                f"Batch.sample[{name!r}] must be from 0 to {self.num_samples - 1}, got "
                f"{got}. Number the samples from 0, or correct num_samples."
            )
        if time is not None and not self._known_times(name).isfinite().all():
            raise DataError(
                f"Batch.time[{name!r}] must be finite, got NaN or infinity. Leave out "
                "rows without a time."
            )
        longest = self.max_per_sample.get(name)
        if longest is not None and int(sample.bincount().max()) > longest:
            raise DataError(
                f"Batch.max_per_sample[{name!r}] must be at least the number of rows "
                f"of any sample, got {longest}. Correct it, or leave it out."
            )

    def _known_times(self, name: str) -> Tensor:
        """Return the times of a modality, zero where it is held out and not read."""
        if self.held_out is None:
            return self.time[name]
        hidden = self.held_out[self.sample[name], list(self.x).index(name)]
        return self.time[name].masked_fill(hidden, 0)

    def _sort_rows(self, name: str) -> None:
        """Sort the rows of a modality by sample, and by time within a sample."""
        sample = self.sample[name]
        time = self._known_times(name) if name in self.time else None
        later, equal = sample[1:] > sample[:-1], sample[1:] == sample[:-1]
        if time is not None:
            equal = equal & (time[1:] >= time[:-1])
        if (later | equal).all():
            return
        order = _sorted_rows(sample, time)
        for rows in (self.x, self.sample, self.time):
            if name in rows:
                rows[name] = rows[name][order]

    def _with(self, **changes: object) -> "Batch":
        """Return a copy with other fields, which are not checked."""
        batch = copy(self)
        vars(batch).update(changes)
        return batch

    @classmethod
    def regular(
        cls,
        x: Mapping[str, Tensor],
        present: Tensor,
        *,
        lengths: Mapping[str, Tensor] | None = None,
        time: Mapping[str, Tensor] | None = None,
        y: Tensor | None = None,
    ) -> "Batch":
        """Return a batch of regular layout: padded rows with a mask.

        Every sample has the same number of rows of a modality, so that shapes depend
        on the number of samples and the longest sequences only, which exported and
        compiled models need. Predictions equal those of the packed batch; padding
        costs as much as rows.

        Args:
            x: ``[B, C_m]`` rows by modality, or ``[B, T_m, C_m]`` padded sequences.
                Values of a missing modality, or beyond the end of a sequence, are
                never read.
            present: ``[B, M]`` Bool, modalities in the order of ``x``.
            lengths: ``[B]`` number of rows of each padded sequence. Default: ``T_m``.
            time: ``[B]`` or ``[B, T_m]`` seconds, for the modalities that have time.
            y: ``[B]`` or ``[B, K]`` targets.

        Returns:
            Batch whose attribute ``missing`` marks the padding.

        Raises:
            DataError: If rows, mask, lengths or times have contradicting shapes.

        Example:
            >>> x = {"labs": torch.randn(2, 3), "ecg": torch.full((2, 4), torch.nan)}
            >>> Batch.regular(x, torch.tensor([[True, False]] * 2)).packed().x["ecg"]
            tensor([], size=(0, 4))
        """
        each = torch.arange(present.shape[0], device=present.device)
        lengths, time = lengths or {}, time or {}
        _check_regular(x, lengths, time, each)
        laid = {n: _lay_rows(rows, each, lengths.get(n)) for n, rows in x.items()}
        batch = cls(
            present.shape[0],
            {name: rows for name, (rows, _, _) in laid.items()},
            {name: sample for name, (_, sample, _) in laid.items()},
            {name: seconds.flatten() for name, seconds in time.items()},
            y=y,
            missing={name: gaps for name, (_, _, gaps) in laid.items()},
            max_per_sample={
                n: rows.shape[1] if rows.ndim == 3 else 1 for n, rows in x.items()
            },
        )
        return batch.drop(present)

    def packed(self) -> "Batch":
        """Return the batch without padding rows."""
        if self.missing is None:
            return self
        present = {name: ~gaps for name, gaps in self.missing.items()}
        return self._with(missing=None)._keep(present)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return tuple(self.x)

    @property
    def observed(self) -> Tensor:
        """``[B, M]`` Bool: True where the modality has rows, held out or not."""
        if self.missing is not None:
            rows = [
                (~gaps)
                .unflatten(0, (self.num_samples, self.max_per_sample[name]))
                .any(1)
                for name, gaps in self.missing.items()
            ]
            return torch.stack(rows, dim=1)
        rows = [filled_slots(s, self.num_samples) for s in self.sample.values()]
        return torch.stack(rows, dim=1)

    @property
    def present(self) -> Tensor:
        """``[B, M]`` Bool: True where the modality has rows and is not held out."""
        observed = self.observed
        return observed if self.held_out is None else observed & ~self.held_out

    @property
    def device(self) -> torch.device:
        """Device of the rows."""
        return next(iter(self.x.values())).device

    def to(self, target: torch.device | str | torch.dtype) -> "Batch":
        """Move the batch to a device, or convert features and targets to a dtype.

        Args:
            target: Device or floating-point dtype. Times keep their dtype, as seconds
                need more digits than features.

        Example:
            >>> batch = MultimodalData.from_arrays({"a": [[1.0], [2.0]]}).batch()
            >>> batch.to(torch.float64).x["a"].dtype
            torch.float64
        """

        def move(value: Tensor) -> Tensor:
            if isinstance(target, torch.dtype) and not value.is_floating_point():
                return value
            return value.to(target)

        def place(value: Tensor) -> Tensor:
            return value if isinstance(target, torch.dtype) else value.to(target)

        return self._with(
            x={name: move(x) for name, x in self.x.items()},
            sample={name: move(s) for name, s in self.sample.items()},
            time={name: place(t) for name, t in self.time.items()},
            held_out=None if self.held_out is None else move(self.held_out),
            y=None if self.y is None else move(self.y),
            missing=self.missing and {n: move(m) for n, m in self.missing.items()},
        )

    def of_held_out(self) -> "Batch":
        """Return the batch of the held-out modalities alone, as observed ones.

        Example:
            >>> x, sample = {"a": torch.eye(2)[:, :1]}, {"a": torch.tensor([0, 1])}
            >>> hidden = torch.tensor([[True], [False]])
            >>> Batch(2, x, sample, held_out=hidden).of_held_out().x["a"]
            tensor([[1.]])
        """
        if self.held_out is None:
            return self.drop(torch.zeros_like(self.present))
        return self.drop(self.held_out)._with(held_out=None)

    def drop(self, present: Tensor) -> "Batch":
        """Return the batch without the modalities where ``present`` is False.

        Args:
            present: ``[B, M]`` Bool, True to keep. In a batch of regular layout,
                removed rows become padding.

        Raises:
            DataError: If the mask is not Bool or has another shape.

        Example:
            >>> batch = MultimodalData.from_arrays({"a": [[1.0], [2.0]]}).batch()
            >>> batch.drop(torch.tensor([[True], [False]])).x["a"]
            tensor([[1.]])
        """
        self._check_table("present", present)
        keep = {name: present[self.sample[name], i] for i, name in enumerate(self.x)}
        if self.missing is None:
            return self._keep(keep)
        gaps = {name: missing | ~keep[name] for name, missing in self.missing.items()}
        return self._with(
            x={
                name: x.masked_fill(gaps[name][:, None], 0)
                for name, x in self.x.items()
            },
            time={name: t.masked_fill(gaps[name], 0) for name, t in self.time.items()},
            missing=gaps,
        )

    def _keep(self, keep: Mapping[str, Tensor]) -> "Batch":
        """Return the batch of the rows where ``keep [N_m]`` is True."""
        return self._with(
            x={name: x[keep[name]] for name, x in self.x.items()},
            sample={name: s[keep[name]] for name, s in self.sample.items()},
            time={name: t[keep[name]] for name, t in self.time.items()},
        )

    def hold_out(self, held_out: Tensor) -> "Batch":
        """Return the batch with held-out modalities, such as reconstruction targets.

        Args:
            held_out: ``[B, M]`` Bool; only observed modalities can be held out.

        Raises:
            DataError: If the mask is not Bool or has another shape.

        Example:
            >>> batch = MultimodalData.from_arrays({"a": [[1.0], [2.0]]}).batch()
            >>> held_out = batch.hold_out(torch.tensor([[True], [False]]))
            >>> held_out.present.tolist(), held_out.observed.tolist()
            ([[False], [True]], [[True], [True]])
        """
        self._check_table("held_out", held_out)
        return self._with(held_out=held_out & self.observed)

    def _check_table(self, name: str, table: Tensor) -> None:
        expected = (self.num_samples, len(self.x))
        if table.shape != expected or table.dtype != torch.bool:
            raise DataError(
                f"{name} must be Bool of shape {list(expected)}, got "
                f"{table.dtype} of shape {list(table.shape)}."
            )

    def visible(self) -> "Batch":
        """Return the batch without the held-out modalities: the input of the model."""
        if self.held_out is None:
            return self
        return self.drop(~self.held_out)._with(held_out=None)

    def select(self, modalities: Iterable[str]) -> "Batch":
        """Return the batch with a subset of the modalities.

        Args:
            modalities: Names; the result has their order. One without rows remains as
                an empty modality.

        Example:
            >>> data = MultimodalData.from_arrays({"a": [[1.0]], "b": [[2.0]]})
            >>> data.batch().select(["b"]).modalities
            ('b',)
        """
        names = tuple(modalities)
        columns = [self.modalities.index(name) for name in names]
        return self._with(
            x={name: self.x[name] for name in names},
            sample={name: self.sample[name] for name in names},
            time={name: self.time[name] for name in names if name in self.time},
            held_out=None if self.held_out is None else self.held_out[:, columns],
            missing=self.missing and {name: self.missing[name] for name in names},
        )

    def to_hetero_data(self) -> "HeteroData":
        """Return one PyTorch Geometric graph of all samples.

        Returns:
            Graph with ``x`` and ``batch`` (and ``time``) per node type. Held-out
            modalities are not included, as they are not inputs.

        Example:
            >>> batch = MultimodalData.from_arrays({"a": [[1.0], None]}).batch()
            >>> batch.to_hetero_data()["a"].batch
            tensor([0])
        """
        from torch_geometric.data import HeteroData

        visible = self.visible().packed()
        data = HeteroData()
        for name, x in visible.x.items():
            data[name].x = x
            data[name].batch = visible.sample[name]
            if name in visible.time:
                data[name].time = visible.time[name]
        data.num_samples = self.num_samples
        if self.y is not None:
            data.y = self.y
        return data

    @classmethod
    def from_hetero_data(cls, data: "HeteroData") -> "Batch":
        """Read a PyTorch Geometric batch whose node types are the modalities.

        Args:
            data: Graph with ``x`` and ``batch`` (and ``time``) per node type. Rows are
                sorted by sample, and by time within a sample. Edges are ignored: the
                schema defines them.

        Raises:
            DataError: If a node type has no ``x`` or no ``batch``.

        Example:
            >>> batch = MultimodalData.from_arrays({"a": [[1.0], None]}).batch()
            >>> Batch.from_hetero_data(batch.to_hetero_data()).num_samples
            2
        """
        if not hasattr(data, "node_types"):
            raise DataError(
                f"data must be one HeteroData, got {type(data).__name__}. Use "
                "torch_geometric.data.Batch.from_data_list."
            )
        x, sample, time = {}, {}, {}
        for name in data.node_types:
            store = data[name]
            if "batch" not in store or "x" not in store:
                raise DataError(
                    f"HeteroData[{name!r}] must have x and batch, got "
                    f"{', '.join(store.keys()) or 'nothing'}. Use "
                    "torch_geometric.data.Batch.from_data_list."
                )
            x[name], sample[name] = store.x, store.batch
            if "time" in store:
                time[name] = store.time
        largest = max((int(s.max()) + 1 for s in sample.values() if len(s)), default=0)
        given = data.get("num_samples", None) or getattr(data, "num_graphs", None)
        return cls(int(given or largest), x, sample, time, y=data.get("y", None))


def _check_regular(
    x: Mapping[str, Tensor],
    lengths: Mapping[str, Tensor],
    time: Mapping[str, Tensor],
    each: Tensor,
) -> None:
    for name, rows in x.items():
        if rows.ndim not in (2, 3):
            raise DataError(
                f"x[{name!r}] must be rows [B, C] or padded sequences [B, T, C], got "
                f"{list(rows.shape)}."
            )
    for name, length in lengths.items():
        if name not in x or x[name].ndim != 3 or length.shape != each.shape:
            got = f"rows {list(x[name].shape)}" if name in x else "no rows"
            raise DataError(
                f"lengths[{name!r}] must be [B] rows of a padded sequence [B, T, C], "
                f"got {list(length.shape)} for {got}."
            )
    for name, seconds in time.items():
        if name not in x or seconds.shape != x[name].shape[:-1]:
            got = f"rows {list(x[name].shape)}" if name in x else "no rows"
            raise DataError(
                f"time[{name!r}] must have one entry per row, [B] or [B, T], got "
                f"{list(seconds.shape)} for {got}."
            )


def _sorted_rows(sample: Tensor, time: Tensor | None) -> Tensor:
    """Return the order of rows ``[N]`` by sample and time."""
    if time is None:
        return torch.argsort(sample, stable=True)
    order = torch.argsort(time, stable=True)
    return order[torch.argsort(sample[order], stable=True)]


def _lay_rows(
    rows: Tensor, each: Tensor, length: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows of a batch of regular layout, their samples and the padding."""
    if rows.ndim == 2:
        return rows, each, torch.zeros_like(each, dtype=torch.bool)
    place = torch.arange(rows.shape[1], device=each.device)
    sample = each[:, None].expand(-1, rows.shape[1])
    end = rows.shape[1] if length is None else length[:, None]
    gaps = (place >= end).expand(sample.shape)
    return rows.flatten(0, 1), sample.flatten(), gaps.flatten()


def collate(
    columns: Mapping[str, Column], y: AnyArray | None, indices: IntArray
) -> Batch:
    """Return samples as a batch; a missing modality has no rows.

    Args:
        columns: Modalities of all samples.
        y: Labels of all samples. Floats become float32, integers and booleans int64;
            strings are left out, as they need to be encoded first.
        indices: ``[B]`` samples.

    Returns:
        Batch with one channel per category, whose times count from the first time stamp
        of the sample over all its modalities, in float64, so that differences of late
        times stay exact.

    Raises:
        DataError: If a modality holds strings.
    """
    x, sample, time, most = {}, {}, {}, {}
    start, each = _first_times(columns, indices), np.arange(len(indices))
    for name, column in columns.items():
        if column.is_text:
            raise DataError(
                f"Modality {name!r} must be numbers in a batch, got text. Encode it "
                "as an embedding first, leave it out with select, or use "
                "FusionModel.batch of a model with an encoder for it."
            )
        rows, lengths = column.rows_of(indices)
        owner = np.repeat(each, lengths)
        values = column.values.take(rows, axis=0)
        x[name] = torch.from_numpy(encode_rows(values, column.categories))
        sample[name] = torch.from_numpy(owner)
        most[name] = int(lengths.max(initial=0))
        if column.time is not None:
            time[name] = torch.from_numpy(column.time[rows] - start[owner])
    labels = None if y is None else _as_target(y[indices])
    return Batch(
        num_samples=len(indices),
        x=x,
        sample=sample,
        time=time,
        y=labels,
        max_per_sample=most,
    )


def _first_times(columns: Mapping[str, Column], indices: IntArray) -> AnyArray:
    """Return the first time of each sample ``[B]``, infinite where it has none."""
    start = np.full(len(indices), np.inf)
    for column in columns.values():
        if column.time is not None:
            has = column.present[indices]
            first = column.time[column.offsets[indices[has]]]
            start[has] = np.minimum(start[has], first)
    return start


def _as_target(y: AnyArray) -> torch.Tensor | None:
    y = labels_as_floats(y)
    if y.dtype.kind == "f":
        return torch.from_numpy(y.astype(np.float32))
    if y.dtype.kind in "iub":
        return torch.from_numpy(y.astype(np.int64))
    return None
