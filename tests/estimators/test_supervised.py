"""FusionClassifier and FusionRegressor: labels, missing modalities, options."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mmgraph import (
    ConfigError,
    DataError,
    DataWarning,
    FusionClassifier,
    FusionRegressor,
    FusionRetriever,
    Modality,
    MultimodalData,
    Schema,
)

pytestmark = pytest.mark.usefixtures("few_trees")

SMALL: dict[str, Any] = {
    "members": 2,
    "epochs": 1,
    "hidden_channels": 8,
    "num_heads": 2,
    "experts": ("linear",),
}
NUM = 30
RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(NUM, 3)), RNG.normal(size=(NUM, 2))
Y = (A[:, 0] > 0).astype(int)
PLAIN = [Modality("a", 3), Modality("b", 2)]


def make(y: Any = Y, **plain: Any) -> MultimodalData:
    """Two vectors for 30 samples; the first tells the label."""
    return MultimodalData.from_arrays({"a": A, "b": B}, y=y, **plain)


def classifier(**options: Any) -> FusionClassifier:
    return FusionClassifier(**{**SMALL, **options})


def regressor(**options: Any) -> FusionRegressor:
    return FusionRegressor(**{**SMALL, **options})


def hidden(data: MultimodalData, *names: str) -> MultimodalData:
    return data.mask({name: np.zeros(len(data), bool) for name in names})


@pytest.fixture(scope="module")
def plain() -> FusionClassifier:
    """A classifier of two classes and two vectors; tests only ask it."""
    return classifier().fit(make())


# Labels


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["no", "yes, certainly"])[Y],
        np.array(["no", "yes"], dtype=object)[Y],
        Y == 1,
        Y + 5,
        Y.astype(np.float32),
    ],
    ids=["strings", "objects", "booleans", "integers", "floats"],
)
def test_predictions_are_labels_of_the_kind_that_was_given(labels):
    fitted = classifier().fit(make(labels))
    assert fitted.classes_.tolist() == sorted(set(labels.tolist()))
    predicted = fitted.predict(make())
    assert set(predicted.tolist()) <= set(labels.tolist())
    assert predicted.dtype.kind == fitted.classes_.dtype.kind
    assert fitted.score(make(labels)) > 0.8
    assert fitted.score(make(None), labels.tolist()) == fitted.score(make(labels))


@pytest.mark.parametrize(
    ("labels", "missing"),
    [(Y.astype(float), np.nan), (np.array(["n", "y"], dtype=object)[Y], None)],
    ids=["NaN", "None"],
)
def test_samples_without_a_label_are_left_out(labels, missing):
    holes = labels.copy()
    holes[:7] = missing
    fitted = classifier().fit(make(holes))
    assert len(fitted.classes_) == 2
    left = classifier().fit(make(labels)[7:])
    assert np.array_equal(fitted.predict_proba(make()), left.predict_proba(make()))
    assert fitted.score(make(holes)) == fitted.score(make(labels)[7:])


def test_labels_that_cannot_be_learned_are_refused():
    cases: list[tuple[Any, str]] = [
        ([np.nan] * NUM, "fit needs at least one known label, got none"),
        ([None] * NUM, "fit needs at least one known label, got none"),
        (None, "fit needs labels, got data without y"),
        (A[:, 0], "Unknown label type: continuous"),
        (np.c_[Y, Y + 1], "y of several labels must hold 0, 1 or NaN"),
        (np.array([["a", "b"]] * NUM), "y of several labels must hold 0, 1 or NaN"),
    ]
    for labels, message in cases:
        with pytest.raises(DataError, match=message):
            classifier().fit(make(labels))
    with pytest.raises(DataError, match="at least one known label"):
        classifier().fit(make()[:0])
    with pytest.raises(DataError, match="one label per sample: 30 samples, got 29"):
        classifier().fit(make(None), Y[:-1])


def test_labels_that_cannot_be_scored_are_refused(plain):
    cases: list[tuple[Any, str]] = [
        (None, "score needs labels, got none"),
        (Y[:3], "one label per sample: 30 samples, got 3"),
        (np.full(NUM, np.nan), "score needs at least one known label"),
        (np.c_[Y, Y], r"y must have the shape of predictions, \[30\], got \[30, 2\]"),
    ]
    for labels, message in cases:
        with pytest.raises(DataError, match=message):
            plain.score(make(None), labels)


def test_labels_of_another_type_are_not_scored(plain):
    with pytest.raises(DataError, match=r"labels such as [01], got '[01]'"):
        plain.score(make(None), Y.astype(str))
    named = classifier().fit(make(np.array(["no", "yes"])[Y]))
    with pytest.raises(DataError, match=r"labels such as '(no|yes)', got [01]"):
        named.score(make(None), Y)
    gaps = np.where(np.arange(NUM) % 2, np.array(["no", "yes"])[Y], None)
    assert named.score(make(None), gaps) > 0.5


@pytest.mark.parametrize("ask", ["fit", "predict"])
def test_arrays_by_modality_are_not_data_yet(ask, plain):
    asked = classifier() if ask == "fit" else plain
    with pytest.raises(DataError, match=r"got (a dict of|\d+ rows).*Build it with Mul"):
        getattr(asked, ask)({"a": A, "b": B})


def test_a_single_step_is_not_trained_on():
    assert classifier(batch_size=500).fit(make()).history_.steps == 2


@pytest.mark.parametrize("kind", [FusionClassifier, FusionRegressor])
def test_targets_of_which_no_row_has_all_are_learned(kind):
    targets = np.c_[Y, 1 - Y].astype(float)
    targets[: NUM // 2, 0] = targets[NUM // 2 :, 1] = np.nan
    fitted = kind(**SMALL).fit(make(targets))
    assert np.isfinite(fitted.predict(make(None))).all()


def test_a_longer_name_is_not_taken_for_its_beginning():
    names = np.array(["ye", "yellow"])
    fitted = classifier().fit(make(names[Y]))
    shorter = np.array(["ye"] * NUM)
    assert fitted.score(make(None), shorter) == (fitted.predict(make()) == "ye").mean()


def test_several_labels_are_learned_each_on_its_own():
    labels = np.c_[Y, 1 - Y, RNG.integers(0, 2, NUM)].astype(float)
    labels[0], labels[1, 1] = np.nan, np.nan
    fitted = classifier().fit(make(labels))
    proba = fitted.predict_proba(make())
    assert proba.shape == (NUM, 3)
    assert np.array_equal(fitted.predict(make()), (proba > 0.5).astype(int))
    hits = ((proba > 0.5) == labels) | np.isnan(labels)
    assert fitted.score(make(labels)) == pytest.approx(hits.all(1)[1:].mean())
    counts = np.nansum(labels, 0) + 0.5
    prior = counts / ((~np.isnan(labels)).sum(0) + 1)
    nothing = hidden(make(), "a", "b")
    assert fitted.predict_proba(nothing) == pytest.approx(np.tile(prior, (NUM, 1)))
    balanced = fitted.predict(make(), balanced=True)
    assert np.array_equal(balanced, (proba > prior).astype(int))


@pytest.mark.parametrize("experts", [("linear",), ("linear", "forest")])
def test_one_class_is_certain(experts):
    fitted = classifier(experts=experts).fit(make(np.full(NUM, 7)))
    assert np.array_equal(fitted.predict_proba(make()), np.ones((NUM, 1)))
    assert fitted.predict(make()).tolist() == [7] * NUM


@pytest.mark.parametrize("unknown", [[3, None, 1], [3.0, np.nan, 1.0]])
def test_whole_numbers_stay_whole_where_some_are_unknown(unknown):
    data = make(unknown * (NUM // 3))
    fitted = classifier().fit(data)
    assert fitted.classes_.dtype.kind == fitted.predict(data).dtype.kind == "i"
    assert fitted.classes_.tolist() == [1, 3]
    assert fitted.score(data) > 0
    with pytest.raises(DataError, match="FusionRegressor"):
        classifier().fit(make([0.5, np.nan, 1.0] * (NUM // 3)))


def test_balanced_predictions_weigh_classes_by_their_frequency():
    rare = (A[:, 0] > np.sort(A[:, 0])[-5]).astype(int)
    fitted = classifier().fit(make(rare))
    shares = (np.bincount(rare) + 0.5) / (NUM + 1)
    expected = (fitted.predict_proba(make()) / shares).argmax(1)
    balanced = fitted.predict(make(), balanced=True)
    assert np.array_equal(balanced, expected)
    assert balanced.sum() > fitted.predict(make()).sum()


# Few samples


@pytest.mark.parametrize("experts", [("linear",), ("linear", "spline", "forest")])
@pytest.mark.parametrize("num", [1, 2])
def test_one_or_two_samples_are_enough(num, experts):
    rows = [int(np.flatnonzero(k == Y)[0]) for k in range(num)]
    fitted = classifier(experts=experts).fit(make()[rows])
    proba = fitted.predict_proba(make())
    assert proba.shape == (NUM, num)
    assert proba.sum(1) == pytest.approx(np.ones(NUM))
    predicted = regressor(experts=experts).fit(make()[rows]).predict(make())
    assert np.isfinite(predicted).all()


def test_no_samples_give_no_predictions(plain):
    assert plain.predict_proba(make()[:0]).shape == (0, 2)
    assert plain.predict(make()[:0]).shape == (0,)
    assert regressor().fit(make(A[:, :2])).predict(make()[:0]).shape == (0, 2)


# Missing and unknown modalities


@pytest.mark.parametrize("empty", [np.full((NUM, 2), np.nan), [None] * NUM])
def test_modality_that_training_never_saw_is_not_read(empty):
    data = MultimodalData.from_arrays({"a": A, "b": empty}, y=Y)
    fitted = classifier(experts=("linear", "forest")).fit(data)
    predicted = fitted.predict_proba(make())
    assert np.array_equal(predicted, fitted.predict_proba(data))
    assert fitted.score(make()) > 0.8


def test_modality_may_be_absent_at_prediction(plain):
    gone = plain.predict_proba(make().select(["a"]))
    assert np.array_equal(gone, plain.predict_proba(hidden(make(), "b")))
    assert not np.array_equal(gone, plain.predict_proba(make()))


def test_sequences_that_look_like_vectors_are_sequences_where_the_training_had_them():
    rng = np.random.default_rng(0)
    waves = [rng.normal(size=1 + i % 4).tolist() for i in range(24)]
    steps = [rng.normal(size=(1 + i % 3, 2)) for i in range(24)]
    data = MultimodalData.from_arrays({"a": waves, "b": steps}, y=np.arange(24) % 2)
    clf = FusionClassifier(epochs=1, members=1, experts=("linear",)).fit(data)
    expected = clf.predict_proba(data)
    for i in range(4):
        alone = MultimodalData.from_arrays({"a": waves[i : i + 1], "b": [steps[i]]})
        np.testing.assert_array_equal(clf.predict_proba(alone), expected[i : i + 1])
    one_step = MultimodalData.from_arrays({"b": np.concatenate(steps[::3])})
    np.testing.assert_array_equal(
        clf.predict_proba(one_step), clf.predict_proba(data[::3].select(["b"]))
    )


def test_data_that_do_not_fit_are_refused_in_one_line(plain):
    words = ["some words"] * NUM
    cases = [
        ({"z": A}, "Modality 'z' must be in the schema, which has a, b"),
        ({"a": B}, "Modality 'a' must have 3 channels, got 2"),
        (
            {"a": words},
            "Modality 'a' must hold numbers as in the training, got strings",
        ),
    ]
    for content, message in cases:
        with pytest.raises(DataError, match=message) as caught:
            plain.predict(MultimodalData.from_arrays(content))
        assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="with modalities a, b, got ndarray"):
        plain.predict(A)


@pytest.mark.parametrize("experts", [("linear",), ("linear", "spline", "forest")])
def test_nothing_observed_gives_the_training_prior(experts):
    rare = (A[:, 0] > 1).astype(int)
    shares = (np.bincount(rare) + 0.5) / (NUM + 1)
    nothing = hidden(make(), "a", "b")
    fitted = classifier(experts=experts).fit(make(rare))
    assert fitted.predict_proba(nothing) == pytest.approx(np.tile(shares, (NUM, 1)))
    predicted = regressor(experts=experts).fit(make(3 * A[:, 0])).predict(nothing)
    assert predicted == pytest.approx(np.full(NUM, 3 * A[:, 0].mean()), abs=1e-5)


def test_training_without_anything_observed_learns_the_prior():
    nothing = hidden(make(), "a", "b")
    fitted = classifier(experts=("linear", "forest")).fit(nothing)
    shares = (np.bincount(Y) + 0.5) / (NUM + 1)
    assert fitted.predict_proba(make()) == pytest.approx(np.tile(shares, (NUM, 1)))


# Sequences, text, groups


def sequences() -> MultimodalData:
    lengths = [0 if i % 5 == 0 else 1 + i % 7 * 4 for i in range(NUM)]
    signal = [np.full((n, 2), A[i, 0]) if n else None for i, n in enumerate(lengths)]
    times = [np.arange(n) / 4 if n else None for n in lengths]
    return MultimodalData.from_arrays(
        {"b": B, "signal": signal}, y=Y, times={"signal": times}
    )


@pytest.mark.parametrize("completion", [False, True])
def test_sequences_with_times_are_learned(completion):
    fitted = classifier(completion=completion).fit(sequences())
    assert fitted.schema_.modality("signal").time
    seen = sequences().present[:, 1]
    assert fitted.score(sequences()[seen]) > 0.8


def texts(**options: Any) -> MultimodalData:
    notes: list[str | None] = ["a good day" if label else "bad night" for label in Y]
    notes[3] = None
    return MultimodalData.from_arrays({"b": B, "note": notes}, y=Y, **options)


def test_text_without_an_encoder_is_read_as_hashed_words():
    schema = Schema.star([PLAIN[1], Modality("note", kind="text")])
    for fitted in (
        classifier().fit(texts()),
        classifier().fit(texts(schema=schema)),
        classifier(schema=schema).fit(texts()),
    ):
        assert fitted.schema_.modality("note") == Modality("note", 256, "embedding")
        assert fitted.score(texts()[4:]) > 0.9
        empty = MultimodalData.from_arrays({"b": B, "note": [None] * NUM})
        without = fitted.predict_proba(empty)
        assert np.array_equal(without, fitted.predict_proba(hidden(texts(), "note")))
    nobody = classifier(schema=schema).fit(hidden(texts(), "note"))
    assert np.array_equal(nobody.predict_proba(texts()), nobody.predict_proba(empty))


def test_a_text_may_come_twice():
    fitted = classifier().fit(texts())
    drawn = [6, 6, 3, 1]
    predicted = fitted.predict_proba(texts()[drawn])
    assert predicted == pytest.approx(fitted.predict_proba(texts())[drawn], abs=1e-6)


def certainty(seed: int) -> tuple[float, float]:
    """How sure predictions of strangers are, with and without knowing the groups.

    Only the identity determines the label, so that probabilities should be moderate.
    """
    rng = np.random.default_rng(seed)
    signature, group = rng.normal(size=(20, 3)), np.arange(160) % 20
    x = signature[group] + 0.01 * rng.normal(size=(160, 3))
    strangers = MultimodalData.from_arrays({"x": 3 * rng.normal(size=(200, 3))})
    known, unknown = (
        classifier(experts=("linear", "forest"), epochs=3).fit(
            MultimodalData.from_arrays({"x": x}, y=group % 2, groups=groups)
        )
        for groups in (group, None)
    )
    return tuple(
        float(fit.predict_proba(strangers).max(1).mean()) for fit in (known, unknown)
    )


@pytest.mark.slow
def test_groups_stay_together_when_experts_are_judged():
    known, unknown = np.mean([certainty(seed) for seed in range(4)], axis=0)
    assert known < unknown - 0.05
    one = classifier(experts=("linear", "forest")).fit(make(groups=[1] * NUM))
    assert np.isfinite(one.predict_proba(make())).all()


# Options


@pytest.mark.parametrize(
    "options",
    [
        {"schema": Schema.complete(PLAIN)},
        {"schema": Schema.late(PLAIN)},
        {"schema": Schema.bottleneck(PLAIN, num_nodes=2)},
        {"schema": Schema.star(PLAIN), "completion": True},
        {"feed_forward": "mixture"},
        {"feed_forward": "none", "capacity": "scalar"},
        {"capacity": "full", "experts": ("spline", "forest")},
    ],
    ids=str,
)
def test_every_shape_of_graph_learns(options):
    fitted = classifier(**options).fit(make())
    assert fitted.score(make()) > 0.8
    if "schema" in options:
        assert fitted.schema_ == options["schema"]
    part = fitted.predict_proba(hidden(make(), "a"))
    assert np.isfinite(part).all()
    assert not np.array_equal(part, fitted.predict_proba(make()))


def test_schema_must_be_that_of_the_data():
    with pytest.raises(DataError, match="Modality 'b' must be in the schema"):
        classifier(schema=Schema.star(PLAIN[:1])).fit(make())
    more = Schema.star([*PLAIN, Modality("c", 1)])
    with pytest.raises(DataError, match="must have the modality 'c' of the schema"):
        classifier(schema=more).fit(make())


@pytest.mark.parametrize(
    ("option", "value", "rule"),
    [
        ("epochs", 0, "None or a whole number above 0"),
        ("members", 0, "a whole number above 0"),
        ("members", True, "a whole number above 0"),
        ("batch_size", -1, "a whole number above 0"),
        ("hidden_channels", 2.5, "a whole number above 0"),
        ("num_layers", None, "a whole number above 0"),
        ("num_heads", "2", "a whole number above 0"),
        ("seed", -1, "a whole number from 0 to"),
        ("seed", None, "a whole number from 0 to"),
        ("learning_rate", 0, "above 0"),
        ("weight_decay", float("nan"), "at least 0"),
        ("missing_rate", 1.5, "between 0 and 1"),
        ("capacity", "fulll", "one of bias, scalar, full"),
        ("feed_forward", None, "one of typed, mixture, none"),
        ("experts", "linear", "a list of some of"),
        ("experts", (), "a list of some of"),
        ("experts", ("tree",), "a list of some of"),
        ("schema", "star", "a Schema or None"),
        ("device", "toaster", "a device of PyTorch, such as"),
        ("hidden_channels", 9, "a multiple of num_heads=2"),
        ("verbose", "yes", "None, True or False"),
        ("encoders", "bert", "a dict of encoders by modality"),
        ("checkpoint_dir", 5, "the path of a folder"),
    ],
)
def test_wrong_option_is_named_before_anything_else(option, value, rule):
    with pytest.raises(ConfigError, match=f"{option} must be {rule}"):
        classifier().set_params(**{option: value}).fit(make(None))  # without labels


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU that is there")
def test_gpu_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="device must be available, got 'cuda'"):
        classifier(device="cuda").fit(make())


def test_cpu_can_be_asked_for():
    fitted = classifier(device="cpu").fit(make())
    assert {p.device.type for p in fitted.model_.parameters()} == {"cpu"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no GPU")
def test_predictions_of_gpu_and_cpu_agree():
    on_gpu = classifier(device="cuda").fit(make())
    on_cpu = classifier(device="cpu").fit(make())
    assert {p.device.type for p in on_gpu.model_.parameters()} == {"cuda"}
    predicted = on_cpu.predict_proba(make())
    assert on_gpu.predict_proba(make()) == pytest.approx(predicted, abs=0.02)


# Regression


def test_numbers_are_predicted_in_the_shape_of_the_targets():
    flat = regressor().fit(make(100 * A[:, 0]))
    assert flat.predict(make()).shape == (NUM,)
    assert flat.score(make(100 * A[:, 0])) > 0.5
    targets = 10 + A[:, :2]
    targets[0], targets[1, 0] = np.nan, np.nan
    both = regressor().fit(make(targets))
    assert both.predict(make()).shape == (NUM, 2)
    assert both.score(make(targets)) > 0.5
    assert regressor().fit(make(A[:, :1])).predict(make()).shape == (NUM, 1)
    constant = regressor(experts=("linear", "forest")).fit(make(np.full(NUM, 3.0)))
    assert constant.predict(make()) == pytest.approx(np.full(NUM, 3.0))


def test_samples_without_a_target_are_left_out():
    targets = A[:, 0].copy()
    targets[:6] = np.nan
    left = regressor().fit(make(A[:, 0])[6:])
    fitted = regressor().fit(make(targets))
    assert np.array_equal(fitted.predict(make()), left.predict(make()))
    score = left.score(make(A[:, 0])[6:])
    assert fitted.score(make(targets)) == pytest.approx(score, abs=1e-6)


def test_targets_that_cannot_be_used_are_refused():
    cases: list[tuple[Any, str]] = [
        (np.full(NUM, np.nan), "fit needs at least one known target, got none"),
        (["low"] * NUM, "y must hold numbers for regression, got strings"),
        (1e300 * A[:, 0], "y must have a finite variance"),
    ]
    for targets, message in cases:
        with pytest.raises(DataError, match=message):
            regressor().fit(make(targets))
    fitted = regressor().fit(make(A[:, :2]))
    half = np.c_[A[:, 0], np.full(NUM, np.nan)]
    with pytest.raises(DataError, match="a sample with all targets known, got none"):
        fitted.score(make(half))


# Randomness and output


def test_same_seed_gives_the_same_bits_and_another_seed_others():
    options: dict[str, Any] = {"experts": ("linear", "forest"), "epochs": 4}
    predicted = [
        classifier(**options).set_params(seed=seed).fit(make()).predict_proba(make())
        for seed in (0, np.int64(0), 1)
    ]
    assert np.array_equal(predicted[0], predicted[1])
    assert not np.array_equal(predicted[0], predicted[2])


def test_global_random_states_are_left_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    fitted = classifier(experts=("linear", "forest"), completion=True).fit(make())
    fitted.predict_proba(make())
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])  # noqa: NPY002


def test_training_is_silent_unless_asked(capfd):
    classifier().fit(make()).predict(make())
    assert capfd.readouterr() == ("", "")


def test_progress_names_what_is_going_on(capfd, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    classifier(verbose=True, epochs=5).fit(make())
    assert "fitting the graph" in capfd.readouterr().err


# Names of channels


def named(*channels: str) -> MultimodalData:
    """A table of the channels of "a", in this order, beside "b" without names."""
    table = {name: A[:, i] for i, name in enumerate(("wbc", "crp", "age"))}
    frame = pd.DataFrame({name: table[name] for name in channels} | {"died": Y})
    return MultimodalData.from_pandas(frame, modalities={"a": list(channels)}, y="died")


@pytest.mark.parametrize("saved", [False, True])
def test_channels_are_known_by_their_names(saved, tmp_path):
    data = named("wbc", "crp", "age")
    fitted = classifier().fit(data)
    if saved:
        fitted.save_pretrained(tmp_path)
        fitted = FusionClassifier.from_pretrained(tmp_path)
    predicted = fitted.predict_proba(data)
    swapped = named("age", "wbc", "crp")
    assert not np.array_equal(swapped.columns["a"].values, data.columns["a"].values)
    assert np.array_equal(fitted.predict_proba(swapped), predicted)
    assert fitted.score(swapped) == fitted.score(data)
    unnamed = MultimodalData.from_arrays({"a": A.astype(np.float32)})
    assert np.array_equal(fitted.predict_proba(unnamed), predicted)
    unknown = A.copy()
    unknown[:, 2] = np.nan
    expected = fitted.predict_proba(MultimodalData.from_arrays({"a": unknown}))
    with pytest.warns(DataWarning, match=r"'a' lacks columns of .*: age\. Their cells"):
        lacking = fitted.predict_proba(named("wbc", "crp"))
    assert np.array_equal(lacking, expected)


def test_names_of_channels_do_not_matter_where_the_training_had_none():
    fitted = classifier().fit(MultimodalData.from_arrays({"a": A}, y=Y))
    plain = fitted.predict_proba(
        MultimodalData.from_arrays({"a": A.astype(np.float32)})
    )
    assert np.array_equal(fitted.predict_proba(named("wbc", "crp", "age")), plain)


def test_a_retriever_aligns_channels_by_their_names():
    pairs = {"left": ["wbc", "crp"], "right": ["age", "dose"]}
    table = dict(zip(["wbc", "crp", "age", "dose"], np.c_[A, A[:, :1]].T, strict=True))
    frame = pd.DataFrame(table)
    fitted = FusionRetriever().fit(MultimodalData.from_pandas(frame, modalities=pairs))
    z = [
        fitted.embed(MultimodalData.from_pandas(frame, modalities={"left": channels}))
        for channels in (["wbc", "crp"], ["crp", "wbc"])
    ]
    assert np.array_equal(*z)
