"""Numbers that no accountant can take: named, whatever their type; and numbers of other libraries, taken."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from fedmodel.errors import FedmodelError
from fedmodel.privacy.checks import check_count, check_delta, check_epsilon, check_setting, number

NO_NUMBERS = ["0.1", b"1", None, [0.1], (), np.arange(3), torch.ones(2), {}, 10**400]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
def test_what_is_no_number_is_named_with_its_parameter(value):
    for check, name in (
        (lambda: check_delta(value), "delta"),
        (lambda: check_epsilon(value), "epsilon"),
        (lambda: check_count("canaries", value, "canaries"), "canaries"),
        (lambda: check_setting(sample_rate=value, steps=1), "sample_rate"),
        (lambda: check_setting(sample_rate=0.1, steps=value), "steps"),
        (
            lambda: check_setting(sample_rate=0.1, steps=1, noise_multiplier=value),
            "noise_multiplier",
        ),
    ):
        with pytest.raises(FedmodelError) as error:
            check()
        assert error.value.problem.startswith(f"{name}=")
        assert error.value.problem.endswith("is not a number")
        assert name in error.value.fix


@pytest.mark.parametrize(
    "kind", [int, float, np.float32, np.int64, np.array, torch.tensor, Fraction]
)
def test_numbers_of_any_library_are_numbers(kind):
    assert number("steps", kind(1)) == 1.0
    check_setting(sample_rate=kind(1), steps=kind(1), noise_multiplier=kind(1))
    check_epsilon(kind(1))


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf")])
def test_an_epsilon_is_above_0_and_finite(value):
    with pytest.raises(FedmodelError, match="epsilon="):
        check_epsilon(value)
