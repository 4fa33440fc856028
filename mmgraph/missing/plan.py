"""Mask plans: availability masks that can be saved, hashed and applied.

Letters: `N` samples of a data set, `M` modalities.
"""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph._trace import describe_failure, trace
from mmgraph.data import MultimodalData
from mmgraph.errors import DataError
from mmgraph.files import parse_document, read_bytes, write_text
from mmgraph.typing import PathLike

DOCUMENT_HASH = "document_sha256"
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class MaskPlan:
    """Availability mask of a data set, with the pattern and seed that produced it.

    Attributes:
        present: Bool [N, M], True where the sample keeps the modality; stored as a
            read-only copy.
        modalities: Names of the M modalities, in the order of the mask.
        pattern: Pattern as text, such as "mcar(0.3)".
        seed: Seed of the pattern.
        num_observed: Number of (sample, modality) pairs that were observed before the
            mask. Default: N * M.

    Raises:
        DataError: If the mask is not Bool [N, M].

    Example:
        >>> import numpy as np
        >>> data = MultimodalData.from_arrays({"a": [[1.0], [2.0]], "b": [[3.0], None]})
        >>> mask = np.array([[False, True], [True, True]])
        >>> MaskPlan(mask, data.modalities).apply(data).present
        array([[False,  True],
               [ True, False]])
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
                f"{list(present.shape)}. Pass one column per modality."
            )
        present.setflags(write=False)
        object.__setattr__(self, "present", present)
        if self.num_observed is None:
            object.__setattr__(self, "num_observed", present.size)

    def __repr__(self) -> str:
        return (
            f"MaskPlan({self.pattern}, seed {self.seed}): {len(self.present)} samples, "
            f"{self.realised_rate:.0%} removed of {', '.join(self.modalities)}"
        )

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the names, the shape and the packed bits."""
        head = json.dumps([list(self.modalities), list(self.present.shape)])
        digest = hashlib.sha256(head.encode())
        digest.update(np.packbits(self.present).tobytes())
        return digest.hexdigest()

    @property
    def realised_rate(self) -> float:
        """Share of the observed pairs that the plan removes; 0 if there are none."""
        had = self.num_observed or 0
        return 1 - int(self.present.sum()) / had if had else 0.0

    def apply(self, data: MultimodalData) -> MultimodalData:
        """Return data without the modalities that the plan removes.

        Args:
            data: N samples with the modalities of the plan, in their order.

        Returns:
            Data of the same samples. A modality that was missing stays missing.

        Raises:
            DataError: If the modalities or the number of samples differ.
        """
        check_in_memory("apply", data)
        if data.modalities != self.modalities:
            raise DataError(
                f"MaskPlan must have the modalities of the data, "
                f"{list(data.modalities)}, got {list(self.modalities)}. "
                "Draw the plan for these data."
            )
        if len(data) != len(self.present):
            raise DataError(
                f"MaskPlan must have one row per sample, {len(data)}, got "
                f"{len(self.present)}. Draw the plan for these data."
            )
        return data.mask(self.present)

    def save(self, path: PathLike) -> None:
        """Write the plan as a JSON file with its hash.

        Args:
            path: File to write; replaced if it exists.

        Raises:
            DataError: If the file cannot be written.

        Example:
            >>> from tempfile import TemporaryDirectory
            >>> data = MultimodalData.from_arrays({"a": [[1.0], [2.0]]})
            >>> plan = missing.leave_out("a").plan(data)
            >>> with TemporaryDirectory() as folder:
            ...     plan.save(f"{folder}/plan.json")
            ...     MaskPlan.load(f"{folder}/plan.json").hash == plan.hash
            True
        """
        content = asdict(self) | {
            "present": base64.b64encode(np.packbits(self.present).tobytes()).decode(),
            "num_samples": len(self.present),
            "sha256": self.hash,
        }
        content[DOCUMENT_HASH] = _hash_of(content)
        try:
            write_text(Path(path), json.dumps(content, sort_keys=True) + "\n")
        except OSError as error:
            raise DataError(f"Mask plan {path} cannot be written: {error}.") from None

    @classmethod
    def load(cls, path: PathLike) -> "MaskPlan":
        """Read a plan and verify its hash.

        Args:
            path: File that :meth:`save` wrote.

        Returns:
            Plan equal to the saved one.

        Raises:
            DataError: If the file is not a mask plan or was modified.
        """
        subject = repr(str(path))
        raw = read_bytes(Path(path), "document_bytes", DataError, subject=subject)
        kind = "a mask plan saved by MaskPlan.save"
        document = parse_document(raw, subject, DataError, kind=kind)
        content = trace(document if isinstance(document, dict) else {})
        try:
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
        except (ArithmeticError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"{str(path)!r} must be a mask plan saved by MaskPlan.save, got "
                f"{describe_failure(error, content)}. Save the plan again."
            ) from error
        modified = DataError(
            f"{str(path)!r} must match its hash, got a plan that was modified. "
            "Save the plan again."
        )
        if saved != plan.hash:
            raise modified
        kept, size = int(plan.present.sum()), plan.present.size
        if not kept <= int(content["num_observed"]) <= size:
            raise DataError(
                f"{str(path)!r} must have num_observed between the {kept} pairs that "
                f"it keeps and all {size}, got {content['num_observed']}. Save the "
                "plan again."
            )
        own = content.get(DOCUMENT_HASH)  # plans of mmgraph 0.2.0 have none
        if own is not None and own != _hash_of(content):
            raise modified
        return plan


def _hash_of(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a saved plan, with its pattern, seed and counts."""
    entries = {name: value for name, value in content.items() if name != DOCUMENT_HASH}
    return hashlib.sha256(json.dumps(entries, sort_keys=True).encode()).hexdigest()


def check_in_memory(subject: str, data: MultimodalData) -> None:
    """Check that data are in memory, as a plan has one row per sample.

    Args:
        subject: Name of the function, for error messages.
        data: Value to check.

    Raises:
        DataError: If it is not MultimodalData.
    """
    if not isinstance(data, MultimodalData):
        raise DataError(
            f"{subject} must get MultimodalData, got {type(data).__name__}. For a "
            "stream, use each of its chunks()."
        )
