"""All steps in one compiled call against the readable loop, step by step."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedmodel.clients import dp_sgd as private_module
from fedmodel.clients import sgd as plain_module
from fedmodel.clients.dp_sgd import dp_sgd
from fedmodel.clients.sgd import sgd
from fedmodel.cohort import Cohort, FlatModel, LocalTraining, fused
from fedmodel.cohort.gradients import clipped_gradient_sum, mean_gradient
from fedmodel.types import Card, FederatedData

MODEL = FlatModel(nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)))


def cohort_of(
    sizes, *, batch_size, num_steps, private, noise=0.0, clip=0.3, model=MODEL, threads=1
):
    draw = torch.Generator().manual_seed(5)
    number = sum(sizes) + 1
    ends = np.cumsum(sizes)
    bounds = np.column_stack([ends - sizes, ends, ends, ends])
    data = FederatedData(
        x=torch.randn(number, 4, generator=draw),
        y=torch.randint(0, 3, (number,), generator=draw),
        group=torch.zeros(number, 0, dtype=torch.int64),
        bounds=torch.from_numpy(bounds),
        clients=tuple(map(str, range(len(sizes)))),
        classes=("0", "1", "2"),
        attributes={},
        features=(),
        card=Card(name="t", title="t", source="generated", licence="none"),
    )
    training = LocalTraining(
        batch_size=batch_size,
        num_steps=np.array(num_steps),
        private=private,
        clip=clip if private else float("inf"),
        noise_multiplier=np.linspace(noise, 2 * noise, len(sizes)) if private else None,
    )
    clients = np.arange(len(sizes))
    return Cohort(clients, data, model, training, seed=3, round=2, threads=threads)


def both_ways(behaviour, module, make, monkeypatch):
    start = MODEL.initial
    fast, slow = make(), make()
    found = behaviour.train(fast, start)
    with monkeypatch.context() as patch:
        patch.setattr(module, "fused_sgd", lambda *arguments, **options: None)
        right = behaviour.train(slow, start)
    torch.testing.assert_close(found, right, rtol=1e-4, atol=1e-6)
    for name in ("noise_steps", "poisson_steps"):
        np.testing.assert_array_equal(getattr(fast, name), getattr(slow, name))
    torch.testing.assert_close(fast.training_loss, slow.training_loss, equal_nan=True)
    return found


OPTIONS = [{}, {"momentum": 0.9}, {"weight_decay": 0.1}, {"proximal": 0.5, "momentum": 0.5}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("threads", [1, 2])
def test_plain_sgd_equals_its_loop(options, threads, monkeypatch):
    sizes, num_steps = [7, 1, 12, 0], [4, 2, 7, 0]
    behaviour = sgd(learning_rate=0.2, batch_size=4, **options)

    def make():
        return cohort_of(sizes, batch_size=4, num_steps=num_steps, private=False, threads=threads)

    assert both_ways(behaviour, plain_module, make, monkeypatch)[:3].abs().max() > 0.01


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_private_sgd_equals_its_loop(options, noise, monkeypatch):
    monkeypatch.setattr(fused, "NOISE_BYTES", 1)  # one step's noise at a time
    behaviour = dp_sgd(learning_rate=0.2, batch_size=3, **options)

    def make():
        return cohort_of([7, 1, 12], batch_size=3, num_steps=[3, 5, 7], private=True, noise=noise)

    both_ways(behaviour, private_module, make, monkeypatch)


@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=5).filter(any),
    batch_size=st.integers(1, 6),
    steps=st.integers(1, 4),
    clip=st.floats(0.01, 5),
    threads=st.integers(1, 3),
)
def test_any_sizes(sizes, batch_size, steps, clip, threads):
    num_steps = [steps + k % 2 if size else 0 for k, size in enumerate(sizes)]
    for behaviour, module in ((sgd, plain_module), (dp_sgd, private_module)):

        def make(private=behaviour.private):
            return cohort_of(
                sizes,
                batch_size=batch_size,
                num_steps=num_steps,
                private=private,
                noise=0.5,
                clip=clip,
                threads=threads,
            )

        with pytest.MonkeyPatch.context() as patch:
            both_ways(behaviour(learning_rate=0.1, batch_size=batch_size), module, make, patch)


def test_a_client_trains_to_the_same_bits_in_any_company():
    cohort = cohort_of([7, 3, 12], batch_size=3, num_steps=[3, 2, 7], private=True, noise=0.5)
    behaviour = dp_sgd(learning_rate=0.2, batch_size=3)
    together = behaviour.train(cohort, MODEL.initial)
    alone = [behaviour.train(part, MODEL.initial) for part in cohort.parts(clients=1)]
    assert torch.equal(torch.cat(alone), together)


def test_other_models_go_step_by_step():
    model = FlatModel(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 3)))
    cohort = cohort_of([5, 5], batch_size=2, num_steps=[3, 3], private=True, model=model)
    start = model.initial
    assert fused.fused_sgd(cohort, start, private=True, learning_rate=0.1) is None
    assert not cohort.poisson_steps.any()


@pytest.mark.parametrize("private", [False, True])
def test_what_an_audit_plants_joins_a_gradient_once(private):
    cohort = cohort_of([5, 2], batch_size=3, num_steps=[2, 1], private=private, noise=0.5)
    local = MODEL.initial.repeat(2, 1)
    batch, asked = cohort.shuffled_batch(0), []
    planted = torch.randn(2, MODEL.size, generator=torch.Generator().manual_seed(1))

    def plant():
        asked.append(1)
        return planted

    def gradient(batch):
        if private:
            return clipped_gradient_sum(cohort, local, batch, clip=0.3) / 0.3
        return mean_gradient(cohort, local, batch) * batch.present.sum(1)[:, None]

    found = gradient(replace(batch, planted=plant)) - gradient(batch)
    torch.testing.assert_close(found, planted, rtol=1e-4, atol=1e-5)
    assert asked == [1]
