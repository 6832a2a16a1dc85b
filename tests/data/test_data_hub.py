"""Data sets of Hugging Face, from a local folder: nothing is looked up on a network."""

from __future__ import annotations

import datasets
import pandas as pd
import pytest

from fedmodel.data.hub import hf
from fedmodel.data.tables import csv
from fedmodel.errors import FedmodelError

TABLE = pd.DataFrame(
    {
        "age": [20.0, 31.0, None, 64.0] * 5,
        "job": ["clerk", "cook", "nurse", "cook"] * 5,
        "bank": ["north", "south"] * 10,
        "paid": ["yes", "no", "no", "yes"] * 5,
    }
)


@pytest.fixture(autouse=True)
def _offline(monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "loans"
    path.mkdir()
    TABLE.to_csv(path / "train.csv", index=False)
    return path


def test_a_folder_without_a_test_split_is_what_csv_reads(folder):
    ours = hf(folder=folder, label="paid", client="bank", sensitive=("job",))
    theirs = csv(path=folder / "train.csv", label="paid", client="bank", sensitive=("job",))
    assert ours.features.astype({"job": "str"}).equals(theirs.features.astype({"job": "str"}))
    assert ours.label.tolist() == theirs.label.tolist()
    assert ours.clients.tolist() == theirs.clients.tolist()
    assert ours.attributes == theirs.attributes
    assert ours.split is None
    assert ours.card.name == "loans"


def test_splits_are_kept_and_are_no_feature(folder):
    TABLE[:6].to_csv(folder / "test.csv", index=False)
    records = hf(folder=folder, label="paid", positive="no")
    assert records.split.tolist() == ["train"] * 20 + ["test"] * 6
    assert list(records.features) == ["age", "job", "bank"]
    assert records.classes == ("yes", "no")


def test_names_of_classes_are_kept_in_their_order(tmp_path):
    path = tmp_path / "texts"
    path.mkdir()
    kinds = datasets.Features(
        {"words": datasets.Value("string"), "mood": datasets.ClassLabel(names=["sad", "glad"])}
    )
    rows = {"words": ["no", "yes", "yes"], "mood": [0, 1, 1]}
    datasets.Dataset.from_dict(rows, features=kinds).to_parquet(path / "train.parquet")
    records = hf(folder=path, label="mood", text="words")
    assert records.classes == ("sad", "glad")
    assert records.label.tolist() == ["sad", "glad", "glad"]


def test_what_cannot_be_loaded_is_told(folder, tmp_path):
    with pytest.raises(FedmodelError, match="either a dataset or a folder"):
        hf(label="paid")
    with pytest.raises(FedmodelError, match="no folder lones"):
        hf(folder=tmp_path / "lones", label="paid")
    with pytest.raises(FedmodelError, match="nobody/nothing cannot be loaded") as error:
        hf(dataset="nobody/nothing", label="paid")
    assert "network" in error.value.fix
    with pytest.raises(FedmodelError, match="no column 'payed'") as error:
        hf(folder=folder, label="payed")
    assert "`paid`" in error.value.fix
    (folder / "train.csv").rename(folder / "test.csv")
    with pytest.raises(FedmodelError, match="no split named train"):
        hf(folder=folder, label="paid")
