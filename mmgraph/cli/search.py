"""`mmgraph index` and `mmgraph search`: retrieval by text, image and audio."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmgraph.cli.app import app, print_warnings, show
from mmgraph.cli.options import (
    IdOption,
    ModalityOption,
    MovedEncoderOption,
    OnlyOption,
)
from mmgraph.workflows.outputs import check_file


@app.command(
    epilog="Example: mmgraph index stamps --model stamp_model --output stamp_index"
)
def index(
    gallery: Annotated[
        Path,
        typer.Argument(
            metavar="GALLERY",
            help="Folder of files, in which a.png, a.txt and a.wav are one sample; or "
            "Parquet file.",
        ),
    ],
    model: Annotated[Path, typer.Option(help="Model folder of a retriever.")],
    output: Annotated[Path, typer.Option(help="Folder to write the index to.")],
    only: OnlyOption = None,
    kind: Annotated[
        str,
        typer.Option(
            help="Kind of index: exact; or approximate, with the package faiss: flat, "
            "hnsw, ivf."
        ),
    ] = "exact",
    modality: ModalityOption = None,
    id_: IdOption = None,
    picture: Annotated[
        str | None,
        typer.Option(
            "--picture",
            "--image-column",
            help="Column with paths of image files, shown on the HTML page.",
        ),
    ] = None,
    encoder: MovedEncoderOption = None,
) -> None:
    """Embed the samples of a gallery and write an index of them.

    Samples without any of the modalities are left out. The index folder contains a copy
    of the model, so that no other file is needed to search it.
    """
    from mmgraph.cli.options import parse_encoders, parse_modalities, parse_names
    from mmgraph.workflows.gallery import build_index

    with print_warnings():
        result = build_index(
            gallery,
            model,
            output,
            only=parse_names(only),
            kind=kind,
            modalities=parse_modalities(modality),
            id=id_,
            picture=picture,
            encoders=parse_encoders(encoder),
        )
        typer.echo(f"{len(result.index)} of {result.num_samples} samples: {output}")


@app.command(
    epilog='Example: mmgraph search "a red bird" --index stamp_index --page birds.html'
)
def search(
    words: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Text of the query.")
    ] = None,
    index: Annotated[
        Path, typer.Option(help="Index folder written by mmgraph index.")
    ] = Path("index"),
    image: Annotated[
        Path | None, typer.Option(help="Image file of the query, alone or with others.")
    ] = None,
    sound: Annotated[
        Path | None, typer.Option(help="Audio file of the query, alone or with others.")
    ] = None,
    top: Annotated[
        int,
        typer.Option("--top", "--top-k", "-k", help="Number of entries to retrieve."),
    ] = 10,
    require: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME", help="Retrieve only entries with all these modalities."
        ),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="HTML page to write, with the images.")
    ] = None,
    encoder: MovedEncoderOption = None,
) -> None:
    """Retrieve the entries of an index by text, image, audio, or several of them."""
    from mmgraph.cli.options import parse_encoders, parse_names
    from mmgraph.workflows.gallery import find

    if page is not None:
        check_file(page, inputs=[index, *(x for x in (image, sound) if x is not None)])
    files = {"text": words, "image": image, "sound": sound}
    given: dict[str, Any] = {k: v for k, v in files.items() if v is not None}
    with print_warnings():
        result = find(
            index,
            given,
            top=top,
            require=parse_names(require) or (),
            encoders=parse_encoders(encoder),
        )
        show(result.table())
    if page is not None:
        from mmgraph.workflows.search_page import write_search_page

        write_search_page(result, page)
        typer.echo(f"Page: {page}")
