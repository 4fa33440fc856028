import json
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmgraph import (
    ConfigError,
    DataError,
    Latent,
    MaskPlan,
    MultimodalData,
    Relation,
    Schema,
)
from mmgraph.missing import (
    block,
    imbalanced,
    leave_out,
    mar,
    mcar,
    mnar,
    modality_dropout,
    natural,
    only,
)

NAMES = ("a", "b", "c")


def make_data(num_samples=400, rate=0.2, seed=0, **options):
    """Three modalities, some naturally missing; sample 0 has nothing, 1 only a."""
    rng = np.random.default_rng(seed)
    present = rng.random((num_samples, 3)) >= rate
    present[:2] = [[False, False, False], [True, False, False]]
    arrays = {
        name: np.where(present[:, [i]], rng.normal(size=(num_samples, i + 2)), np.nan)
        for i, name in enumerate(NAMES)
    }
    options = {
        "y": np.arange(num_samples) % 2,
        "groups": np.arange(num_samples) // 10,
    } | options
    return MultimodalData.from_arrays(arrays, **options)


@pytest.fixture(scope="module")
def data():
    return make_data()


ALL = [
    mcar(0.4),
    mcar(1.0),
    imbalanced({"a": 0.9, "c": 0.3}),
    imbalanced({"a": 1.0, "b": 1.0, "c": 1.0}),
    block(0.5),
    block(1.0),
    mar(0.5, on="b"),
    mar(1.0, on="b"),
    mnar(0.5),
    mnar(1.0),
    natural(),
    leave_out(["b"]),
    only("b"),
]
FLOORED = ALL[:-2]


@pytest.mark.parametrize("pattern", ALL, ids=lambda p: p.describe())
def test_plans_only_remove_and_repeat_with_the_seed(pattern, data):
    plan = pattern.plan(data, seed=3)
    assert plan.present.shape == data.shape
    assert not (plan.present & ~data.present).any()
    assert plan.modalities == NAMES
    assert (plan.pattern, plan.seed) == (pattern.describe(), 3)
    assert np.array_equal(plan.present, pattern.plan(data, seed=3).present)
    removed = data.present.sum() - plan.present.sum()
    assert plan.realised_rate == pytest.approx(removed / data.present.sum())


@pytest.mark.parametrize("pattern", FLOORED, ids=lambda p: p.describe())
def test_a_sample_with_something_keeps_something(pattern, data):
    plan = pattern.plan(data, seed=1)
    assert np.array_equal(plan.present.any(axis=1), data.present.any(axis=1))
    assert plan.present[1].tolist() == [True, False, False]


@pytest.mark.parametrize(
    "pattern", [mcar(0.4), block(0.4), mar(0.4, on="a"), mnar(0.4)]
)
def test_another_seed_gives_another_plan(pattern, data):
    assert pattern.plan(data, seed=0).hash != pattern.plan(data, seed=1).hash


@pytest.mark.parametrize("pattern", ALL, ids=lambda p: p.describe())
@pytest.mark.parametrize("y", [np.arange(9) % 2, np.arange(9.0), np.eye(9, 2)])
def test_no_samples_give_an_empty_plan(pattern, y):
    plan = pattern.plan(make_data(9, y=y)[[]])
    assert plan.present.shape == (0, 3)
    assert plan.realised_rate == 0


def test_numpy_seeds_are_seeds(data, tmp_path):
    plan = mcar(0.3).plan(data, seed=np.int64(3))
    assert plan.hash == mcar(0.3).plan(data, seed=3).hash
    plan.save(tmp_path / "plan.json")
    assert MaskPlan.load(tmp_path / "plan.json").seed == 3


@pytest.mark.parametrize("seed", [-1, np.int64(-1)])
def test_a_seed_is_a_whole_number(seed, data):
    with pytest.raises(ConfigError, match="seed must be a whole number of at least 0"):
        mcar(0.3).plan(data, seed=seed)


def test_mcar_rate_and_its_floor():
    data = make_data(20_000, rate=0.0)
    assert mcar(0.1).plan(data).realised_rate == pytest.approx(0.1, abs=0.01)
    # 0.7 - 0.7 ** 3 / 3
    assert mcar(0.7).plan(data).realised_rate == pytest.approx(0.586, abs=0.01)
    assert mcar(0.0).plan(data).realised_rate == 0


