"""Graph schema: modalities, latent nodes and the relations between them.

A schema is a heterogeneous graph of types. Every sample instantiates it with the nodes
that were observed. Late fusion, star, bottleneck and complete fusion are schemas of the
same model, not different models.
"""

import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from functools import cache
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeAlias,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from mmgraph import limits
from mmgraph._html import table_html
from mmgraph.errors import SchemaError
from mmgraph.files import parse_document, shorten
from mmgraph.typing import EdgeFunction

if TYPE_CHECKING:
    import networkx as nx

Kind: TypeAlias = Literal["vector", "embedding", "text", "tokens", "image", "audio"]
Tokens: TypeAlias = Literal["single", "ragged"]
ClockKind: TypeAlias = Literal["recorded", "learned"]
EdgeType: TypeAlias = tuple[str, str, str]

NEEDS_ENCODER = ("text", "tokens", "image", "audio")
MAX_PLACES = 3  # coordinates of a row
MAX_LISTED = 20  # names in a message


def _require(rule: bool, message: str) -> None:
    if not rule:
        raise SchemaError(message)


@dataclass(frozen=True)
class Modality:
    """One modality: a node type of the graph.

    Attributes:
        name: Unique name, not empty, without ``.`` and ``*``.
        channels: Number of input channels of one row, at least 1. None is allowed for
            text, tokens, image and audio, whose width the encoder determines.
        kind: ``"vector"``: features that are standardized and whose missing cells are
            flagged. ``"embedding"``: output of another model, used without scaling.
            ``"text"``, ``"image"`` and ``"audio"`` hold strings or paths of files.
            ``"tokens"`` holds strings whose n-grams of words, or of letters where
            texts have no spaces, are learned in training.
        tokens: ``"single"``: at most one row per sample. ``"ragged"``: a sequence of
            any length; length 0 means that the modality is missing.
        time: True if every row has a time stamp in seconds.
        encoder: Name or path of a pretrained encoder (text, image, audio).
        max_nodes: Largest number of nodes per sample, at least 1. A longer sequence is
            summarized in this many segments of equal length; more nodes keep more
            temporal detail and cost memory. A `TimeWindow` must reach to the next
            segment; a warning names relations of self-loops alone.
        places: Number of leading channels that are coordinates, 0 to 3. The rows of
            such a modality of ``tokens="ragged"`` are objects in space: edges between
            them depend on their relative places, and on the texts of the sample.
        clock: ``"recorded"``: times are used unchanged. ``"learned"``: a model learns
            the offset of the clock of this modality from those of the others, and
            subtracts it from the times; requires ``time=True``.

    Raises:
        SchemaError: If a field violates these rules.

    Example:
        >>> Modality("ecg", channels=12, tokens="ragged", time=True).kind
        'vector'
    """

    name: str
    channels: int | None = None
    kind: Kind = "vector"
    tokens: Tokens = "single"
    time: bool = False
    encoder: str | None = None
    max_nodes: int = 16
    places: int = 0
    clock: ClockKind = "recorded"

    def __post_init__(self) -> None:
        _check_name("Modality", self.name)
        _require(
            self.kind in ("vector", "embedding", *NEEDS_ENCODER),
            f"Modality {self.name!r} must be of a known kind (vector, embedding, text, "
            f"tokens, image, audio), got {self.kind!r}.",
        )
        _require(
            self.tokens in ("single", "ragged"),
            f"Modality {self.name!r} must have tokens 'single' or 'ragged', "
            f"got {self.tokens!r}.",
        )
        _require(
            self.channels is not None or self.kind in NEEDS_ENCODER,
            f"Modality {self.name!r} of kind {self.kind!r} must have channels, "
            "got None. Give the width of one row.",
        )
        _require(
            self.channels is None or self.channels > 0,
            f"Modality {self.name!r} must have at least 1 channel, "
            f"got {self.channels}.",
        )
        _require(
            self.max_nodes > 0,
            f"Modality {self.name!r} must have max_nodes of at least 1, "
            f"got {self.max_nodes}.",
        )
        _require(
            self.clock in get_args(ClockKind),
            f"Modality {self.name!r} must have clock 'recorded' or 'learned', got "
            f"{self.clock!r}.",
        )
        _require(
            self.time or self.clock == "recorded",
            f"Modality {self.name!r} with clock='learned' must have times, got "
            "time=False. Set time=True.",
        )
        self._check_places()

    def _check_places(self) -> None:
        _require(
            0 <= self.places <= MAX_PLACES,
            f"Modality {self.name!r} must have 0 to {MAX_PLACES} places, got "
            f"{self.places}.",
        )
        if not self.places:
            return
        _require(
            self.kind == "vector" and self.tokens == "ragged",
            f"Modality {self.name!r} with places must be of kind 'vector' and tokens "
            f"'ragged', got {self.kind!r} and {self.tokens!r}. Its rows are objects.",
        )
        _require(
            self.places < (self.channels or 0),
            f"Modality {self.name!r} must have more channels than places, got "
            f"{self.channels} channels and {self.places} places. Add what describes "
            "an object.",
        )


