"""`import mmgraph` is cheap and pulls no heavy library; the wheel is complete."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mmgraph

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    "matplotlib",
    "networkx",
    "pandas",
    "pyarrow",
    "sklearn",
    "torch_geometric",
    "torchmetrics",
    "torchvision",
    "transformers",
)
PROBE = """
import json, sys, time
import torch
before = set(sys.modules)
start = time.process_time()
import mmgraph
seconds = time.process_time() - start
added = sorted({name.partition(".")[0] for name in set(sys.modules) - before})
print(json.dumps({"seconds": seconds, "added": added}))
"""


def _probe(folder: Path) -> tuple[float, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        capture_output=True,
        check=True,
        text=True,
        cwd=folder,
    )
    answer = json.loads(done.stdout)
    return answer["seconds"], answer["added"]


def test_import_adds_little_time_and_no_heavy_library(tmp_path: Path) -> None:
    probes = [_probe(tmp_path) for _ in range(3)]
    assert min(seconds for seconds, _ in probes) < 0.3
    added = probes[0][1]
    assert "mmgraph" in added
    assert not set(added) & set(HEAVY)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'mmgraph' has no attribute 'FusionX'"):
        _ = mmgraph.FusionX


def test_dir_lists_the_public_names() -> None:
    assert set(mmgraph.__all__) <= set(dir(mmgraph))


def test_typed_marker_is_beside_the_package() -> None:
    assert (Path(mmgraph.__file__).parent / "py.typed").is_file()


@pytest.mark.slow
def test_wheel_holds_the_package_and_its_data(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    folder = ROOT / "datasets"
    data = [*folder.glob("*/card.md"), *folder.glob("*/*.parquet")]
    code = [p for p in (ROOT / "mmgraph").rglob("*.py") if "_datasets" not in p.parts]
    expected = {f"mmgraph/_datasets/{path.relative_to(folder)}" for path in data}
    expected |= {str(path.relative_to(ROOT)) for path in code}
    assert names == expected | {"mmgraph/py.typed"}
