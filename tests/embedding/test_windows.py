"""Recordings in time windows, in retriever and matcher."""

import numpy as np
import pytest
import torch

from mmgraph import (
    CheckpointError,
    FusionMatcher,
    FusionRetriever,
    Modality,
    MultimodalData,
    Schema,
)
from mmgraph.embedding.windows import (
    NUM_WINDOWS,
    WindowMap,
    fit_windows,
    plan_windows,
    window_table,
    with_context,
)
from mmgraph.estimators.pair_base import space_config, space_from_config

NUM = 60


def two_sensors(num: int = NUM, seed: int = 0, **options: object) -> MultimodalData:
    """Two recordings of a smooth signal, at their own rates and lengths."""
    rng = np.random.default_rng(seed)
    made: dict[str, list] = {"a": [], "b": []}
    times: dict[str, list] = {"a": [], "b": []}
    for _ in range(num):
        phase, size = rng.uniform(0, 2 * np.pi, 4), rng.normal(size=4)
        for name, mixing in (("a", [1.0, 0.5, -1.0]), ("b", [-1.0, 2.0])):
            t = np.linspace(0, 1, rng.integers(50, 120))
            wave = size @ np.sin(
                2 * np.pi * np.arange(1, 5)[:, None] * t + phase[:, None]
            )
            x = wave[:, None] * mixing + 0.3 * rng.normal(size=(len(t), len(mixing)))
            made[name].append(x.astype(np.float32))
            times[name].append(t)
    return MultimodalData.from_arrays(made, times=times, **options)


@pytest.fixture(scope="module")
def retriever() -> FusionRetriever:
    return FusionRetriever().fit(two_sensors())


def test_windows_hold_means_of_their_rows() -> None:
    x = np.arange(96, dtype=np.float32)[:, None] * [1, -2]
    data = MultimodalData.from_arrays({"a": [x, x[:1], x[::-1]]})
    table = window_table(data.batch(), "a", 2).unflatten(1, (NUM_WINDOWS, 2))
    means = x.reshape(NUM_WINDOWS, 2, 2).mean(1)
    expected = torch.from_numpy(means - means.mean(0)).float()
    torch.testing.assert_close(table[0], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(table[2], expected.flip(0), atol=1e-4, rtol=0)
    assert not table[1].any()


def test_times_place_the_rows_and_gaps_are_interpolated() -> None:
    t = np.array([0.0, 0.1, 1.0])
    data = MultimodalData.from_arrays(
        {"a": [t[:, None], [[0.0], [np.nan], [1.0]]]}, times={"a": [t, t]}
    )
    table = window_table(data.batch(), "a", 1)
    line = torch.linspace(-0.5, 0.5, NUM_WINDOWS)
    torch.testing.assert_close(table[0], line, atol=0.03, rtol=0)
    assert bool(table.isfinite().all())


def test_missing_recordings_are_nan_and_a_batch_changes_nothing() -> None:
    data = two_sensors(6).mask({"a": np.arange(6) != 2})
    table = window_table(data.batch(), "a", 3)
    assert table.isnan().all(1).tolist() == [i == 2 for i in range(6)]
    for i in range(6):
        alone = window_table(data[[i]].batch(), "a", 3)[0]
        torch.testing.assert_close(alone, table[i], atol=1e-6, rtol=0, equal_nan=True)


def test_context_repeats_the_ends() -> None:
    x = torch.arange(NUM_WINDOWS, dtype=torch.float32)[None]
    rows = with_context(x)[0]
    assert rows[0].tolist() == [0, 0, 0, 0, 0, 1, 2, 3, 4]
    assert rows[10].tolist() == list(range(6, 15))
    assert rows[-1, 4:].tolist() == [47] * 5


def test_sequences_that_samples_link_are_compared() -> None:
    ragged = {"tokens": "ragged"}
    modalities = [
        Modality("a", 2, **ragged),
        Modality("b", 3, **ragged),
        Modality("wide", 65, **ragged),
        Modality("vector", 4),
        Modality("objects", 4, places=2, **ragged),
        Modality("apart", 5, **ragged),
    ]
    present = torch.ones(40, 6, dtype=torch.bool)
    present[:, 5] = False
    schema, folds = Schema.star(modalities), torch.arange(40) % 4
    assert plan_windows(schema, present, folds) == [2, 3, 0, 0, 0, 0]
    assert plan_windows(schema, present, folds * 0) == [0] * 6
    uneven = (torch.arange(40) > 25).long()  # one fold has most of the samples
    assert plan_windows(schema, present, uneven) == [0] * 6
    present[:15, 1] = False
    assert plan_windows(schema, present, folds) == [0] * 6


def test_vectors_of_a_fold_do_not_depend_on_its_samples() -> None:
    folds = torch.arange(NUM) % 3
    widths, vectors = [3, 2], []
    for noise in (0.0, 5.0):
        batch = two_sensors().batch()
        tables = [window_table(batch, n, w) for n, w in zip("ab", widths, strict=True)]
        own = (folds == 1).nonzero()[:, 0]
        kept = [x[own].clone() for x in tables]
        tables[1][own] += noise * torch.randn(kept[1].shape)
        fitted, found = fit_windows("ab", widths, tables, folds, torch.Generator())
        assert found.shape == (NUM, 2, fitted.channels)
        vectors.append(found[own, 0] @ found[own, 0].T)
    torch.testing.assert_close(vectors[0], vectors[1], atol=0.05, rtol=0)


def test_vectors_of_all_folds_are_those_of_one_space() -> None:
    batch, folds, widths = two_sensors().batch(), torch.arange(NUM) % 3, [3, 2]
    tables = [window_table(batch, n, w) for n, w in zip("ab", widths, strict=True)]
    fitted, found = fit_windows("ab", widths, tables, folds, torch.Generator())
    for m, table in enumerate(tables):
        cosine = (found[:, m] * fitted(m, table)).sum(1)
        assert float(cosine.mean()) > 0.994  # 0.987 without the rotation


def test_recordings_find_their_partner(retriever) -> None:
    test = two_sensors(40, seed=1)
    assert isinstance(retriever.model_.space.aligned, WindowMap)
    a, b = (retriever.embed(test, modalities=[name]) for name in "ab")
    assert ((a @ b.T).argmax(1) == np.arange(40)).mean() > 0.9
    matcher = FusionMatcher("a", "b").fit(two_sensors())
    own = matcher.predict_proba(test, test)
    other = matcher.predict_proba(test, test[np.roll(np.arange(40), 1)])
    assert (own > other).mean() > 0.9


def test_saved_models_compare_windows(retriever, tmp_path) -> None:
    test = two_sensors(10, seed=2)
    retriever.save_pretrained(tmp_path / "model")
    loaded = FusionRetriever.from_pretrained(tmp_path / "model")
    assert np.array_equal(loaded.embed(test), retriever.embed(test))
    only = test.select(["b"])
    assert np.allclose(retriever.embed(only), retriever.embed(test, modalities=["b"]))


@pytest.mark.parametrize(
    "windows", [[[3, 1], 32], [[3, 2], 33], [[3, 2], 0], [[3], 32], [[3, 2, 1], 32]]
)
def test_damaged_configurations_are_refused(retriever, windows) -> None:
    config = space_config(retriever.model_.space) | {"windows": windows}
    with pytest.raises(CheckpointError, match="windows must have the channels"):
        space_from_config(config, retriever.input_spec_)
