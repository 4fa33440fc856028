"""Check the mirrored stamp embeddings and write them as Parquet.

Usage: python datasets/tuxpaint/prepare.py [--source DIR] [--output FILE]
(DIR is the mirror folder; without it $MMGRAPH_DATA or ../shared/datasets beside the
checkout. Without --output the file is only checked against the card. The
raw drawings, captions and sounds are in the Debian package tuxpaint-stamps-default; the
card says how the embeddings were made from them.)
"""

from mmgraph.datasets.prepare import prepare

if __name__ == "__main__":
    print(prepare("tuxpaint"))
