"""Every layer on stacked parameters against one backward pass a record."""

import math
from functools import cache

import pytest
import torch
from cohort.oracle import record_gradient
from cohort.zoo import (
    CLIENTS,
    FLOATS,
    IMAGES,
    SLOTS,
    TIMES,
    TOKENS,
    UNMAPPABLE,
    VOCABULARY,
    ZOO,
    chain,
)
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import one_hot

from fedmodel.cohort import Batch, FlatModel, functional, stacked
from fedmodel.cohort.stacked import StackedModel


def make_batch(shape, dtype, present=None):
    """Different records at each client; the third client has none, and absent slots look like any."""
    if shape is TOKENS:
        x = torch.randint(0, VOCABULARY, (CLIENTS, SLOTS, TIMES))
    else:
        x = torch.randn(CLIENTS, SLOTS, shape, dtype=dtype)
    if present is None:
        present = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 0]]) == 1
    y = torch.randint(0, 2, present.shape)
    keys = torch.randint(-(2**62), 2**62, present.shape)
    return Batch(x, y, present, keys, torch.ones(CLIENTS, 1))


@cache
def problem(name, dtype):
    """A model, each client's own parameters, a batch, and every present record's gradient."""
    torch.manual_seed(5)
    make, shape = ZOO[name]
    module = make().to(dtype)
    batch = make_batch(shape, dtype)
    with torch.no_grad():
        module(batch.x[0])  # lazy layers take their size
    model = FlatModel(module)
    noise = torch.randn(CLIENTS, model.size, dtype=dtype)
    local = model.initial.to(dtype) + 0.3 * noise
    gradients = torch.zeros(CLIENTS, SLOTS, model.size, dtype=dtype)
    losses = torch.zeros(CLIENTS, SLOTS, dtype=dtype)
    for k, slot in batch.present.nonzero().tolist():
        gradients[k, slot], losses[k, slot] = record_gradient(model, local[k], batch, k, slot)
    return model, local, batch, gradients, losses


def clipped(gradients, clip):
    norms = gradients.norm(dim=-1)
    return ((clip / norms.clamp(min=1e-12)).clamp(max=1)[..., None] * gradients).sum(1)


@pytest.fixture(params=["padded", "segments"])
def layout(request, monkeypatch):
    segments = request.param == "segments"
    monkeypatch.setattr(StackedModel, "_in_segments", lambda self, batch: segments)
    return request.param


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_layer_gives_what_one_backward_pass_a_record_gives(name, dtype, layout):
    model, local, batch, gradients, losses = problem(name, dtype)
    kernel = StackedModel(model, batch.x.flatten(0, 1), local)
    close = 1e-5 if dtype == torch.float32 else 1e-10
    close = {"rtol": close, "atol": close * max(1.0, float(gradients.abs().max()))}
    total, loss = kernel.loss_sum_gradient(local, batch)
    torch.testing.assert_close(total, gradients.sum(1), **close)
    torch.testing.assert_close(loss, losses.sum(1), **close)
    largest = float(gradients.norm(dim=2).max())
    for clip in (0.01 * largest, 0.5 * largest, 2 * largest):
        found = kernel.clipped_gradient_sum(local, batch, clip=clip)
        torch.testing.assert_close(found, clipped(gradients, clip), **close)


@pytest.mark.parametrize("name", [n for n in ZOO if not n.startswith(UNMAPPABLE)][::3])
@pytest.mark.parametrize("style", ["flat", "per_layer", "automatic"])
def test_a_layer_gives_what_torch_func_gives(name, style):
    model, local, batch, gradients, _ = problem(name, torch.float64)
    kernel = StackedModel(model, batch.x.flatten(0, 1), local)
    clip = 0.5 * float(gradients.norm(dim=2).max())
    found = kernel.clipped_gradient_sum(local, batch, clip=clip, style=style)
    right = functional.clipped_gradient_sum(
        model, local, batch, clip=clip, style=style, budget=1 << 26
    )
    torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["everything", "bert", "conv2d", "tied table and matrix"])
