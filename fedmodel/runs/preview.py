"""Who holds what, and how much clients differ, before anything is trained: as a table and a page."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fedmodel.data.records import Assignment, Records
from fedmodel.data.skew import Skew, gini, skew_of
from fedmodel.runs import charts
from fedmodel.runs.page import Block, Column, Figure, Listing, Page, Section, Table
from fedmodel.runs.sections.common import FEW
from fedmodel.runs.sections.records import STACKED, holdings
from fedmodel.runs.words import Kind, client_name, listed, write

__all__ = ["Preview", "preview", "write_preview"]

WORST = 5  # features that the table names
DRAWN = 20  # features that the page draws
MOST = 60  # clients with a bar or a column of their own
QUANTILES = {"lowest": 0.0, "10%": 0.1, "median": 0.5, "90%": 0.9, "highest": 1.0}
COLUMNS = ("by client", "lowest", "median", "highest", "mean", "by chance")


@dataclass(frozen=True, kw_only=True)
class Preview:
    """The table, what it means in sentences, and the figures behind it."""

    table: pd.DataFrame  # texts; columns COLUMNS
    sentences: tuple[str, ...]
    skew: Skew
    clients: tuple[str, ...]
    classes: tuple[str, ...]


def preview(records: Records, assignment: Assignment, *, seed: int) -> Preview:
    """Measure a partition (`fedmodel.data.skew`), and say what it means."""
    skew = skew_of(records, assignment, seed=seed)
    return Preview(
        table=_table(skew, records.classes),
        sentences=tuple(_sentences(skew, records, assignment.names)),
        skew=skew,
        clients=assignment.names,
        classes=records.classes,
    )


def _table(skew: Skew, classes: tuple[str, ...]) -> pd.DataFrame:
    def row(
        name: str, values: np.ndarray, kind: Kind, chance: float | None = None
    ) -> tuple[str, ...]:
        middle = float(np.median(values))
        told = [write(float(v), kind) for v in (values.min(), middle, values.max())]
        told.append(write(float(values.mean()), "number" if kind == "count" else kind))
        return (name, *told, "" if chance is None else write(chance, kind))

    chance = skew.by_chance
    rows = [row("records", skew.sizes, "count")]
    if len(classes) == 2:
        rows.append(row(f"share of {classes[1]!r}", skew.classes[:, 1] / skew.sizes, "percent"))
    else:
        rows.append(row("classes held", (skew.classes > 0).sum(1), "count"))
    rows.append(row("label distance", skew.label, "percent", chance["label"]))
    rows += [
        row(f"{name} distance", distance, "percent", chance[f"group {name}"])
        for name, distance in skew.groups.items()
    ]
    rows += [
        row(f"feature {name}", skew.features[name], "percent", chance[f"feature {name}"])
        for name in _worst(skew)[:WORST]
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _worst(skew: Skew) -> list[str]:
    """The features, those first that differ most beyond chance."""

    def beyond(name: str) -> float:
        return float(skew.features[name].mean()) - skew.by_chance[f"feature {name}"]

    return sorted(skew.features, key=beyond, reverse=True)


def _sentences(skew: Skew, records: Records, names: tuple[str, ...]) -> list[str]:
    sizes, number = skew.sizes, len(names)
    largest = np.sort(sizes)[-max(1, round(number / 10)) :].sum() / sizes.sum()
    said = [
        f"Quantity: {number:,} clients hold {sizes.sum():,} records. Gini coefficient "
        f"{write(gini(sizes))}, coefficient of variation {write(float(sizes.std() / sizes.mean()))}; "
        f"the largest {'tenth of the clients' if number >= 20 else 'client'} has "
        f"{write(float(largest), 'percent')}.",
        f"Labels: a client would have to exchange {write(float(skew.label.mean()), 'percent')} of its "
        "records, on average, to have the labels of all (total variation); "
        f"{write(skew.by_chance['label'], 'percent')} by chance alone, at these sizes.",
    ]
    for name, distance in skew.groups.items():
        said.append(
            f"Groups by {name}: {write(float(distance.mean()), 'percent')} on average, "
            f"{write(skew.by_chance[f'group {name}'], 'percent')} by chance alone."
        )
    worst = [
        f"{name} ({write(float(skew.features[name].mean()), 'percent')}, by chance "
        f"{write(skew.by_chance[f'feature {name}'], 'percent')})"
        for name in _worst(skew)[:3]
    ]
    said.append(
        f"Features that differ most beyond chance: {listed(worst)}. Of numbers the "
        "Kolmogorov-Smirnov distance, of words total variation."
    )
    if single := int(((skew.classes > 0).sum(1) == 1).sum()):
        said.append(f"{single:,} of {number:,} clients have records of one class only.")
    if few := int((sizes < 10).sum()):
        said.append(f"{few:,} of {number:,} clients have fewer than 10 records.")
    said.append(
        "The simulation knows these figures of records; a real server would not see them, and no "
        "differential-privacy guarantee covers them."
    )
    return said


def write_preview(found: Preview, name: str, path: Path) -> Path:
    """Write the page to `path` and return it."""
    skew, few = found.skew, len(found.clients) <= MOST
    columns = [Column(label=c, kind="written" if k else "text") for k, c in enumerate(COLUMNS)]
    label: list[Block] = [_shares(found)] if few and len(found.classes) <= STACKED else []
    label.append(_distances(found, skew.label, skew.by_chance["label"], "labels"))
    if not few or len(found.classes) > STACKED:
        label.append(_spread_of_classes(found))
    groups: list[Block] = [
        _distances(found, distance, skew.by_chance[f"group {group}"], f"groups by {group}")
        for group, distance in skew.groups.items()
    ]
    page = Page(
        title=f"{name}: who holds what",
        about=["before anything has run", f"{len(found.clients):,} clients"],
        headline=found.sentences[1],
        sections=[
            Section(
                title="Overview",
                blocks=[
                    Table(
                        caption="How clients differ",
                        columns=columns,
                        rows=found.table.to_numpy().tolist(),
                        note="Distances run from 0%, as all records together, to 100%. By chance: "
                        "the mean where the same numbers of records are dealt out at random.",
                    ),
                    Listing(caption="In words", items=list(found.sentences)),
                ],
            ),
            Section(title="Records", blocks=[holdings(_counts(found), private=False)]),
            Section(title="Labels", blocks=label),
            *([Section(title="Groups", blocks=groups)] if groups else []),
            Section(title="Features", blocks=[_heat(found)]),
        ],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.render(), encoding="utf-8")
    return path


def _counts(found: Preview) -> pd.DataFrame:
    client, label = np.nonzero(found.skew.classes)
    order = np.lexsort((client, label))  # classes in their order
    client, label = client[order], label[order]
    return pd.DataFrame(
        {
            "split": "all",
            "client": np.array(found.clients, dtype=object)[client],
            "class": np.array(found.classes, dtype=object)[label],
            "count": found.skew.classes[client, label],
        }
    )


def _shares(found: Preview) -> Figure:
    """Each client's label mix as bars of one length, by the share of the last class."""
    shares = found.skew.classes / found.skew.sizes[:, None]
    order = np.argsort(np.argsort(shares[:, -1], kind="stable"))
    cells = _counts(found)
    place = {name: k for k, name in enumerate(found.clients)}
    number = cells.client.map(place).to_numpy()
    cells["order"], cells["share"] = order[number], cells["count"] / found.skew.sizes[number]
    chart = charts.stack(
        cells.drop(columns="split"), classes=found.classes, named=len(place) <= FEW, shares=True
    )
    low, high = shares[:, -1].min(), shares[:, -1].max()
    return Figure(
        title="Mix of labels",
        spec=charts.specification(chart),
        description=f"The share of {found.classes[-1]} runs from {write(float(low), 'percent')} to "
        f"{write(float(high), 'percent')}.",
        caption=f"Each client's records by class, in the order of the share of {found.classes[-1]}.",
        wide=True,
    )


