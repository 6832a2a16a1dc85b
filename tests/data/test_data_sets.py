"""The data sets that come along: counts as published, nothing that gives the label away, signal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from fedmodel.data.federate import federate
from fedmodel.data.files import read_shipped
from fedmodel.data.financial import adult
from fedmodel.data.hospitals import covid_testing, indo_rct, support2
from fedmodel.data.image import digits
from fedmodel.data.loans import german_credit, hmda_boston, lending_club
from fedmodel.data.medical import breast_cancer, heart_disease
from fedmodel.data.partition import iid, natural
from fedmodel.data.ranges import are_categories
from fedmodel.data.records import Assignment, as_text
from fedmodel.data.text import vader_amazon, vader_tweets
from fedmodel.errors import FedmodelError

TABLES = {
    make.__name__: make
    for make in (
        heart_disease, support2, covid_testing, indo_rct, breast_cancer, adult, german_credit,
        hmda_boston, lending_club,
    )
}  # fmt: skip
SETS = {**TABLES, "vader_tweets": vader_tweets, "vader_amazon": vader_amazon}
# Pooled AUC, and over how many splits: small sets differ much from one to the next.
AUC = [
    (heart_disease, 0.90, 4), (support2, 0.80, 2), (covid_testing, 0.64, 2), (indo_rct, 0.61, 10),
    (breast_cancer, 0.99, 2), (adult, 0.90, 1), (german_credit, 0.79, 8), (hmda_boston, 0.79, 8),
    (lending_club, 0.74, 4),
]  # fmt: skip
tables = pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)


@pytest.mark.parametrize(
    ("name", "size", "positives", "columns"),
    [
        ("heart_disease", 920, 509, 13),
        ("support2", 9_105, 4_265, 29),  # 46.8 %
        ("covid_testing", 15_524 - 301, 865, 8),  # 5.7 %
        ("indo_rct", 602, 79, 29),
        ("breast_cancer", 569, 212, 30),
        ("adult", 32_561, 7_841, 12),
        ("german_credit", 1_000, 300, 20),
        ("hmda_boston", 2_380, 285, 12),  # 12 %
        ("lending_club", 9_857, 517, 21),  # 5.2 %
        ("vader_tweets", 3_432, 2_345, 0),
        ("vader_amazon", 2_985, 1_750, 0),
    ],
)
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


@pytest.mark.parametrize(
    ("make", "clients", "smallest", "largest"),
    [
        (covid_testing, 88, 1, 7_402),
        (indo_rct, 4, 3, 413),
        (lending_club, 50, 16, 1_324),
        (vader_amazon, 298, 1, 55),  # two of the 300 reviews have no clearly rated sentence
    ],
)
def test_natural_clients(make, clients, smallest, largest):
    assignment = natural(make())
    sizes = np.bincount(assignment.client)
    assert (len(assignment.names), sizes.min(), sizes.max()) == (clients, smallest, largest)


def test_the_illness_makes_clients_of_support2():
    assert len(natural(support2(), column="fac_dzgroup").names) == 8


def test_sensitive_attributes_are_counted_as_published():
    german = german_credit(sensitive=("sex", "foreign_worker", "age")).sensitive
    assert (german["sex"] == "female").sum() == 310  # A92
    assert (german["foreign_worker"] == "yes").sum() == 963
    boston = hmda_boston(sensitive=("afam", "single"))
    denied = (boston.label == "denied").groupby(boston.sensitive["afam"]).mean()
    assert denied.round(3).to_dict() == {"yes": 0.283, "no": 0.093}
    ill = support2(sensitive=("race", "income", "age"))
    assert (ill.sensitive["income"] == "unknown").sum() == 2_982
    assert ill.attributes["income"][0] == "under $11k"
    assert covid_testing(sensitive=("age",)).attributes["age"][-1] == "18 and over"
    assert indo_rct(sensitive=("age", "gender")).sensitive["gender"].value_counts()["female"] == 476


def test_missing_values_are_missing():
    heart, census = heart_disease().features, adult().features
    assert support2().features["fac_race"].isna().sum() == 42
    assert lending_club().features["emp_length"].isna().sum() == 645
    assert indo_rct().features["asa"].isna().sum() == 1
    assert covid_testing().features["payor_group"].isna().sum() == 6_981
    assert heart["chol"].isna().sum() == 30 + 172 and heart["chol"].min() > 0
    assert heart["trestbps"].min() > 0
    assert census.isna().any(axis=1).sum() == 2_399
    assert not (census == "?").any(axis=None)


LEAKS = {
    "num", "id", "dataset", "income-per-year", "fnlwgt",
    "pid", "event", "time", "num_surv2m", "num_surv6m", "fac_sfdm2", "fac_dnr",
    "subject_id", "result", "ct_result", "rec_ver_tat", "clinic_name",
    "outcome", "bleed", "site", "diagnosis", "credit", "deny", "insurance", "Class", "addr_state",
}  # fmt: skip


@tables
def test_no_column_gives_the_label_away(make):
    records = make()
    assert not LEAKS & set(records.features)
    if make is breast_cancer:  # one measure of it is enough, and no mistake
        return
    majority = records.label.value_counts().max() / len(records)
    for name in records.features:  # the majority class of each value, or of each tenth of a number
        values = records.features[name]
        if pd.api.types.is_numeric_dtype(values):
            values = pd.qcut(values, 10, duplicates="drop")
        table = pd.crosstab(as_text(values).fillna("missing"), records.label)
        assert table.max(axis=1).sum() / len(records) < max(0.83, majority + 0.01), name


@tables
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


def test_breast_cancer_is_scikit_learns():
    records, theirs = breast_cancer(), load_breast_cancer()
    columns = [str(name) for name in theirs.feature_names]
    np.testing.assert_array_equal(records.features[columns].to_numpy(), theirs.data)
    assert ((records.label == "malignant").to_numpy() == (theirs.target == 0)).all()


def _everybody(records) -> Assignment:
    return Assignment.of([np.arange(len(records))])


def _mean_auc(records, *, splits):
    """Of scikit-learn's logistic regression on our encoding, over several 70/30 splits."""
    scores = []
    for seed in range(splits):
        data = federate(records, _everybody(records), test=0.3, seed=seed)
        train, test = data.rows(0, "train"), data.rows(0, "test")
        model = LogisticRegression(max_iter=300).fit(data.x[train].numpy(), data.y[train].numpy())
        predicted = model.predict_proba(data.x[test].numpy())[:, 1]
        scores.append(roc_auc_score(data.y[test], predicted))
    return float(np.mean(scores))


