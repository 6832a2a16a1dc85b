"""The figures of a report: what they draw, and whether it can be read."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from importlib.resources import files
from itertools import pairwise

import altair
import numpy as np
import pytest
import vl_convert
from altair.utils.schemapi import SchemaValidationError
from hypothesis import given
from hypothesis import strategies as st
from pandas import DataFrame
from runs.sample_reports import (
    Elements,
    crowd,
    drawn,
    federation,
    figures,
    first,
    hospitals,
    page,
)
from scipy.stats import binomtest

from fedmodel.runs.charts import dots, specification
from fedmodel.runs.export import drawn as svg
from fedmodel.runs.page import Figure
from fedmodel.runs.sections.clients import _wilson
from fedmodel.runs.sections.common import quantiles, thinned
from fedmodel.runs.sections.cross_site import STRONGEST
from fedmodel.runs.sections.privacy import privacy
from fedmodel.runs.sections.records import records
from fedmodel.runs.style import CONFIG, VEGA_LITE
from fedmodel.runs.words import METRICS

runs = pytest.mark.parametrize("run", [hospitals, crowd], ids=["hospitals", "crowd"])


@pytest.fixture(scope="module", params=[hospitals, crowd], ids=["hospitals", "crowd"])
def html(request) -> str:
    return page(request.param).render()


# Charts


@runs
def test_every_figure_compiles(run):
    for figure in figures(page(run)):
        spec = figure.spec | {"config": CONFIG}  # `specification` checked it against its schema
        assert vl_convert.vegalite_to_vega(spec, vl_version=VEGA_LITE)["marks"], figure.title


def test_a_chart_that_is_not_valid_is_refused():
    chart = altair.Chart().mark_point()
    assert specification(chart)["mark"]
    chart.mark = "no such mark"
    with pytest.raises(SchemaValidationError, match="no such mark"):
        specification(chart)


def test_a_figure_draws_what_it_is_given():
    frame = DataFrame({"name": ["north", "south"], "value": [0.25, math.nan]})
    spec = specification(dots(frame, kind="percent", title="accuracy", heading="client"))
    svg = vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE)
    assert ">25.0%<" in svg and ">not defined<" in svg and ">south<" in svg


def test_up_to_a_hundred_clients_have_a_line_of_epsilon_and_more_are_summed_up():
    def spec(number: int) -> str:
        names = [f"client_{n}" for n in range(number)]
        run = federation(names, rounds=2, top=0.8, private=True, attributes={})
        return json.dumps(first(Figure, privacy(run)).spec)

    assert "client_99" in spec(100)
    assert "client_" not in spec(101)
    assert "median" in spec(101)


def test_epsilon_of_a_client_that_sits_out_stays_where_it_was():
    data = hospitals()
    out = data.epsilon.client.eq("Budapest") & data.epsilon["round"].between(10, 20)
    points = drawn(first(Figure, privacy(replace(data, epsilon=data.epsilon[~out]))))
    course = {row["round"]: row["value"] for row in points if row.get("series") == "Budapest"}
    assert course[0] == 0
    assert len({course[number] for number in range(9, 21)}) == 1
    assert course[21] > course[20]


@given(st.integers(1, 900), st.integers(2, 300), st.integers(0, 900))
def test_thinning_keeps_both_ends_and_the_asked_round(rounds, most, keep):
    frame = DataFrame({"round": range(rounds)})
    left = thinned(frame, most=most, keep=keep)["round"].tolist()
    assert len(left) <= most + 1
    assert (left[0], left[-1]) == (0, rounds - 1)
    assert keep in left or keep >= rounds
    assert left == frame["round"].tolist() or rounds > most


def test_quantiles_are_values_of_clients():
    frame = DataFrame({"round": [1] * 11, "value": np.arange(11.0)})
    assert quantiles(frame).to_dict("records") == [
        {"round": 1, "lowest": 0, "low": 1, "median": 5, "high": 9, "highest": 10}
    ]


@given(st.integers(1, 400), st.data())
def test_the_interval_of_a_client_is_wilsons(number, data):
    right = data.draw(st.integers(0, number))
    expected = binomtest(right, number).proportion_ci(0.95, method="wilson")
    assert _wilson(right / number, number) == pytest.approx((expected.low, expected.high), abs=1e-7)


def test_a_partition_of_many_classes_is_a_heat_map_and_of_few_a_stack():
    data = hospitals()
    assert first(Figure, records(data)).spec["mark"]["type"] == "bar"
    many = [
        {"client": client, "split": "train", "class": str(digit), "count": digit}
        for client in "ab"
        for digit in range(10)
    ]
    heat = first(Figure, records(replace(data, partition=DataFrame(many))))
    assert heat.spec["mark"]["type"] == "rect"
    shares = [row["share"] for row in drawn(heat) if row["client"] == "a"]
    assert sum(shares) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("classes", [2, 10], ids=["stack", "heat map"])
def test_the_largest_client_comes_first_whatever_its_classes(classes):
    """Vega-Lite adds the order up over a client's classes, unless it is told not to."""
    held = {"few": {0: 40}, "large": dict.fromkeys(range(classes), 50), "small": {1: 3}}
    held["middle"] = dict.fromkeys(range(classes), 10)
    rows = [
        {"client": client, "split": "train", "class": str(label), "count": count}
        for client, counts in held.items()
        for label, count in counts.items()
    ]
    figure = first(Figure, records(replace(hospitals(), partition=DataFrame(rows))))
    names = re.findall(rf">({'|'.join(held)})<", svg(figure.spec))
    sizes = [sum(held[name].values()) for name in dict.fromkeys(names)]
    assert len(sizes) == 4 and sizes == sorted(sizes, reverse=True)


