"""Privacy: what was promised, what it costs in noise, and what was really spent."""

from __future__ import annotations

from fedmodel.privacy.accounting import (
    Figure,
    epsilon_curve,
    epsilon_of,
    epsilon_of_clients,
    epsilon_of_history,
)
from fedmodel.privacy.calibration import noise_for, noise_for_clients

__all__ = [
    "Figure",
    "epsilon_curve",
    "epsilon_of",
    "epsilon_of_clients",
    "epsilon_of_history",
    "noise_for",
    "noise_for_clients",
]
