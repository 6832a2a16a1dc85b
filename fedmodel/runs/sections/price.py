"""The price of federation and of privacy: the shared model beside the same model without them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pandas import DataFrame

from fedmodel.runs import charts
from fedmodel.runs.page import Block, Column, Figure, Section, Table
from fedmodel.runs.sections.common import model_name
from fedmodel.runs.sections.learning import MEASURES
from fedmodel.runs.words import MODELS, listed, metric, write

if TYPE_CHECKING:
    from fedmodel.runs.report import ReportData

__all__ = ["price"]

COMPARED = (*MEASURES, "accuracy_worst_decile")
GAP = "demographic_parity_difference"


def price(data: ReportData) -> Section | None:
    """Sentences, a chart and a table; only where a reference was trained."""
    models = [model for model in MODELS if not math.isnan(data.value(data.lead, model=model))]
    if len(models) < 2 or "global" not in models:
        return None
    told = _differences(data, models)
    sentences: list[Block] = [" ".join(told)] if told else []
    return Section(
        title="What did federation and privacy cost or bring?",
        blocks=[*sentences, _figure(data, models), _table(data, models)],
    )


def _differences(data: ReportData, models: list[str]) -> list[str]:
    """What each step away from pooled records costs or brings, in sentences."""
    what = metric(data.lead)
    if what.kind != "percent":  # the sentences speak of percentage points
        return []
    value = {model: data.value(data.lead, model=model) for model in models}
    sentences = []
    federated = "non_private" if "non_private" in models else "global"
    if "pooled" in models:
        sentences.append(
            "Leaving the records where they are, instead of pooling them, "
            f"{_change(value[federated] - value['pooled'])} of {what.label}."
        )
    if "non_private" in models:
        change = _change(value["global"] - value["non_private"])
        sentences.append(f"Clipping and noise, which make it private, {change}.".replace("costs", "cost").replace("brings", "bring"))  # fmt: skip
    if "local" in models:
        change = _change(value["global"] - value["local"])
        sentences.append(
            f"Training together instead of each client alone {change}{_winners(data)}."
        )
    return sentences


def _change(difference: float) -> str:
    if abs(difference) < 0.0005:
        return "changes less than 0.05 points"
    return f"{'brings' if difference > 0 else 'costs'} {write(abs(difference), 'points')}"


def _winners(data: ReportData) -> str:
    """How many clients are better off in the federation than alone."""
    both = data.by_client(data.lead).merge(data.by_client(data.lead, model="local"), on="client")
    both = both.dropna()
    if not len(both):
        return ""
    better = int((both.value_x > both.value_y).sum())
    return f"; {better:,} of {len(both):,} clients are better off together"


def _figure(data: ReportData, models: list[str]) -> Figure:
    what = metric(data.lead)
    values = [data.value(data.lead, model=model) for model in models]
    frame = DataFrame({"name": [model_name(model) for model in models], "value": values})
    ends = [data.by_client(data.lead, model=m).value.quantile([0.1, 0.9]).tolist() for m in models]
    with_bars = data.num_clients > 4 and not np.isnan(ends).any()
    if with_bars:
        frame["low"], frame["high"] = zip(*ends)
    chart = charts.dots(frame, kind=what.kind, title=what.label, heading="model")
    return Figure(
        title=f"{what.label.capitalize()} of each model",
        spec=charts.specification(chart),
        description=listed(f"{n} {write(v, what.kind)}" for n, v in zip(frame.name, values)) + ".",
        caption="Dots: all records together."
        + (" Bars: the middle 80% of clients." if with_bars else ""),
        wide=True,
    )


def _table(data: ReportData, models: list[str]) -> Table:
    def value(name: str, model: str) -> float:
        return (
            data.largest_gap(name, model=model)[1] if name == GAP else data.value(name, model=model)
        )

    cells = {name: [value(name, model) for model in models] for name in (*COMPARED, GAP)}
    shown = {name: column for name, column in cells.items() if not np.isnan(column).all()}
    return Table(
        caption="The same model, trained in other ways",
        columns=[
            Column(label="model", kind="text"),
            *(
                Column(label=metric(n).label, kind=metric(n).kind, meaning=_meaning(n))
                for n in shown
            ),
        ],
        rows=[[model_name(m), *row] for m, row in zip(models, zip(*shown.values()))],
        terms=[MODELS[model] for model in models],
    )


def _meaning(name: str) -> str:
    """Only what the section on learning has not explained already."""
    return "" if name in MEASURES else metric(name).meaning
