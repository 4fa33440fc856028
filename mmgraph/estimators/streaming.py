"""Fitting on more samples than fit into memory.

A random sample, whose size the memory of the stream bounds, trains the experts and
the pool, fits the scaling of the encoders and validates the members. The experts have
not seen the other samples, so that what they say of those is out of fold by
construction; the members learn from all samples, in streamed batches.

Letters: ``N`` samples, ``B`` samples of a batch, ``M`` modalities, ``E`` members.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from sklearn.base import is_classifier
from torch import Tensor

from mmgraph.data import MultimodalData, MultimodalStream
from mmgraph.data.column import IntArray
from mmgraph.data.stream.sample import draw_sample
from mmgraph.distributed import ALONE, Workers, join
from mmgraph.errors import DataError
from mmgraph.estimators.folds import assign_folds
from mmgraph.estimators.inputs import features_of
from mmgraph.estimators.options import check_options
from mmgraph.estimators.panel import ask_joint
from mmgraph.estimators.raw import Encoder, RawInputs
from mmgraph.estimators.stream_batches import StreamBatches
from mmgraph.train import TrainingBatch, TrainingSet

if TYPE_CHECKING:
    from mmgraph.estimators.base import FusionEstimator

MAX_SAMPLE = 20_000  # experts gain little from more, and forests grow with them
SAMPLE_SHARE = 16  # raw samples may take this part of the memory,
FEATURE_SHARE = 160  # and their features this one: fits work on many copies
NUM_HELD_OUT = 5  # one of so many sampled ones validates the members


def fit_stream(
    estimator: "FusionEstimator", stream: MultimodalStream, y: object
) -> None:
    """Fit a classifier or regressor on a stream; in memory where all of it fits.

    Raises:
        DataError: When labels are given apart from the stream, or it has none.
    """
    check_options(estimator.get_params(deep=False))
    if y is not None:
        raise DataError(
            "y must be in the stream itself, got it apart. Name its column when you "
            "open the stream: y='died'."
        )
    if estimator.schema is not None:
        stream = stream.with_schema(estimator.schema)
    most = sample_size(stream, estimator.encoders)
    classes = is_classifier(estimator)
    sample = draw_sample(stream, most, seed=int(estimator.seed), classes=classes)
    if len(sample.keys) == sample.total:
        estimator.fit(sample.data)
        return
    if sample.data.y is None:
        raise DataError(
            "fit needs labels, got a stream without y. Name their column when you open "
            "the stream."
        )
    workers = join()
    targets, known, task = estimator._learn_targets(np.asarray(sample.data.y))
    data = estimator._read(sample.data, reset=True)[known]
    keys = sample.keys[known]

    def extend(training: TrainingSet) -> "tuple[StreamTraining, int]":
        training = hold_out(estimator, training)
        return StreamTraining(estimator, stream, keys, training), sample.total

    workers.together(lambda: estimator._note(data))
    data = data.select(estimator.schema_.modality_names)
    estimator._fit(data, targets[torch.from_numpy(known)], task, workers, extend)


def sample_size(
    stream: MultimodalStream, encoders: Mapping[str, Encoder] | None = None
) -> int:
    """Return how many samples the memory of a stream allows experts to learn from.

    Raises:
        DataError: When they are too few to learn from.
    """
    first = next(stream.shard(0, 1).chunks(64))
    first = RawInputs.of(first, encoders).as_numbers(first)
    width = sum(x.shape[1] for x in first.features().values())
    by_rows = stream.memory // SAMPLE_SHARE // stream.row_bytes
    by_features = stream.memory // FEATURE_SHARE // (4 * width)
    most = min(MAX_SAMPLE, by_rows, by_features)
    if most < 64:
        raise DataError(
            f"memory must hold at least 64 samples for the experts, got {most} in "
            f"{stream.memory} bytes. Open the stream with more memory."
        )
    return most


def hold_out(estimator: "FusionEstimator", training: TrainingSet) -> TrainingSet:
    """Return sampled data of which one part is held out from every member.

    Members learn from all other samples of the stream, so that none of them misses
    these, and the weight of the graph is chosen on them without a doubt.
    """
    groups = training.groups.cpu().numpy()
    alone = len(np.unique(groups)) == len(groups)
    folds = assign_folds(
        training.y.cpu().numpy(),
        None if alone else groups,
        NUM_HELD_OUT,
        seed=int(estimator.seed),
    )
    weight = torch.from_numpy(folds > 0).to(training.bags)
    return replace(training, bags=weight.expand(len(training.bags), -1).contiguous())


@dataclass(frozen=True)
class StreamTraining:
    """A stream as the source of training batches.

    Attributes:
        estimator: With experts that were fitted on the sample.
        stream: All samples.
        keys: ``[S]`` ascending numbers of the sampled ones.
        sample: These, with their out-of-fold evidence.
    """

    estimator: "FusionEstimator"
    stream: MultimodalStream
    keys: IntArray
    sample: TrainingSet

    def validation_batch(self, most: int, generator: torch.Generator) -> TrainingBatch:
        """Return at most so many of the samples that are held out from all members."""
        held = torch.nonzero((self.sample.bags == 0).all(0))[:, 0]
        order = torch.randperm(len(held), generator=generator).to(held.device)
        return self.sample.take(held[order[:most]].sort().values)

    def batches(
        self, batch_size: int, generator: torch.Generator, workers: Workers = ALONE
    ) -> StreamBatches:
        """Return an endless iterator of batches; the estimator's seed orders them.

        Every process reads the lanes that its part of the batches lies in, and
        prepares that part, so that several train the model of one.
        """
        return StreamBatches(self, batch_size, workers)

    def targets(self, chunk: MultimodalData) -> tuple[Tensor, IntArray]:
        """Return targets of all samples of a chunk, and which ones have a label."""
        if chunk.y is None:
            raise DataError(
                "every part of a stream must have y where one has it, got a part "
                "without. Write the parts the same way."
            )
        y, known = self.estimator._encode(chunk.y)
        return y, np.flatnonzero(known)

    @torch.no_grad()
    def prepare(self, chunk: MultimodalData, keys: IntArray, y: Tensor) -> TrainingSet:
        """Return labelled samples with what the experts say of them.

        A sampled one has the evidence of experts that have not seen it, and the
        weight that it has in the sample.
        """
        estimator, sample = self.estimator, self.sample
        data = estimator._read(chunk, reset=False)
        features = features_of(data, estimator.schema_, estimator.feature_widths_)
        device = sample.y.device
        features = [x.to(device) for x in features]
        panel = estimator.model_.panel
        evidence, present = panel.evidence(features)
        bags = sample.bags.new_ones(len(sample.bags), len(keys))
        place = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        again = torch.from_numpy(self.keys[place] == keys)
        where = torch.from_numpy(place)[again]
        evidence[again] = sample.evidence[where]
        bags[:, again] = sample.bags[:, where]
        sampled, numbers = again.to(device), torch.from_numpy(place).to(device)

        def joint_evidence(kept: Tensor, indices: Tensor) -> Tensor | None:
            asked = [x[indices] for x in features]
            said = ask_joint(panel.joint, asked, kept, panel.pool.prior)
            mine = sampled[indices]
            own = sample.joint_evidence(kept[mine], numbers[indices][mine])
            if said is not None and own is not None:
                said[mine] = own
            return said

        return TrainingSet(
            batch_of=lambda indices: data.batch(indices.cpu().numpy()).to(device),
            present=present,
            evidence=evidence,
            y=y.to(device),
            bags=bags,
            groups=torch.arange(len(keys), device=device),
            joint_evidence=joint_evidence,
        )
