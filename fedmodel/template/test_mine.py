"""Tests of the plug-ins: by hand, by the rules of their kind, and in an experiment."""

from pathlib import Path

import pytest
import torch
from mine import length_limited

import fedmodel
from fedmodel.contracts import check_plugin

HERE = Path(__file__).parent


def test_no_update_counts_for_more_than_the_median_length():
    delta = torch.tensor([[0.5, 0.0], [0.0, 1.0], [300.0, 400.0]])  # lengths 0.5, 1, 500
    expected = torch.tensor([(0.5 + 0.6) / 3, (1 + 0.8) / 3])
    torch.testing.assert_close(length_limited(delta), expected)


@pytest.mark.parametrize("plugin", ["length_limited", "fading_sgd"])
def test_it_keeps_the_rules_of_its_kind(plugin):
    _, findings = check_plugin(f"{HERE / 'mine.py'}:{plugin}")
    assert [finding for finding in findings if not finding.passed] == []


def test_the_experiment_learns(tmp_path):
    run = fedmodel.run(HERE / "experiment.toml", {"rounds": 3}, out=tmp_path / "run")
    loss = run.metrics.query("scope == 'global' and split == 'test' and metric == 'loss'").value
    assert loss.iloc[-1] < loss.iloc[0]
    assert run.last("accuracy") > 0.6
