"""The same work by fedmodel's engines and by their peers, side by side.

    python -m experiments.benchmarks.engines [--works A,B] [--peers inline,ray] [--rounds N] [--out DIR]

Every peer runs in a process of its own, in turn; first each one's fastest setting is found. A and B
take about five minutes on two cores; for figures to publish add `--repetitions 3` and a quiet machine.
pfl-research joins in with `--pfl-python`, the interpreter of an environment that has it.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from experiments.benchmarks.peers import PEERS
from experiments.benchmarks.processes import Outcome, ask
from experiments.benchmarks.results import machine, rows_of, save, table
from experiments.benchmarks.works import WORKS, Work

__all__ = ["compare"]

RESULTS = Path(__file__).parent / "results"


def compare(
    works: Sequence[Work],
    peers: Sequence[str],
    *,
    repetitions: int,
    seconds: float,
    limit: float = 600.0,
    pfl_python: str = sys.executable,
) -> list[Outcome]:
    """Each work by each peer, `repetitions` times in turn. Prints a line a process.

    A fast peer goes on until it has measured `seconds`; its loss is that after the work's rounds.
    """
    outcomes: list[Outcome] = []
    for work in works:
        print(f"{work.label}: {work.title}", flush=True)
        settings: dict[str, dict[str, Any]] = {}
        for repetition in range(repetitions):
            for peer in peers:
                python = pfl_python if peer.startswith("pfl") else sys.executable
                if repetition == 0 and PEERS[peer].tuned:
                    settings[peer] = ask(peer, work, limit=limit).setting
                if repetition and any(o.why for o in outcomes if _same(o, work, peer)):
                    continue  # it will not do better next time
                outcome = ask(
                    peer,
                    work,
                    setting=settings.get(peer, {}),
                    seconds=seconds,
                    limit=limit,
                    python=python,
                )
                told = outcome.why or f"{1000 * outcome.typical:.3g} ms a round {outcome.setting}"
                print(f"  {PEERS[peer].title}: {told}", flush=True)
                outcomes.append(outcome)
    return outcomes


def _same(outcome: Outcome, work: Work, peer: str) -> bool:
    return outcome.work == work.label and outcome.peer == peer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = ", ".join(PEERS)
    parser.add_argument("--works", default="A,B", help=f"of {','.join(WORKS)}; default A,B")
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of {names}; default all")
    parser.add_argument("--privacy", choices=("both", "with", "without"), default="both")
    parser.add_argument("--rounds", type=int, help="after which the loss is compared")
    parser.add_argument(
        "--repetitions", type=int, default=1, help="processes each, in turn; default 1"
    )
    parser.add_argument(
        "--seconds", type=float, default=1.5, help="that a fast peer measures at least"
    )
    parser.add_argument(
        "--limit", type=float, default=600.0, help="seconds that a process may take"
    )
    parser.add_argument("--pfl-python", default=sys.executable, help="interpreter that has pfl")
    parser.add_argument("--out", type=Path, help="folder; default results/<date>-<works>")
    given = parser.parse_args()
    peers = _known(parser, "peer", given.peers, PEERS)
    works = [
        replace(WORKS[name], private=private, **({"rounds": given.rounds} if given.rounds else {}))
        for name in _known(parser, "work", given.works, WORKS)
        for private in {"both": (False, True), "with": (True,), "without": (False,)}[given.privacy]
    ]
    folder = given.out or RESULTS / f"{date.today()}-{given.works.replace(',', '')}"
    where = machine()
    outcomes = compare(
        works,
        peers,
        repetitions=given.repetitions,
        seconds=given.seconds,
        limit=given.limit,
        pfl_python=given.pfl_python,
    )
    command = "python -m experiments.benchmarks.engines " + shlex.join(sys.argv[1:])
    save(outcomes, folder, command=command.strip(), where=where)
    print(f"\n{table(rows_of(outcomes))}\n\nkept in {folder}")


def _known(
    parser: argparse.ArgumentParser, kind: str, given: str, known: Mapping[str, object]
) -> list[str]:
    chosen = [name.strip() for name in given.split(",")]
    for name in chosen:
        if name not in known:
            parser.error(f"there is no {kind} {name!r}; there are {', '.join(known)}")
    return chosen


if __name__ == "__main__":
    main()
