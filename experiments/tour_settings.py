"""How each data set is toured: who holds what, the model, and rates with which training settles.

Rates fall to zero along half a cosine wave. They, and the number of rounds, were chosen by the loss of
the pooled model on its training records, beside the least that scikit-learn's solver finds; of texts,
and of what is private, by validation records. Tables are read by their public ranges where that is
enough: then nothing is fitted on records.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["NEEDS_A_FILE", "SEEDS", "SETTINGS", "Setting", "experiment_of", "suitable_delta"]

SEEDS = (1, 2, 3)
EPSILON = 3.0

NEEDS_A_FILE = {
    "csv": "reads a CSV file of yours",
    "parquet": "reads a Parquet file of yours",
    "files": "reads one file of yours a client, through a schema",
    "hf": "downloads from the Hugging Face Hub, or reads a folder of yours",
    "reuters_r8": "may not be passed on: reads your copy of two files",
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One data set's experiment; the private one differs by its rates, rounds, batches and server."""

    data: Mapping[str, Any] = field(default_factory=dict)
    partition: Mapping[str, Any] = field(default_factory=lambda: {"name": "natural"})
    model: Mapping[str, Any] = field(default_factory=lambda: {"name": "logistic"})
    metric: str = "accuracy"  # or "roc_auc", where one class is rare
    rounds: int = 40
    client: Mapping[str, Any] = field(default_factory=dict)
    # Without privacy: a server that scales each coordinate by its size would scale noise up to it.
    strategy: Mapping[str, Any] = field(default_factory=lambda: {"name": "compose"})
    private_rounds: int = 20
    private: Mapping[str, Any] = field(default_factory=dict)
    clip: float = 1.0
    same_family: bool = True  # scikit-learn's logistic regression is linear, as this model is


def iid(clients: int) -> dict[str, Any]:
    return {"name": "iid", "clients": clients}


def mixed(clients: int, alpha: float = 1.0) -> dict[str, Any]:
    return {"name": "dirichlet", "clients": clients, "alpha": alpha}


def ridge(number: int) -> dict[str, float]:
    """The penalty of scikit-learn's default (C = 1) on the mean loss of so many training records.

    It adds |w|^2 / 2 to the sum of losses; a model with a weight vector for each of two classes has w
    as their difference, and half of it in each: decay by 2 / n.
    """
    return {"weight_decay": 2.0 / number}


PUBLIC = {"encode": "public"}
POOLED = {"encode": "pooled"}  # where public limits are so wide that hardly a record differs
TEXT = {"buckets": 2048}
BAG = {"name": "text_bag", "width": 64}
ADAM = {"optimiser": "adam", "learning_rate": 0.01, "weight_decay": 1e-4}
# Most clients lack most words, so that their mean hardly moves: Reddi et al., ICLR 2021.
ADAPTIVE = {
    "name": "compose",
    "optimiser": {"name": "adam", "learning_rate": 0.3},
    "schedule": "cosine",
}

SETTINGS: dict[str, Setting] = {
    "heart_disease": Setting(
        data=PUBLIC,
        client=ridge(689),
        private={"batch_size": 128, "learning_rate": 1.0},
    ),
    "support2": Setting(
        data=POOLED,
        partition=mixed(10),
        rounds=60,
        client={"learning_rate": 0.5, "batch_size": 64, "epochs": 0.25},
        private_rounds=40,
        private={"learning_rate": 1.0},
    ),
    "covid_testing": Setting(data=PUBLIC, metric="roc_auc"),
    "indo_rct": Setting(
        data=POOLED,
        metric="roc_auc",
        rounds=100,
        client={"learning_rate": 0.2, **ridge(451)},
    ),
    "breast_cancer": Setting(
        data=POOLED, partition=mixed(5), client={"learning_rate": 1.0, **ridge(427)}
    ),
    "adult": Setting(
        data=POOLED,
        partition=mixed(20),
        rounds=60,
        client={"learning_rate": 0.5, "batch_size": 64, "epochs": 0.25},
        private_rounds=40,
        private={"learning_rate": 2.0, "batch_size": 256},
    ),
    "german_credit": Setting(data=PUBLIC, partition=mixed(5), metric="roc_auc"),
    "hmda_boston": Setting(data=PUBLIC, partition=mixed(5), metric="roc_auc"),
    "lending_club": Setting(data=PUBLIC, metric="roc_auc"),
    "vader_amazon": Setting(
        data=TEXT,
        model=BAG,
        partition={"name": "grouped_natural", "group_size": 10},  # ten reviews a client
        rounds=15,
        client=ADAM,
        strategy=ADAPTIVE,
        private={"learning_rate": 2.0},
    ),
    "vader_tweets": Setting(
        data=TEXT,
        model=BAG,
        partition=iid(10),
        rounds=12,
        client=ADAM,
        strategy=ADAPTIVE,
        private={"learning_rate": 2.0},
    ),
    "digits": Setting(
        data={"encode": "none"},
        partition=mixed(5),
        private_rounds=40,
        private={"learning_rate": 2.0},
    ),
    "digits, cnn": Setting(
        data={"name": "digits", "encode": "none"},
        partition=mixed(5),
        model={"name": "cnn"},
        client={"learning_rate": 0.3},
        private_rounds=40,
        private={"learning_rate": 1.0},
        same_family=False,
    ),
}


def experiment_of(
    name: str,
    *,
    private: bool = False,
    delta: float | None = None,
    seeds: tuple[int, ...] = SEEDS,
    rounds: int | None = None,
) -> dict[str, Any]:
    """The experiment of a data set, as `fedmodel.run` takes it; `private` needs a `delta`."""
    setting = SETTINGS[name]
    planned = setting.private_rounds if private else setting.rounds
    rounds = min(planned, rounds) if rounds is not None else planned
    behaviour = (
        {"name": "dp_sgd", "learning_rate": 0.5, "batch_size": 64, **setting.private}
        if private
        else {"name": "sgd", "learning_rate": 0.5, "batch_size": 32, **setting.client}
    )
    behaviour["schedule"] = "cosine"
    return {
        "name": f"tour-{name.replace(', ', '-')}" + ("-private" if private else ""),
        "seeds": list(seeds),
        "rounds": rounds,
        "data": {"name": name, "test": 0.25, **setting.data},
        "partition": dict(setting.partition),
        "model": dict(setting.model),
        "client": behaviour,
        "strategy": {"name": "compose"} if private else dict(setting.strategy),
        "evaluation": {"every": rounds, "references": [] if private else ["pooled", "local"]},
        **(
            {"privacy": {"epsilon": EPSILON, "delta": delta, "clip": setting.clip}}
            if private
            else {}
        ),
    }


def suitable_delta(largest_client: int) -> float:
    """The largest power of ten of which a tenth of a record is expected at no client: n delta <= 0.1.

    >>> suitable_delta(227), suitable_delta(5550)
    (0.0001, 1e-05)
    """
    exponent = 0
    while largest_client * 10.0**-exponent > 0.1:
        exponent += 1
    return float(f"1e-{exponent}")
