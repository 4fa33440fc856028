"""Files of released formats: each version reads them, with the same numbers."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import mmgraph as mg
from mmgraph import checkpoint, serving

FIXTURES = Path(__file__).parent / "fixtures"
sys.path.insert(0, str(FIXTURES))
import make  # noqa: E402

FORMATS = sorted(path for path in FIXTURES.iterdir() if path.is_dir())
FORMATS = [path for path in FORMATS if (path / "expected.npz").exists()]
TOLERANCE = {"rtol": 1e-6, "atol": 1e-6}


@pytest.fixture(params=FORMATS, ids=lambda path: path.name)
def folder(request):
    return request.param


@pytest.fixture
def expected(folder):
    with np.load(folder / "expected.npz") as arrays:
        return dict(arrays)


def test_every_released_format_has_a_fixture():
    assert {"0.1", "0.2"} <= {path.name for path in FORMATS}


def test_saved_classifiers_predict_the_same(folder, expected):
    data = mg.MultimodalData.from_parquet(folder / "data.parquet")
    clf = mg.FusionClassifier.from_pretrained(folder / "classifier")
    found = {
        "classifier": clf.predict_proba(data),
        "classifier_labs": clf.predict_proba(data.select(["labs"])),
        "classifier_states": clf.transform(data),
        "classifier_explain": clf.explain(data[:6]).values,
    }
    for name, values in found.items():
        np.testing.assert_allclose(values, expected[name], **TOLERANCE, err_msg=name)


def test_saved_regressors_predict_the_same(folder, expected):
    data = mg.MultimodalData.from_parquet(folder / "data.parquet")
    reg = mg.FusionRegressor.from_pretrained(folder / "regressor")
    np.testing.assert_allclose(reg.predict(data), expected["regressor"], **TOLERANCE)


def test_saved_multi_label_models_predict_the_same(folder, expected):
    clf = mg.FusionClassifier.from_pretrained(folder / "multi_label")
    found = clf.predict_proba(expected["table"])
    np.testing.assert_allclose(found, expected["multi_label"], **TOLERANCE)
    assert clf.n_features_in_ == 4


def test_saved_retrievers_and_indexes_find_the_same(folder, expected):
    vectors = mg.MultimodalData.from_parquet(folder / "vectors.parquet")
    retriever = mg.FusionRetriever.from_pretrained(folder / "retriever")
    found = retriever.embed(vectors)
    np.testing.assert_allclose(found, expected["retriever"], **TOLERANCE)
    query = retriever.embed(vectors, modalities=["left"])
    np.testing.assert_allclose(query, expected["retriever_left"], **TOLERANCE)
    hits = mg.Index.load(folder / "index").search(query, k=3)
    np.testing.assert_allclose(hits.scores, expected["hits"], **TOLERANCE)


def test_saved_matchers_predict_the_same(folder, expected):
    vectors = mg.MultimodalData.from_parquet(folder / "vectors.parquet")
    matcher = mg.FusionMatcher.from_pretrained(folder / "matcher")
    found = matcher.predict_proba(vectors, vectors)
    np.testing.assert_allclose(found, expected["matcher"], **TOLERANCE)


def test_exported_files_predict_the_same(folder, expected):
    pytest.importorskip("onnxruntime")
    data = mg.MultimodalData.from_parquet(folder / "data.parquet")
    model = serving.load(folder / "classifier.onnx")
    np.testing.assert_allclose(model.predict_proba(data), expected["onnx"], **TOLERANCE)


@pytest.mark.parametrize("name", ["classifier", "regressor", "retriever", "matcher"])
def test_a_loaded_model_can_be_saved_in_the_current_format(folder, name, tmp_path):
    kind = getattr(mg, f"Fusion{name.capitalize()}")
    loaded = kind.from_pretrained(folder / name)
    loaded.save_pretrained(tmp_path)
    assert checkpoint.read_manifest(tmp_path)["format"] == checkpoint.FORMAT
    again = kind.from_pretrained(tmp_path)
    assert again.input_spec_ == loaded.input_spec_
    tensors = again.model_.state_dict()
    assert tensors.keys() == loaded.model_.state_dict().keys()
    for key, value in loaded.model_.state_dict().items():
        assert torch.equal(tensors[key], value), key


def test_mask_plans_keep_their_hash(folder):
    plan = mg.MaskPlan.load(folder / "plan.json")
    assert plan.hash == json.loads((folder / "plan_hash.json").read_text())
    assert plan.hash == mg.missing.mcar(0.5).plan(make.make_data(), seed=3).hash


@pytest.mark.slow
def test_benchmark_folders_are_resumed_and_reported_the_same(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "run")
    command = [sys.executable, "-m", "mmgraph", *make.BENCH]
    done = subprocess.run(
        command, cwd=tmp_path / "run", capture_output=True, text=True, check=True
    )
    assert "4 units" in done.stderr  # all of them were already there
    old = (folder / "bench" / "results.jsonl").read_bytes()
    assert (tmp_path / "run" / "bench" / "results.jsonl").read_bytes() == old
    rows = _numbers((folder / "bench" / "table.md").read_text())
    assert _numbers((tmp_path / "run" / "bench" / "table.md").read_text()) == rows


def _numbers(table: str) -> list[str]:
    """Scores of the models, without costs; 0.1 wrote no leading zero and no "<"."""
    names = ("| late_logistic", "| best_single")
    rows = [line for line in table.splitlines() if line.startswith(names)]
    scores = [row.rsplit("|", 2)[0] for row in rows if row.count("|") > 7]
    scores = [row.replace("<0.001", "0.000") for row in scores]
    return [re.sub(r"(?<!\d)\.(?=\d)", "0.", row) for row in scores]


# parameters of 0.1, which was not published, that have another name now
RENAMED = {
    ("nn.EvidencePool", "first_trust"): "init_weights",
    ("Evaluation", "asked"): "variant",
    ("Batch", "most"): "max_per_sample",
    ("nn.Encoded", "most"): "max_per_sample",
    ("nn.CompletionDecoder.forward", "ghost"): "placeholder",
}


# defaults that have more values: base learners of sequences and objects, which other
# data lack
KINDS = (
    "('linear', 'spline', 'forest', 'convolution', 'joint', 'submodels', 'relations')"
)
DEFAULTS = {
    ("FusionClassifier", "experts"): KINDS,
    ("FusionRegressor", "experts"): KINDS,
}


def test_public_signatures_only_grow(folder):
    old = json.loads((folder / "signatures.json").read_text())
    renamed = RENAMED if folder.name == "0.1" else {}
    new = make.signatures()
    for name, parameters in old.items():
        assert name in new, name
        wanted = [
            [
                renamed.get((name, parameter), parameter),
                kind,
                DEFAULTS.get((name, parameter), default),
            ]
            for parameter, kind, default in parameters
        ]
        assert [p for p in new[name] if p in wanted] == wanted, name


def test_options_of_the_command_line_only_grow(folder):
    old = json.loads((folder / "options.json").read_text())
    new = make.options()
    for command, names in old.items():
        assert set(names) <= set(new[command]), command


def test_tensors_of_the_first_format_are_renamed_to_names_that_exist():
    timed = mg.Schema(
        [mg.Modality("ecg", channels=2, tokens="ragged", time=True)],
        [mg.Latent("fuse")],
        [mg.Relation("ecg", "ecg"), mg.Relation("*", "fuse")],
    )
    models = [
        mg.FusionModel(timed, mg.Classification(num_classes=2)),
        mg.FusionClassifier.from_pretrained(FIXTURES / "0.2" / "classifier").model_,
        mg.FusionMatcher.from_pretrained(FIXTURES / "0.2" / "matcher").model_,
    ]
    parts = {part for m in models for key in m.state_dict() for part in key.split(".")}
    assert set(checkpoint.RENAMED_TENSORS.values()) <= parts
    assert not set(checkpoint.RENAMED_TENSORS) & parts
