"""Whole numbers for updates: the promised error, no bias, no overflow at the largest sum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.errors import FedmodelError
from fedmodel.secure import Encoding, Refusal


def encoding(**changes):
    settings = {"size": 6, "bound": 1.0, "bits": 8, "num_clients": 5, "max_weight": 40}
    return Encoding(**{**settings, "max_records": 40, **changes})


@given(st.data())
def test_the_mean_is_off_by_less_than_the_promised_part_of_a_step(data):
    count = data.draw(st.integers(1, 5))
    bits, bound = data.draw(st.integers(2, 32)), data.draw(st.sampled_from([0.01, 1.0, 50.0]))
    weights = data.draw(st.lists(st.integers(1, 40), min_size=count, max_size=count))
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    code = encoding(bits=bits, bound=bound)
    delta = draw.uniform(-bound, bound, (count, 6)).astype(np.float32)
    total = np.zeros(9, code.dtype)
    for row, weight in zip(delta, weights):
        total += code.encode(row, weight=weight, records=weight, uniforms=draw.random(6))
    found = code.decode(total, clients=count)
    exact = np.average(delta.astype(np.float64), axis=0, weights=weights)
    assert (found.weight, found.records, found.clipped_share) == (sum(weights), sum(weights), 0)
    assert np.abs(found.mean - exact).max() < code.step * count / sum(weights) * (1 + 1e-6)


@pytest.mark.parametrize("bits", [8, 20, 32])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_sum_fits(bits, sign):
    """Everybody at the bound, at the largest weight, rounded up."""
    code = encoding(bits=bits)
    one = code.encode(np.full(6, 2.0 * sign), weight=40, records=40, uniforms=np.full(6, 1 - 1e-16))
    found = code.decode(sum([one] * 5, np.zeros(9, code.dtype)), clients=5)
    np.testing.assert_allclose(found.mean, sign, atol=code.step)
    assert (found.weight, found.records, found.clipped_share) == (200, 200, 1.0)


def test_the_smallest_words_that_hold_the_sum_are_taken():
    # 5 * (40 * 2^(bits - 1) + 1) < 2^31 up to 24 bits
    assert encoding(bits=24).dtype == np.uint32
    assert encoding(bits=25).dtype == np.uint64


def test_a_sum_that_fits_no_word_is_refused():
    with pytest.raises(FedmodelError, match="does not fit into 64 bits"):
        encoding(bits=32, num_clients=10**6, max_weight=10**7)


def test_rounding_is_not_biased():
    """The mean over many draws is the value: within five standard errors."""
    code = encoding(bits=2, size=20000, max_weight=1)
    draw = np.random.default_rng(1)
    words = code.encode(np.full(20000, 0.15), weight=1, records=1, uniforms=draw.random(20000))
    mean = code.decode(words, clients=1).mean
    assert set(np.unique(mean)) == {0.0, 0.5}
    assert abs(mean.mean() - 0.15) < 5 * 0.5 * (0.3 * 0.7 / 20000) ** 0.5


def test_values_beyond_the_bound_are_cut_and_counted():
    delta = np.array([3.0, -3.0, 0.5, 1.0, -1.0, 0.0])
    words = encoding().encode(delta, weight=7, records=7, uniforms=np.zeros(6))
    found = encoding().decode(words, clients=1)
    assert found.mean.tolist() == [1.0, -1.0, 0.5, 1.0, -1.0, 0.0]
    assert found.clipped_share == pytest.approx(2 / 6)


@pytest.mark.parametrize(("weight", "records"), [(41, 1), (1, 41), (-1, 1)])
def test_a_client_does_not_send_what_the_sum_has_no_room_for(weight, records):
    with pytest.raises(Refusal, match="room for 40"):
        encoding().encode(np.zeros(6), weight=weight, records=records, uniforms=np.zeros(6))
