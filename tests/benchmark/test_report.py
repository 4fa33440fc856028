"""Tables, page and figures: numbers of the lines, no external resources."""

import json
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from mmgraph.baselines import BASELINES, RETRIEVAL_BASELINES
from mmgraph.benchmark.figures import STYLES, legend_svg, shown_models, style_of
from mmgraph.benchmark.overview import overview, summary_sentence
from mmgraph.benchmark.report import markdown, write_report
from mmgraph.benchmark.results import Results, append_lines, read_lines
from mmgraph.benchmark.summary import estimate, mean_ranks, summarise
from mmgraph.benchmark.tables import (
    cell,
    class_note,
    confusion_table,
    cost_cell,
    difference_table,
    edge_note,
    rank_table,
    result_table,
    split_note,
)
from mmgraph.errors import ConfigError
from mmgraph.evaluation.table import (
    DASH,
    amount,
    interval,
    number,
    signed,
    to_markdown,
)
from mmgraph.metrics import aurc, holm, paired_difference
from mmgraph.plotting.schema_drawing import draw_schema, edge_label
from mmgraph.schema import (
    Custom,
    Full,
    KNearest,
    Latent,
    Modality,
    Relation,
    SameIndex,
    Schema,
    TimeWindow,
)

MODELS = ("late_logistic", "mmgraph", "best_single")
RATES = (0.0, 0.3, 0.7)
HASH = "d" * 64


def line(dataset, model, split, pattern, rate, seed, kept=None, train=0.0):
    """One line as the benchmark writes it, with a score that follows from its place."""
    level = {"mmgraph": 0.9, "late_logistic": 0.85, "best_single": 0.7}[model]
    noise = np.random.default_rng([len(dataset), len(model), split, seed]).normal()
    score = level - 0.2 * (rate or 0.1) - 0.02 * (kept == ["a"]) + 0.01 * noise
    count = np.zeros(15)
    count[[8, 14]] = 20
    record = {
        "dataset": dataset,
        "model": model,
        "train_missing": train,
        "pattern": pattern,
        "test_missing": rate,
        "kept": kept,
        "realised_rate": rate or 0.5,
        "scheme": "3 stratified folds",
        "split": f"r0f{split}",
        "seed": seed,
        "unit": f"{dataset}|{model}|{train}|s|r0f{split}|{HASH[:12]}",
        "num_train": 40,
        "num_test": 20,
        "num_classes": 2,
        "metrics": {
            "auroc": score,
            "log_loss": 1 - score,
            "expected_calibration_error": 0.1,
        },
        "fit_s": 2.0,
        "fit_mb": 12.0,
        "predict_s": 0.1,
        "commit": "c0ffee" * 6,
        "versions": {"python": "3.11", "mmgraph": "0.1.0"},
        "plan_hash": f"{pattern}{split}{seed}".encode().hex(),
        "train_plan_hash": "ab",
    }
    if kept is None:
        record["reliability"] = {
            "count": count.tolist(),
            "confidence": (count * np.linspace(0.03, 0.97, 15)).tolist(),
            "correct": (count * 0.8).tolist(),
        }
    return record


def unit_lines(dataset, model, split, train=0.0):
    """All lines of one unit: no removal, two masks per rate, each modality alone."""
    rows = [("natural()", 0.0, 0)]
    rows += [(f"mcar({r})", r, s) for r in RATES[1:] for s in (0, 1)]
    lines = [line(dataset, model, split, *row, train=train) for row in rows]
    return lines + [
        line(dataset, model, split, f"only({m})", None, 0, kept=[m], train=train)
        for m in ("a", "b")
    ]


def facts(dataset, shortcut=0.5):
    return {
        "dataset": dataset,
        "title": f"The <{dataset}> set",
        "license": "CC0",
        "origin": "here",
        "num_samples": 60,
        "num_classes": 2,
        "missing": [["a", 0.0], ["b", 0.25]],
        "scheme": "3 stratified folds",
        "metric": "auroc",
        "shortcut_auroc": shortcut,
        "data_hash": HASH,
    }


RUN = {
    "command": "mmgraph bench one --missing 0 .3 .7",
    "options": {"jobs": 2, "seeds": 2},
    "commit": "c0ffee" * 6,
    "versions": {},
    "machine": {"system": "Linux x86_64", "cores": 2},
    "time": "2026-01-01T00:00:00+00:00",
}


