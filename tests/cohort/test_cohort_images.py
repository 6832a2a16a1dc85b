"""Convolutions of images in compiled code, against one backward pass a record."""

import pytest
import torch
from cohort.oracle import held_against_single_records, record_gradient
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedmodel.cohort import Batch, FlatModel
from fedmodel.cohort.chain import Chain
from fedmodel.cohort.leaves import NotStacked

CLOSE = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.float64: {"rtol": 1e-10, "atol": 1e-10},
}


@st.composite
def images(draw):
    """A small network of convolutions, and the shape of its images."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(3, 9)), draw(st.integers(3, 9)))
    channels, *image = shape
    layers = []
    for _ in range(draw(st.integers(1, 2))):
        kernel = [draw(st.integers(1, min(3, length))) for length in image]
        stride = [draw(st.integers(1, 2)) for _ in image]
        padding = [draw(st.integers(0, size - 1)) for size in kernel]
        width = draw(st.integers(1, 4))
        bias = draw(st.booleans())
        layers.append(nn.Conv2d(channels, width, kernel, stride, padding, bias=bias))
        sizes = zip(image, kernel, stride, padding)
        image = [(length + 2 * p - k) // s + 1 for length, k, s, p in sizes]
        activation = draw(st.sampled_from([nn.ReLU, nn.Tanh, nn.Sigmoid, nn.Identity]))()
        window = tuple(draw(st.integers(1, min(3, length))) for length in image)
        ceil = draw(st.booleans())
        pool = nn.MaxPool2d(window, ceil_mode=ceil)
        layers += draw(st.sampled_from([[activation], [activation, pool], [pool, activation]]))
        if pool in layers:
            pairs = zip(image, window)
            image = [-(-length // w) if ceil else length // w for length, w in pairs]
        channels = width
    layers += [nn.Flatten(), nn.Linear(channels * image[0] * image[1], 4)]
    if draw(st.booleans()):
        layers += [nn.Tanh(), nn.Linear(4, 3)]
    return layers, shape


def problem(layers, shape, present, dtype):
    torch.manual_seed(0)
    model = FlatModel(nn.Sequential(*layers))
    number, width = present.shape
    draw = torch.Generator().manual_seed(3)
    local = model.initial.to(dtype).repeat(number, 1)
    local += 0.3 * torch.randn(local.shape, generator=draw, dtype=dtype)
    x = 2 * torch.randn(number, width, *shape, generator=draw, dtype=dtype)
    y = torch.randint(0, 3, (number, width), generator=draw)
    keys = torch.zeros(number, width, dtype=torch.int64)
    return model, local, Batch(x, y, present, keys, torch.ones(number, 1))


@given(
    network=images(),
    present=st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=3),
    share=st.floats(0.01, 2),
    dtype=st.sampled_from(list(CLOSE)),
    flat=st.booleans(),
)
def test_any_network_gives_what_one_backward_pass_a_record_gives(
    network, present, share, dtype, flat
):
    layers, shape = network
    if flat:  # records as rows of numbers
        layers = [nn.Unflatten(1, shape), *layers]
        shape = (shape[0] * shape[1] * shape[2],)
    model, local, batch = problem(layers, shape, torch.tensor(present), dtype)
    kernel = Chain(model, batch.x.flatten(0, 1), local)
    held_against_single_records(kernel, model, local, batch, share=share, close=CLOSE[dtype])


def test_the_first_of_equal_pixels_has_the_gradient():
    layers = [nn.Conv2d(1, 2, 1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)]
    model, local, batch = problem(
        layers, (1, 4, 4), torch.ones(1, 1, dtype=torch.bool), torch.float64
    )
    batch.x[:] = torch.arange(2).repeat(8).reshape(1, 4, 4)  # each window holds two largest
    kernel = Chain(model, batch.x.flatten(0, 1), local)
    right, _ = record_gradient(model, local[0], batch, 0, 0)
    torch.testing.assert_close(kernel.loss_sum_gradient(local, batch)[0][0], right)


def test_nan_is_not_hidden_by_pooling():
    layers = [nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)]
    model, local, batch = problem(
        layers, (1, 6, 6), torch.ones(1, 1, dtype=torch.bool), torch.float32
    )
    batch.x[0, 0, 0, 2, 2] = float("nan")
    gradient, loss = Chain(model, batch.x.flatten(0, 1), local).loss_sum_gradient(local, batch)
    assert gradient.isnan().any() and loss.isnan().any()


CONVOLUTION = nn.Conv2d(1, 2, 3)


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 2, 3, dilation=2), nn.Flatten(), nn.Linear(8, 2)],
        [nn.Conv2d(1, 2, 3, padding="same"), nn.Flatten(), nn.Linear(72, 2)],
        [nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), nn.Flatten(), nn.Linear(72, 2)],
        [nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, stride=1), nn.Flatten(), nn.Linear(8, 2)],
        [nn.Conv2d(1, 2, 3), nn.MaxPool2d(2, padding=1), nn.Flatten(), nn.Linear(18, 2)],
        [nn.Conv2d(1, 2, 3), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 2)],
        [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(9, 2)],
        [nn.Conv2d(1, 2, 3), nn.Flatten()],
        [CONVOLUTION, nn.ReLU(), nn.Conv2d(2, 1, 1), CONVOLUTION, nn.Flatten(), nn.Linear(8, 2)],
    ],
    ids=lambda layers: ", ".join(type(layer).__name__ for layer in layers),
)
def test_what_is_no_such_network_is_left_to_others(layers):
    model = FlatModel(nn.Sequential(*layers))
    with pytest.raises(NotStacked):
        Chain(model, torch.zeros(2, 1, 6, 6), model.initial)
