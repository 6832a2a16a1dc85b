"""Searching for records by their gradient: the gradient is the true one, and the search finds them."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot

from fedmodel.audits.matching import Search, gradient_of, match, total_variation
from fedmodel.cohort import FlatModel

WIDTH, CLASSES = 5, 3


@pytest.fixture
def model():
    return FlatModel(nn.Sequential(nn.Linear(WIDTH, 16), nn.Tanh(), nn.Linear(16, CLASSES)))


def drawn(victims, batch):
    x = torch.rand(victims, batch, WIDTH) * 2 - 1
    return x, torch.randint(0, CLASSES, (victims, batch)).sort(1).values


def search(**changes):
    limit = torch.ones(WIDTH)
    return Search(**{"low": -limit, "high": limit, "iterations": 250, **changes})


@pytest.mark.parametrize("clip", [0.05, 1.0, math.inf])
def test_the_gradient_is_that_of_one_backward_a_record(model, clip):
    x, y = drawn(2, 4)
    found = gradient_of(model, model.initial, x, one_hot(y, CLASSES).float(), clip=clip)
    for victim in range(2):
        rows = []
        for record, label in zip(x[victim], y[victim]):
            model.module.zero_grad()
            cross_entropy(model.module(record[None]), label[None]).backward()
            row = torch.cat([p.grad.flatten() for p in model.module.parameters()])
            rows.append(row * min(1.0, clip / float(row.norm())))
        torch.testing.assert_close(found[victim], torch.stack(rows).mean(0), rtol=1e-4, atol=1e-6)


def error(model, *, noise, batch=1, known=True, **changes):
    torch.manual_seed(5)
    x, y = drawn(4, batch)
    seen = gradient_of(model, model.initial, x, one_hot(y, CLASSES).float()).detach()
    seen = seen + noise * torch.randn_like(seen)
    begin = torch.rand(2, 4, batch, WIDTH) * 2 - 1
    found, _ = match(
        model, model.initial, seen, begin, y if known else None, search(**changes), noise=noise
    )
    distance = torch.cdist(found, x).amin(1)  # to the nearest original
    return float(distance.square().mean().div(WIDTH).sqrt())


@pytest.mark.parametrize("distance", ["squared", "cosine"])
@pytest.mark.parametrize("known", [True, False])
def test_a_record_is_recovered_without_noise_and_not_with(model, distance, known):
    assert error(model, noise=0.0, distance=distance, known=known) < 0.06
    assert error(model, noise=1.0, distance=distance, known=known) > 0.3


def test_larger_batches_are_harder(model):
    small, large = (error(model, noise=0.0, batch=batch, iterations=150) for batch in (1, 8))
    assert small < 0.02 < large


def test_what_is_usual_wins_where_the_gradient_says_nothing(model):
    usual = torch.full((WIDTH,), 0.25), torch.full((WIDTH,), 0.5)
    _, y = drawn(3, 1)
    seen = torch.randn(3, model.size)
    begin = torch.rand(1, 3, 1, WIDTH)
    found, _ = match(model, model.initial, seen, begin, y, search(expected=usual), noise=1e3)
    torch.testing.assert_close(found, usual[0].expand(3, 1, WIDTH), atol=0.02, rtol=0)


def test_searches_do_not_touch_each_other(model):
    x, y = drawn(3, 2)
    seen = gradient_of(model, model.initial, x, one_hot(y, CLASSES).float()).detach()
    begin = torch.rand(1, 3, 2, WIDTH)
    together, _ = match(model, model.initial, seen, begin, y, search(iterations=30))
    for one in range(3):
        part = slice(one, one + 1)
        alone, _ = match(
            model, model.initial, seen[part], begin[:, part], y[part], search(iterations=30)
        )
        torch.testing.assert_close(alone[0], together[one], rtol=1e-3, atol=1e-4)


def test_total_variation_by_hand():
    x = torch.tensor([[[0.0, 1.0, 0.0, 1.0, 1.0, 1.0]]])  # 2 rows of 3
    down, across = (1 + 0 + 1) / 3, (1 + 1 + 0 + 0) / 4
    torch.testing.assert_close(total_variation(x, (2, 3)), torch.tensor([[down + across]]))