def _distances(found: Preview, distance: np.ndarray, chance: float, what: str) -> Figure:
    """How far each client is from all records: named dots, or a histogram of many."""
    title = f"Distance of {what}"
    if len(distance) <= FEW:
        frame = pd.DataFrame({"name": found.clients, "value": distance})
        chart = charts.dots(
            frame.sort_values("value", ascending=False),
            kind="percent",
            title="distance",
            heading="client",
            rule=chance,
            zero=True,
        )
    else:
        marks = {"by chance": chance, "mean": float(distance.mean())}
        chart = charts.histogram(distance.tolist(), kind="percent", title="distance", marks=marks)
    furthest = found.clients[int(distance.argmax())]
    return Figure(
        title=title,
        spec=charts.specification(chart),
        description=f"Mean {write(float(distance.mean()), 'percent')}; furthest is "
        f"{client_name(furthest)} with {write(float(distance.max()), 'percent')}.",
        caption="Total variation between a client's records and all. Dashed: the mean by chance "
        f"alone, {write(chance, 'percent')}.",
    )


def _spread_of_classes(found: Preview) -> Table:
    shares = found.skew.classes / found.skew.sizes[:, None]
    ends = np.quantile(shares, list(QUANTILES.values()), axis=0).T
    commonest = found.skew.classes.sum(0).argsort(kind="stable")[::-1][:DRAWN]
    return Table(
        caption="Share of each class over clients",
        columns=[
            Column(label="class", kind="text"),
            *(Column(label=name, kind="percent") for name in QUANTILES),
        ],
        rows=[[found.classes[k], *ends[k].tolist()] for k in sorted(commonest.tolist())],
    )


def _heat(found: Preview) -> Figure:
    """Distances of the features that differ most, by client, or by quantiles over many clients."""
    rows = _worst(found.skew)[:DRAWN]
    table = np.array([found.skew.features[name] for name in rows])
    columns = list(found.clients)
    if len(columns) > MOST:
        columns = list(QUANTILES)
        table = np.quantile(table, list(QUANTILES.values()), axis=1).T
    frame = pd.DataFrame(
        {
            "row": np.repeat(rows, len(columns)),
            "column": np.tile(columns, len(rows)),
            "value": table.ravel(),
        }
    )
    shown = "Features" if len(rows) == len(found.skew.features) else f"{len(rows)} features"
    return Figure(
        title="Distance of features",
        spec=charts.specification(charts.distances(frame, rows=rows, columns=columns)),
        description=f"{rows[0]} differs most.",
        caption=f"A stronger colour is a larger distance from all records. {shown}, those first "
        "that differ most beyond chance. Columns are "
        + ("clients." if columns == list(found.clients) else "quantiles over clients."),
        wide=True,
    )
