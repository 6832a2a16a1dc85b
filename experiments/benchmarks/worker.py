"""One peer at one work, in a process of its own: how long each round took, and the loss it reached.

    python -m experiments.benchmarks.worker WORK PEER ANSWER.json [--setting JSON] [--tune]

`--tune` tries the peer's settings for a few rounds each instead, and answers with the fastest.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from experiments.benchmarks.peers import PEERS, Peer, Unable
from experiments.benchmarks.works import Work, work_from_json

__all__ = ["Clock", "Timing", "fastest_setting", "timed"]


@dataclass
class Timing:
    """What one process measured. Moments are seconds since 1970, to be held against the start."""

    seconds: list[float] = field(default_factory=list)  # one a round
    moments: list[float] = field(
        default_factory=list
    )  # one a lap: before the first round, after each
    loss: float | None = None  # after `Work.rounds` rounds
    setting: dict[str, Any] = field(default_factory=dict)


class Clock:
    """Times the rounds between laps. What is done with the model in a lap is off the clock."""

    def __init__(self, *, rounds: int, seconds: float, patience: float) -> None:
        self.rounds, self.enough, self.patience = rounds, seconds, patience
        self.timing = Timing()
        self.model: dict[str, Tensor] = {}
        self._last: float | None = None

    def lap(self, model: Callable[[], Mapping[str, Tensor]]) -> bool:
        """Note a finished round. Go on while rounds are missing, or time to measure more is left.

        Not after a round that took longer than the patience lasts.
        """
        now, timing = time.perf_counter(), self.timing
        timing.moments.append(time.time())
        if self._last is not None:
            timing.seconds.append(now - self._last)
        if len(timing.seconds) == self.rounds:
            self.model = {name: value.detach().clone() for name, value in model().items()}
        done = len(timing.seconds) >= self.rounds and sum(timing.seconds) >= self.enough
        too_slow = bool(timing.seconds) and timing.seconds[-1] > self.patience
        self._last = time.perf_counter()
        return not done and not too_slow


def timed(
    peer: Peer,
    work: Work,
    setting: Mapping[str, Any],
    *,
    rounds: int,
    seconds: float = 0.0,
    patience: float = float("inf"),
) -> Timing:
    """Let a peer do its work in this process, with one of its settings.

    Raises:
        Unable: it does not do this work.
    """
    if work.on_demand and not peer.on_demand:
        raise Unable("it would hold the records of all clients in memory")
    clock = Clock(rounds=rounds, seconds=seconds, patience=patience)
    peer.load().run(work, clock.lap, **setting)
    clock.timing.setting = dict(setting)
    if clock.model:
        model = work.initial_model()
        model.load_state_dict(clock.model)
        clock.timing.loss = work.loss(model.eval())
    return clock.timing


def fastest_setting(peer: Peer, work: Work) -> dict[str, Any]:
    """The setting with the fastest single round after its first: each on one thread, the best on two.

    One that fails is out of the race; one that is four times as slow is given up.
    """
    module = peer.load()
    best, fastest = {}, float("inf")

    def race(setting: dict[str, Any]) -> None:
        nonlocal best, fastest
        try:
            timing = timed(peer, work, setting, rounds=2, seconds=0.2, patience=4 * fastest)
        except Unable:
            raise
        except Exception as error:
            print(f"{peer.title}, {work.label}, {setting}: {type(error).__name__}: {error}")
            return
        shortest = min(timing.seconds[1:], default=float("inf"))
        if shortest < fastest:
            best, fastest = setting, shortest

    for setting in module.settings(work):
        race({**peer.fixed, **setting, "threads": 1})
    race({**best, "threads": 2})
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=work_from_json, help="as JSON, at least its name")
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("answer", type=Path)
    parser.add_argument("--setting", type=json.loads, default={})
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--tune", action="store_true")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    work, peer = given.work, PEERS[given.peer]
    try:
        if given.tune:
            answer: dict[str, Any] = {"setting": fastest_setting(peer, work)}
        else:
            setting = {**peer.fixed, **given.setting}
            timing = timed(peer, work, setting, rounds=work.rounds, seconds=given.seconds)
            answer = asdict(timing)
    except Unable as reason:
        answer = {"unable": str(reason)}
    if os.environ.get("RANK", "0") == "0":  # one of several processes answers for all
        given.answer.write_text(json.dumps(answer), encoding="utf-8")


if __name__ == "__main__":
    main()
