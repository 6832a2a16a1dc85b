"""Updates that are added up as they come give what the block of all of them gives."""

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from flwr.clientapp import ClientApp

import fedmodel
from fedmodel import folded
from fedmodel.errors import FedmodelError, RunFailed
from fedmodel.experiment import Experiment
from fedmodel.grids import folding
from fedmodel.grids.inline import InlineGrid
from fedmodel.grids.secure import SecureGrid

BASE = {
    "seed": 3,
    "rounds": 3,
    "data": {"name": "heart_disease", "encode": "public"},
    "partition": {"name": "iid", "clients": 7},
    "model": {"name": "mlp", "hidden": [4]},
    "client": {"name": "sgd", "learning_rate": 0.2, "batch_size": 16},
}
PRIVATE = {
    "client": {"name": "dp_sgd", "learning_rate": 0.2},
    "privacy": {"epsilon": 5.0, "delta": 1e-3, "accountant": "rdp", "participations": 2},
}
FEDADAM = {"name": "flwr.serverapp.strategy:FedAdam", "eta": 0.05, "tau": 0.1}


def metrics(config, tmp_path, name):
    run = fedmodel.run(config, out=tmp_path / name)
    return run.metrics.sort_values(["round", "scope", "key", "metric"]).reset_index(drop=True), run


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"strategy": {"name": "compose", "weigh": "equal", "sample": 0.7}},
        {"strategy": FEDADAM},
        PRIVATE,
        {"attack": {"name": "sign_flip", "clients": 0.3}},
    ],
    ids=["by records", "equal", "FedAdam", "private, some decline", "attackers"],
)
def test_folded_updates_give_the_same_model(changes, tmp_path, monkeypatch):
    config = {**BASE, **changes}
    block, _ = metrics(config, tmp_path, "block")
    monkeypatch.setattr(folded, "BLOCK_BYTES", 0)
    monkeypatch.setattr(folding, "GROUP_BYTES", 1)  # one client at a time
    sums, run = metrics(config, tmp_path, "sums")
    assert any("added up group by group" in note for note in run.manifest["notes"])
    block = block[block.metric != "aggregate_share"].reset_index(drop=True)
    same = ["round", "split", "model", "scope", "key", "metric"]
    pd.testing.assert_frame_equal(block[same], sums[same])
    np.testing.assert_allclose(block.value, sums.value, atol=1e-4)


def test_what_needs_every_update_is_refused_where_they_do_not_fit(monkeypatch):
    config = {**BASE, "strategy": {"name": "compose", "combine": "coordinate_median"}}
    monkeypatch.setattr(folded, "BLOCK_BYTES", 0)
    assert Experiment.read(config).built.fold is None
    memory = type("Memory", (), {"total": 1000})
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    with pytest.raises(FedmodelError, match=r"all 7 clients of a round at once.*GB") as refused:
        Experiment.read(config).built  # noqa: B018
    assert "mean" in refused.value.fix


BROKEN = """
from dataclasses import dataclass
import torch

CALLS = []

@dataclass(frozen=True, kw_only=True)
class broken:
    \"\"\"Trains nothing; client 2 fails.\"\"\"
    times: int = 1
    batch_size: int = 8

    def train(self, cohort, start):
        if 2 in cohort.clients:
            CALLS.append(1)
            if len(CALLS) <= self.times:
                raise ValueError("no power")
        return torch.ones(cohort.size, len(start))
"""


@pytest.mark.parametrize(("times", "policy"), [(1, "retry"), (9, "retry"), (9, "drop")])
def test_a_client_that_fails_is_asked_once_more(times, policy, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text(BROKEN)
    config = {
        **BASE,
        "rounds": 1,
        "client": {"name": f"{tmp_path / 'broken.py'}:broken", "times": times},
        "engine": {"on_failure": policy},
    }
    monkeypatch.setattr(folded, "BLOCK_BYTES", 0)
    monkeypatch.setattr(folding, "GROUP_BYTES", 1)
    if policy == "retry" and times > 1:
        with pytest.raises(RunFailed, match="failed"):
            fedmodel.run(config, out=tmp_path / "run")
        return
    run = fedmodel.run(config, out=tmp_path / "run")
    start, end = Experiment.read(config).built.model.initial, run.model.state_dict()
    moved = torch.cat([v.flatten() for v in end.values()]) - start
    torch.testing.assert_close(moved, torch.ones_like(moved))


@pytest.mark.parametrize("secure", [False, True])
def test_closing_lets_go_of_the_grid_inside(secure, monkeypatch):
    """A Ray grid inside would keep its workers."""
    closed = []
    monkeypatch.setattr("fedmodel.grids.inline.InlineGrid.close", lambda grid: closed.append(grid))
    grid = InlineGrid(ClientApp(), num_clients=4)
    plan = object()
    outside = (
        SecureGrid(grid, plan, seed=1)
        if secure
        else folding.FoldingGrid(grid, size=3, by_records=True, retry=False)
    )
    outside.close()
    assert closed == [grid]
