"""Samples of requests in JSON: their schema, their checks, and their conversion.

Letters: ``N`` samples, ``T`` rows of a sequence, ``C`` channels.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from mmgraph.data.categories import Categories, category_of, match_categories
from mmgraph.errors import DataError, did_you_mean
from mmgraph.estimators.input_spec import InputSpec
from mmgraph.files import parse_document, shorten
from mmgraph.schema import Modality

MAX_NAMES = 20  # names that a message lists
LARGEST = float(np.finfo(np.float32).max)
FloatArray: TypeAlias = npt.NDArray[np.float64]
Sample: TypeAlias = Mapping[str, Any]  # content by modality, without missing ones
Stacked: TypeAlias = tuple[dict[str, Any], dict[str, Any]]


class Form(Protocol):
    """Form of the content of a modality in a request."""

    def read(self, place: str, value: object) -> Any:  # noqa: ANN401
        """Return the content that JSON describes.

        Args:
            place: Name of the part of the request, for messages.
            value: Part of the request, not null.

        Raises:
            DataError: If it is not of this form.
        """

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the form."""

    def example(self) -> Any:  # noqa: ANN401
        """Return an example of the form."""


@dataclass(frozen=True)
class VectorForm:
    """List of C numbers, of which some may be null.

    Attributes:
        channels: C.
    """

    channels: int

    def read(self, place: str, value: object) -> FloatArray:
        """Return ``[C]``, NaN where the value is null; see :meth:`Form.read`."""
        if not isinstance(value, list) or len(value) != self.channels:
            got = f"{len(value)} items" if isinstance(value, list) else shorten(value)
            raise DataError(f"{place} must be {self._rule}, got {got}.")
        for kind in set(map(type, value)) - {int, float, type(None)}:
            i = next(i for i, each in enumerate(value) if type(each) is kind)
            _refuse_number(f"{place}[{i}]", value[i])
        row = _as_floats(place, value)
        if (np.abs(row) > LARGEST).any():  # False for NaN
            _refuse_number(place, value)
        return row

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the form."""
        size = {"minItems": self.channels, "maxItems": self.channels}
        items = {"type": ["number", "null"]}
        return {"type": "array", "items": items, **size}

    def example(self) -> list[float]:
        """Return an example of the form."""
        return [0.0] * self.channels

    @property
    def _rule(self) -> str:
        return f"a list of {self.channels} numbers or nulls"


@dataclass(frozen=True)
class TableForm:
    """Object of cells by column; a column that is left out, or null, is missing.

    Attributes:
        channels: Names of the C channels.
        categories: Categories by categorical column, as in
            :class:`mmgraph.data.encoder.ChannelEncoder`.
    """

    channels: tuple[str, ...]
    categories: Mapping[str, Categories]

    def __post_init__(self) -> None:
        encoded = {f"{c}={k}": c for c, known in self.categories.items() for k in known}
        columns: dict[str, list[int]] = {}
        for i, name in enumerate(self.channels):
            columns.setdefault(encoded.get(name, name), []).append(i)
        object.__setattr__(self, "_columns", columns)

    def read(self, place: str, value: object) -> FloatArray:
        """Return ``[C]``, NaN where a cell is missing; see :meth:`Form.read`."""
        columns: dict[str, list[int]] = self._columns  # type: ignore[attr-defined]
        if not isinstance(value, dict):
            raise DataError(
                f"{place} must be an object of columns, got {shorten(value)}."
            )
        row = np.full(len(self.channels), np.nan)
        for column, cell in value.items():
            positions = columns.get(column)
            if positions is None:
                _refuse_name(
                    f"{place} must have no other columns than", column, columns
                )
            if cell is None:
                continue
            if column in self.categories:
                row[positions] = 0
                row[self._category(f"{place}.{column}", column, cell)] = 1
            elif type(cell) not in (int, float) or not abs(cell) <= LARGEST:
                _refuse_number(f"{place}.{column}", cell)
            else:
                row[positions[0]] = cell
        return row

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the form."""
        properties: dict[str, Any] = {}
        for column in self._columns:  # type: ignore[attr-defined]
            known = self.categories.get(column)
            number = {"type": ["number", "null"]}
            properties[column] = {"enum": [*known, None]} if known else number
        return {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
        }

    def example(self) -> dict[str, Any]:
        """Return an example of the form."""
        columns = self._columns  # type: ignore[attr-defined]
        return {c: (self.categories.get(c) or [0.0])[0] for c in columns}

    def _category(self, place: str, column: str, cell: object) -> int:
        """Return the channel of a category; numbers match as in the library."""
        known = self.categories[column]
        text = category_of(cell) if type(cell) in (int, float) else cell  # type: ignore[arg-type]
        text = str(text).lower() if isinstance(text, bool) else text
        found = match_categories([text], known)[0] if isinstance(text, str) else -1
        if found < 0:
            listed = _listed(map(repr, known))
            raise DataError(f"{place} must be {listed} or null, got {shorten(cell)}.")
        return self.channels.index(f"{column}={known[found]}")


