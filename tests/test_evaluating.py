"""A saved model on other records: encoded as it was trained, or refused with the column's name."""

import numpy as np
import pandas as pd
import pytest

import fedmodel
from fedmodel import Experiment
from fedmodel.errors import FedmodelError
from fedmodel.evaluating import evaluation_of


def people(number, seed, *, shift=0.0, **columns):
    """Made-up records of two columns that mean something, and one that does not."""
    draw = np.random.default_rng(seed)
    age, city = draw.normal(40 + shift, 10, number), draw.choice(["Aix", "Bonn"], number)
    ill = draw.random(number) < 1 / (1 + np.exp(-(age - 40) / 5 - (city == "Bonn")))
    label = np.where(ill, "yes", "no")
    return pd.DataFrame({"age": age, "city": city, "ill": label}).assign(**columns)


def experiment(file, **changes):
    data = {"name": "csv", "path": str(file), "label": "ill", "positive": "yes"}
    return {
        "rounds": 3,
        "data": data,
        "partition": {"name": "iid", "clients": 3},
        "model": {"name": "logistic"},
        "client": {"name": "sgd", "learning_rate": 0.5},
        **changes,
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluating")
    people(400, 1).to_csv(folder / "train.csv", index=False)
    return fedmodel.run(experiment(folder / "train.csv"), out=folder / "run")


def other(tmp_path, frame, **changes):
    frame.to_csv(tmp_path / "other.csv", index=False)
    return experiment(tmp_path / "other.csv", **changes)


def test_all_records_are_read_with_the_scale_of_training(trained, tmp_path):
    frame = people(300, 2, shift=20.0, note="spare")  # a new scale would hide that they are older
    experiment_ = evaluation_of(trained.path, other(tmp_path, frame))
    assert [finished.number for finished in experiment_.rounds(tmp_path / "run")] == [0]
    run = experiment_.run
    predicted = trained.predict(frame[["age", "city"]]).prediction
    assert run.last("num_records") == 300
    assert run.last("accuracy") == pytest.approx((predicted == frame.ill).mean())
    assert run.manifest["finished"]
    assert "After 0 rounds" not in run.report.read_text(encoding="utf-8")
    again = run.predict(frame[["age", "city"]])  # the copy predicts as the original
    assert (again.prediction == predicted).all()
    left = Experiment.resume(run.path)[1]
    assert list(left) == []


def test_the_data_that_it_was_trained_on_give_the_same_figures(trained, tmp_path):
    raw = experiment(trained.path.parent / "train.csv")
    raw["data"]["test"] = 0.2
    experiment_ = evaluation_of(trained.path, raw)
    list(experiment_.rounds(tmp_path / "run"))
    for name in ("loss", "accuracy", "roc_auc"):
        assert experiment_.run.last(name) == pytest.approx(trained.last(name), rel=1e-6)


@pytest.mark.parametrize(
    ("frame", "said", "place"),
    [
        (people(50, 3).drop(columns="city"), "'city', which is not among", ""),
        (people(50, 3, city="Cork"), "cannot read", "Cork"),
        (people(50, 3, age="old"), "cannot read", "'age'"),
        (people(50, 3).replace({"no": "perhaps"}), "does not know: ", ""),
    ],
)
def test_what_does_not_fit_is_refused_by_name(trained, tmp_path, frame, said, place):
    raw = other(tmp_path, frame)
    with pytest.raises(FedmodelError, match=said) as error:
        evaluation_of(trained.path, raw).built  # noqa: B018
    assert place in (error.value.where or "")
    assert "--" not in (error.value.fix or "")  # no option of another command


def test_texts_for_a_table_no_run_and_no_model_are_refused(trained, tmp_path):
    raw = {"data": {"name": "vader_tweets"}, "partition": {"name": "iid", "clients": 2}}
    with pytest.raises(FedmodelError, match="reads tables"):
        evaluation_of(trained.path, raw).built  # noqa: B018
    with pytest.raises(FedmodelError, match="holds no run"):
        evaluation_of(tmp_path, raw)
    plain = experiment(trained.path.parent / "train.csv", rounds=0)
    with pytest.raises(FedmodelError, match="no model to evaluate"):
        Experiment.read(plain)
    started = {**plain, "model": {"name": "logistic", "init": str(trained.path)}}
    with pytest.raises(FedmodelError, match="nothing is trained"):
        Experiment.read({**started, "evaluation": {"references": ["pooled"]}})
    started["data"] = {**started["data"], "encoder": str(trained.path), "encode": "none"}
    with pytest.raises(FedmodelError, match="`encode` has no effect"):
        Experiment.read(started)


def test_a_run_may_go_on_training_with_the_encoding_of_another(trained, tmp_path):
    raw = other(tmp_path, people(200, 4, shift=5.0), rounds=1)
    raw["model"]["init"] = raw["data"]["encoder"] = str(trained.path)
    run = fedmodel.run(raw, out=tmp_path / "run")
    assert run.last("num_records") < 100  # a share is held out, as ever
    assert (run.path / "encoder.json").read_text() == (trained.path / "encoder.json").read_text()
