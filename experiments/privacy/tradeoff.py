"""The same experiment with no, weak and strong privacy: accuracy, epsilon from both sides, attacks.

    python -m experiments.privacy.tradeoff [--quick] [--runs FOLDER] [--results FOLDER]

Four hospitals (`heart_disease`) train an MLP. Each setting is run, then attacked by the audits of
`fedmodel audit`, with the same options. `--runs` gets every run with its report and its audit's page,
and one page of all; `--results` the table with its plots and curves. `--quick` only shows that it works.
"""

from __future__ import annotations

import argparse
import time
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame, concat

import fedmodel
from experiments.privacy.results import Told, save
from fedmodel.audits.audit import audit, chosen
from fedmodel.audits.membership import RUN, STRONGEST
from fedmodel.experiment import Experiment

__all__ = ["Scale", "compare"]

QUICKSTART = Path(__file__).parents[1] / "quickstart.toml"
SETTINGS = {"no privacy": None, "weak": 100.0, "moderate": 10.0, "strong": 1.0}  # epsilon


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is trained and attacked."""

    hidden: int = 64
    rounds: int = 40
    seeds: int = 5  # for the accuracy; the first one's run is audited
    shadows: int = 64
    batches: int = 32  # of one record each, inverted
    iterations: int = 200
    inverted: tuple[float, ...] = (1e5, 1e4, 1e3, 100.0, 10.0, 1.0)  # epsilons of the curve


QUICK = Scale(
    hidden=8, rounds=4, seeds=2, shadows=8, batches=4, iterations=60, inverted=(1e5, 100.0, 1.0)
)


def experiment_with(epsilon: float | None, scale: Scale, *, seed: int) -> Experiment:
    """The quickstart's data and client with an MLP; without [privacy] where epsilon is None."""
    raw: dict[str, Any] = tomllib.loads(QUICKSTART.read_text(encoding="utf-8"))
    raw |= {
        "name": "tradeoff",
        "seed": seed,
        "rounds": scale.rounds,
        "model": {"name": "mlp", "hidden": [scale.hidden]},
        "evaluation": {"every": scale.rounds},
        "engine": {"name": "inline"},
    }
    if epsilon is None:
        del raw["privacy"]
        raw["client"]["name"] = "sgd"
    else:
        raw["privacy"]["epsilon"] = epsilon
    return Experiment.read(raw)


def compare(scale: Scale, runs: Path, *, settings: dict[str, float | None] = SETTINGS) -> Told:
    """Run and audit every setting; `runs` is new or empty."""
    first = tomllib.loads(QUICKSTART.read_text(encoding="utf-8"))["seed"]
    rows, curves, inverted = [], [], []
    last = list(settings)[-1]
    for number, (name, epsilon) in enumerate(settings.items()):
        begun, worked = time.perf_counter(), time.process_time()
        folder = runs / f"{number}-{name.replace(' ', '-')}"
        experiment = experiment_with(epsilon, scale, seed=first)
        run = fedmodel.run(experiment, out=folder)
        accuracies = [run.last("accuracy"), *_others(epsilon, scale, folder, first=first)]
        # The curve over other epsilons needs the noise of [privacy]: it is taken with the last one.
        epsilons = scale.inverted if name == last and epsilon is not None else ()
        row, roc, errors = _audited(experiment, folder, scale, epsilons)
        spent = run.epsilon.epsilon.max() if epsilon is not None else np.inf
        rows.append(
            {
                "setting": name,
                "accuracy": float(np.mean(accuracies)),
                "accuracy_low": min(accuracies),
                "accuracy_high": max(accuracies),
                "epsilon_upper": float(spent),
                "delta": experiment.config.privacy.delta if epsilon is not None else np.nan,
                **row,
                "seconds": time.perf_counter() - begun,
                "processor_seconds": time.process_time() - worked,
            }
        )
        curves.append(roc.assign(setting=name))
        inverted.append(errors.assign(of=name))
        print(f"{name}: {rows[-1]['seconds']:.0f} s", flush=True)
    return Told(
        table=DataFrame(rows),
        roc=concat(curves, ignore_index=True),
        inversion=concat(inverted, ignore_index=True),
        scale=asdict(scale),
        manifest=run.manifest,
        data=experiment.built.data.card.title,
        parameters=experiment.built.model.size,
        records={s: int(experiment.built.data.sizes(s).sum()) for s in ("train", "test")},
    )


def _others(epsilon: float | None, scale: Scale, folder: Path, *, first: int) -> list[float]:
    """The accuracy with the other seeds: other splits, batches and noise."""
    found = []
    for seed in range(first + 1, first + scale.seeds):
        experiment = experiment_with(epsilon, scale, seed=seed)
        run = fedmodel.run(experiment, out=folder.with_name(f"{folder.name}-seed-{seed}"))
        found.append(run.last("accuracy"))
    return found


def _audited(
    experiment: Experiment, folder: Path, scale: Scale, epsilons: Sequence[float]
) -> tuple[dict[str, float], DataFrame, DataFrame]:
    """A row's figures, the ROC curves of the strongest attack, and the errors of inversion."""
    inversion = {"batches": scale.batches, "iterations": scale.iterations, "batch_sizes": [1]}
    options: dict[str, dict[str, Any]] = {
        "canaries": {},
        "membership": {"shadows": scale.shadows},
        "gradient_inversion": {**inversion, "epsilons": list(epsilons)},
    }
    found = {f.name: f for f in audit(experiment, chosen(list(options), options), out=folder)}
    canaries, membership = found["canaries"].figures, found["membership"].figures
    inverted = found["gradient_inversion"].figures
    attacks, roc = (found["membership"].tables[name] for name in ("attacks", "roc"))
    of, position, attack = STRONGEST
    shown = (roc.position == position) & (roc.attack == attack)
    others = {
        which: int(
            attacks[(attacks["of"] == which) & (attacks.position == position)].non_members.max()
        )
        for which in (RUN, of)
    }
    row = {
        "epsilon_upper_small_delta": canaries["epsilon_upper"],
        "epsilon_lower": canaries["epsilon_lower"],
        "small_delta": canaries["delta"],
        "tpr_at_0.01": membership["tpr_at_0.01"],
        "tpr_at_0.1": membership["tpr_at_0.1"],
        "auc": membership["auc"],
        "non_members": others[of],
        "this_run_tpr_at_0.01": membership["this_run_tpr_at_0.01"],
        "this_run_tpr_at_0.1": membership["this_run_tpr_at_0.1"],
        "this_run_auc": membership["this_run_auc"],
        "this_run_non_members": others[RUN],
        "inversion_rmse": inverted["inversion_rmse"],
        "inversion_identified": inverted["inversion_identified"],
        "inversion_rmse_of_guess": inverted["inversion_rmse_of_guess"],
    }
    return row, roc[shown], found["gradient_inversion"].tables["errors"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, and write what was found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny: it works, and shows nothing")
    parser.add_argument("--runs", type=Path, help="new folder for runs, audits and the page")
    parser.add_argument("--results", type=Path, help="folder for table, plots and curves")
    asked = parser.parse_args(arguments)
    runs = asked.runs or Path("runs") / f"tradeoff-{datetime.now():%Y%m%d-%H%M%S}"
    results = asked.results or (runs if asked.quick else Path(__file__).parent / "results")
    command = "python -m experiments.privacy.tradeoff" + " --quick" * asked.quick
    told = compare(QUICK if asked.quick else Scale(), runs)
    for path in save(told, results, page_in=runs, command=command):
        print(path)


if __name__ == "__main__":
    main()