@dataclass(frozen=True)
class TextForm:
    """String."""

    def read(self, place: str, value: object) -> str:
        """Return the text; see :meth:`Form.read`."""
        if not isinstance(value, str):
            raise DataError(f"{place} must be a string, got {shorten(value)}.")
        return value

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the form."""
        return {"type": "string"}

    def example(self) -> str:
        """Return an example of the form."""
        return "text"


@dataclass(frozen=True)
class SequenceForm:
    """List of rows of any number.

    Attributes:
        row: Form of a row.
    """

    row: VectorForm | TableForm

    def read(self, place: str, value: object) -> FloatArray:
        """Return ``[T, C]``; see :meth:`Form.read`."""
        if not isinstance(value, list):
            raise DataError(f"{place} must be a list of rows, got {shorten(value)}.")
        rows = [self.row.read(f"{place}[{i}]", each) for i, each in enumerate(value)]
        width = self.row.channels
        num_channels = width if isinstance(width, int) else len(width)
        return np.stack(rows) if rows else np.empty((0, num_channels))

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the form."""
        return {"type": "array", "items": self.row.schema()}

    def example(self) -> list[Any]:
        """Return an example of the form."""
        return [self.row.example()] * 2


@dataclass(frozen=True)
class TimedForm:
    """Object of ``values`` and ``time``, in seconds.

    Attributes:
        values: Form of the values; a sequence has one time for each row.
    """

    values: Form

    def read(self, place: str, value: object) -> tuple[Any, FloatArray]:
        """Return the values, and ``[T]`` or ``[1]`` seconds; see :meth:`Form.read`."""
        if not isinstance(value, dict) or value.keys() != {"values", "time"}:
            got = shorten(list(value) if isinstance(value, dict) else value)
            raise DataError(
                f"{place} must be an object of values and time (seconds), got {got}."
            )
        values = self.values.read(f"{place}.values", value["values"])
        sequence = isinstance(self.values, SequenceForm)
        time = value["time"] if sequence else [value["time"]]
        if not isinstance(time, list) or (sequence and len(time) != len(values)):
            raise DataError(
                f"{place}.time must be a list of {len(values)} numbers, one for each "
                f"row, got {shorten(time)}."
            )
        for each in time:
            if type(each) not in (int, float) or not abs(each) < np.inf:
                raise DataError(
                    f"{place}.time must be in seconds, got {shorten(each)}."
                )
        return values, _as_floats(f"{place}.time", time)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the form."""
        number: dict[str, Any] = {"type": "number", "description": "seconds"}
        sequence = isinstance(self.values, SequenceForm)
        time = {"type": "array", "items": number} if sequence else number
        return {
            "type": "object",
            "properties": {"values": self.values.schema(), "time": time},
            "required": ["values", "time"],
            "additionalProperties": False,
        }

    def example(self) -> dict[str, Any]:
        """Return an example of the form."""
        sequence = isinstance(self.values, SequenceForm)
        return {
            "values": self.values.example(),
            "time": [0.0, 1.0] if sequence else 0.0,
        }


class RequestReader:
    """Reader of the samples of requests for a fitted model.

    A sample is a JSON object of modalities. A modality that is left out, or null, is
    missing, and so is a cell that is left out, or null.

    Args:
        inputs: Input specification of the model.
        max_samples: Largest number of samples of a batch.

    Attributes:
        forms: Form of the content of each modality that the training samples had.
    """

    def __init__(self, inputs: InputSpec, *, max_samples: int) -> None:
        self.forms = {
            m.name: _form_of(inputs, m)
            for m in inputs.schema.modalities
            if m.name not in inputs.unseen
        }
        self.max_samples = max_samples

    def read_sample(self, body: bytes) -> Sample:
        """Return the sample of a request.

        Raises:
            DataError: If the body is not JSON, or not a sample of the model.
        """
        return self._sample("body", _parse(body))

    def read_batch(self, body: bytes) -> list[Sample]:
        """Return the samples of a request for several samples.

        Raises:
            DataError: If the body is not JSON, not a list, has too many samples, or has
                one that is not of the model.
        """
        values = _parse(body)
        if not isinstance(values, list) or len(values) > self.max_samples:
            got = f"{len(values)}" if isinstance(values, list) else shorten(values)
            raise DataError(
                f"body must be a list of at most {self.max_samples} samples, got {got}."
            )
        return [self._sample(f"body[{i}]", each) for i, each in enumerate(values)]

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of a sample."""
        properties = {
            name: {"anyOf": [form.schema(), {"type": "null"}]}
            for name, form in self.forms.items()
        }
        return {
            "type": "object",
            "properties": properties,
            "additionalProperties": False,
            "description": "Modalities that are left out, or null, are missing.",
        }

    def example(self) -> dict[str, Any]:
        """Return a sample with all modalities."""
        return {name: form.example() for name, form in self.forms.items()}

    def _sample(self, place: str, value: object) -> Sample:
        if not isinstance(value, dict):
            raise DataError(
                f"{place} must be an object of modalities, got {shorten(value)}."
            )
        sample = {}
        prefix = "" if place == "body" else f"{place}."
        for name, content in value.items():
            form = self.forms.get(name)
            if form is None:
                rule = f"{place} must have no other modalities than"
                _refuse_name(rule, name, self.forms)
            if content is not None:
                sample[name] = form.read(prefix + name, content)
        return sample


