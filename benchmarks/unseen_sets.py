"""Data sets in Python packages, with columns assigned to modalities by meaning.

None of them was used in development. The assignment was fixed before any model was
fitted and was never changed.
"""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmgraph import MultimodalData

Columns = dict[str, Any]  # name to N numbers or texts, or to N sequences


@dataclass(frozen=True)
class UnseenSet:
    """A data set and its modalities.

    Attributes:
        package: Package that contains it.
        module: Top-level module of that package.
        read: Function that reads the columns from the directory of the module.
        label: Column of the class.
        modalities: Columns by modality; other columns are not used.
        num_samples: Number of samples.
    """

    package: str
    module: str
    read: Callable[[Path], Columns]
    label: str
    modalities: Mapping[str, Sequence[str]]
    num_samples: int

    def folder(self) -> Path | None:
        """Return where the module is installed; None where it is not."""
        spec = importlib.util.find_spec(self.module)
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(spec.submodule_search_locations[0])

    def load(self) -> MultimodalData:
        """Read the samples.

        Raises:
            FileNotFoundError: If the package is not installed or lacks the file.
        """
        folder = self.folder()
        if folder is None:
            raise FileNotFoundError(self.package)
        columns = self.read(folder)
        arrays = {
            name: join([part for field in fields for part in encode(columns[field])])
            for name, fields in self.modalities.items()
        }
        return MultimodalData.from_arrays(arrays, y=columns[self.label])


def encode(column: Any) -> list[Any]:  # noqa: ANN401
    """Return numbers and sequences as they are, texts as one indicator for each value.

    Two values share one indicator. A text that is None is unknown: NaN.
    """
    if not isinstance(column, np.ndarray) or column.dtype.kind not in "OU":
        return [column]
    values = sorted({value for value in column.tolist() if value is not None})
    unknown = np.array([value is None for value in column.tolist()])
    shown = values[1:] if len(values) == 2 else values
    return [np.where(unknown, np.nan, column == value) for value in shown]


def join(parts: Sequence[Any]) -> Any:  # noqa: ANN401
    """Return columns as vectors [N, C], or sequences of N samples [T, C]."""
    if isinstance(parts[0], np.ndarray):
        return np.stack([np.asarray(part, dtype=np.float32) for part in parts], axis=1)
    return [np.stack(channels, axis=1) for channels in zip(*parts, strict=True)]


def read_csv(path: Path, delimiter: str = ",", quote: str = '"') -> Columns:
    """Read a table of comma-separated values; an empty cell or NA is unknown."""
    from pyarrow import csv

    table = csv.read_csv(
        path,
        parse_options=csv.ParseOptions(delimiter=delimiter, quote_char=quote),
        convert_options=csv.ConvertOptions(strings_can_be_null=True),
    )
    return {
        name: table[name].to_numpy(zero_copy_only=False) for name in table.column_names
    }


def read_arff(path: Path) -> Columns:
    """Read a table in ARFF; nominal columns become texts."""
    from scipy.io import arff

    table, _ = arff.loadarff(path)
    return {
        name: np.char.decode(table[name]) if table[name].dtype.kind == "S" else column
        for name, column in ((name, table[name]) for name in table.dtype.names)
    }


def read_ts(folder: Path) -> tuple[list[list[np.ndarray]], np.ndarray]:
    """Read both parts of a set of series, training part first.

    Returns:
        The channels of every sample, each [T], and the classes [N].
    """
    channels, classes = [], []
    for part in ("TRAIN", "TEST"):
        text = (folder / f"{folder.name}_{part}.ts").read_text("utf-8")
        data = text.partition("@data")[2]
        for line in filter(None, map(str.strip, data.splitlines())):
            *series, label = line.split(":")
            channels.append([np.array(s.split(","), dtype=np.float32) for s in series])
            classes.append(label)
    return channels, np.array(classes)


def csv_of(path: str, **options: str) -> Callable[[Path], Columns]:
    """Return a reader of one table of comma-separated values."""
    return lambda folder: read_csv(folder / path, **options)


def arff_of(path: str) -> Callable[[Path], Columns]:
    """Return a reader of one table in ARFF."""
    return lambda folder: read_arff(folder / path)


def steps_of(name: str) -> Callable[[Path], Columns]:
    """Return a reader of series of one length and channel: one column a step."""

    def read(folder: Path) -> Columns:
        series, classes = read_ts(folder / "datasets" / "data" / name)
        steps = np.stack([channels[0] for channels in series])
        return {"class": classes} | {str(i): x for i, x in enumerate(steps.T)}

    return read


