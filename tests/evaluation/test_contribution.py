"""`mmgraph.contributions`: shares, verdicts and alarms over a data set."""

import warnings

import numpy as np
import pytest

import mmgraph as mg
from mmgraph import ConfigError, DataError, DataWarning, MultimodalData
from mmgraph.baselines import LateLogistic
from mmgraph.datasets.controls import synthetic
from mmgraph.evaluation.contribution import _verdict
from mmgraph.metrics.bootstrap import Interval

RNG = np.random.default_rng(0)
NUM = 400


class Table:
    """Classifier of two classes whose log-odds are a function of the first cells."""

    classes_ = np.array([0, 1])

    def __init__(self, odds):
        self.odds = odds

    def predict_proba(self, data):
        cells = {}
        for name, x in data.features().items():
            cells[name] = np.nan_to_num(x[:, 0].astype(float))
        p = 1 / (1 + np.exp(-self.odds(cells)))
        return np.stack([1 - p, p], axis=1)

    def predict(self, data):
        return self.predict_proba(data).argmax(1)


def make(num: int = NUM, seed: int = 0, **plain) -> MultimodalData:
    rng = np.random.default_rng(seed)
    arrays = {name: rng.normal(size=(num, 2)) for name in "abc"}
    odds = 2 * arrays["a"][:, 0] + arrays["b"][:, 0]
    y = (rng.random(num) < 1 / (1 + np.exp(-odds))).astype(int)
    return MultimodalData.from_arrays(arrays, **({"y": y} | plain))


DATA = make()
ADDITIVE = Table(lambda x: 2 * x["a"] + x["b"])


def mean_log(model, data) -> float:
    proba = model.predict_proba(data)
    return float(np.log(proba[np.arange(len(data)), np.asarray(data.y)]).mean())


def only(data, *names):
    return data.mask({n: np.full(len(data), n in names) for n in data.modalities})


def test_quantities_follow_their_definition():
    report = mg.contributions(ADDITIVE, DATA)
    v = {
        names: mean_log(ADDITIVE, only(DATA, *names))
        for names in ("", "a", "b", "abc", "bc")
    }
    assert report.nothing == pytest.approx(v[""])
    assert report.complete == pytest.approx(v["abc"])
    assert report["a"].alone.mean == pytest.approx(v["a"] - v[""])
    assert report["a"].last.mean == pytest.approx(v["abc"] - v["bc"])
    total = sum(each.share.mean for each in report.modalities)
    assert total == pytest.approx(v["abc"] - v[""], abs=1e-12)
    assert [each.modality for each in report.modalities] == ["a", "b", "c"]
    assert report["a"].share.low < report["a"].share.mean < report["a"].share.high


def test_shares_are_the_means_of_explain_for_the_same_game():
    def score(y, proba):
        return proba[:, 1]

    clf = mg.FusionClassifier(epochs=1, members=1, experts=("linear",)).fit(DATA[:100])
    report = mg.contributions(clf, DATA[100:200], metric=score)
    values = clf.explain(DATA[100:200]).values[..., 1].mean(0)
    got = [report[name].share.mean for name in DATA.modalities]
    np.testing.assert_allclose(got, values, atol=1e-7)
    assert report.metric == "score"


def test_last_counts_the_samples_that_lack_the_modality_as_zero():
    """A planted fault: the mean over samples that have it is twice as large."""
    half = DATA.mask({"a": np.arange(NUM) % 2 == 0})
    report = mg.contributions(ADDITIVE, half)
    with_a, without = mean_log(ADDITIVE, half), mean_log(ADDITIVE, only(half, "b", "c"))
    assert report["a"].last.mean == pytest.approx(with_a - without)
    assert report["a"].present == 0.5


def test_a_modality_that_is_not_read_is_silent_and_named():
    report = mg.contributions(ADDITIVE, DATA)
    assert report["c"].share == (0, 0, 0)
    assert report["c"].verdict == "silent"
    assert [(a.kind, a.modality) for a in report.alarms] == [("not read", "c")]
    assert report["a"].verdict == report["b"].verdict == "carries"


@pytest.mark.parametrize(
    ("alone", "last", "verdict"),
    [
        ((0.1, 0.05, 0.15), (0.1, 0.05, 0.15), "carries"),
        ((0.05, -0.01, 0.11), (0.02, 0.01, 0.03), "carries"),
        ((0.1, 0.05, 0.15), (0.01, -0.01, 0.03), "redundant"),
        ((0.1, 0.05, 0.15), (0.01, 0.005, 0.015), "redundant"),
        ((0.0, -0.1, 0.1), (0.1, 0.05, 0.15), "only together"),
        ((0.02, 0.005, 0.035), (0.1, 0.05, 0.15), "only together"),
        ((0.0, -0.1, 0.1), (0.0, -0.1, 0.1), "silent"),
        ((0.1, 0.05, 0.15), (-0.1, -0.15, -0.05), "harms"),
    ],
)
def test_verdicts_follow_from_intervals(alone, last, verdict):
    share = Interval(0.05, 0.01, 0.09)
    assert _verdict(share, Interval(*alone), Interval(*last)) == verdict


