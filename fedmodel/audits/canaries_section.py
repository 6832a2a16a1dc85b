"""The report's section on the canary audit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedmodel.audits.charts import overlap
from fedmodel.audits.guessing import Bound
from fedmodel.privacy import client_promise, promise
from fedmodel.privacy.budget import ClientPlans
from fedmodel.runs import charts
from fedmodel.runs.page import Block, Column, Figure, Listing, Section, Table
from fedmodel.runs.words import write

__all__ = ["Claim", "section"]

KINDS = {
    "white-box": "the server sees every update, or their sum under secure aggregation; canaries are "
    "gradients of the largest norm allowed",
    "black-box": "the final model is seen; canaries are mislabelled training records",
    "global models": "the global models of all rounds are seen, and what real clients sent; a canary "
    "is a client whose updates are longer than the bound, in a random direction each round",
    "single updates": "the server sees every update; a canary is a client that sends one of two "
    "opposite updates, longer than the bound",
    "sums of updates": "the server sees the sum of each round's noised updates, and knows what real "
    "clients sent; a canary is a client that sends one of two opposite updates, longer than the bound",
}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What is put to the test, and how: sentences, and what a coin decides, heads and tails."""

    sentences: tuple[str, ...]
    planted: str
    sides: tuple[str, str]

    @classmethod
    def of(cls, plans: ClientPlans | None) -> Claim:
        """The claim of a plan; without one, no claim, and canaries among records."""
        mode = plans.budget.mode if plans else None
        if plans is None or mode is None:
            said = _promised(promise.UNIT, promise.NEIGHBOURS, promise.ADVERSARY) if plans else ()
            return cls(
                sentences=said,
                planted="Canaries were planted among the training records of every client",
                sides=("in the training data", "left out"),
            )
        takes_part = mode == "central"
        return cls(
            sentences=_promised(
                client_promise.UNIT, client_promise.NEIGHBOURS[mode], client_promise.ADVERSARY[mode]
            ),
            planted="Canary clients joined the federation"
            if takes_part
            else "Canary clients joined the federation and sent one of two opposite updates",
            sides=("takes part", "does not") if takes_part else ("its update", "the opposite one"),
        )


def _promised(unit: str, neighbours: str, adversary: str) -> tuple[str, ...]:
    return (
        f"Put to the test is the promise to {unit}: what is released is nearly as likely when "
        f"{neighbours}.",
        f"Against {adversary}.",
    )


def section(
    bounds: Mapping[str, Bound],
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
    claim: Claim,
    upper: float,
    claimed: float,
    delta: float,
    significance: float,
    notes: Sequence[str],
) -> Section:
    """The lower bounds beside the upper one, and how well the canaries can be told apart."""
    lower = max(bound.epsilon for bound in bounds.values())
    verdict = f"The audit {'refutes' if lower > claimed else 'does not refute'} the claim of ε = "
    verdict = "Nothing was claimed." if math.isinf(claimed) else f"{verdict}{write(claimed)}."
    blocks: list[Block] = [
        *([" ".join(claim.sentences)] if claim.sentences else []),
        f"{claim.planted}, each by the toss of a "
        "fair coin. Whoever sees what was released guesses the coins. Private training makes "
        "guessing hard, so right guesses bound ε from below; the accountant bounds it from above. "
        f"The bound fails with a chance of at most {100 * significance:g}%.",
        f"At δ = {delta:g}, ε is at least {lower:.3g}; the accountant says at most {write(upper)}. "
        + verdict,
        Table(
            caption="What the guesses show",
            columns=[
                Column(label="audit", kind="text"),
                Column(label="canaries", kind="count"),
                Column(label="guesses", kind="count", meaning="the most confident ones"),
                Column(label="right", kind="percent"),
                Column(label="ε at least", kind="number"),
                Column(label="ε at most", kind="number", meaning="by the accountant"),
            ],
            rows=[
                (name, b.canaries, b.guesses, b.correct / b.guesses, b.epsilon, upper)
                for name, b in bounds.items()
            ],
            terms=[(name, KINDS[name]) for name in bounds],
        ),
        *(
            Figure(
                title=f"Scores of canaries: {name}",
                spec=charts.specification(overlap(score, inside, sides=claim.sides)),
                description=f"Mean where the coin says {claim.sides[0]} {score[inside].mean():.2f}, "
                f"else {score[~inside].mean():.2f} standard deviations.",
                caption="The farther apart, the more is given away.",
            )
            for name, (score, inside) in scores.items()
        ),
    ]
    if notes:
        blocks.append(Listing(caption="Read this with care", items=notes, weight="caution"))
    return Section(title="Canaries", blocks=blocks)
