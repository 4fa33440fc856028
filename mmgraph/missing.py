"""Missing patterns as saved, hashed mask plans; modality dropout for training.

Letters: `N` samples of a data set, `B` samples of a batch, `M` modalities. `present`
is True where a modality is observed. What the data lack stays missing in every plan.
"""

import base64
import binascii
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool
from torch import Tensor

from mmgraph.data import MultimodalData
from mmgraph.errors import ConfigError, DataError
from mmgraph.labels import missing_labels

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]

_STEEPNESS = 2.0  # change of the log-odds of missingness per standard deviation
_STREAM = 0x6D61736B  # "mask"


@dataclass(frozen=True, eq=False)
class MaskPlan:
    """Which modalities each sample keeps, with the rule and seed that chose them.

    Attributes:
        present: True where the sample keeps the modality, bool [N, M]; stored as a
            read-only copy.
        modalities: The M names, in the order of the columns.
        pattern: The rule in words, such as "mcar(0.3)".
        seed: Seed of the rule.
        num_observed: Number of (sample, modality) pairs that the data had before the
            plan; N * M by default.
    """

    present: BoolArray
    modalities: tuple[str, ...]
    pattern: str = "given"
    seed: int = 0
    num_observed: int | None = None

    def __post_init__(self) -> None:
        present, width = np.array(self.present), len(self.modalities)
        if present.dtype != bool or present.ndim != 2 or present.shape[1] != width:
            raise DataError(
                f"MaskPlan.present must be bool [N, {width}], got {present.dtype} "
                f"{list(present.shape)}. Give one column per modality."
            )
        present.setflags(write=False)
        object.__setattr__(self, "present", present)
        if self.num_observed is None:
            object.__setattr__(self, "num_observed", present.size)

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the names, the shape and the packed bits."""
        head = json.dumps([list(self.modalities), list(self.present.shape)])
        digest = hashlib.sha256(head.encode())
        digest.update(np.packbits(self.present).tobytes())
        return digest.hexdigest()

    @property
    def realised_rate(self) -> float:
        """Share of the pairs that the data had and the plan removed; 0 if none."""
        had = self.num_observed or 0
        return 1 - int(self.present.sum()) / had if had else 0.0

    def apply(self, data: MultimodalData) -> MultimodalData:
        """Return the data with only what the plan keeps.

        Args:
            data: N samples with the modalities of the plan, in their order.

        Returns:
            New data; what was missing stays missing.

        Raises:
            DataError: If the modalities or the number of samples differ.
        """
        if data.modalities != self.modalities:
            raise DataError(
                f"MaskPlan must have the modalities of the data, "
                f"{list(data.modalities)}, got {list(self.modalities)}. "
                "Make the plan from these data."
            )
        if len(data) != len(self.present):
            raise DataError(
                f"MaskPlan must have one row per sample, {len(data)}, got "
                f"{len(self.present)}. Make the plan from these data."
            )
        return data.mask(self.present)

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON with its hash.

        Args:
            path: File to write; replaced if it exists.
        """
        content = asdict(self) | {
            "present": base64.b64encode(np.packbits(self.present).tobytes()).decode(),
            "num_samples": len(self.present),
            "sha256": self.hash,
        }
        Path(path).write_text(json.dumps(content, sort_keys=True) + "\n", "utf-8")

    @classmethod
    def load(cls, path: str | Path) -> "MaskPlan":
        """Read a plan and compare it with its hash.

        Args:
            path: File that `save` wrote.

        Returns:
            A plan equal to the saved one.

        Raises:
            DataError: If the file is not a plan or was changed.
        """
        try:
            content = json.loads(Path(path).read_text("utf-8"))
            names = tuple(str(name) for name in content["modalities"])
            packed = base64.b64decode(content["present"], validate=True)
            shape = int(content["num_samples"]), len(names)
            bits = np.unpackbits(np.frombuffer(packed, np.uint8)).astype(bool)
            plan = cls(
                bits[: shape[0] * shape[1]].reshape(shape),
                names,
                str(content["pattern"]),
                int(content["seed"]),
                int(content["num_observed"]),
            )
            saved = content["sha256"]
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise DataError(
                f"{str(path)!r} must be a mask plan saved by MaskPlan.save, got "
                f"something else ({type(error).__name__}). Save the plan again."
            ) from error
        if saved != plan.hash:
            raise DataError(
                f"{str(path)!r} must match its hash, got a plan that was changed. "
                "Save the plan again."
            )
        return plan


