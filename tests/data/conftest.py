"""Small data sets made for the tests of the data room."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fedmodel.data.records import Assignment, Records
from fedmodel.types import Card

CARD = Card(name="made_up", title="Made up", source="tests", licence="none")


@pytest.fixture(scope="session")
def make_records():
    """A function that makes records: age and gain are numbers, job is text, both lack values."""

    def make(size: int = 60, *, seed: int = 0, **parts) -> Records:
        draw = np.random.default_rng(seed)
        age = pd.Series(draw.integers(18, 90, size).astype(float))
        job = pd.Series(draw.choice(["clerk", "nurse", "cook"], size))
        features = pd.DataFrame({"age": age, "gain": draw.normal(5, 100, size), "job": job})
        features.loc[features.index % 7 == 3, ["gain", "job"]] = np.nan
        label = pd.Series(np.where(draw.random(size) < 0.4, "yes", "no"))
        sex = pd.Series(draw.choice(["f", "m"], size))
        given = {"features": features, "label": label, "sensitive": pd.DataFrame({"sex": sex})}
        return Records(**{"card": CARD, **given, **parts})

    return make


@pytest.fixture(scope="session")
def deal():
    """A function that deals records out to clients in turn."""

    def turns(records: Records, clients: int) -> Assignment:
        client = np.arange(len(records)) % clients
        return Assignment(client=client, names=tuple(map(str, range(clients))))

    return turns
