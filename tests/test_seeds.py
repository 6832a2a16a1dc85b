"""Several seeds: each run equals that of its seed alone; what was finished is never repeated."""

from __future__ import annotations

import io
import json
import shutil
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.stats
import torch
from rich.console import Console
from safetensors.torch import load_file

import fedmodel
from fedmodel.display.results import seeds_summary
from fedmodel.experiment import Experiment
from fedmodel.runs.seeds import SeedRuns
from fedmodel.seeds import Repetition

CONFIG = {
    "name": "hearts",
    "rounds": 2,
    "data": {"name": "heart_disease", "encode": "public", "sensitive": ["sex"]},
    "partition": {"name": "dirichlet", "clients": 5, "alpha": 2.0},
    "model": {"name": "logistic"},
    "client": {"name": "dp_sgd", "learning_rate": 0.3},
    "privacy": {"epsilon": 5.0, "delta": 1e-3, "accountant": "rdp"},
}
SEEDS = [4, 1, 9]


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "three"
    return fedmodel.run({**CONFIG, "seeds": SEEDS}, out=out)


def test_each_run_equals_the_run_of_its_seed_alone(three, tmp_path):
    alone = fedmodel.run(CONFIG, seed=1, out=tmp_path / "alone")
    inside = three.runs[1]
    pd.testing.assert_frame_equal(inside.metrics, alone.metrics, check_exact=True)
    pd.testing.assert_frame_equal(inside.epsilon, alone.epsilon, check_exact=True)
    pd.testing.assert_frame_equal(inside.clients, alone.clients, check_exact=True)
    ours, theirs = (load_file(r.path / "model.safetensors") for r in (inside, alone))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert inside.config == alone.config
    assert inside.manifest["data_fingerprint"] == alone.manifest["data_fingerprint"]


def test_frames_have_a_seed_and_means_have_intervals(three):
    assert isinstance(fedmodel.load(three.path), SeedRuns)
    for name in ("metrics", "clients", "epsilon", "rounds"):
        frame = getattr(three, name)
        assert frame.columns[0] == "seed"
        assert frame.seed.drop_duplicates().tolist() == SEEDS
    for name in ("metrics", "clients", "epsilon", "summary"):
        kept = pd.read_parquet(three.path / f"{name}.parquet")
        pd.testing.assert_frame_equal(kept, getattr(three, name))
    values = np.array([run.last("accuracy") for run in three.runs.values()])
    row = three.summary.query("metric == 'accuracy' and scope == 'global' and model == 'global'")
    expected = scipy.stats.ttest_1samp(values, 0.0).confidence_interval(0.95)
    assert row["mean"].item() == pytest.approx(values.mean()) == three.last("accuracy")
    assert row.low.item() == pytest.approx(expected.low)
    assert row.high.item() == pytest.approx(expected.high)
    assert row.seeds.item() == 3
    curve = three.by_round.query("metric == 'loss' and scope == 'global'")
    assert curve["round"].tolist() == [0, 1, 2]


def test_what_the_runs_release_adds_up(three):
    stated = three.manifest["privacy"]
    each = [run.manifest["privacy"]["epsilon"]["max"] for run in three.runs.values()]
    assert max(each) < stated["epsilon"] < sum(each) == pytest.approx(stated["sum"]["epsilon"])
    assert stated["sum"]["delta"] == pytest.approx(3e-3)
    text = three.report.read_text()
    assert "learns from all" in text
    assert 'href="seed-4/report.html"' in text


def test_an_interrupted_repetition_goes_on_where_it_stopped(three, tmp_path):
    repetition = Repetition.begin(Experiment.read({**CONFIG, "seeds": SEEDS}), tmp_path / "r")
    for seed, _, rounds in repetition.left():
        for finished in rounds:
            if seed == 1 and finished.number == 1:
                break  # cut off in the second seed; the third has not begun
        else:
            continue
        break
    partly = repetition.finish()
    assert not partly.manifest["finished"]
    assert list(partly.finished) == [4]
    assert "1 of 3 runs are finished" in partly.report.read_text()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "r" / "seed-4").rglob("*")}
    again = Repetition.resume(tmp_path / "r")
    seen = {seed: [r.number for r in rounds] for seed, _, rounds in again.left()}
    assert seen == {1: [2], 9: [0, 1, 2]}
    whole = again.finish()
    assert whole.manifest["finished"]
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "r" / "seed-4").rglob("*")}
    pd.testing.assert_frame_equal(whole.metrics, three.metrics, check_exact=True)
    assert list(Repetition.resume(tmp_path / "r").left()) == []


