"""Measure estimates of the offset and the rate of clocks with known truth.

``python benchmarks/clocks.py inertial`` shifts the accelerometer of UTD-MHAD against
the gyroscope of the same device by up to half a second. Odd subjects are the reference;
recordings of even subjects lose up to half a second at each end, independently for both
modalities, so that ends contain no information. It prints errors and coverage of
intervals for single recordings and for pools of 20. ``lips`` does the same with lips
and voice of grid_av, whole clips, the official split.

``python benchmarks/clocks.py rate`` estimates the ratio of the clocks of sensor and
camera of UTD-MHAD from their raw recordings at the nominal rates of 50 and 30 Hz,
without reference.

``python benchmarks/clocks.py classifier`` trains a classifier of joint motions on
accelerometer and gyroscope of UTD-MHAD, and shifts the accelerometer of each test
recording by up to half a second: accuracy with recorded times, with shifted ones, and
with those corrected by the estimated offset of the recording.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

import mmgraph as mg
from mmgraph.alignment import estimate_offset
from mmgraph.benchmark.provenance import read_commit
from mmgraph.data.column import Column, lengths_to_offsets
from mmgraph.datasets.load import dataset_card, find_mirror
from mmgraph.datasets.mirrors import from_mirror

PAIRS = {"inertial": ("acc", "gyro"), "lips": ("lips", "voice")}
TOLERANCES = {"inertial": 0.02, "lips": 0.04}
LARGEST = 0.5  # seconds of a shift
CROPPED = 0.5  # seconds at most at each end
POOL = 20
SENSOR_RATE, CAMERA_RATE = 50.0, 30.0  # Hz, nominal


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/clocks.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in PAIRS:
        command = commands.add_parser(name, help="errors under a known shift")
        command.add_argument("--pools", type=int, default=100)
        command.add_argument("--seed", type=int, default=0)
    commands.add_parser("rate", help="ratio of the clocks of sensor and camera")
    command = commands.add_parser("classifier", help="accuracy under a random shift")
    command.add_argument("--draws", type=int, default=3)
    return parser.parse_args(arguments)


def cropped(column: Column, rng: np.random.Generator) -> Column:
    """Return a column without up to half a second at each end of each sample."""
    ends = rng.uniform(0, CROPPED, size=(2, len(column)))
    first = column.time[column.offsets[:-1]] + ends[0]
    last = column.time[column.offsets[1:] - 1] - ends[1]
    inside = (column.time >= first[column.sample]) & (
        column.time <= last[column.sample]
    )
    lengths = np.bincount(column.sample[inside], minlength=len(column))
    return replace(
        column,
        values=column.values[inside],
        time=column.time[inside],
        offsets=lengths_to_offsets(lengths),
    )


def shifted(
    data: mg.MultimodalData, name: str, seconds: NDArray[np.float64]
) -> mg.MultimodalData:
    """Return data whose modality has other times in each sample."""
    column = data.columns[name]
    moved = replace(column, time=column.time + seconds[column.sample])
    return replace(data, columns={**data.columns, name: moved})


def errors(command: str, pools: int, seed: int) -> list[str]:
    """Return the lines of a table of errors and coverage."""
    a, b = PAIRS[command]
    data = load(command)
    train, test = (
        data[np.flatnonzero(data.split_name == each)] for each in ("train", "test")
    )
    rng = np.random.default_rng(seed)
    crops = {name: cropped(test.columns[name], rng) for name in (a, b)}
    test = replace(test, columns={**test.columns, **crops})
    truth = rng.uniform(-LARGEST, LARGEST, len(test))
    start = time.process_time()
    single = estimate_offset(
        shifted(test, a, truth), a, b, reference=train, per="sample"
    )
    seconds = [time.process_time() - start]
    found = [(single.seconds - truth, single.low - truth, single.high - truth)]
    start, pooled = time.process_time(), []
    for _ in range(pools):
        rows = np.sort(rng.choice(len(test), POOL, replace=False))
        shift = rng.uniform(-LARGEST, LARGEST)
        moved = shifted(test[rows], a, np.full(POOL, shift))
        each = estimate_offset(moved, a, b, reference=train)
        pooled.append((each.seconds - shift, each.low - shift, each.high - shift))
    if pooled:
        found.append(tuple(np.array(pooled).T))
        seconds.append((time.process_time() - start) / pools)
    limit = TOLERANCES[command]
    names = (f"{len(test)} recordings", f"{pools} pools of {POOL}")
    lines = [
        f"{command}: {a} against {b}, {len(train)} reference recordings",
        "",
        f"| | median error, ms | within {1000 * limit:.0f} ms | coverage of 90%"
        " intervals | median width, ms | processor seconds of a call |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, (error, low, high), each in zip(names, found, seconds, strict=False):
        error, inside = np.abs(error), (low <= 0) & (high >= 0)
        width = 1000 * np.median(high - low)
        lines.append(
            f"| {name} | {1000 * np.median(error):.1f} | {(error <= limit).mean():.3f}"
            f" | {inside.mean():.3f} | {width:.1f} | {each:.1f} |"
        )
    return lines


def load(command: str) -> mg.MultimodalData:
    """Load the data of a command."""
    if command == "inertial":
        return mg.load_dataset("utd_mhad")
    card = dataset_card("grid_av")
    return from_mirror("grid_av_whole", find_mirror(card))


def rate() -> list[str]:
    """Return the ratio of the clocks of sensor and camera, and that of durations."""
    path = find_mirror(dataset_card("utd_mhad"))
    with np.load(path, allow_pickle=False) as file:
        raw = {name: file[name] for name in file.files}
    parts, times = {}, {}
    for name, offsets, hertz in (
        ("acc", raw["inertial_offsets"], SENSOR_RATE),
        ("gyro", raw["inertial_offsets"], SENSOR_RATE),
        ("skeleton", raw["skeleton_offsets"], CAMERA_RATE),
    ):
        parts[name] = np.split(raw[name].astype(np.float32), offsets[1:-1])
        times[name] = [np.arange(len(x)) / hertz for x in parts[name]]
    data = mg.MultimodalData.from_arrays(parts, times=times)
    last = [np.array([t[-1] for t in times[name]]) for name in ("acc", "skeleton")]
    lines = [
        f"durations of acc and skeleton: median ratio"
        f" {np.median(last[0] / last[1]):.3f}",
        "",
        "| sensor | rate | offset, s | score | processor seconds |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in ("acc", "gyro"):
        start = time.process_time()
        found = estimate_offset(data, "skeleton", name, rate=True)
        spent = time.process_time() - start
        lines.append(
            f"| {name} | {found.rate:.3f} | {found.seconds:.3f} [{found.low:.3f},"
            f" {found.high:.3f}] | {found.score:.1f} | {spent:.0f} |"
        )
    return lines


def motion_schema(data: mg.MultimodalData) -> mg.Schema:
    """Return a schema whose nodes of the gyroscope read the acceleration near them."""
    kept = [m for m in data.schema.modalities if m.name in PAIRS["inertial"]]
    near = mg.Relation("acc", "gyro", "near", mg.TimeWindow(0.1))
    return mg.Schema([replace(m, max_nodes=32) for m in kept], (), (near,), ("gyro",))


def classifier(draws: int) -> list[str]:
    """Return accuracies of graph networks with recorded, shifted, corrected times."""
    a, b = PAIRS["inertial"]
    data = load("inertial").select([a, b])
    train, test = (
        data[np.flatnonzero(data.split_name == each)] for each in ("train", "test")
    )
    size = {"members": 2, "epochs": 30, "readout": "fuse", "level": "feature"}
    lines = ["| draw | recorded | shifted | corrected |", "|---|---:|---:|---:|"]
    means = []
    for seed in range(draws):
        clf = mg.FusionClassifier(
            schema=motion_schema(data), seed=seed, verbose=False, **size
        )
        clf.fit(train)
        truth = np.random.default_rng(seed).uniform(-LARGEST, LARGEST, len(test))
        moved = shifted(test, a, truth)
        offset = estimate_offset(moved, a, b, reference=train, per="sample")
        known = np.where(np.isnan(offset.seconds), 0, offset.seconds)
        parts = (test, moved, shifted(moved, a, -known))
        means.append([clf.score(part) for part in parts])
        cells = " | ".join(f"{x:.3f}" for x in means[-1])
        lines.append(f"| {seed} | {cells} |")
    cells = " | ".join(f"{x:.3f}" for x in np.mean(means, axis=0))
    return [*lines, f"| mean | {cells} |"]


def main() -> None:
    """Measure and print."""
    found = read_arguments()
    if found.command == "rate":
        lines = rate()
    elif found.command == "classifier":
        lines = classifier(found.draws)
    else:
        lines = errors(found.command, found.pools, found.seed)
    sys.stdout.write("\n".join([f"commit {read_commit()}", "", *lines, ""]))


if __name__ == "__main__":
    main()
