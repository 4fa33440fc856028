"""Base learner on the edges between objects, conditioned on text."""

from dataclasses import replace

import jaxtyping
import numpy as np
import pytest
import torch

from mmgraph import (
    Batch,
    FusionClassifier,
    FusionRegressor,
    Modality,
    MultimodalData,
    MultimodalStream,
    Schema,
    SchemaError,
    serving,
)
from mmgraph.experts import relations
from mmgraph.experts.relations import (
    ObjectView,
    RelationExpert,
    RelationTraining,
    fit_relations,
    plan_objects,
)
from mmgraph.experts.serialization import ensemble_config, ensemble_from_config
from mmgraph.nn.heads import Classification, MultiLabel, Regression
from mmgraph.schema import Relation

QUESTIONS = {"is a dot left of a ring": (0, 1), "is a dot above a ring": (1, 0)}
FAST = {"epochs": 1, "members": 1, "experts": ("linear", "relations")}


@pytest.fixture
def few_steps(monkeypatch) -> None:
    """Train base learners of relations for 4 steps."""
    monkeypatch.setattr(relations, "MIN_STEPS", 4)
    monkeypatch.setattr(relations, "EPOCHS", 1)


def scenes(num: int = 300, seed: int = 0, lack: float = 0.0) -> MultimodalData:
    """Dots and rings on a grid; the answer depends on question and relative place."""
    rng = np.random.default_rng(seed)
    questions, objects, answers = [], [], []
    for _ in range(num):
        question = list(QUESTIONS)[rng.integers(2)]
        size = rng.integers(2, 6)
        cell = rng.choice(9, size, replace=False)
        place = np.stack([cell // 3, cell % 3], 1).astype(float)
        kind = rng.integers(0, 2, size)
        step = place[None] - place[:, None]
        dot_ring = (kind[:, None] == 0) & (kind[None] == 1)
        answers.append(int((dot_ring & (step == QUESTIONS[question]).all(-1)).any()))
        questions.append(None if rng.random() < lack else question)
        rows = np.concatenate([place, kind[:, None] * 2.0 - 1], 1)
        objects.append(None if rng.random() < lack else rows.astype(np.float32))
    return MultimodalData.from_arrays(
        {"objects": objects, "query": questions}, y=answers, schema=schema_of()
    )


def schema_of() -> Schema:
    objects = Modality("objects", 3, tokens="ragged", places=2)
    return Schema.star([objects, Modality("query", kind="tokens")])


def expert_of(seed: int = 0, **options: object) -> RelationExpert:
    """Return a base learner with random weights, on tables of one to four objects."""
    generator = torch.Generator().manual_seed(seed)
    sizes = {"text": 1, "objects": 0, "table": -1, "num_folds": 3, **options}
    expert = RelationExpert(6, 3, 2, 2, "softmax", **sizes)
    for parameter in expert.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    expert.bounds.copy_(torch.tensor([[-1.5, -0.5, 0.5, 1.5]] * 2))
    return expert.requires_grad_(False)


def tables_of(num: int = 5) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(num, 4, 3, generator=generator)
    rows[..., :2] = rows[..., :2].round()
    for i in range(num):
        rows[i, 1 + i % 4 :] = torch.nan
    text = torch.rand(num, 6, generator=generator)
    described = torch.zeros(num, 2)
    return [described, text, rows.flatten(1)], torch.ones(num, 2, dtype=torch.bool)


def test_scores_equal_those_of_loops_over_edges() -> None:
    expert = expert_of()
    tables, present = tables_of()
    scores = expert(tables, present, torch.zeros(5, dtype=torch.int64))
    for b in range(5):
        u = tables[1][b] / tables[1][b].norm()
        rows = tables[2][b].view(4, 3)
        rows = rows[~rows.isnan().all(1)]
        z = expert.scaler(rows[:, 2:])
        states = (
            torch.relu(z @ expert.inner.weight[0] + expert.inner.bias[0])
            @ expert.outer.weight[0]
            + expert.outer.bias[0]
        )
        maps = (u @ expert.maps[0]).view(expert.num_heads, -1)
        pooled = []
        for sends, receives, of_class in (
            row.split([relations.WIDTH, relations.WIDTH, 25]) for row in maps
        ):
            edges = []
            for i in range(len(rows)):
                for j in range(len(rows)):
                    step = rows[j, :2] - rows[i, :2]
                    row, column = [
                        int((s > bound).sum())
                        for s, bound in zip(step, expert.bounds, strict=True)
                    ]
                    place = of_class[row + 5 * column]
                    edges.append(sends @ states[i] + receives @ states[j] + place)
            smooth = (torch.stack(edges) / relations.TEMPERATURE).exp().sum() / 16
            pooled.append(relations.TEMPERATURE * smooth.log())
        logits = torch.stack(pooled) @ expert.head[0] + u @ expert.rest.weight[0]
        expected = (logits + expert.rest.bias[0, 0] + expert.prior).log_softmax(0)
        assert torch.allclose(scores[b], expected.clamp(min=np.log(1e-4)), atol=1e-4)


def test_order_and_translation_of_objects_do_not_matter() -> None:
    expert = expert_of()
    tables, present = tables_of()
    rows = tables[2].view(5, 4, 3)
    moved = rows + torch.tensor([3.0, -2.0, 0.0])
    for changed in (rows.flip(1), moved):
        others = [*tables[:2], changed.flatten(1)]
        assert torch.allclose(
            expert(tables, present), expert(others, present), atol=1e-5
        )


def test_missing_text_or_objects_give_the_prior_whatever_they_hold() -> None:
    expert = expert_of()
    tables, present = tables_of()
    present[0, 0] = present[1, 1] = False
    scores = expert(tables, present)
    for value in (torch.nan, torch.inf, 1e30):
        others = [x.clone() for x in tables]
        others[2][0], others[1][1] = value, value
        assert torch.equal(expert(others, present), scores)
    assert torch.equal(scores[:2], expert.prior.expand(2, -1))
    assert bool(scores.isfinite().all())


def test_a_sample_alone_equals_the_sample_in_a_batch() -> None:
    expert = expert_of()
    tables, present = tables_of()
    alone = [
        expert([x[i : i + 1] for x in tables], present[i : i + 1]) for i in range(5)
    ]
    assert torch.allclose(torch.cat(alone), expert(tables, present), atol=1e-6)


def test_tables_of_packed_and_regular_batches_are_equal() -> None:
    view = ObjectView("objects", 3, 4)
    data = scenes(20, lack=0.3)
    packed = data.select(["objects"]).batch()
    lengths = torch.bincount(packed.sample["objects"], minlength=20)
    rows = torch.full((20, 6, 3), 7.0)
    for i in range(20):
        own = packed.x["objects"][packed.sample["objects"] == i]
        rows[i, : len(own)] = own
    present = (lengths > 0)[:, None]
    regular = Batch.regular({"objects": rows}, present, lengths={"objects": lengths})
    table = view(packed, ())
    assert table.shape == (20, 12)
    assert torch.equal(table.isnan(), view(regular, ()).isnan())
    assert torch.equal(table.nan_to_num(), view(regular, ()).nan_to_num())


@pytest.mark.slow
@pytest.mark.parametrize("has_edges", [True, False])
def test_only_edges_learn_relative_places(has_edges: bool) -> None:
    data = scenes(400)
    text = torch.tensor([[q == name for name in QUESTIONS] for q in query_of(data)])
    embedding = Modality("query", 2, kind="embedding")
    schema = Schema.star([schema_of().modality("objects"), embedding])
    (view,) = plan_objects(schema, [5, 1])
    table = view(data.select(["objects"]).batch(), ())
    tables = [table[:, :1], text.float()]
    present, y = torch.ones(400, 2, dtype=torch.bool), torch.from_numpy(data.y)
    folds, prior = torch.arange(400) % 3, torch.full((2,), 0.5).log()
    training = RelationTraining([view], [table], schema)
    rest = tables, present, y, Classification(2), folds, prior
    (expert,) = fit_relations(training, *rest, has_edges=has_edges)
    scores = expert([*tables, table], present, folds)
    accuracy = float((scores.argmax(1) == y).float().mean())
    assert (accuracy > 0.97) == has_edges
    assert accuracy > 0.97 or accuracy < 0.85


def query_of(data: MultimodalData) -> list[str]:
    return data.columns["query"].values.tolist()


@pytest.mark.parametrize("task", [Classification(3), MultiLabel(2), Regression(2)])
@pytest.mark.usefixtures("few_steps")
def test_every_task_has_finite_out_of_fold_scores(task) -> None:
    rng = torch.Generator().manual_seed(0)
    y = torch.randint(2, (60, 2), generator=rng).float()
    y[0] = torch.nan
    y = torch.arange(60) % 3 if isinstance(task, Classification) else y
    embedding = Modality("query", 6, kind="embedding")
    schema = Schema.star([schema_of().modality("objects"), embedding])
    view = ObjectView("objects", 3, 4)
    tables, present = tables_of(60)
    training = RelationTraining([view], [tables[2]], schema)
    prior, folds = torch.zeros(task.out_channels), torch.arange(60) % 3
    rest = tables[:2], present, y, task, folds, prior
    weight = torch.rand(60, generator=rng)
    (expert,) = fit_relations(training, *rest, weight=weight)
    (again,) = fit_relations(training, *rest, weight=weight)
    scores = expert(tables, present, folds)
    assert scores.shape == (60, task.out_channels)
    assert bool(scores.isfinite().all())
    assert torch.equal(scores, again(tables, present, folds))


def test_no_base_learner_without_texts_objects_or_samples() -> None:
    objects = schema_of().modality("objects")
    assert plan_objects(Schema.star([objects, Modality("labs", 2)]), [5, 1]) == []
    text = Modality("query", 6, kind="embedding")
    plain = replace(objects, places=0)
    assert plan_objects(Schema.star([plain, text]), [5, 1]) == []
    schema = Schema.star([objects, text])
    tables, present = tables_of(20)
    training = RelationTraining([ObjectView("objects", 3, 4)], [tables[2]], schema)
    y, prior = torch.arange(20) % 2, torch.zeros(2)
    rest = tables[:2], present, y, Classification(2), torch.arange(20) % 3, prior
    assert fit_relations(training, *rest) == []


@pytest.mark.slow
def test_classifier_learns_relations_and_is_saved(tmp_path) -> None:
    data = scenes(500, lack=0.1)
    train, test = data[:350], data[350:]
    clf = FusionClassifier(**FAST, missing_rate=0.2).fit(train)
    both = test.present.all(1)
    assert clf.score(test[both]) > 0.95
    assert clf.predict_proba(test).shape == (150, 2)
    clf.save_pretrained(tmp_path / "model")
    loaded = FusionClassifier.from_pretrained(tmp_path / "model")
    assert np.array_equal(loaded.predict_proba(test), clf.predict_proba(test))
    unknown = MultimodalData.from_arrays(
        {"query": ["is a cube near a ring"]}, schema=Schema.star([QUERY])
    )
    assert np.isfinite(clf.predict_proba(unknown)).all()
    path = tmp_path / "data.parquet"
    test.to_parquet(path)
    stored = MultimodalData.from_parquet(path)
    assert stored.schema.modality("objects").places == 2
    assert np.array_equal(clf.predict_proba(stored), clf.predict_proba(test))
    assert np.array_equal(
        clf.predict_proba(MultimodalStream.from_parquet(path)), clf.predict_proba(test)
    )


QUERY = Modality("query", kind="tokens")


@pytest.mark.usefixtures("few_steps")
def test_configuration_restores_the_base_learner() -> None:
    clf = FusionClassifier(**FAST).fit(scenes(80))
    config = ensemble_config(clf.model_.ensemble)
    assert [type(e) for e in clf.model_.ensemble.joint] == [RelationExpert]
    restored = ensemble_from_config(config, clf.input_spec_.widths, Classification(2))
    restored.load_state_dict(clf.model_.ensemble.state_dict())
    assert ensemble_config(restored) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": -2}, "Relations must read a table of objects, got the index -2"),
        ({"channels": 4}, "Relations must read a table of objects"),
        ({"places": 3}, "Relations must have 1 to 3 places, fewer than channels"),
        ({"num_heads": 0}, "Relations must have heads and folds"),
        ({"text": 9}, "Indices of modalities and views must be from 0 to 1"),
    ],
)
def test_damaged_configurations_are_refused(change, message) -> None:
    sizes = {"channels": 3, "places": 2, "text": 1, "objects": 0, "table": -1}
    item = {**sizes, "num_heads": 2, "num_folds": 3, "has_edges": True, **change}
    view = {"name": "objects", "channels": 3, "num_objects": 4}
    config = {"experts": [[], []], "joint": [item], "num_patterns": 0, "views": [view]}
    with pytest.raises(ValueError, match=message):
        ensemble_from_config(config, (75, 6), Classification(2))