def channels_of(name: str) -> Callable[[Path], Columns]:
    """Return a reader of series of several channels: one column a channel."""

    def read(folder: Path) -> Columns:
        series, classes = read_ts(folder / "datasets" / "data" / name)
        columns = map(list, zip(*series, strict=True))
        return {"class": classes} | {str(i): x for i, x in enumerate(columns)}

    return read


def blocks(num: int, names: Sequence[str], stem: str) -> dict[str, tuple[str, ...]]:
    """Cut columns, in the order of the file, into blocks of equal size."""
    cut = np.array_split(np.array(names), num)
    return {f"{stem}_{i}": tuple(x.tolist()) for i, x in enumerate(cut, start=1)}


def numbered(count: int) -> list[str]:
    """Return the names of columns that only have numbers."""
    return [str(i) for i in range(count)]


def _wine(_: Path) -> Columns:
    from sklearn.datasets import load_wine

    return _bunch(load_wine())


def _wdbc(_: Path) -> Columns:
    from sklearn.datasets import load_breast_cancer

    return _bunch(load_breast_cancer())


def _bunch(found: Any) -> Columns:  # noqa: ANN401
    columns = dict(zip(found.feature_names, found.data.T, strict=True))
    return columns | {"class": found.target_names[found.target]}


def _khan(folder: Path) -> Columns:
    """Join both parts of the genes; the official split is not used."""
    parts = [read_csv(folder / "data" / f"Khan_x{part}.csv") for part in _KHAN_PARTS]
    genes = zip(*(part.values() for part in parts), strict=True)
    tumours = [read_csv(folder / "data" / f"Khan_y{p}.csv")["x"] for p in _KHAN_PARTS]
    columns: Columns = {str(i): np.concatenate(g) for i, g in enumerate(genes)}
    return columns | {"tumour": np.concatenate(tumours)}


def _metastasis(folder: Path) -> Columns:
    """Name the genes by their place: the file names probes."""
    path = "datasets/data/breast_cancer_GSE7390-metastasis.arff"
    columns = read_arff(folder / path)
    clinical = ("age", "size", "grade", "er", "t.tdm", "e.tdm")
    genes = [values for name, values in columns.items() if name not in clinical]
    return columns | {str(i): values for i, values in enumerate(genes)}


def _mode_choice(folder: Path) -> Columns:
    """Lay the four lines of each traveller side by side; the chosen one is the class.

    A car is not waited for: that column is zero for everyone and left out.
    """
    path = folder / "datasets" / "modechoice" / "modechoice.csv"
    long = {k: v.reshape(-1, 4) for k, v in read_csv(path, delimiter=";").items()}
    columns: Columns = {
        f"{term}_{mode}": long[term][:, i]
        for term in ("ttme", "invc", "invt", "gc")
        for i, mode in enumerate(_MODES)
    }
    columns |= {name: long[name][:, 0] for name in ("hinc", "psize")}
    return columns | {"mode": np.array(_MODES)[long["choice"].argmax(axis=1)]}


def _fair(folder: Path) -> Columns:
    columns = read_csv(folder / "datasets" / "fair" / "fair.csv")
    return columns | {"any": (columns["affairs"] > 0).astype(int)}


_KHAN_PARTS = ("train", "test")
_MODES = ("air", "train", "bus", "car")
_CELLS = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave points",
    "symmetry",
    "fractal dimension",
)

