"""Audits by inference: what a client's update says of all its records, and the model of one attribute."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float, Int
from pandas import DataFrame
from pydantic import Field, PositiveInt
from torch import Tensor

from fedmodel import randomness
from fedmodel.audits.columns import columns_of
from fedmodel.audits.finding import Finding
from fedmodel.audits.inference_section import attribute_section, property_section
from fedmodel.audits.scope import check_record_level
from fedmodel.audits.victims import final_model, held_by, sent, settings, training_under
from fedmodel.errors import FedmodelError, nearest
from fedmodel.experiment import Experiment
from fedmodel.types import FederatedData

__all__ = ["attribute_inference", "property_inference"]

Share = Annotated[float, Field(gt=0.0, lt=1.0)]


def property_inference(
    experiment: Experiment,
    *,
    attribute: str | None = None,
    level: str | None = None,
    low: Share = 0.2,
    high: Share = 0.8,
    records: PositiveInt = 40,
    shadows: PositiveInt = 200,
) -> Finding:
    """Tell from a client's update whether few or many of its records have a property.

    1. The property is one `level` (default: the last) of a sensitive `attribute` (default: the first).
       All training records are divided at random into the attacker's and the targets'.
    2. The attacker makes up `shadows` clients of `records` records, half of them with a share `low`
       of the level and half with `high`, lets them train a round from the initial model as the
       experiment's clients do, and fits a logistic regression to their updates.
    3. It is tried on as many clients made up from the targets' records: the area under the ROC curve
       is the chance to order a client with many above one with few. 0.5 is guessing.

    Differential privacy of records does not promise to hide this: it is no single record's secret.
    Ganju et al., CCS 2018; on updates Melis et al., S&P 2019, section 4.3.

    Raises:
        FedmodelError: no such attribute or level; `low` not below `high`; too few records.
    """
    check_record_level(experiment)
    data = experiment.built.data
    name, level = _property(data, attribute, level)
    if low >= high:
        raise FedmodelError(
            f"low = {low} is not below high = {high}",
            where="low",
            fix="Choose the shares that are to be told apart, e.g. low = 0.2 and high = 0.8.",
        )
    place = list(data.attributes).index(name)
    has = data.group[:, place] == data.attributes[name].index(level)
    draw = randomness.stream(experiment.config.seed, randomness.SERVER, 0, "property inference")
    everybody = draw.permutation(_rows(data, "train"))
    half = len(everybody) // 2
    label = np.arange(shadows) % 2
    results = []
    for setting in settings(experiment, ()):
        updates = []
        for number, pool in enumerate((everybody[:half], everybody[half:])):
            rows = _drawn(draw, pool, has.numpy(), label, low=low, high=high, records=records)
            training = training_under(setting, experiment, np.full(shadows, records))
            # Rounds of their own, so that a target's noise is not its shadow's.
            made, start = held_by(data, rows), experiment.built.model.initial
            updates.append(sent(experiment, made, training, start, round=number + 1).numpy())
        scores = _classifier().fit(updates[0], label).decision_function(updates[1])
        results.append((setting.name, setting.epsilon, _auc(scores, label)))
    found = DataFrame(results, columns=["setting", "epsilon", "auc"])
    return Finding(
        name="property_inference",
        figures={"property_auc": float(found.auc.iloc[-1])},
        section=property_section(
            found, attribute=name, level=level, low=low, high=high, records=records, shadows=shadows
        ),
        tables={"auc": found},
        notes=(
            "Sharing updates can tell what share of a client's records has a property, with DP too.",
        ),
    )


def attribute_inference(experiment: Experiment, *, attribute: str | None = None) -> Finding:
    """Guess a sensitive attribute that the model reads, from a record's other columns, label and model.

    1. Half of the test records are the attacker's. On them it fits an imputation: a logistic
       regression of the attribute on all other columns and the label.
    2. With the model it multiplies the imputation's odds of each level with the model's probability
       of the true label, were that the record's level (Fredrikson et al., USENIX Security 2014).
    3. Both guess the attribute of training records and of the other test records. What the model
       adds on training records beyond what it adds on others is its leak about them (Yeom et al.,
       CSF 2018, experiment 2; imputation as baseline: Jayaraman and Evans, CCS 2022).

    Shares are balanced over the levels: guessing one level for all gives 1 / levels. The attacked
    model is that of the run, or trained in this process.

    Raises:
        FedmodelError: no such attribute, the model does not read it, or too few test records.
    """
    check_record_level(experiment)
    data = experiment.built.clean
    name, _ = _property(data, attribute, None)
    blocks = dict(columns_of(data, 0).categories)
    if name not in blocks:
        raise FedmodelError(
            f"the model does not read {name!r} as a column of text, so it cannot be asked about it",
            where="attribute",
            fix=nearest(name, set(blocks) & set(data.attributes), what="it reads"),
        )
    place = blocks[name]
    level = data.x[:, place].argmax(1)
    known = (data.x[:, place].amax(1) > 0.5).numpy()
    draw = randomness.stream(experiment.config.seed, randomness.SERVER, 0, "attribute inference")
    test = draw.permutation(_rows(data, "test"))
    test = test[known[test]]
    own, others = test[: len(test) // 2], test[len(test) // 2 :]
    members = _rows(data, "train")
    members = members[known[members]]
    levels = np.unique(level[own])
    if len(levels) < 2 or not len(others):
        raise FedmodelError(
            f"the attacker's {len(own)} test records do not hold two levels of {name!r}",
            where="[data] test",
            fix="Hold out a larger share, e.g. data.test = 0.4.",
        )
    rest = np.delete(data.x.numpy(), np.r_[place], axis=1)
    rest = np.column_stack([rest, np.eye(len(data.classes))[data.y]])
    prior = _classifier(balanced=True).fit(rest[own], level[own].numpy())
    likelihood = _label_chances(
        experiment, data, final_model(experiment), place, torch.from_numpy(levels)
    )
    rows = []
    for whose, part in (("training records", members), ("other records", others)):
        imputed = np.log(prior.predict_proba(rest[part]))
        truth, score = level[part].numpy(), imputed + likelihood[part]
        rows.append(
            {
                "records": whose,
                "number": len(part),
                "imputation": _balanced(truth, levels[imputed.argmax(1)]),
                "with_model": _balanced(truth, levels[score.argmax(1)]),
            }
        )
    found = DataFrame(rows)
    found["advantage"] = found.with_model - found.imputation
    leak = float(found.advantage[0] - found.advantage[1])
    return Finding(
        name="attribute_inference",
        figures={"attribute_advantage": float(found.advantage[0]), "attribute_leak": leak},
        section=attribute_section(found, attribute=name, leak=leak, levels=len(levels)),
        tables={"guesses": found},
    )


def _property(data: FederatedData, attribute: str | None, level: str | None) -> tuple[str, str]:
    if not data.attributes:
        raise FedmodelError(
            "this experiment names no sensitive attribute to infer",
            where="[data] sensitive",
            fix='Name one, e.g. sensitive = ["sex"].',
        )
    name = next(iter(data.attributes)) if attribute is None else attribute
    if name not in data.attributes:
        raise FedmodelError(
            f"there is no sensitive attribute {name!r}",
            where="attribute",
            fix=nearest(name, data.attributes, what="the experiment names"),
        )
    levels = data.attributes[name]
    if level is not None and level not in levels:
        raise FedmodelError(
            f"{name} has no level {level!r}",
            where="level",
            fix=nearest(level, levels, what="its levels are"),
        )
    return name, levels[-1] if level is None else level


def _rows(data: FederatedData, split: str) -> Int[np.ndarray, " n"]:
    """The rows of all clients' records of a split."""
    parts = [data.rows(k, split) for k in range(data.num_clients)]  # type: ignore[arg-type]
    return np.concatenate([np.arange(part.start, part.stop) for part in parts])


