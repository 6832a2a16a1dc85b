"""What a gradient gives away exactly: the record behind a first linear layer, and its label."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy

from fedmodel.audits.closed_form import behind_first_layer, labels_of
from fedmodel.cohort import FlatModel

MODULES = {
    "logistic": lambda: nn.Linear(6, 3),
    "mlp": lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)),
    "nested": lambda: nn.Sequential(
        nn.Sequential(nn.Linear(6, 8), nn.LeakyReLU()), nn.Linear(8, 3)
    ),
    "one output": lambda: nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1)),
}


def gradient(model, x, y):
    """One ordinary backward pass of the mean loss."""
    model.module.zero_grad()
    answer = model.module(x)
    if answer.shape[1] == 1:
        answer = torch.cat([torch.zeros_like(answer), answer], 1)
    cross_entropy(answer, y).backward()
    return torch.cat([p.grad.flatten() for p in model.module.parameters()])[None]


@pytest.mark.parametrize("name", MODULES)
@given(seed=st.integers(0, 2**31), label=st.integers(0, 1))
def test_a_single_record_is_read_off_exactly_with_its_label(name, seed, label):
    torch.manual_seed(seed)
    model = FlatModel(MODULES[name]())
    x, y = torch.randn(1, 6), torch.tensor([label])
    seen = gradient(model, x, y)
    found = behind_first_layer(model, seen, batch_size=1)
    torch.testing.assert_close(found[0], x, rtol=1e-3, atol=1e-3)
    typical = torch.randn(50, 6)
    assert labels_of(model, model.initial, seen, typical, batch_size=1).item() == label


def test_a_record_that_excites_a_unit_alone_is_exact_in_a_batch():
    layer = nn.Linear(4, 2)
    model = FlatModel(nn.Sequential(layer, nn.ReLU(), nn.Linear(2, 2)))
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 0, 0, 0], [0, 1.0, 0, 0]]))
        layer.bias.zero_()
    x = torch.tensor([[1.0, -1, 0.3, 0.4], [-1.0, 2, 0.5, 0.6]])
    found = behind_first_layer(model, gradient(model, x, torch.tensor([0, 1])), batch_size=2)[0]
    order = found[:, 0].argsort(descending=True)
    torch.testing.assert_close(found[order], x)


def test_labels_of_a_batch_are_counted():
    model = FlatModel(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)))
    x, y = torch.randn(12, 6), torch.tensor([0] * 7 + [2] * 4 + [3])
    found = labels_of(
        model, model.initial, gradient(model, x, y), torch.randn(400, 6), batch_size=12
    )
    assert found[0].tolist() == y.tolist()


@pytest.mark.parametrize(
    "module", [nn.Linear(4, 2, bias=False), nn.Sequential(nn.Tanh(), nn.Linear(4, 2))]
)
def test_without_a_first_layer_with_bias_nothing_is_claimed(module):
    model = FlatModel(module)
    assert behind_first_layer(model, torch.zeros(1, model.size), batch_size=1) is None
