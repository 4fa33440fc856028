"""CSLSReference: mean similarity to the nearest training embeddings."""

import torch

from mmgraph.embedding import hubness as module
from mmgraph.embedding.hubness import NUM_NEIGHBORS, CSLSReference


def unit(*shape: int) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(*shape), dim=-1)


def filled(num_samples: int) -> CSLSReference:
    reference = CSLSReference(4)
    reference.fit(unit(num_samples, 4), unit(num_samples, 4))
    return reference


def test_mean_similarity_to_the_ten_nearest():
    reference, z = filled(30), unit(5, 4)
    for side in (0, 1):
        near = (z @ reference.sides[side].T).sort(dim=1).values[:, -NUM_NEIGHBORS:]
        torch.testing.assert_close(reference.mean_knn_similarity(z, side), near.mean(1))


def test_similarity_does_not_depend_on_other_rows(monkeypatch):
    reference, z = filled(30), unit(7, 4)
    excluded = torch.rand(7, 30) > 0.5
    together = reference.mean_knn_similarity(z, 0, excluded)
    monkeypatch.setattr(module, "BLOCK_ROWS", 2)
    torch.testing.assert_close(reference.mean_knn_similarity(z, 0, excluded), together)
    assert reference.mean_knn_similarity(z[:0], 0).shape == (0,)


def test_excluded_samples_are_not_compared():
    reference, z = filled(30), unit(3, 4)
    excluded = torch.zeros(3, 30, dtype=torch.bool)
    excluded[0, :25] = excluded[1] = True  # five remain, none remains
    similarity = reference.mean_knn_similarity(z, 1, excluded)
    rest = CSLSReference(4)
    rest.fit(*reference.sides[:, 25:])
    torch.testing.assert_close(similarity[:1], rest.mean_knn_similarity(z[:1], 1))
    assert float(similarity[1]) == 0
    torch.testing.assert_close(similarity[2:], reference.mean_knn_similarity(z[2:], 1))


def test_similarity_is_zero_without_a_reference_or_a_side():
    assert not CSLSReference(4).mean_knn_similarity(unit(3, 4), 0).any()
    assert not filled(30).mean_knn_similarity(torch.zeros(2, 4), 0).any()


def test_large_reference_is_subsampled_evenly(monkeypatch):
    monkeypatch.setattr(module, "MAX_REFERENCE", 20)
    reference, left = CSLSReference(4), unit(50, 4)
    rows = reference.fit(left, unit(50, 4))
    assert torch.equal(rows, torch.arange(0, 50, 3))
    assert torch.equal(reference.sides[0], left[::3])
    assert reference.num_samples == len(rows) <= 20
