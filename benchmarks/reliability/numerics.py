"""Rows 4, 6 to 11, 13 and 14: code that runs, invariants, reproducibility, saving."""

import ctypes
import gc
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mmgraph as mg
from mmgraph.errors import MMGraphError
from reliability import audit, invariants
from reliability.children import run_forked
from reliability.fuzz import shared_loaders
from reliability.row import Row
from reliability.source_check import dangerous_uses

FLOAT32, FLOAT64, ONNX = 1e-6, 1e-12, 1e-5
SHARE = 11  # quick form: every eleventh combination of schema, task and options
SLOPE = 1.0  # megabytes per 10 000 requests
SMALL: dict[str, Any] = {
    "epochs": 2,
    "members": 2,
    "hidden_channels": 8,
    "num_heads": 2,
    "experts": ("linear", "spline"),
    "verbose": False,
}


def row_04(full: bool) -> Row:
    """Uses of pickle, eval and the like, and events while files are loaded."""
    uses = dangerous_uses()
    status, text = run_forked(audit.main)
    if status:
        raise RuntimeError(f"the audit of loaders ended with {status}")
    *events, last = text.split("\n")[:-1]
    events = [event for event in events if event]
    figure = f"{len(uses)} uses, {len(events)} events in {last.split()[-1]} loaders"
    found = "; ".join([*uses, *events][:3])
    return Row(
        4,
        "pickle, eval, exec, yaml.load in the code; audit hook over loaders",
        "0 uses, 0 events",
        f"{figure}: {found}" if found else figure,
        not uses and not events,
    )


def row_06(full: bool) -> Row:
    """Contents of masked slots, over heads, losses, layouts and types."""
    different, tried = invariants.differing_contents(500 if full else 20)
    return Row(
        6,
        "masked slots with 0, 1e30, NaN, infinity, denormal numbers",
        "outputs, losses and gradients finite and bit-equal",
        f"{different} of {tried} examples differ, all masks of up to 5 modalities",
        different == 0,
    )


def row_07(full: bool) -> Row:
    """Batch mates and padding."""
    sizes = (1, 2, 3, 5, 8, 17, 33, 64) if full else (17,)
    step = 1 if full else SHARE
    single = invariants.change_by_batch_mates(torch.float32, sizes, step)
    double = invariants.change_by_batch_mates(torch.float64, sizes, step)
    return Row(
        7,
        "batch mates and padding",
        f"at most {FLOAT32:g} in float32, {FLOAT64:g} in float64",
        f"{single:.1e} and {double:.1e}, batches of {', '.join(map(str, sizes))}",
        single <= FLOAT32 and double <= FLOAT64,
    )


def row_08(full: bool) -> Row:
    """Permutations of samples, modalities and nodes."""
    change = invariants.change_by_order(torch.float64, 1 if full else SHARE)
    return Row(
        8,
        "order of samples, modalities and nodes",
        f"at most {FLOAT64:g} in float64",
        f"{change:.1e}",
        change <= FLOAT64,
    )


def row_09(full: bool) -> Row:
    """Edge inputs: a finite output or an error of mmgraph."""
    kinds = (mg.FusionClassifier, mg.FusionRegressor)
    bad, total = [], 0
    for kind in kinds if full else kinds[:1]:
        for name, call in edge_inputs(kind):
            total += 1
            fault = _fault(call)
            if fault:
                bad.append(f"{name}: {fault}")
    figure = f"{len(bad)} of {total} inputs fail"
    return Row(
        9,
        "edge inputs of fit and predict",
        "a finite output or a named error",
        f"{figure}: {'; '.join(bad[:3])}" if bad else figure,
        not bad and total >= 40,
    )


