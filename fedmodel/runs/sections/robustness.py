"""Robustness: how the shared model fared against dishonest clients, and on worse records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pandas import DataFrame, concat

from fedmodel.runs.page import Block, Figure, Section
from fedmodel.runs.sections.common import course
from fedmodel.runs.sections.severity import severity

if TYPE_CHECKING:
    from fedmodel.runs.report import ReportData

__all__ = ["robustness"]

HONEST, DISHONEST, ALL = "honest clients", "attackers", "all clients"


def robustness(data: ReportData) -> Section | None:
    """Accuracy at the honest, how far the attackers moved the aggregate; accuracy on worse records."""
    blocks = [*_attacked(data), *severity(data)]
    return Section(title="Robustness", blocks=blocks) if blocks else None


def _attacked(data: ReportData) -> list[Block]:
    dishonest = _dishonest(data.clients)
    honest = data.rows("honest_accuracy")
    if not dishonest and not len(honest):
        return []
    number = f"{len(dishonest):,}" if dishonest else "Some"
    blocks: list[Block] = [
        f"{number} of {data.num_clients:,} clients were told to attack: they hold poisoned records "
        "or send something other than what they learned. What counts is the accuracy at the honest "
        "clients, and how far attackers moved what the server combined."
    ]
    if len(honest):
        everyone = data.rows("accuracy").assign(series=ALL)
        blocks.append(
            course(
                concat([honest.assign(series=HONEST), everyone]),
                "honest_accuracy",
                series=[HONEST, ALL] if len(everyone) else [HONEST],
                title="Accuracy under attack",
                caption="Share of the honest clients' records classified correctly, beside all.",
            )
        )
    if (shares := _shares(data, dishonest)) is not None:
        blocks.append(shares)
    return blocks


def _dishonest(clients: DataFrame) -> set[str]:
    if "dishonest" not in clients:
        return set()
    return set(clients.client[clients.dishonest.fillna(False).astype(bool)].astype(str))


def _shares(data: ReportData, dishonest: set[str]) -> Figure | None:
    """The mean share of one attacker's update by round; of one honest client's, where measured."""
    rows = data.rows("aggregate_share", scope="client", key=None).dropna(subset=["value"])
    if not len(rows):
        return None
    kind = rows.key.isin(dishonest).map({True: DISHONEST, False: HONEST})
    mean = rows.assign(series=kind).groupby(["round", "series"]).value.mean().reset_index()
    return course(
        mean,
        "aggregate_share",
        series=[s for s in (DISHONEST, HONEST) if s in set(mean.series)],
        title="One attacker's share of the aggregate",
        caption="How much the combined update changes when one attacker's update is left out, "
        "relative to its size; averaged over the attackers of the round.",
        zero=True,
    )
