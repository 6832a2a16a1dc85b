"""The examples in docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest
import torch

import fedmodel

MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(fedmodel.__path__, "fedmodel.")
    if not name.startswith("fedmodel.data.files")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    failures, _ = doctest.testmod(
        module, extraglobs={"torch": torch}, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert failures == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    found = [t for n in MODULES for t in finder.find(importlib.import_module(n)) if t.examples]
    assert len(found) >= 20
