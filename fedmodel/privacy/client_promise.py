"""What is promised to whole clients, by the noise of the server, of each client, or of all together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from fedmodel.privacy.budget import ClientPlans
from fedmodel.privacy.client_level import sensitivity
from fedmodel.privacy.promise import Promise
from fedmodel.privacy.wording import accounted, amount, count

__all__ = ["client_promise"]

UNIT = "one client with all its records"
NEIGHBOURS = {
    "central": "the client takes part or does not",
    "local": "all of the client's records are replaced by any others",
    "distributed": "all of the client's records are replaced by any others",
}
ADVERSARY = {
    "central": (
        "whoever sees the global models of all rounds, the other clients among them; not against the "
        "server, which is trusted: it sees every update"
    ),
    "local": (
        "the server, which sees every update and who took part in which round; "
        "drawing the clients at random is therefore not counted as protection"
    ),
}
ADVERSARY["distributed"] = (
    "the server, which sees the sum of each round's updates and who is in it, and follows the protocol "
    "of secure aggregation; and whoever sees the models. Clients that tell the server their noise take "
    "it out of the sum; drawing the clients at random is not counted as protection"
)
SECRET_SAMPLE = (
    "Drawing the clients at random counts as protection here, each independently (Poisson sampling): "
    "that holds only while who took part in which round stays secret. This run's folder names them "
    "(rounds.jsonl, clients.parquet, log.txt): share its model, not the folder."
)
OUTSIDE = {
    "central": (
        "The number of clients is public: with the sampling rate it is what every sum is divided by.",
    ),
    "local": (
        "The number of training records of each client is sent in the clear: it may weigh the mean.",
        "Which clients exist, and which of them took part in which round.",
    ),
}
OUTSIDE["distributed"] = OUTSIDE["local"][1:]
ALWAYS_OUTSIDE = (
    "Whether a client's training failed, and why (log.txt).",
    "Noise is drawn in floating point, whose rounding can give away a little more (Mironov 2012).",
)


def client_promise(
    plans: ClientPlans,
    spent: Sequence[float],
    *,
    idle: int,
    accountants: Mapping[str, int],
    declined: int,
    adaptive: bool,
) -> Promise:
    """Privacy of whole clients: `spent` is the epsilon of each client that spent any."""
    budget = plans.budget
    mode, rate = budget.mode or "central", float(plans.sample_rate.max())
    always = ALWAYS_OUTSIDE[:-1] if mode == "distributed" else ALWAYS_OUTSIDE  # whole numbers
    central = mode == "central"
    return Promise(
        mode=mode,
        unit=UNIT,
        neighbours=NEIGHBOURS[mode],
        adversary=ADVERSARY[mode],
        mechanism=mechanism(mode, adaptive=adaptive),
        outside=(*OUTSIDE[mode], *always),
        assumed=(SECRET_SAMPLE,) if rate < 1 else (),
        size=tuple(size_of_noise(plans, adaptive=adaptive)),
        spent=spending(mode, spent, idle=idle, delta=budget.delta),
        accounted=account_of_rounds(plans, accountants)
        if central
        else accounted(accountants, asked=budget.accountant),
        planned=()
        if central
        else (
            f"Each client planned for {count(budget.participations, 'round')}; "
            f"{count(declined, 'client')} had spent the budget before the run ended and declined.",
        ),
        terms={"sensitivity": sensitivity(budget) * budget.clip, "sample_rate": rate},
    )


def mechanism(mode: str, *, adaptive: bool) -> str:
    """What is clipped and noised, and by whom."""
    if mode == "distributed":
        return (
            "the distributed discrete Gaussian mechanism: each client clips its own update, rounds it "
            "and adds its part of the noise before secure aggregation; only the sum holds enough noise"
        )
    if mode == "local":
        return (
            "the Gaussian mechanism at each client: it clips its own update and adds Gaussian noise "
            "before the update leaves it"
        )
    said = (
        "DP-FedAvg: the server clips each client's update, adds them up with equal weights, adds "
        "Gaussian noise once and divides by the expected number of clients"
    )
    if adaptive:
        said += (
            "; the clipping bound follows a quantile of the updates' norms, by a noised count that is "
            "paid from the same budget"
        )
    return said


def size_of_noise(plans: ClientPlans, *, adaptive: bool) -> list[str]:
    """Clip, sensitivity and noise in figures."""
    clip, noise = plans.budget.clip, float(plans.noise_multiplier.max())
    if plans.budget.mode == "distributed":
        return [
            f"Updates are clipped to norm {clip:g}, so one client moves the sum by at most "
            f"{2 * clip:g} and a little for rounding; the noise of the fewest clients whose sum is "
            f"opened has standard deviation {noise * clip:.4g} or more."
        ]
    if plans.budget.mode == "local":
        return [
            f"Updates are clipped to norm {clip:g}, so one client moves its own by at most "
            f"{2 * clip:g}; the noise has standard deviation {noise * clip:.4g}."
        ]
    if adaptive:
        return [
            f"The bound starts at {clip:g}. Sum and count together cost what a sum of bound C with "
            f"noise of standard deviation {noise:.4g} C would."
        ]
    return [
        f"Updates are clipped to norm {clip:g}, so one client moves the sum by at most {clip:g}; the "
        f"noise has standard deviation {noise * clip:.4g}."
    ]


def spending(mode: str, spent: Sequence[float], *, idle: int, delta: float) -> str:
    """How much was spent: one figure for all in mode "central", a distribution in mode "local"."""
    if mode != "central":
        return amount(spent, idle=idle, delta=delta)
    if not spent:
        return "No round was finished: nothing was spent."
    if math.isinf(max(spent)):
        return "There is no guarantee: epsilon is infinite."
    return f"At delta = {delta:g}, epsilon is {max(spent):.3g}: the same for every client, asked or not."


def account_of_rounds(plans: ClientPlans, accountants: Mapping[str, int]) -> str:
    """By which accountant, over what."""
    asked = plans.budget.accountant
    said = (
        f"Accounted by {asked.upper()}, over all rounds, each at sampling rate "
        f"{float(plans.sample_rate.max()):g}."
    )
    if asked == "gdp":
        said += " It is an approximation and can understate epsilon."
    if other := [name for name in accountants if name != asked]:
        said += f" It had no answer: the looser bound of {other[0].upper()} stands."
    return said
