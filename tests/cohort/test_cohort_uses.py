"""The forms of a gradient's norm and sum against the gradient written out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fedmodel.cohort.clipping import record_factors
from fedmodel.cohort.leaves.convolution import Geometry, Windows
from fedmodel.cohort.leaves.rows import Rows
from fedmodel.cohort.leaves.uses import Gathered, Outer, Summed, squared_norm

ROWS = 5
SIZES = st.integers(1, 9)


def double(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def total_of(use, rows, factor=None):
    """In a part of a vector, as in a step."""
    shape = use.row_gradients(slice(0, 1)).shape[1:]
    vectors = double(rows.num_clients, shape.numel() + 2)
    out = vectors[:, 1:-1].view(rows.num_clients, *shape)
    use.total(rows, out, factor)
    return out


def written_out(use, shape):
    return use.row_gradients(slice(0, ROWS)).reshape(ROWS, *shape)


@given(times=SIZES, n=SIZES, m=SIZES, seed=st.integers(0, 999))
def test_both_forms_of_a_matrix_norm_are_the_norm(times, n, m, seed):
    torch.manual_seed(seed)
    use = Outer(double(ROWS, times, n), double(ROWS, times, m))
    right = torch.einsum("rtn,rtm->rnm", use.g, use.a).flatten(1).square().sum(1)
    torch.testing.assert_close(use.squared_norm(), right)
    torch.testing.assert_close(use._by_products(), right)


@pytest.mark.parametrize("size", [1e-4, 1e-2, 1.0])
def test_what_cancels_does_not_make_a_norm_too_small(size):
    """Gradients of two times that nearly cancel: rounding must not hide what is left."""
    a, g = torch.randn(3, 1, 64) * 100, torch.randn(3, 1, 64) * 100
    left = torch.randn(3, 1, 64) * size
    use = Outer(torch.cat([g, left - g], 1), torch.cat([a, a], 1))
    exact = Outer(use.g.double(), use.a.double()).row_gradients(slice(None))
    right = exact.flatten(1).norm(dim=1)
    for form in (use.squared_norm, use._by_products):
        torch.testing.assert_close(form().sqrt().double(), right, rtol=0.05, atol=0)


@given(times=SIZES, length=SIZES, m=SIZES, seed=st.integers(0, 999))
def test_a_table_that_is_looked_up(times, length, m, seed):
    torch.manual_seed(seed)
    index = torch.randint(-1, length, (ROWS, times))
    use = Gathered(double(ROWS, times, m), index, length)
    hot = torch.nn.functional.one_hot(index.clamp(min=0), length) * (index >= 0)[..., None]
    right = torch.einsum("rtl,rtm->rlm", hot.double(), use.g)
    torch.testing.assert_close(written_out(use, (length, m)), right)
    torch.testing.assert_close(use.squared_norm(), right.flatten(1).square().sum(1))
    present = torch.tensor([[1, 1, 0], [1, 1, 1]]) == 1
    total = total_of(use, Rows(present, segments=True))
    torch.testing.assert_close(total, torch.stack([right[:2].sum(0), right[2:].sum(0)]))


@given(
    channels=st.sampled_from([1, 2, 4]),
    out=st.sampled_from([2, 4]),
    size=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    seed=st.integers(0, 999),
)
def test_a_kernel_that_convolves(channels, out, size, stride, padding, dilation, seed):
    torch.manual_seed(seed)
    groups = 2 if channels > 1 else 1
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    layer = nn.Conv2d(channels, out, size, bias=False, **options).double()
    x = double(ROWS, channels, 6, 7)
    g = torch.randn_like(layer(x))
    pair = {n: (v, v) for n, v in options.items() if n != "groups"}
    geometry = Geometry(size, pair["stride"], pair["padding"], pair["dilation"], groups)
    use = Windows(g, x, geometry)
    right = torch.stack(
        [
            torch.autograd.grad((layer(x[r : r + 1]) * g[r : r + 1]).sum(), layer.weight)[0]
            for r in range(ROWS)
        ]
    )
    torch.testing.assert_close(use.row_gradients(slice(0, ROWS)), right)
    torch.testing.assert_close(use.squared_norm(), right.flatten(1).square().sum(1))
    factor = torch.rand(ROWS, dtype=torch.float64)
    total = total_of(use, Rows(torch.ones(1, ROWS) == 1, segments=False), factor)
    torch.testing.assert_close(total[0], torch.einsum("r,r...->...", factor, right))


def test_uses_of_one_parameter_meet_before_the_norm_is_taken():
    one, two = (
        Outer(double(ROWS, 2, 3), double(ROWS, 2, 4)),
        Outer(double(ROWS, 1, 3), double(ROWS, 1, 4)),
    )
    looked_up = Gathered(double(ROWS, 2, 4), torch.randint(0, 3, (ROWS, 2)), 3)
    for uses in ([one, two], [one, looked_up], [looked_up, two, one], [looked_up, looked_up]):
        together = sum(written_out(use, (3, 4)) for use in uses)
        right = together.flatten(1).square().sum(1)
        torch.testing.assert_close(squared_norm(uses), right)
    sums = [Summed(double(ROWS, 2, 3)), Summed(double(ROWS, 4, 3))]
    right = (sums[0].g.sum(1) + sums[1].g.sum(1)).square().sum(1)
    torch.testing.assert_close(squared_norm(sums), right)


@given(
    squares=st.lists(st.lists(st.floats(0, 1e6), min_size=4, max_size=4), min_size=1, max_size=5),
    clip=st.floats(1e-3, 1e3),
    style=st.sampled_from(["flat", "per_layer", "automatic"]),
)
def test_a_scaled_gradient_is_no_longer_than_the_clip(squares, clip, style):
    names = ["a.weight", "a.bias", "b.weight", "b.bias", "c"]
    squared = {n: torch.tensor(s, dtype=torch.float64) for n, s in zip(names, squares)}
    factors = record_factors(squared, clip=clip, style=style)
    norm = sum(squared[n] * factors[n].square() for n in squared).sqrt()
    assert (norm <= clip * (1 + 1e-9)).all()
    if style == "per_layer":
        assert "a.bias" not in factors or torch.equal(factors["a.weight"], factors["a.bias"])
    else:
        assert all(torch.equal(f, factors["a.weight"]) for f in factors.values())
    if style == "flat":
        short = sum(squared.values()).sqrt() <= clip
        assert (factors["a.weight"][short] == 1).all()
