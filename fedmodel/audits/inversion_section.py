"""What the gradient inversion audit tells its reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
from jaxtyping import Float
from pandas import DataFrame
from torch import Tensor

from fedmodel.runs import style
from fedmodel.runs.charts import Drawn, specification
from fedmodel.runs.page import Block, Column, Figure, Listing, Pictures, Section, Table
from fedmodel.runs.style import COLOURS, DASHES
from fedmodel.runs.words import Kind, client_name, write

__all__ = ["section"]

ATTACKS = {
    "bayes": "squared distance of gradients, weighed against how usual a record is",
    "dlg": "squared distance of gradients, labels searched for as well (DLG)",
    "idlg": "squared distance of gradients, labels inferred (iDLG)",
    "cosine": "direction of gradients, labels inferred",
    "closed_form": "quotients of the first layer's gradients",
}
RECORDS_SHOWN = 2  # of a table, side by side with their reconstructions


def section(
    errors: DataFrame,
    *,
    shown: Mapping[str, Float[Tensor, "V p"]] | Mapping[str, DataFrame],
    image: tuple[int, int] | None,
    client: str,
    num_records: int,
    settings: Sequence[str],
    attack: str,
) -> Section:
    """Errors by setting and batch size, in figures and a table; originals beside reconstructions."""
    smallest = int(errors.batch_size.min())
    first = errors[errors.batch_size.eq(smallest)].set_index("setting")
    own, guess = first.loc[settings[-1]], first.loc["guess: the mean"]
    blocks: list[Block] = [
        "Whoever reads a client's update after one local step, as the server does, tries to "
        "reconstruct the records in the batch: it searches for records whose gradient, with the same "
        f"clipping, is like the one it saw. The client is {client_name(client)}, with "
        f"{write(num_records, 'count')} training records.",
        _verdict(settings[-1], own, guess, smallest, num_records),
        _figure(
            errors,
            settings,
            value="rmse",
            kind="number",
            title="Reconstruction error",
            caption="In standard deviations of each numeric column (root mean square). The higher, the "
            "less is recovered; the dashed guesses have seen no update.",
        ),
        _figure(
            errors,
            settings,
            value="identified",
            kind="percent",
            title="Records identified",
            caption="Share of reconstructions that are nearer to their original than to any other record "
            f"of the client. By chance: {write(1 / num_records, 'percent')}.",
        ),
        _table(errors, image is not None),
    ]
    if image:
        lines = [
            (name, [picture.view(image).numpy() for picture in pictures[:8]])
            for name, pictures in shown.items()
            if isinstance(pictures, Tensor)
        ]
        blocks.append(
            Pictures(
                caption="Originals and their reconstructions",
                lines=lines,
                note=f"One of each batch of {smallest}, not chosen by how well they come out.",
            )
        )
    else:
        frames = {name: frame for name, frame in shown.items() if isinstance(frame, DataFrame)}
        number = min(RECORDS_SHOWN, *map(len, frames.values()))
        blocks += [_side_by_side(frames, record) for record in range(number)]
    blocks.append(
        Listing(
            caption="How to read this",
            items=[
                f"The attack: {ATTACKS[attack]}.",
                "An attack that fails proves nothing: a better one may succeed. The accountant's "
                "epsilon holds for all of them; where this one succeeds, the records are not safe.",
                "Only one step from the initial model is attacked, with a batch size that the attacker "
                "knows. More local steps make it harder, many rounds easier.",
                "Noise is what a client of this size gets for the whole run, so that a larger batch, "
                "which meets each record more often, has more of it.",
            ],
        )
    )
    return Section(title="Gradient inversion", blocks=blocks)


def _verdict(name: str, own, guess, batch_size: int, num_records: int) -> str:
    found = (
        f"With batches of {batch_size} ({name}), numeric columns come out within "
        f"{write(own.rmse)} standard deviations, and {write(own.identified, 'percent')} of the records "
        f"are identified among {write(num_records, 'count')}."
    )
    without = f"Guessing the mean of other clients' records is off by {write(guess.rmse)}"
    if own.rmse < 0.9 * guess.rmse:
        return f"{found} {without}: the update gives records away."
    return f"{found} {without}: this attack learns next to nothing about a record's numbers."


def _figure(
    errors: DataFrame,
    settings: Sequence[str],
    *,
    value: str,
    kind: Kind,
    title: str,
    caption: str,
) -> Figure:
    names = list(dict.fromkeys(errors.setting))
    if value == "identified":
        names = list(settings)
    frame = errors[errors.setting.isin(names)][["setting", "batch_size", value]]
    frame = frame.rename(columns={"setting": "series", value: "value"})
    return Figure(
        title=title,
        spec=specification(_by_batch_size(frame, names, kind=kind, title=title)),
        description=f"{title} by batch size, one line for each privacy setting.",
        caption=caption,
    )


def _by_batch_size(frame: DataFrame, names: Sequence[str], *, kind: Kind, title: str) -> Drawn:
    """A line with points for each setting; guesses are grey and dashed."""
    guesses = [name for name in names if name.startswith("guess")]
    tried = [name for name in names if name not in guesses]
    greys = ["var(--quiet)"] * len(guesses)
    dashes = [*DASHES[:1] * len(tried), [5, 4], [2, 2]]
    base = alt.Chart(style.rows(frame, kind)).encode(
        x=alt.X("batch_size:O", title="batch size", axis=alt.Axis(labelAngle=0)),
        y=style.value_axis(kind, zero=True),
        color=style.colour(names, legend=True, colours=[*COLOURS[: len(tried)], *greys]),
        tooltip=[
            alt.Tooltip("series:N", title="setting"),
            alt.Tooltip("batch_size:O", title="batch size"),
            style.tip("value", kind, title.lower()),
        ],
    )
    dash = alt.StrokeDash("series:N", scale=alt.Scale(domain=list(names), range=dashes))
    layers = alt.layer(
        base.mark_line().encode(strokeDash=dash), base.mark_point(filled=True, size=60)
    )
    return layers.properties(width="container", height=250)


def _table(errors: DataFrame, image: bool) -> Table:
    columns = [
        Column(label="setting", kind="text"),
        Column(label="batch size", kind="count"),
        Column(
            label="error", meaning="root mean square of numeric columns, in standard deviations"
        ),
        Column(label="identified", kind="percent", meaning="nearest to their original"),
    ]
    names = ["setting", "batch_size", "rmse", "identified"]
    if image:
        columns.append(Column(label="MSE", meaning="mean square of pixels from 0 to 1"))
        columns.append(Column(label="PSNR", meaning="decibels; above 20 a picture is recognised"))
        names += ["mse", "psnr"]
    elif errors.categories.notna().any():
        columns.append(
            Column(label="categories", kind="percent", meaning="text columns that come out right")
        )
        names.append("categories")
    return Table(
        caption="Errors by privacy setting and batch size",
        columns=columns,
        rows=errors.sort_values("batch_size", kind="stable")[names].to_numpy(object).tolist(),
        folded=True,
    )


def _side_by_side(shown: Mapping[str, DataFrame], number: int) -> Table:
    """One record: a line for each of its columns, its original and its reconstructions beside."""
    records = {name: frame.iloc[number] for name, frame in shown.items()}
    rows = [
        [column, *(_value(record[column]) for record in records.values())]
        for column in next(iter(records.values())).index
    ]
    return Table(
        caption=f"A record of the client and what was reconstructed of it ({number + 1})",
        columns=[Column(label="column", kind="text")]
        + [Column(label=name, kind="written") for name in records],
        rows=rows,
        folded=number > 0,
        note="The first records drawn, not chosen by how well they come out.",
    )


def _value(value: object) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "missing"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
