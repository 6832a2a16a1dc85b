"""Training elsewhere than on the CPU equals training on it: on a GPU, and on a device made up for tests."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from cohort.elsewhere import Elsewhere, elsewhere
from torch import nn

from fedmodel.apps import counts_of
from fedmodel.clients.dp_sgd import dp_sgd
from fedmodel.clients.opacus import opacus_dp_sgd
from fedmodel.clients.sgd import sgd
from fedmodel.cohort import Cohort, FlatModel, LocalTraining
from fedmodel.cohort.gradients import why_functional
from fedmodel.cohort.placement import on_device
from fedmodel.models.text import text_bag
from fedmodel.rules import sample_data

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def frozen(layer):
    return layer.requires_grad_(False)


def with_frozen_bias(layer):
    layer.bias.requires_grad_(False)
    return layer


class Buffered(nn.Module):
    """With a buffer, and a layer that only `torch.func` can compute."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 2)
        self.scale = nn.Parameter(torch.ones(2))
        self.register_buffer("shift", torch.full((2,), 0.3))

    def forward(self, x):
        return self.inner(x) * self.scale + self.shift


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.output = nn.Linear(8, 2)

    def forward(self, tokens):
        return self.output(self.encoder(self.embedding(tokens)).mean(1))


MODELS = {
    "mlp": lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 2)),
    "cnn": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 2, 2)),
        nn.Conv2d(1, 4, 2, padding=1),
        nn.GroupNorm(2, 4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(4, 2),
    ),
    "frozen": lambda: nn.Sequential(
        frozen(nn.Linear(4, 6)), nn.Tanh(), with_frozen_bias(nn.Linear(6, 2))
    ),
    "functional": Buffered,
    "transformer": Encoder,
    "text": lambda: text_bag(vocabulary=50, num_classes=2, width=4),
}
BEHAVIOURS = {
    "sgd": sgd(learning_rate=0.1, batch_size=4, momentum=0.9, proximal=0.1),
    "dp_sgd": dp_sgd(learning_rate=0.1, batch_size=4, optimiser="adam"),
    "per_layer": dp_sgd(learning_rate=0.1, batch_size=4, clipping="per_layer"),
    "opacus_dp_sgd": opacus_dp_sgd(learning_rate=0.1, batch_size=4),
}


def trained(model, behaviour, data, device):
    private = behaviour.private
    training = LocalTraining(
        batch_size=4,
        num_steps=np.array([2, 3, 2, 1]),
        private=private,
        clip=0.5 if private else float("inf"),
        noise_multiplier=np.full(4, 0.7) if private else None,
    )
    cohort = Cohort(np.arange(4), data, model, training, 1, 1, {}, device)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the model that needs torch.func
        update = behaviour.train(cohort, model.initial.to(device))
    return update, cohort.training_loss


def model_and_data(name):
    torch.manual_seed(2)
    tokens = name in ("transformer", "text")
    return FlatModel(MODELS[name]()), sample_data(tokens=tokens)


def counted(model, vector, data, device):
    clients = np.arange(4)
    return counts_of(model, vector, data, partitions=clients, split="train", device=device)


@pytest.mark.parametrize("behaviour", ["sgd", "dp_sgd", "per_layer"])
@pytest.mark.parametrize("name", MODELS)
def test_no_tensor_is_left_behind(name, behaviour):
    """On a device that is made up: an operation on tensors of two devices raises."""
    model, data = model_and_data(name)
    right, loss = trained(model, BEHAVIOURS[behaviour], data, "cpu")
    with elsewhere() as device:
        there = replace(data, x=data.x.to(device), y=data.y.to(device))
        for place in (data, there):  # records that travel, and records that are there
            update, noted = trained(model, BEHAVIOURS[behaviour], place, device)
            assert isinstance(update, Elsewhere)
            torch.testing.assert_close(update.cpu(), right, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(noted.cpu(), loss, equal_nan=True)
            found = counted(model, model.initial, place, device)
    assert bool(why_functional(model)) == (name == "functional")
    expected = counted(model, model.initial, data, "cpu")
    assert torch.equal(found.confusion, expected.confusion)
    assert torch.equal(found.histogram, expected.histogram)
    torch.testing.assert_close(found.loss, expected.loss)


def test_the_made_up_device_refuses_company():
    with elsewhere() as device:
        there = torch.ones(3).to(device)
        with pytest.raises(RuntimeError, match="two devices"):
            there + torch.ones(3)
        assert (there + 1).cpu().tolist() == [2.0, 2.0, 2.0]


def test_records_stay_where_the_device_is_the_cpu():
    data = sample_data()
    assert on_device(data, "cpu") is data


@needs_gpu
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("name", ["mlp", "cnn", "frozen", "functional", "transformer"])
def test_a_gpu_equals_the_cpu(name, behaviour):
    if (name, behaviour) == ("functional", "opacus_dp_sgd"):
        pytest.skip("Opacus has no rule for a parameter of the module's own")
    model, data = model_and_data(name)
    right, _ = trained(model, BEHAVIOURS[behaviour], data, "cpu")
    update, _ = trained(model, BEHAVIOURS[behaviour], on_device(data, "cuda"), "cuda")
    assert update.is_cuda
    torch.testing.assert_close(update.cpu(), right, rtol=1e-3, atol=1e-4)
    found = counted(model, model.initial, on_device(data, "cuda"), "cuda")
    assert torch.equal(found.confusion, counted(model, model.initial, data, "cpu").confusion)


@needs_gpu
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("name", ["mlp", "cnn", "transformer"])
def test_a_gpu_in_lower_precision_is_near(name, precision):
    model, data = model_and_data(name)
    right, _ = trained(model, BEHAVIOURS["per_layer"], data, "cpu")
    lower = FlatModel(model.module, precision=precision)
    update, _ = trained(lower, BEHAVIOURS["per_layer"], on_device(data, "cuda"), "cuda")
    assert (update.cpu() - right).norm() < 0.05 * right.norm()