@dataclass(frozen=True)
class Latent:
    """Learned nodes that exist in every sample, such as a fusion or bottleneck node.

    Attributes:
        name: Unique name, not empty, without ``.`` and ``*``.
        num_nodes: Number of nodes per sample, at least 1.

    Raises:
        SchemaError: If a field violates these rules.
    """

    name: str
    num_nodes: int = 1

    def __post_init__(self) -> None:
        _check_name("Latent", self.name)
        _require(
            self.num_nodes > 0,
            f"Latent {self.name!r} must have at least 1 node, got {self.num_nodes}.",
        )


@dataclass(frozen=True)
class Full:
    """Topology that connects every source node to every target node of a sample."""


@dataclass(frozen=True)
class SameIndex:
    """Topology that connects the k-th source node to the k-th target node."""


@dataclass(frozen=True)
class TimeWindow:
    """Topology that connects nodes at most ``seconds`` apart.

    Attributes:
        seconds: Largest time difference, finite and at least 0.

    Raises:
        SchemaError: If the window is negative or not finite.
    """

    seconds: float

    def __post_init__(self) -> None:
        _require(
            0 <= self.seconds < math.inf,
            "TimeWindow must span a finite number of seconds of at least 0, "
            f"got {self.seconds}.",
        )
        # 1 and 1.0 are equal: they must have the same JSON text and the same hash.
        object.__setattr__(self, "seconds", float(self.seconds))


@dataclass(frozen=True)
class KNearest:
    """Topology that connects each target node to its ``k`` nearest sources in time.

    Of two sources at the same distance the earlier one is taken.

    Attributes:
        k: Number of source nodes, at least 1.

    Raises:
        SchemaError: If ``k`` is below 1.
    """

    k: int

    def __post_init__(self) -> None:
        _require(self.k > 0, f"KNearest must have k of at least 1, got {self.k}.")


@dataclass(frozen=True)
class Custom:
    """User-defined topology.

    Attributes:
        function: Function ``function(source, target)`` of two
            :class:`mmgraph.graph.NodeSet` that returns ``edge_index [2, E]`` of row
            numbers, row 0 source. Edges between samples are an error.
        name: Name of the function in saved schemas. :meth:`Schema.from_json` looks
            the function up by this name.
    """

    function: EdgeFunction
    name: str


Topology: TypeAlias = Full | SameIndex | TimeWindow | KNearest | Custom


@dataclass(frozen=True)
class Relation:
    """Edge type of the graph.

    Attributes:
        source: Node type that messages come from; ``"*"`` stands for every modality.
        target: Node type that messages go to; ``"*"`` stands for every modality.
        name: Name of the relation. Two relations between the same node types need
            different names.
        topology: Rule that selects the edges between the nodes of a sample.

    Example:
        >>> Relation("labs", "fuse").edge_type
        ('labs', 'to', 'fuse')
    """

    source: str
    target: str
    name: str = "to"
    topology: Topology = Full()

    @property
    def edge_type(self) -> EdgeType:
        """Edge type ``(source, name, target)``, as in PyTorch Geometric."""
        return (self.source, self.name, self.target)


