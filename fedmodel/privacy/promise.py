"""What is promised by DP-SGD at each client; the form of a promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from fedmodel.privacy.budget import ClientPlans
from fedmodel.privacy.wording import accounted, amount, count, spread_of

__all__ = ["ALWAYS_OUTSIDE", "Promise", "record_promise"]

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
ALWAYS_OUTSIDE = (
    "The number of training records of each client is public: it sets sample rate, steps and weight.",
    "Noise is drawn in floating point, whose rounding can give away a little more (Mironov 2012).",
)
OWN_TARGETS = (
    "Each client's own target of epsilon is public, as its noise tells it; where it is the smallest "
    "value in a column, it depends on the client's records."
)


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What differs between units and modes; `fedmodel.privacy.statement` makes a statement of it."""

    mode: str
    unit: str
    neighbours: str
    adversary: str
    mechanism: str
    outside: tuple[str, ...]
    assumed: tuple[str, ...] = ()  # sentences: what it rests on
    size: tuple[str, ...] = ()  # sentences: bound and noise in figures
    spent: str = ""
    accounted: str = ""
    planned: tuple[str, ...] = ()  # sentences: what clients planned for
    terms: Mapping[str, object] = field(default_factory=dict)  # figures of this unit alone


def record_promise(
    plans: ClientPlans,
    spent: Sequence[float],
    *,
    idle: int,
    accountants: Mapping[str, int],
    declined: int,
    clipping: str,
) -> Promise:
    """DP-SGD for single records: `spent` is the epsilon of each client that spent any."""
    budget = plans.budget
    targets = plans.target[plans.steps > 0].tolist() if budget.epsilon else []
    did = "told scales or trained" if plans.released else "trained"
    return Promise(
        mode="noise at each client",
        unit=UNIT,
        neighbours=NEIGHBOURS,
        adversary=ADVERSARY,
        mechanism=MECHANISM,
        outside=(*ALWAYS_OUTSIDE, *([OWN_TARGETS] if len(set(targets)) > 1 else [])),
        size=(CLIPPING.get(clipping, BOUNDED).format(clip=budget.clip),),
        spent=amount(spent, idle=idle, delta=budget.delta, did=did),
        accounted=accounted(accountants, asked=budget.accountant),
        planned=(
            *calibrated(targets),
            f"Each client planned for {count(budget.participations, 'round')}; "
            f"{count(declined, 'client')} had spent the budget before the run ended and declined.",
        ),
        terms={"clipping": clipping, "targets": spread_of(targets)},
    )


def calibrated(targets: Sequence[float]) -> list[str]:
    """What the noise was calibrated for."""
    if not targets:
        return []
    if len(set(targets)) == 1:
        return [f"Noise was calibrated for epsilon = {targets[0]:.3g} at each client."]
    return [
        f"Each client has its own target of epsilon, for which its noise was calibrated: from "
        f"{min(targets):.3g} to {max(targets):.3g}, {median(targets):.3g} at the median."
    ]
