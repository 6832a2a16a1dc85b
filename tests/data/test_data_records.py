"""Records, and the small functions that make levels of values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fedmodel.data.records import Assignment, as_levels, as_text, in_order
from fedmodel.data.sensitive import chosen, in_bins
from fedmodel.errors import FedmodelError


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1, 20], ["1", "20"]),
        ([1.0, None], ["1", None]),
        ([1.5, 2.0], ["1.5", "2.0"]),
        ([True, False], ["True", "False"]),
        (["a", None], ["a", None]),
        (pd.Categorical([2.0, None]), ["2", None]),
    ],
)
def test_values_as_text(values, text):
    result = as_text(pd.Series(values))
    assert [None if pd.isna(value) else value for value in result] == text


def test_numbers_are_ordered_by_size_and_names_by_name():
    assert in_order(["10", "9", "-1"]) == ["-1", "9", "10"]
    assert in_order(["b", "a", "10", "9"]) == ["10", "9", "a", "b"]


def test_a_categorical_keeps_its_order():
    assert list(as_levels(pd.Series(pd.Categorical(["z"], ["z", "a"]))).cat.categories) == [
        "z",
        "a",
    ]


def test_truth_values_become_two_classes(make_records):
    records = make_records(4, label=pd.Series([True, False, True, False]))
    assert records.classes == ("False", "True")
    assert records.label.cat.codes.tolist() == [1, 0, 1, 0]


def test_a_withheld_attribute_is_a_level(make_records):
    records = make_records(
        3, sensitive=pd.DataFrame({"sex": ["f", None, "m"]}), label=pd.Series([0, 1, 1])
    )
    assert records.attributes == {"sex": ("f", "m", "unknown")}
    assert records.sensitive["sex"].tolist() == ["f", "unknown", "m"]


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ({"label": pd.Series(["yes"] * 6)}, "only one class"),
        ({"label": pd.Series(["yes", None] * 3)}, "label of 3 records"),
        ({"label": pd.Series(["yes", "no"])}, "2 labels, and 6 rows of features"),
        ({"features": None}, "either features or text"),
        ({"text": pd.Series(["a"] * 6)}, "either features or text"),
        ({"features": pd.DataFrame({"x": [1.0, np.inf] * 3})}, "infinite"),
        ({"features": pd.DataFrame({"x": pd.to_datetime(["2020-01-01"] * 6)})}, "Timestamp"),
        ({"features": pd.DataFrame({"x": [[1], [2]] * 3})}, "list"),
        ({"features": pd.DataFrame(index=range(6))}, "no feature"),
        ({"split": pd.Series(["train", "dev"] * 3)}, "split other than"),
        ({"clients": pd.Series(["a", None] * 3)}, "without a client"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(make_records, parts, problem):
    with pytest.raises(FedmodelError, match=problem):
        make_records(6, **{"label": pd.Series(["yes", "no"] * 3), **parts})


def test_bins_agree_with_numpy():
    values = pd.Series([0.0, 44, 45, 59, 60, 61, np.nan])
    result = in_bins(values, [45, 60])
    assert list(result.cat.categories) == ["under 45", "45-59", "60 and over"]
    assert result.cat.codes[:-1].tolist() == np.digitize(values[:-1], [45, 60]).tolist()
    assert result.isna().tolist() == values.isna().tolist()


def test_bins_of_fractions_promise_no_whole_numbers():
    assert list(in_bins(pd.Series([44.5]), [45, 60]).cat.categories)[1] == "45 to under 60"


@pytest.mark.parametrize(
    ("names", "bins", "problem"),
    [
        (["ages"], {}, "no sensitive attribute 'ages'"),
        (["sex", "sex"], {}, "named twice"),
        (["age"], {}, "a number with 30 values"),
        (["name"], {}, "has 60 levels"),
        (["sex"], {"sex": [1]}, "not a number"),
        (["sex"], {"age": [45]}, "not among the sensitive"),
        (["age"], {"age": []}, "bins of 'age' are"),
        (["age"], {"age": [60, 45]}, "bins of 'age' are"),
    ],
)
def test_sensitive_attributes_that_cannot_be_used(names, bins, problem):
    table = {
        "sex": pd.Series(["f", "m"] * 30),
        "age": pd.Series([*range(30), *range(30)]),
        "name": pd.Series([f"n{i}" for i in range(60)]),
    }
    with pytest.raises(FedmodelError, match=problem):
        chosen(names, table, bins=bins)


def test_an_assignment_from_parts():
    result = Assignment.of([np.array([2, 0]), np.array([1])])
    assert result.client.tolist() == [0, 1, 0] and result.names == ("0", "1")