@pytest.fixture
def folder(tmp_path):
    """Results of two sets, three models and three splits; one set has a shortcut."""
    for dataset, shortcut in (("one", 0.5), ("second", 0.71)):
        append_lines(tmp_path / "datasets.jsonl", [facts(dataset, shortcut)])
        for model in MODELS:
            for split in range(3):
                lines = unit_lines(dataset, model, split)
                append_lines(tmp_path / "results.jsonl", lines)
    append_lines(tmp_path / "runs.jsonl", [RUN])
    return tmp_path


def read(folder):
    text = (folder / "results.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def areas_of(folder, dataset, model):
    """Recompute the area of each split from the lines, by another way."""
    found = []
    for split in range(3):
        lines = [
            x
            for x in read(folder)
            if (x["dataset"], x["model"], x["split"]) == (dataset, model, f"r0f{split}")
        ]
        means = [
            np.mean([x["metrics"]["auroc"] for x in lines if x["test_missing"] == r])
            for r in RATES
        ]
        found.append(aurc(np.array(RATES), np.array(means)))
    return np.array(found)


def test_the_table_holds_what_the_lines_say(folder):
    block = summarise(Results(folder))[0]
    table = result_table(block)
    assert [row[0] for row in table.rows] == ["mmgraph", "late_logistic", "best_single"]
    assert table.columns[:6] == (
        "model",
        "no extra removal",
        "0.3",
        "0.7",
        "mean over rates",
        "worst leave-one-modality-out",
    )
    area = areas_of(folder, "one", "mmgraph")
    error = area.std(ddof=1) / math.sqrt(3)
    assert table.rows[0][4] == f"{area.mean():.3f} ± {error:.3f}"
    assert table.rows[0][5].endswith("(b)")
    assert table.rows[0][-1] == "2.0 ± 0.0"
    assert table.best[4] == {0}


def test_differences_are_paired_corrected_and_for_every_other_model(folder):
    block = summarise(Results(folder))[0]
    ours = areas_of(folder, "one", "mmgraph")
    others = [areas_of(folder, "one", d.model) for d in block.differences]
    expected = [paired_difference(ours, other, 0.5) for other in others]
    corrected = holm(np.array([d.p for d in expected]))
    assert [d.model for d in block.differences] == ["late_logistic", "best_single"]
    for found, wanted, p in zip(block.differences, expected, corrected, strict=True):
        assert (found.mean, found.low, found.high) == pytest.approx(wanted[:3])
        assert found.p == pytest.approx(p)
    assert difference_table(block).rows[0][1].startswith("+")


def test_all_models_are_compared_on_the_splits_that_all_have(folder):
    append_lines(folder / "results.jsonl", unit_lines("one", "mmgraph", 3))
    block = summarise(Results(folder))[0]
    assert block.num_splits == 3
    assert set(block.rows[0].aurc_by_split) == {"r0f0", "r0f1", "r0f2"}


def test_informative_missingness_is_flagged_in_table_and_page(folder):
    plain, flagged = summarise(Results(folder))
    assert not plain.has_shortcut
    assert any(
        "informative missingness" in note for note in result_table(flagged).notes
    )
    write_report(folder)
    assert (folder / "report.html").read_text().count('class="warn"') == 1
    assert "AUROC 0.71 (threshold 0.60)" in (folder / "report.html").read_text()


def test_mean_ranks_are_over_sets_and_train_rates(folder):
    for model in MODELS:
        append_lines(folder / "results.jsonl", unit_lines("one", model, 0, train=0.3))
    blocks = summarise(Results(folder))
    assert [b.train_missing for b in blocks] == [0.0, 0.0, 0.3]
    ranks = mean_ranks(blocks)
    assert ranks == {"mmgraph": 1.0, "late_logistic": 2.0, "best_single": 3.0}
    assert rank_table(blocks).rows[0][:2] == ("mmgraph", "1.00")
    assert "mean rank 1.00: first of 3" in summary_sentence(blocks)
    assert rank_table(blocks[:1]) is None


def test_mmgraph_is_compared_with_the_best_baseline_of_each_setting(folder):
    for model in MODELS:
        append_lines(folder / "results.jsonl", unit_lines("one", model, 0, train=0.3))
    blocks = summarise(Results(folder))
    ranks, rivals = overview(blocks)
    assert ranks == rank_table(blocks)
    assert [row[0] for row in rivals.rows] == ["one", "second", "one @0.3"]
    for block, row in zip(blocks, rivals.rows, strict=True):
        ours, best = (r.aurc for r in block.rows[:2])  # mmgraph, then late_logistic
        assert row[1:5] == ("AUROC", cell(ours), "late_logistic", cell(best))
        assert row[5] == signed(ours.mean - best.mean)
    assert rivals.rows[2][6] == DASH  # a single split
    assert overview(blocks[:1]) == []
    write_report(folder)
    title = "mmgraph and the best baseline of each setting, mean over rates"
    assert title in (folder / "report.html").read_text()
    assert f"**{title}**" in (folder / "table.md").read_text()


def test_roc_and_confusion_are_shown_where_all_lines_have_them(tmp_path):
    for index, model in enumerate(("mmgraph", "late_logistic")):
        for split in range(2):
            lines = unit_lines("one", model, split)
            for each in lines:
                if each["kept"] is None:
                    each["roc"] = np.linspace(0, 1, 51).tolist()
                    each["confusion"] = [[7 - index, 3 + index], [2, 8]]
            append_lines(tmp_path / "results.jsonl", lines)
    known = facts("one") | {"classes": [["no", 30], ["yes", 30]]}
    append_lines(tmp_path / "datasets.jsonl", [known])
    append_lines(tmp_path / "runs.jsonl", [RUN])
    (block,) = write_report(tmp_path)
    table = confusion_table(block)
    assert table.columns == ("true class", "predicted no", "predicted yes")
    assert table.rows == (("no", "70.0%", "30.0%"), ("yes", "20.0%", "80.0%"))
    text = (tmp_path / "report.html").read_text()
    assert "ROC curves, one" in text
    assert "positive class: yes" in text
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    del first["roc"], first["confusion"]
    append_lines(tmp_path / "results.jsonl", [first])  # the last line of a unit counts
    (block,) = write_report(tmp_path)
    assert "ROC curves" not in (tmp_path / "report.html").read_text()
    assert confusion_table(block) is None


def test_the_page_links_to_settings_by_their_short_names(folder):
    for model in MODELS:
        append_lines(folder / "results.jsonl", unit_lines("one", model, 0, train=0.3))
    write_report(folder)
    links = re.findall(
        r'<a href="#(.+)">(.+)</a>', (folder / "report.html").read_text()
    )
    named = [("one-0", "one"), ("second-0", "second"), ("one-0.3", "one @0.3")]
    assert links == [*named, ("run", "What was run")]


def test_the_headline_names_the_best_baseline_and_the_corrected_p(folder):
    block = summarise(Results(folder))[0]
    text = summary_sentence([block])
    assert text.startswith("On one, mmgraph has a mean AUROC of 0.")
    (rival,) = [d for d in block.differences if d.model == "late_logistic"]
    assert "first of 3. It is better than the best baseline, late_logistic" in text
    assert f"p = {rival.p:.3f} after correction for 2 comparisons" in text
    assert summary_sentence([]) == "No results yet."


def with_p(block, p):
    """The same setting with another corrected p-value of each difference."""
    differences = tuple(replace(d, p=p) for d in block.differences)
    return replace(block, differences=differences)


def test_the_headline_follows_the_corrected_p_and_not_the_interval(folder):
    block = with_p(summarise(Results(folder))[0], 0.158)
    assert all(d.low > 0 for d in block.differences)
    text = summary_sentence([block])
    assert "is not distinguishable from the best baseline, late_logistic" in text
    assert "p = 0.158 after correction for 2 comparisons" in text
    many = summary_sentence([block, with_p(block, 0.01)])
    assert "better in 1, worse in 0 and not distinguishable in 1" in many


def test_without_mmgraph_the_best_model_is_compared_with_the_next(folder):
    lines = [x for x in read(folder) if x["model"] != "mmgraph"]
    (folder / "results.jsonl").unlink()
    append_lines(folder / "results.jsonl", lines)
    blocks = summarise(Results(folder))
    text = summary_sentence(blocks[:1])
    assert text.startswith("On one, late_logistic has")
    assert "the next best model, best_single" in text
    assert "baseline" not in text
    assert [table.title[:9] for table in overview(blocks)] == ["Mean rank"]


def test_splits_and_classes_are_described(folder):
    block = summarise(Results(folder))[0]
    assert split_note(block).startswith("Splits: 3 stratified folds, drawn at random")
    assert class_note(block) == "Chance level of AUROC: 0.500."
    heart = replace(block, facts=block.facts | {"group": "hospital"})
    assert "Groups are ignored: samples of one hospital are in" in split_note(heart)
    grouped = {"scheme": "5 grouped folds", "group": "ward"}
    grouped = replace(block, facts=block.facts | grouped)
    assert "all samples of one ward are in the same fold" in split_note(grouped)
    counted = {"classes": [["no", 45], ["yes", 15]]}
    counted = replace(block, facts=block.facts | counted, metric="accuracy")
    assert class_note(counted) == (
        "Classes: no: 45, yes: 15; the largest is 75.0% of the samples. "
        "Chance level of accuracy: 0.750."
    )
    for text in (split_note(block), class_note(block)):
        assert text in result_table(block).notes


def test_the_gain_of_edges_is_stated(folder):
    block = summarise(Results(folder))[0]
    assert edge_note(block) is None
    first, second = block.differences
    control = replace(first, model="mmgraph_no_edges", mean=0.0, low=-0.001, high=0.002)
    note = edge_note(replace(block, differences=(replace(control, p=1.0), second)))
    assert note == (
        "Gain of edges between modalities (mmgraph minus mmgraph_no_edges): "
        "+0.000, 95% CI [\N{MINUS SIGN}0.001, 0.002], p = 1.000."
    )


def test_the_page_explains_its_models_and_terms(folder):
    write_report(folder)
    text = (folder / "report.html").read_text()
    for part in (
        "Late fusion of logistic regressions",
        "FusionClassifier: base learners per modality",
        "area under the robustness curve",
        "Modality-balance ratio",
        "Monotonicity violations",
        "expected calibration error",
        "Scroll sideways",
    ):
        assert part in text
    figures = re.findall(r"<svg(?![^>]*aria-hidden)[^>]*>", text)
    assert len(figures) == 6
    assert all('role="img"' in figure for figure in figures)
    assert text.count('role="img"><title>') == 6


def test_models_without_a_common_rate_are_not_compared(tmp_path):
    append_lines(tmp_path / "datasets.jsonl", [facts("one")])
    for model, keep in (("best_single", 0.0), ("late_logistic", 0.7)):
        lines = unit_lines("one", model, 0)
        kept = [x for x in lines if x["test_missing"] in (keep, None)]
        append_lines(tmp_path / "results.jsonl", kept)
    (block,) = write_report(tmp_path)
    expected = "On one, the models have no test missing rate in common."
    assert summary_sentence([block]) == expected
    assert expected in (tmp_path / "table.md").read_text()
    assert result_table(block).rows[0][1] == DASH


def test_one_split_has_no_spread_and_no_interval(tmp_path):
    append_lines(tmp_path / "datasets.jsonl", [facts("one")])
    for model in MODELS:
        append_lines(tmp_path / "results.jsonl", unit_lines("one", model, 0))
    write_report(tmp_path)
    block = summarise(Results(tmp_path))[0]
    assert "±" not in result_table(block).rows[0][4]
    assert math.isnan(block.differences[0].low)
    assert "interval" not in summary_sentence([block])


def test_failures_are_shown_with_their_reason(folder):
    failure = {"dataset": "one", "train_missing": 0.0, "model": "concat_mlp"}
    failures = [failure | {"split": f"r0f{i}", "error": "No: luck"} for i in (0, 1)]
    append_lines(folder / "failures.jsonl", failures)
    block = summarise(Results(folder))[0]
    note = result_table(block).notes[-1]
    assert note == "Failed: concat_mlp on 2 splits: No: luck"


def test_markdown_has_the_tables_and_what_made_them(folder):
    write_report(folder)
    text = (folder / "table.md").read_text()
    assert "| mmgraph | **" in text
    assert f"Made by `{RUN['command']}` at commit c0ffeec0ffee." in text
    table = result_table(summarise(Results(folder))[0])
    assert to_markdown(table).count("\n| ") == 1 + len(MODELS) + 1


class Loads(HTMLParser):
    """Collects what a browser would fetch, and counts the figures."""

    def __init__(self):
        super().__init__()
        self.fetched, self.figures, self.ids, self.scripts = [], 0, [], 0

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name in ("src", "href", "xlink:href", "srcset", "data"):
                self.fetched.append(value)
            if name == "id":
                self.ids.append(value)
        self.figures += tag == "figure"
        self.scripts += tag in ("script", "link", "iframe", "img")


def test_the_page_stands_on_its_own_with_all_its_figures(folder):
    write_report(folder)
    text = (folder / "report.html").read_text()
    page = Loads()
    page.feed(text)
    assert page.figures == 2 * 3
    assert text.count("<svg") >= 6
    assert page.scripts == 0
    assert all(target.startswith("#") for target in page.fetched)
    assert not re.search(r"url\((?!#)|@import", text)
    assert "prefers-color-scheme: dark" in text
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(page.ids)


def test_ids_in_the_page_are_unique(folder):
    write_report(folder)
    page = Loads()
    page.feed((folder / "report.html").read_text())
    drawn = [name for name in page.ids if re.fullmatch(r"[a-z]\w*[0-9a-f]{8}", name)]
    assert drawn
    assert len(drawn) == len(set(drawn))


def test_the_page_says_what_was_run_and_escapes_what_it_shows(folder):
    write_report(folder)
    text = (folder / "report.html").read_text()
    for part in (RUN["command"], "c0ffee" * 6, "python 3.11", "d" * 64, "2 cores"):
        assert part in text
    assert "The &lt;one&gt; set" in text
    assert read(folder)[0]["plan_hash"][:24] in text


def test_a_report_needs_results(tmp_path):
    with pytest.raises(ConfigError, match="must hold results to report, got none"):
        write_report(tmp_path)


def test_a_model_looks_the_same_everywhere():
    assert style_of("mmgraph") == STYLES["mmgraph"]
    assert STYLES["mmgraph"].width == max(style.width for style in STYLES.values())
    looks = {(style.color, style.dash) for style in STYLES.values()}
    assert len(looks) == len(STYLES)
    assert style_of("another") == style_of("another")
    for names in (BASELINES, RETRIEVAL_BASELINES):
        looks = {(style_of(name).color, style_of(name).dash) for name in names}
        assert len(looks) == len(names)
    assert STYLES["mean_forest"].color in legend_svg("mean_forest")


def test_calibration_shows_ours_and_the_best_baselines(folder):
    block = summarise(Results(folder))[0]
    assert shown_models(block) == ("mmgraph", "late_logistic", "best_single")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.500"),
        (-0.25, "\N{MINUS SIGN}0.250"),
        (-0.0001, "0.000"),
        (1.0, "1.000"),
        (math.nan, DASH),
    ],
)
def test_numbers_have_a_leading_zero(value, text):
    assert number(value) == text
    assert signed(0.5) == "+0.500"
    assert interval(-0.001, 0.002) == "[\N{MINUS SIGN}0.001, 0.002]"


