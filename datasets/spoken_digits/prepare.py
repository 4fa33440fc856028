"""Check the mirrored recordings of digits and write them as Parquet.

Usage: python datasets/spoken_digits/prepare.py [--source DIR] [--output FILE]
DIR is the mirror directory; the default is $MMGRAPH_DATA or ../shared/datasets next to
the checkout. Without --output the file is only checked against the card. The images of
digits are part of scikit-learn.
"""

from mmgraph.datasets.prepare import prepare

if __name__ == "__main__":
    print(prepare("spoken_digits"))
