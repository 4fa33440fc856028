"""`mmgraph embed`: one vector for each sample of a Parquet file."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
import typer

from mmgraph.cli.commands import File, ModalityOption, app
from mmgraph.cli.workflow import COLUMNS_FILE, Columns, read_samples, there
from mmgraph.data import MultimodalData
from mmgraph.errors import CheckpointError, ConfigError

Embedded = tuple[npt.NDArray[Any], npt.NDArray[np.float32]]


@runtime_checkable
class Embeds(Protocol):
    """An estimator that was made to embed: a retriever."""

    def embed(self, data: MultimodalData) -> npt.NDArray[Any]:
        """Return ``[N, D]``."""


@runtime_checkable
class Transforms(Protocol):
    """An estimator whose states may serve as embeddings."""

    def transform(self, data: MultimodalData) -> npt.NDArray[Any]:
        """Return ``[N, D]``."""


@app.command(
    epilog="Example: mmgraph embed new.parquet --model icu_model --output z.parquet"
)
def embed(
    file: File,
    model: Annotated[
        Path, typer.Option(help="Folder of mmgraph train or save_pretrained.")
    ],
    output: Annotated[Path, typer.Option(help="Where to write; .parquet or .npy.")],
    modality: ModalityOption = None,
    id_: Annotated[
        str | None, typer.Option("--id", help="Column that names the samples.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help="Embed these modalities alone."),
    ] = None,
) -> None:
    """Turn every sample into a vector, from whatever modalities it has.

    A retriever gives the vectors that it searches with; a classifier or regressor the
    states of its graph, members side by side. Parquet gets the columns id and z.
    """
    from mmgraph.config import parse_modalities, parse_names

    if output.suffix not in (".parquet", ".npy"):
        raise ConfigError(f"Output must end in .parquet or .npy, got '{output}'.")
    chosen = parse_modalities(modality)
    parts = embed_file(model, file, chosen, id=id_, only=parse_names(only))
    num, width = save_embeddings(parts, output)
    typer.echo(f"{num} embeddings of {width} numbers: {output}")


def embed_file(
    folder: Path,
    file: Path,
    modalities: dict[str, tuple[str, ...]] | None = None,
    *,
    id: str | None = None,
    only: tuple[str, ...] | None = None,
) -> Iterator[Embedded]:
    """Yield ids ``[n]`` and embeddings ``[n, D]`` of the samples, in their order.

    Args:
        folder: Saved estimator.
        file: Parquet file with one row per sample.
        modalities: Columns of each modality; default: as in the training.
        id: Column of ids; default: as in the training.
        only: Modalities to embed; None is all that the file has.

    Raises:
        CheckpointError: If the folder holds no estimator that can embed.
        DataError: If the file cannot be read, or lacks one of ``only``.
    """
    from mmgraph.estimators.loading import load_estimator

    estimator = load_estimator(folder)
    if not isinstance(estimator, Embeds | Transforms):
        raise CheckpointError(
            f"{folder} must hold a model that embeds samples, got a "
            f"{type(estimator).__name__}."
        )
    ask = estimator.embed if isinstance(estimator, Embeds) else estimator.transform
    if modalities is None and (folder / COLUMNS_FILE).is_file():
        columns = Columns.load(folder)
        modalities, id = there(columns, file), id or columns.id
    data = read_samples(file, modalities=modalities or {}, label=None, id=id)
    data = data if only is None else data.select(only)
    yield data.ids, ask(data)


def save_embeddings(parts: Iterable[Embedded], path: Path) -> tuple[int, int]:
    """Write embeddings, part after part; return how many and their width.

    A ``.parquet`` file has the columns ``id`` and ``z`` (fixed-size lists), an
    ``.npy`` file the matrix ``[N, D]`` alone.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix == ".npy":
        table = np.concatenate([z for _, z in parts])
        np.save(path, table)
        return len(table), table.shape[1]
    num, width, writer = 0, 0, None
    try:
        for ids, z in parts:
            num, width = num + len(z), z.shape[1]
            flat = pa.array(z.ravel(), pa.float32())
            cells = pa.FixedSizeListArray.from_arrays(flat, width)
            table = pa.table({"id": ids.tolist(), "z": cells})
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    return num, width
