"""The nine invariants on every public layer, readout, head, encoder and model."""

from collections.abc import Callable

import pytest
import torch
from contract import laws
from contract.batches import (
    CONTENTS,
    MODALITIES,
    NAMES,
    corner_batch,
    full_batch,
    held_out,
    poison,
    take,
)
from contract.blocks import block_cases
from contract.laws import Case
from contract.models import model_cases
from hypothesis import given, settings
from hypothesis import strategies as st

import mmgraph
from mmgraph.errors import SchemaError
from mmgraph.model import FusionModel
from mmgraph.nn import Classification, MultiLabel, Regression
from mmgraph.schema import Latent, Relation, Schema

BLOCKS, MODELS = block_cases(), model_cases()
CASES = [*BLOCKS, *MODELS]

DENSE = [case for case in MODELS if not case.name.endswith("sparse")]
THREADED = [case for case in MODELS if "members-dense" in case.name]


every = pytest.mark.parametrize("case", CASES, ids=str)


def those(chosen: Callable[[Case], bool]) -> pytest.MarkDecorator:
    """Mark a test with the cases that a law is about."""
    cases = [case for case in CASES if chosen(case)]
    return pytest.mark.parametrize("case", cases, ids=str)


def test_every_public_block_has_a_case():
    covered = {name for case in BLOCKS for name in case.covers}
    classes = {
        n for n in mmgraph.nn.__all__ if isinstance(getattr(mmgraph.nn, n), type)
    } - {"Attention", "Encoded", "FusionOperator"}  # results, and a protocol
    assert covered == classes


@every
def test_held_out_content_changes_no_bit(case):
    laws.law_value_independence(case)


@every
def test_held_out_content_gets_no_gradient(case):
    laws.law_zero_gradient(case)


@those(lambda case: not case.name.endswith("sparse"))  # the twin of a case is
def test_absence_is_removal(case):
    laws.law_absence_is_removal(case)


@pytest.mark.parametrize("case", DENSE, ids=str)
def test_absence_is_removal_in_single_precision(case):
    laws.law_absence_is_removal(case, dtype=torch.float32)


@every
def test_sample_alone_equals_sample_in_batch(case):
    laws.law_batch_independence(case)


@pytest.mark.parametrize("case", DENSE, ids=str)
def test_sample_alone_equals_sample_in_batch_in_single_precision(case):
    laws.law_batch_independence(case, dtype=torch.float32)


@every
def test_order_of_samples_does_not_matter(case):
    laws.law_sample_order(case)


@every
def test_order_of_modalities_does_not_matter(case):
    laws.law_modality_order(case)


@those(lambda case: case.is_set)
def test_order_of_set_elements_does_not_matter(case):
    laws.law_set_order(case)


@every
def test_nothing_observed_is_the_prior(case):
    laws.law_nothing_observed(case)


@those(lambda case: case.losses is not None and "mixture" not in case.name)
def test_targets_of_completion_are_detached(case):
    laws.law_no_leak(case)


@every
def test_every_relation_and_type_of_every_parameter_learns(case):
    laws.law_every_parameter_learns(case)


@every
def test_same_seed_gives_same_bits(case):
    laws.law_same_seed(case)


@pytest.mark.parametrize("case", THREADED, ids=str)
def test_number_of_threads_does_not_matter(case):
    laws.law_threads(case)


@those(lambda case: case.only_one is not None)
def test_member_of_an_ensemble_is_a_model_of_its_own(case):
    laws.law_members_are_models(case)


cells = st.sets(st.tuples(st.integers(0, 3), st.sampled_from(NAMES)))


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    number=st.integers(0, len(MODELS) - 1),
    hidden=cells,
    missing=cells,
    content=st.sampled_from(CONTENTS),
)
def test_any_mask_hides_any_content(number, hidden, missing, content):
    case, batch = MODELS[number], full_batch(4)
    model, batch = case.build(0), batch.drop(~held_out(batch, sorted(missing)))
    hidden_batch = batch.hold_out(held_out(batch, sorted(hidden)))
    outputs = case.run(model, hidden_batch)
    poisoned = case.run(model, poison(hidden_batch, [content]))
    laws.assert_same_bits(poisoned, outputs, str(content))
    assert all(bool(rows.value.isfinite().all()) for rows in outputs.values())
    if case.removable:
        kept = batch.drop(~hidden_batch.held_out)
        removed = case.run(model, kept)
        laws.assert_close(removed, outputs, 1e-12)
        grads = laws.gradients(model, removed)
        common = {key: outputs[key] for key in removed}
        laws.assert_close_grads(grads, laws.gradients(model, common), 1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 17, 64])
def test_batches_of_any_size_say_the_same(size):
    case = next(case for case in MODELS if "temporal-completion-sparse" in case.name)
    model = case.build(0).float()
    samples = [i % 6 for i in range(size)]
    batch = corner_batch().to(torch.float32)
    everyone, some = case.run(model, batch), case.run(model, take(batch, samples))
    wanted = everyone["sample"].value[samples]
    assert float((some["sample"].value - wanted).abs().amax().detach()) <= 1e-6


def test_hiding_equals_completing_what_was_dropped():
    case = next(case for case in MODELS if "complete-promote" in case.name)
    model, batch = case.build(0), full_batch()
    batch = batch.drop(~held_out(batch, [(1, "text"), (2, "gene"), (2, "labs")]))
    everywhere = [(i, "ecg") for i in range(batch.num_samples)]
    hidden = batch.hold_out(held_out(batch, everywhere))
    one = model(hidden)
    other = model(batch.drop(~hidden.held_out), complete=["ecg"])
    torch.testing.assert_close(one.logits, other.logits, atol=1e-12, rtol=0)
    assert not torch.equal(one.logits, model(batch.drop(~hidden.held_out)).logits)


def test_scaling_is_not_fitted_on_what_is_held_out():
    case, batch = MODELS[0], corner_batch()
    batch = batch.hold_out(held_out(batch))
    results = []
    for content in (1.0, 1e30):
        model = case.build(0)
        model.fit_scaling(poison(batch, [content]))
        results.append(torch.cat([b.flatten() for b in model.buffers()]))
    assert torch.equal(*results)


@pytest.mark.parametrize("schema", ["late", "star", "complete", "bottleneck"])
def test_relation_that_cannot_matter_is_rejected(schema):
    built = getattr(Schema, schema)(MODALITIES)
    dead = Relation(built.readout[0], "nowhere")
    latents = [*built.latents, Latent("nowhere")]
    schema = Schema(MODALITIES, latents, [*built.relations, dead], built.readout)
    with pytest.raises(SchemaError, match="must be able to reach the readout"):
        FusionModel(schema, Classification(2))


def test_relation_too_far_from_the_readout_is_rejected():
    schema = Schema.complete(MODALITIES)
    with pytest.raises(SchemaError, match=r"'labs', 'to', 'ecg'.*cannot in 1 layer"):
        FusionModel(schema, Classification(2), num_layers=1)


@pytest.mark.parametrize("task", [Classification(3), MultiLabel(3), Regression(3)])
def test_loss_without_a_valid_term_is_zero(task):
    laws.law_loss_without_valid_term(task.loss, task)


@pytest.mark.parametrize("task", [Classification(3), MultiLabel(3), Regression(3)])
def test_unlabelled_samples_do_not_count(task):
    laws.law_unlabeled_rows_do_not_count(task.loss, task)