SETS = {
    "khan": UnseenSet(  # four kinds of tumour; four equal blocks of genes
        "ISLP", "ISLP", _khan, "tumour", blocks(4, numbered(2308), "genes"), 83
    ),
    "brain": UnseenSet(  # dead at the end of the study; how long it took is left out
        "ISLP",
        "ISLP",
        csv_of("data/BrainCancer.csv"),
        "status",
        {
            "patient": ("sex", "ki"),
            "tumour": ("diagnosis", "gtv"),
            "treatment": ("loc", "stereo"),
        },
        88,
    ),
    "wine": UnseenSet(
        "scikit-learn",
        "sklearn",
        _wine,
        "class",
        {
            "body": ("alcohol", "malic_acid", "proline"),
            "minerals": ("ash", "alcalinity_of_ash", "magnesium"),
            "phenols": (
                "total_phenols",
                "flavanoids",
                "nonflavanoid_phenols",
                "proanthocyanins",
            ),
            "colour": ("color_intensity", "hue", "od280/od315_of_diluted_wines"),
        },
        178,
    ),
    "metastasis": UnseenSet(  # e.tdm; its time is left out; equal blocks of genes
        "scikit-survival",
        "sksurv",
        _metastasis,
        "e.tdm",
        {
            "clinical": ("age", "size", "grade", "er"),
            **blocks(3, numbered(76), "genes"),
        },
        198,
    ),
    "gun_point": UnseenSet(  # four equal stretches of 150 steps
        "aeon",
        "aeon",
        steps_of("GunPoint"),
        "class",
        blocks(4, numbered(150), "stretch"),
        200,
    ),
    "mode_choice": UnseenSet(
        "statsmodels",
        "statsmodels",
        _mode_choice,
        "mode",
        {
            "waiting": ("ttme_air", "ttme_train", "ttme_bus"),
            "ride": tuple(f"invt_{mode}" for mode in _MODES),
            "cost": tuple(
                f"{term}_{mode}" for term in ("invc", "gc") for mode in _MODES
            ),
            "traveller": ("hinc", "psize"),
        },
        210,
    ),
    "arrow_head": UnseenSet(  # four equal stretches of 251 steps of an outline
        "aeon",
        "aeon",
        steps_of("ArrowHead"),
        "class",
        blocks(4, numbered(251), "stretch"),
        211,
    ),
    "whas500": UnseenSet(  # dead at the last look; both times are left out
        "scikit-survival",
        "sksurv",
        arff_of("datasets/data/whas500.arff"),
        "fstat",
        {
            "patient": ("age", "gender", "bmi"),
            "vitals": ("hr", "sysbp", "diasbp"),
            "infarct": ("cvd", "miord", "mitype"),
            "complications": ("afb", "sho", "chf", "av3"),
        },
        500,
    ),
    "wdbc": UnseenSet(
        "scikit-learn",
        "sklearn",
        _wdbc,
        "class",
        {
            "mean": tuple(f"mean {name}" for name in _CELLS),
            "error": tuple(f"{name} error" for name in _CELLS),
            "worst": tuple(f"worst {name}" for name in _CELLS),
        },
        569,
    ),
    "vowels": UnseenSet(  # nine speakers; sequences of 12 coefficients, four a modality
        "aeon",
        "aeon",
        channels_of("JapaneseVowels"),
        "class",
        blocks(3, numbered(12), "coefficients"),
        640,
    ),
    "gbsg2": UnseenSet(  # cens: a recurrence was seen; its time is left out
        "scikit-survival",
        "sksurv",
        arff_of("datasets/data/GBSG2.arff"),
        "cens",
        {
            "patient": ("age", "menostat", "horTh"),
            "tumour": ("tsize", "tgrade", "pnodes"),
            "receptors": ("progrec", "estrec"),
        },
        686,
    ),
    "anes96": UnseenSet(
        "statsmodels",
        "statsmodels",
        csv_of("datasets/anes96/anes96.csv", delimiter="\t", quote="'"),
        "vote",
        {
            "person": ("age", "educ", "income", "popul"),
            "views": ("selfLR", "ClinLR", "DoleLR"),
            "party": ("PID",),
            "media": ("TVnews",),
        },
        944,
    ),
    "juice": UnseenSet(  # OJ: which of two brands was bought
        "ISLP",
        "ISLP",
        csv_of("data/OJ.csv"),
        "Purchase",
        {
            "prices": (
                "PriceCH",
                "PriceMM",
                "SalePriceCH",
                "SalePriceMM",
                "PriceDiff",
                "ListPriceDiff",
            ),
            "offers": (
                "DiscCH",
                "DiscMM",
                "SpecialCH",
                "SpecialMM",
                "PctDiscCH",
                "PctDiscMM",
            ),
            "loyalty": ("LoyalCH",),
            "visit": ("WeekofPurchase", "StoreID", "Store7", "STORE"),
        },
        1070,
    ),
    "italy_power": UnseenSet(  # four times six hours of a day; the half of the year
        "aeon",
        "aeon",
        steps_of("ItalyPowerDemand"),
        "class",
        blocks(4, numbered(24), "hours"),
        1096,
    ),
    "fair": UnseenSet(  # whether there was any affair
        "statsmodels",
        "statsmodels",
        _fair,
        "any",
        {
            "marriage": ("rate_marriage", "yrs_married", "children"),
            "person": ("age", "religious", "educ"),
            "work": ("occupation", "occupation_husb"),
        },
        6366,
    ),
}
