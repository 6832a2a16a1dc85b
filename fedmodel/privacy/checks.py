"""Numbers that no accountant can take, refused in one voice: for users' calls as for what a run plans."""

from __future__ import annotations

import math
from typing import Any

from fedmodel.errors import FedmodelError

__all__ = ["check_count", "check_delta", "check_epsilon", "check_setting", "number"]


def number(name: str, value: Any) -> float:
    """One number of Python, NumPy or torch. Raises FedmodelError for text, a list, None and the like."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise FedmodelError(
            f"{name}={value!r} is not a number", fix=f"Give one number as {name}, without quotes."
        ) from None


def check_count(name: str, value: Any, what: str) -> None:
    """Raise FedmodelError unless the value is a whole number, 0 or more; `what` says of what."""
    found = number(name, value)
    if not (found >= 0 and found % 1 == 0):
        raise FedmodelError(
            f"{name}={value} is not a number of {what}",
            fix=f"Give the number of {what}, 0 or more.",
        )


def check_delta(delta: Any) -> None:
    """Raise FedmodelError unless delta is a probability above 0."""
    if not 0 < number("delta", delta) < 1:
        raise FedmodelError(
            f"delta={delta} is not between 0 and 1",
            fix="Choose a delta well below 1 / (number of records), for example 1e-5.",
        )


def check_epsilon(epsilon: Any) -> None:
    """Raise FedmodelError unless epsilon is a finite number above 0."""
    if not 0 < number("epsilon", epsilon) < math.inf:
        raise FedmodelError(
            f"epsilon={epsilon} is not above 0 and finite",
            fix="Choose an epsilon above 0: 1 is strict, 10 is loose.",
        )


def check_setting(*, sample_rate: Any, steps: Any, noise_multiplier: Any = 1.0) -> None:
    """Raise FedmodelError for a value that no step of DP-SGD can have."""
    if not 0 < number("sample_rate", sample_rate) <= 1:
        raise FedmodelError(
            f"sample_rate={sample_rate} is not above 0 and at most 1",
            fix="It is the chance of each record to be in a batch: batch size / records, at most 1.",
        )
    check_count("steps", steps, "noisy steps")
    if not 0 <= number("noise_multiplier", noise_multiplier) < math.inf:
        raise FedmodelError(
            f"noise_multiplier={noise_multiplier} is negative or not finite",
            fix="It is the noise's standard deviation divided by the clipping bound, 0 or more.",
        )
