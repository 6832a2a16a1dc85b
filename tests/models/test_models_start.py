"""Warm start: the parameters of a file, whole and unchanged, or an error that says what does not fit."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import fedmodel
from fedmodel import Experiment
from fedmodel.errors import FedmodelError
from fedmodel.models.start import put_in, read_parameters

TINY = {
    "rounds": 2,
    "data": {"name": "heart_disease"},
    "model": {"name": "mlp", "hidden": [4]},
    "client": {"name": "sgd", "learning_rate": 0.5},
}


def module():
    return nn.Sequential(nn.Linear(3, 2), nn.Tanh(), nn.Linear(2, 2))


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_what_was_saved_is_put_in(suffix, tmp_path):
    saved, file = module().double().state_dict(), tmp_path / f"model{suffix}"
    save_file(saved, file) if suffix == ".safetensors" else torch.save(saved, file)
    own = module()
    put_in(own, read_parameters(file))
    for name, value in own.state_dict().items():
        torch.testing.assert_close(value, saved[name].float(), rtol=0, atol=0)


BROKEN = {
    "absent.safetensors": (None, "there is no model file"),
    "words.safetensors": (b"no model", "cannot be read as a model"),
    "words.pt": (b"no model", "cannot be read as a model"),
    "empty.pt": (b"", "cannot be read as a model"),
    "wrapped.pt": ({"state_dict": {"w": torch.zeros(1)}, "epoch": 3}, "more than named tensors"),
    "module.pt": (nn.Linear(1, 1), "cannot be read as a model"),
    "diverged.pt": ({"w": torch.tensor([1.0, torch.nan])}, "w in diverged.pt holds NaN"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_no_model_is_refused(name, tmp_path):
    what, said = BROKEN[name]
    if isinstance(what, bytes):
        (tmp_path / name).write_bytes(what)
    elif what is not None:
        torch.save(what, tmp_path / name)
    with pytest.raises(FedmodelError, match=said):
        read_parameters(tmp_path / name)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("2.bias"), "has no 2.bias"),
        (lambda s: s.update(extra=torch.zeros(1)), "holds extra"),
        (lambda s: s.update({"0.weight": torch.zeros(2, 7)}), "0.weight is 2 x 7 .* 2 x 3 here"),
    ],
)
def test_a_model_that_does_not_fit_is_refused_and_nothing_is_changed(change, said):
    own, parameters = module(), module().state_dict()
    before = {name: value.clone() for name, value in own.state_dict().items()}
    change(parameters)
    with pytest.raises(FedmodelError, match=said):
        put_in(own, parameters)
    assert all(torch.equal(before[name], value) for name, value in own.state_dict().items())


def test_a_run_starts_where_another_ended_and_goes_on_without_its_file(tmp_path):
    first = fedmodel.run(TINY, out=tmp_path / "first")
    file = tmp_path / "copy.safetensors"
    file.write_bytes((first.path / "model.safetensors").read_bytes())
    warm = {**TINY, "model": {**TINY["model"], "init": str(file)}}
    experiment = Experiment.read(warm)
    start = None
    for finished in experiment.rounds(tmp_path / "second"):
        start = finished["loss"] if finished.number == 0 else start
        if finished.number == 1:
            break
    assert start == pytest.approx(first.last("loss"), rel=1e-6)
    file.unlink()
    _, left = Experiment.resume(tmp_path / "second")
    assert [finished.number for finished in left] == [2]
    second = experiment.run
    for name, value in load_file(first.path / "model.safetensors").items():
        assert torch.equal(load_file(second.path / "init.safetensors")[name], value)
    assert second.manifest["init"]["given"] == str(file)
    folder = {**TINY, "model": {**TINY["model"], "init": str(first.path)}}
    again = fedmodel.run(folder, out=tmp_path / "again")
    assert again.manifest["init"]["hash"] == second.manifest["init"]["hash"]
    assert again.last("loss") == pytest.approx(second.last("loss"), rel=1e-6)


def test_a_private_run_says_that_its_start_is_not_covered(tmp_path):
    first = fedmodel.run(TINY, out=tmp_path / "first")
    private = {
        **TINY,
        "rounds": 1,
        "model": {**TINY["model"], "init": str(first.path)},
        "client": {"name": "dp_sgd", "learning_rate": 0.5},
        "privacy": {"epsilon": 3.0, "delta": 1e-3},
    }
    run = fedmodel.run(private, out=tmp_path / "private")
    assert any("start model" in line for line in run.manifest["privacy"]["outside"])
    cold = json.loads((first.path / "manifest.json").read_text())
    assert "init" not in cold


def test_a_start_model_of_other_data_is_refused_at_its_line(tmp_path):
    first = fedmodel.run(TINY, out=tmp_path / "first")
    (tmp_path / "e.toml").write_text(
        'rounds = 1\n[data]\nname = "breast_cancer"\n[partition]\nname = "iid"\nclients = 3\n'
        '[model]\nname = "mlp"\nhidden = [4]\ninit = "first"\n[client]\nname = "sgd"\n'
        "learning_rate = 0.1\n"
    )
    with pytest.raises(FedmodelError, match=r"weight is 4 x .* in the saved model") as error:
        Experiment.read(tmp_path / "e.toml").built  # noqa: B018
    assert "e.toml:10" in (error.value.where or "")
    assert first.path.exists()
