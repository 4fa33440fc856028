"""Batches with every corner, and ways to change one that must not matter."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mmgraph.data.batch import Batch
from mmgraph.schema import Modality

MODALITIES = (
    Modality("labs", 3),
    Modality("ecg", 2, tokens="ragged", time=True, max_nodes=6),
    Modality("text", 4, kind="embedding"),
    Modality("move", 2, tokens="ragged", time=True, max_nodes=6),
    Modality("gene", 2),
)
NAMES = tuple(m.name for m in MODALITIES)

# Rows by sample: ragged lengths of 1, of several, and longer than max_nodes.
CORNERS = (
    (1, 3, 1, 2, 0),  # 0: all that the batch has; to be a batch of one
    (1, 0, 0, 0, 0),  # 1: one modality
    (0, 0, 0, 0, 0),  # 2: nothing at all
    (0, 19, 0, 1, 0),  # 3: a long sequence and one of length 1
    (0, 0, 1, 3, 0),  # 4
    (1, 1, 0, 0, 0),  # 5: NaN cells inside observed rows
)
HELD_OUT = ((0, "labs"), (3, "ecg"), (4, "text"), (5, "labs"), (5, "ecg"))
CONTENTS = (float("nan"), float("inf"), float("-inf"), 1e30, 5e-324)


def corner_batch() -> Batch:
    """Return six samples whose corners are the ones that models trip over.

    A complete sample; one modality only; nothing at all; a long sequence beside one of
    length one; NaN cells inside observed rows; ``gene`` missing in the whole batch.
    Any of them is a batch of one through :func:`take`.
    """
    batch = batch_of(CORNERS, seed=1)
    batch.x["labs"][-1, 1] = torch.nan
    batch.x["ecg"][-1, 0] = torch.nan
    return batch


def full_batch(num_samples: int = 8) -> Batch:
    """Return samples in which everything is observed."""
    rows = [(1, 3 + i % 3, 1, 2 + i % 4, 1) for i in range(num_samples)]
    return batch_of(rows, seed=2)


def batch_of(counts: Sequence[Sequence[int]], *, seed: int = 0) -> Batch:
    """Return a float64 batch with so many rows of each modality in each sample."""
    generator = torch.Generator().manual_seed(seed)
    x, sample, time = {}, {}, {}
    for modality, column in zip(MODALITIES, zip(*counts, strict=True), strict=True):
        each = torch.arange(len(counts)).repeat_interleave(torch.tensor(column))
        shape = (len(each), modality.channels)
        x[modality.name] = torch.randn(shape, generator=generator, dtype=torch.float64)
        sample[modality.name] = each
        if modality.time:
            steps = torch.rand(len(each), generator=generator, dtype=torch.float64)
            time[modality.name] = torch.cat(
                [steps[each == i].cumsum(0) for i in range(len(counts))]
            )
    return Batch(len(counts), x, sample, time)


def held_out(batch: Batch, cells: Sequence[tuple[int, str]] = HELD_OUT) -> Tensor:
    """Return ``[B, M]`` Bool, True in these cells of sample and modality."""
    mask = torch.zeros(batch.num_samples, len(batch.x), dtype=torch.bool)
    for sample, name in cells:
        mask[sample, batch.modalities.index(name)] = True
    return mask


def poison(batch: Batch, contents: Sequence[float]) -> Batch:
    """Put ``contents``, over and over, into all held-out rows and their times."""
    assert batch.held_out is not None

    def filled(values: Tensor, name: str) -> Tensor:
        hidden = batch.held_out[batch.sample[name], batch.modalities.index(name)]
        repeats = values.numel() // len(contents) + 1
        new = torch.tensor(contents, dtype=torch.float64).to(values.dtype)
        new = new.repeat(repeats)[: values.numel()].view(values.shape)
        return torch.where(hidden.view(-1, *[1] * (values.ndim - 1)), new, values)

    return replace(
        batch,
        x={name: filled(x, name) for name, x in batch.x.items()},
        time={name: filled(t, name) for name, t in batch.time.items()},
    )


def take(batch: Batch, samples: Sequence[int]) -> Batch:
    """Return some samples of a batch, in this order."""
    x, number, time = {}, {}, {}
    for name, old in batch.sample.items():
        parts = [torch.nonzero(old == i)[:, 0] for i in samples]
        rows = torch.cat(parts)
        counts = torch.tensor([len(part) for part in parts])
        x[name] = batch.x[name][rows]
        number[name] = torch.arange(len(samples)).repeat_interleave(counts)
        if name in batch.time:
            time[name] = batch.time[name][rows]
    hidden = None if batch.held_out is None else batch.held_out[list(samples)]
    return Batch(len(samples), x, number, time, hidden)


def shuffle_rows(batch: Batch, seed: int = 0) -> Batch:
    """Return the batch with the rows of every sample and modality in another order.

    Ties of the sample number are broken at random, so every sample keeps its rows.
    """
    generator = torch.Generator().manual_seed(seed)
    x = {}
    for name, sample in batch.sample.items():
        order = torch.randperm(len(sample), generator=generator)
        x[name] = batch.x[name][order[torch.argsort(sample[order], stable=True)]]
    return replace(batch, x=x)
