"""Model card: README.md of a saved model."""

import json
import math

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from mmgraph import (
    CheckpointError,
    FusionClassifier,
    FusionMatcher,
    FusionRegressor,
    FusionRetriever,
    MultimodalData,
    checkpoint,
)
from mmgraph.cli import app
from mmgraph.model_card import CARD, MARK, list_names

pytestmark = pytest.mark.usefixtures("few_trees")

SMALL = {"members": 1, "epochs": 1, "hidden_channels": 4, "num_heads": 1}
QUICK = SMALL | {"experts": ("linear",)}
NUM = 200


def make(seed: int = 0, *, informative: bool = False) -> MultimodalData:
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=NUM)
    arrays = {
        "strong": y[:, None] + 0.3 * rng.normal(size=(NUM, 2)),
        "noise": rng.normal(size=(NUM, 1)) + 123456.0,
    }
    kept = np.where(y == 1, 0.9, 0.3) if informative else np.full(NUM, 0.75)
    present = np.stack([np.ones(NUM, bool), rng.random(NUM) < kept], axis=1)
    return MultimodalData.from_arrays(arrays, y=y, present=present)


@pytest.fixture(scope="module")
def classifier() -> FusionClassifier:
    return FusionClassifier(**QUICK).fit(make())


def card_of(model, folder) -> str:
    model.save_pretrained(folder)
    return (folder / CARD).read_text("utf-8")


def rows_of(card: str) -> dict[str, list[str]]:
    lines = [line.strip("| ").split(" | ") for line in card.splitlines() if "|" in line]
    return {line[0]: line[1:] for line in lines}


def test_weights_are_the_factors_of_the_evidence():
    """Evidence of one kind alone changes the score by its weight."""
    model = FusionClassifier(**SMALL).fit(make())
    weights, pool = model.branch_weights_, model.model_.ensemble.pool
    kinds = "linear", "linear", "spline", "spline", "forest"
    present = torch.ones(1, 2, dtype=torch.bool)
    evidence, joint = torch.zeros(1, 2, len(kinds), 2), torch.zeros(1, 2, 2)
    nothing = pool(evidence, present, joint)
    for kind in set(kinds):
        some = evidence.clone()
        some[:, :, [x for x, each in enumerate(kinds) if each == kind]] = 0.5
        found = pool(some, present, joint) - nothing
        torch.testing.assert_close(found, torch.full((1, 2), weights[kind]))
    for y, kind in enumerate(("joint forest", "joint boosted trees")):
        some = joint.clone()
        some[:, y] = 1
        found = pool(evidence, present, some) - nothing
        torch.testing.assert_close(found, torch.full((1, 2), weights[kind]))
    assert weights["graph"] == pytest.approx(float(model.model_.beta) / 2)
    assert {*weights} == {*kinds, "joint forest", "joint boosted trees", "graph"}


def test_a_graph_without_weight_is_stated(classifier):
    late = FusionClassifier(**QUICK, level="model").fit(make())
    assert late.branch_weights_["graph"] == 0
    assert "The graph networks are not used" in late.summary_
    used = "The graph networks are not used" not in classifier.summary_
    assert used == (classifier.branch_weights_["graph"] > 0)


def test_info_prints_the_summary(classifier, tmp_path):
    classifier.save_pretrained(tmp_path)
    result = CliRunner().invoke(app, ["info", str(tmp_path)])
    assert result.output == classifier.summary_
    assert result.output in (tmp_path / CARD).read_text("utf-8")
    missing = CliRunner().invoke(app, ["info", str(tmp_path / "no")])
    assert missing.exit_code == 2
    assert len(missing.output.splitlines()) == 1


def test_it_lists_modalities_with_shares_and_scores(classifier, tmp_path):
    data, card = make(), card_of(classifier, tmp_path)
    rows = rows_of(card)
    share = data.present[:, 1].mean()
    assert rows["strong"][:3] == ["numbers", "2", "100%"]
    assert rows["noise"][2] == f"{share:.0%}"
    assert float(rows["strong"][3]) > 0.9
    assert abs(float(rows["noise"][3]) - 0.5) < 0.15
    assert "Predicts one of 2 classes (0, 1) from any subset of 2 modalities." in card
    assert f"{classifier.out_of_fold_score_:.3f} with all observed modalities" in card
    assert "does not predict the label" in card
    assert "Calibration" not in card


def test_scores_are_out_of_fold_scores_of_the_subsets(classifier):
    summary, data = classifier.training_summary_, make()
    assert summary.num_samples == NUM
    np.testing.assert_allclose(summary.observed, data.present.mean(0), atol=1e-6)
    frequent = max(np.mean(np.asarray(data.y) == c) for c in (0, 1))
    assert summary.nothing == pytest.approx(frequent)
    alone = FusionClassifier(**QUICK).fit(data.select(["strong"]))
    assert summary.alone[0] == pytest.approx(alone.out_of_fold_score_, abs=0.02)


def test_informative_missingness_is_an_alarm(tmp_path):
    clf = FusionClassifier(**QUICK).fit(make(informative=True))
    card = card_of(clf, tmp_path)
    assert "**Alarm: which modalities are present predicts the label**" in card
    mean, low, high = clf.training_summary_.presence
    assert 0.7 < low < mean < high
    assert f"AUROC {mean:.2f}, 95% CI [{low:.2f}, {high:.2f}]" in card


