"""The report: whole, safe to open, valid charts, and honest about what it does not know."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandas import DataFrame, Series
from runs.sample_reports import (
    CARD,
    MANIFEST,
    STATEMENT,
    Elements,
    bare,
    crowd,
    drawn,
    federation,
    first,
    hospitals,
    page,
    rows,
    section,
    titles,
)

from fedmodel.runs import report
from fedmodel.runs.page import Figure, Table
from fedmodel.runs.report import compose, write_report
from fedmodel.runs.sections.common import flat
from fedmodel.runs.sections.learning import learning
from fedmodel.runs.sections.opening import headline, warning
from fedmodel.runs.sections.price import price
from fedmodel.runs.sections.privacy import privacy
from fedmodel.runs.sections.records import records
from fedmodel.runs.words import write


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