def _drawn(
    draw: np.random.Generator,
    pool: Int[np.ndarray, " m"],
    has: np.ndarray,
    label: Int[np.ndarray, " S"],
    *,
    low: float,
    high: float,
    records: int,
) -> list[Int[Tensor, " n"]]:
    """Records of each made-up client: exactly the share of its label has the property."""
    with_it, without = pool[has[pool]], pool[~has[pool]]
    numbers = [round(share * records) for share in (low, high)]
    if numbers[1] > len(with_it) or records - numbers[0] > len(without):
        raise FedmodelError(
            f"{len(with_it)} records with the property and {len(without)} without do not make a "
            f"client of {records}",
            where="records",
            fix=f"Choose fewer records than {records}, or shares nearer to each other.",
        )
    rows = []
    for number in (numbers[one] for one in label):
        chosen = [draw.permutation(with_it)[:number], draw.permutation(without)[: records - number]]
        rows.append(torch.from_numpy(np.concatenate(chosen)))
    return rows


def _label_chances(
    experiment: Experiment,
    data: FederatedData,
    vector: Float[Tensor, " d"],
    place: slice,
    levels: Int[Tensor, " L"],
) -> Float[np.ndarray, "N L"]:
    """Log probability of each record's label, were its attribute each of the levels."""
    chances = []
    for level in levels:
        x = data.x.clone()
        x[:, place] = 0.0
        x[:, place.start + int(level)] = 1.0
        logits = experiment.built.model.predict(vector, x).log_softmax(1)
        chances.append(logits.gather(1, data.y[:, None])[:, 0])
    return torch.stack(chances, dim=1).double().numpy()


def _classifier(*, balanced: bool = False):
    """A logistic regression on standardised columns.

    Raises:
        FedmodelError: scikit-learn is not installed.
    """
    try:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError:
        raise FedmodelError(
            "inference audits fit classifiers by scikit-learn, which is not installed",
            where="scikit-learn",
            fix="Install it: pip install 'fedmodel[audit]'.",
        ) from None
    weight = "balanced" if balanced else None
    return make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, max_iter=1000, class_weight=weight)
    )


def _auc(scores: Float[np.ndarray, " S"], label: Int[np.ndarray, " S"]) -> float:
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(label, scores))


def _balanced(truth: np.ndarray, guess: np.ndarray) -> float:
    from sklearn.metrics import recall_score

    return float(recall_score(truth, guess, labels=np.unique(truth), average="macro"))
