"""Randomness comes from seeds alone: no global generator is read or changed."""

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from random_calls import calls_of_package, unseeded_calls

import mmgraph as mg
from mmgraph._random import draws_from, separate_draws
from mmgraph.model import fusion

SCHEMA = mg.Schema.star(
    [mg.Modality("labs", 6), mg.Modality("ecg", 4, tokens="ragged", time=True)]
)
# drawn while a model is built, from the seed of the model: see draws_from
BUILT = {
    "nn/linear.py": {"value.uniform_"},
    "baselines/architectures.py": {"nn.Linear", "torch.randn"},
}


def test_every_draw_of_the_package_has_a_generator():
    assert calls_of_package() == BUILT


@pytest.mark.parametrize(
    "source",
    [
        "torch.manual_seed(0)",
        "with torch.random.fork_rng(devices=[]): pass",
        "np.random.rand(3)",
        "np.random.default_rng()",
        "random.shuffle(x)",
        "torch.randn(3)",
        "x.normal_()",
        "nn.Linear(3, 4)",
        "KFold(3, shuffle=True)",
        "RandomForestRegressor(10)",
    ],
)
def test_planted_draws_are_found(source):
    assert list(unseeded_calls(source))


def test_draws_with_a_generator_are_allowed():
    source = "torch.randn(3, generator=g); np.random.default_rng(seed); x.uniform_(0, 1"
    assert list(unseeded_calls(f"{source}, generator=g)")) == []


def weights(seed: int, **options: object) -> torch.Tensor:
    model = mg.FusionModel(
        SCHEMA, mg.Classification(num_classes=2), seed=seed, **options
    )
    return torch.cat([p.detach().ravel() for p in model.parameters()])


@pytest.mark.parametrize(
    "options",
    [{}, {"members": 2, "completion": True}, {"capacity": "full"}],
    ids=["single", "members", "full"],
)
def test_initial_weights_are_those_of_a_manual_seed(monkeypatch, options):
    @contextmanager
    def manual(seed: int):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield

    drawn = weights(3, **options)
    monkeypatch.setattr(fusion, "draws_from", manual)
    assert torch.equal(weights(3, **options), drawn)


def test_layers_of_torch_are_drawn_from_the_seed_of_the_context():
    def build() -> torch.Tensor:
        with draws_from(5):
            layer = torch.nn.GRU(3, 4)
            rest = [torch.randn(3), torch.randperm(7), torch.rand(2)]
        return torch.cat([p.detach().ravel() for p in (*layer.parameters(), *rest)])

    with torch.random.fork_rng():
        torch.manual_seed(5)
        layer = torch.nn.GRU(3, 4)
        rest = [torch.randn(3), torch.randperm(7), torch.rand(2)]
    state = torch.get_rng_state()
    expected = torch.cat([p.detach().ravel() for p in (*layer.parameters(), *rest)])
    assert torch.equal(build(), expected)
    with torch.device("meta"), draws_from(5):
        assert torch.nn.Linear(2, 2).weight.is_meta
    assert torch.equal(torch.get_rng_state(), state)


def test_separate_draws_copy_the_context_and_leave_it_unchanged():
    with draws_from(2):
        before = torch.rand(3)
        with separate_draws():
            inner = torch.rand(3)
        after = torch.rand(3)
    assert torch.equal(inner, after)
    assert not torch.equal(before, after)
    with separate_draws():
        assert torch.equal(
            torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(0))
        )


@pytest.fixture
def _many_switches():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_many_switches")
def test_models_built_in_threads_are_those_of_their_seeds():
    expected = [weights(seed) for seed in range(4)]
    seeds = [seed % 4 for seed in range(24)]
    with ThreadPoolExecutor(4) as threads:
        built = list(threads.map(weights, seeds))
    assert all(torch.equal(w, expected[s]) for w, s in zip(built, seeds, strict=True))


# scikit-learn empties the filters of warnings, which all threads share, for a moment;
# another thread that reads them then issues this warning
@pytest.mark.filterwarnings("ignore:`sklearn.utils.parallel.delayed` should be used")
@pytest.mark.usefixtures("_many_switches")
@pytest.mark.slow
def test_fits_in_threads_are_those_of_their_seeds():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4))
    data = mg.MultimodalData.from_arrays(
        {"a": x[:, :2], "b": x[:, 2:]}, y=(x[:, 0] * x[:, 2] > 0).astype(int)
    )

    def fit(seed: int) -> np.ndarray:
        model = mg.FusionClassifier(
            seed=seed,
            epochs=1,
            members=2,
            hidden_channels=8,
            experts=("linear", "forest"),
            verbose=False,
        )
        return model.fit(data).predict_proba(data)

    seeds = [0, 1, 2, 3, 0, 1, 2, 3]
    expected = [fit(seed) for seed in seeds[:4]]
    with ThreadPoolExecutor(4) as threads:
        fitted = list(threads.map(fit, seeds))
    for seed, proba in zip(seeds, fitted, strict=True):
        assert np.array_equal(proba, expected[seed])
