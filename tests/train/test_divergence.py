"""A loss that is not finite stops training with a warning, and spoils nothing."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from toy_ensemble import NUM, build, make

from mmgraph import FusionClassifier, FusionRetriever, MultimodalData
from mmgraph.distributed import SINGLE_PROCESS
from mmgraph.train import TrainOptions, TrainStep, fit_members
from mmgraph.train.divergence import DivergenceError

OPTIONS = TrainOptions(max_steps=8, batch_size=100, checks=4)


def fit(data, options=OPTIONS):
    graph, pool = build()
    generator = torch.Generator().manual_seed(0)
    fitted = fit_members(graph, pool, data, options, generator=generator)
    return graph, *fitted


def test_the_sample_and_the_modality_are_named():
    evidence = make().evidence.clone()
    evidence[7, 1] = torch.inf
    data = replace(
        make(), evidence=evidence, ids=np.array([f"p{i}" for i in range(NUM)])
    )
    options = replace(OPTIONS, missing_rate=0.0)
    cause = r"at step [12]: 1 of 100 samples of the batch \(ids 'p7'\), modalities b\."
    with pytest.warns(ConvergenceWarning, match=cause) as caught:
        graph, beta, history = fit(data, options)
    assert len(caught) == 1
    assert history.steps <= 2
    assert beta == 0
    assert all(p.isfinite().all() for p in graph.parameters())


def test_parameters_that_become_nan_are_reported_and_not_kept(monkeypatch):
    step, count = TrainStep.__call__, iter(range(10))

    def spoil(self, part):
        step(self, part)
        if next(count) == 3:
            with torch.no_grad():
                next(self.graph.parameters()).fill_(torch.nan)

    monkeypatch.setattr(TrainStep, "__call__", spoil)
    with pytest.warns(ConvergenceWarning, match=r"at step 4: .* of the held-out part"):
        graph, _, history = fit(make())
    assert all(p.isfinite().all() for p in graph.parameters())
    assert np.isfinite(history.held_out_loss[0]).all()


class Peers:
    """Two processes, of which the other one has a loss that is not finite."""

    def sum(self, x):
        return x + 1

    def gather(self, text):
        return ["ids 'p3', modalities b", text]


def test_a_loss_that_diverges_in_one_process_stops_all_with_the_same_error():
    graph, pool = build()
    generator = torch.Generator().manual_seed(0)
    step = TrainStep(graph, pool, OPTIONS, generator, SINGLE_PROCESS)
    step.processes = Peers()
    with pytest.raises(DivergenceError, match=r"^ids 'p3', modalities b$"):
        step._require_finite(torch.tensor(1.0), None, None)


def test_a_finite_training_has_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit(make())


def pairs() -> MultimodalData:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    return MultimodalData.from_arrays({"a": x, "b": x[:, :2] + 1})


@pytest.mark.parametrize("rate", [1e3, 1e30])
@pytest.mark.parametrize("kind", [FusionClassifier, FusionRetriever])
def test_learning_rates_that_are_too_large_leave_a_finite_model(kind, rate):
    data = pairs()
    given = {"epochs": 8, "members": 1, "hidden_channels": 8, "experts": ("linear",)}
    if kind is FusionClassifier:
        data = data.replace(y=(data.columns["a"].values[:, 0] > 0).astype(int))
    estimator = kind(learning_rate=rate, **given)
    advice = re.escape(f"Lower learning_rate={rate:g}")
    with pytest.warns(ConvergenceWarning, match=advice):
        estimator.fit(data)
    call = getattr(estimator, "predict_proba", getattr(estimator, "embed", None))
    assert np.isfinite(call(data)).all()
