"""Views, their base learners, and submodels of subsets of modalities."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mmgraph import (
    Batch,
    FusionClassifier,
    FusionRegressor,
    Latent,
    Modality,
    MultimodalData,
    Relation,
    Schema,
)
from mmgraph.errors import CheckpointError
from mmgraph.experts.links import link_of, prior_of
from mmgraph.experts.product_view import ProductView
from mmgraph.experts.serialization import ensemble_config, ensemble_from_config
from mmgraph.experts.submodels import (
    ConvolutionExpert,
    PriorExpert,
    RidgeTraining,
    Submodels,
    fit_convolution,
    fit_submodels,
)
from mmgraph.experts.views import SequenceView, fit_views, plan_views, view_tables
from mmgraph.nn.heads import Classification

NUM = 90


def recordings(seed: int = 0, num: int = NUM) -> MultimodalData:
    """Two sensors whose frequency is the class, and a vector; a fifth is missing."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, num)

    def sensor(channels: int) -> list:
        made = []
        for label in y:
            time = np.arange(rng.integers(1, 40)) / 10
            x = 0.7 * rng.normal(size=(len(time), channels))
            x[:, 0] += 2 * np.sin(time * (2 + 3 * label))
            made.append(None if rng.random() < 0.2 else x.astype(np.float32))
        return made

    labs = [None if rng.random() < 0.2 else rng.normal(size=4) + c for c in y]
    return MultimodalData.from_arrays({"a": sensor(2), "b": sensor(3), "v": labs}, y=y)


@pytest.fixture(scope="module")
def training() -> RidgeTraining:
    data = recordings()
    features = [torch.from_numpy(x) for x in data.features().values()]
    views = plan_views(data.schema, [x.shape[1] for x in features])

    def read(rows):
        return data.batch(rows.numpy()), [x[rows] for x in features]

    names = data.schema.modality_names
    y, task = torch.from_numpy(data.y), Classification(3)
    present = torch.stack([~x.isnan().all(1) for x in features], 1)
    kernels = fit_views(views, names, len(data), read)
    prior, folds = prior_of(task, y), torch.arange(NUM) % 5
    return RidgeTraining(kernels, present, y, task, folds, prior)


def tables_of(training: RidgeTraining, data: MultimodalData) -> list[torch.Tensor]:
    features = [torch.from_numpy(x) for x in data.features().values()]
    views = training.kernels.views
    return view_tables(views, data.batch(), features)


def test_related_sequences_are_paired():
    def pairs(schema: Schema) -> list[tuple[str, ...]]:
        views = plan_views(schema, [1] * len(schema.modalities))
        return [view.names for view in views if len(view.names) > 1]

    a, b, c = (Modality(name, 2, tokens="ragged") for name in "abc")
    assert pairs(Schema.star([a, b, c])) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs(Schema.late([a, b, c])) == []
    own = [Relation("c", "a"), Relation("*", "fuse")]
    few = Schema([a, b, c], [Latent("fuse"), Latent("own")], own)
    assert ("a", "c") in pairs(few)
    apart = Schema([a, b, c], relations=[Relation("c", "a")])
    assert pairs(apart) == [("a", "c")]
    many = [Modality(f"s{i}", 1, tokens="ragged") for i in range(7)]
    assert pairs(Schema.star(many)) == []
    assert plan_views(Schema.star([Modality("labs", 3)]), [3]) == []


def test_vectors_are_multiplied_with_the_sequences_that_they_are_related_to():
    def products(schema: Schema, width: int = 3) -> list[tuple[str, ...]]:
        widths = [25 * 2 if m.tokens == "ragged" else width for m in schema.modalities]
        views = plan_views(schema, widths)
        return [view.names for view in views if isinstance(view, ProductView)]

    a, b = (Modality(name, 2, tokens="ragged") for name in "ab")
    v = Modality("v", 3)
    expected = [("v", "a"), ("v", "b"), ("v", "a", "b")]
    assert products(Schema.star([a, v, b])) == expected
    assert products(Schema.star([a, v, b]), 65) == []
    assert products(Schema.late([a, v, b])) == []
    only = Schema([a, v, b], relations=[Relation("v", "b")])
    assert products(only) == [("v", "b")]
    many = [Modality(f"v{i}", 3) for i in range(13)]
    assert products(Schema.star([a, *many])) == []


