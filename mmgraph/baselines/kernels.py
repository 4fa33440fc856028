"""Multiple-kernel fusion with missing modalities.

Letters: `N` samples, `M` modalities, `F` features of one modality, `L` landmarks, `D`
components of a kernel, `K` classes.
"""

import math
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mmgraph.baselines.augmented import dropout_masks
from mmgraph.baselines.base import Baseline, Inputs
from mmgraph.baselines.classifiers import ignore_convergence_warnings
from mmgraph.baselines.inputs import (
    BoolArray,
    FloatArray,
    FloatingArray,
    IntArray,
    StandardScaler,
    observed,
)
from mmgraph.baselines.unimodal import stratified_folds
from mmgraph.errors import ConfigError
from mmgraph.kernels import (
    alignment_weights,
    mean_squared_distance,
    multiscale_rbf,
    signed_sqrt,
)

_RIDGES: tuple[float, ...] = (3.0, 1.0, 0.3, 0.1, 0.03)
_LINEAR_SHARES: tuple[float, ...] = (0.0, 0.5)
_DEFAULT_RIDGE, _DEFAULT_SHARE = 1.0, 0.5  # with too few samples to choose them
_MAX_ALIGNED = 1000  # samples by which weights are chosen
_MAX_COMPONENTS = 200  # of a kernel
_MIN_EIGENVALUE = 1e-6  # relative to the largest one
_MIN_PROBABILITY = 1e-6


@dataclass(frozen=True, eq=False)
class _KernelMap:
    """Feature map of the kernel of one modality, in the span of landmarks.

    The kernel is a weighted mean of a Gaussian kernel of three widths, on signed square
    roots of the features, and of a linear kernel whose mean with itself is 1.

    Attributes:
        scaler: Standardization of the signed square roots.
        linear: Standardization of the features.
        norm: Root of the mean square norm of standardized features.
        landmarks: Landmarks, [L, F].
        spread: Mean squared distance of the landmarks, [].
        components: Map of the kernel with the landmarks to features, [L, D].
    """

    scaler: StandardScaler
    linear: StandardScaler
    norm: float
    landmarks: torch.Tensor
    spread: torch.Tensor
    components: torch.Tensor

    @classmethod
    def fit(cls, x: FloatingArray, landmarks: IntArray) -> "_KernelMap":
        """Fit on [N, F]; rows of NaN are left out."""
        root = _signed_sqrt(x)
        scaler = StandardScaler.fit(root)
        rows = torch.as_tensor(scaler.filled(root[landmarks]))
        spread = mean_squared_distance(rows)
        values, vectors = torch.linalg.eigh(multiscale_rbf(rows, rows, spread))
        values, vectors = values.flip(0), vectors.flip(1)
        kept = int((values > _MIN_EIGENVALUE * values[0]).sum())
        kept = min(kept, _MAX_COMPONENTS)
        components = vectors[:, :kept] / values[:kept].sqrt()
        linear = StandardScaler.fit(x)
        square = float((linear.filled(x[landmarks]) ** 2).sum(axis=1).mean())
        norm = square**0.5 if square > 0 else 1.0
        return cls(scaler, linear, norm, rows, spread, components)

    def __call__(self, x: FloatingArray, share: float) -> FloatArray:
        """Return features [N, D + F], zero where the modality is missing.

        Args:
            x: Rows [N, F].
            share: Share of the linear kernel.
        """
        rows = torch.as_tensor(self.scaler.filled(_signed_sqrt(x)))
        kernel = multiscale_rbf(rows, self.landmarks, self.spread)
        features = (1 - share) ** 0.5 * (kernel @ self.components).numpy()
        if share:
            linear = share**0.5 * self.linear.filled(x) / self.norm
            features = np.concatenate([features, linear], axis=1)
        return np.where(observed(x)[:, None], features, 0.0)