@pytest.mark.parametrize(
    ("alone", "verdict"),
    [((0.1, 0.05, 0.15), "carries"), ((-0.01, -0.02, 0.0), "silent")],
)
def test_a_gain_over_all_others_alone_is_no_evidence(alone, verdict):
    """With a share around 0, only modalities that are useful alone are useful."""
    share, last = Interval(0.001, -0.002, 0.004), Interval(0.1, 0.05, 0.15)
    assert _verdict(share, Interval(*alone), last) == verdict


def test_controls_have_their_verdicts():
    synergy = synthetic("synergy", 1000, seed=1)
    product = Table(
        lambda x: 3 * x.get("a", 0) * x.get("b", 0)
    )  # the law without a_1, b_1
    report = mg.contributions(product, synergy)
    assert [each.verdict for each in report.modalities] == ["only together"] * 2
    assert report.interactions[0].value.low > 0
    copies = synthetic("redundant", 1400, seed=1)
    report = mg.contributions(LateLogistic().fit(copies[:400]), copies[400:])
    assert [each.verdict for each in report.modalities] == ["redundant"] * 4
    assert max(each.value.high for each in report.interactions) < 0
    assert report.alarms == ()


def test_a_shortcut_is_named():
    data = synthetic("shortcut", 1400, seed=1)
    report = mg.contributions(LateLogistic().fit(data[:400]), data[400:])
    [alarm] = report.alarms
    assert alarm.kind == "presence predicts the label"
    assert 0.7 < alarm.value.low < alarm.value.mean < 0.85
    assert "AUROC 0.7" in alarm.text


def test_a_spurious_cue_is_named_and_the_signal_is_not():
    data = synthetic("spurious", 1400, seed=1)
    train = data[np.flatnonzero(np.asarray(data.groups) == "site_a")[:400]]
    report = mg.contributions(LateLogistic().fit(train), data[800:])
    named = [alarm for alarm in report.alarms if alarm.kind == "sign change"]
    assert [alarm.modality for alarm in named] == ["cue"]
    assert "group site_b" in named[0].text


def test_a_harmful_modality_is_named():
    model = Table(lambda x: 2 * x["a"] + x["b"] - 2 * x["c"])
    report = mg.contributions(model, DATA)
    assert report["c"].verdict == "harms"
    [alarm] = [a for a in report.alarms if a.kind == "lowers the score"]
    assert alarm.modality == "c"
    assert "4 of 4 sets" in alarm.text