def test_a_repetition_that_ends_in_its_first_run_has_a_report(tmp_path):
    repetition = Repetition.begin(Experiment.read({**CONFIG, "seeds": [1, 2]}), tmp_path / "r")
    for _, experiment, rounds in repetition.left():
        for _ in rounds:
            experiment.stop = True  # as Ctrl-C asks it to
    runs = repetition.finish()
    assert list(runs.runs) == [1] and not runs.finished
    text = runs.report.read_text()
    assert "No run is finished yet" in text and "0 of 2 runs are finished" in text
    assert np.isnan(runs.last("accuracy")) and not len(runs.summary)
    Console(file=io.StringIO()).print(seeds_summary(runs))


def test_bounds_stay_where_a_metric_can_lie(tmp_path):
    """Of two seeds and few test records, Student's interval alone leaves [0, 1]."""
    config = {
        "rounds": 1,
        "seeds": [1, 2],
        "data": {"name": "indo_rct", "test": 0.02},
        "model": {"name": "logistic"},
        "client": {"name": "sgd", "learning_rate": 0.3},
    }
    runs = fedmodel.run(config, out=tmp_path / "r")
    found = runs.summary.query("split == 'test' and scope == 'global'").set_index("metric")
    values = runs.last_values.query("scope == 'global' and split == 'test'")
    whole = {
        name: scipy.stats.ttest_1samp(part.value, 0.0).confidence_interval(0.95)
        for name, part in values.groupby("metric")
    }
    assert any(whole[name].high > 1 for name in ("accuracy", "accuracy_worst_decile"))
    for name in ("accuracy", "accuracy_worst_decile"):
        row = found.loc[name]
        assert row.low == pytest.approx(max(0.0, whole[name].low))
        assert row.high == pytest.approx(min(1.0, whole[name].high))
    assert found.loc["loss"].low >= 0


def test_what_cannot_be_built_leaves_nothing_behind(tmp_path):
    many = {**CONFIG, "seeds": [1, 2], "partition": {"name": "iid", "clients": 5000}}
    (tmp_path / "empty").mkdir()
    for name in ("new", "empty"):
        with pytest.raises(fedmodel.FedmodelError, match=r"5,?000"):
            fedmodel.run(many, out=tmp_path / name)
    assert [p.name for p in tmp_path.iterdir()] == ["empty"]
    assert not any((tmp_path / "empty").iterdir())
    fedmodel.run({**CONFIG, "rounds": 1, "seeds": [1, 2]}, out=tmp_path / "empty")  # as good as new


def test_all_seeds_start_from_the_same_model_whatever_becomes_of_its_file(tmp_path):
    started = fedmodel.run({**CONFIG, "rounds": 1}, out=tmp_path / "first")
    shutil.copy(started.path / "model.safetensors", tmp_path / "start.safetensors")
    model = {"name": "logistic", "init": str(tmp_path / "start.safetensors")}
    config = {**CONFIG, "rounds": 1, "seeds": [1, 2], "model": model}
    whole = fedmodel.run(config, out=tmp_path / "whole")
    repetition = Repetition.begin(Experiment.read(config), tmp_path / "cut")
    left = repetition.left()
    next(next(left)[2])
    left.close()  # cut off after its first round
    shutil.copy(whole.runs[2].path / "model.safetensors", tmp_path / "start.safetensors")
    again = Repetition.resume(tmp_path / "cut")
    for _, _, rounds in again.left():
        for _ in rounds:
            pass
    pd.testing.assert_frame_equal(again.finish().metrics, whole.metrics, check_exact=True)
    (tmp_path / "start.safetensors").unlink()
    assert list(Repetition.resume(tmp_path / "cut").left()) == []


def test_records_are_loaded_once(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from fedmodel.data.medical import heart_disease\n"
        "def once():\n    '''Hearts.'''\n    open('loaded', 'a').write('x')\n"
        "    return heart_disease()\n"
    )
    (tmp_path / "e.toml").write_text(
        'rounds = 1\nseeds = [1, 2]\n[data]\nname = "mine.py:once"\n[model]\nname = "logistic"\n'
        '[client]\nname = "sgd"\nlearning_rate = 0.1\n'
    )
    monkeypatch.chdir(tmp_path)
    runs = fedmodel.run("e.toml", out="here")
    assert len(runs.finished) == 2
    assert (tmp_path / "loaded").read_text() == "x"
    assert (tmp_path / "here" / "plugins" / "mine.py").is_file()


