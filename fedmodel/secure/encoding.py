"""Updates as whole numbers whose sum cannot overflow, and back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, UInt

from fedmodel.errors import FedmodelError
from fedmodel.secure.keys import Refusal

__all__ = ["Encoding", "Total"]

FURTHER = 3  # words after the update's: weight, records, values cut


@dataclass(frozen=True)
class Total:
    """What the server learns of a round. d parameters."""

    mean: Float[np.ndarray, " d"]  # float64, weighted by the clients' weights
    weight: int
    records: int  # training records of the clients in the sum
    clipped_share: float  # of the values of all updates: those that were cut to the range


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Fixed-point numbers in Z modulo 2^32, or 2^64 where the largest sum asks for it.

    A value of an update is cut to [-bound, bound], which spans 2^bits steps. A client sends its
    weight times its update in steps; then its weight, its number of records, and how many of its
    values were cut. All four add up over at most `num_clients` clients, whose weight and records are
    at most `max_weight` and `max_records`. There is room for twelve standard deviations of noise.

    Raises:
        FedmodelError: the largest sum does not fit into 64 bits.
    """

    size: int  # d
    bound: float
    bits: int
    num_clients: int
    max_weight: int
    max_records: int
    noise: int = 0  # standard deviation of the noise that each client adds, in steps

    def __post_init__(self) -> None:
        if self._largest >= 2**63:
            raise FedmodelError(
                f"the sum of {self.num_clients} updates of {self.bits} bits, weighted by up to "
                f"{self.max_weight}, does not fit into 64 bits",
                where="[secure_aggregation] bits",
                fix="Choose fewer bits.",
            )

    @property
    def step(self) -> float:
        """The distance of two values that can be told apart."""
        return self.bound * 2.0 ** (1 - self.bits)

    @property
    def _largest(self) -> int:
        steps = (self.max_weight << (self.bits - 1)) + 1  # rounded up once at most
        noise = math.ceil(12 * self.noise * math.sqrt(self.num_clients))
        return self.num_clients * max(steps, self.max_records, self.size) + noise

    @cached_property
    def dtype(self) -> np.dtype:
        """The words that are sent: the sum is read with a sign, so half of them is negative."""
        return np.dtype("uint32" if self._largest < 2**31 else "uint64")

    def encode(
        self,
        delta: Float[np.ndarray, " d"],
        *,
        weight: int,
        records: int,
        uniforms: Float[np.ndarray, " d"],
        noise: Int[np.ndarray, " d"] | None = None,
    ) -> UInt[np.ndarray, " words"]:
        """A client's words, before they are masked.

        Rounded at random, down to the next step or up, so that the mean is not biased: up where
        `uniforms`, in [0, 1), says so. So the decoded mean is off by less than
        ``number of clients / total weight`` steps. `noise`, in steps, is added after that; then
        nothing is said of the values that were cut.

        Raises:
            Refusal: weight or records beyond what the sum has room for.
        """
        if not 0 <= weight <= self.max_weight or not 0 <= records <= self.max_records:
            raise Refusal(f"it has {records} records; the sum has room for {self.max_records}")
        kept = np.clip(delta.astype(np.float64), -self.bound, self.bound)
        steps = np.floor(weight * (kept / self.step) + uniforms).astype(np.int64)
        cut = int((np.abs(delta) > self.bound).sum())
        if noise is not None:
            steps, cut = steps + noise, 0
        further = [weight, records, cut]
        return np.concatenate([steps, further]).astype(self.dtype)

    def decode(self, total: UInt[np.ndarray, " words"], *, clients: int) -> Total:
        """What the unmasked sum of so many clients says."""
        signed = total.view(f"int{8 * self.dtype.itemsize}").astype(np.int64)
        weight, records, cut = (int(value) for value in signed[-FURTHER:])
        mean = signed[:-FURTHER] * (self.step / max(weight, 1))
        return Total(mean, weight, records, cut / (clients * max(self.size, 1)))
