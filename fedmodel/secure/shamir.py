"""Shamir's secret sharing: any `threshold` shares give the secret, fewer say nothing about it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from jaxtyping import Int64

from fedmodel.errors import FedmodelError

__all__ = ["PRIME", "combine", "lagrange_weights", "limbs_of", "secret_of", "split"]

PRIME = 2**31 - 1  # products of two residues fit into int64


def split(
    secret: Int64[np.ndarray, " limbs"],
    points: Sequence[int],
    *,
    threshold: int,
    prime: int = PRIME,
) -> Int64[np.ndarray, "points limbs"]:
    """Share a secret, given as numbers below `prime` (limbs), among holders named by their points.

    1. Each limb is the constant of a polynomial of degree ``threshold - 1`` whose other coefficients
       are uniform below `prime`, from the operating system.
    2. A holder's share is the value of each limb's polynomial at the holder's point.

    Shamir, "How to share a secret", CACM 1979. Raises FedmodelError for points that are not distinct
    and in [1, prime), or a threshold outside [1, number of points].
    """
    places = _checked(points, prime)
    if not 1 <= threshold <= len(points):
        raise FedmodelError(
            f"{threshold} of {len(points)} shares cannot be needed",
            fix="Choose 1 <= threshold <= number of points.",
        )
    shares = np.zeros((len(points), len(secret)), np.int64)
    for row in _residues(threshold - 1, len(secret), prime):
        shares = (shares + row) % prime * places[:, None] % prime
    return (shares + secret) % prime


def combine(
    shares: Int64[np.ndarray, "points limbs"], points: Sequence[int], *, prime: int = PRIME
) -> Int64[np.ndarray, " limbs"]:
    """The secret's limbs from at least `threshold` shares (fewer give random numbers).

    Raises FedmodelError for points that are not distinct and in [1, prime).
    """
    weights = lagrange_weights(tuple(points), prime)
    return (weights[:, None] * shares % prime).sum(axis=0) % prime


@lru_cache(maxsize=1024)
def lagrange_weights(points: tuple[int, ...], prime: int = PRIME) -> Int64[np.ndarray, " points"]:
    """What each point's value counts in the value at 0: product over j != i of x_j / (x_j - x_i).

    >>> lagrange_weights((1, 2), 7).tolist()  # f(0) = 2 f(1) - f(2)
    [2, 6]
    """
    places = _checked(points, prime)
    above, below = np.ones_like(places), np.ones_like(places)
    for number, place in enumerate(places):
        others = np.arange(len(places)) != number
        above[others] = above[others] * place % prime
        below[others] = below[others] * ((place - places[others]) % prime) % prime
    inverse = np.array([pow(int(value), -1, prime) for value in below], np.int64)
    return above * inverse % prime


def limbs_of(secret: bytes) -> Int64[np.ndarray, " limbs"]:
    """A secret of an even number of bytes as numbers below 2^16."""
    return np.frombuffer(secret, "<u2").astype(np.int64)


def secret_of(limbs: Int64[np.ndarray, " limbs"]) -> bytes:
    """The bytes of `limbs_of`.

    Raises FedmodelError for a limb of more than 16 bits: the shares do not belong together.
    """
    if (limbs >= 2**16).any():
        raise FedmodelError(
            "these shares are of no secret that was shared",
            fix="Combine shares of one secret, at least as many as its threshold.",
        )
    return limbs.astype("<u2").tobytes()


def _checked(points: Sequence[int], prime: int) -> Int64[np.ndarray, " points"]:
    places = np.array(points, np.int64)
    if len(set(points)) < len(points) or (places < 1).any() or (places >= prime).any():
        raise FedmodelError(
            "the holders of shares need points of their own",
            fix=f"Give each holder another number from 1 to {prime - 1}.",
        )
    return places


def _residues(rows: int, columns: int, prime: int) -> Int64[np.ndarray, "rows columns"]:
    """Uniform numbers below the prime: words of as many bits, until all are small enough."""
    mask = (1 << prime.bit_length()) - 1

    def words(count: int) -> np.ndarray:
        return np.frombuffer(os.urandom(4 * count), "<u4").astype(np.int64) & mask

    drawn = words(rows * columns)
    while (large := drawn >= prime).any():
        drawn[large] = words(int(large.sum()))
    return drawn.reshape(rows, columns)
