"""Which experiments an attack on single records and updates can be held against."""

from __future__ import annotations

from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment

__all__ = ["check_record_level"]


def check_record_level(experiment: Experiment) -> None:
    """Refuse what an attack on records by single updates does not model.

    Raises:
        FedmodelError: the server sees sums only, or whole clients are protected.
    """
    config = experiment.config
    if config.secure_aggregation is not None:
        raise FedmodelError(
            "this audit attacks single updates, and under secure aggregation the server sees sums only",
            where="[secure_aggregation]",
            fix="Audit the experiment without it: what that finds bounds what a sum can give away.",
        )
    if config.privacy and config.privacy.unit == "client":
        raise FedmodelError(
            'this audit tells single records apart, and unit = "client" protects whole clients',
            where="[privacy] unit",
            fix="Use the audit `canaries`, whose canaries are then clients.",
        )
