"""The report's section on the canary audit."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from fedmodel.audits.charts import overlap
from fedmodel.audits.guessing import Bound
from fedmodel.runs import charts
from fedmodel.runs.page import Block, Column, Figure, Listing, Section, Table
from fedmodel.runs.words import write

__all__ = ["section"]

KINDS = {
    "white-box": "the server sees every update; canaries are gradients of the largest norm allowed",
    "black-box": "the final model is seen; canaries are mislabelled training records",
}


def section(
    bounds: Mapping[str, Bound],
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]],
    *,
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
        "Canaries were planted among the training records of every client, each by the toss of a "
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
            terms=list(KINDS.items()),
        ),
        *(
            Figure(
                title=f"Scores of {name} canaries",
                spec=charts.specification(overlap(score, inside)),
                description=f"Mean of those in the training data {score[inside].mean():.2f}, of those "
                f"left out {score[~inside].mean():.2f} standard deviations.",
                caption="The farther apart, the more is given away.",
            )
            for name, (score, inside) in scores.items()
        ),
    ]
    if notes:
        blocks.append(Listing(caption="Read this with care", items=notes, weight="caution"))
    return Section(title="Canaries", blocks=blocks)
