"""Command line of the scripts ``datasets/<name>/prepare.py``.

They read the raw files, compare them with the card, write Parquet and report the hash.
"""

import argparse
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from mmgraph.data import MultimodalData
from mmgraph.datasets.load import check_data, dataset_card, dataset_folder, find_mirror
from mmgraph.datasets.mirrors import from_mirror
from mmgraph.errors import DataError


def prepare(
    name: str,
    read: Callable[[str | None], MultimodalData] | None = None,
    argv: Sequence[str] | None = None,
) -> str:
    """Run the command line of a prepare script.

    ``--source DIR`` is the folder of the raw files, ``--output FILE`` the Parquet file
    to write. Without an output, a shipped data set is written to the folder of its
    card, and any other is only checked, so that restricted data do not end up in the
    checkout.

    Args:
        name: Name of the data set.
        read: Function that reads the data from the source folder (None if it was not
            passed). Default: read the file in the data folder.
        argv: Arguments. Default: those of the process.

    Returns:
        Summary in one line.

    Raises:
        SystemExit: If the raw files do not exist or differ from the card; code 2.
    """
    card = dataset_card(name)
    parser = argparse.ArgumentParser(
        prog=f"python datasets/{name}/prepare.py", description=card.title
    )
    parser.add_argument("--source", metavar="DIR", help="folder of the raw files")
    parser.add_argument("--output", metavar="FILE", help="Parquet file to write")
    args = parser.parse_args(argv)
    try:
        if read is None:
            data = from_mirror(name, find_mirror(card, args.source))
        else:
            data = read(args.source)
        check_data(card, data)
    except DataError as error:
        parser.error(str(error))
    output = args.output
    if output is None:
        if not card.shipped:
            return f"{name}: {len(data)} samples agree with the card; nothing written"
        output = dataset_folder(name) / "data.parquet"
    data.to_parquet(output)
    digest = hashlib.sha256(Path(output).read_bytes()).hexdigest()
    line = f"{output}: {len(data)} samples, SHA-256 {digest}"
    if card.shipped and digest != card.sha256:
        line += f"; the card ({card.written_with}) has {card.sha256}"
    return line
