"""Charts that only audits need."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
from jaxtyping import Bool, Float
from pandas import DataFrame

from fedmodel.runs import style
from fedmodel.runs.charts import Drawn
from fedmodel.runs.style import DASHES, QUIET

__all__ = ["overlap", "roc"]


def roc(frame: DataFrame, *, series: Sequence[str]) -> Drawn:
    """True against false positive rates on logarithmic axes, a line a series; dashed is guessing.

    `frame` has the columns series, false, true. Rates of 0 have no place on these axes.
    """
    shown = frame[frame.false.gt(0) & frame.true.gt(0)]
    least = float(min(shown.false.min(), shown.true.min())) if len(shown) else 0.01
    scale = alt.Scale(type="log", domain=[least, 1])
    labels = alt.Axis(format="~%", tickCount=4, grid=True)
    place = {
        "x": alt.X("false:Q", title="false positive rate", scale=scale, axis=labels),
        "y": alt.Y("true:Q", title="true positive rate", scale=scale, axis=labels),
    }
    chosen = alt.selection_point(fields=["series"], bind="legend")
    guessing = DataFrame({"false": [least, 1.0], "true": [least, 1.0]})
    dashes = alt.Scale(domain=list(series), range=DASHES)
    curves = (
        alt.Chart(_rows(shown))
        .mark_line()
        .encode(
            **place,
            color=style.colour(series, legend=True),
            strokeDash=alt.StrokeDash("series:N", scale=dashes),
            opacity=alt.when(chosen).then(alt.value(1.0)).otherwise(alt.value(0.12)),
            tooltip=[
                alt.Tooltip("series:N", title="attack"),
                alt.Tooltip("false:Q", format=".3~%", title="false positives"),
                alt.Tooltip("true:Q", format=".3~%", title="true positives"),
            ],
        )
        .add_params(chosen)
    )
    level = (
        alt.Chart(_rows(guessing))
        .mark_line(color=QUIET, strokeDash=[4, 3], strokeWidth=1.2)
        .encode(**place)
    )
    return alt.layer(level, curves).properties(width="container", height=300)


def overlap(
    score: Float[np.ndarray, " M"], inside: Bool[np.ndarray, " M"], *, sides: tuple[str, str]
) -> Drawn:
    """How far the scores of canaries inside and outside lie apart: two histograms, one over the other."""
    edges = np.linspace(score.min(), score.max() + 1e-9, 31)
    parts = [
        {"series": name, "score": float(edge), "canaries": int(number)}
        for name, chosen in zip(sides, (inside, ~inside))
        for edge, number in zip((edges[:-1] + edges[1:]) / 2, np.histogram(score[chosen], edges)[0])
    ]
    return (
        alt.Chart(style.rows(DataFrame(parts), "number", columns=["score"]))
        .mark_area(interpolate="step", opacity=0.35, line=True)
        .encode(
            x=alt.X("score:Q", title="score, standard deviations"),
            y=alt.Y("canaries:Q", title="canaries", stack=None),
            color=style.colour(list(sides), legend=True),
            tooltip=["series:N", alt.Tooltip("score:Q", format=".2f"), "canaries:Q"],
        )
        .properties(width="container", height=230)
    )


def _rows(frame: DataFrame) -> alt.InlineData:
    return style.rows(frame, "number", columns=["false", "true"])
