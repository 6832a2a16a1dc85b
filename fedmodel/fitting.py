"""Whether the parts of an experiment fit one another: model, strategy, references and the clients there are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from flwr.serverapp.strategy import Strategy

from fedmodel.apps import Workload
from fedmodel.cohort import Cohort, FlatModel
from fedmodel.cohort.trial import tried
from fedmodel.config import Config
from fedmodel.errors import FedmodelError, user_place, what_failed
from fedmodel.secured import asked_clients
from fedmodel.strategies.compose import compose
from fedmodel.types import FederatedData

__all__ = ["check_clients", "check_model", "slower_kernel"]

MOST_SITES = 1000  # clients whose models are tried at one another


def check_model(model: FlatModel, data: FederatedData) -> None:
    """Raise FedmodelError unless the model answers records with a number a class."""
    number = ", ".join(map(str, data.x.shape[1:]))
    holds = f"{number} token ids" if data.vocabulary else f"{number} numbers"
    try:
        answer = model.predict(model.initial, data.x[:2])
    except Exception as error:
        raise FedmodelError(
            f"the model cannot read records of {holds} each: {what_failed(error)}",
            where=user_place(error) or "[model]",
            fix="Models of tables take `num_features`, models of texts token ids and `vocabulary`.",
        ) from error
    if answer.dim() != 2 or answer.shape[1] != len(data.classes):
        raise FedmodelError(
            f"the model answers {tuple(answer.shape[1:])} numbers a record; "
            f"the data has {len(data.classes)} classes",
            where="[model]",
            fix="Take `num_classes` as a keyword, or set the number of outputs.",
        )


def check_clients(config: Config, strategy: Strategy, data: FederatedData, *, marked: bool) -> None:
    """Raise FedmodelError where there are too few clients, or too many, for what is asked of them.

    `marked` says that the data marks its own test records.
    """
    if data.sizes("test").sum() == 0:
        raise FedmodelError(
            "no client has test records, so nothing can be evaluated",
            where="[data] test",
            fix="Each client's share of so few records is none: choose a larger data.test, or fewer "
            "clients; a client's only record is for training."
            if config.data.test and not marked
            else "Choose data.test > 0, or mark test records in the split column.",
        )
    number = data.num_clients
    _check_minimums(strategy, number)
    if "cross_site" in config.evaluation.references and number > MOST_SITES:
        raise FedmodelError(
            f"{number:,} clients make {number**2:,} pairs of model and records",
            where="[evaluation] references",
            fix=f'Drop "cross_site", or partition into at most {MOST_SITES:,} clients.',
        )
    _check_enough(strategy, number, dropout=config.client.dropout)


def _check_minimums(strategy: Strategy, num_clients: int) -> None:
    """Flower's strategies wait for ever for clients that will never come."""
    for name in ("min_available_nodes", "min_train_nodes", "min_evaluate_nodes"):
        needed = getattr(strategy, name, 0)
        if needed > num_clients:
            raise FedmodelError(
                f"{type(strategy).__name__} waits for {needed} clients and there are {num_clients}",
                where=f"[strategy] {name}",
                fix=f"Set {name} = {num_clients} or fewer.",
            )
    for name in ("fraction_train", "fraction_evaluate"):
        share = getattr(strategy, name, 1.0)
        if not 0 <= share <= 1:
            raise FedmodelError(
                f"{type(strategy).__name__} cannot ask a share of {share} of the clients",
                where=f"[strategy] {name}",
                fix=f"Choose 0 <= {name} <= 1.",
            )


def _check_enough(strategy: Strategy, num_clients: int, *, dropout: float) -> None:
    """An aggregator that needs more clients than a round has says so before anything runs."""
    if not isinstance(strategy, compose) or strategy.sampling == "poisson":
        return
    asked = asked_clients(strategy, num_clients)
    there = max(1, asked - round(dropout * asked))
    weights = {"weights": torch.ones(there)} if strategy.takes_weights else {}
    try:
        strategy.combine(torch.zeros(there, 1), **weights)
    except FedmodelError:
        raise
    except Exception:  # what else is wrong, the first round tells, with its line
        return


def slower_kernel(work: Workload) -> list[str]:
    """A note if the model trains by `torch.func`, tried on two clients: workers would not tell."""
    clients = np.flatnonzero(work.data.sizes("train").numpy())[:2]
    if getattr(work.behaviour, "own_gradients", False) or not len(clients):
        return []
    once = np.ones(work.data.num_clients, dtype=np.int64)
    few = replace(work.training, batch_size=2, num_steps=once)
    cohort = Cohort(clients, work.data, work.model, few, work.seed, 0, {}, work.device)
    name, reason = type(work.model.module).__name__, tried(cohort)
    return [f"{name} trains by torch.func, correct but slower: {reason}."] if reason else []