@pytest.mark.usefixtures("few_steps")
def test_regression_reads_relations() -> None:
    data = scenes(80).replace(y=np.linspace(0, 1, 80))
    reg = FusionRegressor(**FAST).fit(data)
    assert [type(e) for e in reg.model_.ensemble.joint] == [RelationExpert]
    assert np.isfinite(reg.predict(data)).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"places": 4}, "must have 0 to 3 places, got 4"),
        ({"places": 3}, "must have more channels than places, got 3 channels and 3"),
        ({"places": 2, "tokens": "single"}, "must be of kind 'vector' and tokens 'rag"),
    ],
)
def test_places_are_checked(options, message) -> None:
    with pytest.raises(SchemaError, match=message):
        Modality("objects", 3, **{"tokens": "ragged", **options})


def test_schema_without_places_has_the_text_of_earlier_versions() -> None:
    schema = Schema([Modality("a", 1)], relations=[Relation("a", "a")])
    assert "places" not in schema.to_json()
    assert Schema.from_json(schema_of().to_json()) == schema_of()


@pytest.mark.usefixtures("few_steps")
def test_invariants_of_a_classifier_of_objects_and_texts() -> None:
    clf = FusionClassifier(**FAST).fit(scenes(90, lack=0.2))
    data = scenes(30, seed=1)
    present = np.random.default_rng(0).random((30, 2)) > 0.4
    objects = [
        x if keep else np.full((3, 3), content)
        for content, keep, x in zip(
            np.resize([np.nan, np.inf, 1e30], 30),
            present[:, 0],
            np.split(
                data.columns["objects"].values, data.columns["objects"].offsets[1:-1]
            ),
            strict=True,
        )
    ]
    queries = [
        q if keep else "zzz"
        for q, keep in zip(query_of(data), present[:, 1], strict=True)
    ]
    arrays = {"objects": objects, "query": queries}
    poisoned = MultimodalData.from_arrays(arrays, present=present, schema=schema_of())
    masks = dict(zip(("objects", "query"), present.T, strict=True))
    proba = clf.predict_proba(data.mask(masks))
    assert np.array_equal(clf.predict_proba(poisoned), proba)
    order = np.random.default_rng(1).permutation(30)
    shuffled = clf.predict_proba(poisoned[order])
    assert np.allclose(shuffled, proba[order], atol=1e-6)
    alone = [clf.predict_proba(poisoned[[i]]) for i in range(30)]
    assert np.allclose(np.concatenate(alone), proba, atol=1e-6)
    reverse = clf.predict_proba(poisoned.select(["query", "objects"]))
    assert np.array_equal(reverse, proba)
    nothing = clf.predict_proba(data.mask(dict.fromkeys(masks, np.zeros(30, bool))))
    assert np.allclose(nothing, nothing[0])


