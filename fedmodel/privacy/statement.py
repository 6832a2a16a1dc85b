"""What a run may claim about privacy: for whom, against whom, how much, and what is left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial
from statistics import median

from fedmodel.privacy.accounting import Figure
from fedmodel.privacy.budget import ClientPlans
from fedmodel.privacy.client_promise import client_promise
from fedmodel.privacy.composition import Sum
from fedmodel.privacy.promise import Promise, record_promise
from fedmodel.privacy.wording import NOISE, finite

__all__ = ["statement"]


def statement(
    plans: ClientPlans,
    figures: Sequence[Figure],
    *,
    declined: int,
    outside: Sequence[str] = (),
    clipping: str = "flat",
    adaptive: bool = False,
    total: Sum | None = None,
) -> dict[str, object]:
    """State the guarantee of a run, as numbers and as sentences, whatever unit it protects.

    `figures` is each client's final epsilon (in mode "central" the same for all), `declined` the
    number of clients that were asked after their budget was spent, `outside` sentences on what else
    of the records leaves a client, `clipping` the style in which the behaviour bounds a record's
    gradient, `adaptive` whether the bound of updates follows their norms, `total` everything that was
    released. All values fit JSON: an infinite epsilon is None.
    """
    budget = plans.budget
    paid = [figure for figure in figures if figure.epsilon > 0]
    spent = [figure.epsilon for figure in paid]
    accountants = dict(sorted(Counter(figure.accountant for figure in paid).items()))
    idle = len(figures) - len(paid)
    promise: Promise = (
        partial(client_promise, adaptive=adaptive)
        if budget.unit == "client"
        else partial(record_promise, clipping=clipping)
    )(plans, spent, idle=idle, accountants=accountants, declined=declined)
    noise = plans.noise_multiplier[plans.steps > 0]
    return {
        "mode": promise.mode,
        "unit": promise.unit,
        "neighbours": promise.neighbours,
        "adversary": promise.adversary,
        "mechanism": promise.mechanism,
        "delta": budget.delta,
        "clip": budget.clip,
        "target_epsilon": budget.epsilon,  # the largest, where clients have their own
        "noise_multiplier": {"min": float(noise.min()), "max": float(noise.max())}
        if len(noise)
        else None,
        "epsilon": {
            "min": finite(min(spent, default=0.0)),
            "median": finite(median(spent or [0.0])),
            "max": finite(max(spent, default=0.0)),
            "clients": len(paid),
            "never_trained": idle,
        },
        "accountant": budget.accountant,
        "accountants_used": accountants,
        "noise": budget.noise,
        "simulated": budget.noise == "seeded",
        "participations": budget.participations,
        "declined": declined,
        **promise.terms,
        "releases": list(total.releases) if total else [],
        "outside": list(dict.fromkeys((*promise.outside, *outside))),
        "warnings": list(plans.warnings),
        "sentences": [
            f"Protected is {promise.unit}: what is released is nearly as likely when "
            f"{promise.neighbours}.",
            f"Against {promise.adversary}.",
            *promise.assumed,
            f"By {promise.mechanism}.",
            *promise.size,
            promise.spent,
            *(total.sentences if total else []),
            promise.accounted,
            NOISE[budget.noise],
            *promise.planned,
        ],
    }
