"""The benchmark compares like with like: every peer does the same work, and the numbers are told as found."""

import json
from dataclasses import replace
from functools import cache
from importlib.util import find_spec

import pytest
import torch
from torch.nn.functional import cross_entropy

from experiments.benchmarks import engines
from experiments.benchmarks.peers import PEERS, Unable
from experiments.benchmarks.peers.fedmodel_engines import federated
from experiments.benchmarks.peers.floor import flops_of
from experiments.benchmarks.peers.on_demand import OnDemand
from experiments.benchmarks.peers.sequential import MODES
from experiments.benchmarks.processes import Outcome, ask
from experiments.benchmarks.results import rows_of, save, table
from experiments.benchmarks.worker import Clock, fastest_setting, timed
from experiments.benchmarks.works import WORKS, work_named

# Half a minute in all, beside what the tests of the package itself take.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Full backward hook:UserWarning"),
]

NEVER = 1e-9  # a noise multiplier that moves nothing, so that peers can be compared exactly


def tiny(name="A", **changes):
    """Everybody takes part with all records in one batch: nothing is left to chance but the noise."""
    sizes = {
        "population": 4,
        "cohort": 4,
        "num_records": 12,
        "batch_size": 12,
        "rounds": 3,
        "num_test": 200,
    }
    return work_named(name, **{**sizes, "noise_multiplier": NEVER, "learning_rate": 0.5, **changes})


@cache
def loss_by_hand(work):
    """Gradient descent on all records at once; with privacy each record's gradient is clipped."""
    model = work.initial_model()
    x, y = (part.flatten(0, 1) for part in work.records())
    parameters = list(model.parameters())
    for _ in range(work.rounds):
        total = [torch.zeros_like(p) for p in parameters]
        for record in range(len(y)):
            loss = cross_entropy(model(x[record : record + 1]), y[record : record + 1])
            gradient = torch.autograd.grad(loss, parameters)
            norm = torch.cat([g.flatten() for g in gradient]).norm()
            scale = min(1.0, work.clip / float(norm)) if work.private else 1.0
            for sum_, part in zip(total, gradient):
                sum_ += scale * part
        with torch.no_grad():
            for parameter, sum_ in zip(parameters, total):
                parameter -= work.learning_rate * sum_ / len(y)
    return work.loss(model)


def loss_of(peer, work, **setting):
    return timed(PEERS[peer], work, {**PEERS[peer].fixed, **setting}, rounds=work.rounds).loss


@pytest.mark.parametrize("name", ["A", "B", "C"])
@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("peer", ["sequential", "inline", "central"])
def test_a_peer_trains_what_the_work_says(peer, private, name):
    work = tiny(name, private=private, clip=0.5)
    if private and peer == "central":
        with pytest.raises(Unable, match="no privacy"):
            loss_of(peer, work)
        return
    expected = loss_by_hand(work)
    assert loss_of(peer, work) == pytest.approx(expected, abs=2e-4)
    assert expected != pytest.approx(work.loss(work.initial_model()), abs=2e-3)