def test_clients_in_pieces_equal_clients_together(name, monkeypatch):
    model, local, batch, _, _ = problem(name, torch.float64)
    kernel = StackedModel(model, batch.x.flatten(0, 1), local)
    together = kernel.clipped_gradient_sum(local, batch, clip=0.3)
    monkeypatch.setattr(stacked, "BATCH_ELEMENTS", 1)
    monkeypatch.setattr("fedmodel.cohort.leaves.uses.CHUNK_BYTES", 1)
    pieces = kernel.clipped_gradient_sum(local, batch, clip=0.3)
    torch.testing.assert_close(pieces, together, rtol=1e-10, atol=1e-12)
    for k in range(CLIENTS):
        some = slice(k, k + 1)
        alone = kernel.clipped_gradient_sum(local[some], batch.part(some, slice(None)), clip=0.3)
        torch.testing.assert_close(alone[0], together[k], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["mlp", "conv2d", "gru both ways", "encoder"])
def test_what_stands_in_absent_slots_does_not_matter(name, layout):
    name = "relu in place" if name == "mlp" else name
    model, local, batch, _, _ = problem(name, torch.float64)
    kernel = StackedModel(model, batch.x.flatten(0, 1), local)
    other = Batch(
        torch.where(
            batch.present.view(*batch.present.shape, *(1,) * (batch.x.dim() - 2)), batch.x, 1
        ),
        torch.where(batch.present, batch.y, 2),
        batch.present,
        batch.keys,
        batch.active,
    )
    for clip in (0.1, 1e6):
        first = kernel.clipped_gradient_sum(local, batch, clip=clip)
        second = kernel.clipped_gradient_sum(local, other, clip=clip)
        torch.testing.assert_close(first, second, rtol=1e-12, atol=1e-14)
        assert (first[2] == 0).all()  # the client without records
    torch.testing.assert_close(
        kernel.loss_sum_gradient(local, batch), kernel.loss_sum_gradient(local, other)
    )


@pytest.mark.parametrize("style", ["flat", "per_layer", "automatic"])
@pytest.mark.parametrize("name", ["encoder", "conv2d", "tied table and matrix"])
def test_one_record_moves_the_sum_by_no_more_than_the_clip(name, style):
    model, local, batch, gradients, _ = problem(name, torch.float64)
    kernel = StackedModel(model, batch.x.flatten(0, 1), local)
    clip = 0.1 * float(gradients.norm(dim=2).max())
    whole = kernel.clipped_gradient_sum(local, batch, clip=clip, style=style)
    for slot in range(SLOTS):
        fewer = batch.present.clone()
        fewer[:, slot] = False
        without = Batch(batch.x, batch.y, fewer, batch.keys, batch.active)
        moved = whole - kernel.clipped_gradient_sum(local, without, clip=clip, style=style)
        assert (moved.norm(dim=1) <= clip * (1 + 1e-9)).all()


def test_the_module_is_left_as_it_was_and_its_mode_is_followed():
    model, local, batch, _, _ = problem("dropout", torch.float64)
    before = {n: v.clone() for n, v in model.module.state_dict().items()}
    kernel = StackedModel(model, batch.x.flatten(0, 1), local)
    kernel.clipped_gradient_sum(local, batch, clip=0.3)
    predicted = model.predict(local[0], batch.x[0])
    assert all(torch.equal(v, before[n]) for n, v in model.module.state_dict().items())
    assert all(p.grad is None for p in model.module.parameters())
    assert all(type(m).__module__ != "fedmodel.cohort.leaves.linear" for m in model.module)
    torch.testing.assert_close(predicted, model.predict(local[0], batch.x[0]))
    for mode in (False, True):
        model.module.train(mode)
        kernel.loss_sum_gradient(local, batch)
        copies = [copy for copy, _ in kernel.converted.pairs]
        assert copies and all(copy.training == mode for copy in copies)


def test_frozen_parts_are_shared_and_not_copied():
    model, local, batch, _, _ = problem("frozen layers", torch.float64)
    kernel = StackedModel(model, batch.x.flatten(0, 1), local)
    copies = {id(p) for p in kernel.converted.module.parameters()}
    frozen = [p for p in model.module.parameters() if not p.requires_grad]
    assert frozen and all(id(p) in copies for p in frozen)


