"""Chains of linear layers in compiled code, against one backward pass a record."""

from itertools import pairwise

import pytest
import torch
from cohort.oracle import held_against_single_records, record_gradient
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedmodel.cohort import Batch, FlatModel, chain, functional
from fedmodel.cohort.chain import Chain
from fedmodel.cohort.leaves import NotStacked

CLOSE = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.float64: {"rtol": 1e-10, "atol": 1e-10},
}
ACTIVATIONS = [nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Identity]


def chain_of(widths, activations, bias=True):
    layers = []
    for place, (inputs, outputs) in enumerate(pairwise(widths)):
        layers.append(nn.Linear(inputs, outputs, bias=bias))
        if place < len(widths) - 2:
            layers.append(activations[place % len(activations)]())
    return nn.Sequential(*layers)


def problem(module, dtype, *, present):
    """Clients with parameters of their own, and a batch with any records in absent slots."""
    model = FlatModel(module)
    num_clients, width = present.shape
    linear = next(layer for layer in module.modules() if isinstance(layer, nn.Linear))
    draw = torch.Generator().manual_seed(3)
    local = model.initial.to(dtype).repeat(num_clients, 1)
    local += 0.3 * torch.randn(local.shape, generator=draw, dtype=dtype)
    x = 2 * torch.randn(num_clients, width, linear.in_features, generator=draw, dtype=dtype)
    outputs = [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1].out_features
    y = torch.randint(0, max(2, outputs), (num_clients, width), generator=draw)
    keys = torch.zeros(num_clients, width, dtype=torch.int64)
    return model, local, Batch(x, y, present, keys, torch.ones(num_clients, 1))


@given(
    widths=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    present=st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=4),
    activations=st.lists(st.sampled_from(ACTIVATIONS), min_size=1, max_size=3),
    bias=st.booleans(),
    share=st.floats(0.01, 2),
    dtype=st.sampled_from(list(CLOSE)),
)
def test_any_chain_gives_what_one_backward_pass_a_record_gives(
    widths, present, activations, bias, share, dtype
):
    torch.manual_seed(0)
    module = chain_of(widths, activations, bias)
    model, local, batch = problem(module, dtype, present=torch.tensor(present))
    kernel = Chain(model, batch.x.flatten(0, 1), local)
    held_against_single_records(kernel, model, local, batch, share=share, close=CLOSE[dtype])


@pytest.mark.parametrize("style", ["flat", "per_layer", "automatic"])
def test_styles_of_clipping_are_those_of_torch_func(style):
    present = torch.tensor([[True, True, False], [True, False, True]])
    module = chain_of([5, 7, 3], [nn.Tanh])
    model, local, batch = problem(module, torch.float64, present=present)
    kernel = Chain(model, batch.x.flatten(0, 1), local)
    found = kernel.clipped_gradient_sum(local, batch, clip=0.2, style=style)
    right = functional.clipped_gradient_sum(
        model, local, batch, clip=0.2, style=style, budget=1 << 20
    )
    torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-10)


def test_a_client_gets_the_same_bits_in_any_company(monkeypatch):
    present = torch.rand(9, 6, generator=torch.Generator().manual_seed(1)) < 0.7
    model, local, batch = problem(chain_of([8, 16, 4], [nn.ReLU]), torch.float32, present=present)
    kernel = Chain(model, batch.x.flatten(0, 1), local)
    together = kernel.clipped_gradient_sum(local, batch, clip=0.5)
    for k in range(9):
        part = batch.part(slice(k, k + 1), slice(None))
        assert torch.equal(
            kernel.clipped_gradient_sum(local[k : k + 1], part, clip=0.5)[0], together[k]
        )
    monkeypatch.setattr(chain, "BUFFER_BYTES", 1)
    assert torch.equal(kernel.clipped_gradient_sum(local, batch, clip=0.5), together)


def test_large_logits_stay_finite():
    present = torch.ones(1, 2, dtype=torch.bool)
    for outputs in (1, 3):
        module = nn.Linear(1, outputs)
        model, local, batch = problem(module, torch.float32, present=present)
        batch.x.fill_(1000.0)
        kernel = Chain(model, batch.x.flatten(0, 1), local)
        gradient, loss = kernel.loss_sum_gradient(local, batch)
        right = sum(record_gradient(model, local[0], batch, 0, s)[1] for s in range(2))
        assert gradient.isfinite().all()
        torch.testing.assert_close(loss[0], right)


def test_nan_is_not_hidden_by_an_activation():
    present = torch.ones(1, 2, dtype=torch.bool)
    model, local, batch = problem(chain_of([3, 4, 2], [nn.ReLU]), torch.float32, present=present)
    batch.x[0, 0, 0] = float("nan")
    gradient, loss = Chain(model, batch.x.flatten(0, 1), local).loss_sum_gradient(local, batch)
    assert gradient.isnan().any() and loss.isnan().any()


def frozen_bias():
    module = nn.Linear(3, 2)
    module.bias.requires_grad_(False)
    return module


def tied():
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.ReLU(), layer)


class Own(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, 2)),
        nn.Sequential(nn.ReLU(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(3, 2), nn.ReLU()),
        nn.Linear(4, 2),
        nn.Linear(3, 200_000),
        Own(3, 2),
        frozen_bias(),
        tied(),
    ],
    ids=lambda module: type(module).__name__,
)
def test_what_is_no_chain_is_left_to_others(module):
    model = FlatModel(module)
    with pytest.raises(NotStacked):
        Chain(model, torch.zeros(2, 3), model.initial)