@pytest.mark.parametrize("mode", MODES)
def test_opacus_does_the_same_in_each_of_its_modes(mode):
    work = tiny(private=True)
    assert loss_of("sequential", work, mode=mode) == pytest.approx(loss_by_hand(work), abs=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize("peer", ["flower", "ray"])
def test_a_peer_on_ray_trains_what_the_work_says(peer, private):
    work = tiny(private=private)
    outcome = ask(peer, work, setting={})
    assert not outcome.why
    assert outcome.loss == pytest.approx(loss_by_hand(work), abs=2e-4)
    assert len(outcome.seconds) == work.rounds


@pytest.mark.skipif(find_spec("pfl") is None, reason="pfl wants an environment of its own")
def test_pfl_trains_what_the_work_says():
    work = tiny()
    assert loss_of("pfl-1", work) == pytest.approx(loss_by_hand(work), abs=2e-4)


@pytest.mark.skipif(find_spec("pfl") is not None, reason="it is here")
def test_pfl_that_is_not_there_says_how_to_get_it():
    with pytest.raises(Unable, match="pip install"):
        loss_of("pfl-1", tiny())


def test_with_noise_the_losses_spread_alike():
    work = tiny(private=True, population=20, cohort=10, num_records=40, batch_size=20, rounds=5)
    work = replace(work, noise_multiplier=1.0)
    sequential, inline = loss_of("sequential", work), loss_of("inline", work)
    assert sequential == pytest.approx(inline, abs=0.05)
    assert sequential != pytest.approx(loss_of("inline", replace(work, noise_multiplier=NEVER)))


@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_records_are_the_same_for_all_and_can_be_learned(name):
    work = tiny(name, num_records=100)
    (x, y), (again, _), (test, _) = work.records(), work.records(), work.drawn(400, part=2)
    assert torch.equal(x, again)
    assert not torch.equal(x.flatten(0, 1), test)
    assert x.shape[:2] == y.shape == (4, 100)
    shares = torch.bincount(y.flatten()) / y.numel()
    assert (shares > 0.5 / len(shares)).all()


def test_a_million_clients_read_records_that_nobody_holds():
    work = replace(WORKS["E"], population=100_001, cohort=20, rounds=2)
    data = federated(work)
    assert isinstance(data.x, OnDemand)
    rows = torch.tensor([5, 2_000_019, 5])
    assert torch.equal(data.x[rows][0], data.x[rows][2])
    assert not torch.equal(data.x[rows][0], data.x[rows][1])
    assert loss_of("inline", work) < work.loss(work.initial_model())
    with pytest.raises(Unable, match="in memory"):
        loss_of("sequential", work)


def test_a_round_of_logistic_regression_costs_what_one_counts_by_hand():
    work = replace(WORKS["E"], population=10, cohort=3, num_records=20)
    # forward and the weights' gradient, two operations each; records need no gradient
    assert flops_of(work) == 3 * 20 * 2 * (2 * 30 * 2)


def test_the_clock_stops_when_rounds_and_time_are_up():
    def laps(clock):
        numbers = [1]
        while clock.lap(lambda: {"number": torch.tensor(numbers[-1])}):
            numbers.append(numbers[-1] + 1)
        return len(numbers)

    clock = Clock(rounds=3, seconds=0.0, patience=float("inf"))
    assert laps(clock) == 4  # one before the first round
    assert len(clock.timing.seconds) == 3
    assert clock.model["number"] == 4
    longer = Clock(rounds=3, seconds=0.01, patience=float("inf"))
    assert laps(longer) > 4
    assert longer.model["number"] == 4
    assert laps(Clock(rounds=3, seconds=0.0, patience=0.0)) == 2


def test_a_setting_that_fails_is_out_of_the_race(monkeypatch):
    peer = PEERS["sequential"]
    monkeypatch.setattr(peer.load(), "settings", lambda work: [{"mode": "nothing"}, {"mode": "ew"}])
    assert fastest_setting(peer, tiny(private=True))["mode"] == "ew"


def test_a_process_is_timed_and_its_memory_seen():
    outcome = ask("floor", tiny(), setting={})
    assert not outcome.why
    assert outcome.startup > 0.1
    assert outcome.peak > 50
    assert len(outcome.seconds) == len(outcome.moments) == 3


def test_a_process_that_takes_too_long_is_ended():
    assert ask("floor", tiny(), setting={}, limit=0.1).why == "not finished after 0 s"


def test_a_process_that_fails_says_why():
    assert "TypeError" in ask("floor", tiny(), setting={"nonsense": 1}).why


OUTCOMES = [
    Outcome("A", "flower", [9.0, 0.4, 0.6, 0.5], 8.0, [(0.1, 900.0)], loss=0.61),
    Outcome(
        "A", "inline", [1.0, 0.01, 0.01], 1.0, [(0.1, 300.0)], loss=0.62, setting={"threads": 1}
    ),
    Outcome(
        "A", "inline", [1.0, 0.01, 0.03], 1.2, [(0.1, 310.0)], loss=0.62, setting={"threads": 1}
    ),
    Outcome("A", "pfl-1", why="not installed"),
]


def test_the_table_tells_what_was_found():
    flower, pfl, inline = rows_of(OUTCOMES)
    assert (flower.milliseconds, inline.milliseconds) == (500.0, 10.0)
    assert (flower.times_ours, inline.times_ours) == (50.0, 1.0)
    assert (inline.startup, inline.memory) == (1.1, 310.0)
    text = table([flower, pfl, inline])
    assert "| not installed" in text
    assert "1 thread" in text
    assert len({len(line) for line in text.splitlines()}) == 1


def test_memory_that_grows_over_many_rounds_is_told():
    memory = [(float(second), 100.0 + second) for second in range(110)]
    moments = [float(second) for second in range(5, 105)]
    outcome = Outcome("E", "inline", [1.0] * 100, 5.0, memory, moments)
    assert outcome.growth == (115.0, 204.0)
    assert "115 MiB after a tenth of 100 rounds, 204 at the end" in table(rows_of([outcome]))


def test_results_are_kept_with_machine_and_command(tmp_path):
    save(OUTCOMES, tmp_path / "out", command="python -m x", where=engines.machine())
    told = json.loads((tmp_path / "out" / "results.json").read_text())
    assert told["command"] == "python -m x"
    assert told["outcomes"][0]["seconds"] == [9.0, 0.4, 0.6, 0.5]
    assert told["machine"]["cores"] >= 1
    page = (tmp_path / "out" / "table.md").read_text()
    assert "Flower + Ray" in page
    assert (tmp_path / "out" / "rounds.svg").read_text().startswith("<svg")


def test_an_unknown_work_is_told_the_known_ones(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["engines", "--works", "Z"])
    with pytest.raises(SystemExit) as stopped:
        engines.main()
    assert stopped.value.code == 2
    assert "there are A, B, C, D, E" in capsys.readouterr().err
