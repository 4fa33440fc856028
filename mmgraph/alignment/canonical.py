"""Canonical correlation analysis of many modalities with missing rows.

Letters: `N` samples, `n` rows of a modality, `F` features, `L` landmarks, `R`
components, `M` modalities.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from mmgraph.alignment.rows import (
    BoolArray,
    FloatArray,
    RowReader,
    Rows,
    observed,
    spread,
)
from mmgraph.data import MultimodalData
from mmgraph.errors import ConfigError, DataError, did_you_mean
from mmgraph.nn.radial import BLOCK_ROWS, RBFMap
from mmgraph.typing import ModalityArrays

Kernel: TypeAlias = Literal["linear", "rbf"]

RANK = 1e-10  # share of the largest eigenvalue below which a direction has no variance
ROUNDING = 1e-12  # relative spread below which a channel is constant


class CCA:
    r"""Canonical correlation analysis of two or many modalities with missing rows.

    The components of each modality, its variates, are linear maps of its features that
    correlate most with those of the other modalities. Samples may lack any modalities;
    two modalities that no sample has together are compared through a third one that
    shares samples with both.

    Samples are those with at least two modalities, or with at least one (``singles``).
    For modality m let :math:`Z_m` be its rows, centered over the samples that have it,
    and zero elsewhere, :math:`n_m` their number, :math:`C_m = (1 - \lambda) Z_m^T Z_m /
    n_m + \lambda\, \mathrm{tr}(Z_m^T Z_m / n_m) / F \cdot I` and D the diagonal matrix
    of the number of modalities of each sample. The consensus G maximizes

    .. math:: \mathrm{tr}\; G^T \left(\sum_m Z_m C_m^{-1} Z_m^T / n_m\right) G
        \quad\text{subject to}\quad G^T D G = N I,\; 1^T D G = 0.

    Its columns are left singular vectors of :math:`D^{-1/2} [Z_1 C_1^{-1/2} /
    \sqrt{n_1}, \ldots]`, divided by :math:`\sqrt{D}`. Weights are :math:`W_m = C_m^{-1}
    Z_m^T G / n_m`. With two complete modalities, singular values s and no ridge, the
    canonical correlations are :math:`2 s^2 - 1`.

    Args:
        num_components: Maximum number of components ``R``.
        ridge: Shrinkage of the covariance of each modality towards a multiple of the
            identity, in [0, 1]. 0 is classical CCA, which needs many more samples than
            features.
        kernel: "linear", or "rbf" for nonlinear relations: the features are replaced by
            Nystroem features of radial basis functions around landmarks.
        landmarks: Maximum number of landmarks of each modality, for "rbf".
        singles: Use samples with a single modality, too. They determine its mean and
            covariance better, but strengthen components of one modality only: retrieval
            was better without them on the data sets of ``benchmarks/alignment.py``.
        scale: Divide each feature by its standard deviation, so that the ridge does not
            depend on units. Without ridge it changes nothing. "rbf" always scales.
        seed: Seed of the landmarks.

    Attributes:
        weights_: ``[F, R]`` by modality; for "rbf", weights of the Nystroem features.
        means_: ``[F]`` mean of each feature over the rows that are used.
        correlations_: ``[R]`` mean correlation of the variates of two modalities, over
            all pairs of modalities, on the training samples that have both; NaN if no
            two samples have the same two modalities.
        num_pairs_: ``[M, M]`` number of training samples with two modalities.

    References:
        Generalization of Canonical Correlation Analysis to Three or More Sets of
        Variables, Carroll, 1968. Canonical Analysis of Several Sets of Variables,
        Kettenring, 1971 (MAXVAR). Generalized Canonical Correlation Analysis with
        Missing Values, van de Velden, Takane, 2012 (the weights D). Kernel and
        Nonlinear Canonical Correlation Analysis, Lai, Fyfe, 2000.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> cause = rng.normal(size=(200, 2))
        >>> data = {m: cause @ rng.normal(size=(2, 5)) for m in ("image", "text")}
        >>> data["image"][:50] = np.nan  # the first 50 samples have no image
        >>> cca = alignment.CCA(2, ridge=0.01).fit(data)
        >>> cca.correlations_.round(1)
        array([1., 1.])
        >>> cca.transform(data)["text"].shape
        (200, 2)
    """

    weights_: dict[str, FloatArray]
    means_: dict[str, FloatArray]
    correlations_: FloatArray
    num_pairs_: npt.NDArray[np.int64]

    def __init__(
        self,
        num_components: int = 10,
        *,
        ridge: float = 0.1,
        kernel: Kernel = "linear",
        landmarks: int = 600,
        singles: bool = False,
        scale: bool = True,
        seed: int = 0,
    ) -> None:
        self.num_components = num_components
        self.ridge = ridge
        self.kernel: Kernel = kernel
        self.landmarks = landmarks
        self.singles = singles
        self.scale = scale
        self.seed = seed

    def __repr__(self) -> str:
        return (
            f"CCA({self.num_components}, ridge={self.ridge}, kernel={self.kernel!r}, "
            f"landmarks={self.landmarks}, singles={self.singles}, scale={self.scale}, "
            f"seed={self.seed})"
        )

    def fit(self, data: MultimodalData | ModalityArrays) -> "CCA":
        """Fit on samples, any of whose modalities may be missing.

        Args:
            data: Samples, or arrays ``[N, F]`` by modality. An all-NaN row is a missing
                modality; a single NaN cell counts as the mean of its feature.

        Returns:
            The fitted model.

        Raises:
            ConfigError: If a parameter is invalid.
            DataError: If there are fewer than two modalities, or no sample links two
                groups of modalities.
        """
        self._check_parameters()
        self._reader = RowReader.fit(data)
        rows = self._reader.read(data)
        whitened = self._whiten(rows)
        strength, parts = _consensus(whitened, self.num_components)
        num_samples = int(_stacked_presence(whitened).any(axis=1).sum())
        self.num_pairs_ = _count_pairs(whitened)
        self._features = {name: w.features for name, w in whitened.items()}
        self.means_ = {name: w.mean for name, w in whitened.items()}
        self.weights_ = {
            name: w.inverse_root
            @ (part * np.sqrt(strength * num_samples / w.present.sum()))
            for (name, w), part in zip(whitened.items(), parts, strict=True)
        }
        self.correlations_ = _mean_correlations(self._variates(rows))
        return self

    def transform(self, data: MultimodalData | ModalityArrays) -> Rows:
        """Return the variates of each modality.

        Args:
            data: Samples with at least one modality of the training data.

        Returns:
            ``[N, R]`` by modality; NaN rows where it is missing.

        Raises:
            DataError: If the model is not fitted, or a modality is unknown or has
                another number of features.
        """
        self._check_fitted()
        return self._variates(self._reader.read(data))

    def consensus(self, data: MultimodalData | ModalityArrays) -> FloatArray:
        """Return the mean of the variates of the modalities that a sample has.

        Args:
            data: Samples with at least one modality of the training data.

        Returns:
            ``[N, R]`` joint representation; NaN rows for samples without any modality.

        Raises:
            DataError: If :meth:`transform` raises it.
        """
        variates = np.stack(list(self.transform(data).values()))
        known = ~np.isnan(variates)
        count = known.sum(axis=0)
        total = np.where(known, variates, 0).sum(axis=0)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def score(self, data: MultimodalData | ModalityArrays) -> float:
        """Return the mean correlation of the variates of two modalities.

        Args:
            data: New samples: correlations of training samples are too high.

        Returns:
            Mean over components and over pairs of modalities, in [-1, 1]; nan if no
            two samples have the same two modalities.

        Raises:
            DataError: If :meth:`transform` raises it.
        """
        return float(_mean_correlations(self.transform(data)).mean())

    def test(
        self, data: MultimodalData | ModalityArrays, permutations: int = 200
    ) -> FloatArray:
        """Return the p-value of each component by permutation.

        The model is fitted to the data, and to data in which the rows of each modality
        are permuted among the samples that have it. The p-value of a component is
        ``(1 + k) / (1 + permutations)``, where k is the number of permutations whose
        strongest component is at least as strong. Comparison with the strongest one
        bounds the probability of any false positive among all components.

        Args:
            data: Samples, such as the training data.
            permutations: Number of permutations.

        Returns:
            ``[R]`` p-values, not decreasing.

        Raises:
            ConfigError: If ``permutations`` is below 1.
            DataError: If :meth:`fit` raises it.
        """
        self._check_parameters()
        if permutations < 1:
            raise ConfigError(
                f"permutations must be at least 1, got {permutations}. The default is "
                "200."
            )
        whitened = self._whiten(RowReader.fit(data).read(data))
        strength, _ = _consensus(whitened, self.num_components)
        rng = np.random.default_rng(self.seed)
        strongest = np.empty((permutations, 1))
        for i in range(permutations):
            shuffled = {name: w.permuted(rng) for name, w in whitened.items()}
            strongest[i] = _consensus(shuffled, 1)[0]
        larger = (strongest >= strength * (1 - RANK)).sum(axis=0)
        return np.asarray((1 + larger) / (1 + permutations))

    def weights_of(self, modality: str) -> tuple[FloatArray, FloatArray]:
        """Return the map of a modality to its variates as weights and bias.

        ``x @ weight + bias`` are the variates: initial values of a linear encoder.

        Args:
            modality: Name of the modality.

        Returns:
            Weight ``[F, R]`` and bias ``[R]``.

        Raises:
            ConfigError: If the kernel is not "linear".
            DataError: If the model is not fitted, or the modality is unknown.
        """
        self._check_fitted()
        self._check_known([modality])
        if self.kernel != "linear":
            raise ConfigError(
                f"weights_of must have kernel 'linear', got {self.kernel!r}. Use "
                "transform."
            )
        weight = self.weights_[modality]
        return weight, -self.means_[modality] @ weight

    def _check_parameters(self) -> None:
        if self.kernel not in ("linear", "rbf"):
            raise ConfigError(
                f"kernel must be 'linear' or 'rbf', got {self.kernel!r}. Choose one."
            )
        if not 0 <= self.ridge <= 1:
            raise ConfigError(
                f"ridge must be in [0, 1], got {self.ridge}. The default is 0.1."
            )
        for name in ("num_components", "landmarks"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"{name} must be at least 1, got {getattr(self, name)}. Increase "
                    "it."
                )

    def _check_fitted(self) -> None:
        if not hasattr(self, "weights_"):
            raise DataError(
                "CCA must be fitted before it is used, got no weights. Call fit first."
            )

    def _check_known(self, names: list[str]) -> None:
        for name in names:
            if name not in self.weights_:
                known = ", ".join(self.weights_)
                raise DataError(
                    f"CCA must get modalities of the training data ({known}), got "
                    f"{name!r}.",
                    did_you_mean(name, self.weights_) or "Leave it out.",
                )

    def _whiten(self, rows: Rows) -> "dict[str, _Whitened]":
        present = {name: observed(x) for name, x in rows.items()}
        _check_linked(present)
        counts = np.sum(list(present.values()), axis=0)
        used = counts >= (1 if self.singles else 2)
        generator = torch.Generator().manual_seed(self.seed)
        whitened = {}
        for name, x in rows.items():
            kept = present[name] & used
            features: _Features
            if self.kernel == "rbf":
                features = _Nystroem.fit(x[kept], self.landmarks, generator)
            else:
                features = _Linear.fit(x[kept], self.scale)
            whitened[name] = _Whitened.fit(x[kept], kept, features, self.ridge)
        return whitened

    def _variates(self, rows: Rows) -> Rows:
        self._check_known(list(rows))
        variates = {}
        for name, x in rows.items():
            present, weight = observed(x), self.weights_[name]
            features = self._features[name]
            if x.shape[1] != features.channels and present.any():
                raise DataError(
                    f"Modality {name!r} must have {features.channels} features as in "
                    f"training, got {x.shape[1]}. Use the same columns in both."
                )
            found = np.zeros((0, weight.shape[1]))
            if present.any():
                found = (features(x[present]) - self.means_[name]) @ weight
            variates[name] = spread(found, present)
        return variates


class _Features(Protocol):
    """Features of the rows of one modality, of which its variates are linear maps."""

    @property
    def channels(self) -> int:
        """Number of features of a row, F."""

    @property
    def scale(self) -> FloatArray:
        """Divisor of the centered features, ``[F']``, during the fit."""

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return the features ``[n, F']`` of rows ``[n, F]``."""


@dataclass(frozen=True)
class _Linear:
    """The features themselves, with NaN cells imputed by the mean.

    Attributes:
        mean: ``[F]`` mean of the known cells.
        scale: ``[F]`` divisor of the centered features during the fit; infinite for
            constant features, whose weights become zero.
    """

    mean: FloatArray
    scale: FloatArray

    @property
    def channels(self) -> int:
        """Number of features, F."""
        return len(self.mean)

    @classmethod
    def fit(cls, x: FloatArray, scaled: bool) -> "_Linear":
        """Learn means and scales of rows ``[n, F]``."""
        known = ~np.isnan(x)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, x, 0).sum(axis=0) / count
        square = np.where(known, (x - mean) ** 2, 0).sum(axis=0)
        deviation = np.sqrt(square / count)
        constant = deviation <= ROUNDING * np.abs(mean)
        scale = np.where(constant, np.inf, deviation if scaled else 1)
        return cls(mean, scale)

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return rows ``[n, F]`` without NaN."""
        return np.where(np.isnan(x), self.mean, x)


class _Nystroem:
    """Features whose inner products approximate a kernel of radial basis functions.

    References:
        Using the Nystroem Method to Speed Up Kernel Machines, Williams, Seeger, 2000.
    """

    def __init__(self, radial: RBFMap, root: FloatArray) -> None:
        self.radial, self.root = radial, root

    @property
    def channels(self) -> int:
        """Number of features of a row, F."""
        return self.radial.scaler.channels

    @property
    def scale(self) -> FloatArray:
        """Ones: the kernel scales the features of a row itself."""
        return np.ones(self.root.shape[1])

    @classmethod
    def fit(
        cls, x: FloatArray, landmarks: int, generator: torch.Generator
    ) -> "_Nystroem":
        """Choose landmarks among rows ``[n, F]``."""
        rows = torch.from_numpy(x).float()
        chosen = torch.randperm(len(x), generator=generator)[:landmarks].sort().values
        radial = RBFMap(x.shape[1], 0, len(chosen))
        radial.fit(rows, chosen)
        return cls(radial, _inverse_root(radial.kernel(rows[chosen]).numpy()))

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return ``[n, L]`` features of rows ``[n, F]``."""
        rows = torch.from_numpy(x).float()
        blocks = [self.radial.kernel(each) for each in rows.split(BLOCK_ROWS)]
        return np.asarray(torch.cat(blocks).numpy() @ self.root)


@dataclass(frozen=True)
class _Whitened:
    """Whitened rows of one modality.

    Attributes:
        features: Features of rows.
        present: ``[N]`` Bool.
        mean: ``[F]`` mean of the features.
        inverse_root: ``[F, K]`` root of the inverse of the regularized covariance.
        rows: ``[n, K]`` centered features times ``inverse_root``.
    """

    features: _Features
    present: BoolArray
    mean: FloatArray
    inverse_root: FloatArray
    rows: FloatArray

    @classmethod
    def fit(
        cls, x: FloatArray, present: BoolArray, features: _Features, ridge: float
    ) -> "_Whitened":
        """Whiten rows ``[n, F]``."""
        found = features(x)
        mean = found.mean(axis=0)
        centered = (found - mean) / features.scale
        variance, axes = _principal_axes(centered)
        shrunk = (1 - ridge) * variance + ridge * variance.sum() / centered.shape[1]
        root = axes / np.sqrt(shrunk)
        inverse_root = root / features.scale[:, None]
        return cls(features, present, mean, inverse_root, centered @ root)

    def permuted(self, rng: np.random.Generator) -> "_Whitened":
        """Return the same rows in random order."""
        rows = self.rows[rng.permutation(len(self.rows))]
        return replace(self, rows=rows)


def _principal_axes(centered: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the variances ``[K]`` and axes ``[F, K]`` of rows, those above zero.

    Other axes are orthogonal to all rows, hence to the weights, too.
    """
    wide = centered.shape[1] > len(centered)
    gram = centered @ centered.T if wide else centered.T @ centered
    values, vectors = np.linalg.eigh(gram)
    kept = values > RANK * max(values.max(initial=0), np.finfo(float).tiny)
    values, vectors = values[kept], vectors[:, kept]
    axes = centered.T @ vectors / np.sqrt(values) if wide else vectors
    return values / len(centered), np.asarray(axes)


def _inverse_root(covariance: FloatArray) -> FloatArray:
    """Return ``W [F, K]`` with ``W W^T`` the pseudo-inverse of a covariance."""
    values, vectors = np.linalg.eigh(covariance)
    kept = values > RANK * max(values.max(initial=0), np.finfo(float).tiny)
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]))


def _consensus(
    whitened: Mapping[str, _Whitened], num_components: int
) -> tuple[FloatArray, list[FloatArray]]:
    """Return squared singular values ``[R]`` and right singular vectors by modality.

    The direction of the constraint ``1^T D G = 0`` has the singular value 0, because
    rows are centered over the samples of their modality.
    """
    counts = _stacked_presence(whitened).sum(axis=1)
    kept = counts > 0
    blocks = []
    for w in whitened.values():
        rows = np.zeros((len(counts), w.rows.shape[1]))
        rows[w.present] = w.rows / np.sqrt(max(len(w.rows), 1))
        blocks.append(rows[kept] / np.sqrt(counts[kept, None]))
    table = np.concatenate(blocks, axis=1)
    if not table.size:
        raise DataError(
            "CCA needs features that vary, got only constant ones. Add features."
        )
    wide = table.shape[1] > table.shape[0]
    gram = table @ table.T if wide else table.T @ table
    values, vectors = np.linalg.eigh(gram)  # solvers of a subset fail on equal values
    values, vectors = (
        values[::-1][:num_components],
        vectors[:, ::-1][:, :num_components],
    )
    real = values > RANK * max(values.max(initial=0), np.finfo(float).tiny)
    values, vectors = values[real], vectors[:, real]
    if wide:
        vectors = table.T @ vectors / np.sqrt(values)
    largest = np.abs(vectors).argmax(axis=0)
    vectors = vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])
    widths = np.cumsum([block.shape[1] for block in blocks])[:-1]
    return values, np.split(vectors, widths)


def _stacked_presence(whitened: Mapping[str, _Whitened]) -> BoolArray:
    return np.stack([w.present for w in whitened.values()], axis=1)


def _count_pairs(whitened: Mapping[str, _Whitened]) -> npt.NDArray[np.int64]:
    present = _stacked_presence(whitened).astype(np.int64)
    return present.T @ present


def _check_linked(present: Mapping[str, BoolArray]) -> None:
    """Check that samples with several modalities connect all modalities.

    Raises:
        DataError: If there are fewer than two modalities, or two groups of modalities
            without a sample that has one of each.
    """
    names = list(present)
    if len(names) < 2:
        raise DataError(
            f"CCA needs at least two modalities, got {', '.join(names)}. Add one."
        )
    group = set(names[:1])
    for _ in names:
        group |= {
            b for b in names for a in group if bool((present[a] & present[b]).any())
        }
    others = [name for name in names if name not in group]
    if others:
        linked = ", ".join(name for name in names if name in group)
        raise DataError(
            "CCA needs samples that link all modalities, got none that links "
            f"{linked} with {', '.join(others)}. Add samples with a modality of both "
            "sides, or use mmgraph.alignment.transport, which needs no pairs."
        )


def _mean_correlations(variates: Rows) -> FloatArray:
    """Return the mean over pairs of modalities of the correlations, ``[R]``."""
    found = []
    for a, b in combinations(variates.values(), 2):
        both = observed(a) & observed(b)
        if both.sum() > 1:
            x, y = (v[both] - v[both].mean(axis=0) for v in (a, b))
            scale = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
            found.append((x * y).sum(axis=0) / np.where(scale > 0, scale, 1))
    if not found:
        width = next(iter(variates.values())).shape[1]
        return np.full(width, np.nan)
    return np.mean(found, axis=0)
