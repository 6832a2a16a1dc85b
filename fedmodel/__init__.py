"""Federated-learning experiments that show privacy, fairness and robustness.

>>> import fedmodel
>>> run = fedmodel.run("experiments/quickstart.toml")       # doctest: +SKIP
>>> run.metrics, run.clients, run.epsilon, run.report       # doctest: +SKIP
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Nothing is sent anywhere, and nothing asks a server for updates.
os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("FLWR_DISABLE_UPDATE_CHECK", "1")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from fedmodel.errors import FedmodelError, RunFailed
    from fedmodel.experiment import Experiment, Round
    from fedmodel.foreign import run_app
    from fedmodel.runs.run import Run, load
    from fedmodel.runs.seeds import SeedRuns

__all__ = ["Experiment", "FedmodelError", "Round", "Run", "RunFailed", "SeedRuns"]
__all__ += ["load", "run", "run_app"]
__version__ = "0.1.0"

_HOMES = {
    "Experiment": "fedmodel.experiment",
    "FedmodelError": "fedmodel.errors",
    "Round": "fedmodel.experiment",
    "Run": "fedmodel.runs.run",
    "RunFailed": "fedmodel.errors",
    "SeedRuns": "fedmodel.runs.seeds",
    "load": "fedmodel.runs.run",
    "run_app": "fedmodel.foreign",
}


def run(
    experiment: Path | str | Mapping[str, Any] | Experiment,
    overrides: Mapping[str, Any] | None = None,
    *,
    engine: str | None = None,
    seed: int | None = None,
    out: Path | str | None = None,
) -> Run | SeedRuns:
    """Run an experiment to its end and return the run; of one with `seeds`, the run of each.

    `experiment` is a file, a mapping, or an `Experiment`; `overrides` are by dotted key
    (``{"client.learning_rate": 0.05}``); `out` is the run folder, which must be new or empty.

    Raises:
        FedmodelError: something in the experiment must be mended first.
        RunFailed: a round could not be finished; what was finished is kept.
    """
    from fedmodel.config_file import changes_of
    from fedmodel.experiment import Experiment

    changes = changes_of(overrides or {}, engine=engine, seed=seed)
    if isinstance(experiment, Experiment):
        if changes:
            experiment = experiment.changed(changes)
    else:
        experiment = Experiment.read(experiment, changes)
    if experiment.config.seeds is not None:
        from fedmodel.seeds import run_seeds

        return run_seeds(experiment, out)
    for _ in experiment.rounds(out):
        pass
    return experiment.run


def __getattr__(name: str) -> Any:
    # Loaded when asked for: `import fedmodel` itself stays light.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'fedmodel' has no attribute {name!r}")
