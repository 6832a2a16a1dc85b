from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.evaluation import spread as measures
from fedmodel.evaluation.spread import gini, jain_index, mean, spread, standard_deviation
from fedmodel.evaluation.spread import worst_decile as worst

values = st.lists(st.floats(0.01, 1), min_size=1, max_size=30)


def test_by_hand():
    accuracy = torch.tensor([0.2, 0.4, 0.6, 0.8], dtype=torch.float64)
    assert spread(accuracy) == pytest.approx(
        {
            "mean": 0.5,
            "std": math.sqrt(0.05),
            "worst_decile": 0.2,
            "jain": 4 / (4 * 1.2),
            "gini": 0.25,  # (3 * 0.2 + 2 * 0.4 + 1 * 0.6) / 16 / 0.5
        }
    )


@pytest.mark.parametrize(("num_clients", "kept"), [(1, 1), (10, 1), (11, 2), (20, 2), (21, 3)])
def test_the_worst_decile_is_a_tenth_rounded_up(num_clients, kept):
    accuracy = torch.arange(num_clients, dtype=torch.float64).flip(0)
    assert worst(accuracy) == sum(range(kept)) / kept


@settings(max_examples=60, deadline=None)
@given(values)
def test_equals_the_definitions_by_pairs(sample):
    array, tensor = np.array(sample), torch.tensor(sample, dtype=torch.float64)
    pairs = np.abs(array[:, None] - array[None, :]).mean()
    assert gini(tensor) == pytest.approx(pairs / (2 * array.mean()), abs=1e-12)
    assert jain_index(tensor) == pytest.approx(
        1 / (1 + (array.std() / array.mean()) ** 2)
    )  # by the coefficient of variation
    assert mean(tensor) == pytest.approx(array.mean())
    assert standard_deviation(tensor) == pytest.approx(array.std(), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(values, st.randoms())
def test_order_and_clients_without_records_do_not_matter(sample, random):
    mixed = [*sample, math.nan, math.nan]
    random.shuffle(mixed)
    expected = spread(torch.tensor(sample, dtype=torch.float64))
    assert spread(torch.tensor(mixed, dtype=torch.float64)) == pytest.approx(expected)


def test_everybody_equal():
    even = torch.full((7,), 0.3)
    assert jain_index(even) == pytest.approx(1) and gini(even) == pytest.approx(0, abs=1e-12)
    assert standard_deviation(even) == 0


@pytest.mark.parametrize("empty", [torch.zeros(0), torch.full((3,), math.nan)])
def test_without_clients_nothing_is_defined(empty):
    assert all(math.isnan(value) for value in spread(empty).values())


def test_shares_of_nothing_are_not_defined():
    zero = spread(torch.zeros(5))
    assert math.isnan(zero["jain"]) and math.isnan(zero["gini"])
    assert zero["mean"] == zero["std"] == zero["worst_decile"] == 0


def test_the_names_are_public():
    assert all(hasattr(measures, name) for name in measures.__all__)
