"""bf16 on the CPU: near float32, with norms and clipped sums that are exact."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fedmodel.cohort import Batch, Cohort, FlatModel, LocalTraining, gradients
from fedmodel.cohort.precision import exact, products, unsupported
from fedmodel.cohort.trial import tried
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.rules import sample_data

CLIP = 0.2


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.embedding, self.output = nn.Embedding(20, 8), nn.Linear(8, 3)
        self.layer = kind(8, 8, batch_first=True)

    def forward(self, tokens):
        return self.output(self.layer(self.embedding(tokens))[0].mean(1))


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.output = nn.Embedding(20, 8), nn.Linear(8, 3)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.register_buffer("positions", torch.randn(1, 7, 8))

    def forward(self, tokens):
        return self.output(self.layer(self.embedding(tokens) + self.positions).mean(1))


def mlp():
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.LayerNorm(16), nn.Linear(16, 3))


def cnn():
    convolve = [nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    return nn.Sequential(*convolve, nn.Linear(36, 3))


MODELS = {
    "mlp": (mlp, (6,)),
    "cnn": (cnn, (1, 8, 8)),
    "transformer": (Encoder, None),
    "gru": (lambda: Recurrent(nn.GRU), None),
    "lstm": (lambda: Recurrent(nn.LSTM), None),
}


def problem(name):
    make, shape = MODELS[name]
    module = make()
    x = torch.randint(0, 20, (3, 5, 7)) if shape is None else torch.randn(3, 5, *shape)
    batch = Batch(
        x,
        torch.randint(0, 3, (3, 5)),
        torch.rand(3, 5) > 0.2,
        torch.zeros(3, 5).long(),
        torch.ones(3, 1),
    )
    model = FlatModel(module, precision="bf16")
    return FlatModel(module), model, model.initial + 0.1 * torch.randn(3, model.size), batch


def clipped(model, local, batch, style="flat"):
    cohort = SimpleNamespace(model=model)
    return gradients.clipped_gradient_sum(cohort, local, batch, clip=CLIP, style=style)


@pytest.mark.parametrize("name", MODELS)
def test_bf16_is_near_float32_and_is_not_it(name):
    right, model, local, batch = problem(name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no fall-back
        pairs = [
            (clipped(m, local, batch), gradients.loss_sum_gradient(m, local, batch)[0])
            for m in (model, right)
        ]
    for found, expected in zip(*pairs):
        assert found.dtype == torch.float32
        off = (found - expected).norm() / expected.norm()
        assert 1e-5 < off < 0.03


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("style", ["flat", "per_layer", "automatic"])
def test_the_norm_of_what_a_record_adds_is_exact(name, style):
    """bf16 has steps of 1/256: were sums or norms taken in it, the bound would not hold so closely."""
    _, model, local, batch = problem(name)
    for slot in range(5):
        present = torch.zeros(3, 5, dtype=torch.bool)
        present[:, slot] = True
        alone = Batch(batch.x, batch.y, present, batch.keys, batch.active)
        norms = clipped(model, local, alone, style).norm(dim=1)
        assert (norms <= CLIP * (1 + 1e-5)).all()
        if style == "flat":  # these gradients are longer than the clip: the bound is met
            torch.testing.assert_close(norms, torch.full((3,), CLIP), rtol=1e-5, atol=0)


def test_exact_rules_over_what_a_model_asks_for():
    with products("bf16", torch.device("cpu")) as lower:
        assert lower == torch.bfloat16
    with exact(), products("bf16", torch.device("cpu")) as lower:
        assert lower is None
        assert not torch.is_autocast_enabled("cpu")


class Scaled(nn.Linear):
    def __init__(self):
        super().__init__(4, 2)
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, x):
        return super().forward(x) * self.scale


def test_torch_func_knows_no_bf16():
    training = LocalTraining(batch_size=2, num_steps=np.ones(4, dtype=np.int64))
    model = FlatModel(Scaled(), precision="bf16")
    cohort = Cohort(np.array([0, 1]), sample_data(), model, training, seed=1, round=0)
    with pytest.raises(FedmodelError, match="knows no bf16"):
        tried(cohort)


def experiment(client="sgd", **engine):
    config = {
        "rounds": 1,
        "data": {"name": "heart_disease"},
        "model": {"name": "logistic"},
        "client": {"name": client, "learning_rate": 0.1},
        "engine": engine,
    }
    if client != "sgd":
        config["privacy"] = {"noise_multiplier": 1.0}
    return config


def test_tf32_is_refused_on_a_cpu():
    with pytest.raises(FedmodelError, match="tf32 is a mode of NVIDIA GPUs"):
        Experiment.read(experiment(precision="tf32"))


@pytest.mark.parametrize(
    ("known", "reason"), [({"avx512_bf16": True}, ""), ({}, "slower than float32")]
)
def test_bf16_is_refused_on_a_cpu_without_it(known, reason, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    assert reason in unsupported("bf16", "cpu")
    assert bool(unsupported("bf16", "cpu")) == bool(reason)


def test_precision_is_refused_where_it_has_no_effect(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    with pytest.raises(FedmodelError, match="no effect on opacus_dp_sgd"):
        Experiment.read(experiment("opacus_dp_sgd", precision="bf16"))


@pytest.mark.parametrize("device", ["mps", "cuda:99", "cuda"])
def test_a_device_that_is_not_there_is_refused(device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(FedmodelError, match="this machine has no device") as raised:
        Experiment.read(experiment(device=device))
    assert 'device = "cpu"' in raised.value.fix


def test_workers_are_given_their_gpu(monkeypatch):
    monkeypatch.setattr("fedmodel.combinations._cuda_devices", lambda: ("cuda", "cuda:0", "cuda:1"))
    with pytest.raises(FedmodelError, match="gives each worker its GPU"):
        Experiment.read(experiment(name="ray", device="cuda:1"))
