"""A batch: the rows that exist, packed by modality.

Letters: ``B`` samples, ``M`` modalities, ``N`` rows, ``C`` channels. A missing modality
has no rows, so it costs nothing and cannot leak.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmgraph.errors import DataError
from mmgraph.ops import filled_slots

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData
    from torch_geometric.data.storage import NodeStorage


import numpy as np

from mmgraph.data.column import AnyArray, Column, IntArray


@dataclass(frozen=True)
class Batch:
    """Packed rows of some samples.

    Attributes:
        num_samples: ``B``; samples with nothing observed count too.
        x: ``[N_m, C_m]`` rows of each modality, sorted by sample. A NaN cell is an
            unobserved cell of an observed row.
        sample: ``[N_m]`` ascending sample number of each row.
        time: ``[N_m]`` seconds, for the modalities that have time, from an origin that
            those of a sample share. Only differences count.
        held_out: ``[B, M]`` Bool, True where an observed modality is hidden on purpose
            (a target of reconstruction), or None. What is held out is never an input.
        missing: ``[N_m]`` Bool by modality of a regular batch (see :meth:`regular`),
            where every sample has equally many rows of a modality: True where a row
            only keeps the place of one that is not there. None otherwise.
        max_per_sample: Upper bound on the rows per sample, by modality, where known.
        y: ``[B]`` or ``[B, K]`` targets, or None.

    Raises:
        DataError: Shapes that do not fit each other; times of what is not in ``x``.
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
                    f"a row, got {list(x.shape)} and "
                    f"{list(self.sample[name].shape)} sample numbers."
                )
        for field_name in ("time", "missing"):
            for name in getattr(self, field_name) or ():
                if name not in self.x:
                    raise DataError(
                        f"Batch.{field_name} must name modalities of Batch.x "
                        f"({', '.join(self.x)}), got {name!r}."
                    )

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
        """Give all samples equally many rows of a modality; masks say what is there.

        Shapes then depend on the number of samples and the longest sequences alone,
        which exported and compiled models need. Predictions equal those of the packed
        batch; placeholders cost what rows cost.

        Args:
            x: ``[B, C_m]`` rows by modality, or ``[B, T_m, C_m]`` padded sequences.
                What stands where a modality is missing, or behind the end of a
                sequence, is never read.
            present: ``[B, M]`` Bool, in the order of ``x``.
            lengths: ``[B]`` rows of each padded sequence; all of them by default.
            time: ``[B]`` or ``[B, T_m]`` seconds, for the modalities that have time.
            y: Targets.

        Raises:
            DataError: Rows of another number of samples, or a mask, lengths or times
                of another shape.

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
        """Return the batch without rows that only keep a place."""
        if self.missing is None:
            return self
        present = {name: ~gaps for name, gaps in self.missing.items()}
        return replace(self, missing=None)._keep(present)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return tuple(self.x)

    @property
    def observed(self) -> Tensor:
        """``[B, M]`` Bool: the modality has rows, held out or not."""
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
        """``[B, M]`` Bool: the modality has rows and is not held out."""
        observed = self.observed
        return observed if self.held_out is None else observed & ~self.held_out

    @property
    def device(self) -> torch.device:
        """Device of the rows."""
        return next(iter(self.x.values())).device

    def to(self, target: torch.device | str | torch.dtype) -> "Batch":
        """Move to a device, or change the dtype of features and targets.

        Times keep theirs: seconds have more digits than features.
        """

        def move(value: Tensor) -> Tensor:
            if isinstance(target, torch.dtype) and not value.is_floating_point():
                return value
            return value.to(target)

        def place(value: Tensor) -> Tensor:
            return value if isinstance(target, torch.dtype) else value.to(target)

        return replace(
            self,
            x={name: move(x) for name, x in self.x.items()},
            sample={name: move(s) for name, s in self.sample.items()},
            time={name: place(t) for name, t in self.time.items()},
            held_out=None if self.held_out is None else move(self.held_out),
            y=None if self.y is None else move(self.y),
            missing=self.missing and {n: move(m) for n, m in self.missing.items()},
        )

    def drop(self, present: Tensor) -> "Batch":
        """Keep the rows of a modality only where ``present [B, M]`` is True.

        A regular batch stays one: its rows become placeholders.
        """
        self._check_table("present", present)
        keep = {name: present[self.sample[name], i] for i, name in enumerate(self.x)}
        if self.missing is None:
            return self._keep(keep)
        gaps = {name: missing | ~keep[name] for name, missing in self.missing.items()}
        return replace(
            self,
            x={
                name: x.masked_fill(gaps[name][:, None], 0)
                for name, x in self.x.items()
            },
            time={name: t.masked_fill(gaps[name], 0) for name, t in self.time.items()},
            missing=gaps,
        )

    def _keep(self, keep: Mapping[str, Tensor]) -> "Batch":
        """Return the rows of each modality where ``keep [N_m]`` is True."""
        return replace(
            self,
            x={name: x[keep[name]] for name, x in self.x.items()},
            sample={name: s[keep[name]] for name, s in self.sample.items()},
            time={name: t[keep[name]] for name, t in self.time.items()},
        )

    def hold_out(self, held_out: Tensor) -> "Batch":
        """Hide modalities on purpose where ``held_out [B, M]`` is True."""
        self._check_table("held_out", held_out)
        return replace(self, held_out=held_out & self.observed)

    def _check_table(self, name: str, table: Tensor) -> None:
        expected = (self.num_samples, len(self.x))
        if table.shape != expected or table.dtype != torch.bool:
            raise DataError(
                f"{name} must be Bool of shape {list(expected)}, got "
                f"{table.dtype} of shape {list(table.shape)}."
            )

    def visible(self) -> "Batch":
        """Return what is an input: the batch without what is held out."""
        if self.held_out is None:
            return self
        return replace(self.drop(~self.held_out), held_out=None)

    def select(self, modalities: Iterable[str]) -> "Batch":
        """Keep these modalities, in this order; one that has no rows stays empty."""
        names = tuple(modalities)
        columns = [self.modalities.index(name) for name in names]
        return replace(
            self,
            x={name: self.x[name] for name in names},
            sample={name: self.sample[name] for name in names},
            time={name: self.time[name] for name in names if name in self.time},
            held_out=None if self.held_out is None else self.held_out[:, columns],
            missing=self.missing and {name: self.missing[name] for name in names},
        )

    def to_hetero_data(self) -> "HeteroData":
        """Return one PyTorch Geometric graph: ``x``, ``batch`` (and ``time``) by type.

        What is held out is left out: it is not an input.
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

        Rows are sorted by sample, and by time within it. Edges are not read: the schema
        makes them.

        Raises:
            DataError: A node type without ``batch``.
        """
        x, sample, time = {}, {}, {}
        for name in data.node_types:
            store = data[name]
            if "batch" not in store or "x" not in store:
                raise DataError(
                    f"HeteroData[{name!r}] must have x and batch, got "
                    f"{', '.join(store.keys()) or 'nothing'}. Use "
                    "torch_geometric.data.Batch.from_data_list."
                )
            order = _sorted_rows(store)
            x[name], sample[name] = store.x[order], store.batch[order]
            if "time" in store:
                time[name] = store.time[order]
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
                f"time[{name!r}] must have one entry a row, [B] or [B, T], got "
                f"{list(seconds.shape)} for {got}."
            )


def _sorted_rows(store: "NodeStorage") -> Tensor:
    """Return the order of a node type's rows by sample, and by time within it."""
    order = torch.arange(len(store.batch), device=store.batch.device)
    if "time" in store:
        order = torch.argsort(store.time, stable=True)
    return order[torch.argsort(store.batch[order], stable=True)]