class Pattern(ABC):
    """A rule by which modalities go missing."""

    @abstractmethod
    def describe(self) -> str:
        """Return the rule in words, such as "mcar(0.3)"."""

    @abstractmethod
    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        """Return what stays, [N, M]; what the data lack is removed afterwards."""

    def plan(self, data: MultimodalData, seed: int = 0) -> MaskPlan:
        """Choose what each sample keeps.

        Args:
            data: N samples; only what they have can go missing.
            seed: Seed; the same data and seed give the same plan.

        Returns:
            The plan. It keeps at least one of the modalities that a sample has,
            except under `leave_out` and `only`. A sample with none keeps none.

        Raises:
            DataError: If the data lack what the rule needs.
        """
        # A stream of its own: data that were drawn with the same plain seed would
        # otherwise be correlated with their masks (measured: rate 0.3 became 0.16).
        rng = np.random.Generator(np.random.PCG64([seed, _STREAM]))
        present = self._present(data, rng) & data.present
        return MaskPlan(
            present, data.modalities, self.describe(), seed, int(data.present.sum())
        )


@dataclass(frozen=True)
class mcar(Pattern):  # noqa: N801  (used like a function: mcar(0.3))
    """Remove each modality independently with the same probability.

    One modality, chosen at random, stays where all would go: the realised rate is
    below the nominal one.

    Attributes:
        rate: Probability in [0, 1].

    Example:
        >>> from mmgraph.missing import mcar
        >>> data = MultimodalData.from_arrays({"a": torch.ones(4, 2).numpy()})
        >>> mcar(1.0).plan(data, seed=0).realised_rate  # the only one stays
        0.0
    """

    rate: float | int

    def __post_init__(self) -> None:
        _check_rate("mcar", self.rate)

    def describe(self) -> str:
        """Return the rule in words."""
        return f"mcar({self.rate:g})"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        return _thin(data.present, np.float64(self.rate), rng)


@dataclass(frozen=True)
class imbalanced(Pattern):  # noqa: N801  (used like a function)
    """Remove each modality independently with a probability of its own.

    Attributes:
        rates: Probability in [0, 1] for each modality; those not named stay.
    """

    rates: Mapping[str, float | int] = field(hash=False)

    def __post_init__(self) -> None:
        for name, rate in self.rates.items():
            _check_rate(f"imbalanced rate of {name!r}", rate)
        object.__setattr__(self, "rates", dict(self.rates))

    def describe(self) -> str:
        """Return the rule in words."""
        rates = ", ".join(f"{name}={self.rates[name]:g}" for name in sorted(self.rates))
        return f"imbalanced({rates})"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        _check_names(self.rates, data)
        rates = np.array([self.rates.get(name, 0.0) for name in data.modalities])
        return _thin(data.present, rates, rng)


@dataclass(frozen=True)
class block(Pattern):  # noqa: N801  (used like a function)
    """Remove each modality from whole groups (hospital, device, subject).

    A group keeps at least one modality. A sample that has none of those its group
    keeps gets one of its own back.

    Attributes:
        rate: Probability in [0, 1] that a group lacks a modality.
    """

    rate: float | int

    def __post_init__(self) -> None:
        _check_rate("block", self.rate)

    def describe(self) -> str:
        """Return the rule in words."""
        return f"block({self.rate:g})"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        if data.groups is None:
            raise DataError(
                f"data.groups must be given for {self.describe()}, got None. Pass "
                "groups= when building the data, or use mcar."
            )
        names, member = np.unique(data.groups, return_inverse=True)
        had = np.zeros((len(names), len(data.modalities)), dtype=bool)
        np.logical_or.at(had, member, data.present)
        kept = _thin(had, np.float64(self.rate), rng)[member] & data.present
        return _restore_one(kept, data.present, rng)