def test_quantities_below_the_precision_are_marked():
    assert amount(0.04, 1) == "<0.1"
    assert cost_cell(estimate([0.01, 0.02]), 1) == "<0.1"
    assert cost_cell(estimate([2.0, 2.02]), 1) == "2.0 ± <0.1"
    assert cost_cell(estimate([]), 1) == DASH


def test_estimates_of_nothing_and_of_one():
    assert all(math.isnan(value) for value in estimate([]))
    assert estimate([0.5])[0] == 0.5
    assert math.isnan(estimate([0.5])[1])


@pytest.mark.parametrize(
    ("name", "topology", "label"),
    [
        ("to", Full(), ""),
        ("before", Full(), "before"),
        ("to", TimeWindow(0.5), "within 0.5 s"),
        ("to", KNearest(3), "3 nearest"),
        ("near", SameIndex(), "near, same index"),
        ("to", Custom(lambda a, b: a, "skeleton"), "skeleton"),
    ],
)
def test_edges_are_labelled_where_there_is_something_to_say(name, topology, label):
    assert edge_label(name, topology) == label


def clinic():
    return Schema(
        modalities=(
            Modality("labs", channels=34),
            Modality("ecg", channels=12, tokens="ragged", time=True),
        ),
        latents=(Latent("fuse"), Latent("bottleneck", num_nodes=4)),
        relations=(
            Relation("ecg", "ecg", topology=TimeWindow(0.5)),
            Relation("*", "fuse"),
            Relation("*", "bottleneck"),
            Relation("bottleneck", "fuse", "tells"),
        ),
    )


