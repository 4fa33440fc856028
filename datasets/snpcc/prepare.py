"""Check the mirrored SNPCC light curves and write them as Parquet.

Usage: python datasets/snpcc/prepare.py [--source DIR] [--output FILE]
DIR is the mirror directory; the default is $MMGRAPH_DATA or ../shared/datasets next to
the checkout. Without --output the file is only checked against the card.
"""

from mmgraph.datasets.prepare import prepare

if __name__ == "__main__":
    print(prepare("snpcc"))
