"""Only the states that a round changed are written, and a crash at any moment leaves all of them whole."""

import pickle
import tempfile
from pathlib import Path

import pandas as pd
import pytest
import torch
from flwr.app import ConfigRecord, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.rounds import Finished, State
from fedmodel.runs import states as module
from fedmodel.runs.folder import RunFolder
from fedmodel.runs.states import SavedStates


def state_of(value):
    """A client's state; None is an empty one."""
    return RecordDict({} if value is None else {"r": ConfigRecord({"value": value})})


def told(states):
    return {node: state["r"]["value"] for node, state in states.items()}


@pytest.fixture
def every_three(monkeypatch):
    monkeypatch.setattr(module, "EVERY", 3)


changes = st.lists(
    st.dictionaries(st.integers(2, 9), st.none() | st.integers(0, 99), max_size=4), max_size=11
)


@given(changes=changes, gathered_every=st.integers(1, 5))
def test_what_is_read_is_what_all_rounds_together_left(changes, gathered_every):
    expected, module.EVERY = {}, gathered_every
    try:
        with tempfile.TemporaryDirectory() as folder:
            saved = SavedStates(Path(folder))
            for number, changed in enumerate(changes, 1):
                saved.add(number, {node: state_of(value) for node, value in changed.items()})
                before = dict(expected)
                expected.update(changed)
                expected = {node: value for node, value in expected.items() if value is not None}
                assert told(saved.after(number - 1)) == before  # the round is not finished yet
                assert told(saved.after(number)) == expected
                saved.gather(number)
                assert told(saved.after(number)) == expected
                assert len(list(Path(folder).iterdir())) <= gathered_every
    finally:
        module.EVERY = 100


@pytest.mark.parametrize("calls", range(5))
def test_gathering_may_be_cut_off_anywhere(calls, every_three, monkeypatch, tmp_path):
    saved, left = SavedStates(tmp_path), [calls]
    for number in (1, 2, 3):
        saved.add(number, {number + 1: state_of(number), 9: state_of(10 * number)})

    def dies(original):
        def call(*arguments, **keywords):
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return original(*arguments, **keywords)

        return call

    for name in ("write_bytes", "replace", "unlink"):
        monkeypatch.setattr(Path, name, dies(getattr(Path, name)))
    if calls < 4:  # one file written, put in place, two older ones deleted
        with pytest.raises(KeyboardInterrupt):
            saved.gather(3)
    else:
        saved.gather(3)
    monkeypatch.undo()
    assert told(saved.after(3)) == {2: 1, 3: 2, 4: 3, 9: 30}


def test_a_round_without_an_end_is_forgotten(tmp_path):
    saved = SavedStates(tmp_path)
    saved.add(1, {2: state_of(1)})
    saved.add(2, {2: state_of(2), 3: state_of(2)})
    saved.forget_beyond(1)
    saved.add(3, {4: state_of(3)})
    assert told(saved.after(3)) == {2: 1, 4: 3}


def save(folder, number, changed):
    clients = {node: state_of(value) for node, value in changed.items()}
    state = State(number, torch.tensor([float(number)]), {"clip": 0.1 * number}, clients)
    folder.save_round(state, Finished(number, 0.1), pd.DataFrame(), {})


def test_the_folder_gives_back_the_state_of_all_rounds(every_three, tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    for number in range(8):
        save(folder, number, {2 + number: number, 2 + number // 2: 10 * number})
    state = folder.latest_state()
    assert (state.number, state.vector.item(), state.strategy) == (7, 7.0, {"clip": 0.1 * 7})
    assert told(state.clients) == {2: 10, 3: 30, 4: 50, 5: 70, 6: 4, 7: 5, 8: 6, 9: 7}


def test_a_crash_before_the_state_is_written_repeats_the_round(tmp_path, monkeypatch):
    folder = RunFolder.create(tmp_path / "run")
    save(folder, 1, {2: 1})
    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(pickle, "dumps", _full_for_states(pickle.dumps))
        save(folder, 2, {2: 2, 3: 2})
    assert told(folder.latest_state().clients) == {2: 1}
    folder.forget_beyond(1)
    save(folder, 2, {4: 2})  # the repeated round need not change the same clients
    assert told(folder.latest_state().clients) == {2: 1, 4: 2}


def _full_for_states(dumps):
    def call(value, *arguments, **keywords):
        if isinstance(value, State):
            raise OSError("disk full")
        return dumps(value, *arguments, **keywords)

    return call


def test_a_round_writes_no_more_when_there_are_more_clients(tmp_path):
    sizes = []
    for number_before in (10, 1000):
        folder = RunFolder.create(tmp_path / str(number_before))
        save(folder, 1, dict.fromkeys(range(2, 2 + number_before), 7))
        written = {file: file.stat().st_mtime_ns for file in folder.path.rglob("*.pkl")}
        save(folder, 2, {2: 8, 3: 8})
        new = [f for f in folder.path.rglob("*.pkl") if f.stat().st_mtime_ns != written.get(f)]
        assert {file.name for file in new} == {"clients-00002.pkl", "state.pkl"}
        sizes.append(sum(file.stat().st_size for file in new))
        assert len(folder.latest_state().clients) == number_before
    assert sizes[0] == sizes[1]