@st.composite
def architectures(draw):
    """Blocks that take and give vectors, images or sequences."""
    kind = draw(st.sampled_from(["vectors", "images", "sequences"]))
    number = st.integers(1, 4)
    layers, width = [], 6
    if kind == "images":
        channels, side = 2, 6
        layers.append(nn.Unflatten(1, (2, 6, 6)))
        for _ in range(draw(st.integers(1, 3))):
            groups = draw(st.sampled_from([g for g in (1, 2) if channels % g == 0]))
            out, size = groups * draw(number), draw(st.integers(1, min(3, side)))
            options = {
                "stride": draw(st.integers(1, 2)),
                "padding": draw(st.integers(0, size // 2)),
                "groups": groups,
                "bias": draw(st.booleans()),
            }
            layer = nn.Conv2d(channels, out, size, **options)
            side = (side + 2 * options["padding"] - size) // options["stride"] + 1
            norm = nn.GroupNorm(1, out) if out * side > 1 else nn.Tanh()
            layers += [layer, draw(st.sampled_from([nn.Tanh(), norm]))]
            channels = out
    elif kind == "sequences":
        layers.append(nn.Unflatten(1, (12, 6)))
        for _ in range(draw(st.integers(0, 2))):
            out = draw(number)
            layers += [nn.Linear(width, out), draw(st.sampled_from([nn.Tanh(), nn.LayerNorm(out)]))]
            width = out
    else:
        for _ in range(draw(st.integers(0, 3))):
            out = draw(number)
            layers += [nn.Linear(width, out, bias=draw(st.booleans())), nn.Tanh()]
            width = out
    return FLOATS if kind == "vectors" else IMAGES, layers


@given(
    architecture=architectures(),
    present=st.lists(st.booleans(), min_size=16, max_size=16),
    clip=st.floats(1e-3, 1e3),
    seed=st.integers(0, 2**31),
)
def test_any_small_architecture_and_any_mask(architecture, present, clip, seed):
    torch.manual_seed(seed)
    shape, layers = architecture
    mask = torch.tensor(present).view(CLIENTS, SLOTS)
    batch = make_batch(shape, torch.float64, mask)
    module = chain(*layers).double()
    with torch.no_grad():
        module(batch.x[0])
    model = FlatModel(module)
    local = model.initial.double() + 0.3 * torch.randn(CLIENTS, model.size, dtype=torch.float64)
    kernel = StackedModel(model, batch.x.flatten(0, 1), local)
    found = kernel.clipped_gradient_sum(local, batch, clip=clip)
    gradients = torch.zeros(CLIENTS, SLOTS, model.size, dtype=torch.float64)
    for k, slot in mask.nonzero().tolist():
        gradients[k, slot], _ = record_gradient(model, local[k], batch, k, slot)
    torch.testing.assert_close(found, clipped(gradients, clip), rtol=1e-9, atol=1e-11)
    total, _ = kernel.loss_sum_gradient(local, batch)
    torch.testing.assert_close(total, gradients.sum(1), rtol=1e-9, atol=1e-11)


def test_a_linear_layer_by_hand():
    """The gradient of a softmax regression is (p - e_y) x^T."""
    model = FlatModel(nn.Linear(6, 3).double())
    batch = make_batch(FLOATS, torch.float64)
    local = torch.randn(CLIENTS, model.size, dtype=torch.float64)
    kernel = StackedModel(model, batch.x.flatten(0, 1), local)
    weight, bias = model.split(local).values()
    probability = (torch.einsum("kbi,koi->kbo", batch.x, weight) + bias[:, None]).softmax(2)
    error = (probability - one_hot(batch.y, 3)) * batch.present[..., None]
    by_hand = torch.einsum("kbo,kbi->koi", error, batch.x)
    total, _ = kernel.loss_sum_gradient(local, batch)
    torch.testing.assert_close(model.split(total)["weight"], by_hand)
    torch.testing.assert_close(model.split(total)["bias"], error.sum(1))
    unbounded = kernel.clipped_gradient_sum(local, batch, clip=math.inf)
    torch.testing.assert_close(unbounded, total)
