"""Conversion of PyTorch Geometric graphs, one per sample, to columns and back.

Shapes: N samples, T rows of one sample, C channels.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from mmgraph.data.column import AnyArray, Column
from mmgraph.data.io.arrays import build_column
from mmgraph.data.targets import METADATA_NAMES
from mmgraph.errors import DataError
from mmgraph.schema import Schema

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


def parse_graphs(
    graphs: Iterable["HeteroData"], schema: Schema | None
) -> dict[str, Any]:
    """Return the arguments of ``MultimodalData.from_columns`` from graphs.

    Args:
        graphs: One graph per sample, a batch of them, or one graph.
        schema: Schema that determines which modalities are sequences, or None.

    Raises:
        DataError: If there is no graph, or a node type has no ``x``.
    """
    graphs = _list_graphs(graphs)
    names = _merge_orders([tuple(graph.node_types) for graph in graphs])
    if not names:
        raise DataError(
            "graphs must hold at least one node type, got none. Pass one HeteroData "
            "per sample."
        )
    tokens = {m.name: m.tokens for m in schema.modalities} if schema else {}
    columns = {name: _read_type(graphs, name, tokens.get(name)) for name in names}
    metadata = {
        field: _read_metadata(graphs, key) for field, key in METADATA_NAMES.items()
    }
    return {"columns": columns, **metadata}


def _list_graphs(graphs: Any) -> list["HeteroData"]:  # noqa: ANN401
    """Return one graph per sample from an iterable, a batch of PyG, or one graph.

    Raises:
        DataError: If an item is not a HeteroData.
    """
    from torch_geometric.data import HeteroData

    if hasattr(graphs, "to_data_list"):  # a batch; torch_geometric generates its class
        graphs = graphs.to_data_list()
    elif isinstance(graphs, HeteroData) or not isinstance(graphs, Iterable):
        graphs = [graphs]
    graphs = list(graphs)
    for i, graph in enumerate(graphs):
        if not isinstance(graph, HeteroData):
            raise DataError(
                "graphs must be HeteroData, whose node types are the modalities, got "
                f"{type(graph).__name__} at sample {i}. Convert it."
            )
    return graphs


def _merge_orders(parts: Sequence[tuple[str, ...]]) -> list[str]:
    """Return all names in an order that agrees with every part, if there is one.

    Names that no part orders keep the order of their first occurrence.
    """
    distinct = dict.fromkeys(parts)
    remaining = dict.fromkeys(name for part in distinct for name in part)
    before: dict[str, set[str]] = {name: set() for name in remaining}
    for part in distinct:
        for i, name in enumerate(part):
            before[name].update(part[:i])
    order: list[str] = []
    while remaining:
        free = (name for name in remaining if before[name].isdisjoint(remaining))
        order.append(next(free, next(iter(remaining))))
        del remaining[order[-1]]
    return order


def build_graphs(
    columns: Mapping[str, Column], metadata: Mapping[str, AnyArray | None]
) -> list["HeteroData"]:
    """Return one graph per sample; see ``MultimodalData.to_hetero_data``.

    Args:
        columns: Columns by modality.
        metadata: Ids, labels, groups and split names.

    Raises:
        DataError: If a modality has the name of a metadata entry.
    """
    from torch_geometric.data import HeteroData

    taken = set(columns) & set(METADATA_NAMES.values())
    if taken:
        raise DataError(
            f"Modality {min(taken)!r} must not be named like one of the entries "
            f"{', '.join(METADATA_NAMES.values())} of a graph. Rename it."
        )
    num_samples = len(next(iter(columns.values())))
    graphs = [HeteroData() for _ in range(num_samples)]
    for name, column in columns.items():
        column = column.encode()
        for i in np.flatnonzero(column.present):
            rows = slice(column.offsets[i], column.offsets[i + 1])
            if column.is_text:
                graphs[i][name].text = list(column.values[rows])
                graphs[i][name].num_nodes = 1
            else:
                graphs[i][name].x = torch.from_numpy(column.values[rows].copy())
            if column.time is not None:
                graphs[i][name].time = torch.from_numpy(column.time[rows].copy())
    for field, values in metadata.items():
        if values is None:
            continue
        cells: Sequence[Any] = values.tolist()
        if values.dtype.kind in "biuf":
            cells = torch.split(torch.from_numpy(values.copy()), 1)
        for graph, cell in zip(graphs, cells, strict=True):
            graph[METADATA_NAMES[field]] = cell
    return graphs


def _read_type(graphs: Sequence["HeteroData"], name: str, tokens: str | None) -> Column:
    entries: list[Any] = []
    times: list[Any] = []
    for i, graph in enumerate(graphs):
        store = graph[name] if name in graph.node_types else {}
        if store and "x" not in store and "text" not in store:
            raise DataError(
                f"HeteroData[{name!r}] must have x, got {', '.join(store.keys())} in "
                f"sample {i}. Set x [T, C]."
            )
        entries.append(_text_of(store, name) if "text" in store else store.get("x"))
        times.append(store.get("time"))
    if tokens is None:
        sizes = [len(e) for e in entries if isinstance(e, torch.Tensor)]
        tokens = "ragged" if max(sizes, default=0) > 1 else "single"
    timed = any(time is not None for time in times)
    return build_column(name, entries, times=times if timed else None, tokens=tokens)


def _text_of(store: Mapping[str, Any], name: str) -> str | None:
    """Return the text of a node type; None if it has none."""
    texts = [store["text"]] if isinstance(store["text"], str) else list(store["text"])
    if len(texts) > 1:
        raise DataError(
            f"HeteroData[{name!r}].text must be one string, got {len(texts)}. "
            "Concatenate them, or use one node type per string."
        )
    return texts[0] if texts else None


def _read_metadata(graphs: Sequence["HeteroData"], key: str) -> AnyArray | None:
    """Return one attribute of every graph; None if no graph has it."""
    values = [graph.get(key, None) for graph in graphs]
    if all(value is None for value in values):
        return None
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    several = any(tensor.numel() > 1 for tensor in tensors)
    if several or len(tensors) == len(values):
        gap = torch.full_like(tensors[0], torch.nan, dtype=torch.float64)
        entries = [torch.atleast_1d(gap if v is None else v).cpu() for v in values]
        joined = torch.cat(entries)
        has_numpy_type = joined.dtype != torch.bfloat16
        return np.asarray((joined if has_numpy_type else joined.float()).numpy())
    scalars = [v.item() if isinstance(v, torch.Tensor) else v for v in values]
    return np.fromiter(scalars, dtype=object, count=len(scalars))
