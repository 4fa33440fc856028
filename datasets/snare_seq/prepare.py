"""Check the mirrored file of snare_seq and write it as Parquet.

Usage: python datasets/snare_seq/prepare.py [--source DIR] [--output FILE]
DIR is the mirror directory; the default is $MMGRAPH_DATA or ../shared/datasets next to
the checkout. Without --output the file is only checked against the card.
"""

from mmgraph.datasets.prepare import prepare

if __name__ == "__main__":
    print(prepare("snare_seq"))