def refused(*arguments, **keys):
    with pytest.raises(fedmodel.FedmodelError) as error:
        Experiment.read({**CONFIG, **keys}, *arguments)
    return error.value


def test_seeds_that_clash_are_refused():
    assert refused(seed=1, seeds=[1, 2]).problem == "`seed` and `seeds` are both given"
    assert "--seed" in refused({"seed": 3}, seeds=[1, 2]).where
    assert "seed 2 is listed twice" in refused(seeds=[1, 2, 2]).problem
    assert "fewer than two" in refused(seeds=[1]).problem
    assert "`seeds` cannot" in refused(seeds=[1, -2]).problem
    assert "`seeds` cannot" in refused(seeds=3).problem
    several = Experiment.read({**CONFIG, "seed": 7}, {"seeds": [1, 2]})  # the later word counts
    assert several.config.seeds == [1, 2]
    with pytest.raises(fedmodel.FedmodelError, match="several seeds, so it is several runs"):
        next(several.rounds())


def test_what_takes_one_run_says_so(three):
    with pytest.raises(fedmodel.FedmodelError, match="holds the runs of several seeds") as error:
        Experiment.resume(three.path)
    assert "seed-4" in error.value.fix
    with pytest.raises(fedmodel.FedmodelError, match="a model of its own"):
        three.model  # noqa: B018
    with pytest.raises(fedmodel.FedmodelError, match="is not empty"):
        fedmodel.run({**CONFIG, "seeds": SEEDS}, out=three.path)


def test_a_folder_of_another_version_is_refused_and_left_alone(three, tmp_path):
    run = fedmodel.run({**CONFIG, "rounds": 1}, out=tmp_path / "run")
    file = run.path / "manifest.json"
    good = json.loads(file.read_text())

    def rewritten(**changes):
        file.write_text(json.dumps({**good, **changes}))
        return {p.name: p.stat().st_mtime_ns for p in run.path.iterdir()}

    before = rewritten(format=99)
    with pytest.raises(fedmodel.FedmodelError, match="format 99"):
        fedmodel.load(run.path)
    assert before == {p.name: p.stat().st_mtime_ns for p in run.path.iterdir()}
    older = {**good["versions"], "fedmodel": "0.0.1"}
    before = rewritten(versions=older, finished=False)
    assert fedmodel.load(run.path).last("accuracy") == run.last("accuracy")
    with pytest.raises(fedmodel.FedmodelError, match=r"begun with fedmodel 0\.0\.1"):
        Experiment.resume(run.path)
    assert before == {p.name: p.stat().st_mtime_ns for p in run.path.iterdir()}
    rewritten(versions={**good["versions"], "torch": "1.0"}, finished=False)
    for _ in Experiment.resume(run.path)[1]:
        pass
    assert "torch 1.0 became" in fedmodel.load(run.path).manifest["notes"][-1]
    file.write_text("{")
    with pytest.raises(fedmodel.FedmodelError, match="manifest of this run cannot be read"):
        fedmodel.load(run.path)
    file.write_text(json.dumps(good))
    (run.path / "metrics.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(fedmodel.FedmodelError, match="table cannot be read"):
        fedmodel.load(run.path).metrics  # noqa: B018


def test_the_commands_run_show_and_resume(tmp_path, monkeypatch, capsys):
    from fedmodel.cli import main

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["fedmodel", *arguments])
        with pytest.raises(SystemExit) as done:
            main()
        said = capsys.readouterr()
        return done.value.code, " ".join((said.out + said.err).split())

    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.toml").write_text(
        'rounds = 1\nseed = 3\n[data]\nname = "heart_disease"\n[model]\nname = "logistic"\n'
        '[client]\nname = "sgd"\nlearning_rate = 0.1\n'
    )
    code, said = call("run", "e.toml", "--set", "seeds=[1,2]", "--out", "here")
    assert code == 0
    assert "seed 2" in said
    assert "mean of 2 seeds" in said
    assert "here/report.html" in said
    code, shown = call("show", "here")
    assert code == 0
    assert shown in said
    code, said = call("resume", "here")
    assert code == 0
    assert "no round is left" in said
    code, said = call("run", "e.toml", "--set", "seeds=[1,2]", "--seed", "4", "--out", "there")
    assert code == 2
    assert "`seed` and `seeds` are both given" in said
    assert not (tmp_path / "there").exists()
