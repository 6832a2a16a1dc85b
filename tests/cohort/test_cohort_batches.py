"""Batches against the same draws made record by record, and the memory of a step."""

import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedmodel import randomness
from fedmodel.cohort import Cohort, FlatModel, LocalTraining, machine
from fedmodel.types import Card, FederatedData


def federation(sizes):
    """Clients of these sizes; each has a test record too, which must never be in a batch."""
    ends = np.cumsum(np.asarray(sizes) + 1)
    bounds = [[end - size - 1, end - 1, end - 1, end] for end, size in zip(ends, sizes)]
    number = int(ends[-1])
    return FederatedData(
        x=torch.arange(number, dtype=torch.float32)[:, None],
        y=torch.arange(number) % 2,
        group=torch.zeros(number, 1, dtype=torch.int64),
        bounds=torch.tensor(bounds),
        clients=tuple(map(str, range(len(sizes)))),
        classes=("no", "yes"),
        attributes={"all": ("all",)},
        features=("number",),
        card=Card(name="n", title="Numbers", source="counted", licence="none"),
    )


@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5).filter(any),
    batch_size=st.integers(1, 9),
    steps=st.lists(st.integers(1, 7), min_size=5, max_size=5),
    seed=st.integers(0, 2**63),
)
def test_batches_hold_the_records_that_were_drawn(sizes, batch_size, steps, seed):
    number = len(sizes)
    training = LocalTraining(batch_size=batch_size, num_steps=np.array(steps[:number]))
    model = FlatModel(nn.Sequential(nn.Linear(1, 2), nn.Dropout(0.5)))
    clients = np.arange(number)[::-1].copy()
    cohort = Cohort(clients, federation(sizes), model, training, seed, 3)
    keys = {
        purpose: randomness.stream_keys(seed, clients, 3, purpose)
        for purpose in ("shuffle", "poisson", "dropout")
    }
    longest = max(sizes)
    for step in cohort.steps:
        shuffled, poisson = cohort.shuffled_batch(step), cohort.poisson_batch(step)
        for row, client in enumerate(clients):
            size, active = sizes[client], step < steps[client]
            epoch, slot = divmod(step, max(1, -(-size // batch_size)))
            orders = randomness.shuffles(keys["shuffle"], np.array(sizes)[clients], step=epoch)
            order = orders[row, :size][slot * batch_size :][:batch_size]
            uniforms = randomness.uniforms(keys["poisson"], longest, step=step)[row, :size]
            taken = np.flatnonzero(uniforms < batch_size / max(size, 1))
            for batch, records in ((shuffled, order), (poisson, taken)):
                records = records if active else records[:0]
                present = batch.present[row]
                first = int(cohort.data.bounds[client, 0])
                assert batch.x[row][present, 0].tolist() == (first + records).tolist()
                assert batch.y[row][present].tolist() == ((first + records) % 2).tolist()
                own = randomness.record_keys(
                    keys["dropout"][row : row + 1], records[None], step=step
                )
                assert batch.keys[row][present].tolist() == own[0].tolist()
                assert float(batch.active[row, 0]) == active


def test_a_model_without_dropout_draws_no_keys():
    training = LocalTraining(batch_size=2, num_steps=np.array([3]))
    cohort = Cohort(np.array([0]), federation([5]), FlatModel(nn.Linear(1, 2)), training, 1, 1)
    assert not cohort.poisson_batch(0).keys.any()


def test_freed_memory_is_kept_where_the_c_library_can(monkeypatch):
    assert machine.keep_freed_memory() == (machine.platform.libc_ver()[0] == "glibc")
    assert machine.keep_freed_memory() == machine.keep_freed_memory()
    monkeypatch.setattr(machine.platform, "libc_ver", lambda: ("", ""))
    assert machine.keep_freed_memory.__wrapped__() is False


HUGE = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FILL = """
import numpy as np
from fedmodel.cohort import keep_freed_memory

assert keep_freed_memory()
kept = [np.ones(1 << 20) for _ in range(16)]  # 8 MiB each
sizes = [line.split()[1] for line in open("/proc/self/smaps") if line.startswith("AnonHugePages")]
print(sum(map(int, sizes)) // 1024)
"""


@pytest.mark.skipif(
    not HUGE.exists() or "[never]" in HUGE.read_text() or platform.libc_ver()[0] != "glibc",
    reason="this system has no huge pages to give",
)
def test_memory_comes_in_huge_pages():
    done = subprocess.run([sys.executable, "-c", FILL], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 64  # of the 128 MiB at least
