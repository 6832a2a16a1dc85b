"""States that are packed come back as they were; they take little memory meanwhile."""

import subprocess
import sys

from flwr.app import ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.grids.local import FIRST_NODE
from fedmodel.grids.states import ClientStates
from fedmodel.privacy.ledger import LEDGER, Ledger

STATES = {
    "nothing": lambda: RecordDict(),
    "a ledger": lambda: RecordDict({LEDGER: Ledger().charge(1.1, 0.2, 5).to_record()}),
    "another ledger": lambda: RecordDict({LEDGER: Ledger().charge(1.1, 0.2, 6).to_record()}),
    "a ledger and more": lambda: RecordDict(
        {LEDGER: Ledger().charge(1.1, 0.2, 5).to_record(), "mine": ConfigRecord({"a": 1})}
    ),
    "something else": lambda: RecordDict({"mine": ConfigRecord({"a": 1})}),
    "a ledger that was read": lambda: read(STATES["a ledger"]()),
}


def read(state):
    dict(state[LEDGER])
    return state


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4),
            st.sampled_from([*STATES, "pack", "delete", "look"]),
        ),
        max_size=20,
    )
)
def test_whatever_happens_it_is_a_dictionary_of_states(events):
    states, plain = ClientStates(range(FIRST_NODE, FIRST_NODE + 5)), {}
    for client, event in events:
        node = client + FIRST_NODE
        if event == "pack":
            states.pack([node])
        elif event == "delete" and node in plain:
            del states[node], plain[node]
        elif event == "look":
            assert states[node] == plain.setdefault(node, RecordDict())
        elif event in STATES:
            states[node] = STATES[event]()
            plain[node] = STATES[event]()
        assert set(states) == set(plain) and len(states) == len(plain)
        assert (node in states) == (node in plain)
        assert states.get(1) is None  # where sums come from
    assert {node: states[node] for node in states} == plain


def test_what_is_asked_for_may_be_changed_in_place():
    states = ClientStates(range(FIRST_NODE, FIRST_NODE + 2))
    states[3][LEDGER] = Ledger().charge(1.0, 0.5, 1).to_record()
    states.pack([3])
    states[3][LEDGER] = Ledger.from_record(states[3][LEDGER]).charge(1.0, 0.5, 2).to_record()
    states.pack([3])
    assert Ledger.from_record(states[3][LEDGER]).steps == 3


MEASURE = """
import gc, tracemalloc
from fedmodel.grids.states import ClientStates
from fedmodel.privacy.ledger import LEDGER, Ledger

number = 20_000
tracemalloc.start()
states = ClientStates(range(2, 2 + number))
for first in range(2, 2 + number, 1000):
    for node in range(first, first + 1000):
        states[node][LEDGER] = Ledger().charge(1.0, 0.5, 1).to_record()
    states.pack(range(first, first + 1000))
gc.collect()
assert len(states) == number
print(tracemalloc.get_traced_memory()[0] / number)
"""


def test_clients_that_have_spent_the_same_take_next_to_nothing():
    """In a process where nothing checks types: a check reads the records."""
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 20  # bytes a client
