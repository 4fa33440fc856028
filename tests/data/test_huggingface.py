"""Data sets of Hugging Face as streams."""

import numpy as np
import pytest

from mmgraph import MultimodalData, MultimodalStream

# the folder of data sets in the repository answers to the same name
pytest.importorskip("datasets.iterable_dataset", reason="datasets is not installed")
datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.filterwarnings("ignore")  # of datasets and what it imports
NAMES = {"labs": "labs", "wave": "wave", "note": "note"}


@pytest.fixture(scope="module")
def records():
    rng = np.random.default_rng(0)
    return [
        {
            "labs": rng.normal(size=3).tolist() if i % 4 else None,
            "wave": rng.normal(size=(1 + i % 3, 2)).tolist() if i % 5 else None,
            "note": f"note {i}" if i % 3 else None,
            "died": i % 2,
        }
        for i in range(60)
    ]


@pytest.fixture(scope="module")
def data(records):
    arrays = {name: [r[name] for r in records] for name in NAMES}
    return MultimodalData.from_arrays(arrays, y=[r["died"] for r in records])


def open_stream(dataset):
    return MultimodalStream.from_huggingface(dataset, modalities=NAMES, y="died")


def test_streamed_files_hold_what_arrays_hold(records, data, tmp_path):
    for i in range(3):
        part = datasets.Dataset.from_list(records[20 * i : 20 * i + 20])
        part.to_parquet(str(tmp_path / f"{i}.parquet"))
    dataset = datasets.load_dataset(
        "parquet",
        data_files=sorted(map(str, tmp_path.glob("*.parquet"))),
        split="train",
        streaming=True,
        cache_dir=str(tmp_path / "cache"),
    )
    stream = open_stream(dataset)
    assert stream.num_parts == 3
    assert stream.load().replace(ids=None).equals(data)
    ids = [
        [i for chunk in stream.shard(r, 2).chunks(7, shuffle=True) for i in chunk.ids]
        for r in (0, 1)
    ]
    assert len(set(ids[0] + ids[1])) == 60


def test_data_set_in_memory_and_generator_are_read_too(records, data):
    assert open_stream(datasets.Dataset.from_list(records)).load().equals(data)
    generated = datasets.IterableDataset.from_generator(lambda: iter(records))
    stream = open_stream(generated)
    assert stream.load().equals(data)
    chunks = stream.chunks(7, shuffle=True, seed=1)
    first = [next(chunks).ids.tolist() for _ in range(3)]
    again = stream.chunks(7, shuffle=True, seed=1)
    again.load_state_dict({"epoch": 0, "done": 14})
    assert next(again).ids.tolist() == first[2]
