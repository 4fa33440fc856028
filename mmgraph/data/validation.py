"""Validation of indices, masks, names of modalities and columns.

Shapes: N samples, M modalities.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from mmgraph.data.categorical import candidate_columns
from mmgraph.data.column import AnyArray, BoolArray, IntArray, as_entries
from mmgraph.errors import Argument, DataError
from mmgraph.typing import IndexLike, MaskLike, ModalityMapping


def resolve_indices(key: IndexLike | None, num_samples: int) -> IntArray:
    """Convert an index of a user or of scikit-learn to sample numbers.

    Args:
        key: None for all, integers, N booleans, a slice, one integer, or a tuple of
            one of these and ``...``.
        num_samples: N.

    Returns:
        ``[n]`` numbers from 0 to N - 1, in the order of the key and with repeats.

    Raises:
        DataError: If an index is out of range or of an unknown type.
    """
    if isinstance(key, tuple) and len(key) == 2 and key[1] in (Ellipsis, slice(None)):
        key = key[0]
    if key is None or isinstance(key, slice):
        return np.arange(num_samples)[key if key is not None else slice(None)]
    array = np.atleast_1d(as_entries(key) if hasattr(key, "detach") else np.array(key))
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    if array.dtype == bool and array.shape == (num_samples,):
        return np.flatnonzero(array)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise DataError(
            f"Samples must be indexed by integers, {num_samples} booleans or a slice, "
            f"got shape {list(array.shape)} of {array.dtype}. Convert the index."
        )
    wrong = np.flatnonzero((array < -num_samples) | (array >= num_samples))
    if len(wrong):
        raise DataError(
            f"Sample index must be below {num_samples}, got {array[wrong[0]]}. Index "
            "within the data."
        )
    return array.astype(np.int64) % num_samples  # negative ones count from the end


def count_samples(arrays: Mapping[str, Any]) -> int:
    """Return the number of samples, which all arrays must share.

    Args:
        arrays: Values by modality.

    Raises:
        DataError: If an array has no length or two lengths differ.
    """
    first, num_samples = "", -1
    for name, content in arrays.items():
        shapeless = getattr(content, "shape", None) == ()
        if hasattr(content, "toarray"):
            raise DataError(
                f"Modality {name!r} must be dense, got {type(content).__name__}. Pass "
                "its toarray()."
            )
        if isinstance(content, str) or shapeless or not hasattr(content, "__len__"):
            raise DataError(
                f"Modality {name!r} must be an array or a list with one entry per "
                f"sample, got {type(content).__name__}. Wrap it in a list."
            )
        if num_samples < 0:
            first, num_samples = name, len(content)
        if len(content) != num_samples:
            raise DataError(
                f"Modality {name!r} must have one entry per sample: {num_samples} "
                f"samples in {first!r}, got {len(content)}. Use None or NaN for "
                "samples without it."
            )
    return num_samples


def check_mapping(subject: str, value: object) -> None:
    """Check that a value is a dict with at least one name of a modality.

    Args:
        subject: Name of the parameter, for error messages.
        value: Value to check.

    Raises:
        DataError: If it is not a dict or empty, or a name is not a string.
    """
    if not isinstance(value, Mapping) or not value:
        got = "none" if value is None or value == {} else type(value).__name__
        raise DataError(
            f"{subject} must be a dict with at least one modality, got {got}. Pass "
            "{'labs': ...}."
        )
    for name in value:
        if not isinstance(name, str):
            raise DataError(
                f"{subject} must name modalities by strings, got {name!r}. Rename it."
            )


def read_sources(name: str, source: object) -> list[str]:
    """Return the columns of a modality as a list.

    Args:
        name: Name of the modality.
        source: Name of a column, or an iterable of names.

    Raises:
        DataError: If it is neither, or the iterable is empty.
    """
    if not isinstance(source, Iterable):
        raise DataError(
            f"modalities[{name!r}] must be the name of a column or a list of names, "
            f"got {source!r}. Pass {{{name!r}: ['wbc', 'crp']}}."
        )
    fields = [source] if isinstance(source, str) else list(source)
    if not fields:
        raise DataError(
            f"modalities[{name!r}] must name at least one column, got none. Add one."
        )
    return fields


def time_column(
    name: str, fields: Sequence[str], columns: Collection[str]
) -> str | None:
    """Return the column with the times of a modality; None if there is none.

    Times of a single column "ecg" are in "ecg.time", those of a modality "labs" of
    several columns in "labs.time".

    Args:
        name: Name of the modality.
        fields: Columns of the modality.
        columns: Names of all columns of a table.
    """
    owners = [fields[0], name] if len(fields) == 1 else [name]
    candidates = [f"{owner}.time" for owner in owners]
    return next((c for c in candidates if c in columns and c not in fields), None)


def time_roles(modalities: ModalityMapping, columns: Collection[str]) -> dict[str, str]:
    """Return the columns that hold the times of a modality because of their names.

    Args:
        modalities: Columns of each modality.
        columns: Names of all columns of a table.
    """
    roles = {}
    for name, source in modalities.items():
        column = time_column(name, read_sources(name, source), columns)
        if column is not None:
            roles[column] = f"times of {name!r}"
    return roles


def check_no_label_leak(
    modalities: ModalityMapping | None, y: str | Sequence[str] | None
) -> None:
    """Check that no modality contains a label, which would leak the target.

    Args:
        modalities: Columns of each modality.
        y: Columns of labels.

    Raises:
        DataError: If a column of a modality is a label.
    """
    labels = list(y) if isinstance(y, list | tuple) else [y]
    for name, source in modalities.items() if isinstance(modalities, Mapping) else ():
        columns = [
            column
            for field in read_sources(name, source)
            for column in candidate_columns(field)
        ]
        leaked = [column for column in columns if column in labels]
        if leaked:
            raise DataError(
                f"modalities[{name!r}] must not hold the label {str(leaked[0])!r}, got "
                "it among its columns.",
                ("Remove it from the modality, or pass ", Argument("y", None), "."),
            )


def read_present(
    present: MaskLike | None,
    names: Sequence[str],
    num_samples: int,
) -> BoolArray:
    """Return an availability mask as ``[N, M]`` booleans.

    Args:
        present: ``[N, M]`` booleans, ``[N]`` booleans by modality, or None for all
            True. Modalities that are not named are True.
        names: Names of the M modalities.
        num_samples: N.

    Raises:
        DataError: If a modality is unknown or the shape or type is wrong.
    """
    table = np.ones((num_samples, len(names)), dtype=bool)
    if isinstance(present, Mapping):
        check_names("present", present, names)
        for name, flags in present.items():
            column = _as_flags(f"present[{name!r}]", flags, (num_samples,))
            table[:, names.index(name)] = column
    elif present is not None:
        table = _as_flags("present", present, (num_samples, len(names)))
    return table


def check_names(subject: str, names: Iterable[str], known: Sequence[str]) -> None:
    """Check that names are known modalities.

    Args:
        subject: Name of the parameter, for error messages.
        names: Names to check.
        known: Names of the modalities.

    Raises:
        DataError: If a name is unknown.
    """
    for name in names:
        if name not in known:
            raise DataError(
                f"{subject} must name known modalities ({', '.join(known)}), got "
                f"{name!r}. Check the spelling.",
                parameter=subject,
            )


def _as_flags(
    subject: str,
    flags: Any,  # noqa: ANN401
    shape: tuple[int, ...],
) -> BoolArray:
    array: AnyArray = as_entries(flags) if hasattr(flags, "detach") else np.array(flags)
    if array.shape != shape:
        raise DataError(
            f"{subject} must have shape {list(shape)}, got {list(array.shape)}. Pass "
            "one boolean per sample and modality."
        )
    numeric = array.dtype.kind in "biuf"
    if not numeric or not np.isin(array, (0, 1)).all():
        raise DataError(
            f"{subject} must be boolean, got {array.dtype}. Convert it: True is "
            "observed."
        )
    return array.astype(bool)


def as_vectors(
    subject: str,
    vectors: Any,  # noqa: ANN401
    *,
    width: int | None = None,
) -> npt.NDArray[np.float32]:
    """Return embeddings as a float32 array ``[N, D]``.

    Args:
        subject: Name of the parameter, for error messages.
        vectors: ``[N, D]``, or one vector ``[D]``; an array, a tensor or lists.
        width: D, or None for any width.

    Raises:
        DataError: If they are not numeric, or the shape differs.
    """
    if hasattr(vectors, "detach"):
        vectors = vectors.detach().float().cpu().numpy()
    try:
        x = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    except (TypeError, ValueError):
        raise DataError(
            f"{subject} must be vectors of numbers, got {type(vectors).__name__}. "
            "Embed the samples first."
        ) from None
    if x.ndim != 2 or not x.shape[1] or (width is not None and x.shape[1] != width):
        expected = "D" if width is None else width
        raise DataError(
            f"{subject} must have shape [N, {expected}], got {list(np.shape(vectors))}."
            " Embed them with the same model."
        )
    return x
