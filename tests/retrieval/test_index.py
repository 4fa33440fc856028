"""The index: what it returns, what it never returns, and what a file keeps of it."""

import json
import sys
from functools import cache

import numpy as np
import pytest
import torch

from mmgraph import CheckpointError, ConfigError, DataError, Index, checkpoint
from mmgraph.retrieval import exact

KINDS = ("exact", "flat", "hnsw", "ivf")
NAMES = ("image", "text", "sound")
every = pytest.mark.parametrize("kind", KINDS)


def needs(kind: str) -> None:
    """Skip a kind whose library is not installed."""
    if kind != "exact":
        pytest.importorskip("faiss", reason="faiss is not installed")


@cache
def content(num: int = 300, width: int = 16) -> tuple[np.ndarray, ...]:
    """Return ids, vectors of which every seventh is nothing, and present [num, 3]."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(num, width)).astype(np.float32)
    present = rng.random((num, 3)) > 0.4
    vectors[::7] = np.nan
    ids = np.array([f"entry {i}" for i in rng.permutation(num)])
    return ids, vectors, present


def make(kind: str, count: int = 300) -> Index:
    """Index the first entries."""
    needs(kind)
    ids, vectors, present = (part[:count] for part in content())
    return Index(ids, vectors, present=present, modalities=NAMES, kind=kind)


def queries(count: int = 9) -> np.ndarray:
    """Draw queries of any length."""
    return np.random.default_rng(1).normal(size=(count, 16)).astype(np.float32)


def wanted(z: np.ndarray, k: int, allowed: np.ndarray | None = None) -> np.ndarray:
    """Return the ids of the best entries, by sorting all similarities."""
    ids, x, _ = content()
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    similarity = z @ unit.T
    similarity[:, np.isnan(x).all(1)] = -np.inf
    if allowed is not None:
        similarity[:, ~allowed] = -np.inf
    return ids[np.argsort(-similarity, axis=1)[:, :k]]


def same_hits(a, b) -> bool:
    return np.array_equal(a.ids, b.ids) and np.array_equal(a.scores, b.scores)


@every
def test_search_finds_the_most_similar_entries(kind):
    hits = make(kind).search(queries(), k=10, effort=1000)
    assert np.array_equal(hits.ids, wanted(queries(), 10))
    assert (np.diff(hits.scores, axis=1) <= 0).all()
    assert hits.found.all()


@every
def test_scores_are_cosines(kind):
    ids, vectors, _ = content()
    index = make(kind)
    hits = index.search(100 * vectors[1], k=3, effort=1000)
    assert hits.ids[0, 0] == ids[1]
    assert hits.scores[0, 0] == pytest.approx(1, abs=1e-6)
    assert index.ids[hits.rows[0]].tolist() == hits.ids[0].tolist()
    cosine = index.vectors[hits.rows[0]] @ index.vectors[hits.rows[0, 0]]
    np.testing.assert_allclose(hits.scores[0], cosine, atol=1e-6)


@every
def test_entry_without_an_embedding_is_never_returned(kind):
    ids, vectors, _ = content()
    index = make(kind)
    nothing = np.isnan(vectors).all(1)
    assert len(index) == (~nothing).sum()
    hits = index.search(queries(), k=len(ids), effort=1000)
    assert not np.isin(hits.ids, ids[nothing]).any()
    assert (hits.found.sum(axis=1) == len(index)).all()


@every
@pytest.mark.parametrize("require", [["image"], ["image", "sound"], "text"])
def test_only_entries_with_the_required_modalities_are_returned(kind, require):
    ids, _, present = content()
    names = [require] if isinstance(require, str) else require
    allowed = present[:, [NAMES.index(name) for name in names]].all(axis=1)
    hits = make(kind).search(queries(), k=10, require=require, effort=1000)
    assert np.array_equal(hits.ids, wanted(queries(), 10, allowed))
    all_of_them = make(kind).search(queries(), k=300, require=require, effort=1000)
    assert not np.isin(all_of_them.ids, ids[~allowed]).any()


@every
def test_missing_places_are_marked(kind):
    index = make(kind, 5)  # of which entry 0 has no embedding
    hits = index.search(queries(3), k=7)
    assert hits.ids.shape == hits.scores.shape == hits.rows.shape == (3, 7)
    assert (hits.ids[:, 4:] == "").all()
    assert (hits.scores[:, 4:] == -np.inf).all()
    assert (hits.rows[:, 4:] == -1).all()
    assert hits.found.tolist() == [[True] * 4 + [False] * 3] * 3
    numbers = Index([5, 7], np.eye(2)).search([[1.0, 0.1]], k=3)
    assert numbers.ids.tolist() == [[5, 7, -1]]


@every
def test_query_that_has_nothing_finds_nothing(kind):
    z = queries(4)
    z[2] = np.nan
    hits = make(kind).search(z, k=3)
    assert hits.found.tolist() == [[True] * 3] * 2 + [[False] * 3] + [[True] * 3]
    assert np.array_equal(hits.ids[[0, 1, 3]], make(kind).search(z[[0, 1, 3]], 3).ids)
    assert not make(kind).search(np.full(16, np.nan), k=2).found.any()
    assert make(kind).search(np.empty((0, 16)), k=2).ids.shape == (0, 2)


@every
def test_nobody_has_what_is_required(kind):
    needs(kind)
    ids, vectors, present = content()
    present = present & [True, True, False]
    index = Index(ids, vectors, present=present, modalities=NAMES, kind=kind)
    assert not index.search(queries(), require=["sound"]).found.any()


@every
def test_query_alone_equals_query_among_others(kind):
    index = make(kind)
    together = index.search(queries(), k=5)
    for i, z in enumerate(queries()):
        alone = index.search(z, k=5)
        assert np.array_equal(alone.ids[0], together.ids[i])
        np.testing.assert_allclose(alone.scores[0], together.scores[i], atol=1e-6)


@every
def test_order_of_entries_does_not_matter(kind):
    needs(kind)
    ids, vectors, present = content()
    order = np.random.default_rng(2).permutation(len(ids))
    moved = Index(
        ids[order],
        vectors[order],
        present=present[order],
        modalities=NAMES,
        kind=kind,
    )
    hits = moved.search(queries(), k=10, require=["text"], effort=1000)
    expected = make(kind).search(queries(), k=10, require=["text"], effort=1000)
    assert np.array_equal(hits.ids, expected.ids)
    np.testing.assert_allclose(hits.scores, expected.scores, atol=1e-6)


@every
def test_adding_equals_indexing_at_once(kind):
    ids, vectors, present = content()
    index = make(kind, 100)
    index.add(ids[100:250], vectors[100:250], present=present[100:250])
    index.add(ids[250:], torch.from_numpy(vectors[250:]), present=present[250:])
    assert np.array_equal(index.ids, make(kind).ids)
    assert np.array_equal(index.present, make(kind).present)
    hits = index.search(queries(), k=10, require=["image"], effort=1000)
    expected = make(kind).search(queries(), k=10, require=["image"], effort=1000)
    assert np.array_equal(hits.ids, expected.ids)


@every
def test_index_may_start_empty(kind):
    needs(kind)
    index = Index([], np.empty((0, 16)), kind=kind)
    assert not index.search(queries(), k=2).found.any()
    ids, vectors, _ = content()
    assert len(index.add(ids[:1], vectors[:1])) == 0  # it has no embedding
    index.add(ids, vectors)
    assert np.array_equal(index.search(queries(), 5, effort=1000).ids[0], first(5))


def first(k: int) -> np.ndarray:
    return wanted(queries(), k)[0]


@every
@pytest.mark.parametrize("count", [1, 40, 200])
def test_removed_entries_are_never_returned(kind, count):
    ids, vectors, present = content()
    index = make(kind)
    gone = index.search(queries(1), k=count, effort=1000).ids[0]
    stays = ~np.isin(ids, gone)
    index.remove(gone[: count // 2]).remove(gone[count // 2 :])
    assert len(index) == len(make(kind)) - count
    hits = index.search(queries(), k=10, effort=1000)
    assert np.array_equal(hits.ids, wanted(queries(), 10, stays))
    assert index.ids[hits.rows].tolist() == hits.ids.tolist()
    hits = index.search(queries(), k=10, require=["image"], effort=1000)
    both = stays & present[:, 0]
    assert np.array_equal(hits.ids, wanted(queries(), 10, both))
    back = np.isin(ids, gone)
    index.add(ids[back], vectors[back], present=present[back])
    hits = index.search(queries(), k=10, effort=1000)
    assert np.array_equal(hits.ids, wanted(queries(), 10))


@every
def test_everything_may_be_removed(kind):
    index = make(kind)
    assert len(index.remove(index.ids)) == 0
    assert not index.search(queries()).found.any()
    ids, vectors, present = content()
    index.add(ids, vectors, present=present)
    assert np.array_equal(index.search(queries(), 5, effort=1000).ids[0], first(5))


@every
@pytest.mark.parametrize("numbered", [True, False])
@pytest.mark.parametrize("removed", [0, 30])
def test_saving_and_loading_changes_no_bit(kind, numbered, removed, tmp_path):
    needs(kind)
    ids, vectors, present = content()
    ids = np.arange(len(ids)) if numbered else np.char.add(ids, " é")
    index = Index(ids, vectors, present=present, modalities=NAMES, kind=kind)
    index.remove(index.ids[:removed])
    index.save(tmp_path)
    loaded = Index.load(tmp_path)
    assert np.array_equal(loaded.ids, index.ids)
    assert loaded.ids.dtype == index.ids.dtype
    assert torch.equal(loaded.vectors, index.vectors)
    assert np.array_equal(loaded.present, index.present)
    assert (loaded.kind, loaded.modalities) == (kind, NAMES)
    for require in ([], ["image"], ["image", "text", "sound"]):
        before = index.search(queries(), k=5, require=require)
        assert same_hits(loaded.search(queries(), k=5, require=require), before)
    loaded.add([10**6 if numbered else "new"], queries(1), present=[[True] * 3])
    assert loaded.search(queries(1), k=1).rows[0, 0] == len(index)


@every
def test_empty_index_can_be_saved(kind, tmp_path):
    index = make(kind)
    index.remove(index.ids).save(tmp_path)
    loaded = Index.load(tmp_path)
    assert len(loaded) == 0
    assert not loaded.search(queries()).found.any()


def test_saving_again_leaves_nothing_behind(tmp_path):
    pytest.importorskip("faiss")
    make("hnsw").save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    make("hnsw", 100).save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    make("exact").save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_memory_of_exact_search_is_bounded(monkeypatch):
    monkeypatch.setattr(exact, "QUERIES", 2)
    monkeypatch.setattr(exact, "ENTRIES", 7)
    hits = make("exact").search(queries(), k=10)
    assert np.array_equal(hits.ids, wanted(queries(), 10))
    assert make("exact").search(queries(), k=999).found.sum() == 9 * len(make("exact"))


@every
def test_low_precision_queries_are_taken(kind):
    index = make(kind)
    z = torch.from_numpy(queries()).to(torch.bfloat16)
    expected = index.search(z.float(), k=5)
    assert same_hits(index.search(z, k=5), expected)


@every
def test_tiny_and_huge_vectors_have_a_direction(kind):
    needs(kind)
    index = Index([1, 2], [[1e-38, 1e-38], [3e38, -3e38]], kind=kind)
    hits = index.search([[1e38, 1e38]], k=2)
    assert hits.ids.tolist() == [[1, 2]]
    np.testing.assert_allclose(hits.scores, [[1, 0]], atol=1e-6)


def test_repr_says_what_it_is():
    assert repr(make("exact")) == "Index: 257 entries of width 16, exact"


def test_wrong_vectors_are_rejected():
    with pytest.raises(
        DataError, match=r"vectors must have shape \[N, D\], got \[2, 0\]"
    ):
        Index([1, 2], np.empty((2, 0)))
    with pytest.raises(DataError, match=r"vectors must be finite and not zero.*row 1"):
        Index([1, 2], [[1.0, 0.0], [0.0, 0.0]])
    with pytest.raises(DataError, match=r"vectors must be finite and not zero.*row 0"):
        Index([1, 2], [[1.0, np.nan], [1.0, 0.0]])
    with pytest.raises(
        DataError, match=r"queries must have shape \[N, 16\], got \[3\]"
    ):
        make("exact").search([1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="queries must be finite and not zero"):
        make("exact").search(np.full(16, np.inf))


def test_wrong_ids_are_rejected():
    with pytest.raises(DataError, match="ids must be unique, got 'a' again"):
        Index(["a", "a"], np.eye(2))
    with pytest.raises(DataError, match="ids must have one id per sample"):
        Index(["a"], np.eye(2))
    with pytest.raises(DataError, match="ids must be integers or strings"):
        Index([0.5, 1.0], np.eye(2))
    index = make("exact")
    present = [[True] * 3]
    with pytest.raises(DataError, match="new to the index, got existing id 'entry"):
        index.add(index.ids[:1], queries(1), present=present)
    with pytest.raises(DataError, match="ids must be of one type, got int64"):
        index.add([7], queries(1), present=present)
    with pytest.raises(DataError, match="ids to remove must be in the index"):
        index.remove(["nobody"])
    assert len(index) == len(make("exact"))


def test_ids_that_int64_cannot_hold_are_rejected():
    largest = 2**63 - 1
    ids = np.array([largest, 3], np.uint64)
    assert Index(ids, np.eye(2)).ids.tolist() == [largest, 3]
    with pytest.raises(DataError, match=f"at most {largest}, got {largest + 1}. Conv"):
        Index(ids + np.uint64(1), np.eye(2))
    with pytest.raises(DataError, match="ids must be integers of at most"):
        Index([3], np.eye(1, 2)).add([2**64 - 1], np.eye(1, 2))


def test_ids_that_no_file_can_hold_are_rejected():
    with pytest.raises(
        DataError, match=r"that UTF-8 can encode, got 'a\\ud800'. Remove"
    ):
        Index(["b", "a\ud800"], np.eye(2))


def test_wrong_tables_are_rejected():
    with pytest.raises(DataError, match=r"present must be booleans of shape \[2, 1\]"):
        Index([1, 2], np.eye(2), present=np.ones((2, 2), bool), modalities=["image"])
    with pytest.raises(DataError, match="present must be booleans"):
        Index([1, 2], np.eye(2), present=np.ones((2, 1)), modalities=["image"])
    with pytest.raises(
        DataError, match=r"present must be booleans.*image, text, sound"
    ):
        make("exact").add(["new"], queries(1))
    with pytest.raises(DataError, match=r"require must name modalities.*got 'odour'"):
        make("exact").search(queries(), require=["image", "odour"])
    with pytest.raises(DataError, match=r"modalities of the index, \(none\), got"):
        Index([1], [[1.0]]).search([1.0], require="image")


def test_wrong_options_are_rejected():
    with pytest.raises(ConfigError, match="kind must be one of exact, flat, hnsw, ivf"):
        Index([1], [[1.0]], kind="tree")
    with pytest.raises(ConfigError, match="must be integers of at least 1, got k=0"):
        make("exact").search(queries(), k=0)
    with pytest.raises(ConfigError, match="effort=0"):
        make("exact").search(queries(), effort=0)


def test_without_faiss_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ConfigError, match=r"requires faiss.*Install mmgraph\[search\]"):
        Index([1], [[1.0]], kind="hnsw")


def test_damaged_faiss_part_is_rejected(tmp_path):
    pytest.importorskip("faiss")
    make("hnsw").save(tmp_path)
    [part] = tmp_path.glob("part-*.bin")
    content = part.read_bytes()
    part.write_bytes(content[:-1] + b"?")
    with pytest.raises(CheckpointError, match="must have the SHA-256"):
        Index.load(tmp_path)
    part.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        Index.load(tmp_path)


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
def test_faiss_part_of_other_vectors_is_rejected(tmp_path, kind):
    pytest.importorskip("faiss")
    make(kind).save(tmp_path)
    tensors, manifest, parts = checkpoint.load(tmp_path)
    tensors["vectors"] = tensors["vectors"].flip(0).contiguous()
    checkpoint.save(tmp_path, tensors, manifest, parts)
    with pytest.raises(CheckpointError, match="must hold the vectors of the index, go"):
        Index.load(tmp_path)


@pytest.mark.parametrize("change", [float("nan"), 2.0])
def test_vectors_that_have_no_unit_length_are_rejected(tmp_path, change):
    make("exact").save(tmp_path)
    tensors, manifest, _ = checkpoint.load(tmp_path)
    tensors["vectors"] = tensors["vectors"] * change
    checkpoint.save(tmp_path, tensors, manifest)
    with pytest.raises(CheckpointError, match="must contain unit vectors, got others"):
        Index.load(tmp_path)


@pytest.mark.parametrize("damage", ["cut", "foreign"])
def test_faiss_part_that_does_not_fit_is_rejected(tmp_path, damage):
    pytest.importorskip("faiss")
    import hashlib

    make("hnsw", 100).save(tmp_path / "other")
    make("hnsw").save(tmp_path)
    [other] = (tmp_path / "other").glob("part-*.bin")
    [part] = tmp_path.glob("part-*.bin")
    new = part.read_bytes()[:200] if damage == "cut" else other.read_bytes()
    digest = hashlib.sha256(new).hexdigest()
    (tmp_path / f"part-{digest[:16]}.bin").write_bytes(new)
    sizes = {"faiss": len(new)}
    rewrite(tmp_path, parts_sha256={"faiss": digest}, parts_bytes=sizes)
    match = "is damaged" if damage == "cut" else "must hold 257 vectors of width 16"
    with pytest.raises(CheckpointError, match=match):
        Index.load(tmp_path)


def rewrite(folder, **changes) -> None:
    """Change the manifest of a saved index, with a hash that fits."""
    path = folder / "mmgraph.json"
    manifest = {**json.loads(path.read_text()), **changes}
    manifest[checkpoint.OWN_HASH] = checkpoint._hash_of(manifest)
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"index": "tree"}, "must contain equal numbers of ids"),
        ({"modalities": ["image"]}, "must contain equal numbers of ids"),
        ({"modalities": None}, "must contain an index of this version"),
        ({"weights_sha256": "0" * 64}, "cannot be read"),
        ({"index": "hnsw"}, "must contain a faiss index, got"),
    ],
)
def test_manifest_that_does_not_fit_is_rejected(tmp_path, changes, match):
    if changes.get("index") == "hnsw":
        pytest.importorskip("faiss")
    make("exact").save(tmp_path)
    rewrite(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=match):
        Index.load(tmp_path)


def test_folder_of_something_else_is_rejected(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        Index.load(tmp_path)
    make("exact").save(tmp_path)
    checkpoint.save(tmp_path, {}, {"estimator": "FusionClassifier"})
    with pytest.raises(CheckpointError, match="must contain an index, got a Fusion"):
        Index.load(tmp_path)
