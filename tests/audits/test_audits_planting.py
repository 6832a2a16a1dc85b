"""Halves, canaries in records, canaries in gradients: who is there, and what it does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from audits.conftest import federation, workload
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.audits.planting import GradientCanaries, RecordCanaries, coins, mislabelled
from fedmodel.audits.watching import halved, halves
from fedmodel.cohort import Cohort

SIZES = st.lists(
    st.tuples(st.integers(1, 9), st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=4
)


@given(SIZES, st.integers(1, 5), st.integers(0, 9))
def test_each_record_is_in_exactly_half_of_the_halves(sizes, pairs, seed):
    data = federation(sizes)
    member = halves(data, number=2 * pairs, seed=seed)
    assert (member.sum(0) == pairs).all()
    for client, own in enumerate(sizes):
        begin = int(data.bounds[client, 0])
        taken = member[:, begin : begin + sum(own)].sum(1)
        assert (abs(taken - sum(own) / 2) <= 0.5).all()


@given(SIZES, st.integers(0, 9))
def test_a_halved_federation_trains_on_its_half_and_tests_on_the_rest(sizes, seed):
    data = federation(sizes)
    member = halves(data, number=2, seed=seed)[0]
    changed, order = halved(data, member)
    assert sorted(order) == list(range(len(data.y)))
    torch.testing.assert_close(changed.x, data.x[torch.from_numpy(order)])
    for client in range(data.num_clients):
        own = set(range(int(data.bounds[client, 0]), int(data.bounds[client, 3])))
        train, test = order[changed.rows(client, "train")], order[changed.rows(client, "test")]
        assert set(train) == own & set(np.flatnonzero(member))
        assert set(test) == own - set(train)


def test_mislabelled_canaries_are_test_records_with_another_label():
    data = federation()
    changed, rows, owner = mislabelled(data, share=0.5, most=100, seed=3)
    assert np.bincount(owner).tolist() == [3, 4]
    assert changed.sizes("train").tolist() == [9, 13]
    for client in range(2):
        old, new = data.rows(client, "train"), changed.rows(client, "train")
        length = old.stop - old.start
        torch.testing.assert_close(changed.x[new][:length], data.x[old])
        assert torch.equal(changed.y[new][:length], data.y[old])
        assert set(rows[owner == client]) == set(range(new.start + length, new.stop))
        for split in ("validation", "test"):
            there = changed.rows(client, split)
            torch.testing.assert_close(changed.x[there], data.x[data.rows(client, split)])
    for row, client in zip(rows, owner):
        test = data.rows(int(client), "test")
        same = (data.x[test] == changed.x[int(row)]).all(1)
        assert same.sum() == 1
        assert int(data.y[test][same]) != int(changed.y[int(row)])


def test_at_most_so_many_canaries_at_each_client():
    _, _, owner = mislabelled(federation(), share=0.5, most=2, seed=3)
    assert np.bincount(owner).tolist() == [2, 2]


def test_absent_records_are_never_in_a_batch_and_change_no_others_draw():
    data, everybody = federation(), np.arange(2)
    work = workload(data, noise=1.0, steps=30)
    absent = np.zeros(len(data.y), dtype=bool)
    absent[[2, 12]] = True
    parts = (everybody, data, work.model, work.training, 5, 1)
    plain, planted = Cohort(*parts), RecordCanaries(*parts, absent=absent)
    for step in range(30):
        whole, rest = plain.poisson_batch(step), planted.poisson_batch(step)
        for client in range(2):
            seen = {tuple(x) for x in rest.x[client][rest.present[client]].tolist()}
            drawn = {tuple(x) for x in whole.x[client][whole.present[client]].tolist()}
            gone = {tuple(x) for x in data.x[[2, 12]].tolist()}
            assert seen == drawn - gone
    assert (plain.sample_rate == planted.sample_rate).all()


def test_a_gradient_canary_moves_its_coordinate_by_the_clip_at_each_draw():
    # Records without features and a model at zero: but for the biases, only canaries move it.
    data = federation()
    data.x.zero_()
    work = workload(data, noise=0.0, steps=40, clip=0.7, private=False)
    inside = np.array([[True, False, True], [False, True, True]])
    coordinates, used = np.array([0, 3, 5]), np.zeros(2, np.int64)
    cohort = GradientCanaries(
        np.arange(2), data, work.model, work.training, 5, 1,
        inside=inside, coordinates=coordinates, used=used,
    )  # fmt: skip
    moved = work.behaviour.train(cohort, torch.zeros(work.model.size))
    # Draws of a canary: learning rate 0.5, clip 0.7, divided by the expected batch of 4.
    draws = (-moved[:, coordinates] * 4 / (0.5 * 0.7)).numpy()
    np.testing.assert_allclose(draws, draws.round(), atol=1e-4)
    assert (draws[~inside] == 0).all()
    rate = cohort.sample_rate[:, None] * np.ones(3)
    assert (abs(draws - 40 * rate)[inside] < 4 * np.sqrt(40 * rate * (1 - rate))[inside]).all()
    assert (moved[:, [1, 2, 4]] == 0).all()
    assert used.tolist() == [40, 40]


def test_a_client_has_the_same_canaries_alone_and_in_company():
    data = federation()
    work = workload(data, noise=1.0, steps=5)
    planted = {
        "inside": np.array([[True, False], [True, True]]),
        "coordinates": np.array([1, 4]),
        "used": np.zeros(2, np.int64),
    }

    def train(*clients):
        cohort = GradientCanaries(
            np.array(clients), data, work.model, work.training, 5, 1, **planted
        )
        return work.behaviour.train(cohort, work.model.initial)

    torch.testing.assert_close(train(1)[0], train(0, 1)[1])


def test_coins_are_fair():
    heads = coins(7, 0, 10_000, "gradient coins").mean()
    assert heads == pytest.approx(0.5, abs=0.02)
