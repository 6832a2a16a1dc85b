"""How secure aggregation is set up for an experiment, and what it changes in what is seen."""

from __future__ import annotations

import math
from typing import Any

from fedmodel.components import Components
from fedmodel.config import Config
from fedmodel.errors import FedmodelError
from fedmodel.privacy.budget import ClientPlans
from fedmodel.secure.answers import Plan
from fedmodel.secure.encoding import Encoding
from fedmodel.secure.noise import sum_noise
from fedmodel.secure.server import FEWEST
from fedmodel.summable import weighs_by_records
from fedmodel.types import FederatedData

__all__ = ["asked_clients", "noised_plan", "secure_plan", "what_is_seen"]


def secure_plan(
    config: Config,
    bound: Components,
    data: FederatedData,
    *,
    size: int,
    strategy: Any,
    plans: ClientPlans | None,
) -> Plan | None:
    """How updates of `size` parameters are rounded, noised and masked, so that any sum of them fits.

    Raises:
        FedmodelError: too few clients, or numbers too large for a word.
    """
    asked = config.secure_aggregation
    if asked is None:
        return None
    if data.num_clients < FEWEST:
        raise FedmodelError(
            f"secure aggregation needs {FEWEST} clients, and there are {data.num_clients}: of a sum "
            "of two, each knows the other's part",
            where="[secure_aggregation]",
            fix="Partition into more clients, or drop [secure_aggregation].",
        )
    largest, by_records = int(data.sizes("train").max()), weighs_by_records(bound.strategy)
    if plans is not None and plans.budget.mode == "distributed":
        share = asked.threshold * asked_clients(strategy, data.num_clients)
        return noised_plan(
            config,
            plans,
            size=size,
            num_clients=data.num_clients,
            fewest=max(FEWEST, math.ceil(share - 1e-9)),
        )
    encoding = Encoding(
        size=size,
        bound=asked.bound,
        bits=asked.bits,
        num_clients=data.num_clients,
        max_weight=largest if by_records else 1,
        max_records=largest,
    )
    return Plan(
        encoding=encoding,
        threshold=asked.threshold,
        neighbours=asked.neighbours,
        by_records=by_records,
    )


def noised_plan(
    config: Config, plans: ClientPlans, *, size: int, num_clients: int, fewest: int
) -> Plan:
    """The plan of clients that noise their updates, each so much that the sum of `fewest` has enough."""
    asked = config.secure_aggregation
    assert asked is not None
    noise, bits = sum_noise(
        clip=plans.budget.clip,
        noise_multiplier=float(plans.noise_multiplier.max()),
        fewest=fewest,
        size=size,
        seed=config.seed,
        source=plans.budget.noise,
    )
    encoding = Encoding(
        size=size,
        bound=noise.clip,
        bits=bits,
        num_clients=num_clients,
        max_weight=1,
        max_records=1,
        noise=noise.scale,
    )
    return Plan(
        encoding=encoding,
        threshold=asked.threshold,
        neighbours=asked.neighbours,
        by_records=False,
        noise=noise,
    )


def what_is_seen(config: Config, *, attacked: bool) -> list[str]:
    """What the server learns under secure aggregation, and what nobody does."""
    if config.secure_aggregation is None:
        return []
    distributed = config.privacy is not None and config.privacy.mode == "distributed"
    learned = "their noised mean" if distributed else "their mean, their number of records and the "
    said = [
        f"Secure aggregation: of the updates the server learns {learned}"
        f"{'' if distributed else 'share of values that were cut'}, if server and clients follow the "
        "protocol. Evaluation counts are not masked."
    ]
    if config.engine.on_failure == "retry":
        said.append(
            "A client that fails leaves the round: under secure aggregation none is asked twice."
        )
    if attacked:
        said.append("Attackers' shares of the aggregate are not known under secure aggregation.")
    return said


def asked_clients(strategy: Any, num_clients: int) -> int:
    """How many clients a strategy asks in a round: ours says, Flower's has its own rule."""
    if hasattr(strategy, "sampled"):
        return len(strategy.sampled(1, range(num_clients)))
    share = getattr(strategy, "fraction_train", 1.0)
    return max(int(num_clients * share), getattr(strategy, "min_train_nodes", 1))