def test_no_value_of_a_sample_is_in_it(classifier, tmp_path):
    assert "12345" not in card_of(classifier, tmp_path)


def test_it_is_the_same_after_loading(classifier, tmp_path):
    classifier.conformal(make(1), score="lac")
    card = card_of(classifier, tmp_path / "a")
    loaded = FusionClassifier.from_pretrained(tmp_path / "a")
    assert loaded.training_summary_ == classifier.training_summary_
    assert card_of(loaded, tmp_path / "b") == card
    classifier.conformal_ = None


def test_calibration_lists_subsets_and_their_support(classifier, tmp_path):
    classifier.conformal(make(1), alpha=0.2, min_samples=160)
    card = card_of(classifier, tmp_path)
    classifier.conformal_ = None
    rows = rows_of(card.partition("## Calibration")[2])
    assert "with a probability of 0.8" in card
    assert rows["strong"] == ["200", "yes"]
    assert rows["strong, noise"][1] == "no: too few samples"


def test_a_regressor_has_one(tmp_path):
    data = make()
    values = np.asarray(data.y) * 2.5
    card = card_of(FusionRegressor(**QUICK).fit(data.replace(y=values)), tmp_path)
    assert "Predicts a number from any subset" in card
    assert "R² of the pooled base learners" in card
    assert "presence mask" not in card


def test_retriever_and_matcher_have_one(tmp_path):
    data = make().replace(y=None)
    retriever = FusionRetriever(epochs=1, members=1, hidden_channels=4, num_heads=1)
    card = card_of(retriever.fit(data), tmp_path / "a")
    assert "# FusionRetriever" in card
    assert rows_of(card)["strong"] == ["numbers", "2"]
    matcher = FusionMatcher("strong", "noise", **SMALL).fit(data)
    assert "whether strong and noise belong" in card_of(matcher, tmp_path / "b")


def test_a_readme_of_other_origin_is_kept(classifier, tmp_path):
    (tmp_path / CARD).write_text("mine")
    assert card_of(classifier, tmp_path) == "mine"
    (tmp_path / CARD).write_text(f"old {MARK}")
    assert card_of(classifier, tmp_path).startswith("---\nlibrary_name: mmgraph\n")


def test_names_cannot_break_the_table(tmp_path):
    data = make()
    names = np.array(["a|b", "<script>\n"])[np.asarray(data.y)]
    card = card_of(FusionClassifier(**QUICK).fit(data.replace(y=names)), tmp_path)
    assert "a&#124;b" in card
    assert "<script>" not in card
    assert list_names(range(30)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... (30 in total)"


def test_models_of_earlier_versions_have_a_shorter_one(classifier, tmp_path):
    edit(classifier, tmp_path, lambda manifest: manifest.pop("training_summary"))
    loaded = FusionClassifier.from_pretrained(tmp_path)
    assert loaded.training_summary_ is None
    card = card_of(loaded, tmp_path)
    assert "## Modalities" in card
    assert "## Scores" not in card


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("observed", [0.5]),
        ("alone", "x"),
        ("alone", None),
        ("nothing", []),
        ("presence", [0.5]),
        ("num_samples", None),
        ("num_groups", "x"),
    ],
)
def test_damaged_numbers_are_refused(classifier, tmp_path, key, value):
    edit(classifier, tmp_path, lambda m: m["training_summary"].update({key: value}))
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        FusionClassifier.from_pretrained(tmp_path)


def edit(model, folder, change) -> None:
    """Save a model and change its manifest."""
    model.save_pretrained(folder)
    path = folder / checkpoint.MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    manifest[checkpoint.OWN_HASH] = checkpoint._hash_of(manifest)
    path.write_text(json.dumps(manifest))


def test_a_card_that_cannot_be_written_is_an_error(classifier, tmp_path):
    (tmp_path / CARD).mkdir()
    with pytest.raises(CheckpointError, match=r"README\.md cannot be written"):
        classifier.save_pretrained(tmp_path)


def test_groups_that_stay_in_a_fold_are_counted(classifier, tmp_path):
    data = make()
    sites = np.repeat(list("abcdefgh"), NUM // 8)
    clf = FusionClassifier(**QUICK, level="model").fit(data.replace(groups=sites))
    assert "8 groups: samples of a group stay in the same fold." in clf.summary_
    clf.save_pretrained(tmp_path / "a")
    loaded = FusionClassifier.from_pretrained(tmp_path / "a")
    assert loaded.training_summary_.num_groups == 8
    assert "No groups: samples are assigned to folds indep" in classifier.summary_
    edit(classifier, tmp_path, lambda m: m["training_summary"].pop("num_groups"))
    earlier = FusionClassifier.from_pretrained(tmp_path)
    assert earlier.training_summary_.num_groups is None
    assert "groups:" not in earlier.summary_.lower()


def test_scores_that_were_not_measured_are_named(classifier, tmp_path):
    from dataclasses import replace

    known = classifier.training_summary_
    classifier.training_summary_ = replace(known, alone=(known.alone[0], math.nan))
    card = card_of(classifier, tmp_path)
    classifier.training_summary_ = known
    assert rows_of(card)["noise"][3] == "not measured"