@dataclass(frozen=True)
class Schema:
    """Graph of a sample: node types, edge types, and the nodes of the readout.

    Attributes:
        modalities: Modalities, at least one.
        latents: Learned nodes that exist in every sample.
        relations: Edge types. The wildcard ``"*"`` is expanded when the schema is
            built; it does not connect a modality to itself.
        readout: Node types whose states the prediction is made from. Default: the
            latent ``"fuse"`` if it receives messages, else the last latent that
            receives messages, else all modalities.

    Raises:
        SchemaError: If names repeat or are unknown, or a modality has no path to the
            readout.

    Example:
        >>> labs, ecg = Modality("labs", 34), Modality("ecg", 12, tokens="ragged")
        >>> Schema([labs, ecg], [Latent("fuse")], [Relation("*", "fuse")]).edge_types
        (('labs', 'to', 'fuse'), ('ecg', 'to', 'fuse'))
    """

    modalities: Sequence[Modality]
    latents: Sequence[Latent] = ()
    relations: Sequence[Relation] = ()
    readout: Sequence[str] | None = None

    def __post_init__(self) -> None:
        _set(self, "modalities", tuple(self.modalities))
        for m in self.modalities:
            _require(
                isinstance(m, Modality),
                f"Schema.modalities must hold Modality objects, got {m!r}. Give "
                "Modality(name, channels).",
            )
        _set(self, "latents", tuple(self.latents))
        _require(bool(self.modalities), "Schema must have at least 1 modality, got 0.")
        _check_count("node_types", len(self.node_types), "modalities and latents")
        _check_unique("modality and latent", self.node_types)
        _check_count("relations", self._count_relations(), "relations")
        _set(self, "relations", tuple(self._expand_wildcards()))
        self._check_relations()
        _set(self, "readout", self._resolved_readout())
        self._check_paths()

    @property
    def modality_names(self) -> tuple[str, ...]:
        """Names of the modalities, in order."""
        return tuple(m.name for m in self.modalities)

    @property
    def node_types(self) -> tuple[str, ...]:
        """Names of the modalities, then of the latents."""
        return (*self.modality_names, *(latent.name for latent in self.latents))

    @property
    def edge_types(self) -> tuple[EdgeType, ...]:
        """Edge type ``(source, name, target)`` of every relation."""
        return tuple(r.edge_type for r in self.relations)

    @property
    def hash(self) -> str:
        """SHA-256 of the JSON text (hex); equal schemas have equal hashes."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def modality(self, name: str) -> Modality:
        """Return a modality by name.

        Args:
            name: Name of the modality.

        Raises:
            SchemaError: If the schema has no modality of that name.

        Example:
            >>> Schema.star([Modality("labs", 34)]).modality("labs").channels
            34
        """
        for modality in self.modalities:
            if modality.name == name:
                return modality
        raise SchemaError(
            f"Modality {name!r} is unknown. The schema has: "
            f"{_listed(self.modality_names)}."
        )

    @classmethod
    def late(cls, modalities: Iterable[Modality]) -> "Schema":
        """Return the schema of late fusion: no edges, the readout averages modalities.

        Args:
            modalities: Modalities, at least one.

        Raises:
            SchemaError: If names repeat or there is no modality.

        Example:
            >>> Schema.late([Modality("labs", 34), Modality("ecg", 12)]).readout
            ('labs', 'ecg')
        """
        return cls(tuple(modalities))

    @classmethod
    def star(cls, modalities: Iterable[Modality]) -> "Schema":
        """Return the star schema: one fusion node receives from every modality.

        Args:
            modalities: Modalities, at least one.

        Raises:
            SchemaError: If names repeat or there is no modality.

        Example:
            >>> Schema.star([Modality("labs", 34), Modality("ecg", 12)]).edge_types
            (('labs', 'to', 'fuse'), ('ecg', 'to', 'fuse'))
        """
        return cls(tuple(modalities), (Latent("fuse"),), (Relation("*", "fuse"),))

    @classmethod
    def complete(cls, modalities: Iterable[Modality]) -> "Schema":
        """Return the complete schema: all pairs of modalities exchange messages.

        A fusion node receives from every modality. Sequences also have edges within
        the modality.

        Args:
            modalities: Modalities, at least one.

        Raises:
            SchemaError: If names repeat or there is no modality.

        Example:
            >>> Schema.complete([Modality("labs", 34), Modality("ecg", 12)]).edge_types
            (('labs', 'to', 'ecg'), ('ecg', 'to', 'labs'),
             ('labs', 'to', 'fuse'), ('ecg', 'to', 'fuse'))
        """
        modalities = cls.late(modalities).modalities
        relations = [
            Relation(a.name, b.name)
            for a in modalities
            for b in modalities
            if a.name != b.name or a.tokens == "ragged"
        ]
        relations.append(Relation("*", "fuse"))
        return cls(modalities, (Latent("fuse"),), tuple(relations))

    @classmethod
    def bottleneck(cls, modalities: Iterable[Modality], num_nodes: int = 4) -> "Schema":
        """Return the bottleneck schema: modalities communicate through latent nodes.

        Args:
            modalities: Modalities, at least one.
            num_nodes: Number of bottleneck nodes, at least 1. The default follows the
                reference, which uses 4.

        Raises:
            SchemaError: If names repeat or there is no modality.

        References:
            Attention Bottlenecks for Multimodal Fusion, Nagrani, Yang, Arnab, Jansen,
            Schmid, Sun, 2021, arXiv 2107.00135.

        Example:
            >>> Schema.bottleneck([Modality("labs", 34), Modality("ecg", 12)]).latents
            (Latent(name='bottleneck', num_nodes=4),)
        """
        modalities = cls.late(modalities).modalities
        within = [
            Relation(m.name, m.name, "self") for m in modalities if m.tokens == "ragged"
        ]
        hub = [Relation("*", "bottleneck"), Relation("bottleneck", "*")]
        latents = (Latent("bottleneck", num_nodes),)
        return cls(modalities, latents, (*within, *hub), ("bottleneck",))

    @classmethod
    def cross(
        cls, modalities: Iterable[Modality], *, query: str, keys: Sequence[str]
    ) -> "Schema":
        """Return the schema of cross-attention: one modality attends to others.

        The query receives from every key, and a fusion node from the query alone. A
        sample without the query thus has the prediction of an empty sample: add
        ``Relation(key, "fuse")`` in a schema written by hand if it can be missing.

        Args:
            modalities: Modalities: the query and the keys.
            query: Name of the modality whose nodes attend.
            keys: Names of the modalities that they attend to.

        Raises:
            SchemaError: If a name is unknown, or a modality is neither query nor key.

        References:
            Multimodal Transformer for Unaligned Multimodal Language Sequences, Tsai,
            Bai, Liang, Kolter, Morency, Salakhutdinov, 2019, arXiv 1906.00295.

        Example:
            >>> text, image = Modality("text", 300), Modality("image", 512)
            >>> Schema.cross([text, image], query="text", keys=["image"]).edge_types
            (('image', 'to', 'text'), ('text', 'to', 'fuse'))
        """
        _require(
            not isinstance(keys, str),
            f"keys must be a list of names of modalities, got {keys!r}. Write "
            f"[{keys!r}].",
        )
        relations = [*(Relation(key, query) for key in keys), Relation(query, "fuse")]
        return cls(tuple(modalities), (Latent("fuse"),), relations)

    @classmethod
    def coattention(cls, modalities: Iterable[Modality], a: str, b: str) -> "Schema":
        """Return the schema of co-attention: two modalities attend to each other.

        Each also attends to itself if it is a sequence. A fusion node receives from
        every modality, also from others than the two.

        Args:
            modalities: Modalities, at least the two.
            a: Name of one of the two modalities.
            b: Name of the other one.

        Raises:
            SchemaError: If a name is unknown, or both names are equal.

        References:
            Hierarchical Question-Image Co-Attention for Visual Question Answering, Lu,
            Yang, Batra, Parikh, 2016, arXiv 1606.00061.

        Example:
            >>> text, image = Modality("text", 300), Modality("image", 512)
            >>> Schema.coattention([text, image], "text", "image").edge_types
            (('text', 'to', 'image'), ('image', 'to', 'text'),
             ('text', 'to', 'fuse'), ('image', 'to', 'fuse'))
        """
        modalities = cls.late(modalities).modalities
        _require(a != b, f"a and b must be different modalities, got {a!r} twice.")
        within = [
            Relation(m.name, m.name, "self")
            for m in modalities
            if m.name in (a, b) and m.tokens == "ragged"
        ]
        relations = (Relation(a, b), Relation(b, a), *within, Relation("*", "fuse"))
        return cls(modalities, (Latent("fuse"),), relations)

    def to_networkx(self) -> "nx.MultiDiGraph":
        """Return the schema as a networkx graph of node types.

        Returns:
            Graph whose nodes have the attribute ``kind`` ("modality" or "latent") and
            the modality or latent itself, and whose edges have the attribute
            ``topology``.

        Example:
            >>> graph = Schema.star([Modality("labs", 34)]).to_networkx()
            >>> list(graph.edges(data="topology"))
            [('labs', 'fuse', Full())]
        """
        import networkx as nx

        graph = nx.MultiDiGraph()
        for modality in self.modalities:
            graph.add_node(modality.name, kind="modality", modality=modality)
        for latent in self.latents:
            graph.add_node(latent.name, kind="latent", latent=latent)
        for r in self.relations:
            graph.add_edge(r.source, r.target, key=r.name, topology=r.topology)
        return graph

    def to_json(self) -> str:
        """Return the schema as JSON text with sorted keys; equal schemas, equal text.

        A :class:`Custom` topology is stored by its name, without the function.

        Example:
            >>> Schema.star([Modality("labs", 34)]).to_json()[:27]
            '{"latents": [{"name": "fuse'
        """
        document = {
            "modalities": [_modality_to_json(m) for m in self.modalities],
            "latents": [asdict(latent) for latent in self.latents],
            "relations": [_relation_to_json(r) for r in self.relations],
            "readout": list(self.readout or ()),
        }
        return json.dumps(document, sort_keys=True)

    @classmethod
    def from_json(
        cls, text: str, functions: Mapping[str, EdgeFunction] | None = None
    ) -> "Schema":
        """Build a schema from the JSON text of :meth:`to_json`.

        Args:
            text: JSON document.
            functions: Function of every :class:`Custom` topology, by name.

        Raises:
            SchemaError: If the text is not JSON, or a field is missing, unknown or of
                the wrong type.

        Example:
            >>> schema = Schema.star([Modality("labs", 34)])
            >>> Schema.from_json(schema.to_json()) == schema
            True
        """
        return _parse_schema(text, dict(functions or {}))

    def _repr_html_(self) -> str:
        """Return the node types and the relations as HTML tables for notebooks."""
        nodes: list[tuple[object, ...]] = [
            (m.name, m.kind, m.channels, m.tokens, "yes" if m.time else "no")
            for m in self.modalities
        ]
        nodes += [(n.name, "latent", None, n.num_nodes, "no") for n in self.latents]
        relations = [
            (r.source, r.name, r.target, _topology_label(r.topology))
            for r in self.relations
        ]
        readout = ", ".join(self.readout or ())
        return table_html(
            f"Schema: {len(self.modalities)} modalities, readout {readout}",
            ("node type", "kind", "channels", "tokens", "time"),
            nodes,
        ) + table_html(
            f"{len(relations)} relations",
            ("source", "relation", "target", "topology"),
            relations,
        )

    def _count_relations(self) -> int:
        """Return an upper bound of the number of relations without wildcards."""
        num = len(self.modalities)
        return sum(num ** [r.source, r.target].count("*") for r in self.relations)

    def _expand_wildcards(self) -> Iterable[Relation]:
        names = self.modality_names
        for r in self.relations:
            sources = names if r.source == "*" else (r.source,)
            targets = names if r.target == "*" else (r.target,)
            wild = "*" in (r.source, r.target)
            for s in sources:
                for t in targets:
                    if not (wild and s == t):
                        yield replace(r, source=s, target=t)

    def _check_relations(self) -> None:
        known = set(self.node_types)
        timed = {m.name for m in self.modalities if m.time}
        for r in self.relations:
            if {r.source, r.target} - known:
                end = r.source if r.source not in known else r.target
                raise SchemaError(
                    f"Relation {r.edge_type} must join known node types, "
                    f"got {end!r}. The schema has: {_listed(self.node_types)}."
                )
            if isinstance(r.topology, TimeWindow | KNearest):
                _require(
                    {r.source, r.target} <= timed,
                    f"Relation {r.edge_type} with {type(r.topology).__name__} must "
                    "join modalities that have time. Set time=True on both.",
                )
        _check_unique("relation", self.edge_types)

    def _resolved_readout(self) -> tuple[str, ...]:
        if self.readout is not None:
            if not self.readout or set(self.readout) - set(self.node_types):
                raise SchemaError(
                    f"Schema.readout must name node types ({_listed(self.node_types)}),"
                    f" got {shorten(list(self.readout))}."
                )
            return tuple(self.readout)
        receivers = {r.target for r in self.relations}
        latents = [latent.name for latent in self.latents if latent.name in receivers]
        if "fuse" in latents:
            return ("fuse",)
        return tuple(latents[-1:]) or self.modality_names

    def _check_paths(self) -> None:
        reached = set(self.readout or ())
        sources: dict[str, list[str]] = {}
        for r in self.relations:
            sources.setdefault(r.target, []).append(r.source)
        new = list(reached)
        while new:
            new = [s for s in sources.pop(new.pop(), ()) if s not in reached] + new
            reached.update(new)
        for name in self.modality_names:
            if name not in reached:
                raise SchemaError(
                    f"Modality {name!r} must have a path to the readout "
                    f"({_listed(self.readout or ())}), got none. Add a Relation from "
                    "it."
                )


def _set(schema: Schema, field: str, value: object) -> None:
    object.__setattr__(schema, field, value)


def _topology_label(topology: "Topology") -> str:
    """Return a topology as text, such as "TimeWindow(seconds=0.5)"."""
    if isinstance(topology, Custom):
        return f"Custom({topology.name!r})"  # the repr of a function is an address
    return repr(topology)


def _check_name(kind: str, name: str) -> None:
    _require(
        bool(name) and "." not in name and "*" not in name,
        f"{kind} must have a name without '.' and '*', got {name!r}.",
    )


def _check_unique(kind: str, names: Sequence[object]) -> None:
    repeated = sorted(str(name) for name, num in Counter(names).items() if num > 1)
    _require(
        not repeated,
        f"Schema must name each {kind} once, got {_listed(repeated)} twice. "
        "Rename one.",
    )


def _check_count(limit: str, count: int, things: str, subject: str = "Schema") -> None:
    most = getattr(limits.current(), limit)
    if count > most:
        raise SchemaError(
            f"{subject} must have at most {most} {things}, got {count}.",
            limits.remedy(limit),
        )


def _listed(names: Sequence[str]) -> str:
    """Return names for a message, at most twenty."""
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return ", ".join(map(str, names[:MAX_LISTED])) + more


def _modality_to_json(modality: Modality) -> dict[str, Any]:
    """Return the fields; without places and clock, as versions before them wrote it."""
    item = asdict(modality)
    if not modality.places:
        del item["places"]
    if modality.clock == "recorded":
        del item["clock"]
    return item


def _relation_to_json(relation: Relation) -> dict[str, Any]:
    topology = relation.topology
    if isinstance(topology, Custom):
        item: dict[str, Any] = {"type": "Custom", "name": topology.name}
    else:
        item = {"type": type(topology).__name__, **asdict(topology)}
    return {
        "source": relation.source,
        "target": relation.target,
        "name": relation.name,
        "topology": item,
    }


_T = TypeVar("_T")
_TOPOLOGIES: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Full, SameIndex, TimeWindow, KNearest)
}


# sizes of modalities and latents, and the limits on them
SIZES = (
    ("modalities", "channels", "channels"),
    ("modalities", "max_nodes", "nodes"),
    ("latents", "num_nodes", "nodes"),
)


def _parse_schema(text: str, functions: Mapping[str, EdgeFunction]) -> Schema:
    """Build a schema from JSON text; see :meth:`Schema.from_json`."""
    if not isinstance(text, str):
        raise SchemaError(f"Schema must be a JSON document, got {shorten(text)}.")
    document = parse_document(text, "Schema", SchemaError, kind="a JSON document")
    if not isinstance(document, dict):
        raise SchemaError(
            f"Schema must be a JSON object, got {type(document).__name__}."
        )
    unknown = set(document) - {"modalities", "latents", "relations", "readout"}
    if unknown:
        raise SchemaError(f"Schema has no field {shorten(min(unknown))}.")
    readout = document.get("readout")
    if readout is not None and not _is_list_of_names(readout):
        raise SchemaError(
            f"Schema.readout must be a list of names, got {shorten(readout)}."
        )
    for field, limit in (("modalities", "node_types"), ("relations", "relations")):
        _check_count(limit, len(_items(document, field)), field)
    for field, key, limit in SIZES:
        for where, item in _items(document, field):
            if isinstance(item.get(key), int):
                _check_count(limit, item[key], key, where)
    return Schema(
        [_build(Modality, m, where) for where, m in _items(document, "modalities")],
        [_build(Latent, m, where) for where, m in _items(document, "latents")],
        [_relation(m, where, functions) for where, m in _items(document, "relations")],
        readout,
    )


def _items(document: dict[str, Any], field: str) -> list[tuple[str, dict[str, Any]]]:
    value = document.get(field, [])
    if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
        raise SchemaError(
            f"Schema.{field} must be a list of objects, got {shorten(value)}."
        )
    return [(f"Schema.{field}[{i}]", item) for i, item in enumerate(value)]


def _is_list_of_names(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _relation(
    item: dict[str, Any], where: str, functions: Mapping[str, EdgeFunction]
) -> Relation:
    rest = {key: value for key, value in item.items() if key != "topology"}
    relation = _build(Relation, rest, where)
    topology = _topology(item.get("topology", {"type": "Full"}), where, functions)
    return Relation(relation.source, relation.target, relation.name, topology)


def _topology(
    item: object, where: str, functions: Mapping[str, EdgeFunction]
) -> Topology:
    if not isinstance(item, dict) or not isinstance(item.get("type"), str):
        raise SchemaError(f"{where}.topology must be an object with a type.")
    rest = {key: value for key, value in item.items() if key != "type"}
    if item["type"] == "Custom":
        name = rest.get("name")
        if not isinstance(name, str) or name not in functions:
            raise SchemaError(
                f"{where}.topology needs the function {name!r}, got "
                f"{', '.join(functions) or 'none'}. Pass functions={{name: function}}."
            )
        return Custom(functions[name], name)
    if item["type"] not in _TOPOLOGIES:
        raise SchemaError(
            f"{where}.topology must be one of {', '.join(_TOPOLOGIES)}, Custom, "
            f"got {item['type']!r}."
        )
    topology: Topology = _build(_TOPOLOGIES[item["type"]], rest, f"{where}.topology")
    return topology


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls)


def _build(cls: type[_T], item: dict[str, Any], where: str) -> _T:
    """Build a dataclass from a JSON object after checking field names and types."""
    hints = _hints(cls)  # type: ignore[arg-type]
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    for key, value in item.items():
        if key not in known:
            raise SchemaError(f"{where} has no field {shorten(key)}.")
        if not _matches(value, hints[key]):
            raise SchemaError(f"{where}.{key} has a wrong value: {shorten(value)}.")
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
        return abs(value) <= sys.float_info.max  # False for NaN and infinity
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    assert isinstance(hint, type)
    return isinstance(value, hint)
