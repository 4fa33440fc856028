"""The invariants on a pretrained model that is trained."""

from collections.abc import Iterator

import pytest
import tiny_models
import torch
from contract import laws
from contract.batches import corner_batch
from contract.tuned import MODALITIES, tuned_cases

from mmgraph._threads import one_thread
from mmgraph.nn import finetuning

pytest.importorskip("transformers")

LAWS = (
    laws.law_value_independence,
    laws.law_zero_gradient,
    laws.law_absence_is_removal,
    laws.law_batch_independence,
    laws.law_sample_order,
    laws.law_modality_order,
    laws.law_nothing_observed,
    laws.law_every_parameter_learns,
    laws.law_same_seed,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return {kind: tiny_models.MAKERS[kind](root / kind) for kind in MODALITIES}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Run on one thread: the tensors are too small to gain from a second."""
    with one_thread():
        yield


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@pytest.mark.parametrize("name", tuned_cases({}))
def test_laws_hold_through_a_pretrained_model(law, name, folders):
    if name.endswith("lora"):
        pytest.importorskip("peft")
    law(tuned_cases(folders)[name]())


def test_every_class_has_a_case(folders):
    own = {
        name
        for name, value in vars(finetuning).items()
        if isinstance(value, type) and value.__module__ == finetuning.__name__
    }
    assert own == set(tuned_cases(folders)["text-ecg"]().covers)


@pytest.mark.parametrize("name", tuned_cases({}))
def test_what_is_read_matters(name, folders):
    if name.endswith("lora"):
        pytest.importorskip("peft")
    case = tuned_cases(folders)[name]()
    values = case.run(case.build(0), corner_batch())["h"].value.detach()
    assert len(torch.unique(values, dim=0)) == len(values) >= 2
