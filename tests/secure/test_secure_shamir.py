"""Shamir's sharing against Lagrange's formula in fractions, and against all polynomials there are."""

from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmodel.errors import FedmodelError
from fedmodel.secure.shamir import PRIME, combine, lagrange_weights, limbs_of, secret_of, split

PRIMES = [5, 7, 11, 13, 101]


def at_zero(points, values, prime):
    """The polynomial through these points at 0, by Lagrange's formula over the rationals."""
    total = Fraction(0)
    for i, x in enumerate(points):
        term = Fraction(int(values[i]))
        for j, other in enumerate(points):
            if i != j:
                term *= Fraction(other, other - x)
        total += term
    return total.numerator * pow(total.denominator, -1, prime) % prime


@given(st.data())
def test_any_threshold_of_shares_gives_the_secret_as_lagrange_does(data):
    prime = data.draw(st.sampled_from(PRIMES))
    count = data.draw(st.integers(1, min(prime - 1, 6)))
    threshold = data.draw(st.integers(1, count))
    secret = np.array(data.draw(st.lists(st.integers(0, prime - 1), min_size=1, max_size=3)))
    points = data.draw(st.permutations(range(1, prime)))[:count]
    shares = split(secret, points, threshold=threshold, prime=prime)
    for chosen in combinations(range(count), threshold):
        places = [points[i] for i in chosen]
        assert combine(shares[list(chosen)], places, prime=prime).tolist() == secret.tolist()
        for limb in range(len(secret)):
            assert at_zero(places, shares[list(chosen), limb], prime) == secret[limb]


def test_fewer_shares_fit_every_secret_equally_well():
    """With two of three shares seen, each secret has exactly one polynomial that explains them."""
    prime, seen = 7, {1: 4, 3: 2}
    explained = {
        secret: sum(
            all((secret + a * x + b * x * x) % prime == y for x, y in seen.items())
            for a, b in product(range(prime), repeat=2)
        )
        for secret in range(prime)
    }
    assert set(explained.values()) == {1}


def test_one_share_is_uniform_whatever_the_secret():
    for secret in (0, 3):
        shares = np.array([split(np.full(500, secret), [2], threshold=1, prime=7)[0]])
        assert (shares == secret).all()  # a threshold of one hides nothing
        shares = split(np.full(7000, secret), [2, 5], threshold=2, prime=7)[0]
        counts = np.bincount(shares, minlength=7)
        # chi-square with 6 degrees of freedom: beyond 35 once in 200,000
        assert ((counts - 1000) ** 2 / 1000).sum() < 35


@given(st.binary(min_size=32, max_size=32), st.integers(2, 40))
def test_keys_are_shared_in_the_large_field(secret, count):
    points = list(range(1, count + 1))
    threshold = count // 2 + 1
    shares = split(limbs_of(secret), points, threshold=threshold)
    assert shares.min() >= 0 and shares.max() < PRIME
    kept = list(range(count - threshold, count))
    assert secret_of(combine(shares[kept], [points[i] for i in kept])) == secret


def test_shares_of_different_secrets_are_not_taken_for_one():
    one, other = (split(limbs_of(bytes([n]) * 32), [1, 2, 3], threshold=3) for n in (1, 2))
    with pytest.raises(FedmodelError, match="no secret"):
        secret_of(combine(np.stack([one[0], one[1], other[2]]), [1, 2, 3]))


@pytest.mark.parametrize("points", [(0, 1), (1, 1), (1, 7), (-1, 2)])
def test_points_must_be_distinct_and_not_zero(points):
    with pytest.raises(FedmodelError, match="points of their own"):
        lagrange_weights(points, 7)


@pytest.mark.parametrize("threshold", [0, 3])
def test_a_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(FedmodelError, match="cannot be needed"):
        split(np.array([1]), [1, 2], threshold=threshold)