# Reading it


def test_headings_are_in_order_and_tables_and_figures_are_named(html):
    page = Elements(html)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(deeper - level <= 1 for level, deeper in pairwise(levels))
    assert len(page.every("caption")) == len(page.every("table")) > 0
    charts = [a for a in page.every("div") if a.get("class") == "chart"]
    assert charts and all(len(chart["aria-label"]) > 30 for chart in charts)
    assert [int(chart["data-figure"]) for chart in charts] == list(range(len(charts)))
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    inner = {link["href"] for link in page.every("a") if link["href"].startswith("#")}
    assert inner and {anchor[1:] for anchor in inner} <= set(names)


def test_every_metric_is_explained():
    assert all(metric.meaning for metric in METRICS.values())


def themes() -> list[dict[str, str]]:
    """The colours of the light and the dark page."""
    css = files("fedmodel.runs").joinpath("page.css").read_text("utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)[:2]
    return [dict(re.findall(r"(--[\w-]+): (#\w{6})", block)) for block in blocks]


@runs
def test_every_colour_of_a_chart_is_defined_for_light_and_dark(run):
    text = json.dumps([CONFIG, *(figure.spec for figure in figures(page(run)))])
    used = set(re.findall(r"var\((--\w+)\)", text))
    assert used and all(used <= theme.keys() for theme in themes())


def luminance(colour: str) -> float:
    """WCAG 2.2, relative luminance."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def blended(theme: dict[str, str], *, share: float) -> str:
    """The accent at this opacity on the page."""
    pairs = ((int(theme[n][p : p + 2], 16) for n in ("--c1", "--paper")) for p in (1, 3, 5))
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


@pytest.mark.parametrize("theme", themes(), ids=["light", "dark"])
def test_texts_stand_out_as_wcag_asks(theme):
    def contrast(text: str, ground: str) -> float:
        bright, dim = sorted((luminance(theme[text]), luminance(theme[ground])), reverse=True)
        return (bright + 0.05) / (dim + 0.05)

    for text in ("--ink", "--quiet", "--link", "--caution"):
        assert contrast(text, "--paper") >= 4.5, text
    assert contrast("--ink", "--caution-wash") >= 4.5 and contrast("--ink", "--wash") >= 4.5
    ground = blended(theme, share=STRONGEST)  # of a cell that says its value
    bright, dim = sorted((luminance(theme["--ink"]), luminance(ground)), reverse=True)
    assert (bright + 0.05) / (dim + 0.05) >= 4.5
    for line in ("--c1", "--c2", "--c3"):  # three to one is asked of graphics
        assert contrast(line, "--paper") >= 3, line
