"""The report: whole, safe to open, valid charts, and honest about what it does not know."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from importlib.resources import files
from itertools import pairwise

import altair
import numpy as np
import pandas
import pytest
import vl_convert
from altair.utils.schemapi import SchemaValidationError
from hypothesis import given
from hypothesis import strategies as st
from pandas import DataFrame, Series
from scipy.stats import binomtest

from fedmodel.runs import report
from fedmodel.runs.charts import dots, specification
from fedmodel.runs.export import drawn as svg
from fedmodel.runs.page import Figure, Page, Section, Table
from fedmodel.runs.report import ReportData, compose, write_report
from fedmodel.runs.sections.clients import _wilson
from fedmodel.runs.sections.common import flat, quantiles, thinned
from fedmodel.runs.sections.cross_site import STRONGEST
from fedmodel.runs.sections.learning import learning
from fedmodel.runs.sections.opening import headline, warning
from fedmodel.runs.sections.price import price
from fedmodel.runs.sections.privacy import privacy
from fedmodel.runs.sections.records import records
from fedmodel.runs.style import CONFIG, VEGA_LITE
from fedmodel.runs.words import METRICS, write
from fedmodel.types import Card

CARD = Card(
    name="heart",
    title="Heart disease at four hospitals",
    source="UCI Machine Learning Repository, https://doi.org/10.24432/C52P4X",
    licence="CC BY 4.0",
    citation="Janosi, Steinbrunn, Pfisterer, Detrano (1988). Heart Disease. doi:10.24432/C52P4X",
    harms="Sex is recorded as binary, and women are a fifth of the records.",
    cautions=("Collected in the 1980s.", "Missing values are not missing at random."),
)
CONFIG_TOML = """name = "heart, privately"
seed = 7
rounds = 50

[data]
name = "heart"
sensitive = ["sex"]

[partition]
name = "natural"

[client]
name = "dp_sgd"
learning_rate = 0.1