def test_products_approximate_the_product_of_kernels():
    generator = torch.Generator().manual_seed(0)
    vector, sequence = torch.randn(6, 4) / 2, torch.randn(6, 8).repeat(1, 2000)
    sequence[4], vector[5] = torch.nan, torch.nan
    view = ProductView(["v", "a"], 0, 1, 4, 16000)
    table = view.fit(recordings(0, 6).batch(), [vector, sequence], generator)
    gram = torch.exp(-torch.cdist(vector[:4], vector[:4]).square() / 2)
    expected = gram * (sequence[:4] @ sequence[:4].T)
    torch.testing.assert_close(
        table[:4] @ table[:4].T / 2000, expected / 2000, atol=0.3, rtol=0
    )
    assert table[4:].isnan().all()


def test_view_of_a_sample_does_not_depend_on_the_batch(training):
    data = recordings(1, 20)
    whole = tables_of(training, data)
    for i in range(20):
        alone = tables_of(training, data[[i]])
        for x, table in zip(alone, whole, strict=True):
            torch.testing.assert_close(
                x[0], table[i], atol=1e-6, rtol=0, equal_nan=True
            )


def test_view_is_missing_where_one_end_is(training):
    data = recordings(1, 20)
    present = data.batch().present
    tables = tables_of(training, data)[3:]
    for view, table in zip(training.kernels.views, tables, strict=True):
        ends = [data.modalities.index(name) for name in view.names]
        assert torch.equal(~table.isnan().any(1), present[:, ends].all(1))
        assert torch.equal(table.isnan().all(1), ~present[:, ends].all(1))


def test_regular_batches_have_the_views_of_packed_ones(training):
    data = recordings(1, 8).select(["a", "b"])
    packed = data.batch()
    x, lengths = {}, {}
    for name, column in data.columns.items():
        lengths[name] = torch.from_numpy(column.lengths)
        x[name] = torch.full((8, 45, column.channels), 1e6)
        for i, (start, stop) in enumerate(
            zip(column.offsets[:-1], column.offsets[1:], strict=True)
        ):
            x[name][i, : stop - start] = torch.from_numpy(column.values[start:stop])
    regular = Batch.regular(x, packed.present, lengths=lengths)
    for view in training.kernels.views:
        if isinstance(view, SequenceView):
            torch.testing.assert_close(
                view(regular, []), view(packed, []), atol=1e-5, rtol=0, equal_nan=True
            )


def test_convolution_predicts_out_of_fold(training):
    scores, expert = fit_convolution(training, 0)
    assert isinstance(expert, ConvolutionExpert)
    rows = training.present[:, 0]
    right = (scores.argmax(1) == training.y)[rows].float().mean()
    assert right > 0.6
    table = tables_of(training, recordings())[3 + expert.view]
    fitted = expert(table[rows])
    assert training.task.loss(fitted, training.y[rows]) < training.task.loss(
        scores[rows], training.y[rows]
    )
    assert isinstance(fit_convolution(training, 2)[1], PriorExpert)


def test_submodels_predict_with_the_largest_subset_that_is_present(training):
    fitted = fit_submodels(training)
    assert fitted is not None
    scores, model = fitted.scores, fitted.model
    assert model.subsets == [[0, 1], [0, 2], [1, 2], [0, 1, 2]]
    assert scores.shape == (NUM, 4, 3)
    present = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 0]]).bool()
    chosen = model.select(scores[:4], present)
    assert torch.equal(chosen[0], scores[0, 3])
    assert torch.equal(chosen[1], scores[1, 1])
    assert torch.equal(chosen[2:], training.prior.expand(2, -1))


def test_unseen_subsets_fall_back_to_a_smaller_one():
    model = Submodels(4, [[0], [1]], [[0, 1], [0, 1, 2]], [3, 3], 2, "softmax")
    scores = torch.randn(2, 2, 2)
    present = torch.tensor([[1, 1, 0, 1], [1, 1, 1, 1]]).bool()
    chosen = model.select(scores, present)
    assert torch.equal(chosen[0], scores[0, 0])
    assert torch.equal(chosen[1], scores[1, 1])


