"""`import mmgraph` is cheap and pulls no heavy library; the wheel is complete."""

import json
import os
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
    result = json.loads(done.stdout)
    return result["seconds"], result["added"]


@pytest.mark.slow
def test_import_adds_little_time_and_no_heavy_library(tmp_path: Path) -> None:
    probes = [_probe(tmp_path) for _ in range(3)]
    assert min(seconds for seconds, _ in probes) < 0.3
    added = probes[0][1]
    assert "mmgraph" in added
    assert not set(added) & set(HEAVY)


@pytest.mark.slow
def test_loading_a_model_does_not_import_the_compiler(tmp_path: Path) -> None:
    folder = ROOT / "tests" / "fixtures" / "0.2" / "classifier"
    program = (
        "import sys\n"
        "import mmgraph\n"
        f"mmgraph.FusionClassifier.from_pretrained({str(folder)!r})\n"
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'mmgraph' has no attribute 'FusionX'"):
        _ = mmgraph.FusionX


def test_dir_lists_the_public_names() -> None:
    assert set(mmgraph.__all__) <= set(dir(mmgraph))


def test_typed_marker_is_beside_the_package() -> None:
    assert (Path(mmgraph.__file__).parent / "py.typed").is_file()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and unpack it into a folder that holds nothing else."""
    built, unpacked = (tmp_path_factory.mktemp(name) for name in ("built", "unpacked"))
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", built],
        check=True,
        capture_output=True,
        cwd=ROOT,
    )
    (path,) = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(unpacked)
    return unpacked


@pytest.mark.slow
def test_wheel_holds_the_package_and_its_data(wheel: Path) -> None:
    names = {
        path.relative_to(wheel).as_posix()
        for path in wheel.rglob("*")
        if path.is_file() and ".dist-info" not in str(path)
    }
    folder = ROOT / "datasets"
    data = [*folder.glob("*/card.md"), *folder.glob("*/*.parquet")]
    expected = {f"mmgraph/_datasets/{p.relative_to(folder).as_posix()}" for p in data}
    package = ROOT / "mmgraph"
    files = [*package.rglob("*.py"), *package.glob("templates/*.html")]
    files += package.glob("native/*")  # sources and compiled kernels
    expected |= {p.relative_to(ROOT).as_posix() for p in files if p.is_file()}
    assert names == expected | {"mmgraph/py.typed"}


@pytest.mark.slow
def test_wheel_loads_a_shipped_dataset_in_an_empty_folder(
    wheel: Path, tmp_path: Path
) -> None:
    program = (
        "import mmgraph\n"
        "data = mmgraph.load_dataset('heart')\n"
        "print(mmgraph.__file__, len(data), sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(wheel)},
    )
    assert done.returncode == 0, done.stderr
    home, num_samples = done.stdout.split("\n")[:2]
    assert Path(home).is_relative_to(wheel)
    assert int(num_samples) > 0


COMMAND_PROBE = """
import sys, time
from contextlib import suppress
from mmgraph.cli import main
with suppress(SystemExit):
    main()
names = {name.partition(".")[0] for name in sys.modules}
print(*sorted(names), file=sys.stderr)
print(time.process_time(), file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("train", "--help"),
        ("predict", "nothing", "nothing.csv"),
        ("evaluate", "nothing", "nothing.csv"),
        ("prdict",),
    ],
)
def test_help_and_errors_load_no_library(arguments: tuple[str, ...]) -> None:
    seconds = []
    for _ in range(3):
        command = [sys.executable, "-c", COMMAND_PROBE, *arguments]
        done = subprocess.run(command, capture_output=True, check=True, text=True)
        *message, names, used = done.stderr.splitlines()
        assert not {"numpy", "torch", *HEAVY} & set(names.split())
        assert ("--help" in arguments) == (not message)
        seconds.append(float(used))
        if seconds[-1] < 0.6:
            break
    assert min(seconds) < 0.6