@dataclass(frozen=True)
class leave_out(Pattern):  # noqa: N801  (used like a function)
    """Remove the named modalities from every sample; it may keep nothing.

    Attributes:
        modalities: Names, or one name.
    """

    modalities: str | Sequence[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "modalities", _names(self.modalities))

    def describe(self) -> str:
        """Return the rule in words."""
        return f"leave_out({', '.join(self.modalities)})"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        _check_names(self.modalities, data)
        return np.isin(data.modalities, self.modalities, invert=True) & data.present


@dataclass(frozen=True)
class only(Pattern):  # noqa: N801  (used like a function)
    """Remove all but the named modalities from every sample; it may keep nothing.

    Attributes:
        modalities: Names, or one name.
    """

    modalities: str | Sequence[str]

    def __post_init__(self) -> None:
        object.__setattr__(self, "modalities", _names(self.modalities))

    def describe(self) -> str:
        """Return the rule in words."""
        return f"only({', '.join(self.modalities)})"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        _check_names(self.modalities, data)
        return np.isin(data.modalities, self.modalities) & data.present


@dataclass(frozen=True)
class mar(Pattern):  # noqa: N801  (used like a function)
    """Remove modalities depending on the content of one that stays.

    The log-odds of removal rise by 2 per standard deviation of the mean of the
    standardised features of `on`; their level makes the mean probability the rate.
    Where `on` is missing the rate itself applies. `on` is never removed.

    Attributes:
        rate: Mean probability in [0, 1] of the other modalities.
        on: The observed modality that the probability depends on; not text.
    """

    rate: float | int
    on: str

    def __post_init__(self) -> None:
        _check_rate("mar", self.rate)

    def describe(self) -> str:
        """Return the rule in words."""
        return f"mar({self.rate:g}, on={self.on})"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        _check_names([self.on], data)
        column = data.modalities.index(self.on)
        x = data.select([self.on]).features()[self.on].astype(np.float64)
        score = _row_mean(_standardised(x))
        rates = np.repeat(_rates(score, self.rate)[:, None], data.shape[1], axis=1)
        rates[:, column] = 0
        return _thin(data.present, rates, rng)


@dataclass(frozen=True)
class mnar(Pattern):  # noqa: N801  (used like a function)
    """Remove modalities depending on the label, a probe for shortcuts.

    The log-odds of removal rise by 2 per standard deviation of the label (the rank of
    the class where labels are not numbers; the mean of several labels); their level
    makes the mean probability the rate. An unknown label gets the rate itself.

    Attributes:
        rate: Mean probability in [0, 1].
    """

    rate: float | int

    def __post_init__(self) -> None:
        _check_rate("mnar", self.rate)

    def describe(self) -> str:
        """Return the rule in words."""
        return f"mnar({self.rate:g})"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        if data.y is None:
            raise DataError(
                f"data.y must be given for {self.describe()}, got None. Pass y= when "
                "building the data, or use mcar."
            )
        y = np.full(data.y.shape, np.nan)
        known = ~missing_labels(data.y)
        numbers = data.y.dtype.kind in "fiub"
        labels = data.y[known]
        y[known] = labels if numbers else np.unique(labels, return_inverse=True)[1]
        score = _row_mean(_standardised(y.reshape(len(y), -1)))
        return _thin(data.present, _rates(score, self.rate)[:, None], rng)


@dataclass(frozen=True)
class natural(Pattern):  # noqa: N801  (used like a function)
    """Remove nothing: what the data lack is missing."""

    def describe(self) -> str:
        """Return the rule in words."""
        return "natural()"

    def _present(self, data: MultimodalData, rng: np.random.Generator) -> BoolArray:
        return data.present


