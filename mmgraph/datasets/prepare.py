"""What every ``datasets/<name>/prepare.py`` does, whatever it reads.

Read the raw files, check them against the card, write Parquet, report the hash.
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

    ``--source DIR`` is the folder of the raw files. ``--output FILE`` is the Parquet
    file to write; without it a shipped set is written beside its card, and any other
    is checked only, so that nothing that may not be shared ends up in the checkout.

    Args:
        name: The data set.
        read: Makes the samples from the source folder, ``None`` where none was given.
            By default the mirrored file of the set is read.
        argv: Arguments; ``None`` takes those of the process.

    Returns:
        One line that says what was done.

    Raises:
        SystemExit: With code 2 and one line, if the raw files are absent or differ.
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
            return f"{name}: {len(data)} samples as the card says; nothing written"
        output = dataset_folder(name) / "data.parquet"
    data.to_parquet(output)
    digest = hashlib.sha256(Path(output).read_bytes()).hexdigest()
    line = f"{output}: {len(data)} samples, SHA-256 {digest}"
    if card.shipped and digest != card.sha256:
        line += f"; the card, written with {card.written_with}, has {card.sha256}"
    return line
