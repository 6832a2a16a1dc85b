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
from fedmodel.secure.noise import SumNoise, sum_noise
from fedmodel.secure.server import FEWEST
from fedmodel.summable import weighs_by_records
from fedmodel.types import FederatedData

__all__ = ["asked_clients", "secure_plan", "what_is_seen"]


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
    largest, clip, bits = int(data.sizes("train").max()), asked.bound, asked.bits
    by_records, noise = weighs_by_records(bound.strategy), None
    if plans is not None and plans.budget.mode == "distributed":
        by_records, largest = False, 1
        noise, bits = _noise(
            config, plans, size=size, asked=asked_clients(strategy, data.num_clients)
        )
        clip = noise.clip
    encoding = Encoding(
        size=size,
        bound=clip,
        bits=bits,
        num_clients=data.num_clients,
        max_weight=largest if by_records else 1,
        max_records=largest,
        noise=0 if noise is None else noise.scale,
    )
    return Plan(
        encoding=encoding,
        threshold=asked.threshold,
        neighbours=asked.neighbours,
        by_records=by_records,
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


def _noise(config: Config, plans: ClientPlans, *, size: int, asked: int) -> tuple[SumNoise, int]:
    """Each client's share, so that the smallest sum that is opened has enough."""
    assert config.secure_aggregation is not None
    return sum_noise(
        clip=plans.budget.clip,
        noise_multiplier=float(plans.noise_multiplier.max()),
        fewest=max(FEWEST, math.ceil(config.secure_aggregation.threshold * asked - 1e-9)),
        size=size,
        seed=config.seed,
        source=plans.budget.noise,
    )


def asked_clients(strategy: Any, num_clients: int) -> int:
    """How many clients a strategy asks in a round: ours says, Flower's has its own rule."""
    if hasattr(strategy, "sampled"):
        return len(strategy.sampled(1, range(num_clients)))
    share = getattr(strategy, "fraction_train", 1.0)
    return max(int(num_clients * share), getattr(strategy, "min_train_nodes", 1))
