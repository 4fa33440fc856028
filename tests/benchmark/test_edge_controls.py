"""Controls of edges between modalities: what each arm reads."""

import edge_controls
import numpy as np
import pytest
import torch

from mmgraph import MultimodalData


def recordings(num: int = 60) -> MultimodalData:
    """Two sensors, and a vector; the class is the frequency of both sensors."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, num)
    time = np.arange(24)

    def sensor(channels: int) -> np.ndarray:
        wave = 2 * np.sin(time * (0.3 + 0.5 * y[:, None]))[..., None]
        return (wave + rng.normal(size=(num, 24, channels))).astype(np.float32)

    return MultimodalData.from_arrays(
        {"a": sensor(2), "b": sensor(3), "v": rng.normal(size=(num, 2))}, y=y
    )


def test_control_kernels_read_one_of_two_sequences() -> None:
    control = edge_controls.OneEnded([2, 3])
    mixing = control._draw_mixing(torch.Generator().manual_seed(0)) != 0
    first, second = mixing[..., :2].any(-1), mixing[..., 2:].any(-1)
    assert bool((first ^ second).all())
    assert 0.4 < float(first.float().mean()) < 0.6


def test_control_products_do_not_depend_on_the_vector() -> None:
    control = edge_controls.Unmultiplied(["v", "a"], 0, 1, 4, 6)
    batch = recordings(5).batch()
    tables = [torch.randn(5, 4), torch.randn(5, 6)]
    first = control.fit(batch, tables, torch.Generator().manual_seed(0))
    assert torch.equal(control(batch, [torch.randn(5, 4), tables[1]]), first)


@pytest.mark.slow
def test_arms_share_unimodal_base_learners() -> None:
    data = recordings()
    split = edge_controls.read_split(data, np.arange(40), np.arange(40, 60))
    arms = edge_controls.fit_arms(split, seed=0)
    assert tuple(arms) == ("late", "none", "edges")
    assert len({id(ensemble.experts) for ensemble in arms.values()}) == 1
    assert [len(ensemble.joint) for ensemble in arms.values()] == [0, 3, 3]
    masks = edge_controls.draw_masks(split)
    scores = edge_controls.score_arms(arms, split, masks)
    for values in scores.values():
        by_rate = edge_controls.by_rate(values)
        assert by_rate.shape == (5, 2)
        assert by_rate[0, 0] > 0.9


def test_groups_are_divided_into_folds() -> None:
    data = recordings().replace(groups=np.arange(60) // 6)
    for seed in range(2):
        train, test = edge_controls.draw_rows(data, seed, most=20)
        assert len(train) == 20
        assert len(test) <= 20
        assert not set(data.groups[train]) & set(data.groups[test])
