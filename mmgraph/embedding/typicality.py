r"""Typicality of the content of a modality: how near its rows are to training rows.

A broken sensor yields rows unlike any training row. With the distance d of a row to the
nearest landmark, and the 95% quantile q of this distance over training rows that were
held out from the landmarks, the reliability of the row is
:math:`\max(d / q, 1)^{-8}`: 1 for usual rows, 0.1 at :math:`d = 1.33\,q`. No label is
read. Landmarks are means of at least five similar training rows, in the space of
:class:`mmgraph.nn.radial.RBFMap`.

Rows of other samples, each of them typical, are not detected; see
:func:`mmgraph.estimators.check.contradictions`.

Letters: ``N`` samples, ``F`` features, ``L`` landmarks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmgraph.kernels import signed_sqrt, squared_distances
from mmgraph.nn.radial import means_of_similar
from mmgraph.nn.scaling import StandardScaler
from mmgraph.ops import present_rows

POWER = 8
QUANTILE = 0.95
NUM_FOLDS = 5
MAX_ROWS = 2500  # training rows of which landmarks are means
MIN_ROWS = 20  # fewer training rows give no limit


class Typicality(nn.Module):
    """Reliability of the rows of one modality.

    Args:
        in_features: ``F``.
        num_landmarks: ``L``.
    """

    landmark: Tensor
    limit: Tensor

    def __init__(self, in_features: int, num_landmarks: int) -> None:
        super().__init__()
        self.scaler = StandardScaler(in_features)
        width = self.scaler.out_channels
        self.register_buffer("landmark", torch.zeros(num_landmarks, width))
        self.register_buffer("limit", torch.zeros((), dtype=torch.double))

    def forward(self, x: Tensor) -> Tensor:
        """Return the reliability ``[N]`` of rows ``[N, F]``, in double precision.

        It is 1 if the training rows give no limit: if they are too few or equal.
        """
        inputs = self.scaler(signed_sqrt(x))
        limit = torch.where(self.limit > 0, self.limit, torch.inf)
        return (_nearest(inputs, self.landmark) / limit).clamp(min=1) ** -POWER


def fit_typicality(
    features: Sequence[Tensor], groups: Tensor, generator: torch.Generator
) -> nn.ModuleList:
    """Fit the typicality of each modality on training samples.

    Args:
        features: ``[N, F_m]`` for each modality; a missing one is an all-NaN row.
        groups: ``[N]`` group numbers. Rows are held out together with their group, if
            there are several groups.
        generator: Generator of the training rows that are used.
    """
    _, group = groups.unique(return_inverse=True)
    if int(group.max()) == 0:
        group = torch.arange(len(group))
    order = torch.randperm(int(group.max()) + 1, generator=generator)
    folds = order[group] % NUM_FOLDS
    present = present_rows(features)
    modules = []
    for m, x in enumerate(features):
        rows = torch.nonzero(present[:, m])[:, 0]
        rows = rows[torch.randperm(len(rows), generator=generator)[:MAX_ROWS]]
        modules.append(_fit_modality(x[rows], folds[rows]))
    return nn.ModuleList(modules)


def num_landmarks(modules: nn.ModuleList) -> list[int]:
    """Return the number of landmarks of each modality."""
    return [len(each.landmark) for each in modules if isinstance(each, Typicality)]


def _fit_modality(x: Tensor, folds: Tensor) -> Typicality:
    """Fit the typicality of one modality on rows ``[n, F]``."""
    if len(x) < MIN_ROWS:
        return Typicality(x.shape[1], 1)
    scaler = StandardScaler(x.shape[1])
    scaler.fit(signed_sqrt(x))
    inputs = scaler(signed_sqrt(x))
    held_out = []
    for fold in range(NUM_FOLDS):
        own = folds == fold
        if int((~own).sum()) >= MIN_ROWS and bool(own.any()):
            others = torch.stack(means_of_similar(inputs[~own]))
            held_out.append(_nearest(inputs[own], others))
    landmarks = torch.stack(means_of_similar(inputs))
    result = Typicality(x.shape[1], len(landmarks))
    result.scaler = scaler
    result.landmark.copy_(landmarks)
    if held_out:
        result.limit.copy_(torch.quantile(torch.cat(held_out), QUANTILE))
    return result


def _nearest(x: Tensor, landmarks: Tensor) -> Tensor:
    """Return the distances ``[N]`` of rows to their nearest landmarks."""
    return squared_distances(x, landmarks).amin(1).sqrt()
