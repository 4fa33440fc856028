"""The page of a model: its content, and what a browser makes of it."""

import base64
import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from typer.testing import CliRunner

from mmgraph import FusionClassifier, FusionRegressor, MultimodalData
from mmgraph.acquisition import MIN_DONORS, class_belief
from mmgraph.cli import app
from mmgraph.errors import ConfigError
from mmgraph.workflows.explore import (
    NUM_DONORS,
    page_content,
    page_subsets,
    subset_values,
)

SMALL = {
    "members": 1,
    "epochs": 1,
    "hidden_channels": 4,
    "num_heads": 1,
    "experts": ("linear",),
}
NAMES = ("ecg", "lab", "scan")


def make_data(num, seed=0, count=3):
    rng = np.random.default_rng(seed)
    y = rng.integers(2, size=num)
    arrays = {}
    for m in range(count):
        x = rng.normal(size=(num, 2)) + (m + 1) * y[:, None]
        x[rng.random(num) < 0.2 * m * (count == 3)] = np.nan
        arrays[NAMES[m] if count == 3 else f"m{m}"] = x
    return MultimodalData.from_arrays(arrays, y=np.array(["no", "yes"])[y])


@pytest.fixture(scope="module")
def clf():
    model = FusionClassifier(**SMALL).fit(make_data(80))
    model.conformal(make_data(80, seed=1), score="lac")
    return model


def decoded(text, dtype, *shape):
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


def bits(text, *shape):
    flat = np.unpackbits(decoded(text, "u1", -1), bitorder="little")
    return flat[: np.prod(shape)].reshape(shape).astype(bool)


def test_predictions_and_sets_are_those_of_the_model(clf):
    data = make_data(15, seed=2)
    content = page_content(clf, data)
    proba = decoded(content["predictions"], "<u2", 15, 8, 2) / 65535
    sets = bits(content["sets"], 15, 8, 2)
    for c, mask in enumerate(content["subsets"]):
        kept = [bool(mask >> m & 1) for m in range(3)]
        part = data.mask(np.tile(kept, (15, 1)))
        np.testing.assert_allclose(proba[:, c], clf.predict_proba(part), atol=1e-5)
        np.testing.assert_array_equal(sets[:, c], clf.conformal_.predict(part))
    assert bits(content["supported"], 15, 8).shape == (15, 8)
    assert content["labels"] == data.y.tolist()
    assert content["classes"] == ["no", "yes"]


def test_intervals_of_a_regressor_are_those_of_the_model():
    data = make_data(60)
    data = data.replace(y=(data.y == "yes") * 2.0 + np.arange(60) / 60)
    reg = FusionRegressor(**SMALL).fit(data)
    reg.conformal(make_data(60, seed=1).replace(y=data.y))
    content = page_content(reg, data[:4])
    assert content["classes"] is None
    assert content["labels"] == data[:4].y.tolist()
    predicted = decoded(content["predictions"], "<f4", 4, 8)[:, -1]
    np.testing.assert_allclose(predicted, reg.predict(data[:4]), rtol=1e-5)
    bounds = decoded(content["sets"], "<f4", 4, 8, 2)[:, -1]
    np.testing.assert_allclose(bounds, reg.conformal_.predict(data[:4]), rtol=1e-5)


def test_pages_without_labels_or_calibration(clf):
    model = FusionClassifier(**SMALL).fit(make_data(30))
    content = page_content(model, make_data(5).replace(y=None))
    assert content["labels"] == [None] * 5
    assert content["alpha"] is None
    assert "sets" not in content


def test_large_pages_have_fewer_samples(clf, monkeypatch):
    monkeypatch.setattr("mmgraph.workflows.explore.MAX_NUMBERS", 8 * 9 * 6)
    assert len(page_content(clf, make_data(20))["samples"]) == 6


def test_subsets_of_many_modalities_have_or_lack_at_most_two():
    sizes = page_subsets(10).sum(axis=1)
    assert set(sizes.tolist()) == {0, 1, 2, 8, 9, 10}
    assert len(np.unique(page_subsets(10), axis=0)) == len(sizes) == 2 * 56
    assert page_subsets(3).shape == (8, 3)


