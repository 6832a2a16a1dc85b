"""What a run may claim about privacy: for whom, against whom, how much, and what is left out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import median

from fedmodel.privacy.accounting import Figure
from fedmodel.privacy.budget import ClientPlans

__all__ = ["ALWAYS_OUTSIDE", "statement"]

UNIT = "one training record of one client"
NEIGHBOURS = "the record is added or removed"
ADVERSARY = (
    "the server, which sees every update and who took part in which round; "
    "drawing the clients at random is therefore not counted as protection"
)
MECHANISM = (
    "DP-SGD: each step draws every record independently (Poisson sampling), clips each record's "
    "gradient, and adds Gaussian noise to their sum"
)
BOUNDED = "The norm of each record's gradient is bounded by {clip:g}."  # in a style of the behaviour's own
CLIPPING = {
    "flat": "Gradients are clipped to norm {clip:g}.",
    "per_layer": (
        "Each layer's part of a gradient is clipped by itself, so that the norm of the whole is "
        "{clip:g} at most."
    ),
    "automatic": "Each gradient is scaled to a norm below {clip:g}, small ones up (AUTO-S).",
}
NOISE = {
    "seeded": (
        "Simulated: the noise comes from the experiment's seed, so that the run can be repeated; "
        "whoever holds the seed can subtract it."
    ),
    "secure": "The noise comes from a cryptographic source and cannot be drawn again.",
}
ALWAYS_OUTSIDE = (
    "The number of training records of each client is public: it sets sample rate, steps and weight.",
    "Noise is drawn in floating point, whose rounding can give away a little more (Mironov 2012).",
)
OWN_TARGETS = (
    "Each client's own target of epsilon is public, as its noise tells it; where it is the smallest "
    "value in a column, it depends on the client's records."
)


def statement(
    plans: ClientPlans,
    figures: Sequence[Figure],
    *,
    declined: int,
    outside: Sequence[str] = (),
    clipping: str = "flat",
) -> dict[str, object]:
    """State the guarantee of a run that trained with DP-SGD, as numbers and as sentences.

    `figures` is each client's final epsilon, `declined` the number of clients that were asked
    after their budget was spent, `outside` sentences on what else of the records leaves a client,
    `clipping` the style in which the behaviour bounds a record's gradient.
    All values fit JSON: an infinite epsilon is None.
    """
    budget = plans.budget
    trained = [figure for figure in figures if figure.epsilon > 0]
    spent = [figure.epsilon for figure in trained]
    accountants = dict(sorted(Counter(figure.accountant for figure in trained).items()))
    noise = plans.noise_multiplier[plans.steps > 0]
    targets = plans.target[plans.steps > 0].tolist() if budget.epsilon else []
    own = [OWN_TARGETS] if len(set(targets)) > 1 else []
    left_out = list(dict.fromkeys((*ALWAYS_OUTSIDE, *own, *outside)))
    return {
        "mode": "noise at each client",
        "unit": UNIT,
        "neighbours": NEIGHBOURS,
        "adversary": ADVERSARY,
        "mechanism": MECHANISM,
        "delta": budget.delta,
        "clip": budget.clip,
        "clipping": clipping,
        "target_epsilon": budget.epsilon,  # the largest, where clients have their own
        "targets": spread_of(targets),
        "noise_multiplier": {"min": float(noise.min()), "max": float(noise.max())}
        if len(noise)
        else None,
        "epsilon": {
            "min": finite(min(spent, default=0.0)),
            "median": finite(median(spent or [0.0])),
            "max": finite(max(spent, default=0.0)),
            "clients": len(trained),
            "never_trained": len(figures) - len(trained),
        },
        "accountant": budget.accountant,
        "accountants_used": accountants,
        "noise": budget.noise,
        "simulated": budget.noise == "seeded",
        "participations": budget.participations,
        "declined": declined,
        "outside": left_out,
        "warnings": list(plans.warnings),
        "sentences": [
            f"Protected is {UNIT}: what leaves the client is nearly as likely when {NEIGHBOURS}.",
            f"Against {ADVERSARY}.",
            f"By {MECHANISM}. {CLIPPING.get(clipping, BOUNDED).format(clip=budget.clip)}",
            amount(spent, idle=len(figures) - len(spent), delta=budget.delta),
            accounted(accountants, asked=budget.accountant),
            NOISE[budget.noise],
            *planned(targets),
            f"Each client planned for {count(budget.participations, 'round')}; "
            f"{count(declined, 'client')} had spent the budget before the run ended and declined.",
        ],
    }


def planned(targets: Sequence[float]) -> list[str]:
    """What the noise was calibrated for."""
    if not targets:
        return []
    if len(set(targets)) == 1:
        return [f"Noise was calibrated for epsilon = {targets[0]:.3g} at each client."]
    return [
        f"Each client has its own target of epsilon, for which its noise was calibrated: from "
        f"{min(targets):.3g} to {max(targets):.3g}, {median(targets):.3g} at the median."
    ]


def spread_of(values: Sequence[float]) -> dict[str, float] | None:
    """Least, median and largest; None of nothing."""
    if not values:
        return None
    return {"min": min(values), "median": median(values), "max": max(values)}


def amount(spent: Sequence[float], *, idle: int, delta: float) -> str:
    """How much was spent, over the clients that trained."""
    if not spent:
        return "No client trained: nothing was spent."
    if math.isinf(max(spent)):
        unprotected = sum(map(math.isinf, spent))
        return f"There is no guarantee for {count(unprotected, 'client')}: epsilon is infinite."
    said = (
        f"At delta = {delta:g}, epsilon is {max(spent):.3g} at the client that spent most, "
        f"{median(spent):.3g} at the median and {min(spent):.3g} at the least, of "
        f"{count(len(spent), 'client')} that trained."
    )
    return f"{said} {count(idle, 'client')} never trained and spent nothing." if idle else said


def accounted(accountants: dict[str, int], *, asked: str) -> str:
    """By which accountant, and where another one had to answer."""
    said = f"Accounted by {asked.upper()}, over all rounds that a client took part in."
    if asked == "gdp":
        said += " It is an approximation and can understate epsilon."
    for other, clients in accountants.items():
        if other != asked:
            said += (
                f" For {count(clients, 'client')} it had no answer: there the looser bound of "
                f"{other.upper()} stands."
            )
    return said


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