class KernelFusion(Baseline):
    """Multiple-kernel logistic regression, in which a missing modality is no kernel.

    Each modality has a mean of Gaussian kernels of three widths, or the mean of it and
    a linear kernel. Kernels are combined as by :func:`mmgraph.kernels.combine`, which
    is positive semidefinite for any pattern of missing modalities. The combined kernel
    is represented by features of landmarks, on which a ridge-penalized logistic
    regression is fitted to the samples and to copies of them with random modalities
    removed.

    Args:
        weights: "alignment": the mean of equal weights and of those of
            :func:`mmgraph.kernels.alignment_weights`; or "uniform": equal weights.
        ridge: Penalty on the scale of the summed loss; default: .03, .1, .3, 1 or 3,
            whichever has the smallest log loss on a held-out fold under modality
            dropout.
        linear_share: Share of the linear kernel, from 0 to 1; default: 0 or 0.5, chosen
            together with the penalty.
        copies: Number of copies of each sample under modality dropout.
        landmarks: Maximum number of landmarks of a modality.
        seed: Random seed of landmarks, copies and the held-out fold.

    Attributes:
        weights_: Weight of the kernel of each modality, with sum 1; set by `fit`.
        alignment_: The aligned part of the weights; equal weights if `weights` is
            "uniform".
        ridge_: Penalty that is used.
        linear_share_: Share of the linear kernel that is used.

    References:
        Algorithms for Learning Kernels Based on Centered Alignment. Cortes et al.,
        2012. Using the Nystroem Method to Speed Up Kernel Machines. Williams, Seeger,
        2000. ModDrop: adaptive multi-modal gesture recognition. Neverova et al., 2016.
    """

    weights_: dict[str, float]
    alignment_: dict[str, float]
    ridge_: float
    linear_share_: float

    def __init__(
        self,
        *,
        weights: Literal["alignment", "uniform"] = "alignment",
        ridge: float | None = None,
        linear_share: float | None = None,
        copies: int = 6,
        landmarks: int = 600,
        seed: int = 0,
    ) -> None:
        super().__init__(seed=seed)
        self.weights, self.ridge, self.linear_share = weights, ridge, linear_share
        self.copies, self.landmarks = copies, landmarks

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the constructor parameters, for `sklearn.base.clone`."""
        names = "weights", "ridge", "linear_share", "copies", "landmarks", "seed"
        return {name: getattr(self, name) for name in names}

    def fit(self, data: Any, y: Any = None) -> "KernelFusion":  # noqa: ANN401
        """Fit on samples with labels; see :meth:`Baseline.fit`.

        Raises:
            ConfigError: If a parameter has an invalid value.
            DataError: If there are no labels or they are not classes.
        """
        self._check_params()
        super().fit(data, y)
        return self

    def _check_params(self) -> None:
        ridge, share = self.ridge, self.linear_share
        is_share = share is None or (_is_number(share) and 0 <= share <= 1)
        rules = (
            ("weights", "'alignment' or 'uniform'", self.weights in _WEIGHTS),
            (
                "ridge",
                "None or a number above 0",
                ridge is None or (_is_number(ridge) and ridge > 0),
            ),
            ("linear_share", "None or a number from 0 to 1", is_share),
            ("copies", "a whole number of at least 0", _is_count(self.copies, 0)),
            ("landmarks", "a whole number above 0", _is_count(self.landmarks, 1)),
        )
        for name, rule, holds in rules:
            if not holds:
                value = getattr(self, name)
                raise ConfigError(
                    f"{name} must be {rule}, got {value!r}.", parameter=name
                )

    def _fit(self, x: Inputs, y: IntArray, groups: NDArray[Any] | None) -> None:
        rng = np.random.Generator(np.random.PCG64(self.seed))
        self._maps: dict[str, _KernelMap] = {}
        for name, table in x.items():
            rows = rng.permutation(np.flatnonzero(observed(table)))[: self.landmarks]
            self._maps[name] = _KernelMap.fit(table, np.sort(rows))
        present = np.stack([observed(table) for table in x.values()], axis=1)
        self.alignment_ = dict.fromkeys(x, 1 / len(x))
        if self.weights == "alignment":
            rows = rng.permutation(len(y))[:_MAX_ALIGNED]
            parts = self._features({name: t[rows] for name, t in x.items()}, 0.5)
            kernels = {name: z @ z.T for name, z in parts.items()}
            self.alignment_ = alignment_weights(kernels, y[rows], present[rows])
        self.weights_ = {k: (w + 1 / len(x)) / 2 for k, w in self.alignment_.items()}
        masks = [present, *dropout_masks(present, self.copies, rng)]
        self.linear_share_, self.ridge_ = self._choose(x, y, groups, masks)
        features = self._features(x, self.linear_share_)
        self._model = self._fit_logistic(features, y, masks, self.ridge_)

    def _features(self, x: Inputs, share: float) -> dict[str, FloatArray]:
        """Return the features of each modality."""
        return {name: self._maps[name](table, share) for name, table in x.items()}

    def _choose(
        self,
        x: Inputs,
        y: IntArray,
        groups: NDArray[Any] | None,
        masks: list[BoolArray],
    ) -> tuple[float, float]:
        """Return the share of the linear kernel and the penalty of smallest loss."""
        ridges, shares = _RIDGES, _LINEAR_SHARES
        if self.ridge is not None:
            ridges = (float(self.ridge),)
        if self.linear_share is not None:
            shares = (float(self.linear_share),)
        folds = stratified_folds(y, groups, self.seed)
        if not folds or len(np.unique(y[folds[0][0]])) < 2:
            share = _DEFAULT_SHARE if self.linear_share is None else shares[0]
            return share, _DEFAULT_RIDGE if self.ridge is None else ridges[0]
        train, test = folds[0]
        seen, unseen = ([mask[rows] for mask in masks] for rows in (train, test))
        losses = {}
        for share in shares:
            features = self._features(x, share)
            known = {name: z[train] for name, z in features.items()}
            held_out = {name: z[test] for name, z in features.items()}
            joined, model = self._join(held_out, unseen), None
            for ridge in ridges:
                model = self._fit_logistic(known, y[train], seen, ridge, model)
                proba = self._proba(model, joined)
                own = proba[np.arange(len(proba)), np.tile(y[test], len(masks))]
                loss = -np.log(np.clip(own, _MIN_PROBABILITY, 1)).mean()
                losses[share, ridge] = float(loss)
        return min(losses, key=losses.__getitem__)

    def _fit_logistic(
        self,
        features: dict[str, FloatArray],
        y: IntArray,
        masks: list[BoolArray],
        ridge: float,
        start: Any = None,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Fit a logistic regression to all copies, from the solution of another one."""
        from sklearn.linear_model import LogisticRegression

        model = LogisticRegression(C=1 / ridge, max_iter=300, warm_start=True)
        if start is not None:
            model.coef_, model.intercept_ = start.coef_.copy(), start.intercept_.copy()
        z, weight = self._join(features, masks), 1 / len(masks)
        with ignore_convergence_warnings():
            model.fit(z, np.tile(y, len(masks)), np.full(len(z), weight))
        return model

    def _join(
        self, features: dict[str, FloatArray], masks: list[BoolArray]
    ) -> FloatArray:
        """Return the features of the combined kernel under each mask, [N masks, D]."""
        weights = np.array([self.weights_[name] for name in features])
        parts = []
        for mask in masks:
            total = mask @ weights
            scale = np.where(total > 0, total, 1)[:, None]
            share = np.sqrt(mask * weights / scale)
            columns = zip(features.values(), share.T, strict=True)
            parts.append(np.concatenate([z * s[:, None] for z, s in columns], axis=1))
        return np.concatenate(parts)

    def _proba(self, model: Any, z: FloatArray) -> FloatArray:  # noqa: ANN401
        """Return [N, K]; 0 for classes that the model was not fitted to."""
        proba = np.zeros((len(z), len(self.classes_)))
        proba[:, model.classes_] = model.predict_proba(z)
        return proba

    def _predict(self, x: Inputs) -> FloatArray:
        features = self._features(x, self.linear_share_)
        present = np.stack([observed(table) for table in x.values()], axis=1)
        proba = self._proba(self._model, self._join(features, [present]))
        return np.where(present.any(axis=1, keepdims=True), proba, self.prior_)


_WEIGHTS = "alignment", "uniform"


def _is_number(value: object) -> bool:
    real = isinstance(value, Real) and not isinstance(value, bool)
    return real and math.isfinite(value)  # type: ignore[arg-type]


def _is_count(value: object, least: int) -> bool:
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return whole and int(value) >= least  # type: ignore[call-overload]


def _signed_sqrt(x: FloatingArray) -> FloatArray:
    root: FloatArray = signed_sqrt(torch.as_tensor(x, dtype=torch.double)).numpy()
    return root
