"""How clients differ before training: the table, the words, the page, and how it is asked for."""

from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from fedmodel.cli import app
from fedmodel.data.image import digits
from fedmodel.data.medical import heart_disease
from fedmodel.data.partition import iid, natural
from fedmodel.data.partition_mix import pathological
from fedmodel.data.records import Records
from fedmodel.errors import FedmodelError
from fedmodel.runs.preview import COLUMNS, preview, write_preview

CONFIG = """
name = "hearts"
rounds = 2
[data]
name = "heart_disease"
sensitive = ["sex"]
[partition]
name = "pathological"
clients = 8
[model]
name = "logistic"
[client]
name = "sgd"
learning_rate = 0.1
"""


def specs(page: str) -> list[dict]:
    """The page's charts."""
    return json.loads(re.search(r'id="specs">(.*?)</script>', page, re.DOTALL)[1])


def test_the_table_and_the_words_against_pandas():
    records = heart_disease()
    found = preview(records, natural(records), seed=0)
    table = found.table.set_index("by client")
    assert tuple(found.table.columns) == COLUMNS
    sizes = records.clients.value_counts()
    assert table.loc["records", "lowest"] == str(sizes.min())
    assert table.loc["records", "highest"] == str(sizes.max())
    positive = records.classes[1]
    rates = (records.label == positive).groupby(records.clients).mean()
    assert table.loc[f"share of '{positive}'", "highest"] == f"{100 * rates.max():.1f}%"
    distance = (rates - (records.label == positive).mean()).abs().mean()
    assert table.loc["label distance", "mean"] == f"{100 * distance:.1f}%"
    assert f"{100 * distance:.1f}% of its records" in found.sentences[1]
    pairs = np.abs(sizes.to_numpy()[:, None] - sizes.to_numpy()).mean()
    assert f"Gini coefficient {pairs / (2 * sizes.mean()):.3f}" in found.sentences[0]


def test_few_classes_of_few_clients_are_bars_and_features_a_map_by_client(tmp_path):
    records = heart_disease()
    text = write_preview(
        preview(records, natural(records), seed=0), "hearts", tmp_path / "new" / "page.html"
    ).read_text()
    assert not re.search(r'(src|href)="https?:', text)
    charts = json.dumps(specs(text))
    assert "share of records" in charts
    assert '"column": "Cleveland"' in charts
    assert "Distance of groups by sex" in text


def test_many_clients_are_summed_up_by_quantiles(tmp_path):
    records = digits()
    found = preview(records, iid(records, clients=150, seed=0), seed=0)
    text = write_preview(found, "digits", tmp_path / "page.html").read_text()
    assert "Share of each class over clients" in text
    columns = {
        row["column"]
        for spec in specs(text)
        for rows in spec.get("datasets", {}).values()
        for row in rows
        if "column" in row
    }
    assert columns == {"lowest", "10%", "median", "90%", "highest"}


def test_clients_that_cannot_learn_much_are_told():
    records = heart_disease()
    said = " ".join(preview(records, pathological(records, clients=100, seed=0), seed=0).sentences)
    assert "100 of 100 clients have records of one class only" in said
    assert "clients have fewer than 10 records" in said


def test_a_hundred_thousand_clients_have_a_page(tmp_path):
    draw, number = np.random.default_rng(0), 200_000
    records = Records(
        card=heart_disease().card,
        label=pd.Series(draw.integers(0, 2, number)),
        features=pd.DataFrame({"x": draw.standard_normal(number)}),
    )
    found = preview(records, iid(records, clients=100_000, seed=0), seed=0)
    page = write_preview(found, "many", tmp_path / "page.html")
    assert page.stat().st_size < 2_000_000
    # Two records: the same label with chance 1/2, which is 1/2 away; otherwise 0.
    assert found.skew.label.mean() == pytest.approx(0.25, abs=0.01)


def test_the_command_prints_the_table_and_where_the_page_is(tmp_path):
    (tmp_path / "e.toml").write_text(CONFIG)
    page = tmp_path / "page.html"
    call = ["show", "data", str(tmp_path / "e.toml")]
    said = CliRunner().invoke(app, [*call, "--set", "partition.clients=6", "--out", str(page)])
    assert said.exit_code == 0, said.output
    for words in ("hearts: who holds what", "label distance", "sex distance", "6 of 6 clients"):
        assert words in said.output
    assert page.is_file()
    wrong = CliRunner().invoke(app, [*call, "--set", "partition.clients=900"])
    assert isinstance(wrong.exception, FedmodelError)
    assert "--set partition.clients" in wrong.exception.where
    assert "Choose clients = " in wrong.exception.fix
    useless = CliRunner().invoke(app, ["show", "data", "adult", "--out", str(page)])
    assert "no effect" in str(useless.exception)


def test_a_partitioner_of_ones_own_is_checked(tmp_path):
    (tmp_path / "mine.py").write_text(
        "import numpy as np\nfrom fedmodel.data.records import Assignment\n\n\n"
        "def lost(records):\n    '''Too short.'''\n"
        "    return Assignment(client=np.zeros(3, dtype=int), names=('a',))\n"
    )
    config = re.sub(r'name = "pathological"\nclients = 8', 'name = "mine.py:lost"', CONFIG)
    (tmp_path / "e.toml").write_text(config)
    wrong = CliRunner().invoke(app, ["show", "data", str(tmp_path / "e.toml")])
    assert "the partition is wrong" in str(wrong.exception)