def test_a_drawn_schema_names_its_nodes_and_edges(tmp_path):
    path = tmp_path / "schema.svg"
    draw_schema(clinic(), path)
    text = path.read_text()
    for word in ("labs", "ecg", "fuse", "bottleneck, 4 nodes", "within 0.5 s", "tells"):
        assert f"<!-- {word}" in text


@pytest.mark.parametrize("count", [2, 12])
def test_small_and_large_schemas_are_drawn_as_png(tmp_path, count):
    path = tmp_path / "schema.png"
    names = [f"modality_{i}" for i in range(count)]
    draw_schema(Schema.complete([Modality(n, channels=3) for n in names]), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_picture_is_png_or_svg(tmp_path):
    with pytest.raises(ConfigError, match=r"must end in \.png or \.svg, got"):
        draw_schema(clinic(), tmp_path / "schema.gif")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("classification", marks=pytest.mark.long),
        "retrieval",
        pytest.param("unseen", marks=pytest.mark.slow),
    ],
)
def test_committed_tables_follow_from_their_lines(name):
    folder = Path(__file__).parents[2] / "benchmarks" / "results" / name
    runs = read_lines(folder / "runs.jsonl")
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert table == markdown(summarise(Results(folder)), runs)
    assert "mmgraph has mean rank" in table
