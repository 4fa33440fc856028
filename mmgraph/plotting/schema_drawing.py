"""Drawing and description of schemas: node types and the relations between them."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmgraph.errors import ConfigError
from mmgraph.files import replacing
from mmgraph.schema import (
    Custom,
    Full,
    KNearest,
    SameIndex,
    Schema,
    TimeWindow,
    Topology,
)
from mmgraph.typing import PathLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

NODE_RADIUS = 0.12
FILLS = {
    "vector": "#cfe3f5",
    "embedding": "#cdebe0",
    "text": "#f8e6bf",
    "image": "#e4d8f3",
    "audio": "#f7d6e3",
    "latent": "#e2e4e8",
}
INK, EDGE = "#1d2129", "#6b7280"


def edge_label(name: str, topology: Topology) -> str:
    """Return the label of a relation: its name and topology.

    Args:
        name: Name of the relation; the default name "to" is left out.
        topology: Topology; Full is left out.

    Returns:
        The label, empty for a Full relation with the default name.
    """
    parts = [] if name == "to" else [name]
    if isinstance(topology, TimeWindow):
        parts.append(f"within {topology.seconds:g} s")
    elif isinstance(topology, KNearest):
        parts.append(f"{topology.k} nearest")
    elif isinstance(topology, SameIndex):
        parts.append("same index")
    elif isinstance(topology, Custom):
        parts.append(topology.name)
    elif not isinstance(topology, Full):
        parts.append(type(topology).__name__)
    return ", ".join(parts)


def describe_schema(schema: Schema) -> Iterator[str]:
    """Yield one line of text for each modality, latent and relation."""
    for modality in schema.modalities:
        width = modality.channels
        end = "" if width is None else f", {width} {_unit(width)}"
        yield f"{modality.name}: {modality.kind}, {modality.tokens}{end}"
    for latent in schema.latents:
        yield f"{latent.name}: latent, {latent.num_nodes} nodes"
    for r in schema.relations:
        label = edge_label(r.name, r.topology)
        yield f"{r.source} -> {r.target}" + (f" ({label})" if label else "")


def _unit(channels: int) -> str:
    return "channel" if channels == 1 else "channels"


def draw_schema(schema: Schema, path: PathLike) -> None:
    """Draw a schema to a file: node types as boxes, relations as arrows.

    Modalities are on a circle, latents inside of it. The fill color of a node is the
    kind of modality. Two unlabeled relations in opposite directions share a line.

    Args:
        schema: Schema; figures are legible for 2 to 12 modalities.
        path: Image to write, ending in .png or .svg.

    Raises:
        ConfigError: If the path has another ending.

    Example:
        >>> from mmgraph.plotting.schema_drawing import draw_schema
        >>> schema = Schema.star([Modality("labs", 3), Modality("ecg", 2)])
        >>> draw_schema(schema, "schema.svg")  # doctest: +SKIP
    """
    path = Path(path)
    if path.suffix not in (".png", ".svg"):
        raise ConfigError(f"path must end in .png or .svg, got '{path}'.")
    from matplotlib.figure import Figure

    dpi = 72 if path.suffix == ".svg" else 150  # the fixed resolution of SVG
    figure = Figure((8, 7), facecolor="white", dpi=dpi)
    axes = figure.add_axes((0.02, 0.02, 0.96, 0.96))
    axes.set(xlim=(-1.45, 1.45), ylim=(-1.28, 1.28))
    axes.set_axis_off()
    nodes = _draw_nodes(axes, schema)
    _draw_legend(axes, schema)
    figure.draw_without_rendering()  # determines the sizes of boxes, where arrows end
    _draw_edges(axes, schema, nodes)
    with replacing(path) as part:
        figure.savefig(part, dpi=dpi, metadata=_metadata(path))


def _metadata(path: Path) -> dict[str, Any]:
    """Return metadata without a date, so that equal figures are equal files."""
    return {"Date": None} if path.suffix == ".svg" else {}


def _positions(schema: Schema) -> dict[str, tuple[float, float]]:
    positions = _circle([m.name for m in schema.modalities], 1.08, 0.98)
    latents = [latent.name for latent in schema.latents]
    if len(latents) == 1:
        return {**positions, latents[0]: (0.0, 0.0)}
    return {**positions, **_circle(latents, 0.42, 0.38)}


def _circle(
    names: list[str], width: float, height: float
) -> dict[str, tuple[float, float]]:
    start = math.pi if len(names) == 2 else math.pi / 2
    angles = [start - 2 * math.pi * i / len(names) for i in range(len(names))]
    return {
        name: (width * math.cos(angle), height * math.sin(angle))
        for name, angle in zip(names, angles, strict=True)
    }


def _draw_nodes(axes: "Axes", schema: Schema) -> dict[str, "Text"]:
    graph = schema.to_networkx()
    texts = {}
    for name, (x, y) in _positions(schema).items():
        content = graph.nodes[name]
        latent = content["kind"] == "latent"
        label, kind = name, "latent"
        if latent:
            count = content["latent"].num_nodes
            label = name if count == 1 else f"{name}, {count} nodes"
        else:
            kind = content["modality"].kind
            channels = content["modality"].channels
            label = (
                name if channels is None else f"{name}\n{channels} {_unit(channels)}"
            )
        shape = "ellipse,pad=0.45" if latent else "round,pad=0.45,rounding_size=0.35"
        box = {"boxstyle": shape, "fc": FILLS[kind], "ec": EDGE, "lw": 1.1}
        texts[name] = axes.text(
            x,
            y,
            label,
            ha="center",
            va="center",
            color=INK,
            size=11,
            bbox=box,
            zorder=3,
        )
    return texts


def _draw_edges(axes: "Axes", schema: Schema, nodes: dict[str, "Text"]) -> None:
    """Draw all relations; two unlabeled opposite ones share a line."""
    edges = [
        (source, target, edge_label(name, topology))
        for source, target, name, topology in schema.to_networkx().edges(
            keys=True, data="topology"
        )
    ]
    alpha = max(0.35, min(1.0, 25 / max(len(edges), 1)))
    drawn: dict[tuple[str, str], int] = {}
    for source, target, label in edges:
        number = drawn[source, target] = drawn.get((source, target), -1) + 1
        mutual = (target, source, "") in edges and not label
        if source == target:
            _draw_loop(axes, nodes[source], label, number)
        elif not mutual or (target, source) not in drawn:
            opposite = (target, source) in drawn
            bend = 0.2 * number + (0.12 if opposite else 0.0)
            bend += 0.28 if _passes_a_node(nodes, source, target) else 0.0
            _draw_arrow(axes, nodes[source], nodes[target], bend, label, alpha)
            if mutual:
                _draw_arrow(axes, nodes[target], nodes[source], -bend, "", alpha)


def _passes_a_node(nodes: dict[str, "Text"], source: str, target: str) -> bool:
    """Return True if the straight line between two nodes crosses another node."""
    (x0, y0), (x1, y1) = nodes[source].get_position(), nodes[target].get_position()
    length = math.hypot(x1 - x0, y1 - y0)
    for name in nodes.keys() - {source, target}:
        x, y = nodes[name].get_position()
        along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / length**2
        apart = abs((x - x0) * (y1 - y0) - (y - y0) * (x1 - x0)) / length
        if 0 < along < 1 and apart < NODE_RADIUS:
            return True
    return False


def _arrow(source: "Text", target: "Text", rad: float, alpha: float) -> dict[str, Any]:
    return {
        "arrowstyle": "-|>,head_length=.55,head_width=.24",
        "mutation_scale": 14,
        "connectionstyle": f"arc3,rad={rad}",
        "patchA": source.get_bbox_patch(),
        "patchB": target.get_bbox_patch(),
        "shrinkA": 1,
        "shrinkB": 2,
        "color": EDGE,
        "alpha": alpha,
        "lw": 1.1,
    }


def _draw_arrow(
    axes: "Axes",
    source: "Text",
    target: "Text",
    bend: float,
    label: str,
    alpha: float,
) -> None:
    (x0, y0), (x1, y1) = source.get_position(), target.get_position()
    arrow = _arrow(source, target, bend, alpha)
    axes.annotate("", xy=(x1, y1), xytext=(x0, y0), arrowprops=arrow, zorder=1)
    # close to the middle of the curve, slightly nearer to its source
    x = 0.62 * x0 + 0.38 * x1 + bend / 2 * (y1 - y0)
    y = 0.62 * y0 + 0.38 * y1 - bend / 2 * (x1 - x0)
    _write(axes, x, y, label)


def _draw_loop(axes: "Axes", node: "Text", label: str, number: int) -> None:
    """Draw a self-loop of a node type on the side away from the center."""
    x, y = node.get_position()
    away = 1.0 if y >= 0 else -1.0
    patch = node.get_bbox_patch()
    assert patch is not None
    extent = patch.get_window_extent().transformed(axes.transData.inverted())
    edge = extent.y1 if away > 0 else extent.y0
    arrow = _arrow(node, node, -away * (2.6 + number), 1.0)
    arrow |= {"patchA": None, "patchB": None}  # both ends are on the edge of the box
    start, end = (x - 0.05, edge), (x + 0.05, edge)
    axes.annotate("", xy=end, xytext=start, arrowprops=arrow, zorder=1)
    _write(axes, x, edge + away * (0.19 + 0.05 * number), label)


def _write(axes: "Axes", x: float, y: float, label: str) -> None:
    if label:
        box = {"boxstyle": "round,pad=.15", "fc": "white", "ec": "none"}
        axes.text(
            x, y, label, ha="center", va="center", color=INK, size=9, bbox=box, zorder=2
        )


def _draw_legend(axes: "Axes", schema: Schema) -> None:
    from matplotlib.patches import Patch

    kinds: list[str] = [m.kind for m in schema.modalities]
    kinds += ["latent"] if schema.latents else []
    handles = [
        Patch(fc=FILLS[kind], ec=EDGE, label=kind) for kind in dict.fromkeys(kinds)
    ]
    axes.legend(handles=handles, loc="lower left", frameon=False, fontsize=9)