def test_mcar_removes_modalities_independently():
    present = mcar(0.3).plan(make_data(20_000, rate=0.0)).present[2:]
    np.testing.assert_allclose(present.mean(axis=0), 0.7, atol=0.03)
    both = (present[:, 0] & present[:, 1]).mean()
    assert both == pytest.approx(0.49, abs=0.02)


def test_mcar_keeps_each_modality_equally_often_when_all_would_go():
    present = mcar(1.0).plan(make_data(6000, rate=0.0)).present[2:]
    assert (present.sum(axis=1) == 1).all()
    np.testing.assert_allclose(present.mean(axis=0), 1 / 3, atol=0.03)


def test_imbalanced_uses_the_rate_of_each_modality():
    present = imbalanced({"a": 0.6, "b": 0.2}).plan(make_data(9000, 0.0)).present[2:]
    np.testing.assert_allclose(present.mean(axis=0), [0.4, 0.8, 1], atol=0.02)


def test_block_removes_a_modality_from_whole_groups():
    data = make_data(4000, rate=0.0)
    present = block(0.5).plan(data).present[10:].reshape(-1, 10, 3)
    assert (present == present[:, :1]).all()
    assert present.any(axis=2).all()
    # 0.5 - 0.5 ** 3 / 3
    assert 1 - present.mean() == pytest.approx(0.458, abs=0.04)


def test_leave_out_and_only_may_leave_nothing(data):
    left = leave_out(["b"]).plan(data).present
    assert not left[:, 1].any()
    assert np.array_equal(left[:, [0, 2]], data.present[:, [0, 2]])
    alone = only(["b"]).plan(data)
    assert np.array_equal(alone.present[:, 1], data.present[:, 1])
    assert not alone.present[:, [0, 2]].any()
    assert not alone.present[1].any()


def test_mar_depends_on_the_content_of_a_modality_that_stays():
    data = make_data(9000, rate=0.3)
    plan = mar(0.3, on="a").plan(data)
    present, had = plan.present, data.present
    assert np.array_equal(present[:, 0], had[:, 0])
    content = data.features()["a"].mean(axis=1)
    high, low = content > 0.5, content < -0.5
    gone_high = 1 - present[high & had[:, 1], 1].mean()
    gone_low = 1 - present[low & had[:, 1], 1].mean()
    assert gone_high > gone_low + 0.3
    seen = had[:, 0] & had[:, 1]
    assert 1 - present[seen, 1].mean() == pytest.approx(0.3, abs=0.03)
    unseen = ~had[:, 0] & had[:, 1] & had[:, 2]
    # 0.3 less the half of 0.3 ** 2 that the floor gives back
    assert 1 - present[unseen, 1].mean() == pytest.approx(0.255, abs=0.05)


def test_mar_does_not_depend_on_the_relations_of_the_schema(data):
    chain = [Relation("a", "b"), Relation("b", "fuse"), Relation("c", "fuse")]
    schema = Schema(data.schema.modalities, [Latent("fuse")], chain)
    related = MultimodalData.from_arrays(data.features(), schema=schema)
    plain = MultimodalData.from_arrays(data.features())
    plan = mar(0.3, on="a").plan(related)
    assert np.array_equal(plan.present, mar(0.3, on="a").plan(plain).present)


@pytest.mark.parametrize("kind", ["codes", "strings", "float"])
def test_mnar_depends_on_the_label(kind):
    codes = np.arange(9000) % 2
    y = {
        "codes": codes,
        "strings": np.array(["no", "yes"])[codes],
        "float": codes * 1e3 - 7.5,
    }[kind]
    present = mnar(0.3).plan(make_data(9000, rate=0.0, y=y)).present[2:]
    gone = [1 - present[codes[2:] == c].mean() for c in (0, 1)]
    assert gone[1] > gone[0] + 0.3
    # 0.3 less the third of p ** 3 that the floor gives back
    assert np.mean(gone) == pytest.approx(0.27, abs=0.02)


def test_mnar_gives_unknown_labels_the_mean_rate():
    y = np.where(np.arange(9000) % 3 == 0, np.nan, np.arange(9000) % 2)
    present = mnar(0.4).plan(make_data(9000, rate=0.0, y=y)).present
    unknown = np.isnan(y) & (np.arange(9000) > 1)
    expected = 0.4 - 0.4**3 / 3
    assert 1 - present[unknown].mean() == pytest.approx(expected, abs=0.02)