def test_a_dominant_modality_is_named():
    arrays = {"a": RNG.normal(size=(NUM, 1))}
    arrays["copy"] = arrays["a"].copy()
    y = (arrays["a"][:, 0] > 0).astype(int)
    data = MultimodalData.from_arrays(arrays, y=y)

    class First(Table):
        """Reads the copy only where the other is missing."""

        def predict_proba(self, data):
            has = data.columns["a"].present
            x = {
                n: np.nan_to_num(c[:, 0].astype(float))
                for n, c in data.features().items()
            }
            odds = np.where(has, 6 * x["a"], 0.2 * x["copy"])
            p = 1 / (1 + np.exp(-odds))
            return np.stack([1 - p, p], axis=1)

    report = mg.contributions(First(None), data)
    assert "dominance" not in {alarm.kind for alarm in report.alarms}  # copy is useless

    class Either(First):
        def predict_proba(self, data):
            x = {n: c[:, 0].astype(float) for n, c in data.features().items()}
            first = np.where(
                np.isnan(x["a"]),
                5.9 * np.nan_to_num(x["copy"]),
                6 * np.nan_to_num(x["a"]),
            )
            p = 1 / (1 + np.exp(-first))
            return np.stack([1 - p, p], axis=1)

    rare = data.mask({"copy": np.arange(NUM) < 4 * NUM // 100})
    assert "dominance" not in {
        a.kind for a in mg.contributions(Either(None), rare).alarms
    }


def test_groups_widen_the_intervals():
    rows = np.repeat(np.arange(40), 10)
    many = DATA[rows].replace(ids=np.arange(NUM), groups=rows)
    grouped = mg.contributions(ADDITIVE, many)["a"].share
    single = mg.contributions(ADDITIVE, many.replace(groups=None))["a"].share
    assert grouped.high - grouped.low > 2 * (single.high - single.low)


def test_random_orders_sum_to_the_same_total():
    exact = mg.contributions(ADDITIVE, DATA)
    drawn = mg.contributions(ADDITIVE, DATA, orders=2)
    totals = [sum(e.share.mean for e in r.modalities) for r in (exact, drawn)]
    assert totals[0] == pytest.approx(totals[1], abs=1e-12)
    assert drawn["a"].alone == exact["a"].alone


def test_a_regressor_is_scored_by_its_squared_error():
    class Sum:
        def predict(self, data):
            tables = data.features().values()
            return sum(np.nan_to_num(x[:, 0].astype(float)) for x in tables)

    y = sum(x[:, 0].astype(float) for x in DATA.features().values())
    report = mg.contributions(Sum(), DATA.replace(y=y))
    assert report.complete == pytest.approx(0, abs=1e-10)
    assert report.nothing == pytest.approx(-float((y**2).mean()), rel=1e-6)
    assert report["a"].verdict == "carries"
    assert report.metric == "negative squared error"


def test_a_retriever_is_scored_by_ndcg():
    rng = np.random.default_rng(0)
    shape = rng.normal(size=(120, 4))
    arrays = {
        name: shape + 0.5 * rng.normal(size=(120, 4))
        for name in ("image", "sound", "text")
    }
    arrays["sound"] = rng.normal(size=(120, 4))
    data = MultimodalData.from_arrays(arrays)
    model = mg.FusionRetriever(supervision="pairs").fit(data[:80])
    report = mg.contributions(model, data[80:], gallery="text")
    assert {each.modality for each in report.modalities} == {"image", "sound"}
    discounts = 1 / np.log2(np.arange(40) + 2)
    assert report.nothing == pytest.approx(discounts.mean())
    assert report["image"].verdict == "carries"
    assert report["image"].share.mean > 0.2


def test_several_labels_are_scored_together():
    class Both(Table):
        def predict_proba(self, data):
            one = super().predict_proba(data)[:, 1:]
            return np.concatenate([one, 1 - one], axis=1)

    y = np.asarray(DATA.y)
    report = mg.contributions(
        Both(ADDITIVE.odds), DATA.replace(y=np.stack([y, 1 - y], 1))
    )
    assert report.complete == pytest.approx(2 * mean_log(ADDITIVE, DATA))


def test_it_prints_as_a_table():
    report = mg.contributions(ADDITIVE, DATA)
    lines = repr(report).splitlines()
    assert lines[0] == "Contributions of modalities"
    assert lines[2].split()[0] == "a"
    assert "not read" not in lines[1]
    assert lines[-1].startswith("Alarm: predictions do not change when c is permuted")
    assert "<table>" in report._repr_html_()
    assert set(report.rows[0]) >= {
        "modality",
        "share",
        "share_low",
        "last_high",
        "verdict",
    }


def test_coalitions_are_predicted_without_a_warning_about_new_subsets():
    train, test = DATA[:200], DATA[200:]  # complete: every other subset is new
    small = {"experts": ("linear",), "members": 1, "epochs": 1, "hidden_channels": 4}
    clf = mg.FusionClassifier(**small, num_heads=1).fit(train)
    with pytest.warns(DataWarning, match="no training sample had"):
        clf.predict(test.select(["a"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mg.contributions(clf, test, resamples=10)


def test_samples_without_a_label_are_left_out():
    y = np.asarray(DATA.y).astype(float)
    y[:100] = np.nan
    some = mg.contributions(ADDITIVE, DATA.replace(y=y))
    assert some.num_samples == NUM - 100
    assert some.complete == mg.contributions(ADDITIVE, DATA[100:]).complete


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("data", "options", "error", "message"),
    [
        (
            DATA.replace(y=None),
            {},
            DataError,
            "at least one sample with a label, got none",
        ),
        (
            DATA.replace(y=np.full(NUM, 7)),
            {},
            DataError,
            "classes of the training data",
        ),
        ([1], {}, DataError, "data must be MultimodalData, got list"),
        (DATA, {"metric": "auroc"}, ConfigError, "must be 'log_score' or a function"),
        (DATA, {"metric": lambda y, p: 0.5}, ConfigError, "one score per sample"),
        (DATA, {"gallery": "a"}, ConfigError, "gallery must go with a retriever"),
        (DATA, {"orders": 0}, DataError, "orders must be a whole number"),
    ],
)
def test_bad_input_is_one_clear_error(data, options, error, message):
    with pytest.raises(error, match=message):
        mg.contributions(ADDITIVE, data, **options)
