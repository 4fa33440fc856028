"""The schema of a data set, file or folder, as text, JSON or image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmgraph.plotting.schema_drawing import describe_schema, draw_schema
from mmgraph.schema import Schema
from mmgraph.workflows.outputs import check_file
from mmgraph.workflows.samples import read_schema


@dataclass(frozen=True)
class SchemaResult:
    """A schema and its description.

    Attributes:
        schema: The schema.
        text: One line per node type and relation.
    """

    schema: Schema
    text: str


def show_schema(
    source: str,
    modalities: Mapping[str, Sequence[str]],
    image: Path | None = None,
) -> SchemaResult:
    """Read the schema of a source and draw it if an image file is given.

    Args:
        source: Name of a data set, a file, a folder, or a schema in a JSON file.
        modalities: Columns of each modality, for files that mmgraph did not write.
        image: File to write, ending in .png or .svg; None draws nothing.

    Raises:
        ConfigError: If the image cannot be written or has another ending.
        DataError: If the source cannot be read.
        SchemaError: If the JSON file does not contain a valid schema.
    """
    if image is not None:
        check_file(image, ".png", ".svg", inputs=[source])
    schema = read_schema(source, modalities)
    if image is not None:
        draw_schema(schema, image)
    return SchemaResult(schema, "\n".join(describe_schema(schema)))