def row_10(full: bool) -> Row:
    """Equal seeds, numbers of threads, and fits in workers."""
    data = make_data(80)
    count = 10 if full else 2

    def fit(_: int) -> str:
        return fingerprint(mg.FusionClassifier(**SMALL, seed=1).fit(data))

    state = torch.get_rng_state()
    hashes = {fit(i) for i in range(count)}
    threads = torch.get_num_threads()
    for number in (1, 2):
        torch.set_num_threads(number)
        hashes.add(fit(0))
    torch.set_num_threads(threads)
    with ThreadPoolExecutor(2) as workers:
        hashes |= set(workers.map(fit, range(2)))
    untouched = torch.equal(torch.get_rng_state(), state)
    return Row(
        10,
        f"one seed {count} times, 1 and 2 threads, 2 workers",
        "equal hashes; the global random state untouched",
        f"{len(hashes)} hashes; state {'untouched' if untouched else 'changed'}",
        len(hashes) == 1 and untouched,
    )


def row_11(full: bool) -> Row:
    """Memory of ragged requests to one loaded model."""
    num = 100_000 if full else 120
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        make_model(sequences=True).save_pretrained(folder)
        model = mg.FusionClassifier.from_pretrained(folder)
    every, used = num // (20 if full else 6), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(num):
            length = int(rng.integers(0, 60))
            model.predict_proba(
                {"a": rng.normal(size=2), "s": rng.normal(size=(length, 2))}
            )
            if number % every == every - 1:
                used.append(resident_megabytes())
    later = np.array(used[len(used) // 2 :])
    # a step of the allocator must not count as a slope: medians of the two quarters
    first, last = np.array_split(later, 2)
    growth = float(np.median(last) - np.median(first))
    slope = growth / (len(first) * every) * 10_000
    reached = slope < SLOPE if full else growth < SLOPE
    return Row(
        11,
        f"{num} ragged requests to one loaded model",
        f"under {SLOPE:g} MB per 10 000 requests",
        f"{growth:+.2f} MB over {len(first) * every} requests, {slope:+.2f} per 10 000",
        reached,
    )


# These compare float32 states near zero to 1e-7; others compare to 1e-6.
TO_THE_LAST_BIT = (
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
)
EXPECTED_FAILURES = {
    "check_sample_weight_equivalence_on_dense_data": "copies of a sample are in "
    "several folds of the stacked ensemble, a sample of weight 2 is in one",
    **dict.fromkeys(TO_THE_LAST_BIT, "float32 states are compared to 1e-7, not 1e-6"),
}


def row_13(full: bool) -> Row:
    """The estimator checks of scikit-learn."""
    from sklearn.utils.estimator_checks import estimator_checks_generator

    counts = {"passed": 0, "failed": 0, "expected": 0}
    failed: list[str] = []
    options = {**SMALL, "epochs": 1, "members": 1, "experts": ("linear",)}
    for kind in (mg.FusionClassifier, mg.FusionRegressor):
        checks = list(estimator_checks_generator(kind(**options)))
        for estimator, check in checks if full else checks[:: len(checks) // 5]:
            name = check.func.__name__
            outcome = _outcome(check, estimator)
            if outcome == "failed" and name in EXPECTED_FAILURES:
                outcome = "expected"
            elif outcome == "failed":
                failed.append(f"{kind.__name__} {name}")
            counts[outcome] += 1
    text = ", ".join(f"{number} {name}" for name, number in counts.items())
    figure = f"{text}; {len(EXPECTED_FAILURES)} exceptions with a reason"
    return Row(
        13,
        "scikit-learn's checks of classifier and regressor",
        "0 failures; each exception has a reason",
        f"{figure}: {', '.join(failed[:3])}" if failed else figure,
        not failed,
    )


def row_14(full: bool) -> Row:
    """Saving and loading, torch.export, ONNX."""
    from mmgraph import serving

    options = {} if full else {"members": 1, "experts": ("linear",)}
    model, data = make_model(**options), make_data(40)
    expected = model.predict_proba(data)
    changes = {}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        loaded = type(model).from_pretrained(folder)
        changes["saved"] = float(np.abs(loaded.predict_proba(data) - expected).max())
        for ending in ("pt2", "onnx") if full else ("pt2",):
            path = Path(folder) / f"model.{ending}"
            serving.export(model, path)
            predicted = _predict_exported(path, data)
            changes[ending] = float(np.abs(predicted - expected).max())
    if not full:  # a model that another row has exported
        [exported] = [x for x in shared_loaders() if x.name == "exported model"]
        clf = mg.FusionClassifier.from_pretrained(exported.path.parent / "classifier")
        labs = np.random.default_rng(1).normal(size=(40, 3))
        some = mg.MultimodalData.from_arrays({"labs": labs})
        onnx = serving.load(exported.path).predict_proba(some)
        changes["onnx"] = float(np.abs(onnx - clf.predict_proba(some)).max())
    figure = ", ".join(f"{name} {change:.1e}" for name, change in changes.items())
    reached = changes["saved"] == 0 and max(changes.values()) <= ONNX
    return Row(
        14,
        "saved and loaded, torch.export, ONNX",
        f"differences 0, {FLOAT32:g} (float32), {ONNX:g}",
        figure,
        reached and changes["pt2"] <= FLOAT32,
    )


# Parts of the rows


def make_data(num: int, *, sequences: bool = False) -> mg.MultimodalData:
    """Return samples of two or three modalities, a fifth of them missing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(num, 4))
    present = rng.random((num, 2)) > 0.2
    arrays: dict[str, Any] = {"a": x[:, :2].copy(), "b": x[:, 2:].copy()}
    for m, name in enumerate(arrays):
        arrays[name][~present[:, m]] = np.nan
    if sequences:
        arrays["s"] = [rng.normal(size=(3 + i % 9, 2)) for i in range(num)]
    y = (x[:, 0] * x[:, 2] > 0).astype(int)
    return mg.MultimodalData.from_arrays(arrays, y=y)


def make_model(*, sequences: bool = False, **options: Any) -> mg.FusionClassifier:  # noqa: ANN401
    """Return a fitted classifier whose graph networks count."""
    data = make_data(120, sequences=sequences)
    model = mg.FusionClassifier(**{**SMALL, **options}).fit(data)
    model.model_.beta.fill_(0.7)
    return model


def fingerprint(model: Any) -> str:  # noqa: ANN401
    """Return a hash of all tensors of a fitted model."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.model_.state_dict().items()):
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


def resident_megabytes() -> float:
    """Return the resident memory of this process, without freed memory."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text("utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _outcome(check: Callable[..., None], estimator: object) -> str:
    from unittest import SkipTest

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check(estimator)
    except SkipTest:
        return "passed"
    except Exception:  # any failure of a check counts
        return "failed"
    return "passed"


def _predict_exported(path: Path, data: mg.MultimodalData) -> np.ndarray:
    from mmgraph import serving

    if path.suffix == ".onnx":
        return serving.load(path).predict_proba(data)
    tensors = [torch.from_numpy(_table(column)) for column in data.columns.values()]
    result: np.ndarray = torch.export.load(path).module()(*tensors).detach().numpy()
    return result


def _table(column: Any) -> np.ndarray:  # noqa: ANN401
    """Return values ``[N, C]``, NaN in the rows of missing samples."""
    table = np.full((len(column), column.values.shape[1]), np.nan, dtype=np.float32)
    table[column.sample] = column.values
    return table


def _fault(call: Callable[[], Any]) -> str:
    """Return what is wrong with the outcome of a call, or an empty string."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            output = call()
        except MMGraphError as error:
            return "" if str(error) and "\n" not in str(error) else "no message"
        except Exception as error:  # any other error is a fault
            return f"{type(error).__name__}: {error}"
    return "" if np.isfinite(np.asarray(output, dtype=float)).all() else "not finite"


def edge_inputs(kind: type[Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield unusual inputs of fit and predict: a name and a call with an output."""
    from_arrays = mg.MultimodalData.from_arrays
    options = {**SMALL, "epochs": 1, "members": 1, "experts": ("linear",)}
    data = make_data(40, sequences=True)
    model = kind(**options).fit(data)
    nan, inf = np.nan, np.inf

    def predict(arrays: Any, **given: Any) -> Callable[[], Any]:  # noqa: ANN401
        return lambda: model.predict(from_arrays(arrays, **given))

    def fit(arrays: Any, y: Any, **given: Any) -> Callable[[], Any]:  # noqa: ANN401
        def call() -> Any:  # noqa: ANN401
            fitted = kind(**options).fit(from_arrays(arrays, **given), y)
            return fitted.predict(data.select(["a"]))

        return call

    a, s, rng = np.ones((3, 2)), np.ones((3, 5, 2)), np.random.default_rng(0)
    yield "nothing observed", lambda: model.predict(data.mask(~data.present & False))
    yield "no samples", lambda: model.predict(data[:0])
    yield "one sample", lambda: model.predict(data[:1])
    yield "empty dict", lambda: model.predict({})
    yield "dict of None", lambda: model.predict({"a": None})
    yield "only a", predict({"a": a})
    yield "only sequences", predict({"s": s})
    yield "all NaN", predict({"a": nan * a})
    yield "NaN in a cell", predict({"a": np.where(np.eye(3, 2) > 0, nan, a)})
    yield "infinity in a cell", predict({"a": np.where(np.eye(3, 2) > 0, inf, a)})
    for value in (1e30, -1e30, 3e38, 1e-42, 1e300, -0.0):
        yield f"cells of {value:g}", predict({"a": value * a})
        yield f"steps of {value:g}", predict({"s": value * s})
    yield "sequence of one step", predict({"s": [np.ones((1, 2))]})
    yield "sequence of no step", predict({"s": [np.empty((0, 2)), np.ones((2, 2))]})
    yield "long sequence", predict({"s": [rng.normal(size=(20_000, 2))]})
    yield "ragged", predict({"s": [np.ones((n, 2)) for n in (1, 50, 3)]})
    yield "sequence of NaN", predict({"s": [nan * np.ones((4, 2)), np.ones((4, 2))]})
    yield "unknown modality", predict({"z": a})
    yield "too many channels", predict({"a": np.ones((3, 4))})
    yield "no channel", predict({"a": np.ones((3, 0))})
    yield "strings", predict({"a": ["x", "y", "z"]})
    yield "complex numbers", predict({"a": 1j * a})
    yield "booleans", predict({"a": a > 0})
    yield "integers", predict({"a": a.astype(np.int64)})
    yield "float16", predict({"a": a.astype(np.float16)})
    yield "big-endian", predict({"a": a.astype(">f8")})
    yield "duplicate ids", predict({"a": a}, ids=["x", "x", "y"])
    yield "repeated samples", lambda: model.predict(data[[0, 0, 0]])
    yield "different lengths", predict({"a": a, "b": np.ones((4, 2))})
    yield "an array", lambda: model.predict(a)
    yield "None", lambda: model.predict(None)
    yield "one class", fit({"a": rng.normal(size=(20, 2))}, np.zeros(20))
    yield "one training sample", fit({"a": np.ones((1, 2))}, [1])
    yield "two training samples", fit({"a": np.eye(2)}, [0, 1])
    yield "constant features", fit({"a": np.ones((20, 2))}, np.arange(20) % 2)
    yield "no training samples", fit({"a": np.ones((0, 2))}, [])
    yield "no known label", fit({"a": np.ones((4, 2))}, [nan] * 4)
    yield "too few labels", fit({"a": np.ones((4, 2))}, [0, 1])
    yield "labels of infinity", fit({"a": np.ones((4, 2))}, [0, 1, inf, 1])
    yield (
        "a class of one sample",
        fit({"a": rng.normal(size=(20, 2))}, (np.arange(20) == 3).astype(int)),
    )
    yield (
        "modality without values",
        fit(
            {"a": rng.normal(size=(20, 2)), "e": np.full((20, 3), nan)},
            np.arange(20) % 2,
        ),
    )
    yield (
        "extreme features",
        fit({"a": 1e30 * rng.normal(size=(20, 2))}, np.arange(20) % 2),
    )
    yield (
        "more features than samples",
        fit(
            {"a": rng.normal(size=(6, 2)), "w": rng.normal(size=(6, 300))},
            np.arange(6) % 2,
        ),
    )
    yield (
        "one group",
        fit({"a": rng.normal(size=(20, 2))}, np.arange(20) % 2, groups=["x"] * 20),
    )


def main() -> None:
    """Print the quick form of all rows as JSON lines."""
    for name, function in sorted(globals().items()):
        if name.startswith("row_"):
            row = function(full=False)
            print(json.dumps([row.number, row.reached, row.figure]), flush=True)


if __name__ == "__main__":
    main()