def stack(samples: Sequence[Sample], forms: Mapping[str, Form]) -> Stacked:
    """Return values and times by modality, as for :meth:`MultimodalData.from_arrays`.

    Modalities that all samples lack are left out, except for the last one if nothing
    else is left.

    Args:
        samples: ``N`` samples of :class:`RequestReader`, at least one.
        forms: Form of the content of each modality.
    """
    arrays: dict[str, Any] = {}
    times: dict[str, Any] = {}
    for name, form in forms.items():
        contents = [sample.get(name) for sample in samples]
        if isinstance(form, TimedForm):
            times[name] = [None if c is None else c[1] for c in contents]
            contents = [None if c is None else c[0] for c in contents]
            form = form.values
        observed = any(content is not None for content in contents)
        if not observed:
            times.pop(name, None)
        if observed or (not arrays and name == list(forms)[-1]):
            arrays[name] = _stack(contents, form)
    return arrays, times


def _stack(contents: Sequence[Any], form: Form) -> Any:  # noqa: ANN401
    """Return the contents of one modality, vectors as an array ``[N, C]``."""
    if not isinstance(form, VectorForm | TableForm):
        return contents
    width = form.channels if isinstance(form, VectorForm) else len(form.channels)
    empty = np.full(width, np.nan)
    return np.stack([empty if c is None else c for c in contents]).astype(np.float32)


def _form_of(inputs: InputSpec, modality: Modality) -> Form:
    """Return the form of the content of a modality."""
    name, featurizer = modality.name, inputs.featurizer
    form: Form
    if name in featurizer.kinds and _is_text(inputs, name):
        form = TextForm()
    else:  # of images and audio, vectors of the encoder: a request names no file
        names = inputs.channels.get(name, ())
        row = (
            TableForm(names, inputs.categories.get(name, {}))
            if names
            else VectorForm(modality.channels or 0)
        )
        form = SequenceForm(row) if modality.tokens == "ragged" else row
    return TimedForm(form) if modality.time else form


def _is_text(inputs: InputSpec, name: str) -> bool:
    """Return True if a modality is text that the model itself encodes."""
    kinds, encoders = inputs.featurizer.kinds, inputs.featurizer.encoders
    encoded = name not in encoders or encoders[name] is not None
    return kinds[name] in ("text", "tokens") and encoded


def _parse(body: bytes) -> Any:  # noqa: ANN401
    return parse_document(body, "body", DataError, parse=_loads)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name}, which JSON does not have; missing cells are null")


_loads = json.JSONDecoder(parse_constant=_refuse_constant).decode


def _as_floats(place: str, values: list[Any]) -> FloatArray:
    try:
        return np.array(values, dtype=np.float64)  # None becomes NaN
    except OverflowError:  # an integer of hundreds of digits
        _refuse_number(place, values)


def _refuse_number(place: str, value: object) -> NoReturn:
    raise DataError(
        f"{place} must be a number in the range of float32, or null, got "
        f"{shorten(value)}."
    )


def _refuse_name(rule: str, name: str, known: Mapping[str, object]) -> NoReturn:
    hint = did_you_mean(name[:100], known)
    raise DataError(f"{rule} {_listed(known)}, got {shorten(name)}.", hint)


def _listed(names: Iterable[str]) -> str:
    first = list(islice(names, MAX_NAMES + 1))
    return ", ".join([*first[:MAX_NAMES], *["..."][: len(first) - MAX_NAMES]])