def test_content_dependence_survives_constant_content():
    data = make_data(2000, rate=0.0, y=np.zeros(2000))
    assert mnar(0.3).plan(data).realised_rate == pytest.approx(0.291, abs=0.03)


def test_natural_removes_nothing(data):
    plan = natural().plan(data)
    assert np.array_equal(plan.present, data.present)
    assert plan.realised_rate == 0


def test_descriptions():
    described = [pattern.describe() for pattern in ALL]
    assert described[0] == "mcar(0.4)"
    assert described[2] == "imbalanced(a=0.9, c=0.3)"
    assert described[4] == "block(0.5)"
    assert described[6] == "mar(0.5, on=b)"
    assert described[8] == "mnar(0.5)"
    assert described[10:] == ["natural()", "leave_out(b)", "only(b)"]


def test_applying_a_plan_keeps_what_both_have(data):
    plan = mcar(0.5).plan(data, seed=2)
    masked = plan.apply(data)
    assert np.array_equal(masked.present, plan.present)
    kept = np.isfinite(masked.features()["b"]).all(axis=1)
    assert np.array_equal(kept, plan.present[:, 1])


def test_saved_plans_load_as_they_were(data, tmp_path):
    plan = mcar(0.5).plan(data, seed=2)
    plan.save(tmp_path / "plan.json")
    loaded = MaskPlan.load(tmp_path / "plan.json")
    assert np.array_equal(loaded.present, plan.present)
    assert loaded.hash == plan.hash
    assert loaded.realised_rate == plan.realised_rate > 0
    assert (loaded.pattern, loaded.seed) == ("mcar(0.5)", 2)
    assert loaded.modalities == NAMES


def test_the_hash_depends_on_names_shape_and_mask():
    present = np.ones((2, 3), bool)
    other = present.copy()
    other[1, 1] = False
    hashes = {
        MaskPlan(present, NAMES).hash,
        MaskPlan(other, NAMES).hash,
        MaskPlan(present, ("a", "c", "b")).hash,
        MaskPlan(np.ones((3, 3), bool), NAMES).hash,
    }
    assert len(hashes) == 4
    assert MaskPlan(present, NAMES, "x", 5).hash in hashes


def test_a_plan_cannot_be_changed():
    present = np.ones((2, 3), bool)
    plan = MaskPlan(present, NAMES)
    present[0] = False
    assert plan.present.all()
    with pytest.raises(ValueError, match="read-only"):
        plan.present[0] = False
    with pytest.raises(FrozenInstanceError):
        plan.seed = 1


