"""Each client's own target of epsilon: from a column, a distribution, a rule; and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fedmodel.config import Targets
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.privacy import epsilon_of
from fedmodel.privacy.targets import drawn_targets, targets_by_column

NAMES = ("a", "b", "c")
BASE = {
    "seed": 3,
    "rounds": 2,
    "data": {"name": "heart_disease", "encode": "public"},
    "model": {"name": "logistic"},
    "client": {"name": "dp_sgd", "learning_rate": 0.1},
}


def plans(**privacy):
    return Experiment.read({**BASE, "privacy": {"delta": 1e-3, **privacy}}).built.plans


def refused(**privacy) -> FedmodelError:
    with pytest.raises(FedmodelError) as error:
        plans(**privacy)
    assert error.value.fix
    return error.value


def test_a_client_takes_the_smallest_value_of_its_records():
    values = pd.Series([2.0, 1.0, 8.0, 4.0, 3.0], name="agreed")
    client = np.array([0, 0, 1, 2, 2])
    assert targets_by_column(values, client, NAMES).tolist() == [1.0, 8.0, 3.0]


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("nan"), float("inf"), "much"])
def test_a_record_without_a_number_above_zero_is_named_with_its_client(wrong):
    values = pd.Series([2.0, 1.0, wrong], name="agreed", dtype=object)
    with pytest.raises(FedmodelError, match=r"1 records .* 'agreed'.* at client b") as error:
        targets_by_column(values, np.array([0, 2, 1]), NAMES)
    assert error.value.where == "[privacy] epsilon_column"


def test_drawn_targets_follow_their_distribution_and_the_seed():
    uniform = drawn_targets(Targets(uniform=[1.0, 8.0]), 20_000, seed=1)
    assert (uniform.min() >= 1) and (uniform.max() <= 8)
    assert uniform.mean() == pytest.approx(4.5, abs=0.05)
    chosen = drawn_targets(Targets(values=[1.0, 8.0], shares=[3, 1]), 20_000, seed=1)
    assert set(chosen) == {1.0, 8.0}
    assert (chosen == 1.0).mean() == pytest.approx(0.75, abs=0.02)
    again = drawn_targets(Targets(uniform=[1.0, 8.0]), 20_000, seed=1)
    assert (again == uniform).all()
    assert (drawn_targets(Targets(uniform=[1.0, 8.0]), 20_000, seed=2) != uniform).any()


def test_every_client_is_calibrated_for_its_own_target():
    found = plans(epsilon={"uniform": [1.0, 8.0]})
    assert found.budget.epsilon == found.target.max()
    assert len(set(found.target)) == 4
    for rate, noise, steps, target in zip(
        found.sample_rate, found.noise_multiplier, found.max_steps, found.target, strict=True
    ):
        spent = epsilon_of(
            sample_rate=float(rate), noise_multiplier=float(noise), steps=int(steps), delta=1e-3
        )
        assert 0.995 * target <= spent <= target


def test_a_rule_sees_the_sizes(tmp_path):
    (tmp_path / "mine.py").write_text("def strict(sizes):\n    return 100 / sizes\n")
    text = (
        'rounds = 1\n[data]\nname = "heart_disease"\n[model]\nname = "logistic"\n'
        '[client]\nname = "dp_sgd"\nlearning_rate = 0.1\n'
        '[privacy]\ndelta = 1e-3\nepsilon = { rule = "mine.py:strict" }\n'
    )
    (tmp_path / "e.toml").write_text(text)
    built = Experiment.read(tmp_path / "e.toml").built
    assert built.plans.target.tolist() == (100 / built.data.sizes("train").numpy()).tolist()
    (tmp_path / "e.toml").write_text(text.replace("strict", "strct"))
    with pytest.raises(FedmodelError, match="has no"):
        Experiment.read(tmp_path / "e.toml")


@pytest.mark.parametrize(
    "body", ["sizes - sizes", "sizes[:1] * 1.0", "'many'", "sizes * float('nan')"]
)
def test_a_rule_that_answers_wrongly_is_told(tmp_path, body):
    (tmp_path / "wrong.py").write_text(f"def rule(sizes):\n    return {body}\n")
    error = refused(epsilon={"rule": f"{tmp_path / 'wrong.py'}:rule"})
    assert "the rule" in error.problem


def test_a_column_of_a_users_table_is_no_feature(tmp_path):
    rows = [f"{k % 7},{k % 2},{k % 3},{1.5 + k % 3}" for k in range(90)]
    (tmp_path / "t.csv").write_text("x,y,site,agreed\n" + "\n".join(rows) + "\n")
    config = {
        **BASE,
        "data": {"name": "csv", "path": str(tmp_path / "t.csv"), "label": "y", "client": "site"},
    }
    built = Experiment.read({**config, "privacy": {"epsilon_column": "agreed"}}).built
    assert built.plans.target.tolist() == [1.5, 2.5, 3.5]
    assert not any("agreed" in name for name in built.data.features)
    with pytest.raises(FedmodelError, match="no column 'agred'") as error:
        Experiment.read({**config, "privacy": {"epsilon_column": "agred"}}).built  # noqa: B018
    assert "agreed" in error.value.fix


def test_a_column_of_a_data_set_that_ships():
    assert plans(epsilon_column="age").target.max() < 80
    assert "age" in refused(epsilon_column="agee").fix
    assert "has no column" in refused(epsilon_column="agee").problem


@pytest.mark.parametrize(
    ("privacy", "said"),
    [
        ({"epsilon": 0.0}, "`privacy.epsilon` cannot be 0.0"),
        ({"epsilon": -1}, "`privacy.epsilon` cannot be -1"),
        ({"epsilon": float("inf")}, "`privacy.epsilon` cannot be"),
        ({"epsilon": float("nan")}, "`privacy.epsilon` cannot be"),
        ({"epsilon": {"uniform": [0.0, 2.0]}}, "`privacy.epsilon.uniform` cannot hold 0.0"),
        ({"epsilon": {"uniform": [3.0, 2.0]}}, "is no range"),
        ({"epsilon": {"uniform": [3.0]}}, "is no range"),
        ({"epsilon": {}}, "it has 0"),
        ({"epsilon": {"uniform": [1.0, 2.0], "values": [1.0]}}, "it has 2"),
        ({"epsilon": {"values": []}}, "nothing to draw"),
        ({"epsilon": {"values": [1.0], "shares": [1.0, 2.0]}}, "2 shares for 1 values"),
        ({"epsilon": {"values": [1.0, 2.0], "shares": [0.0, 0.0]}}, "no shares"),
        ({"epsilon": {"unifrm": [1.0, 2.0]}}, "no key `unifrm`"),
        ({"epsilon": 1.0, "epsilon_column": "age"}, "not both"),
        ({}, "not none"),
        ({"epsilon": 0.005}, "no noise keeps"),
        ({"epsilon": {"values": [0.005]}}, "no noise keeps"),
        ({"epsilon": 1.0, "delta": 0.0}, "`privacy.delta` cannot be 0.0"),
        ({"epsilon": 1.0, "delta": 1.0}, "`privacy.delta` cannot be 1.0"),
    ],
)
def test_what_makes_no_sense_is_refused(privacy, said):
    assert said in refused(**privacy).problem