[privacy]
epsilon = 3.0
delta = 1e-5
"""
MANIFEST = {
    "engine": "inline",
    "started": "2026-03-02T10:15:00+00:00",
    "seconds": 41.3,
    "seed": 7,
    "versions": {"fedmodel": "0.1.0", "torch": "2.13.0", "flwr": "1.42.0", "python": "3.13.1"},
    "data": {"fingerprint": "sha256:4f0c" + "9a" * 30, "records": 920},
    "git": {"commit": "1c2d3e4f", "dirty": False},
    "hardware": {"processor": "x86_64", "cores": 2, "memory": "8 GB"},
}


def rows(values: dict, *, round=0, model="global", scope="global", key="", split="test"):
    return [
        {"round": round, "split": split, "model": model, "scope": scope, "key": key}
        | {"metric": name, "value": value}
        for name, value in values.items()
    ]


def federation(
    names, *, rounds, top, private, attackers=0, attributes, seed=0, validation=False
) -> ReportData:
    """A run as it might have been: learning that saturates, clients and groups that differ."""
    draw = np.random.default_rng(seed)
    train = draw.lognormal(4.7, 0.7, len(names)).astype(int) + 20
    test = train // 4 + 2
    ease = draw.normal(0, 0.035, len(names))
    dishonest = np.arange(len(names)) < attackers
    table, spent = [], []
    for round in range(rounds + 1):
        level = top - (top - 0.5) * math.exp(-5 * round / rounds) + draw.normal(0, 0.003)
        own = (level + ease + draw.normal(0, 0.006, len(names))).clip(0, 1)
        everywhere = float(np.average(own, weights=test))
        performance = {
            "num_records": test.sum(), "accuracy": everywhere, "balanced_accuracy": everywhere - 0.03,
            "loss": 0.25 + 1.2 * (1 - everywhere), "roc_auc": min(everywhere + 0.06, 1.0),
            "demographic_parity_difference": 0.12 + 0.1 * (everywhere - 0.5),
            "demographic_parity_ratio": 0.71, "equalized_odds_difference": 0.14 + draw.normal(0, 0.01),
            "equalized_odds_ratio": 0.62, "accuracy_difference": 0.06 + draw.normal(0, 0.005), "accuracy_mean": own.mean(),
            "accuracy_std": own.std(), "accuracy_jain": own.mean() ** 2 / (own**2).mean(),
            "accuracy_gini": 0.021, "accuracy_worst_decile": np.quantile(own, 0.05),
        }  # fmt: skip
        table += rows(performance, round=round)
        if validation:
            table += rows(
                {"accuracy": everywhere + draw.normal(0, 0.004)}, round=round, split="validation"
            )
        for place, (attribute, levels) in enumerate(attributes.items()):
            for step, level_name in enumerate(levels):
                shift = 0.03 * step + 0.02 * place
                rates = {"num_records": 400 // (step + 1), "accuracy": everywhere - shift / 2,
                         "selection_rate": 0.3 + 2 * shift, "true_positive_rate": 0.7 - shift,
                         "false_positive_rate": math.nan if step == 3 else 0.1 + shift}  # fmt: skip
                table += rows(rates, round=round, scope="group", key=f"{attribute}={level_name}")
            if len(attributes) > 1:
                gaps = {
                    "demographic_parity_difference": 0.08 + 0.03 * place,
                    "equalized_odds_difference": 0.06 + 0.03 * place,
                    "accuracy_difference": 0.03,
                }
                gaps = {name: gap + draw.normal(0, 0.004) for name, gap in gaps.items()}  # fmt: skip
                table += rows(gaps, round=round, scope="group", key=attribute)
        for name, value in zip(names, own):
            gap = abs(draw.normal(0.1, 0.08))
            table += rows({"accuracy": value, "loss": 0.25 + 1.2 * (1 - value),
                           "demographic_parity_difference": gap}, round=round, scope="client", key=name)  # fmt: skip
        if attackers:
            honest = float(np.average(own[~dishonest], weights=test[~dishonest]))
            table += rows({"honest_accuracy": honest + 0.01}, round=round)
            for name, liar in zip(names, dishonest):
                if liar and round:
                    share = {"aggregate_share": abs(draw.normal(0.03, 0.01))}
                    table += rows(share, round=round, scope="client", key=name)
        if private and round:
            for name, size in zip(names, train):
                figure = 3.0 * math.sqrt(round / rounds) * min(1, 160 / size) ** 0.2
                spent.append({"round": round, "client": name, "epsilon": figure, "delta": 1e-5,
                              "accountant": "prv" if round == rounds else "rdp"})  # fmt: skip
    references = {"pooled": 0.03, "local": -0.06} | ({"non_private": 0.02} if private else {})
    for model, gain in references.items():
        for name, value in zip(names, own):
            table += rows({"accuracy": min(value + gain + draw.normal(0, 0.02), 1)}, round=rounds, model=model, scope="client", key=name)  # fmt: skip
        overall = {
            n: v + gain * (n in ("accuracy", "balanced_accuracy", "roc_auc"))
            for n, v in performance.items()
        }
        overall |= {"loss": performance["loss"] - gain}
        table += rows(overall, round=rounds, model=model)
    clients = DataFrame(
        {"client": names, "num_train": train, "num_validation": 0, "num_test": test, "rounds": rounds,
         "declined": 0, "dropped": 0, "dishonest": dishonest, "accuracy": own,
         "loss": 0.25 + 1.2 * (1 - own)}
    )  # fmt: skip
    if private:
        final = {row["client"]: row["epsilon"] for row in spent}
        clients = clients.assign(sample_rate=(32 / train).clip(max=1), noise_multiplier=1.1,
                                 epsilon=[final[name] for name in names])  # fmt: skip
    share = draw.dirichlet([1.2, 1.2], len(names))
    partition = [
        {"client": name, "split": split, "class": label, "count": round_half(size * part)}
        for name, parts, *sizes in zip(names, share, train, test)
        for split, size in zip(("train", "test"), sizes)
        for label, part in zip(("healthy", "heart disease"), parts)
    ]
    return ReportData(
        title="Heart disease, privately",
        config_toml=CONFIG_TOML,
        manifest=MANIFEST,
        card=CARD,
        metrics=DataFrame(table),
        clients=clients,
        epsilon=DataFrame(spent),
        partition=DataFrame(partition),
        statement=STATEMENT if private else None,
        notes=["In round 31 one client was lost and its round repeated without it."] if private else [],
        rounds=rounds,
    )  # fmt: skip


def round_half(value: float) -> int:
    return int(value + 0.5)


STATEMENT = {
    "sentences": [
        "Every single training record of a client is protected (record-level differential privacy): "
        "whoever sees all updates of that client learns almost the same with the record as without it.",
        "Two data sets are neighbours if one has one record more than the other.",
        "The noise is drawn from the experiment's seed: this is a simulation, and who knows the seed "
        "can subtract the noise.",
    ],
    "outside": [
        "The scales of the features, which were fitted on all training records.",
        "The number of records of each client, which weighs its update.",
    ],
    "unit": "record",
    "mode": "noise at each client",
    "target_epsilon": 3.0,
    "epsilon": {"min": 2.89, "median": 3.0, "max": 3.0},
    "warnings": [],
    "delta": 1e-5,
    "clip": 1.0,
}


@cache
def hospitals() -> ReportData:
    """Four hospitals with differential privacy."""
    names = ["Cleveland", "Budapest", "Zurich and Basel", "Long Beach"]
    return federation(
        names,
        rounds=50,
        top=0.83,
        private=True,
        attributes={"sex": ("Female", "Male")},
        validation=True,
    )


@cache
def crowd() -> ReportData:
    """Two hundred clients, a tenth of them dishonest, two sensitive attributes."""
    attributes = {"sex": ("Female", "Male"), "race": ("White", "Black", "Asian", "Other")}
    data = federation(
        [f"client_{number}" for number in range(200)],
        rounds=12, top=0.86, private=False, attackers=20, attributes=attributes,
    )  # fmt: skip
    return replace(data, title="Income under attack", card=replace(CARD, title="Census income"))


def bare() -> ReportData:
    """A run of which nothing is known yet."""
    return replace(
        hospitals(), metrics=DataFrame(), clients=DataFrame(), epsilon=DataFrame(),
        partition=DataFrame(), statement=None, config_toml="", manifest={},
    )  # fmt: skip


@cache
def page(make) -> Page:
    return compose(make())


def figures(page: Page) -> list[Figure]:
    return [b for section in page.sections for b in section.blocks if isinstance(b, Figure)]


def section(page: Page, title: str) -> Section:
    return next(section for section in page.sections if section.title == title)


def titles(page: Page) -> list[str]:
    return [section.title for section in page.sections]


def first(kind: type, section: Section):
    return next(block for block in section.blocks if isinstance(block, kind))


def drawn(figure: Figure) -> list[dict]:
    """All rows of a figure's data."""
    return [row for rows in figure.spec["datasets"].values() for row in rows]


