"""What is fitted, on which records, and that it is what scikit-learn fits."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fedmodel.data.encode import fit_encoder
from fedmodel.data.hashing import HashedText
from fedmodel.errors import FedmodelError

RANGES = {"age": [0, 100], "gain": [-100.0, 100.0], "job": ["clerk", "nurse", "baker"]}


@pytest.fixture
def records(make_records):
    return make_records(60)


@pytest.fixture
def thirds(records, deal):
    return deal(records, 3)


def fit(records, assignment, encode="pooled", *, training=None, **options):
    """The encoded records, the encoder and the statements; every fourth record is held out."""
    if training is None:
        training = np.arange(len(records)) % 4 > 0
    encoder, outside = fit_encoder(records, assignment, training=training, encode=encode, **options)
    return encoder.transform(records.features, assignment.client), encoder, outside


def columns(encoder, *names: str) -> list[int]:
    return [encoder.names.index(name) for name in names]


def test_pooled_is_scikit_learns_scaling_and_one_hot(records, thirds):
    x, encoder, _ = fit(records, thirds)
    training = np.arange(60) % 4 > 0
    numbers = records.features[["age", "gain"]]
    scaler = StandardScaler().fit(numbers[training])
    expected = np.nan_to_num(scaler.transform(numbers), nan=0.0)
    np.testing.assert_allclose(x[:, columns(encoder, "age", "gain")], expected, rtol=1e-5)
    jobs = records.features[["job"]]
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(jobs[training])
    names = ["job = clerk", "job = cook", "job = nurse", "job is missing"]  # scikit-learn's order
    np.testing.assert_array_equal(x[:, columns(encoder, *names)], one_hot.transform(jobs))
    assert x.dtype == np.float32 and x.shape == (60, len(encoder.names))


def test_missing_numbers_are_marked(records, thirds):
    x, encoder, _ = fit(records, thirds)
    missing = records.features["gain"].isna().to_numpy()
    np.testing.assert_array_equal(x[:, columns(encoder, "gain is missing")[0]], missing)
    assert "age is missing" not in encoder.names


def test_each_clients_own_scale_is_scikit_learns(records, thirds):
    x, encoder, _ = fit(records, thirds, "client")
    training = np.arange(60) % 4 > 0
    for client in range(3):
        mine = thirds.client == client
        numbers = records.features[["age", "gain"]]
        scaler = StandardScaler().fit(numbers[training & mine])
        expected = np.nan_to_num(scaler.transform(numbers[mine]), nan=0.0)
        np.testing.assert_allclose(
            x[mine][:, columns(encoder, "age", "gain")], expected, rtol=1e-4, atol=1e-6
        )


def test_what_a_client_never_measured_counts_as_missing(make_records, deal):
    records = make_records(60)
    assignment = deal(records, 3)
    training = np.arange(60) % 4 > 0
    records.features.loc[(assignment.client == 1) & training, "gain"] = np.nan
    x, encoder, _ = fit(records, assignment, "client")
    gain, marked = columns(encoder, "gain", "gain is missing")
    assert (x[assignment.client == 1, gain] == 0).all()
    assert (x[assignment.client == 1, marked] == 1).all()


def test_constant_columns_are_not_divided_by_their_rounding(make_records, deal):
    features = pd.DataFrame({"same": [0.1] * 59 + [0.3], "x": range(60)})
    records = make_records(60, features=features)
    training = np.arange(60) < 59
    x, _, _ = fit(records, deal(records, 3), training=training)
    np.testing.assert_allclose(x[:59, 0], 0, atol=1e-9)
    np.testing.assert_allclose(x[59, 0], 0.2, rtol=1e-6)


@settings(max_examples=20, deadline=None)
@given(encode=st.sampled_from(["pooled", "client", "public"]), seed=st.integers(0, 99))
def test_held_out_records_change_no_training_row(make_records, deal, encode, seed):
    """Leakage: whatever is held out is replaced; the training rows stay as they were."""
    options = {"ranges": RANGES} if encode == "public" else {}
    records, other = make_records(60), make_records(60, seed=seed + 1)
    training = np.arange(60) % 4 > 0
    changed = records.features.copy()
    changed.loc[~training] = other.features.loc[~training]
    changed.loc[~training, "job"] = "astronaut"
    changed.loc[~training, "age"] = 1e6
    before, encoder, outside = fit(records, deal(records, 3), encode, **options)
    replaced = make_records(60, features=changed, label=records.label)
    after, encoder_after, outside_after = fit(replaced, deal(records, 3), encode, **options)
    assert encoder.names == encoder_after.names and outside == outside_after
    np.testing.assert_array_equal(before[training], after[training])


@settings(max_examples=20, deadline=None)
@given(row=st.integers(0, 59), seed=st.integers(1, 99))
def test_public_encoding_reads_no_other_record(make_records, deal, row, seed):
    records, other = make_records(60), make_records(60, seed=seed)
    others = other.features.sample(frac=1, random_state=seed, ignore_index=True)
    others.loc[row] = records.features.loc[row]
    x, encoder, outside = fit(records, deal(records, 3), "public", ranges=RANGES)
    changed = make_records(60, features=others, label=records.label)
    y, encoder_after, _ = fit(changed, deal(records, 3), "public", ranges=RANGES)
    np.testing.assert_array_equal(x[row], y[row])
    assert encoder.names == encoder_after.names and outside == ()


def test_public_scale_by_hand(make_records, deal):
    features = pd.DataFrame(
        {"age": [0.0, 100.0, 75.0, 500.0, np.nan], "job": ["nurse", "cook", None, "clerk", "baker"]}
    )
    records = make_records(5, features=features, label=pd.Series([0, 1, 0, 1, 0]))
    ranges = {"age": [0, 100], "job": ["clerk", "nurse", "baker"]}
    x, encoder, _ = fit(records, deal(records, 1), "public", ranges=ranges)
    assert encoder.names == ("age", "age is missing", "job = clerk", "job = nurse", "job = baker")
    assert x.tolist() == [
        [-1, 0, 0, 1, 0],
        [1, 0, 0, 0, 0],  # a cook is in no codebook
        [0.5, 0, 0, 0, 0],
        [1, 0, 1, 0, 0],  # 500 is clipped
        [0, 1, 0, 0, 1],
    ]


def test_truth_values_need_no_range(make_records, deal):
    features = pd.DataFrame({"ill": [True, False] * 3})
    records = make_records(6, features=features, label=pd.Series([0, 1] * 3))
    assert fit(records, deal(records, 1), "public")[0][:, 0].tolist() == [1, -1] * 3


def test_numbers_can_be_categories(make_records, deal):
    records = make_records(4, features=pd.DataFrame({"code": [1.0, 2, np.nan, 3]}), label=pd.Series([0, 1, 0, 1]))  # fmt: skip
    x, _, _ = fit(records, deal(records, 1), "public", ranges={"code": ["1", "2"]})
    assert x.tolist() == [[1, 0], [0, 1], [0, 0], [0, 0]]


def test_the_users_range_goes_before_the_data_sets(make_records, deal):
    records = make_records(4, features=pd.DataFrame({"a": [0.0, 1, 2, 4]}), label=pd.Series([0, 1, 0, 1]), ranges={"a": (0.0, 4.0)})  # fmt: skip
    assert fit(records, deal(records, 1), "public")[0][:, 0].tolist() == [-1, -0.5, 0, 1]
    own = fit(records, deal(records, 1), "public", ranges={"a": [0, 2]})[0]
    assert own[:, 0].tolist() == [-1, 0, 1, 1]


def test_none_leaves_numbers_as_they_are(make_records, deal):
    features = pd.DataFrame({"a": [0.5, 2, -7, 1e6], "b": [True, False, True, False]})
    records = make_records(4, features=features, label=pd.Series([0, 1, 0, 1]))
    x, encoder, outside = fit(records, deal(records, 2), "none")
    np.testing.assert_array_equal(x, features.to_numpy(dtype=np.float32))
    assert encoder.names == ("a", "b") and outside == ()


def test_statements_say_what_was_fitted_and_where(records, thirds, make_records):
    pooled = fit(records, thirds)[2]
    assert [s.split(",")[0] for s in pooled] == [
        "Mean and deviation of 2 numeric columns",
        "The categories of 1 text column",
        "Which columns lack values",
    ]
    client = fit(records, thirds, "client")[2]
    assert "each client's own" in client[0] and "all clients'" in client[1]
    codebook = make_records(60, ranges={"job": ("clerk", "nurse", "cook")})
    assert not any("categories" in s for s in fit(codebook, thirds, "client")[2])
    assert fit(codebook, thirds, "client", ranges={"job": ["clerk"]})[1].names[-2:] == (
        "job = clerk",
        "job is missing",
    )


def test_an_encoder_can_be_kept_and_reads_new_records(records, thirds):
    x, encoder, _ = fit(records, thirds)
    kept = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(kept.transform(records.features), x)
    written = records.features.astype({"age": str})[["job", "gain", "age"]]  # as a CSV may give it
    np.testing.assert_array_equal(kept.transform(written), x)
    new = pd.DataFrame({"age": [20], "gain": [np.nan], "job": ["pilot"], "more": [1]})
    assert kept.transform(new).shape == (1, len(encoder.names))


def test_new_records_that_cannot_be_read(records, thirds):
    encoder = fit(records, thirds)[1]
    with pytest.raises(FedmodelError, match="no column 'gain'"):
        encoder.transform(records.features[["age", "job"]])
    with pytest.raises(FedmodelError, match="'old' in 'age' is not a number"):
        encoder.transform(records.features.astype({"age": str}).replace({"age": {"18.0": "old"}}).assign(age="old"))  # fmt: skip
    with pytest.raises(FedmodelError, match="no client is named") as error:
        fit(records, thirds, "client")[1].transform(records.features)
    assert "0, 1, 2" in error.value.fix


@pytest.mark.parametrize(
    ("encode", "ranges", "problem"),
    [
        ("pooled", {"age": [0, 1]}, "no effect under encode = \"pooled\""),
        ("none", {"age": [0, 1]}, "no effect under encode = \"none\""),
        ("client", {"age": [0, 1]}, "limits of 'age' have no effect"),
        ("public", {**RANGES, "agee": [0, 1]}, "'agee', which is not a feature"),
        ("public", {**RANGES, "age": [1, 0]}, "range of 'age' is"),
        ("public", {**RANGES, "age": [1]}, "range of 'age' is"),
        ("public", {**RANGES, "age": []}, "range of 'age' is"),
        ("public", {**RANGES, "job": ["a", 1]}, "range of 'job' is"),
        ("public", {**RANGES, "job": ["a", "a"]}, "range of 'job' is"),
        ("public", {**RANGES, "job": [0, 1]}, "'job' holds text"),
        ("none", {}, "job hold text"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(records, thirds, encode, ranges, problem):
    with pytest.raises(FedmodelError, match=problem):
        fit(records, thirds, encode, ranges=ranges)


def test_a_lacking_public_range_is_answered_with_what_to_write(records, thirds):
    with pytest.raises(FedmodelError, match="range of: gain, job") as error:
        fit(records, thirds, "public", ranges={"age": [0, 100]})
    assert "[data.ranges]\ngain = [LOWEST, HIGHEST]\njob = [" in error.value.fix
    values = records.features["gain"].dropna()
    assert not any(str(v) in error.value.fix for v in values)  # nothing is read off the records


def test_missing_values_under_none(make_records, deal):
    records = make_records(60, features=make_records(60).features[["age", "gain"]])
    with pytest.raises(FedmodelError, match="no value in 'gain'"):
        fit(records, deal(records, 2), "none")


def test_a_column_of_names_is_refused(make_records, deal):
    records = make_records(60, features=pd.DataFrame({"name": [f"n{i}" for i in range(60)]}))
    with pytest.raises(FedmodelError, match="'name' has 45 different values") as error:
        fit(records, deal(records, 2))
    assert "at most 22" in error.value.fix


def test_hashed_text_is_stable_padded_and_cut():
    hashed = HashedText(max_tokens=4, buckets=50)
    x = hashed.transform(pd.Series(["Good good :)", "", "a b c d e f"]))
    assert x.dtype == np.int64 and x.shape == (3, 4)
    assert x[0, 0] == x[0, 1] and x[0, 3] == 0
    assert (x[1] > 0).tolist() == [True, False, False, False]
    assert (x[2] > 0).all() and x.max() < 50
    assert hashed.transform(pd.Series(["good"]))[0, 0] == x[0, 0] == 46  # in every process


@given(words=st.text(max_size=40), buckets=st.integers(2, 9))
def test_token_numbers_stay_in_their_buckets(words, buckets):
    x = HashedText(max_tokens=5, buckets=buckets).transform(pd.Series([words]))
    assert ((x >= 0) & (x < buckets)).all() and x[0, 0] > 0
