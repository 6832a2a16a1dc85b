import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from fedmodel.cohort import Cohort, FlatModel, LocalTraining, clipped_gradient_sum, mean_gradient
from fedmodel.models.text import text_bag
from fedmodel.rules import sample_data


def make_cohort(
    module, *, tokens=False, batch_size=4, clients=(0, 1, 2, 3), steps=3, noise=0.0, data=None
):
    data = data or sample_data(tokens=tokens)
    training = LocalTraining(
        batch_size=batch_size,
        num_steps=np.full(data.num_clients, steps),
        noise_multiplier=np.full(data.num_clients, noise),
    )
    return Cohort(np.array(clients), data, FlatModel(module), training, seed=1, round=1)


def record_gradients(cohort, vector, x, y):
    """Brute force: one backward pass a record."""
    rows = []
    for record, label in zip(x, y):
        parameters = {n: p.clone().requires_grad_() for n, p in cohort.model.split(vector).items()}
        loss = cross_entropy(cohort.model.logits(parameters, record[None]), label[None])
        grads = torch.autograd.grad(loss, list(parameters.values()))
        rows.append(torch.cat([g.flatten() for g in grads]))
    return torch.stack(rows) if rows else torch.zeros(0, cohort.model.size)


MODELS = {
    "linear": lambda: nn.Linear(4, 2),
    "mlp": lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2)),
    "norm": lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 2)),
    "one output": lambda: nn.Linear(4, 1),
    "text": lambda: text_bag(vocabulary=50, num_classes=2, width=3),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("clip", [0.05, 1.0, math.inf])
def test_clipped_sum_equals_one_backward_a_record(name, clip):
    cohort = make_cohort(MODELS[name](), tokens=name == "text")
    local = cohort.model.initial + 0.3 * torch.randn(4, cohort.model.size)
    batch = cohort.poisson_batch(0)
    found = clipped_gradient_sum(cohort, local, batch, clip=clip)
    for k in range(4):
        present = batch.present[k]
        rows = record_gradients(cohort, local[k], batch.x[k][present], batch.y[k][present])
        factor = (
            (clip / rows.norm(dim=1)).clamp(max=1) if clip < math.inf else torch.ones(len(rows))
        )
        torch.testing.assert_close(found[k], factor @ rows, rtol=1e-4, atol=1e-5)


def test_sensitivity_to_one_record_is_at_most_the_clip():
    cohort = make_cohort(nn.Linear(4, 2), batch_size=100)
    local = cohort.model.initial.repeat(4, 1)
    batch = cohort.poisson_batch(0)
    whole = clipped_gradient_sum(cohort, local, batch, clip=0.1)
    for record in range(3):
        present = batch.present.clone()
        present[:, record] = False
        without = clipped_gradient_sum(
            cohort,
            local,
            type(batch)(batch.x, batch.y, present, batch.keys, batch.active),
            clip=0.1,
        )
        assert ((whole - without).norm(dim=1) <= 0.1 + 1e-6).all()


def test_mean_gradient_equals_the_gradient_of_the_mean_loss():
    cohort = make_cohort(MODELS["mlp"]())
    local = cohort.model.initial.repeat(4, 1)
    batch = cohort.shuffled_batch(0)
    found = mean_gradient(cohort, local, batch)
    for k in range(4):
        rows = record_gradients(cohort, local[k], batch.x[k], batch.y[k])[batch.present[k]]
        torch.testing.assert_close(found[k], rows.mean(0), rtol=1e-4, atol=1e-6)


def test_memory_limits_change_nothing(monkeypatch):
    cohort = make_cohort(MODELS["mlp"](), batch_size=8)
    local, batch = cohort.model.initial.repeat(4, 1), cohort.poisson_batch(0)
    whole = clipped_gradient_sum(cohort, local, batch, clip=0.5)
    monkeypatch.setattr(
        "fedmodel.cohort.gradients.RECORD_GRADIENT_BYTES", 4 * cohort.model.size * 3
    )
    torch.testing.assert_close(clipped_gradient_sum(cohort, local, batch, clip=0.5), whole)


def test_an_empty_batch_has_no_gradient():
    cohort = make_cohort(nn.Linear(4, 2))
    batch = cohort.poisson_batch(0)
    empty = type(batch)(batch.x, batch.y, batch.present & False, batch.keys, batch.active)
    local = cohort.model.initial.repeat(4, 1)
    assert (clipped_gradient_sum(cohort, local, empty, clip=1.0) == 0).all()
    assert (mean_gradient(cohort, local, empty) == 0).all()


@given(size=st.integers(1, 12), epochs=st.integers(1, 3))
def test_each_epoch_meets_each_record_once(size, epochs):
    cohort = make_cohort(nn.Linear(4, 2), batch_size=size)
    sizes = cohort.sizes
    for k in range(4):
        steps_per_epoch = -(-int(sizes[k]) // size)
        for epoch in range(epochs):
            seen = []
            object.__setattr__(cohort.training, "num_steps", np.full(4, 10**6))
            cohort.__dict__.pop("num_steps", None)
            for step in range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch):
                batch = cohort.shuffled_batch(step)
                seen += [tuple(row) for row in batch.x[k][batch.present[k]].tolist()]
            rows = cohort.data.x[cohort.data.rows(k, "train")]
            assert sorted(seen) == sorted(tuple(row) for row in rows.tolist())


def test_poisson_batches_take_each_record_at_its_rate():
    cohort = make_cohort(nn.Linear(4, 2), batch_size=3, steps=2000)
    counts = torch.stack(
        [cohort.poisson_batch(step).present.sum(1) for step in range(2000)]
    ).double()
    expected = torch.as_tensor(cohort.sample_rate * cohort.sizes)
    spread = torch.as_tensor(cohort.sizes * cohort.sample_rate * (1 - cohort.sample_rate))
    assert ((counts.mean(0) - expected).abs() <= 4 * (spread / 2000).sqrt() + 1e-9).all()
    assert ((counts.var(0) - spread).abs() <= 0.2 * spread + 1e-9).all()


def test_a_client_that_is_done_meets_no_more_records():
    cohort = make_cohort(nn.Linear(4, 2))
    object.__setattr__(cohort.training, "num_steps", np.array([1, 2, 3, 4]))
    for draw in (cohort.shuffled_batch, cohort.poisson_batch):
        batch = draw(2)
        assert batch.active.flatten().tolist() == [0, 0, 1, 1]
        assert not batch.present[:2].any()
    assert cohort.poisson_steps.tolist() == [0, 0, 1, 1]


def test_draws_do_not_depend_on_the_company():
    together = make_cohort(nn.Linear(4, 2))
    for k in range(4):
        alone = make_cohort(nn.Linear(4, 2), clients=[k])
        like = torch.zeros(1, 10)
        assert torch.equal(alone.normal(1, like)[0], together.normal(1, torch.zeros(4, 10))[k])
        for draw in ("shuffled_batch", "poisson_batch"):
            one, many = getattr(alone, draw)(1), getattr(together, draw)(1)
            assert torch.equal(one.x[0][one.present[0]], many.x[k][many.present[k]])
