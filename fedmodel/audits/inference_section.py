"""What the audits of property and attribute inference tell their reader."""

from __future__ import annotations

from pandas import DataFrame

from fedmodel.runs.page import Column, Listing, Section, Table
from fedmodel.runs.words import write

__all__ = ["attribute_section", "property_section"]


def property_section(
    found: DataFrame,
    *,
    attribute: str,
    level: str,
    low: float,
    high: float,
    records: int,
    shadows: int,
) -> Section:
    """The area under the curve, without privacy and as configured."""
    auc = float(found.auc.iloc[-1])
    verdict = "hardly better than guessing" if auc < 0.6 else "far better than guessing"
    if 0.6 <= auc < 0.8:
        verdict = "better than guessing"
    return Section(
        title="Property inference",
        blocks=[
            f"Can the server tell from one update whether {write(low, 'percent')} or "
            f"{write(high, 'percent')} of a client's records have {attribute} = {level}? It trains a "
            f"classifier on the updates of {shadows} made-up clients of {records} records, and is "
            f"tried on {shadows} others. As configured the AUC is {write(auc)}: {verdict}.",
            Table(
                caption=f"Telling clients with many records of {attribute} = {level} from those with few",
                columns=[
                    Column(label="setting", kind="text"),
                    Column(
                        label="AUC",
                        meaning="chance to rank a client with many above one with few; 0.5 is guessing",
                    ),
                ],
                rows=found[["setting", "auc"]].to_numpy(object).tolist(),
            ),
            Listing(
                caption="How to read this",
                items=[
                    "Record-level differential privacy does not promise to hide what is true of many "
                    "of a client's records together; its noise may hide it or not.",
                    "Each update is of one round from the initial model; more rounds tell more.",
                ],
            ),
        ],
    )


def attribute_section(found: DataFrame, *, attribute: str, leak: float, levels: int) -> Section:
    """Balanced shares guessed right, by imputation and with the model's help."""
    number = int(found.number.min())
    # Two proportions of the smaller part that are off by a standard error of a fair coin each.
    unsure = (0.5 / number) ** 0.5
    verdict = (
        "more than chance would give"
        if leak > 2 * unsure
        else "no more than chance would give with so few records"
    )
    return Section(
        title="Attribute inference",
        blocks=[
            f"Who knows a record but for {attribute} can guess it from the other columns. Does the "
            f"model help? On its training records it adds {write(float(found.advantage[0]), 'points')}"
            f", on others {write(float(found.advantage[1]), 'points')}. The difference, "
            f"{write(leak, 'points')}, is what it tells about those it was trained on: {verdict}.",
            Table(
                caption=f"Records whose {attribute} is guessed right, every level counting the same",
                columns=[
                    Column(label="records of", kind="text"),
                    Column(label="records", kind="count"),
                    Column(
                        label="imputation",
                        kind="percent",
                        meaning="from the other columns and the label, without the model; "
                        f"guessing gives {write(1 / levels, 'percent')}",
                    ),
                    Column(label="with the model", kind="percent"),
                    Column(label="the model adds", kind="points"),
                ],
                rows=found.to_numpy(object).tolist(),
            ),
        ],
    )