class Elements(HTMLParser):
    """The elements of a page, and its texts by element."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.elements:
            self.texts.setdefault(self.elements[-1][0], []).append(data)

    def every(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


runs = pytest.mark.parametrize("run", [hospitals, crowd], ids=["hospitals", "crowd"])


@pytest.fixture(scope="module", params=[hospitals, crowd], ids=["hospitals", "crowd"])
def html(request) -> str:
    return page(request.param).render()


# The file


def test_the_page_is_small(html):
    assert len(html.encode()) < 2_000_000


def test_the_page_stays_small_with_many_clients_classes_and_rounds():
    names = [f"a_client_with_a_long_name_{number}" for number in range(100)]
    data = federation(names, rounds=60, top=0.8, private=True, attributes={})
    partition = [
        {"client": name, "split": "train", "class": f"label {label}", "count": label + place % 3}
        for place, name in enumerate(names)
        for label in range(100)
    ]
    data = replace(data, partition=DataFrame(partition))
    assert len(compose(data).render().encode()) < 2_000_000


def test_nothing_is_loaded_from_anywhere(html):
    page = Elements(html)
    for tag, attributes in page.elements:
        assert not {"src", "srcset", "action", "background", "poster"} & attributes.keys(), tag
        assert "href" not in attributes or tag == "a", attributes
    assert not page.every("link") and not page.every("iframe") and not page.every("object")
    style = "".join(page.texts["style"])
    assert "url(" not in style and "@import" not in style


def test_the_browser_is_told_to_fetch_nothing(html):
    policy = next(m["content"] for m in Elements(html).every("meta") if "http-equiv" in m)
    assert "default-src 'none'" in policy
    assert "http" not in policy and "*" not in policy and "unsafe-eval" not in policy


def test_the_drawing_library_is_inlined_once_and_only_for_figures(html):
    assert html.count("window.vegaEmbed") == 1
    assert "window.vegaEmbed" not in compose(bare()).render()


def test_a_report_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("the last good one")

    def full_disk(self, text, encoding):
        self.touch()
        raise OSError("No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(report.Path, "write_text", full_disk)
        with pytest.raises(OSError, match="No space"):
            write_report(bare(), path)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "the last good one"
    assert write_report(bare(), path) == path
    assert path.read_text("utf-8").startswith("<!doctype html>")
    assert len(list(tmp_path.iterdir())) == 1


# Texts

EVIL = "<script>alert(1)</script>\"'&</script >"


def rename(frame: DataFrame, column: str) -> DataFrame:
    return frame.assign(**{column: frame[column].replace("Cleveland", EVIL)})


def specs(text: str) -> list[dict]:
    """The figures of a page, read as strictly as a browser reads them."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    found = re.search(r'id="specs">(.*?)</script>', text, re.S)
    return json.loads(found[1], parse_constant=refuse)