@pytest.mark.usefixtures("few_steps")
def test_progress_of_an_interrupted_fit_is_restored(tmp_path, monkeypatch) -> None:
    data = scenes(90)
    whole = FusionClassifier(**FAST).fit(data)

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(FusionClassifier, "_fit_graph", interrupt)
        with pytest.raises(KeyboardInterrupt):
            FusionClassifier(**FAST, checkpoint_dir=tmp_path / "progress").fit(data)
    with monkeypatch.context() as patched:
        patched.setattr(relations, "_train", interrupt)  # nothing is trained again
        resumed = FusionClassifier(**FAST, checkpoint_dir=tmp_path / "progress")
        resumed.fit(data)
    assert np.array_equal(resumed.predict_proba(data), whole.predict_proba(data))


@pytest.mark.usefixtures("few_steps")
def test_stream_larger_than_its_memory_reads_objects(tmp_path, monkeypatch) -> None:
    from mmgraph.estimators import supervised

    monkeypatch.setattr(supervised, "MAX_SAMPLE", 100)
    path = tmp_path / "data.parquet"
    scenes(260, lack=0.1).to_parquet(path)
    stream = MultimodalStream.from_parquet(path)
    clf = FusionClassifier(**FAST).fit(stream)
    assert [type(e) for e in clf.model_.ensemble.joint] == [RelationExpert]
    assert clf.predict_proba(stream).shape == (260, 2)


@pytest.mark.long
@pytest.mark.usefixtures("few_steps")
def test_exported_file_predicts_the_same(tmp_path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    data = scenes(120, lack=0.1)
    clf = FusionClassifier(**FAST).fit(data)
    jaxtyping.config.update("jaxtyping_disable", True)  # shapes are symbols in a trace
    try:
        serving.export(clf, tmp_path / "model.onnx")
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    exported = serving.load(tmp_path / "model.onnx")
    assert np.allclose(exported.predict_proba(data), clf.predict_proba(data), atol=1e-5)
