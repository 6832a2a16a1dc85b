"""What a part of a strategy may return: numbers of any precision, an array; and whole numbers as weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedmodel.errors import RunFailed
from fedmodel.strategies.compose import compose
from fedmodel.strategies.returned import weights_returned

DELTA = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
REPORTS = {"num_records": torch.tensor([1, 3])}


@pytest.mark.parametrize(
    "combine",
    [lambda delta: delta.mean(0).double(), lambda delta: delta.mean(0).double().numpy()],
    ids=["another precision", "an array"],
)
def test_an_aggregate_is_of_the_models_own_precision(combine):
    found = compose(combine=combine).aggregate(DELTA, REPORTS)
    assert found.dtype == torch.float32
    assert found.tolist() == [2.0, 4.0]


def test_a_transform_keeps_the_clients():
    with pytest.raises(RunFailed, match=r"the transform .* returned \(1, 2\)") as error:
        compose(before=[lambda delta: delta[:1]]).aggregate(DELTA, REPORTS)
    assert error.value.where == "[strategy] before"


def test_numbers_of_records_are_weights():
    found = compose(weigh=lambda reports: reports["num_records"]).aggregate(DELTA, REPORTS)
    assert found.tolist() == [2.5, 5.0]


@pytest.mark.parametrize("wrong", [[-1.0, 2.0], [0.0, 0.0], [np.nan, 1.0], [np.inf, 1.0], [1.0]])
def test_what_cannot_weigh_is_refused(wrong):
    with pytest.raises(RunFailed, match="the weighting mine returned"):
        weights_returned(torch.tensor(wrong), DELTA[:, 0], part="the weighting mine")