def test_several_labels_are_refused():
    y = np.random.default_rng(0).integers(2, size=(30, 3))
    data = make_data(30).replace(y=y)
    model = FusionClassifier(**SMALL).fit(data)
    with pytest.raises(ConfigError, match="one label or one target, got several"):
        page_content(model, data)


def test_value_of_a_modality_that_is_the_label_is_the_entropy():
    """The first modality is the label, the second one is never read."""
    labels = np.tile([0, 1], 30)
    subsets, present = page_subsets(2), np.ones((60, 2), dtype=bool)
    known = np.eye(2)[labels]
    tables = [known if subset[0] else np.full((60, 2), 0.5) for subset in subsets]
    values = subset_values(np.stack(tables, axis=1), present, subsets, class_belief)
    np.testing.assert_allclose(values[:, 0, 0], np.log(2), rtol=0.02)
    np.testing.assert_allclose(values[:, 0, 1], 0, atol=1e-9)
    assert np.isnan(values[:, 3]).all()  # nothing is missing


def test_donors_are_other_samples_with_the_subset_and_the_modality():
    rng = np.random.default_rng(0)
    present, subsets = rng.random((30, 3)) < 0.8, page_subsets(3)
    tables = rng.dirichlet(np.ones(2), size=(30, len(subsets)))
    values = subset_values(tables, present, subsets, class_belief)
    order = [subset.tolist() for subset in subsets]
    checked = 0
    for n, c, m in np.ndindex(values.shape):
        subset = subsets[c]
        if subset[m] or not present[n][subset].all():
            assert np.isnan(values[n, c, m])
            continue
        larger = order.index((subset | (np.arange(3) == m)).tolist())
        donors = [j for j in range(30) if present[j, subset].all() and present[j, m]]
        if len(donors) <= MIN_DONORS:
            continue
        count = min(NUM_DONORS, len(donors) - 1)  # the same for all samples
        others = [j for j in donors if j != n]
        others.sort(key=lambda j: np.linalg.norm(tables[j, c] - tables[n, c]))
        nearest = tables[others[:count], larger]
        expected = class_belief(nearest[None], tables[n, c][None]).value[0]
        np.testing.assert_allclose(values[n, c, m], expected, atol=1e-9)
        checked += 1
    assert checked > 50


def test_too_few_donors_give_no_value():
    subsets, present = page_subsets(2), np.ones((5, 2), dtype=bool)
    tables = np.full((5, 4, 2), 0.5)
    assert np.isnan(subset_values(tables, present, subsets, class_belief)).all()


@pytest.fixture(scope="module")
def here(tmp_path_factory, clf):
    folder = tmp_path_factory.mktemp("explore")
    clf.save_pretrained(folder / "model")
    data = make_data(40, seed=2)
    data.replace(ids=[f"</script>{i}" for i in range(40)]).to_parquet(
        folder / "test.parquet"
    )
    return folder


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    return result.stdout if code == 0 else result.stderr


def test_the_command_writes_one_file_without_links(here):
    page = here / "page.html"
    options = ("--output", page, "--limit", 30)
    output = run("explore", here / "model", here / "test.parquet", *options)
    assert f"Page of 30 samples: {page}" in output
    text = page.read_text()
    assert len(re.findall("</script>", text)) == 2
    assert not re.search(r"(?:src|href)=|https?://(?!www\.w3\.org)", text)


def test_alpha_needs_calibration_samples(here):
    options = ("--output", here / "p.html", "--alpha", 0.2)
    error = run("explore", here / "model", here / "test.parquet", *options, code=2)
    assert "calibration samples" in error


def test_calibration_of_a_file_is_used(here):
    page = here / "calibrated.html"
    make_data(50, seed=3).to_parquet(here / "calibration.parquet")
    options = ("--conformal", here / "calibration.parquet", "--alpha", 0.3)
    options += ("--output", page)
    run("explore", here / "model", here / "test.parquet", *options)
    content = re.search(r'id="content">(.*?)</script>', page.read_text(), re.DOTALL)
    assert json.loads(content.group(1))["alpha"] == 0.3


