"""Privacy: what each client spent, what is promised, and what is not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from pandas import DataFrame

from fedmodel.runs import charts
from fedmodel.runs.page import Block, Facts, Figure, Listing, Section
from fedmodel.runs.sections.common import MANY, POINTS, flat, quantiles, thinned
from fedmodel.runs.words import client_name, listed, write

if TYPE_CHECKING:
    from fedmodel.runs.report import ReportData

__all__ = ["privacy"]

NAMED = 7  # clients with a colour of their own
ROWS = 6000  # of the chart's data at most


def privacy(data: ReportData) -> Section | None:
    """The course of epsilon, its spread over clients, and the statement."""
    if not (data.statement or len(data.spent)):
        return None
    statement = data.statement or {}
    blocks: list[Block] = [
        "Differential privacy limits what anybody can learn about one record (or one client) from "
        "what leaves a client. The privacy loss ε is the limit: with or without the record, the "
        "odds of any conclusion change at most by the factor exp(ε), except with the small "
        "probability δ. Smaller is more private. What is spent adds up: ε grows whenever a client "
        "takes part."
    ]
    if len(data.spent):
        blocks.append(_spent(data))
    if len(data.epsilon):
        blocks.append(_figure(data))
    evaluation = statement.get("evaluation", {})
    blocks += _guaranteed(statement, "")
    blocks += _guaranteed(evaluation, " to records that models are evaluated on")
    if warnings := [_sentence(item) for item in statement.get("warnings", ())]:
        blocks.append(Listing(caption="Warnings", items=warnings, weight="caution"))
    terms = {**_terms(statement), **({"evaluation": _terms(evaluation)} if evaluation else {})}
    if pairs := flat(terms):
        blocks.append(Facts(pairs=pairs, caption="The terms of the guarantee", folded=True))
    return Section(title="Privacy", blocks=blocks)


def _guaranteed(statement: Mapping, whom: str) -> list[Block]:
    blocks: list[Block] = []
    if sentences := [_sentence(item) for item in statement.get("sentences", ())]:
        blocks.append(Listing(caption=f"What is guaranteed{whom}", items=sentences))
    if outside := [_sentence(item) for item in statement.get("outside", ())]:
        title = f"What lies outside the guarantee{whom}"
        blocks.append(Listing(caption=title, items=outside, weight="caution"))
    return blocks


def _terms(statement: Mapping) -> dict:
    told = ("sentences", "outside", "warnings", "evaluation")
    return {key: part for key, part in statement.items() if key not in told}


def _sentence(text: object) -> str:
    return str(text)[:1].upper() + str(text)[1:]


def _spent(data: ReportData) -> str:
    """How epsilon spreads over clients: never one number that hides the smallest client's."""
    epsilon = data.spent.epsilon
    ends = epsilon.quantile([0.0, 0.5, 1.0], interpolation="nearest")
    low, middle, high = (write(value) for value in ends)
    text = f"Every client spent ε = {high}."
    if np.isinf(epsilon).any():
        text = f"{np.isinf(epsilon).sum():,} of {len(epsilon):,} clients have no guarantee: their ε is unbounded."
    elif low != high:
        client = data.spent.sort_values("epsilon").client.iloc[-1]
        text = (
            f"Clients spent between ε = {low} and {high}, with a median of {middle}; "
            f"the most was spent at {client_name(client)}."
        )
    if data.epsilon.delta.notna().any():
        text += f" δ is {data.epsilon.delta.max():g}."
    declined = data.clients.declined.fillna(0).astype(float) if "declined" in data.clients else None
    if declined is not None and declined.gt(0).any():
        text += (
            f" {int(declined.gt(0).sum()):,} of {len(declined):,} clients declined to take part "
            f"in a round, {declined.sum():,.0f} times in all, so as not to overspend."
        )
    return text


def _figure(data: ReportData) -> Figure:
    spent = _carried_forward(data.epsilon)
    num_clients = spent.series.nunique()
    what = "privacy loss ε"
    if num_clients > MANY:
        chart = charts.bands(quantiles(thinned(spent)), kind="number")
        caption = "Line: the median client. Dark band: the middle 80% of clients. Light: all."
    elif num_clients > NAMED:
        spent = thinned(spent, most=min(POINTS, ROWS // num_clients))
        chart = charts.threads(spent, kind="number", title=what, heading="client")
        caption = "One line a client; point at a line to see whose it is."
    else:
        series = sorted(spent.series.unique())
        chart = charts.lines(thinned(spent), series=series, kind="number", title=what)
        caption = "One line a client."
    budget = (data.statement or {}).get("target_epsilon")
    if isinstance(budget, int | float) and math.isfinite(budget):
        chart = charts.with_level(chart, name="budget", value=budget, kind="number")
    accountants = data.epsilon.sort_values("round").accountant.dropna().unique().tolist()
    if accountants:
        caption += f" Computed by {listed(str(a).upper() for a in accountants)}"
        caption += ", from a looser bound to a tighter one." if len(accountants) > 1 else "."
    return Figure(
        title="Privacy spent by round",
        spec=charts.specification(chart),
        description=_spent(data),
        caption=caption,
        wide=True,
    )


def _carried_forward(epsilon: DataFrame) -> DataFrame:
    """Every client in every round: columns round, series, value; who sits out spends nothing."""
    table = epsilon.pivot_table(index="round", columns="client", values="epsilon", aggfunc="last")
    if 0 not in table.index:
        table.loc[0] = np.nan
    table = table.sort_index().ffill().fillna(0.0)
    table.columns = table.columns.astype(str)
    return table.reset_index().melt("round", var_name="series", value_name="value")
