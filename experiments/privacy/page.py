"""The page: the table, epsilon against accuracy and attacks, ROC curves."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
from pandas import DataFrame

from fedmodel.audits.charts import roc as roc_chart
from fedmodel.audits.membership import LIKE, RUN
from fedmodel.audits.roc import FEWEST
from fedmodel.runs import charts, style
from fedmodel.runs.page import Column, Figure, Listing, Page, Section, Table
from fedmodel.runs.style import ACCENT
from fedmodel.runs.words import Kind, write

__all__ = ["against_epsilon", "page"]


def page(
    table: DataFrame,
    roc: DataFrame,
    inversion: DataFrame,
    *,
    columns: Sequence[tuple[str, str]],  # label and meaning
    rows: Sequence[Sequence[str]],  # as written, the setting first
    about: Sequence[str],
) -> Page:
    """What was found, the least private setting first."""
    free, strict = table.iloc[0], table.iloc[-1]
    return Page(
        title="What privacy costs and what it buys",
        about=(f"{len(table)} settings of one experiment", "heart_disease, 4 hospitals"),
        headline=f"From {free.setting} to {strict.setting} privacy (ε = {write(strict.epsilon_upper)}), "
        f"accuracy goes from {write(free.accuracy, 'percent')} to {write(strict.accuracy, 'percent')}, and "
        f"the share of members found at 1% false alarms from {write(free['tpr_at_0.01'], 'percent')} to "
        f"{write(strict['tpr_at_0.01'], 'percent')}.",
        key_figures=[
            (f"{row.setting}: ε", f"{write(row.epsilon_lower)} to {write(row.epsilon_upper_small_delta)}",
             f"between canaries and accountant, δ = {write(row.small_delta)}")
            for row in table.itertuples()
        ],
        sections=[
            Section(
                title="One experiment, side by side",
                blocks=[
                    Table(
                        caption="Accuracy, epsilon from both sides, and attacks",
                        columns=[
                            Column(label="setting", kind="text"),
                            *(Column(label=n, kind="written", meaning=m) for n, m in columns),
                        ],
                        rows=rows,
                    ),
                    Listing(caption="How it was found", items=about),
                ],
            ),
            Section(title="Epsilon against accuracy and attacks", blocks=_courses(table, inversion)),
            Section(
                title="ROC curves",
                blocks=[
                    "LiRA from the server's position, on logarithmic axes. Dashed: guessing.",
                    _roc(table, roc, of=LIKE, title="Runs like this one"),
                    _roc(table, roc, of=RUN, title="The run itself"),
                ],
            ),
        ],
    )  # fmt: skip


def _courses(table: DataFrame, inversion: DataFrame) -> list[Figure]:
    """Accuracy, hits and errors of inversion by epsilon, each with a level to hold it against."""
    private, free = table[table.delta.notna()], table[table.delta.isna()].iloc[0]
    figures = []
    kinds: tuple[tuple[str, str, Kind, str], ...] = (
        ("accuracy", "Accuracy", "percent", "Mean over seeds, with a bar from the lowest to the highest."),
        ("tpr_at_0.01", "Members found at 1% false alarms", "percent", "LiRA, the server, runs like this one. Guessing finds 1%."),
    )  # fmt: skip
    for name, title, kind, caption in kinds:
        frame = DataFrame({"epsilon": private.epsilon_upper, "value": private[name]})
        if name == "accuracy":
            frame = frame.assign(low=private.accuracy_low, high=private.accuracy_high)
        figures.append(_course(frame, float(free[name]), title=title, kind=kind, caption=caption))
    curve = inversion[inversion.of.eq(private.iloc[-1].setting) & inversion.epsilon.gt(0)]
    curve = curve[curve.epsilon.lt(float("inf"))].rename(columns={"rmse": "value"})
    figures.append(
        _course(
            curve[["epsilon", "value"]],
            float(free.inversion_rmse_of_guess),
            level_name="guessing the mean",
            title="Reconstruction error of one record",
            kind="number",
            caption="In standard deviations; the lower, the more is read from an update. Without clip "
            f"and noise: {write(free.inversion_rmse)}.",
        )
    )
    return figures


def _course(
    frame: DataFrame,
    level: float,
    *,
    title: str,
    kind: Kind,
    caption: str,
    level_name: str = "no privacy",
) -> Figure:
    chart = against_epsilon(frame, kind=kind, title=title)
    chart = charts.with_level(chart, name=level_name, value=level, kind=kind)
    ends = frame.sort_values("epsilon").value
    return Figure(
        title=title,
        spec=charts.specification(chart),
        description=f"From {write(ends.iloc[0], kind)} at the smallest epsilon to "
        f"{write(ends.iloc[-1], kind)} at the largest; {level_name}: {write(level, kind)}.",
        caption=caption,
    )


def against_epsilon(frame: DataFrame, *, kind: Kind, title: str) -> alt.LayerChart:
    """Values on a logarithmic axis of epsilon: a line with points, bars from low to high if given."""
    ends = [end for end in ("low", "high") if end in frame]
    axis = alt.Axis(format="~g", tickCount=5)
    scale = alt.Scale(type="log", nice=False, padding=12)
    base = alt.Chart(style.rows(frame, kind, columns=["value", *ends])).encode(
        x=alt.X("epsilon:Q", title="ε, at the run's δ", scale=scale, axis=axis),
        y=style.value_axis(kind),
        tooltip=[
            alt.Tooltip("epsilon:Q", format=".3~g", title="epsilon"),
            style.tip("value", kind, title),
            *(style.tip(end, kind, end) for end in ends),
        ],
    )
    layers = [base.mark_line(color=ACCENT), base.mark_point(color=ACCENT, filled=True, size=80)]
    if ends:
        bars = base.mark_rule(color=ACCENT, opacity=0.35, strokeWidth=4)
        layers.insert(0, bars.encode(y=style.value_axis(kind, field="low"), y2="high"))
    return alt.layer(*layers).properties(width="container", height=250)


def _roc(table: DataFrame, roc: DataFrame, *, of: str, title: str) -> Figure:
    own = roc[roc["of"] == of].rename(columns={"setting": "series"})
    area = "auc" if of == LIKE else "this_run_auc"
    told = ", ".join(f"{row['setting']} {row[area]:.3f}" for row in table.to_dict("records"))
    others = table["non_members" if of == LIKE else "this_run_non_members"].max()
    return Figure(
        title=title,
        spec=charts.specification(
            roc_chart(own[["series", "false", "true"]], series=list(table.setting))
        ),
        description=f"Areas under the curves: {told}.",
        caption=f"Areas: {told}. Left of {write(FEWEST / others, 'percent')}, which is {FEWEST} false "
        "alarms, a curve is chance.",
    )