# In a browser

READ = """<script>
const press = key => document.dispatchEvent(new KeyboardEvent("keydown", { key }));
for (const key of KEYS) press(key);
const all = selector => [...document.querySelectorAll(selector)];
const numbers = selector => all(selector).map(e => e.innerText);
document.body.dataset.seen = JSON.stringify({
  ready: Number(document.body.dataset.ready),
  names: numbers("#prediction .name"),
  predicted: numbers("#prediction .number"),
  modalities: numbers("#modalities .number"),
  checked: all("#modalities input").map(e => e.checked),
  wide: document.documentElement.scrollWidth - window.innerWidth,
  plots: document.querySelectorAll("figure svg").length,
  sample: document.querySelector("#sample").value,
});
</script></body>"""


def look(page, keys, width=1280):
    """Return what the page shows after keys were pressed."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium to look at the page with")
    script = READ.replace("KEYS", json.dumps(keys))
    copy = page.with_name(f"copy{width}.html")
    text = page.read_text().replace("</body>", script)
    copy.write_text(text)
    options = "--headless --no-sandbox --disable-gpu --no-first-run --dump-dom"
    options += " --disable-background-networking --disable-component-update"
    options += f" --disable-sync --user-data-dir={page.parent / 'home'}"
    options += f" --window-size={width},900"
    command = [browser, *options.split(), copy.as_uri()]
    done = subprocess.run(command, check=True, capture_output=True, timeout=100)
    seen = re.search(r'data-seen="([^"]*)"', done.stdout.decode()).group(1)
    return json.loads(html.unescape(seen))


def as_numbers(texts):
    return [float(text.replace("\N{MINUS SIGN}", "-")) for text in texts]


@pytest.mark.slow
def test_a_browser_shows_predictions_and_contributions_of_any_subset(here, clf):
    page = here / "shown.html"
    run("explore", here / "model", here / "test.parquet", "--output", page)
    data = MultimodalData.from_parquet(here / "test.parquet")
    full = int(np.flatnonzero(data.present.all(axis=1))[0])
    keys = ["ArrowRight"] * full
    seen = look(page, keys)
    assert int(seen["sample"]) == full
    assert seen["plots"] == 2
    explanation = clf.explain(data[[full]])
    proba = clf.predict_proba(data[[full]])[0]
    np.testing.assert_allclose(
        as_numbers(seen["predicted"]), np.sort(proba)[::-1], atol=6e-4
    )
    expected = explanation.values[0, :, proba.argmax()]
    np.testing.assert_allclose(as_numbers(seen["modalities"]), expected, atol=1e-3)

    off = look(page, [*keys, "1"], width=390)
    assert off["checked"] == [False, True, True]
    assert off["modalities"][0].endswith("nats")
    part = data[[full]].mask({"ecg": np.zeros(1, dtype=bool)})
    proba = clf.predict_proba(part)[0]
    np.testing.assert_allclose(
        as_numbers(off["predicted"]), np.sort(proba)[::-1], atol=6e-4
    )
    marked = ["in set" in name for name in off["names"]]
    expected = clf.conformal_.predict(part)[0][np.argsort(-proba)]
    assert marked == expected.tolist()
    assert off["wide"] <= 0  # nothing is cut off on a phone
    assert look(page, [*keys, "1", "0"])["checked"] == [True] * 3


@pytest.mark.slow
def test_a_browser_shows_pages_of_many_modalities(tmp_path):
    data = make_data(60, count=9)
    FusionClassifier(**SMALL).fit(data).save_pretrained(tmp_path / "model")
    data.to_parquet(tmp_path / "test.parquet")
    page = tmp_path / "page.html"
    run("explore", tmp_path / "model", tmp_path / "test.parquet", "--output", page)
    assert len(look(page, ["1"])["predicted"]) == 2
    assert look(page, ["1", "2", "3"])["predicted"] == []
