"""Clipped sums from stacked layers against the per-sample gradients of Opacus, layer by layer."""

import warnings

import pytest
import torch
from opacus import GradSampleModule
from opacus.layers import DPGRU, DPLSTM, DPRNN, DPMultiheadAttention
from torch import nn
from torch.nn.functional import cross_entropy

from fedmodel.cohort import Batch, FlatModel
from fedmodel.cohort.stacked import StackedModel

CLIENTS, SLOTS = 2, 5


class Around(nn.Module):
    """A layer between an input and a mean over time."""

    def __init__(self, layer, width, *, embeds=False):
        super().__init__()
        # Opacus gives the vector at a padding index a gradient, torch does not: none here.
        self.embedding = nn.Embedding(7, 4) if embeds else nn.Identity()
        self.layer = layer
        self.attends = isinstance(layer, (nn.MultiheadAttention, DPMultiheadAttention))
        # Opacus takes one order of times and records for a whole model: nothing after attention.
        self.output = None if self.attends else nn.Linear(width, 3)

    def forward(self, x):
        x = self.embedding(x)
        if self.attends:
            turned = x.transpose(0, 1)
            return self.layer(turned, turned, turned)[0].mean(0)[:, :3]
        y = self.layer(x)
        return self.output((y[0] if isinstance(y, tuple) else y).mean(1))


def flat(*layers, width):
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width, 3))


FLOATS, PICTURES, LINES, CUBES, STEPS, TOKENS = (4,), (2, 6, 6), (2, 9), (2, 3, 3, 3), (5, 4), None
SAME = {
    "linear": (lambda: nn.Linear(4, 3), FLOATS),
    "linear over time": (lambda: Around(nn.Linear(4, 6), 6), STEPS),
    "conv1d": (lambda: flat(nn.Conv1d(2, 4, 3, stride=2, groups=2), width=16), LINES),
    "conv2d": (
        lambda: flat(nn.Conv2d(2, 4, 3, padding=1, stride=2), nn.ReLU(), width=36),
        PICTURES,
    ),
    "conv2d with dilation": (lambda: flat(nn.Conv2d(2, 4, 2, dilation=2), width=64), PICTURES),
    "conv3d": (lambda: flat(nn.Conv3d(2, 3, 2), width=24), CUBES),
    "layer norm": (lambda: Around(nn.LayerNorm(4), 4), STEPS),
    "group norm": (lambda: flat(nn.GroupNorm(1, 2), nn.Tanh(), width=72), PICTURES),
    "instance norm": (
        lambda: flat(nn.InstanceNorm2d(2, affine=True), nn.Tanh(), width=72),
        PICTURES,
    ),
    "embedding": (lambda: Around(nn.Tanh(), 4, embeds=True), TOKENS),
}
OWN = {
    "attention": (nn.MultiheadAttention, DPMultiheadAttention, (4, 2), {}),
    "rnn": (nn.RNN, DPRNN, (4, 3), {"batch_first": True}),
    "gru": (nn.GRU, DPGRU, (4, 3), {"batch_first": True}),
    "lstm": (nn.LSTM, DPLSTM, (4, 3, 2), {"batch_first": True, "bidirectional": True}),
}


def make_batch(shape):
    if shape is TOKENS:
        x = torch.randint(0, 7, (CLIENTS, SLOTS, 5))
    else:
        x = torch.randn(CLIENTS, SLOTS, *shape)
    present = torch.tensor([[1, 1, 1, 1, 1], [1, 0, 1, 1, 0]]) == 1
    y = torch.randint(0, 3, present.shape)
    return Batch(x, y, present, torch.zeros_like(y), torch.ones(CLIENTS, 1))


def by_opacus(module, batch, k, clip):
    """The clipped sum of one client, by the parameters' names in `module`."""
    times_first = getattr(module, "attends", False)
    wrapped = GradSampleModule(module.train(), loss_reduction="sum", batch_first=not times_first)
    present = batch.present[k]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cross_entropy(wrapped(batch.x[k][present]), batch.y[k][present], reduction="sum").backward()
    samples = {n: p.grad_sample for n, p in wrapped._module.named_parameters()}
    norms = torch.stack([g.flatten(1).norm(dim=1) for g in samples.values()]).norm(dim=0)
    factor = (clip / norms).clamp(max=1)
    return {n: torch.einsum("b,b...->...", factor, g) for n, g in samples.items()}


def ours(module, batch, clip):
    model = FlatModel(module)
    local = model.initial + 0.3 * torch.randn(CLIENTS, model.size)
    kernel = StackedModel(model, batch.x.flatten(0, 1), local)
    return model, local, model.split(kernel.clipped_gradient_sum(local, batch, clip=clip))


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("clip", [0.1, 1.0, 1e6])
def test_a_layer_that_opacus_knows(name, clip):
    make, shape = SAME[name]
    batch = make_batch(shape)
    model, local, found = ours(make(), batch, clip)
    for k in range(CLIENTS):
        other = make()
        other.load_state_dict(model.state_dict(local[k]))
        right = by_opacus(other, batch, k, clip)
        for parameter, values in found.items():
            torch.testing.assert_close(values[k], right[parameter], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("clip", [0.05, 1e6])
def test_a_layer_that_opacus_writes_anew(name, clip):
    torchs, opacus, sizes, options = OWN[name]
    width = 4 if name == "attention" else sizes[1] * (2 if options.get("bidirectional") else 1)
    batch = make_batch(STEPS)
    model, local, found = ours(Around(torchs(*sizes, **options), width), batch, clip)
    for k in range(CLIENTS):
        state = model.state_dict(local[k])
        other = Around(opacus(*sizes, **options), width)
        inner = {n[6:]: v for n, v in state.items() if n.startswith("layer.")}
        other.layer.load_state_dict(inner)
        output = {n[7:]: v for n, v in state.items() if n.startswith("output.")}
        if output:
            other.output.load_state_dict(output)
        right = by_opacus(other, batch, k, clip)
        for parameter, values in found.items():
            expected = under_torchs_name(right, parameter)
            torch.testing.assert_close(values[k], expected, rtol=1e-5, atol=1e-5)


def under_torchs_name(right, parameter):
    """Opacus' gradient of the parameter that torch calls so."""
    if "in_proj" in parameter:
        kind = parameter.rpartition("_")[2]
        return torch.cat([right[f"layer.{part}linear.{kind}"] for part in "qkv"])
    return right[parameter]
