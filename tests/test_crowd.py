"""Crowd: what is usual for a side, told from training samples."""

import torch

from mmgraph.embedding import hubness as module
from mmgraph.embedding.hubness import NEIGHBOURS, Crowd


def unit(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape), dim=-1)


def filled(num_samples: int) -> Crowd:
    crowd = Crowd(4)
    crowd.keep(unit(num_samples, 4), unit(num_samples, 4))
    return crowd


def test_nearness_is_the_mean_of_the_ten_nearest():
    crowd, z = filled(30), unit(5, 4)
    for side in (0, 1):
        near = (z @ crowd.sides[side].T).sort(dim=1).values[:, -NEIGHBOURS:]
        torch.testing.assert_close(crowd.nearness(z, side), near.mean(1))


def test_nearness_does_not_depend_on_other_rows(monkeypatch):
    crowd, z = filled(30), unit(7, 4)
    own = torch.rand(7, 30) > 0.5
    together = crowd.nearness(z, 0, own)
    monkeypatch.setattr(module, "PIECE", 2)
    torch.testing.assert_close(crowd.nearness(z, 0, own), together)
    assert crowd.nearness(z[:0], 0).shape == (0,)


def test_who_is_left_out_is_not_compared():
    crowd, z = filled(30), unit(3, 4)
    own = torch.zeros(3, 30, dtype=torch.bool)
    own[0, :25] = own[1] = True  # five are left, nobody is left
    found = crowd.nearness(z, 1, own)
    rest = Crowd(4)
    rest.keep(*crowd.sides[:, 25:])
    torch.testing.assert_close(found[:1], rest.nearness(z[:1], 1))
    assert float(found[1]) == 0
    torch.testing.assert_close(found[2:], crowd.nearness(z[2:], 1))


def test_nothing_is_near_without_a_crowd_or_a_side():
    assert not Crowd(4).nearness(unit(3, 4), 0).any()
    assert not filled(30).nearness(torch.zeros(2, 4), 0).any()


def test_large_crowd_is_thinned_evenly(monkeypatch):
    monkeypatch.setattr(module, "MAX_CROWD", 20)
    crowd, left = Crowd(4), unit(50, 4)
    rows = crowd.keep(left, unit(50, 4))
    assert torch.equal(rows, torch.arange(0, 50, 3))
    assert torch.equal(crowd.sides[0], left[::3])
    assert crowd.num_samples == len(rows) <= 20
