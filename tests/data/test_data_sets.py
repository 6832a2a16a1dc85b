"""The data sets that come along: counts as published, nothing that gives the label away, signal."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from fedmodel.data.federate import federate
from fedmodel.data.files import read_shipped
from fedmodel.data.financial import adult
from fedmodel.data.image import digits
from fedmodel.data.medical import heart_disease
from fedmodel.data.partition import iid, natural
from fedmodel.data.ranges import are_categories
from fedmodel.data.records import Assignment, as_text
from fedmodel.data.text import vader_tweets
from fedmodel.errors import FedmodelError

SETS = {"heart_disease": heart_disease, "adult": adult, "vader_tweets": vader_tweets}


@pytest.mark.parametrize(
    ("name", "size", "positives", "columns"),
    [("heart_disease", 920, 509, 13), ("adult", 32_561, 7_841, 12), ("vader_tweets", 3_432, 2_345, 0)],
)  # fmt: skip
def test_counts_are_the_published_ones(name, size, positives, columns):
    records = SETS[name]()
    assert len(records) == size
    assert int((records.label.cat.codes == 1).sum()) == positives
    assert (0 if records.features is None else records.features.shape[1]) == columns
    assert records.card.name == name
    assert all([records.card.source, records.card.licence, records.card.citation])
    assert records.card.harms and records.card.cautions


def test_hospitals_are_the_natural_clients():
    assignment = natural(heart_disease())
    sizes = pd.Series(assignment.client).value_counts(sort=False).sort_index()
    assert dict(zip(assignment.names, sizes)) == {
        "Cleveland": 303, "Hungary": 294, "Switzerland": 123, "VA Long Beach": 200,
    }  # fmt: skip


def test_missing_values_are_missing():
    heart, census = heart_disease().features, adult().features
    assert heart["chol"].isna().sum() == 30 + 172 and heart["chol"].min() > 0
    assert heart["trestbps"].min() > 0
    assert census.isna().any(axis=1).sum() == 2_399
    assert not (census == "?").any(axis=None)


@pytest.mark.parametrize("make", [heart_disease, adult])
def test_no_column_gives_the_label_away(make):
    records = make()
    assert not {"num", "id", "dataset", "income-per-year", "fnlwgt"} & set(records.features)
    for name in records.features:  # the majority class of each value, or of each tenth of a number
        values = records.features[name]
        if pd.api.types.is_numeric_dtype(values):
            values = pd.qcut(values, 10, duplicates="drop")
        table = pd.crosstab(as_text(values).fillna("missing"), records.label)
        assert table.max(axis=1).sum() / len(records) < 0.83, name


@pytest.mark.parametrize("make", [heart_disease, adult])
def test_ranges_cover_the_columns_and_the_codebook_has_every_category(make):
    records = make()
    assert set(records.ranges) == set(records.features)
    for name, limits in records.ranges.items():
        values = records.features[name].dropna()
        if are_categories(limits):
            assert set(as_text(values)) <= set(limits), name
        else:
            assert values.between(*limits).mean() > 0.99, name


def test_age_is_cut_at_public_edges():
    assert heart_disease(sensitive=("age",)).attributes == {
        "age": ("under 45", "45-59", "60 and over")
    }
    assert len(adult(sensitive=("age", "sex")).attributes["age"]) == 4


@pytest.mark.parametrize("make", [heart_disease, adult])
def test_an_unknown_sensitive_attribute_is_named_with_the_nearest(make):
    with pytest.raises(FedmodelError, match="'sexx'") as error:
        make(sensitive=("sexx",))
    assert "sex" in error.value.fix


def test_tweets_without_a_clear_rating_are_left_out():
    frame = read_shipped("vader_tweets")
    records = vader_tweets()
    kept = frame[frame["mean_score"].abs() >= 0.5]
    assert (records.label == "positive").tolist() == (kept["mean_score"] > 0).tolist()
    assert not records.text.str.contains("&amp;").any()


def test_digits_are_scikit_learns():
    records, theirs = digits(), load_digits()
    data = federate(records, _everybody(records), encode="none", test=0.0, seed=0)
    np.testing.assert_allclose(data.x.numpy(), theirs.data / 16)
    assert [data.classes[label] for label in data.y.tolist()] == list(map(str, theirs.target))
    assert all([records.card.source, records.card.licence, records.card.harms])


def _everybody(records) -> Assignment:
    return Assignment.of([np.arange(len(records))])


@pytest.mark.parametrize(
    ("make", "auc", "accuracy"), [(heart_disease, 0.89, 0.80), (adult, 0.90, 0.845)]
)
def test_a_logistic_regression_finds_the_signal(make, auc, accuracy):
    records = make()
    data = federate(records, _everybody(records), test=0.3, seed=1)
    train, test = data.rows(0, "train"), data.rows(0, "test")
    model = LogisticRegression(max_iter=300).fit(data.x[train].numpy(), data.y[train].numpy())
    scores = model.predict_proba(data.x[test].numpy())[:, 1]
    assert roc_auc_score(data.y[test], scores) > auc
    assert ((scores > 0.5) == data.y[test].numpy()).mean() > accuracy


def test_hashed_tweets_say_what_their_words_say():
    records = vader_tweets()
    data = federate(records, iid(records, clients=3, seed=0), seed=0)
    bags = [" ".join(f"t{token}" for token in row if token) for row in data.x.tolist()]
    train, test, y, y_test = train_test_split(bags, data.y.numpy(), random_state=0, stratify=data.y)
    words = TfidfVectorizer(sublinear_tf=True)
    model = LogisticRegression(C=10).fit(words.fit_transform(train), y)
    assert model.score(words.transform(test), y_test) > 0.80
