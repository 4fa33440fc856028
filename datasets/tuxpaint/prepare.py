"""Check the mirrored stamp embeddings, or unpack the raw stamps.

Usage: python datasets/tuxpaint/prepare.py [--source DIR] [--output FILE]
       python datasets/tuxpaint/prepare.py --package FILE.deb --folder DIR

The first form checks the embeddings in the mirror directory DIR (default $MMGRAPH_DATA
or ../shared/datasets next to the checkout) against the card, and writes them as Parquet
with --output; the card describes how they were computed. The second form unpacks
images, captions and sounds of the Debian package, downloaded by
`apt-get download tuxpaint-stamps-default`, into a directory for `mmgraph index`.
"""

import argparse
import sys

from mmgraph.datasets.prepare import prepare
from mmgraph.datasets.stamps import unpack_stamps
from mmgraph.errors import DataError

if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--package")
    parser.add_argument("--folder", default="stamps")
    raw, rest = parser.parse_known_args()
    if "-h" in rest or "--help" in rest:
        print(__doc__)
    elif raw.package is None:
        print(prepare("tuxpaint"))
    else:
        try:
            print(f"{raw.folder}: {unpack_stamps(raw.package, raw.folder)} stamps")
        except (DataError, OSError) as error:
            sys.exit(f"prepare.py: error: {error}")
