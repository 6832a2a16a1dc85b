"""A client's ledger remembers all rounds, whatever happens to the client between them."""

from __future__ import annotations

import pickle
import tracemalloc

import pytest
from flwr.app import ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedmodel._flower import teller_of
from fedmodel.errors import FedmodelError
from fedmodel.privacy import epsilon_of, epsilon_of_history
from fedmodel.privacy.ledger import Ledger

charges = st.lists(
    st.tuples(st.sampled_from([0.5, 1.0, 1.1]), st.floats(0.01, 1), st.integers(0, 50))
)


@given(charges=charges)
def test_a_ledger_survives_the_clients_state(charges):
    ledger = Ledger()
    for charge in charges:
        ledger = Ledger.from_record(ledger.charge(*charge).to_record())
    assert Ledger.from_record(ledger.to_record()) == ledger
    assert ledger.rounds == len(charges)
    assert ledger.steps == sum(steps for _, _, steps in charges)


def test_equal_rounds_are_one_entry():
    ledger = Ledger()
    for noise in (1.0, 1.0, 2.0, 1.0):
        ledger = ledger.charge(noise, 0.1, 5)
    assert ledger.entries == ((1.0, 0.1, 10), (2.0, 0.1, 5), (1.0, 0.1, 5))
    assert (ledger.rounds, ledger.steps) == (4, 20)


def test_epsilon_does_not_start_anew_each_round():
    ledger = Ledger()
    for _ in range(5):
        ledger = Ledger.from_record(ledger.charge(1.0, 0.1, 20).to_record())
    spent = epsilon_of_history(ledger.entries, delta=1e-5).epsilon
    assert spent == epsilon_of(noise_multiplier=1.0, sample_rate=0.1, steps=100, delta=1e-5)
    assert spent > 1.4 * epsilon_of(noise_multiplier=1.0, sample_rate=0.1, steps=20, delta=1e-5)


def test_the_limit_is_in_steps():
    ledger = Ledger().charge(1.0, 0.1, 7)
    assert ledger.can_afford(3, max_steps=10)
    assert not ledger.can_afford(4, max_steps=10)
    assert ledger.can_afford(0, max_steps=7)


def test_a_round_without_steps_counts_as_a_round():
    assert Ledger().charge(1.0, 1.0, 0) == Ledger(entries=(), rounds=1)


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"noise_multiplier": [1.0], "sample_rate": [0.1], "steps": [3]},
        {"noise_multiplier": [1.0], "sample_rate": [0.1], "steps": [3, 4], "rounds": 2},
        {"noise_multiplier": 1.0, "sample_rate": 0.1, "steps": 3, "rounds": 1},
    ],
)
def test_a_damaged_record_is_never_taken_for_an_empty_ledger(record):
    with pytest.raises(FedmodelError, match="ledger is damaged"):
        Ledger.from_record(ConfigRecord(record))


@pytest.mark.parametrize("charge", [(1.0, 0.0, 5), (1.0, 0.1, -5), (-1.0, 0.1, 5)])
def test_a_charge_out_of_range_is_refused(charge):
    with pytest.raises(FedmodelError):
        Ledger().charge(*charge)


def test_a_ledger_in_a_state_is_small_and_saving_it_does_not_unfold_it():
    """A million clients have one each: docs/engines.md tells what it costs."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    states = {}
    for number in range(500):
        states[number] = RecordDict()
        states[number]["privacy"] = Ledger().charge(1.0 + number, 0.1, 5).to_record()
    used = (tracemalloc.get_traced_memory()[0] - before) / 500
    unread = [teller_of(state["privacy"]) for state in states.values()]
    saved = pickle.dumps(states)
    tracemalloc.stop()
    assert used < 1300
    assert len(saved) / 500 < 200
    assert [teller_of(state["privacy"]) for state in states.values()] == unread
    for number, state in pickle.loads(saved).items():
        ledger = Ledger.from_record(state["privacy"])
        assert ledger == Ledger(((1.0 + number, 0.1, 5),), 1)