def test_names_and_notes_cannot_become_markup():
    data = hospitals()
    evil = replace(
        data,
        title=EVIL,
        notes=[EVIL],
        config_toml=EVIL,
        manifest=MANIFEST | {EVIL: EVIL},
        card=replace(CARD, title=EVIL, harms=EVIL),
        statement=STATEMENT | {"outside": [EVIL]},
        metrics=rename(data.metrics, "key"),
        clients=rename(data.clients, "client"),
        epsilon=rename(data.epsilon, "client"),
        partition=rename(data.partition, "client"),
    )
    text = compose(evil).render()
    plain = Elements(page(hospitals).render())
    assert len(Elements(text).every("script")) == len(plain.every("script"))
    assert EVIL in "".join(Elements(text).texts["h1"])
    assert any(row.get("client") == EVIL for row in drawn(first(Figure, records(evil))))
    assert EVIL in json.dumps(specs(text)).replace('\\"', '"')


@given(st.floats(-1, 1))
def test_a_percentage_says_what_it_means_to_three_digits(share):
    text = write(share, "percent")
    assert math.isclose(float(text.rstrip("%")) / 100, share, rel_tol=0.006, abs_tol=1e-300)
    assert (text == "100%") <= (share == 1.0)


@pytest.mark.parametrize("missing", [math.nan, pandas.NA, Series([None], dtype="Float64")[0]])
def test_what_is_not_defined_says_so(missing):
    kinds = ("percent", "points", "number", "count", "text", "truth")
    assert {write(missing, kind) for kind in kinds} == {"not defined"}


def test_nan_everywhere_still_gives_a_report():
    data = hospitals()
    nothing = replace(
        data,
        metrics=data.metrics.assign(value=math.nan),
        clients=data.clients.assign(accuracy=math.nan, epsilon=math.nan, loss=math.nan),
        epsilon=data.epsilon.assign(epsilon=math.inf),
    )
    text = compose(nothing).render()
    assert "not defined" in text
    assert len(specs(text)) > 0


def test_an_infinite_epsilon_is_not_drawn_as_nothing_spent():
    data = hospitals()
    endless = data.epsilon.epsilon.mask(data.epsilon.client.eq("Budapest"), math.inf)
    lost = data.clients.epsilon.mask(data.clients.client.eq("Budapest"), math.inf)
    data = replace(
        data,
        epsilon=data.epsilon.assign(epsilon=endless),
        clients=data.clients.assign(epsilon=lost),
    )
    shown = privacy(data)
    last = [row for row in drawn(first(Figure, shown)) if row.get("round") == 50]
    assert {row["series"]: row["value"] for row in last}["Budapest"] is None
    assert "1 of 4 clients have no guarantee" in shown.blocks[1]
    assert "ε\N{NO-BREAK SPACE}= unbounded" in headline(data)


