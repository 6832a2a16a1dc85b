"""A run in other programs' forms: read back, and drawn by others' readers."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

import fedmodel
from fedmodel.runs.export import export

CONFIG = {
    "rounds": 2,
    "seeds": [1, 2],
    "data": {"name": "heart_disease", "encode": "public", "sensitive": ["sex"]},
    "model": {"name": "logistic"},
    "client": {"name": "dp_sgd", "learning_rate": 0.3},
    "privacy": {"noise_multiplier": 1.0, "delta": 1e-3, "accountant": "rdp"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return fedmodel.run(CONFIG, out=tmp_path_factory.mktemp("runs") / "two")


def test_csv_holds_every_table(runs, tmp_path):
    export(runs.path, tmp_path / "all", form="csv")
    for name in ("metrics", "clients", "epsilon", "summary", "by_round"):
        back = pd.read_csv(
            tmp_path / "all" / f"{name}.csv", keep_default_na=False, na_values=["nan"]
        )
        ours = getattr(runs, name)
        assert list(back) == list(ours)
        assert len(back) == len(ours)
    kept = pd.read_csv(tmp_path / "all" / "metrics.csv")
    np.testing.assert_allclose(kept.value, runs.metrics.value)
    one = runs.runs[2]
    (one.path / "audits" / "guess").mkdir(parents=True)
    one.clients.to_parquet(one.path / "audits" / "guess" / "people.parquet")
    written = export(one.path, tmp_path / "one", form="csv")
    assert {file.name for file in written} == {
        "metrics.csv",
        "clients.csv",
        "epsilon.csv",
        "rounds.csv",
        "audit-guess-people.csv",
    }
    rounds = pd.read_csv(tmp_path / "one" / "rounds.csv")
    assert json.loads(rounds.trained.iloc[1]) == one.rounds.trained.iloc[1]


def test_figures_stand_alone(runs, tmp_path):
    written = export(runs.runs[1].path, tmp_path / "figures", form="svg")
    page = runs.runs[1].report.read_text()
    assert len(written) == page.count("<figcaption>") > 5
    assert written[0].name == "report-01-accuracy-by-round.svg"
    for file in written:
        text = file.read_text()
        assert ElementTree.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
        assert "var(--" not in text
    assert "#0072b2" in written[0].read_text()  # the first colour of the light theme
    both = export(runs.path, tmp_path / "both", form="svg")
    assert len(both) == runs.report.read_text().count("<figcaption>")


def test_event_files_hold_the_curves(runs, tmp_path):
    loading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    written = export(runs.path, tmp_path / "board", form="tensorboard")
    assert len(written) == 2
    events = loading.EventAccumulator(str(tmp_path / "board" / "seed-2" / "global"))
    events.Reload()
    curve = runs.runs[2].metrics.query("metric == 'loss' and scope == 'global' and split == 'test'")
    found = events.Scalars("test/loss")
    assert [event.step for event in found] == curve["round"].tolist()
    np.testing.assert_allclose([e.value for e in found], curve.value, rtol=1e-6)
    spent = events.Scalars("privacy/largest_epsilon")[-1].value
    assert spent == pytest.approx(runs.runs[2].clients.epsilon.max(), rel=1e-6)


def test_what_cannot_be_exported_is_refused(runs, tmp_path, monkeypatch):
    with pytest.raises(fedmodel.FedmodelError, match="nothing is exported as cvs") as error:
        export(runs.path, tmp_path / "new", form="cvs")
    assert "Did you mean `csv`?" in error.value.fix
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(fedmodel.FedmodelError, match="is not empty"):
        export(runs.path, tmp_path, form="csv")
    with pytest.raises(fedmodel.FedmodelError, match="holds no run"):
        export(tmp_path, tmp_path / "new", form="csv")
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as if it were not installed
    with pytest.raises(fedmodel.FedmodelError, match="is not installed") as error:
        export(runs.path, tmp_path / "new", form="tensorboard")
    assert "fedmodel[tensorboard]" in error.value.fix
    assert not (tmp_path / "new").exists()


def test_the_command_names_what_it_wrote(runs, tmp_path, monkeypatch, capsys):
    from fedmodel.cli import main

    to = tmp_path / "csv"
    monkeypatch.setattr(sys, "argv", ["fedmodel", "export", str(runs.path), "--to", str(to)])
    with pytest.raises(SystemExit) as done:
        main()
    assert done.value.code == 0
    assert str(to / "summary.csv") in capsys.readouterr().out