def test_submodels_read_nothing_of_missing_modalities(training):
    fitted = fit_submodels(training)
    model = fitted.model
    data = recordings(1, 20)

    def tables_read(part):
        tables = tables_of(training, part)
        return [*tables[:3], *(tables[3 + v] for v in fitted.views)]

    tables = tables_read(data)
    present = torch.ones(20, 3, dtype=torch.bool)
    present[:, 1] = False
    reduced = tables_read(data.mask({"b": np.zeros(20, bool)}))
    seen = data.batch().present & present
    torch.testing.assert_close(
        model(tables, seen), model(reduced, seen), atol=1e-6, rtol=0
    )


def test_landmarks_approximate_all_samples(training, monkeypatch):
    monkeypatch.setattr("mmgraph.experts.views.MAX_CELLS", 60 * NUM)
    data = recordings()
    features = [torch.from_numpy(x) for x in data.features().values()]
    views = plan_views(data.schema, [x.shape[1] for x in features])

    def read(rows):
        return data.batch(rows.numpy()), [x[rows] for x in features]

    kernels = fit_views(views, data.schema.modality_names, NUM, read)
    assert len(kernels.landmarks) == 60
    assert kernels.kernels[0].shape == (NUM, 60)
    few = RidgeTraining(
        kernels,
        training.present,
        training.y,
        training.task,
        training.folds,
        training.prior,
    )
    scores, _ = fit_convolution(few, 0)
    rows = training.present[:, 0]
    assert (scores.argmax(1) == training.y)[rows].float().mean() > 0.55
    # nearer to the fit of all samples than if landmarks explained every kernel
    explained = [torch.zeros_like(each) for each in kernels.diagonal]
    free = replace(few, kernels=replace(kernels, diagonal=explained))
    exact, _ = fit_convolution(training, 0)
    errors = [
        (fit_convolution(each, 0)[0] - exact)[rows].square().mean()
        for each in (few, free)
    ]
    assert errors[0] < 0.8 * errors[1]


def test_sample_weights_of_zero_remove_samples(training):
    keep = torch.arange(NUM) % 3 > 0
    arguments = (training.task, training.folds, training.prior)
    weighted = RidgeTraining(
        training.kernels, training.present, training.y, *arguments, keep.float() * 1.5
    )
    masked = RidgeTraining(
        training.kernels, training.present & keep[:, None], training.y, *arguments
    )
    first, second = (fit_convolution(t, 0)[0][keep] for t in (weighted, masked))
    rows = training.present[keep, 0]
    agree = first[rows].argmax(1) == second[rows].argmax(1)
    assert agree.float().mean() > 0.95


FAST = {"epochs": 1, "members": 1, "experts": ("linear", "convolution", "submodels")}


@pytest.fixture(scope="module")
def classifier() -> FusionClassifier:
    return FusionClassifier(**FAST).fit(recordings())


def test_estimators_save_and_load_views(classifier, tmp_path):
    test = recordings(1, 30)
    classifier.save_pretrained(tmp_path)
    loaded = FusionClassifier.from_pretrained(tmp_path)
    expected = classifier.predict_proba(test)
    assert np.array_equal(loaded.predict_proba(test), expected)
    assert classifier.score(test) > 0.6


def test_products_are_saved_and_their_factors_checked(monkeypatch, tmp_path):
    monkeypatch.setattr("mmgraph.experts.submodels.PAIR_WEIGHTS", (0.0,))
    monkeypatch.setattr("mmgraph.experts.submodels.PRODUCT_WEIGHTS", (1.0,))
    options = {**FAST, "experts": ("linear", "submodels")}
    clf, test = FusionClassifier(**options).fit(recordings()), recordings(1, 20)
    ensemble = clf.model_.ensemble
    assert [view.names for view in ensemble.views][3:] == [("v", "a"), ("v", "b")]
    clf.save_pretrained(tmp_path)
    loaded = FusionClassifier.from_pretrained(tmp_path)
    assert np.array_equal(loaded.predict_proba(test), clf.predict_proba(test))
    config = ensemble_config(ensemble)
    for index in (2, 6, 99, -1, "0"):
        config["views"][3]["vector"] = index
        with pytest.raises(CheckpointError, match="must be from 0 to"):
            ensemble_from_config(config, [50, 75, 4], Classification(3))