@pytest.mark.parametrize(("make", "auc", "splits"), AUC)
def test_a_logistic_regression_finds_the_signal_and_no_more(make, auc, splits):
    assert _mean_auc(make(), splits=splits) == pytest.approx(auc, abs=0.02)


@pytest.mark.parametrize(
    ("make", "column", "gain"), [(support2, "fac_dnr", 0.04), (hmda_boston, "insurance", 0.02)]
)
def test_what_is_left_out_gives_the_label_away(make, column, gain):
    records = make()
    features = records.features.assign(**{column: read_shipped(records.card.name)[column]})
    assert (
        _mean_auc(replace(records, features=features), splits=2)
        > _mean_auc(records, splits=2) + gain
    )


@pytest.mark.parametrize(("make", "accuracy"), [(vader_tweets, 0.80), (vader_amazon, 0.77)])
def test_hashed_texts_say_what_their_words_say(make, accuracy):
    records = make()
    data = federate(records, iid(records, clients=3, seed=0), seed=0)
    bags = [" ".join(f"t{token}" for token in row if token) for row in data.x.tolist()]
    train, test, y, y_test = train_test_split(bags, data.y.numpy(), random_state=0, stratify=data.y)
    words = TfidfVectorizer(sublinear_tf=True)
    model = LogisticRegression(C=10).fit(words.fit_transform(train), y)
    assert model.score(words.transform(test), y_test) > accuracy
