"""Data: who holds which records, where they come from, and what to be careful about."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pandas import DataFrame

from fedmodel.runs import charts
from fedmodel.runs.page import Block, Column, Facts, Figure, Listing, Section, Table
from fedmodel.runs.sections.common import FEW
from fedmodel.types import SPLITS

if TYPE_CHECKING:
    from fedmodel.runs.report import ReportData

__all__ = ["holdings", "records"]

STACKED = 7  # classes that have a colour each; above, a heat map
CLASSES = 50  # classes drawn at most
DRAWN = 240  # clients drawn at most
CELLS = 6000  # clients times classes drawn at most


def records(data: ReportData) -> Section | None:
    """The partition, the card of the data set, and its cautions."""
    blocks: list[Block] = []
    if len(data.partition):
        blocks += [
            holdings(data.partition, private=bool(data.statement)),
            _sizes(data.partition),
        ]
    card = data.card
    pairs = {
        "Data set": card.title or card.name,
        "Source": card.source,
        "Licence": card.licence,
        "Please cite": card.citation,
    }
    blocks.append(Facts(pairs=[(name, text) for name, text in pairs.items() if text]))
    if cautions := [text for text in (card.harms, *card.cautions) if text]:
        blocks.append(Listing(caption="Handle with care", items=cautions, weight="caution"))
    return Section(title="Data", blocks=blocks)


def holdings(partition: DataFrame, *, private: bool) -> Figure:
    """Records by client and class, largest client first: training records, where there are splits.

    `partition` has the columns split, client, class, count.
    """
    split = "train" if "train" in set(partition.split) else str(partition.split.iloc[0])
    rows = partition[partition.split.eq(split)].astype({"client": str, "class": str})
    classes = list(dict.fromkeys(rows["class"]))
    table = rows.pivot_table(
        index="client", columns="class", values="count", aggfunc="sum", fill_value=0
    )
    sizes = table.sum(axis=1).sort_values(ascending=False, kind="stable")
    shown = classes
    if len(classes) > CLASSES:
        shown = table.sum().sort_values(ascending=False, kind="stable").index[:CLASSES].tolist()
    drawn = _evenly(sizes.index.tolist(), most=min(DRAWN, CELLS // len(shown)))
    which = {"train": "training records", "all": "records"}.get(split, f"{split} records")
    caption = f"The {which} of each client, by class"
    if len(classes) <= STACKED:
        caption += ", largest client first."
    else:
        commonest = table.loc[drawn, shown].idxmax(axis=1).map(shown.index)
        drawn = commonest.sort_values(kind="stable").index.tolist()
        caption += (
            ". A column is a client, and a stronger colour a larger share of its records; clients "
            "stand in the order of their commonest class."
        )
    if len(drawn) < len(sizes):
        caption += f" {len(drawn)} of {len(sizes):,} clients are drawn, evenly chosen by size."
    if len(shown) < len(classes):
        caption += f" The {len(shown)} commonest of {len(classes):,} classes."
    if private:
        caption += " The simulation knows these counts; a real server would not see them."
    cells = (
        table.loc[drawn, shown].reset_index().melt("client", var_name="class", value_name="count")
    )
    cells = cells[cells["count"] > 0]
    cells["order"] = cells.client.map(drawn.index)
    cells["share"] = cells["count"] / cells.client.map(sizes)
    draw: Callable[..., charts.Drawn] = charts.stack if len(classes) <= STACKED else charts.heat
    return Figure(
        title="Who holds which records",
        spec=charts.specification(draw(cells, classes=shown, named=len(drawn) <= FEW)),
        description=f"{len(sizes):,} clients with {sizes.min():,} to {sizes.max():,} records, "
        f"{len(classes):,} classes.",
        caption=caption,
        wide=True,
    )


def _evenly(clients: list[str], *, most: int) -> list[str]:
    """At most `most` of the clients, evenly spaced, with the first and the last."""
    if len(clients) <= most:
        return clients
    step = (len(clients) - 1) / (most - 1)
    return [clients[round(place * step)] for place in range(most)]


def _sizes(partition: DataFrame) -> Table:
    """How many records each split has, and how they spread over clients."""
    sizes = partition.groupby(["split", "client"])["count"].sum()
    rows = [
        [split, sizes[split].sum(), sizes[split].min(), sizes[split].median(), sizes[split].max()]
        for split in SPLITS
        if split in sizes.index.get_level_values("split") and sizes[split].sum()
    ]
    return Table(
        caption="Records by split",
        columns=[
            Column(label="split", kind="text"),
            Column(label="all clients", kind="count"),
            Column(label="smallest client", kind="count"),
            Column(label="median client", kind="count"),
            Column(label="largest client", kind="count"),
        ],
        rows=rows,
    )