def test_the_headline_is_one_sentence_with_the_result():
    data = hospitals()
    rows = data.metrics.query("model == 'global' and scope == 'global' and split == 'test'")
    last = rows[rows["round"].eq(50)].set_index("metric").value
    sentence = headline(data)
    assert sentence.endswith(".") and ". " not in sentence
    assert f"right on {100 * last['accuracy']:.1f}%" in sentence
    assert f"AUC of {last['roc_auc']:.3f}" in sentence
    assert f"{data.clients.accuracy.min() * 100:.1f}%" in sentence
    assert f"{100 * last['demographic_parity_difference']:.1f} points" in sentence
    assert "ε\N{NO-BREAK SPACE}= 3.00" in sentence


def test_the_best_round_is_chosen_by_validation_records_where_there_are_some():
    data = hospitals()
    curve = data.metrics.query("split == 'validation' and metric == 'accuracy' and round > 0")
    assert data.best == (int(curve.loc[curve.value.idxmax(), "round"]), "validation")
    assert crowd().best[1] == "test"
    assert "flattering" in section(page(crowd), "Learning").blocks[0]


def test_the_price_is_told_in_points():
    text = price(hospitals()).blocks[0]
    assert "costs 1.00 points" in text  # pooled is 3 points better than this run, non-private 2
    assert "cost 2.00 points" in text
    assert "brings 6.00 points" in text


def test_the_worst_client_stands_for_few_and_the_worst_tenth_for_many():
    worst = hospitals().clients.sort_values("accuracy").iloc[0]
    told = f"the client served worst, {worst.client}, gets {100 * worst.accuracy:.1f}%"
    assert told in headline(hospitals())
    tenth = crowd().value("accuracy_worst_decile")
    assert f"the tenth of clients served worst gets {100 * tenth:.1f}%" in headline(crowd())


def test_an_unfinished_run_says_so():
    assert "50 of 80 rounds" in warning(replace(hospitals(), finished=False, rounds=80))
    assert warning(hospitals()) == ""


def test_custom_metrics_are_shown():
    data = hospitals()
    table = [*data.metrics.to_dict("records"), *rows({"cost_in_euros": 12.5}, round=50)]
    shown = first(Table, learning(replace(data, metrics=DataFrame(table))))
    assert ["cost in euros", "not defined", "not defined", "12.5"] in [*map(list, shown.rows)]


def test_a_manifest_is_flattened_to_names_and_texts():
    tree = {"a_b": {"c": 1, "d": True}, "e": [1, 2], "f": None, "g": 1e-5, "h": "x"}
    expected = {"a b · c": "1", "a b · d": "yes", "e": ("1", "2"), "g": "1e-05", "h": "x"}
    assert dict(flat(tree)) == expected


# Sections


def test_sections_appear_with_their_data():
    start = ["Learning", "What did federation and privacy cost or bring?"]
    end = ["Data", "Reproduce"]
    assert titles(page(hospitals)) == [*start, "Privacy", "Fairness", "Clients", *end]
    assert titles(page(crowd)) == [*start, "Fairness", "Clients", "Robustness", *end]


def test_sections_without_data_are_left_out():
    data = hospitals()
    assert titles(compose(bare())) == ["Data"]
    assert "No evaluation" in headline(bare())
    unmeasured = compose(replace(data, metrics=DataFrame()))
    assert titles(unmeasured) == ["Privacy", "Clients", "Data", "Reproduce"]
    table = data.metrics.query("model == 'global' and scope == 'global'")
    plain = replace(
        data,
        metrics=table[table.metric.isin(["accuracy", "loss"])],
        clients=DataFrame(),
        epsilon=DataFrame(),
        statement=None,
    )
    assert titles(compose(plain)) == ["Learning", "Data", "Reproduce"]


def test_one_evaluated_round_is_enough():
    data = hospitals()
    text = compose(replace(data, metrics=data.metrics.query("round == 50"))).render()
    assert "After 50 rounds" in text


def test_a_statement_of_privacy_needs_no_table():
    assert privacy(replace(hospitals(), epsilon=DataFrame(), clients=DataFrame())) is not None


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