def test_estimators_predict_a_sample_alone_as_in_a_batch(classifier):
    test = recordings(1, 12)
    whole = classifier.predict_proba(test)
    alone = [classifier.predict_proba(test[[i]])[0] for i in range(12)]
    np.testing.assert_allclose(alone, whole, atol=1e-6)
    order = np.arange(12)[::-1]
    np.testing.assert_allclose(
        classifier.predict_proba(test[order])[order], whole, atol=1e-6
    )


def test_estimators_predict_from_any_subset(classifier):
    test = recordings(1, 12)
    for names in (["a"], ["b", "v"], ["v", "a"]):
        proba = classifier.predict_proba(test.select(names))
        np.testing.assert_allclose(proba.sum(1), 1, atol=1e-6)
    nothing = test.mask({name: np.zeros(12, bool) for name in test.modalities})
    prior = classifier.model_.ensemble.pool.prior.softmax(0).numpy()
    proba = classifier.predict_proba(nothing)
    np.testing.assert_allclose(proba, np.tile(prior, (12, 1)), atol=1e-6)


def test_vectors_have_no_views():
    data = recordings().select(["v"])
    clf = FusionClassifier(epochs=1, members=1, experts=("convolution", "linear"))
    ensemble = clf.fit(data).model_.ensemble
    assert not len(ensemble.views)
    assert not len(ensemble.joint)
    only = FusionClassifier(epochs=1, members=1, experts=("convolution",)).fit(data)
    assert isinstance(only.model_.ensemble.expert_lists[0][0], PriorExpert)


@pytest.mark.parametrize("several", [False, True])
def test_regression_and_labels(several):
    data = recordings()
    y = data.y.astype(np.float64)
    if several:
        y = np.stack([y > 0, y == 1], 1).astype(np.float64)
        y[::7, 0] = np.nan
    train = replace(data, y=y)
    estimator = (FusionClassifier if several else FusionRegressor)(**FAST).fit(train)
    view = [v.names for v in estimator.model_.ensemble.views]
    assert {("a",), ("b",), ("v",)} <= set(view)
    assert link_of(estimator.model_.graph.task) == (
        "sigmoid" if several else "identity"
    )
    test = recordings(1, 40)
    if several:
        proba = estimator.predict_proba(test)
        assert ((proba[:, 0] > 0.5) == (test.y > 0)).mean() > 0.7
    else:
        error = np.square(estimator.predict(test) - test.y).mean()
        assert error < 0.8 * test.y.var()


@pytest.mark.slow
def test_progress_holds_the_scores_of_submodels(tmp_path):
    options = {**FAST, "checkpoint_dir": tmp_path / "progress"}
    data = recordings()
    expected = FusionClassifier(**FAST).fit(data).predict_proba(data)
    stopped = FusionClassifier(**options)

    def interrupt(*_args, **_kwargs):
        raise KeyboardInterrupt

    stopped._fit_graph = interrupt
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(data)
    resumed = FusionClassifier(**options).fit(data)
    np.testing.assert_allclose(resumed.predict_proba(data), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("pair", "product", "number"),
    [(0.0, 0.0, 3), (2.0, 0.0, 4), (0.0, 1.0, 5), (1, 1, 7)],
)
def test_views_of_several_modalities_enter_by_their_out_of_fold_gain(
    training, monkeypatch, pair, product, number
):
    monkeypatch.setattr("mmgraph.experts.submodels.PAIR_WEIGHTS", (pair,))
    monkeypatch.setattr("mmgraph.experts.submodels.PRODUCT_WEIGHTS", (product,))
    fitted = fit_submodels(training)
    scores, model = fitted.scores, fitted.model
    assert len(model.needs) == len(fitted.views) == number
    tables = tables_of(training, recordings())
    read = [*tables[:3], *(tables[3 + v] for v in fitted.views)]
    predicted = model(read, training.present)
    several = training.present.sum(1) > 1
    right = (predicted.argmax(1) == training.y)[several].float().mean()
    out_of_fold = model.select(scores, training.present).argmax(1) == training.y
    assert right >= out_of_fold[several].float().mean() > 0.6
