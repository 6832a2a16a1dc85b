"""Each client's own target of epsilon: from a column of the data, drawn from a distribution, or by a rule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from fedmodel.config import Privacy, Targets
from fedmodel.data.flower import assignment_by
from fedmodel.data.records import Assignment, Records
from fedmodel.errors import FedmodelError, nearest, shown
from fedmodel.randomness import SERVER, stream
from fedmodel.types import FederatedData

__all__ = [
    "check_targets",
    "client_targets",
    "drawn_targets",
    "targets_by_column",
    "targets_by_rule",
]

WHERE = "[privacy] epsilon"


def client_targets(
    privacy: Privacy,
    records: Records,
    assignment: Assignment | Any,  # or a partitioner of Flower Datasets
    data: FederatedData,
    *,
    rule: Callable[..., object] | None,
    seed: int,
) -> Float[np.ndarray, " K"] | None:
    """Each client's own epsilon; None where all have the same, or noise is set by hand.

    `rule` is what ``privacy.epsilon.rule`` names.
    """
    if rule is not None:
        return targets_by_rule(rule, data.sizes("train").numpy(), data.clients)
    if isinstance(privacy.epsilon, Targets):
        return drawn_targets(privacy.epsilon, data.num_clients, seed=seed)
    if privacy.epsilon_column is None:
        return None
    if not isinstance(assignment, Assignment):
        assignment = assignment_by(assignment, records)
    values = records.epsilon
    if values is None:
        values = column_of(records, privacy.epsilon_column)
    return targets_by_column(values, assignment.client, data.clients)


def column_of(records: Records, name: str) -> pd.Series:
    """A column of features or of sensitive attributes. Raises FedmodelError where there is none."""
    tables = [table for table in (records.features, records.sensitive) if table is not None]
    for table in tables:
        if name in table:
            return table[name]
    raise FedmodelError(
        f"{records.card.name} has no column {shown(name)}",
        where="[privacy] epsilon_column",
        fix=nearest(name, {str(n) for table in tables for n in table}, what="it has"),
    )


def targets_by_column(
    values: pd.Series, client: Int[np.ndarray, " N"], names: Sequence[str]
) -> Float[np.ndarray, " K"]:
    """The smallest value among each client's records: no record gets less than it asks for.

    Raises:
        FedmodelError: a value is no number above 0.
    """
    where = "[privacy] epsilon_column"
    numbers = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)
    wrong = np.flatnonzero(~(numbers > 0) | np.isinf(numbers))
    if len(wrong):
        first = wrong[0]
        raise FedmodelError(
            f"{len(wrong)} records have no epsilon above 0 in {values.name!r}, the first of them "
            f"{shown(values.iloc[first])} at client {names[client[first]]}",
            where=where,
            fix="Give every record a number above 0: the limit that its person agreed to.",
        )
    targets = np.full(len(names), np.inf)
    np.minimum.at(targets, client, numbers)
    return targets


def drawn_targets(spec: Targets, num_clients: int, *, seed: int) -> Float[np.ndarray, " K"]:
    """Draw each client's target from the experiment's seed: uniform, or one of `values` by share."""
    check_targets(spec)
    draw = stream(seed, SERVER, 0, "targets")
    if spec.uniform is not None:
        low, high = spec.uniform
        return draw.uniform(low, high, num_clients)
    assert spec.values is not None
    shares = np.array(spec.shares or [1.0] * len(spec.values))
    return draw.choice(np.array(spec.values), num_clients, p=shares / shares.sum())


def targets_by_rule(
    rule: Callable[..., object], sizes: Int[np.ndarray, " K"], names: Sequence[str]
) -> Float[np.ndarray, " K"]:
    """What a user's rule says of the clients' numbers of training records.

    Raises:
        FedmodelError: it returns something other than one number above 0 a client.
    """
    answer = rule(sizes.copy())
    try:
        found = np.asarray(answer, dtype=np.float64)
    except (TypeError, ValueError):
        found = np.empty(0)
    if found.shape != sizes.shape:
        raise FedmodelError(
            f"the rule returned {found.size} numbers for {len(sizes)} clients",
            where=f"{WHERE} rule",
            fix="Return one epsilon a client, in their order.",
        )
    wrong = np.flatnonzero(~(found > 0) | np.isinf(found))
    if len(wrong):
        first = wrong[0]
        raise FedmodelError(
            f"the rule gives client {names[first]} with {sizes[first]} records epsilon={found[first]:g}",
            where=f"{WHERE} rule",
            fix="Return a number above 0 for each client.",
        )
    return found


def check_targets(spec: Targets) -> None:
    """Raise FedmodelError unless the table says in one way what the clients' targets are."""
    ways = [w for w in ("uniform", "values", "rule") if getattr(spec, w) is not None]
    if len(ways) != 1:
        raise FedmodelError(
            f"`epsilon` as a table needs one of uniform, values, rule; it has {len(ways)}",
            where=WHERE,
            fix="Write e.g. epsilon = { uniform = [1.0, 8.0] } or { values = [1.0, 8.0] }.",
        )
    if spec.shares is not None and len(spec.shares) != len(spec.values or ()):
        raise FedmodelError(
            f"there are {len(spec.shares)} shares for {len(spec.values or ())} values",
            where=f"{WHERE} shares",
            fix="Give each of `values` its share of the clients.",
        )
    if spec.shares is not None and not (min(spec.shares) >= 0 and 0 < sum(spec.shares) < np.inf):
        raise FedmodelError(
            f"shares = {spec.shares} are no shares",
            where=f"{WHERE} shares",
            fix="Give numbers of 0 or more, not all of them 0.",
        )
    if spec.uniform is not None and not (
        len(spec.uniform) == 2 and spec.uniform[0] <= spec.uniform[1]
    ):
        raise FedmodelError(
            f"uniform = {spec.uniform} is no range",
            where=f"{WHERE} uniform",
            fix="Give the lowest and the highest epsilon, e.g. uniform = [1.0, 8.0].",
        )
    if spec.values == []:
        raise FedmodelError(
            "values = [] leaves nothing to draw",
            where=f"{WHERE} values",
            fix="Give at least one epsilon, e.g. values = [1.0, 8.0].",
        )
