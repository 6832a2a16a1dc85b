"""Shares of each client's records are held out, the same for the same seed and client."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmodel.data.records import Assignment
from fedmodel.data.split import split
from fedmodel.errors import FedmodelError

TRAIN, VALIDATION, TEST = 0, 1, 2


def assignment(*client: int) -> Assignment:
    names = tuple(f"client {k}" for k in range(max(client) + 1))
    return Assignment(client=np.array(client), names=names)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8),
    test=st.floats(0, 0.6),
    validation=st.floats(0, 0.39),
    seed=st.integers(0, 2**64 - 1),
)
def test_shares_are_met_to_half_a_record_and_somebody_trains(sizes, test, validation, seed):
    client = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    parts = split(
        Assignment(client=client, names=tuple(map(str, range(len(sizes))))),
        test=test,
        validation=validation,
        seed=seed,
    )
    for number, size in enumerate(sizes):
        count = np.bincount(parts[client == number], minlength=3)
        assert count.sum() == size and count[TRAIN] >= 1
        if count[TRAIN] > 1:
            assert abs(count[TEST] - test * size) <= 0.5 + 1e-9
            assert abs(count[VALIDATION] - validation * size) <= 0.5 + 1e-9


def test_other_clients_do_not_change_a_clients_split():
    alone = split(assignment(*[0] * 50), test=0.3, seed=7)
    mixed = split(assignment(*[1, 0] * 50), test=0.3, seed=7)
    np.testing.assert_array_equal(mixed[1::2], alone)


def test_seed_and_client_are_the_key():
    first = split(assignment(*[0] * 50, *[1] * 50), seed=1)
    assert (first == split(assignment(*[0] * 50, *[1] * 50), seed=1)).all()
    assert (first != split(assignment(*[0] * 50, *[1] * 50), seed=2)).any()
    assert (first[:50] != first[50:]).any()


def test_every_record_is_as_likely_to_be_held_out():
    held_out = np.mean([split(assignment(*[0] * 10), seed=seed) == TEST for seed in range(2000)], 0)
    np.testing.assert_allclose(held_out, 0.2, atol=0.05)  # 5.6 standard errors


def test_a_split_column_rules():
    given_split = pd.Series(["train", "test", "train", "train", "test", "train"])
    parts = split(assignment(0, 0, 0, 1, 1, 1), given=given_split, test=0.9, seed=0)
    assert parts.tolist() == [0, 2, 0, 0, 2, 0]


def test_validation_is_taken_from_the_columns_training_records():
    given_split = pd.Series(["train"] * 10 + ["test"] * 10)
    parts = split(assignment(*[0] * 20), given=given_split, validation=0.3, seed=0)
    assert np.bincount(parts).tolist() == [7, 3, 10] and (parts[10:] == TEST).all()
    with_validation = given_split.where(given_split.index > 0, "validation")
    parts = split(assignment(*[0] * 20), given=with_validation, validation=0.3, seed=0)
    assert np.bincount(parts).tolist() == [9, 1, 10]


def test_a_client_without_training_records_is_named():
    given_split = pd.Series(["train", "test", "test"])
    with pytest.raises(FedmodelError, match="'client 1'"):
        split(assignment(0, 0, 1), given=given_split, seed=0)


@pytest.mark.parametrize(("test", "validation"), [(1.0, 0.0), (0.5, 0.5), (-0.1, 0.0)])
def test_shares_that_leave_nothing(test, validation):
    with pytest.raises(FedmodelError, match="leave nothing"):
        split(assignment(0, 0), test=test, validation=validation, seed=0)
