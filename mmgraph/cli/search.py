"""`mmgraph index` and `mmgraph search`: find samples by words, pictures and sounds."""

from pathlib import Path
from typing import Annotated, Any

import typer

from mmgraph.cli.app import app, show
from mmgraph.cli.options import IdOption, ModalityOption, MovedEncoderOption
from mmgraph.workflows.outputs import check_file


@app.command(epilog="Example: mmgraph index stamps --model stamp_model --output found")
def index(
    gallery: Annotated[
        Path,
        typer.Argument(
            metavar="GALLERY",
            help="Folder (a.png, a.txt, a.wav are one sample), or Parquet file.",
        ),
    ],
    model: Annotated[Path, typer.Option(help="Folder of a saved retriever.")],
    output: Annotated[Path, typer.Option(help="Folder to save the index in.")],
    only: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help="Embed these modalities alone."),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="exact, or with faiss: flat, hnsw, ivf.")
    ] = "exact",
    modality: ModalityOption = None,
    id_: IdOption = None,
    picture: Annotated[
        str | None,
        typer.Option(help="Column with the file of a picture, for the page."),
    ] = None,
    encoder: MovedEncoderOption = None,
) -> None:
    """Embed a gallery and save an index of it.

    A sample that has none of the modalities is left out. The folder of the index
    holds a copy of the model, so that it can be searched by itself.
    """
    from mmgraph.cli.options import parse_encoders, parse_modalities, parse_names
    from mmgraph.workflows.gallery import build_index

    made = build_index(
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
    typer.echo(f"{len(made.index)} of {made.num_samples} samples: {output}")


@app.command(epilog='Example: mmgraph search "a red bird" --index found --page a.html')
def search(
    words: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="Words to search by.")
    ] = None,
    index: Annotated[Path, typer.Option(help="Folder of mmgraph index.")] = Path(
        "index"
    ),
    image: Annotated[
        Path | None, typer.Option(help="Picture to search by, alone or with words.")
    ] = None,
    sound: Annotated[
        Path | None, typer.Option(help="Sound to search by, alone or with others.")
    ] = None,
    top: Annotated[int, typer.Option(help="Number of samples to find.")] = 10,
    require: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help="Only samples that have all of these."),
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="HTML page to write, with the pictures.")
    ] = None,
    encoder: MovedEncoderOption = None,
) -> None:
    """Find the samples of an index by words, a picture, a sound, or all of them."""
    from mmgraph.cli.options import parse_encoders, parse_names
    from mmgraph.workflows.gallery import find

    if page is not None:
        check_file(page)
    files = {"text": words, "image": image, "sound": sound}
    given: dict[str, Any] = {k: v for k, v in files.items() if v is not None}
    answer = find(
        index,
        given,
        top=top,
        require=parse_names(require) or (),
        encoders=parse_encoders(encoder),
    )
    show(answer.table())
    if page is not None:
        from mmgraph.workflows.search_page import write_search_page

        write_search_page(answer, page)
        typer.echo(f"Page: {page}")
