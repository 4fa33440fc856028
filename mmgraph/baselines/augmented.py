"""Baselines that are trained with modality dropout, and their blend.

Letters: `N` samples, `M` modalities, `K` classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmgraph.baselines.base import Baseline, Inputs
from mmgraph.baselines.classifiers import make_extra_trees
from mmgraph.baselines.inputs import BoolArray, FloatArray, IntArray, observed
from mmgraph.baselines.tables import HistGradientBoosting, MeanLogistic, TableBaseline
from mmgraph.baselines.unimodal import LateLogistic
from mmgraph.missing.base import thin

_NUM_COPIES = 5
_MAX_RATE = 0.9


class _DropoutBaseline(TableBaseline):
    """Base class: five copies of the training rows with modality dropout are added.

    The missing rate of each row of a copy is drawn from U(0, 0.9); at least one of its
    modalities stays.
    """

    def _fit(self, x: Inputs, y: IntArray, groups: NDArray[Any] | None) -> None:
        rng = np.random.Generator(np.random.PCG64(self.seed))
        present = np.stack([observed(table) for table in x.values()], axis=1)
        masks = [present, *dropout_masks(present, _NUM_COPIES, rng)]
        copies = {
            name: np.concatenate(
                [np.where(kept[:, [m]], table, np.nan) for kept in masks]
            )
            for m, (name, table) in enumerate(x.items())
        }
        super()._fit(copies, np.tile(y, len(masks)), groups)


class LogisticDropout(_DropoutBaseline, MeanLogistic):
    """Mean imputation, indicators and logistic regression with modality dropout.

    The training rows are used six times: as they are, and five times with random
    modalities removed.

    References:
        ModDrop: adaptive multi-modal gesture recognition. Neverova et al., 2016.
    """


class ExtraTreesDropout(_DropoutBaseline):
    """Mean imputation, indicators and 300 extremely random trees with modality dropout.

    The training rows are used six times: as they are, and five times with random
    modalities removed. A leaf has at least six rows.

    References:
        Extremely randomized trees. Geurts et al., 2006.
    """

    def _make(self, y: IntArray) -> Any:  # noqa: ANN401
        return make_extra_trees(self.seed, min_samples_leaf=_NUM_COPIES + 1)


class BoostingDropout(_DropoutBaseline, HistGradientBoosting):
    """Histogram gradient boosting with modality dropout.

    The training rows are used six times: as they are, and five times with random
    modalities removed.

    References:
        LightGBM: a highly efficient gradient boosting decision tree. Ke et al., 2017.
    """


class Blend(Baseline):
    """Mean probability of late_logistic, logistic_drop and boosting_drop.

    References:
        Stacked generalization. Wolpert, 1992.
    """

    def _fit(self, x: Inputs, y: IntArray, groups: NDArray[Any] | None) -> None:
        kinds = (LateLogistic, LogisticDropout, BoostingDropout)
        self._members: list[Baseline] = [kind(seed=self.seed) for kind in kinds]
        for member in self._members:
            member.prior_ = self.prior_
            member._fit(x, y, groups)

    def _predict(self, x: Inputs) -> FloatArray:
        proba = [member._predict(x) for member in self._members]
        mean: FloatArray = np.mean(proba, axis=0)
        return mean


def dropout_masks(
    present: BoolArray, num_copies: int, rng: np.random.Generator
) -> list[BoolArray]:
    """Return masks [N, M] of copies of the samples, each row with its missing rate."""
    shape = len(present), 1
    return [
        thin(present, rng.uniform(0, _MAX_RATE, shape), rng) for _ in range(num_copies)
    ]
