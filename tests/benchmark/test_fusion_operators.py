"""The benchmark of fusion operators: its arms, splits and scores."""

import fusion
import numpy as np
import pytest

from mmgraph.benchmark.datasets import open_bench_data
from mmgraph.benchmark.protocol import make_splits
from mmgraph.config import BenchConfig
from mmgraph.datasets import synthetic

TINY = fusion.Options(members=1, epochs=1)


@pytest.mark.parametrize("arm", fusion.ARMS)
def test_an_arm_is_a_readout_without_edges_or_the_complete_schema(arm):
    schema = synthetic("synergy", num_samples=4).schema
    model = fusion.build_model(arm, schema, 2, members=2, seed=0)
    edges = ("a", "to", "b") in model.schema.edge_types
    assert edges == (arm == "edges")
    assert model.schema.modalities == schema.modalities
    assert model.members == 2


def test_training_keeps_the_best_epoch():
    data = synthetic("synergy", num_samples=200)
    codes = np.asarray(data.y)
    one, other = (
        fusion.fit(
            fusion.build_model("product", data.schema, 2, members=1, seed=0),
            data,
            codes,
            fusion.Options(members=1, epochs=epochs),
        )
        for epochs in (1, 8)
    )
    before, after = (
        -np.log(fusion.predict(model, data)[np.arange(200), codes]).mean()
        for model in (one, other)
    )
    assert after < before


@pytest.mark.slow
def test_scores_are_those_of_the_protocol_of_the_benchmark():
    bench = open_bench_data("synergy", BenchConfig())
    split = make_splits(bench)[0]
    area, complete = fusion.score(bench, split, "product", TINY)
    assert 0.4 < area < complete < 1
    lines = fusion.compare("synergy", ("mean", "sum"), TINY, num_splits=2, repeats=1)
    assert lines[0] == "synergy, 600 samples, 2 splits"
    assert lines[4].startswith("| mean |")
    assert lines[4].endswith("|  |")
    assert "[" in lines[5]


@pytest.mark.slow
def test_attention_is_a_share_of_three_modalities():
    lines = fusion.measure_attention(TINY, 2)
    assert [line.split(" | ")[0] for line in lines[4:6]] == ["| a", "| b"]
    for target, share in fusion.attention_shares(0, TINY).items():
        assert target in "ab"
        assert 0.1 < share < 0.7