@pytest.mark.parametrize("content", ["[]", "{", "{}", '{"modalities": 3}'])
def test_a_foreign_file_is_not_a_plan(content, tmp_path):
    (tmp_path / "plan.json").write_text(content)
    with pytest.raises(DataError, match="must be a mask plan saved by MaskPlan"):
        MaskPlan.load(tmp_path / "plan.json")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("present", "////", "must match its hash, got a plan that was modified"),
        ("present", "no base64", "must be a mask plan saved"),
        ("num_samples", 9, "must be a mask plan saved"),
        ("modalities", ["a", "b", "x"], "must match its hash"),
        ("num_observed", 2, "num_observed between the 3 pairs .* all 15, got 2. Save"),
        ("num_observed", 16, "num_observed between the 3 pairs .* all 15, got 16"),
        ("num_observed", 14, "must match its hash"),
        ("pattern", "mcar(0.4)", "must match its hash"),
        ("seed", 4, "must match its hash"),
    ],
)
def test_a_modified_file_is_an_error(key, value, message, tmp_path):
    plan = MaskPlan(np.eye(5, 3, dtype=bool), NAMES)
    plan.save(tmp_path / "plan.json")
    content = json.loads((tmp_path / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps(content | {key: value}))
    with pytest.raises(DataError, match=message):
        MaskPlan.load(tmp_path / "plan.json")


@pytest.mark.parametrize(
    "make",
    [
        mcar,
        block,
        mnar,
        lambda rate: imbalanced({"a": rate}),
        lambda rate: mar(rate, on="a"),
    ],
)
@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_a_rate_is_a_probability(make, rate):
    with pytest.raises(ConfigError, match=r"must have a rate in \[0, 1\], got"):
        make(rate)


@pytest.mark.parametrize(
    "pattern", [imbalanced({"x": 0.1}), leave_out(["x"]), only("x"), mar(0.2, on="x")]
)
def test_unknown_modalities_are_errors(pattern, data):
    with pytest.raises(DataError, match=r"known modalities .*, got 'x'\. Check"):
        pattern.plan(data)


def test_block_needs_groups_and_mnar_labels():
    data = make_data(groups=None, y=None)
    with pytest.raises(DataError, match=r"data.groups must be given for block\(0.2\)"):
        block(0.2).plan(data)
    with pytest.raises(DataError, match=r"data.y must be given for mnar\(0.2\)"):
        mnar(0.2).plan(data)


def test_a_plan_fits_only_its_data(data):
    with pytest.raises(DataError, match="must have the modalities of the data"):
        MaskPlan(data.present, ("a", "c", "b")).apply(data)
    with pytest.raises(DataError, match="must have one row per sample, 400, got 399"):
        MaskPlan(data.present[1:], NAMES).apply(data)
    with pytest.raises(DataError, match=r"must be bool \[N, 3\], got bool \[400, 2\]"):
        MaskPlan(data.present[:, :2], NAMES)


@st.composite
def presents(draw):
    """Any table of up to 8 samples and 4 modalities, empty ones included."""
    shape = draw(st.integers(0, 8)), draw(st.integers(1, 4))
    bits = draw(st.lists(st.booleans(), min_size=32, max_size=32))
    return torch.tensor(bits)[: shape[0] * shape[1]].reshape(shape)


@settings(max_examples=60, deadline=None)
@given(presents(), st.floats(0, 1), st.integers(0, 2**31))
def test_dropout_never_drops_all_and_never_adds(present, rate, seed):
    kept = modality_dropout(present, rate, torch.Generator().manual_seed(seed))
    assert not (kept & ~present).any()
    assert torch.equal(kept.any(dim=1), present.any(dim=1))
    single = present.sum(dim=1) == 1
    assert torch.equal(kept[single], present[single])
    again = modality_dropout(present, rate, torch.Generator().manual_seed(seed))
    assert torch.equal(kept, again)


def test_dropout_rate_zero_is_the_identity_and_one_leaves_few():
    present = torch.rand(500, 3) < 0.7
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(modality_dropout(present, 0.0, generator), present)
    assert modality_dropout(present, 1.0, generator).sum() < 0.6 * present.sum()


def test_dropout_draws_a_rate_for_each_sample():
    present = torch.ones(20_000, 8, dtype=torch.bool)
    kept = modality_dropout(present, 0.4, torch.Generator().manual_seed(0))
    share = 1 - kept.double().mean(dim=1)
    assert share.mean() == pytest.approx(0.4, abs=0.01)
    # variance of U(0, 0.8) plus the binomial part, E[p (1 - p)] / 8
    expected = 0.64 / 12 + (0.4 - 0.64 / 3) / 8
    assert share.var() == pytest.approx(expected, abs=0.005)


def test_dropout_checks_its_rate():
    with pytest.raises(ConfigError, match="modality_dropout must have a rate"):
        modality_dropout(torch.ones(1, 1).bool(), 1.5, torch.Generator())


def test_repr_is_one_line():
    present = np.ones((200, 2), dtype=bool)
    present[:50, 1] = False
    plan = MaskPlan(present, ("labs", "ecg"), "mcar(0.1)", seed=3)
    expected = "MaskPlan(mcar(0.1), seed 3): 200 samples, 12% removed of labs, ecg"
    assert repr(plan) == expected


def test_modality_dropout_has_a_rate_for_each_modality():
    present = torch.ones(4000, 3, dtype=torch.bool)
    equal = [
        modality_dropout(present, rate, torch.Generator().manual_seed(0))
        for rate in (0.35, torch.full((3,), 0.35))
    ]
    assert torch.equal(*equal)
    rates = torch.tensor([0.0, 0.2, 0.4])
    kept = modality_dropout(present, rates, torch.Generator().manual_seed(0))
    assert (1 - kept.float().mean(0) - rates).abs().max() < 0.03
    with pytest.raises(ConfigError, match=r"a rate in \[0, 1\], got 1.5"):
        modality_dropout(present, 1.5 * torch.ones(3), torch.Generator())
