import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fedmodel.clients.dp_sgd import dp_sgd
from fedmodel.clients.opacus import opacus_dp_sgd
from fedmodel.clients.sgd import sgd
from fedmodel.cohort import Cohort, FlatModel, LocalTraining
from fedmodel.models.tabular import mlp
from fedmodel.models.text import text_bag
from fedmodel.rules import sample_data


def cohort_of(
    module,
    *,
    tokens=False,
    clients=(0, 1, 2, 3),
    noise=None,
    clip=1.0,
    steps=(3, 4, 2, 5),
    config=None,
):
    training = LocalTraining(
        batch_size=4,
        num_steps=np.array(steps),
        private=noise is not None,
        clip=clip if noise is not None else float("inf"),
        noise_multiplier=None if noise is None else np.full(4, noise),
    )
    return Cohort(
        np.array(clients),
        sample_data(tokens=tokens),
        FlatModel(module),
        training,
        1,
        1,
        config or {},
    )


def plain_loop(cohort, behaviour, *, proximal=0.0):
    """The same training written as everybody writes it: a module and torch.optim, client by client."""
    rows = []
    for k in range(cohort.size):
        module = cohort.model.module
        module.load_state_dict(cohort.model.state_dict(cohort.model.initial))
        kind = torch.optim.Adam if behaviour.optimiser == "adam" else torch.optim.SGD
        extra = {} if behaviour.optimiser == "adam" else {"momentum": behaviour.momentum}
        optimiser = kind(
            module.parameters(),
            lr=behaviour.learning_rate,
            weight_decay=behaviour.weight_decay,
            **extra,
        )
        for step in range(int(cohort.num_steps[k])):
            batch = cohort.shuffled_batch(step)
            present = batch.present[k]
            loss = cross_entropy(module(batch.x[k][present]), batch.y[k][present])
            flat = torch.cat([p.flatten() for p in module.parameters()])
            loss = loss + proximal / 2 * (flat - cohort.model.initial).square().sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        rows.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    return torch.stack(rows) - cohort.model.initial


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.9},
        {"optimiser": "adam"},
        {"weight_decay": 0.1},
        {"proximal": 0.7},
    ],
)
def test_sgd_equals_a_plain_loop(options):
    cohort = cohort_of(mlp(num_features=4, num_classes=2, hidden=[5]))
    behaviour = sgd(learning_rate=0.1, batch_size=4, **options)
    found = behaviour.train(cohort, cohort.model.initial)
    expected = plain_loop(cohort, behaviour, proximal=options.get("proximal", 0.0))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_a_strategy_may_send_the_proximal_term():
    cohort = cohort_of(nn.Linear(4, 2), config={"proximal-mu": 0.7})
    sent = sgd(learning_rate=0.1, batch_size=4).train(cohort, cohort.model.initial)
    expected = plain_loop(cohort, sgd(learning_rate=0.1, batch_size=4), proximal=0.7)
    torch.testing.assert_close(sent, expected, rtol=1e-4, atol=1e-5)


MODULES = {
    "linear": (lambda: nn.Linear(4, 2), False),
    "mlp": (lambda: mlp(num_features=4, num_classes=2, hidden=[6, 5]), False),
    "dropout": (lambda: mlp(num_features=4, num_classes=2, hidden=[6], dropout=0.4), False),
    "text": (lambda: text_bag(vocabulary=50, num_classes=2, width=3), True),
    "one output": (lambda: nn.Linear(4, 1), False),
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("noise", [0.0, 1.3])
@pytest.mark.parametrize("clip", [0.2, 5.0])
def test_dp_sgd_equals_opacus_one_by_one(name, noise, clip):
    make, tokens = MODULES[name]
    torch.manual_seed(4)
    module = make()
    options = {"learning_rate": 0.3, "batch_size": 4, "momentum": 0.5, "weight_decay": 0.01}
    ours = cohort_of(module, tokens=tokens, noise=noise, clip=clip)
    found = dp_sgd(**options).train(ours, ours.model.initial)
    theirs = cohort_of(module, tokens=tokens, noise=noise, clip=clip)
    expected = opacus_dp_sgd(**options).train(theirs, theirs.model.initial)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert (found != 0).any()


@pytest.mark.parametrize("name", ["dp_sgd", "sgd"])
def test_a_cohort_in_parts_equals_the_whole(name):
    behaviour = {"dp_sgd": dp_sgd, "sgd": sgd}[name](learning_rate=0.1, batch_size=4)
    module = mlp(num_features=4, num_classes=2, hidden=[5], dropout=0.3)
    noise = 1.0 if name == "dp_sgd" else None
    whole = cohort_of(module, noise=noise)
    found = behaviour.train(whole, whole.model.initial)
    for size in (1, 3):
        parts = [behaviour.train(part, whole.model.initial) for part in whole.parts(clients=size)]
        torch.testing.assert_close(torch.cat(parts), found, rtol=1e-5, atol=1e-6)


def test_what_was_done_is_noted_step_by_step():
    cohort = cohort_of(nn.Linear(4, 2), noise=1.0)
    dp_sgd(learning_rate=0.1, batch_size=4).train(cohort, cohort.model.initial)
    assert cohort.noise_steps.tolist() == [3, 4, 2, 5]
    assert cohort.poisson_steps.tolist() == [3, 4, 2, 5]


def test_noise_has_the_promised_size():
    cohort = cohort_of(nn.Linear(4, 2000), noise=2.0, clip=0.5, steps=(1, 1, 1, 1))
    behaviour = dp_sgd(learning_rate=1.0, batch_size=4)
    noisy = behaviour.train(cohort, cohort.model.initial)
    silent = behaviour.train(
        cohort_of(cohort.model.module, noise=0.0, clip=0.5, steps=(1, 1, 1, 1)),
        cohort.model.initial,
    )
    spread = (noisy - silent).std(1) * cohort.expected_batch_size
    torch.testing.assert_close(spread, torch.full((4,), 2.0 * 0.5), rtol=0.05, atol=0)


def test_secure_noise_is_not_repeated_and_has_the_same_size():
    def train(kind):
        cohort = cohort_of(nn.Linear(4, 2000), noise=2.0, steps=(1, 1, 1, 1))
        object.__setattr__(cohort.training, "noise", kind)
        return dp_sgd(learning_rate=1.0, batch_size=4).train(cohort, torch.zeros(cohort.model.size))

    one, two, seeded = train("secure"), train("secure"), train("seeded")
    assert not torch.equal(one, two)
    torch.testing.assert_close(one.std(1), seeded.std(1), rtol=0.05, atol=0)
