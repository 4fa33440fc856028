"""Schemas from JSON of unknown origin: every wrong field is a named error."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from mmgraph.errors import SchemaError
from mmgraph.schema import (
    Custom,
    Full,
    KNearest,
    Latent,
    Modality,
    Relation,
    SameIndex,
    Schema,
    TimeWindow,
    Topology,
)

T = TypeVar("T")
_TOPOLOGIES: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Full, SameIndex, TimeWindow, KNearest)
}


def parse_schema(text: str, functions: Mapping[str, Callable[..., Any]]) -> Schema:
    """Build a schema from JSON text; see :meth:`mmgraph.Schema.from_json`."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"Schema must be a JSON document, got {error}.") from None
    if not isinstance(document, dict):
        raise SchemaError(
            f"Schema must be a JSON object, got {type(document).__name__}."
        )
    unknown = set(document) - {"modalities", "latents", "relations", "readout"}
    if unknown:
        raise SchemaError(f"Schema has no field {sorted(unknown)[0]!r}.")
    readout = document.get("readout")
    if readout is not None and not _is_names(readout):
        raise SchemaError(f"Schema.readout must be a list of names, got {readout!r}.")
    return Schema(
        [_build(Modality, m, where) for where, m in _items(document, "modalities")],
        [_build(Latent, m, where) for where, m in _items(document, "latents")],
        [_relation(m, where, functions) for where, m in _items(document, "relations")],
        readout,
    )


def _items(document: dict[str, Any], field: str) -> list[tuple[str, dict[str, Any]]]:
    value = document.get(field, [])
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise SchemaError(f"Schema.{field} must be a list of objects, got {value!r}.")
    return [(f"Schema.{field}[{i}]", item) for i, item in enumerate(value)]


def _is_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _relation(
    item: dict[str, Any], where: str, functions: Mapping[str, Callable[..., Any]]
) -> Relation:
    rest = {key: value for key, value in item.items() if key != "topology"}
    relation = _build(Relation, rest, where)
    topology = _topology(item.get("topology", {"type": "Full"}), where, functions)
    return Relation(relation.source, relation.target, relation.name, topology)


def _topology(
    item: object, where: str, functions: Mapping[str, Callable[..., Any]]
) -> Topology:
    if not isinstance(item, dict) or not isinstance(item.get("type"), str):
        raise SchemaError(f"{where}.topology must be an object with a type.")
    rest = {key: value for key, value in item.items() if key != "type"}
    if item["type"] == "Custom":
        name = rest.get("name")
        if not isinstance(name, str) or name not in functions:
            raise SchemaError(
                f"{where}.topology needs the function {name!r}. "
                "Pass it in functions={name: function}."
            )
        return Custom(functions[name], name)
    if item["type"] not in _TOPOLOGIES:
        raise SchemaError(
            f"{where}.topology must be one of {', '.join(_TOPOLOGIES)}, Custom, "
            f"got {item['type']!r}."
        )
    topology: Topology = _build(_TOPOLOGIES[item["type"]], rest, f"{where}.topology")
    return topology


def _build(cls: type[T], item: dict[str, Any], where: str) -> T:
    """Build a dataclass from a JSON object, checking names and plain types."""
    hints = get_type_hints(cls)
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    for key, value in item.items():
        if key not in known:
            raise SchemaError(f"{where} has no field {key!r}.")
        if not _matches(value, hints[key]):
            raise SchemaError(f"{where}.{key} has a wrong value: {value!r}.")
    for name, field in known.items():
        if field.default is MISSING and name not in item:
            raise SchemaError(f"{where} must have the field {name!r}.")
    return cls(**{k: float(v) if hints[k] is float else v for k, v in item.items()})


def _matches(value: object, hint: object) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint) and isinstance(value, str)
    if isinstance(hint, UnionType):
        return any(_matches(value, option) for option in get_args(hint))
    if hint is None or hint is NoneType:
        return value is None
    if hint is float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return abs(value) <= sys.float_info.max  # neither NaN nor infinite
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    assert isinstance(hint, type)
    return isinstance(value, hint)
