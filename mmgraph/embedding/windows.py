"""Recordings in time windows, compared by canonical variates of each window.

Vectors of whole recordings have lost what happens when: recordings of two sensors that
belong together agree in every window of time.

Letters: ``N`` samples, ``n`` rows of a modality, ``M`` modalities, ``W`` windows, ``C``
channels, ``R`` components, ``G = W R``.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmgraph.alignment import CCA
from mmgraph.data.batch import Batch
from mmgraph.nn.resampling import Sequences, common_window, resample
from mmgraph.ops import offsets_of, present_rows
from mmgraph.schema import Schema

NUM_WINDOWS, CONTEXT = 48, 4  # a window is read with four neighbors on each side
NUM_COMPONENTS, RIDGE = 32, 0.03
MAX_CHANNELS = 64
MIN_SAMPLES, MAX_SAMPLES = 20, 1000  # of a fit
BLOCK_ROWS = 1024


class WindowMap(nn.Module):
    """Unit vectors of recordings: canonical variates of all windows, in their order.

    A recording is divided into 48 windows from its first to its last row, by its times
    or, without times, by its rows. Means of the channels in a window and in its
    neighbors, minus the mean of the recording, are mapped to canonical variates that
    modalities have in common, each multiplied by its correlation. The cosine of two
    recordings compares windows at the same place.

    Args:
        names: Names of the ``M`` modalities.
        widths: Number of channels ``C`` of each modality; 0 for those that are not
            compared in windows.
        num_components: ``R``.
    """

    def __init__(
        self, names: Sequence[str], widths: Sequence[int], num_components: int
    ) -> None:
        super().__init__()
        self.names, self.widths = tuple(names), tuple(widths)
        self.num_components = num_components
        self.channels = NUM_WINDOWS * num_components
        for m, width in enumerate(widths):
            rows = width * (2 * CONTEXT + 1)
            self.register_buffer(f"weight{m}", torch.zeros(rows, num_components))
            self.register_buffer(f"bias{m}", torch.zeros(num_components))

    @property
    def aligned(self) -> tuple[bool, ...]:
        """True for modalities that are compared in windows."""
        return tuple(width > 0 for width in self.widths)

    def tables(self, batch: Batch) -> list[Tensor]:
        """Return the windows of each modality, ``[N, W C]``; NaN where it is missing.

        Args:
            batch: Packed rows of the samples.
        """
        pairs = zip(self.names, self.widths, strict=True)
        return [window_table(batch, name, width) for name, width in pairs]

    def forward(self, m: int, x: Tensor) -> Tensor:
        """Map windows ``[n, W C]`` of modality m to unit vectors ``[n, G]``.

        Rows of modalities that are not compared are mapped to zero.
        """
        if not self.widths[m]:
            return x.new_zeros(len(x), self.channels)
        weight, bias = self.get_buffer(f"weight{m}"), self.get_buffer(f"bias{m}")
        return F.normalize((with_context(x) @ weight + bias).flatten(1), dim=1)


def plan_windows(schema: Schema, present: Tensor) -> list[int]:
    """Return the number of channels of modalities to compare in windows, 0 for others.

    These are sequences of at most 64 channels that samples link with each other.

    Args:
        schema: Schema of the inputs.
        present: ``[N, M]`` Bool.
    """
    widths = [
        int(m.channels or 0) if m.tokens == "ragged" and not m.places else 0
        for m in schema.modalities
    ]
    fits = torch.tensor([0 < width <= MAX_CHANNELS for width in widths])
    seen = (present & fits).double()
    together = seen.T @ seen
    linked = (together >= MIN_SAMPLES).float().fill_diagonal_(1)
    reached = torch.linalg.matrix_power(linked, max(len(fits), 1)) > 0
    size = reached.sum(1) * fits
    group = reached[int(size.argmax())] & fits
    enough = int(group.sum()) > 1
    return [
        width if used and enough else 0
        for width, used in zip(widths, group.tolist(), strict=True)
    ]


def window_table(batch: Batch, name: str, width: int) -> Tensor:
    """Return the windows of a modality, ``[N, W C]``; NaN where it is missing.

    A window without rows is interpolated, and an unknown cell is zero: the mean of the
    recording.

    Args:
        batch: Packed rows of the samples.
        name: Name of the modality.
        width: ``C``; 0 for a table without columns.
    """
    first = batch.x[batch.modalities[0]]
    table = first.new_full((batch.num_samples, NUM_WINDOWS * width), torch.nan)
    if not width or name not in batch.x:
        return table
    x, sample = batch.x[name], batch.sample[name]
    lengths = offsets_of(sample, batch.num_samples).diff()
    rows = torch.nonzero(lengths > 0)[:, 0]
    if not len(rows):
        return table
    recordings = Sequences(x, lengths[rows], batch.time.get(name))
    between = resample([recordings], NUM_WINDOWS).values.unflatten(0, (len(rows), -1))
    place = recordings.places(common_window([recordings]))
    inside = (NUM_WINDOWS * place).long().clamp(0, NUM_WINDOWS - 1)
    number = torch.arange(len(rows), device=x.device).repeat_interleave(lengths[rows])
    cell, known = NUM_WINDOWS * number + inside, ~x.isnan()
    empty = x.new_zeros(NUM_WINDOWS * len(rows), width)
    total = empty.index_add(0, cell, torch.where(known, x, 0))
    count = empty.index_add(0, cell, known.to(x)).view_as(between)
    mean = total.view_as(between) / count.clamp(min=1)
    windows = torch.where(count > 0, mean, between)
    windows = windows - windows.nanmean(1, keepdim=True)
    windows = torch.where(windows.isfinite(), windows, 0)
    return table.index_copy(0, rows, windows.flatten(1))


def with_context(x: Tensor) -> Tensor:
    """Return windows ``[n, W C]`` with their neighbors, ``[n, W, C (2 k + 1)]``.

    The first and the last window are repeated beyond the ends.
    """
    windows = x.unflatten(1, (NUM_WINDOWS, -1))
    place = torch.arange(-CONTEXT, NUM_WINDOWS + CONTEXT, device=x.device)
    wide = windows[:, place.clamp(0, NUM_WINDOWS - 1)]
    return wide.unfold(1, 2 * CONTEXT + 1, 1).flatten(2)


def fit_windows(
    names: Sequence[str],
    widths: Sequence[int],
    tables: Sequence[Tensor],
    folds: Tensor,
    generator: torch.Generator,
) -> tuple[WindowMap, Tensor]:
    """Fit the map, and return the vectors of each sample by a fit without its fold.

    The variates of the fits are rotated onto each other, so that samples of different
    folds are comparable.

    Args:
        names: Names of the ``M`` modalities.
        widths: Number of channels of each, see :func:`plan_windows`.
        tables: ``[N, W C]`` windows of each modality.
        folds: ``[N]`` fold of each sample.
        generator: Generator of the samples that are read, of more than 1000.

    Returns:
        The map, and ``[N, M, G]`` vectors, zero where a modality is missing.
    """
    used = [m for m, width in enumerate(widths) if width]
    present = present_rows([tables[m] for m in used])
    paired = torch.nonzero(present.sum(1) > 1)[:, 0]
    order = torch.randperm(len(paired), generator=generator)[:MAX_SAMPLES]
    rows = paired[order.sort().values]
    windows = {names[m]: with_context(tables[m][rows]) for m in used}
    whole = _fit_cca(windows)
    target = _consensus(whole, windows)
    size = target.shape[1]
    fitted = _map_of(whole, names, widths, size)
    vectors = tables[0].new_zeros(len(folds), len(names), fitted.channels)
    for fold in folds.unique():
        kept = folds[rows] != fold
        part = _fit_cca({name: x[kept] for name, x in windows.items()})
        own = _consensus(part, windows)
        u, _, v = torch.linalg.svd(own.T @ target, full_matrices=False)
        rotated = _map_of(part, names, widths, size, (u @ v).float())
        held_out = torch.nonzero(folds == fold)[:, 0]
        for block in held_out.split(BLOCK_ROWS):
            for m in used:
                own_rows = block[present_rows([tables[m][block]])[:, 0]]
                vectors[own_rows, m] = rotated(m, tables[m][own_rows])
    return fitted, vectors


def _fit_cca(windows: Mapping[str, Tensor]) -> CCA:
    return CCA(NUM_COMPONENTS, ridge=RIDGE).fit(_rows_of(windows))


def _rows_of(windows: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: x.flatten(0, 1) for name, x in windows.items()}


def _scale(cca: CCA) -> Tensor:
    return torch.from_numpy(cca.correlations_).nan_to_num().clamp(min=0)


def _consensus(cca: CCA, windows: Mapping[str, Tensor]) -> Tensor:
    """Return the mean variates of windows, times their correlations, ``[n W, R]``."""
    return torch.from_numpy(cca.consensus(_rows_of(windows))) * _scale(cca)


def _map_of(
    cca: CCA,
    names: Sequence[str],
    widths: Sequence[int],
    size: int,
    rotation: Tensor | None = None,
) -> WindowMap:
    """Return the map of fitted variates, rotated to ``size`` components."""
    found = WindowMap(names, widths, size)
    for m, (name, width) in enumerate(zip(names, widths, strict=True)):
        if width:
            weight, bias = map(torch.from_numpy, cca.weights_of(name))
            weight, bias = weight * _scale(cca), bias * _scale(cca)
            if rotation is not None:
                weight, bias = weight @ rotation.double(), bias @ rotation.double()
            found.get_buffer(f"weight{m}").copy_(weight)
            found.get_buffer(f"bias{m}").copy_(bias)
    return found
