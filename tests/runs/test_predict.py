"""Predictions are what the model says when it is called directly; what does not fit is refused."""

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pandas._libs.parsers import STR_NA_VALUES

import fedmodel
from fedmodel.catalogue import KINDS
from fedmodel.cohort.model import as_logits
from fedmodel.data.encoder import Category, Encoder, Number
from fedmodel.data.hashing import HashedText
from fedmodel.data.saved import Reading
from fedmodel.data.unseen import MISSING_WORDS, fitted, read_unseen
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment

TABLE = {
    "data": {"name": "heart_disease", "encode": "pooled", "validation": 0.2},
    "model": {"name": "mlp", "hidden": [8]},
}
SETS = {
    "table": TABLE,
    "own scales": {**TABLE, "data": {"name": "heart_disease", "encode": "client"}},
    "text": {
        "data": {"name": "vader_tweets", "max_tokens": 8, "buckets": 256},
        "partition": {"name": "iid", "clients": 3},
        "model": {"name": "text_bag"},
    },
    "image": {
        "data": {"name": "digits", "encode": "none"},
        "partition": {"name": "iid", "clients": 3},
        "model": {"name": "cnn", "channels": [4, 4]},
    },
}
CLIENTS = ["Cleveland", "Hungary", "Switzerland", "VA Long Beach"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of each kind of data; each is made once, when it is first asked for."""
    made = {}

    def run(kind):
        if kind not in made:
            out = tmp_path_factory.mktemp("runs") / "run"
            client = {"name": "sgd", "learning_rate": 0.1, "batch_size": 64}
            made[kind] = fedmodel.run({"rounds": 2, "client": client, **SETS[kind]}, out=out)
        return made[kind]

    return run


def raw(kind):
    """Records in the columns of the data set."""
    records = KINDS["dataset"].bind(SETS[kind]["data"]["name"], base=Path.cwd())()
    return records.features if records.text is None else records.text.to_frame()


@cache
def built(path):
    """The data as it is loaded and encoded anew."""
    return Experiment.read(path / "config.toml").built.data


def directly(run, frame, *, best=False, client=None):
    """The probabilities, by the encoder as it was fitted and the module itself."""
    data = built(run.path)
    if isinstance(data.encoder, HashedText):
        x = data.encoder.transform(frame["text"])
    elif client is not None:
        x = data.encoder.transform(frame, np.full(len(frame), data.clients.index(client)))
    else:
        x = data.encoder.transform(frame)
    module = run.model
    if best:
        from safetensors.torch import load_file

        module.load_state_dict(load_file(run.path / "best.safetensors"))
    with torch.no_grad():
        return as_logits(module(torch.from_numpy(x))).softmax(1).numpy(), data.classes


@pytest.mark.parametrize("kind", ["table", "text", "image"])
def test_predict_is_the_model_called_directly(kind, trained, tmp_path, monkeypatch):
    run, frame = trained(kind), raw(kind)
    expected, classes = directly(run, frame)
    monkeypatch.chdir(tmp_path)  # it is found from anywhere, by its folder alone
    predicted = fedmodel.load(run.path).predict(frame)
    names = [f"probability_{name}" for name in classes]
    assert list(predicted) == ["prediction", *names]
    np.testing.assert_allclose(predicted[names].to_numpy(), expected, atol=1e-6)
    assert predicted["prediction"].tolist() == [classes[k] for k in expected.argmax(1)]
    assert predicted[names[0]].std() > 0.001


@pytest.mark.parametrize("client", CLIENTS[:2])
def test_each_client_has_its_own_scale(client, trained):
    run, frame = trained("own scales"), raw("own scales").head(50)
    expected, _ = directly(run, frame, client=client)
    predicted = run.predict(frame, client=client)
    np.testing.assert_allclose(predicted.iloc[:, 1:].to_numpy(), expected, atol=1e-6)


def test_the_best_model_and_the_last(trained):
    run, frame = trained("table"), raw("table")
    best, _ = directly(run, frame, best=True)
    np.testing.assert_allclose(run.predict(frame, best=True).iloc[:, 1:], best, atol=1e-6)
    del run.__dict__["model"]
    last, _ = directly(run, frame)
    np.testing.assert_allclose(run.predict(frame).iloc[:, 1:], last, atol=1e-6)


@pytest.mark.parametrize("kind", ["table", "text", "image"])
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".parquet"])
def test_a_file_gives_what_the_frame_gives(kind, suffix, trained, tmp_path):
    from fedmodel.runs.predict import predict_file

    run, frame = trained(kind), raw(kind).head(60)
    file = tmp_path / f"new.records{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(file)
    else:
        frame.to_csv(file, index=False)
    _, out = predict_file(run.path, file)
    assert out == tmp_path / "new.records-predictions.csv"
    written, expected = pd.read_csv(out, dtype={"prediction": "str"}), run.predict(frame)
    assert written["prediction"].tolist() == expected["prediction"].tolist()
    np.testing.assert_allclose(written.iloc[:, 1:], expected.iloc[:, 1:], atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file.name, out.name])


PLUGIN = '''
from torch import nn


def net(*, num_features: int, num_classes: int):
    """One layer."""
    return nn.Linear(num_features, num_classes)
'''


def test_the_accuracy_is_the_run_s_own_also_where_data_and_plugin_are_gone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"city": draw.choice(["a", "b"], 200), "size": draw.normal(size=200)})
    frame["y"] = np.where(frame["size"] + (frame["city"] == "a") + draw.normal(size=200) > 0, 7, 3)
    frame["part"] = np.where(np.arange(200) % 2, "train", "test")
    frame.to_csv(tmp_path / "train.csv", index=False)
    (tmp_path / "net.py").write_text(PLUGIN)
    data = {"name": "csv", "path": str(tmp_path / "train.csv"), "label": "y", "split": "part"}
    config = {
        "rounds": 2,
        "data": data,
        "partition": {"name": "iid", "clients": 2},
        "model": {"name": "net.py:net"},
        "client": {"name": "sgd", "learning_rate": 0.5},
    }
    counted = fedmodel.run(config, out=tmp_path / "run").last("accuracy")
    (tmp_path / "train.csv").unlink()
    (tmp_path / "net.py").unlink()
    moved = fedmodel.load((tmp_path / "run").rename(tmp_path / "elsewhere"))
    predicted = moved.predict(frame[frame["part"] == "test"], keep=["y", "part"])
    assert list(predicted) == ["y", "part", "prediction", "probability_3", "probability_7"]
    right = predicted["prediction"] == predicted["y"].astype(str)
    assert right.mean() == pytest.approx(counted, abs=1e-9)
    assert 0.6 < counted < 1


# What does not fit


READING = Reading(
    Encoder(
        columns=(
            Number(name="age", shift=np.array([50.0]), scale=np.array([10.0])),
            Category(name="city", categories=("1", "None", "york")),
            Number(name="pain", shift=np.zeros(1), scale=np.ones(1), may_miss=False),
        )
    ),
    ("no", "yes"),
)
GOOD = {"age": [50.0, 60.0, 40.0], "city": ["york", "1", "None"], "pain": [True, False, True]}


def refused(frame, reading=READING, **options):
    with pytest.raises(FedmodelError) as caught:
        fitted(pd.DataFrame(frame), reading, **options)
    return " ".join(str(caught.value).split())


def test_records_that_fit_are_taken_as_they_are():
    table, notes = fitted(pd.DataFrame(GOOD), READING)
    assert notes == []
    x = READING.encoder.transform(table)
    assert x.tolist() == [[0, 0, 0, 1, 1], [1, 1, 0, 0, 0], [-1, 0, 1, 0, 1]]


def test_the_order_of_columns_makes_no_difference():
    table, _ = fitted(pd.DataFrame(GOOD)[["pain", "age", "city"]], READING)
    pd.testing.assert_frame_equal(table, fitted(pd.DataFrame(GOOD), READING)[0])


def test_an_unknown_category_is_refused_with_count_values_and_records():
    frame = {**GOOD, "city": ["york", "yrok", "leeds"]}
    said = refused(frame)
    assert "2 records: 'yrok' (record 2), 'leeds' (record 3)" in said
    assert "It knows: 1, None, york" in said
    assert "--allow-unknown" in said
    table, notes = fitted(pd.DataFrame(frame), READING, allow_unknown=True)
    assert READING.encoder.transform(table)[1:, 1:4].sum() == 0  # none of the categories
    assert "unknown to the model in 2 records" in notes[0]


@pytest.mark.parametrize(
    ("column", "values", "told"),
    [
        ("age", [50, "old", "1,5"], "has no number in 2 records: 'old' (record 2), '1,5'"),
        ("age", [50, np.inf, 1], "is infinite in 1 record: 'inf' (record 2)"),
        ("age", pd.to_datetime(["2020-01-01"] * 3), "is of type datetime64"),
        ("age", [50, True, "x"], "'x' (record 3)"),
        ("age", [[1], 2, 3], "'[1]' (record 1)"),
        ("pain", [1.0, None, None], "has no value in 2 records: record 2, record 3"),
        ("city", ["york", 1.5, "1"], "'1.5' (record 2)"),
        ("city", [["york"], "york", "1"], "\"['york']\" (record 1)"),
    ],
)
def test_values_that_no_model_can_read(column, values, told):
    assert told in refused({**GOOD, column: values})


def test_all_faults_are_told_at_once():
    said = refused({"age": ["a", 1, 2], "city": ["b", "1", "1"], "pain": [None, 1, 0]})
    for name in ("'age' has no number", "'city' has categories unknown", "'pain' has no value"):
        assert name in said
    assert "3 columns hold" in said


def test_columns_that_are_missing_or_too_many():
    few = {"age": GOOD["age"], "pain": GOOD["pain"]}
    assert "the column 'city', which is not among" in refused(few)
    assert "Did you mean `citty`?" in refused({**few, "citty": GOOD["city"]})
    said = refused({**GOOD, "id": [1, 2, 3], "label": ["yes"] * 3})
    assert "does not read the columns 'id', 'label'" in said
    assert "--keep id --keep label" in said
    fitted(pd.DataFrame({**GOOD, "id": [1, 2, 3]}), READING, keep=["id"])
    assert "no column 'ID' to keep" in refused({**GOOD, "id": [1, 2, 3]}, keep=["ID"])
    twice = pd.concat([pd.DataFrame(GOOD), pd.DataFrame({"age": [1, 2, 3]})], axis=1)
    assert "two columns 'age'" in refused(twice)
    assert "no records" in refused(pd.DataFrame(GOOD).head(0))


def test_what_is_filled_in_is_noted():
    frame = {**GOOD, "age": [50.0, None, 40.0], "city": [None, "1", "1"]}
    table, notes = fitted(pd.DataFrame(frame), READING)
    assert READING.encoder.transform(table)[:, 0].tolist() == [0, 0, -1]
    assert "no value in 1 record: record 2" in notes[0]
    assert "no value in 1 record: record 1" in notes[1]


@pytest.mark.parametrize(
    "values",
    [
        pd.Series([50, 60, 40], dtype="Int64"),
        pd.Series([50, 60, 40], dtype="int8"),
        pd.Series(["50", "60", "40"]),
        pd.Series(["50", "60", "40"], dtype="category"),
        pd.Series([50.0, 60.0, 40.0], dtype="Float32"),
    ],
)
def test_numbers_of_any_type_are_numbers(values):
    table, _ = fitted(pd.DataFrame({**GOOD, "age": values}), READING)
    assert READING.encoder.transform(table)[:, 0].tolist() == [0, 1, -1]


def test_missing_in_any_type_is_missing():
    for dtype in ("Int64", "Float64", "boolean", "object", "string"):
        values = pd.Series([1, None, 0], dtype=dtype)
        assert "1 record: record 2" in fitted(pd.DataFrame({**GOOD, "age": values}), READING)[1][0]


def test_texts_have_to_be_texts():
    reading = Reading(HashedText(max_tokens=3, buckets=9, column="review"), ("no", "yes"))
    assert "is of type" in refused({"review": [1, 2]}, reading)
    assert "has no text in 1 record: '3' (record 2)" in refused({"review": ["a", 3]}, reading)
    assert "the column 'review'" in refused({"text": ["a"]}, reading)
    _, notes = fitted(pd.DataFrame({"review": ["a", None, " "]}), reading)
    assert "no text in 2 records: record 2, record 3" in notes[0]


def test_words_for_nothing_are_those_of_pandas(tmp_path):
    assert set(MISSING_WORDS) == set(STR_NA_VALUES)
    (tmp_path / "new.csv").write_text("age,city,pain,id\nNA,None,TRUE,007\n?, york ,FALSE,NA\n")
    frame = read_unseen(tmp_path / "new.csv", READING, missing=["?"])
    assert frame["age"].isna().all()
    assert frame["city"].tolist() == ["None", "york "]  # a category, though pandas drops it
    assert frame["id"].tolist() == ["007", "NA"]  # kept as it is written


def test_another_separator_is_told(tmp_path):
    (tmp_path / "new.csv").write_text("age;city;pain\n1;york;0\n")
    with pytest.raises(FedmodelError) as caught:
        read_unseen(tmp_path / "new.csv", READING)
    assert "separated by ';'" in str(caught.value)
    assert list(read_unseen(tmp_path / "new.csv", READING, separator=";")) == list(GOOD)


@given(
    st.lists(st.floats(allow_infinity=False), min_size=1, max_size=3),
    st.lists(st.text(), max_size=3, unique=True),
    st.lists(st.text(min_size=1), min_size=2, max_size=3, unique=True),
)
def test_an_encoder_comes_back_from_its_file(scales, categories, classes):
    scale = np.array(scales)
    clients = tuple(map(str, range(len(scales)))) if len(scales) > 1 else ()
    columns = (
        Number(name="a", shift=scale, scale=scale[::-1], clip=True, indicator=True),
        Category(name="b", categories=tuple(categories)),
    )
    reading = Reading(Encoder(columns=columns, clients=clients), tuple(classes))
    again = Reading.from_json(reading.to_json())
    assert again.classes == reading.classes
    assert again.encoder.clients == clients
    number, category = again.encoder.columns
    np.testing.assert_array_equal(number.shift, scale)
    np.testing.assert_array_equal(number.scale, scale[::-1])
    assert (number.name, number.clip, number.indicator, number.may_miss) == ("a", True, True, True)
    assert category == category and vars(category) == vars(columns[1])


def test_a_damaged_encoder_is_told():
    good = json.loads(READING.to_json())
    for damaged in (
        "",
        "{}",
        json.dumps({**good, "version": 2}),
        json.dumps({**good, "columns": 1}),
    ):
        with pytest.raises(FedmodelError, match="cannot be read"):
            Reading.from_json(damaged)


@pytest.mark.parametrize(
    ("file", "problem"),
    [("model.safetensors", "cannot be read as a model"), ("config.toml", "is not valid TOML")],
)
def test_a_damaged_file_of_the_run_is_told(trained, tmp_path, file, problem):
    copy = Path(shutil.copytree(trained("table").path, tmp_path / "copy"))
    (copy / file).write_text("junk [")
    run = fedmodel.load(copy)
    with pytest.raises(FedmodelError, match=problem) as error:
        run.predict(pd.DataFrame({"age": [30]}))
    assert file in str(error.value)
    if file == "config.toml":
        with pytest.raises(FedmodelError, match=problem):
            run.config  # noqa: B018


def test_the_run_has_to_have_what_is_asked_for(trained, tmp_path):
    run, frame = trained("text"), raw("text").head(3)
    with pytest.raises(FedmodelError, match=r"best\.safetensors"):
        run.predict(frame, best=True)
    with pytest.raises(FedmodelError, match="a client has no effect"):
        run.predict(frame, client="1")
    own, frame = trained("own scales"), raw("own scales").head(3)
    with pytest.raises(FedmodelError, match="no client is named"):
        own.predict(frame)
    with pytest.raises(FedmodelError) as caught:
        own.predict(frame, client="Clevland")
    assert "Did you mean `Cleveland`?" in str(caught.value)
    with pytest.raises(FedmodelError, match="cannot be kept"):
        run.predict(raw("text").head(3).assign(prediction=1), keep=["prediction"])


def test_the_scales_of_clients_lie_in_the_file_only_where_they_are_their_own(trained):
    pooled = json.loads((trained("table").path / "encoder.json").read_text())
    own = json.loads((trained("own scales").path / "encoder.json").read_text())
    assert pooled["clients"] == []
    assert own["clients"] == CLIENTS
    for plain, count in ((pooled, 1), (own, 4)):
        assert {len(c["scale"]) for c in plain["columns"] if "scale" in c} == {count}
