"""Check the mirrored clips of the GRID corpus and write them as Parquet.

Usage: python datasets/grid_av/prepare.py [--source DIR] [--output FILE]
DIR is the mirror directory; the default is $MMGRAPH_DATA or ../shared/datasets next to
the checkout. Without --output the file is only checked against the card.
"""

from mmgraph.datasets.prepare import prepare

if __name__ == "__main__":
    print(prepare("grid_av"))
