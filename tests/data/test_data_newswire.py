"""Reuters R8 from a user's files: both forms, the split kept, and told what is wrong with them."""

from __future__ import annotations

import pandas as pd
import pytest

from fedmodel.data.newswire import TOPICS, reuters_r8
from fedmodel.errors import FedmodelError

TRAIN = [("earn", "profit rose"), ("acq", 'buys "all" shares'), ("earn", "loss fell")]
TEST = [("trade", "tariffs on imports"), ("earn", "NA"), ("grain", "wheat")]


@pytest.fixture
def files(tmp_path):
    """A function that writes train and test files, as Orange does or as Parquet."""

    def write(train=TRAIN, test=TEST, *, form="orange"):
        paths = {}
        for name, rows in {"train_file": train, "test_file": test}.items():
            if form == "parquet":
                path = tmp_path / f"{name}.parquet"
                pd.DataFrame(rows, columns=["category", "text"]).to_parquet(path)
            else:
                path = tmp_path / f"{name}.tab"
                about = "d\tstring\nclass\t\n\n" if form == "orange" else ""
                lines = "".join(f"{topic}\t{text}\n" for topic, text in rows)
                path.write_text("Category\tText\n" + about + lines, encoding="utf-8")
            paths[name] = path
        return paths

    return write


@pytest.mark.parametrize("form", ["orange", "tab", "parquet"])
def test_texts_topics_and_the_split_are_those_of_the_files(files, form):
    records = reuters_r8(**files(form=form))
    assert list(zip(records.label, records.text)) == TRAIN + TEST
    assert records.split.tolist() == ["train"] * 3 + ["test"] * 3
    assert records.classes == TOPICS  # also those that these files lack
    assert "research only" in records.card.licence


def test_what_is_wrong_with_a_file_is_told(files, tmp_path):
    with pytest.raises(FedmodelError, match="'coffee'") as error:
        reuters_r8(**files(train=[*TRAIN, ("coffee", "beans")]))
    assert "money-fx" in error.value.fix
    paths = files()
    with pytest.raises(FedmodelError, match="no file nothing"):
        reuters_r8(**{**paths, "test_file": tmp_path / "nothing.tab"})
    (tmp_path / "other.tab").write_text("topic\ttext\nearn\tx\n")
    with pytest.raises(FedmodelError, match="no column 'category'") as error:
        reuters_r8(**{**paths, "test_file": tmp_path / "other.tab"})
    assert "topic, text" in error.value.fix