def _lay_rows(
    rows: Tensor, each: Tensor, length: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows of a regular batch, their samples, and which keep a place."""
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
    """Pack some samples; what is missing has no rows.

    Args:
        columns: the modalities of all samples.
        y: labels of all samples. Floats become float32, integers and booleans int64;
            strings are left out, as they have to become codes first.
        indices: ``[B]`` samples.

    Returns:
        The batch. Times count from the sample's first time over all its timed
        modalities, in float64: the differences of late ones need its digits.

    Raises:
        DataError: when a modality is text, which has no numbers yet.
    """
    x, sample, time, most = {}, {}, {}, {}
    start, each = _first_times(columns, indices), np.arange(len(indices))
    for name, column in columns.items():
        if column.is_text:
            raise DataError(
                f"Modality {name!r} must be numbers in a batch, got text. Encode it "
                "as an embedding first, leave it out with select, or let a model with "
                "an encoder for it make the batch: FusionModel.batch."
            )
        rows, lengths = column.rows_of(indices)
        owner = np.repeat(each, lengths)
        x[name] = torch.from_numpy(column.values.take(rows, axis=0))
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
    """Return ``[B]`` the first time of each sample, infinite where it has none."""
    start = np.full(len(indices), np.inf)
    for column in columns.values():
        if column.time is not None:
            has = column.present[indices]
            first = column.time[column.offsets[indices[has]]]
            start[has] = np.minimum(start[has], first)
    return start


def _as_target(y: AnyArray) -> torch.Tensor | None:
    if y.dtype.kind == "f":
        return torch.from_numpy(y.astype(np.float32))
    if y.dtype.kind in "iub":
        return torch.from_numpy(y.astype(np.int64))
    return None
