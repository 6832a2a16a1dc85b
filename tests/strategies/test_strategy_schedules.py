"""Learning rates by round: torch's own schedulers, and training round by round at the rates they give."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from torch.optim import lr_scheduler

import fedmodel
from fedmodel import references
from fedmodel.clients.sgd import sgd
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.strategies.schedules import constant, cosine, exponential, linear, step

ROUNDS = 12
PLAIN = {
    "rounds": 3,
    "data": {"name": "heart_disease", "encode": "public"},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.2, "batch_size": 64},
}
THEIRS = {
    "step": (
        lambda t, w: step(t, every=4, factor=0.3, warm_up=w),
        lambda o, left: lr_scheduler.StepLR(o, 4, 0.3),
    ),
    "exponential": (
        lambda t, w: exponential(t, factor=0.9, warm_up=w),
        lambda o, left: lr_scheduler.ExponentialLR(o, 0.9),
    ),
    "linear": (
        lambda t, w: linear(t, rounds=ROUNDS, final=0.2, warm_up=w),
        lambda o, left: lr_scheduler.LinearLR(o, 1.0, 0.2, left),
    ),
    "cosine": (
        lambda t, w: cosine(t, rounds=ROUNDS, final=0.1, warm_up=w),
        lambda o, left: lr_scheduler.CosineAnnealingLR(o, left, 0.1),
    ),
    "constant": (
        lambda t, w: constant(t, warm_up=w),
        lambda o, left: lr_scheduler.ConstantLR(o, 1.0),
    ),
}


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("warm_up", [0, 3])
def test_a_schedule_is_torch_s(name, warm_up):
    ours, theirs = THEIRS[name]
    optimiser = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = theirs(optimiser, ROUNDS - warm_up)
    if warm_up:
        rising = lr_scheduler.LinearLR(optimiser, 1 / (warm_up + 1), 1.0, warm_up)
        scheduler = lr_scheduler.SequentialLR(optimiser, [rising, scheduler], [warm_up])
    expected = []
    for _ in range(ROUNDS):
        expected.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    found = [ours(number, warm_up) for number in range(1, ROUNDS + 1)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


PLUGIN = '''
from dataclasses import dataclass
from fedmodel.cohort import mean_gradient

@dataclass
class mine:
    """Plain SGD; `rate` is worked out when it is made."""
    learning_rate: float = 0.2

    def __post_init__(self):
        self.rate = self.learning_rate

    def train(self, cohort, start):
        local = start.repeat(cohort.size, 1)
        for step in cohort.steps:
            batch = cohort.shuffled_batch(step)
            local -= self.rate * batch.active * mean_gradient(cohort, local, batch)
        return local - start

def halves(round):
    """Half as much each round."""
    return 0.5 ** (round - 1)
'''


@pytest.mark.parametrize("plugin", [False, True])
def test_a_run_is_training_at_the_rates_of_the_rounds(plugin, tmp_path):
    """By hand: each round a run of its own from where the last one ended, without any schedule."""
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    client, schedule = PLAIN["client"], {"name": "exponential", "factor": 0.5}
    if plugin:
        client, schedule = {"name": f"{file}:mine"}, f"{file}:halves"
    scheduled = {
        **PLAIN,
        "client": {**client, "schedule": schedule},
        "strategy": {"name": "compose", "schedule": {"name": "linear"}},
    }
    run = fedmodel.run(scheduled, out=tmp_path / "run")
    built = Experiment.read({**PLAIN, "client": {**client, "learning_rate": 0.2}}).built
    vector, everybody = built.model.initial, np.arange(4)
    weights = built.data.sizes("train").double()
    for number in (1, 2, 3):
        cohort = fedmodel.cohort.Cohort(
            everybody, built.data, built.model, built.workload.training, 0, number
        )
        plain = replace(built.workload.behaviour, learning_rate=0.2 * 0.5 ** (number - 1))
        delta = plain.train(cohort, vector)
        mean = (weights[:, None] * delta.double()).sum(0) / weights.sum()
        vector = vector + (1 - (number - 1) / 3) * mean.float()
    expected = built.model.state_dict(vector)
    for name, value in run.model.state_dict().items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)


def test_a_federation_of_one_is_its_own_references(tmp_path):
    """Who holds everything draws, steps and slows down as the pooled model and as itself alone."""
    changes = {
        "partition": {"name": "iid", "clients": 1},
        "client.schedule": {"name": "cosine"},
        "evaluation": {"references": ["pooled", "local"]},
    }
    rows = fedmodel.run(Experiment.read(PLAIN, changes), out=tmp_path / "run").metrics
    rows = rows[(rows["round"] == 3) & (rows.scope == "global")]
    table = rows.pivot(index="metric", columns="model", values="value")
    np.testing.assert_allclose(table["pooled"], table["global"], rtol=1e-5)
    np.testing.assert_allclose(table["local"], table["global"], rtol=1e-5)


def test_clients_alone_go_by_the_schedule():
    """By hand: each client's rounds one after the other, at the rates of the rounds."""
    changes = {"client.schedule": {"name": "step", "every": 1}}
    built = Experiment.read(PLAIN, changes).built
    found = references.alone(built.workload, built.clean, passes=1.0, num_rounds=3)
    for client in range(4):
        vector = built.model.initial
        for number in (1, 2, 3):
            cohort = fedmodel.cohort.Cohort(
                np.array([client]), built.data, built.model, built.workload.training, 0, number
            )
            plain = sgd(learning_rate=0.2 * 0.5 ** (number - 1), batch_size=64)
            vector = vector + plain.train(cohort, vector)[0]
        torch.testing.assert_close(found[client], vector, rtol=1e-4, atol=1e-5)


