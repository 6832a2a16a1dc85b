"""Peers in processes of their own: started, watched for memory, ended when they take too long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from experiments.benchmarks.peers import PEERS
from experiments.benchmarks.works import Work

__all__ = ["Outcome", "ask"]

ROOT = Path(__file__).resolve().parents[2]
EVERY = 0.25  # seconds between two looks at the memory: they cost a hundredth of a core
# Set for the caller's own work; each peer decides on its threads.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


@dataclass(frozen=True)
class Outcome:
    """What came of one process: numbers, or why there are none."""

    work: str
    peer: str
    seconds: list[float] = field(default_factory=list)  # of each round
    startup: float = float("nan")  # from the start to the end of the first round, less one round
    memory: list[tuple[float, float]] = field(default_factory=list)  # (seconds from start, MiB)
    moments: list[float] = field(default_factory=list)  # ends of rounds, seconds from start
    loss: float | None = None
    setting: dict[str, Any] = field(default_factory=dict)
    why: str = ""

    @property
    def typical(self) -> float:
        """Median seconds of a round after the first."""
        return median(self.seconds[1:] or self.seconds)

    @property
    def growth(self) -> tuple[float, float]:
        """Memory when a tenth of the rounds were over, and at the end of the last, MiB."""
        begin, end = self.moments[len(self.moments) // 10], self.moments[-1]
        seen = [size for moment, size in self.memory if begin <= moment <= end]
        return (seen[0], seen[-1]) if seen else (self.peak, self.peak)

    @property
    def peak(self) -> float:
        """Most memory at any look, MiB."""
        return max((size for _, size in self.memory), default=float("nan"))


def ask(
    peer: str,
    work: Work,
    *,
    setting: dict[str, Any] | None = None,
    seconds: float = 0.0,
    limit: float = 600.0,
    python: str = sys.executable,
) -> Outcome:
    """Run one peer at one work, with this setting; with None, find out its fastest one instead.

    `python` is the interpreter; `limit` ends the process after so many seconds.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        answer = Path(folder) / "answer.json"
        command = [python, *_launcher(peer, setting), "experiments.benchmarks.worker"]
        command += [work.to_json(), peer, str(answer)]
        command += ["--seconds", str(seconds), "--setting", json.dumps(setting or {})]
        command += ["--tune"] if setting is None else []
        begun, clock = time.time(), time.perf_counter()
        with (Path(folder) / "output.txt").open("w+b") as output:
            process = subprocess.Popen(
                command, cwd=ROOT, env=_environment(), stdout=output, stderr=subprocess.STDOUT
            )
            memory, in_time = _watch(process, clock, limit)
            output.seek(0)
            said = output.read().decode(errors="replace")
        if not in_time:
            return Outcome(work.label, peer, why=f"not finished after {limit:.0f} s")
        if process.returncode or not answer.is_file():
            return Outcome(work.label, peer, why=f"failed: {_last_error(said)}")
        told = json.loads(answer.read_text(encoding="utf-8"))
    if "unable" in told:
        return Outcome(work.label, peer, why=told["unable"])
    if setting is None:
        return Outcome(work.label, peer, setting=told["setting"])
    moments = [moment - begun for moment in told["moments"]]
    outcome = Outcome(
        work.label, peer, told["seconds"], 0.0, memory, moments[1:], told["loss"], told["setting"]
    )
    object.__setattr__(outcome, "startup", moments[1] - outcome.typical)
    return outcome


def _last_error(said: str) -> str:
    """The last line that names an exception, or the last line of all."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
    named = [line for line in lines if "Error" in line.split(":")[0]]
    return (named or lines)[-1][:200]


def _launcher(peer: str, setting: dict[str, Any] | None) -> list[str]:
    """The interpreter's arguments before the module's name."""
    number = PEERS[peer].processes
    if number == 1 or setting is None:
        return ["-m"]
    return ["-m", "torch.distributed.run", f"--nproc-per-node={number}", "--standalone", "-m"]


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in THREADS}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


def _watch(
    process: subprocess.Popen[bytes], begun: float, limit: float
) -> tuple[list[tuple[float, float]], bool]:
    """Look at the memory until the process ends, and whether it did so in time."""
    root, seen = psutil.Process(process.pid), []
    while process.poll() is None:
        passed = time.perf_counter() - begun
        family = _family(root)
        seen.append((round(passed, 2), round(_proportional(family) / 2**20, 1)))
        if passed > limit:
            _end(family)
            process.wait()
            return seen, False
        time.sleep(EVERY)
    return seen, True


def _family(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _proportional(family: Sequence[psutil.Process]) -> float:
    """Bytes in memory; a page that several processes share is shared out among them."""
    total = 0.0
    for process in family:
        try:
            full = process.memory_full_info()
            total += getattr(full, "pss", full.uss)
        except psutil.Error:  # it has ended meanwhile
            continue
    return total


def _end(family: Sequence[psutil.Process]) -> None:
    for process in reversed(family):
        try:
            process.kill()
        except psutil.Error:
            continue