def modality_dropout(
    present: Bool[Tensor, "B M"], rate: float | int, generator: torch.Generator
) -> Bool[Tensor, "B M"]:
    """Hide observed modalities at random, a new choice for every sample.

    Each sample gets a rate of its own from U(0, 2 * rate), so that a model sees
    nearly complete and nearly empty samples alike. One modality, chosen at random,
    stays where all would go; a sample with nothing observed stays so.

    Args:
        present: True where observed.
        rate: Mean rate in [0, 1]; above 0.5 some samples keep just one modality.
        generator: Randomness; its device may differ from that of `present`.

    Returns:
        True where observed and kept.

    Raises:
        ConfigError: If the rate is outside [0, 1].

    Example:
        >>> from mmgraph.missing import modality_dropout
        >>> present = torch.tensor([[True, True], [False, True], [False, False]])
        >>> modality_dropout(present, 1.0, torch.Generator().manual_seed(0)).sum(1)
        tensor([1, 1, 0])
    """
    _check_rate("modality_dropout", rate)
    num_samples, num_modalities = present.shape
    draws = torch.rand(
        (num_samples, 2 * num_modalities + 1),
        generator=generator,
        device=generator.device,
    ).to(present.device)
    kept = present & (draws[:, :num_modalities] >= 2 * rate * draws[:, -1:])
    order = draws[:, num_modalities:-1].masked_fill(~present, -1.0)
    first = order == order.max(dim=1, keepdim=True).values
    rescued: Tensor = first & present & ~kept.any(dim=1, keepdim=True)
    kept |= rescued
    return kept


def _check_rate(subject: str, rate: float | int) -> None:
    if not 0 <= rate <= 1:
        raise ConfigError(
            f"{subject} must have a rate in [0, 1], got {rate}. Give a probability."
        )


def _check_names(
    names: Sequence[str] | Mapping[str, float | int], data: MultimodalData
) -> None:
    known = data.modalities
    for name in names:
        if name not in known:
            raise DataError(
                f"{name!r} must be a modality of the data, got only {list(known)}. "
                "Check the spelling."
            )


def _names(modalities: str | Sequence[str]) -> tuple[str, ...]:
    return (modalities,) if isinstance(modalities, str) else tuple(modalities)


def _thin(
    had: BoolArray, rates: FloatArray | np.float64, rng: np.random.Generator
) -> BoolArray:
    """Remove entries with probabilities that broadcast to [N, M]; one stays."""
    return _restore_one(had & (rng.random(had.shape) >= rates), had, rng)


def _restore_one(
    kept: BoolArray, had: BoolArray, rng: np.random.Generator
) -> BoolArray:
    """Give rows that lost everything one of their entries back, at random."""
    order = np.where(had, rng.random(had.shape), -1.0)
    first = order == order.max(axis=1, keepdims=True, initial=-1.0)
    restored: BoolArray = first & had & ~kept.any(axis=1, keepdims=True)
    return kept | restored


def _standardised(x: FloatArray) -> FloatArray:
    """Return columns with mean 0 and deviation 1 over known cells; NaN stays."""
    known = ~np.isnan(x)
    count = np.maximum(known.sum(axis=0), 1)
    centred = x - np.where(known, x, 0).sum(axis=0) / count
    spread = np.sqrt(np.where(known, centred**2, 0).sum(axis=0) / count)
    standardised: FloatArray = centred / np.where(spread > 0, spread, 1)
    return standardised


def _row_mean(x: FloatArray) -> FloatArray:
    """Return the mean of the known cells of each row, [N]; NaN where none is."""
    known = ~np.isnan(x)
    count = known.sum(axis=1)
    total = np.where(known, x, 0).sum(axis=1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _rates(score: FloatArray, rate: float | int) -> FloatArray:
    """Return a logistic function of the score [N] whose mean is the rate."""
    known = ~np.isnan(score)
    rates = np.full(len(score), float(rate))
    if not known.any() or rate in (0, 1):
        return rates
    z = _STEEPNESS * _standardised(score[known, None])[:, 0]
    low, high = -50 - abs(z).max(), 50 + abs(z).max()
    for _ in range(80):  # bisection: the mean rises with the level
        level = (low + high) / 2
        above = (1 / (1 + np.exp(-(z + level)))).mean() > rate
        low, high = (low, level) if above else (level, high)
    rates[known] = 1 / (1 + np.exp(-(z + level)))
    return rates
