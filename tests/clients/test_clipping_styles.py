"""`dp_sgd` in every style of clipping: what one record can change, and what Opacus makes of it."""

import math
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPPerLayerOptimizer
from torch import nn
from torch.nn.functional import cross_entropy

import fedmodel
from fedmodel.clients.dp_sgd import dp_sgd
from fedmodel.cohort import Cohort, FlatModel, LocalTraining
from fedmodel.cohort.clipping import AUTOMATIC_STABILITY
from fedmodel.rules import sample_data

CLIP = 0.3
STYLES = ["flat", "per_layer", "automatic"]


def network():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Linear(4, 6, bias=False),
        nn.Tanh(),
        nn.Linear(6, 5, bias=False),
        nn.Linear(5, 2, bias=False),
    )


def data_of(x, y):
    bounds = torch.tensor([[0, len(y), len(y), len(y)]])
    group = torch.zeros(len(y), 1, dtype=torch.int64)
    return replace(sample_data(), x=x, y=y, group=group, bounds=bounds, clients=("a",))


def summed(module, x, y, style, *, clip=CLIP):
    """The clipped sum over all records, read from the update of one step with every record in it."""
    training = LocalTraining(
        batch_size=len(y),  # so that each record is taken for certain
        num_steps=np.array([1]),
        private=True,
        clip=clip,
        noise_multiplier=np.zeros(1),
    )
    cohort = Cohort(np.array([0]), data_of(x, y), FlatModel(module), training, seed=1, round=1)
    behaviour = dp_sgd(learning_rate=1.0, batch_size=len(y), clipping=style)
    update = behaviour.train(cohort, cohort.model.initial)[0]
    return -update * len(y)


def records(number=12, *, scale=3.0):
    draw = torch.Generator().manual_seed(5)
    x = scale * torch.randn(number, 4, generator=draw)
    return x, torch.randint(0, 2, (number,), generator=draw)


def gradients(module, x, y):
    rows = []
    for record, label in zip(x, y):
        module.zero_grad()
        cross_entropy(module(record[None]), label[None]).backward()
        rows.append(torch.cat([p.grad.flatten() for p in module.parameters()]))
    return torch.stack(rows)


@pytest.mark.parametrize("style", STYLES)
def test_one_record_changes_the_sum_by_at_most_the_clip(style):
    module, (x, y) = network(), records()
    whole = summed(module, x, y, style)
    changes = []
    for gone in range(len(y)):
        kept = torch.arange(len(y)) != gone
        changes.append(float((whole - summed(module, x[kept], y[kept], style)).norm()))
    assert max(changes) <= CLIP * (1 + 1e-5)
    assert max(changes) > 0.8 * CLIP  # the bound is used, not only kept


def test_automatic_clipping_scales_every_gradient_by_its_norm():
    module, (x, y) = network(), records()
    rows = gradients(module, x, y)
    factor = CLIP / (rows.norm(dim=1) + AUTOMATIC_STABILITY)
    torch.testing.assert_close(
        summed(module, x, y, "automatic"), factor @ rows, rtol=1e-4, atol=1e-6
    )


def test_per_layer_clipping_equals_opacus():
    """Opacus clips tensor by tensor: the same where each layer has one."""
    module, (x, y) = network(), records()
    found = summed(module, x, y, "per_layer")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = GradSampleModule(module, loss_reduction="sum")
        optimiser = DPPerLayerOptimizer(
            torch.optim.SGD(wrapped.parameters(), lr=1.0),
            noise_multiplier=0.0,
            max_grad_norm=[CLIP / math.sqrt(3)] * 3,
            expected_batch_size=len(y),
            loss_reduction="sum",
        )
        cross_entropy(wrapped(x), y, reduction="sum").backward()
    optimiser.clip_and_accumulate()
    expected = torch.cat([p.summed_grad.flatten() for p in wrapped.parameters()])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (found - summed(network(), x, y, "flat")).norm() > 0.1


def test_a_weight_and_its_bias_are_one_layer():
    module, (x, y) = nn.Linear(4, 2), records()
    torch.testing.assert_close(
        summed(module, x, y, "per_layer"), summed(module, x, y, "flat"), rtol=1e-6, atol=1e-7
    )


@pytest.mark.parametrize(
    ("style", "said"),
    [
        ("flat", "clipped to norm 0.5"),
        ("per_layer", "Each layer's"),
        ("automatic", "small ones up"),
    ],
)
def test_the_statement_of_a_run_names_the_style(style, said, tmp_path):
    run = fedmodel.run(
        {
            "rounds": 1,
            "data": {"name": "heart_disease"},
            "model": {"name": "logistic"},
            "client": {"name": "dp_sgd", "learning_rate": 0.3, "clipping": style},
            "privacy": {"noise_multiplier": 1.0, "clip": 0.5, "delta": 1e-3, "accountant": "rdp"},
        },
        out=tmp_path / "run",
    )
    stated = run.manifest["privacy"]
    assert stated["clipping"] == style
    assert said in " ".join(stated["sentences"])