def test_who_is_asked_in_a_quarter_of_the_rounds_trains_alone_no_more_than_that():
    """All records are one batch: of eight rounds two, each a step at its own rate."""
    changes = {"rounds": 8, "client.batch_size": 1000, "client.schedule": "linear"}
    built = Experiment.read(
        PLAIN, {**changes, "strategy": {"name": "compose", "sample": 0.25}}
    ).built
    found = references.alone(
        built.workload, built.clean, passes=1.0, num_rounds=8, share=built.strategy.sample
    )
    vectors = built.model.initial.repeat(4, 1)
    for number in (4, 8):
        for client, vector in enumerate(vectors):
            cohort = fedmodel.cohort.Cohort(
                np.array([client]), built.data, built.model, built.workload.training, 0, number
            )
            plain = sgd(learning_rate=0.2 * (1 - (number - 1) / 8), batch_size=1000)
            vector += plain.train(cohort, vector.clone())[0]
    torch.testing.assert_close(found, vectors, rtol=1e-4, atol=1e-5)


def test_a_model_that_settles_is_scikit_learn_s():
    """At a constant rate the noise of the last steps throws the model off."""
    pooled = Experiment.read(PLAIN).built.clean.pooled()
    rows = pooled.rows(0, "train")
    x, y = pooled.x[rows].numpy(), pooled.y[rows].numpy()
    best = LogisticRegression(C=np.inf, max_iter=5000).fit(x, y)
    client = {"name": "sgd", "learning_rate": 1.0, "batch_size": 32}
    gaps = []
    for schedule in ("constant", "linear"):
        changes = {"client": {**client, "schedule": schedule}, "rounds": 100}
        work = Experiment.read(PLAIN, changes).built.workload
        vector = references.alone(work, pooled, passes=1.0, num_rounds=100)[0]
        logits = work.model.predict(vector, pooled.x[rows])
        gaps.append(log_loss(y, logits.double().softmax(1)) - log_loss(y, best.predict_proba(x)))
    assert gaps[1] < 0.004 < 0.01 < gaps[0]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"client.schedule": "cosin"}, "no schedule is called"),
        ({"client.schedule": {"name": "cosine", "warm_up": 3}}, "never comes to its learning rate"),
        ({"client.schedule": {"name": "exponential", "factor": 1e-200}}, "the factor 0.0"),
        ({"client.schedule": {"name": "step", "every": 0}}, "`every` of step cannot be 0"),
        ({"strategy": {"name": "compose", "schedule": {"name": "linear", "warm_up": 9}}}, "never"),
    ],
)
def test_a_schedule_without_meaning_is_refused(changes, problem):
    with pytest.raises(FedmodelError, match=problem) as refused:
        Experiment.read(PLAIN, changes)
    assert refused.value.fix


def test_a_client_without_a_learning_rate_has_no_schedule(tmp_path):
    file = tmp_path / "still.py"
    file.write_text(PLUGIN.replace("learning_rate", "speed"))
    with pytest.raises(FedmodelError, match="has no option `learning_rate`") as refused:
        Experiment.read(PLAIN, {"client": {"name": f"{file}:mine", "schedule": "cosine"}})
    assert "schedule" in refused.value.where


def test_a_broken_schedule_is_told_with_its_line(tmp_path):
    file = tmp_path / "broken.py"
    file.write_text("def broken(round):\n    '''Fails late.'''\n    return 1 / (3 - round)\n")
    with pytest.raises(FedmodelError, match="failed in round 3: ZeroDivisionError") as refused:
        Experiment.read(PLAIN, {"client.schedule": f"{file}:broken"})
    assert f"{file}:3" in refused.value.where


def test_what_else_is_asked_of_a_scheduled_behaviour_the_plain_one_answers():
    built = Experiment.read(PLAIN, {"client.schedule": "cosine"}).built
    behaviour = built.workload.behaviour
    assert (behaviour.batch_size, behaviour.optimiser, behaviour.private) == (64, "sgd", False)
    assert behaviour.in_round(0) == sgd(learning_rate=0.2, batch_size=64)
    assert not hasattr(behaviour, "clipping")
