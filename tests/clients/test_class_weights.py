"""Class weights: torch's weighted losses, scikit-learn's balance, and the bound of a private sum."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.nn.functional import cross_entropy

from fedmodel.clients.dp_sgd import dp_sgd
from fedmodel.clients.sgd import sgd
from fedmodel.cohort import Cohort, FlatModel, LocalTraining
from fedmodel.cohort.gradients import clipped_gradient_sum
from fedmodel.cohort.weights import balanced, weighted
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.rules import sample_data

WEIGHTS = (0.5, 3.0)


class OfItsOwn(nn.Module):
    """A scale that no leaf knows: trained by `torch.func`."""

    def __init__(self):
        super().__init__()
        self.scale, self.linear = nn.Parameter(torch.ones(4)), nn.Linear(4, 2)

    def forward(self, x):
        return self.linear(x * self.scale)


KERNELS = {
    "chain": lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)),
    "stacked": lambda: nn.Sequential(nn.Linear(4, 5), nn.LayerNorm(5), nn.Linear(5, 2)),
    "functional": OfItsOwn,
}
pytestmark = pytest.mark.filterwarnings("ignore:.*trains by torch.func")


def cohort_of(name, *, noise=None, clip=0.4):
    torch.manual_seed(2)
    training = LocalTraining(
        batch_size=4,
        num_steps=np.array([3, 4, 2, 5]),
        private=noise is not None,
        clip=float("inf") if noise is None else clip,
        noise_multiplier=None if noise is None else np.full(4, noise),
    )
    return Cohort(np.arange(4), sample_data(), FlatModel(KERNELS[name]()), training, 1, 1)


@pytest.mark.parametrize("name", KERNELS)
def test_sgd_equals_a_loop_with_torch_s_weighted_loss(name):
    cohort, weight = cohort_of(name), torch.tensor(WEIGHTS)
    behaviour = sgd(learning_rate=0.2, batch_size=4, momentum=0.5, class_weights=WEIGHTS)
    found = behaviour.train(cohort, cohort.model.initial)
    module = cohort.model.module
    for k in range(4):
        module.load_state_dict(cohort.model.state_dict(cohort.model.initial))
        optimiser = torch.optim.SGD(module.parameters(), lr=0.2, momentum=0.5)
        for step in range(int(cohort.num_steps[k])):
            batch = cohort.shuffled_batch(step)
            x, y = batch.x[k][batch.present[k]], batch.y[k][batch.present[k]]
            optimiser.zero_grad()
            (cross_entropy(module(x), y, weight=weight, reduction="sum") / len(y)).backward()
            optimiser.step()
        expected = torch.cat([p.detach().flatten() for p in module.parameters()])
        torch.testing.assert_close(found[k] + cohort.model.initial, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("clip", [0.05, 0.8, 50.0])
def test_a_private_sum_is_of_weighted_gradients_each_clipped(name, clip):
    cohort = cohort_of(name, noise=0.0, clip=clip)
    batch = weighted(cohort.poisson_batch(0), torch.tensor(WEIGHTS))
    local = cohort.model.initial.repeat(4, 1)
    found = clipped_gradient_sum(cohort, local, batch, clip=clip)
    module = cohort.model.module
    for k in range(4):
        total = torch.zeros(cohort.model.size)
        for slot in torch.nonzero(batch.present[k]).flatten():
            loss = cross_entropy(module(batch.x[k, slot][None]), batch.y[k, slot][None])
            loss = WEIGHTS[int(batch.y[k, slot])] * loss
            gradient = torch.cat(
                [g.flatten() for g in torch.autograd.grad(loss, list(module.parameters()))]
            )
            total += gradient * min(1.0, clip / float(gradient.norm()))
        torch.testing.assert_close(found[k], total, rtol=1e-4, atol=1e-6)
        assert found[k].norm() <= clip * batch.present[k].sum() * (1 + 1e-5)


@pytest.mark.parametrize("behaviour", [sgd, dp_sgd])
def test_equal_weights_of_1_change_nothing(behaviour):
    noise = 0.7 if behaviour.private else None
    start = cohort_of("chain").model.initial
    without = behaviour(learning_rate=0.2).train(cohort_of("chain", noise=noise), start)
    ones = behaviour(learning_rate=0.2, class_weights=(1.0, 1.0))
    torch.testing.assert_close(ones.train(cohort_of("chain", noise=noise), start), without)
    other = behaviour(learning_rate=0.2, class_weights=(1.0, 0.1))
    assert not torch.allclose(other.train(cohort_of("chain", noise=noise), start), without)


def test_balanced_is_scikit_learn_s_over_all_training_records():
    data = sample_data()
    rows = torch.cat([data.y[data.rows(k, "train")] for k in range(4)]).numpy()
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=rows)
    np.testing.assert_allclose(balanced(data).numpy(), expected, rtol=1e-6)
    cohort = cohort_of("chain")
    by_name = sgd(learning_rate=0.2, class_weights="balanced").train(cohort, cohort.model.initial)
    given = sgd(learning_rate=0.2, class_weights=tuple(expected))
    torch.testing.assert_close(given.train(cohort, cohort.model.initial), by_name)


BASE = {
    "rounds": 1,
    "data": {"name": "heart_disease", "encode": "public"},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.2},
}
CENTRAL = {"unit": "client", "mode": "central", "noise_multiplier": 1.0}


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"client.class_weights": [1.0, 2.0, 3.0]},
            "3 class weights do not fit the 2 classes of heart_disease",
        ),
        ({"client.class_weights": [1.0, 0.0]}, "cannot be"),
        ({"client.class_weights": "even"}, "cannot be"),
        ({"client.class_weights": "balanced", "privacy": CENTRAL}, "label counts"),
        (
            {
                "client.name": "dp_sgd",
                "client.class_weights": "balanced",
                "privacy": {"epsilon": 3.0},
            },
            r"label counts, which \[privacy\] protects",
        ),
    ],
)
def test_weights_that_do_not_fit_or_give_labels_away_are_refused(changes, problem):
    with pytest.raises(FedmodelError, match=problem) as refused:
        Experiment.read(BASE, changes).built  # noqa: B018
    assert refused.value.fix
