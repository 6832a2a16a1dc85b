"""`fedmodel predict` as its user meets it."""

import pandas as pd
import pytest

import fedmodel
from fedmodel.data.medical import heart_disease

CONFIG = {
    "rounds": 1,
    "data": {"name": "heart_disease"},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.1},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fedmodel.run(CONFIG, out=tmp_path_factory.mktemp("run") / "hearts")


@pytest.fixture
def patients(tmp_path):
    frame = heart_disease().features.head(6).reset_index(drop=True)
    return frame.assign(patient=[f"00{number}" for number in range(6)])


def test_predictions_are_written_beside_the_file(call, run, patients):
    patients.to_csv("new.csv", index=False)
    code, said = call("predict", run.path, "new.csv", "--keep", "patient")
    assert code == 0
    assert "6 records:" in said
    assert "new-predictions.csv" in said
    written = pd.read_csv("new-predictions.csv", dtype={"patient": "str"})
    assert written["patient"].tolist() == patients["patient"].tolist()
    expected = run.predict(patients.drop(columns="patient"))
    assert written["prediction"].tolist() == expected["prediction"].tolist()
    code, said = call("predict", run.path, "new.csv", "--keep", "patient")
    assert code == 2
    assert "is there already" in said
    assert call("predict", run.path, "new.csv", "--keep", "patient", "--out", "b.parquet")[0] == 0
    pd.testing.assert_frame_equal(pd.read_parquet("b.parquet"), written, rtol=1e-12)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sex": ["Male", "male", "X", "X", "Male", "Male"]}, "3 records: 'male' (record 2), 'X'"),
        ({"age": [60, "old", 50, "60 y", 1, 2]}, "2 records: 'old' (record 2), '60 y' (record 4)"),
        ({"extra": [1] * 6}, "does not read the column 'extra'"),
        ({"age": None}, "the model reads the column 'age'"),
    ],
)
def test_nothing_is_written_where_something_does_not_fit(
    call, run, patients, tmp_path, change, words
):
    frame = patients.drop(columns="patient").astype(object)
    for name, values in change.items():
        frame = frame.drop(columns=name) if values is None else frame.assign(**{name: values})
    frame.to_csv("new.csv", index=False)
    code, said = call("predict", run.path, "new.csv")
    assert code == 2
    assert words in said
    assert [path.name for path in tmp_path.iterdir()] == ["new.csv"]


def test_an_unknown_category_may_be_allowed(call, run, patients):
    frame = patients.drop(columns="patient").assign(sex=["X", *patients["sex"][1:]])
    frame.to_csv("new.csv", index=False)
    code, said = call("predict", run.path, "new.csv", "--allow-unknown")
    assert code == 0
    assert "note: 'sex': a category unknown to the model in 1 record: 'X' (record 1)" in said


def test_there_has_to_be_a_run_and_a_file(call, run):
    code, said = call("predict", "nowhere", "new.csv")
    assert (code, "nowhere holds no run" in said) == (2, True)
    code, said = call("predict", run.path, "new.csv")
    assert (code, "there is no file new.csv" in said) == (2, True)
