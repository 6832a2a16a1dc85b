"""Every shipped data set: pooled, each client alone, federated, and federated with epsilon 3.

    python -m experiments.tour
    python -m experiments.tour --only heart_disease --only adult --rounds 10 --out here

Beside the pooled model stands scikit-learn's logistic regression on the same records, the same split
and the same encoding. `experiments/tour_settings.py` says what each data set is run with.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from experiments.tour_results import Told, printed, save
from experiments.tour_settings import NEEDS_A_FILE, SEEDS, SETTINGS, experiment_of, suitable_delta
from fedmodel.evaluation.repeated import t_interval
from fedmodel.experiment import Experiment
from fedmodel.runs.seeds import SeedRuns
from fedmodel.seeds import Repetition
from fedmodel.types import FederatedData

__all__ = ["LEAST", "scikit_learn", "tour"]

LEAST = 10  # test records of a client or group, below which it cannot be the worst
MODELS = {"pooled": "pooled", "local": "local", "global": "federated"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for, print the tables, and keep them where `--out` says."""
    parser = argparse.ArgumentParser(prog="python -m experiments.tour", description=__doc__)
    parser.add_argument("--only", action="append", choices=SETTINGS, metavar="NAME")
    parser.add_argument("--rounds", type=int, help="at most so many rounds (default: as tuned)")
    parser.add_argument("--out", type=Path, help="folder for tour-DATE.md and .csv")
    asked = parser.parse_args(arguments)
    if asked.rounds is not None and asked.rounds < 1:
        parser.error("--rounds: give 1 or more")
    console = Console()
    if not console.is_terminal:  # a file or a pipe takes lines of any length
        console = Console(width=140)
    command = " ".join(["experiments.tour", *sys.argv[1:]])
    with tempfile.TemporaryDirectory() as folder:
        told = tour(
            asked.only or tuple(SETTINGS),
            Path(folder),
            rounds=asked.rounds,
            say=partial(print, file=sys.stderr),
            keep=lambda told: asked.out and save(told, asked.out, command=command),
        )
    for table in printed(told):
        console.print(table)
    for name, reason in NEEDS_A_FILE.items():
        console.print(f"left out: {name}, which {reason}", highlight=False)
    if asked.out is not None:
        for path in save(told, asked.out, command=command):
            console.print(str(path), highlight=False)


def tour(
    names: Sequence[str],
    folder: Path,
    *,
    seeds: tuple[int, ...] = SEEDS,
    rounds: int | None = None,
    say: Callable[[str], object] = lambda line: None,
    keep: Callable[[Told], object] = lambda told: None,
) -> Told:
    """Run the data sets one after the other, with and without privacy; run folders go into `folder`.

    `keep` gets what there is after each of them, so that what was finished is not lost.
    """
    parts, checks, manifest = [], [], {}
    for name in names:
        begun, setting = time.perf_counter(), SETTINGS[name]
        out = folder / name.replace(", ", "-")
        plain = Repetition.begin(
            Experiment.read(experiment_of(name, seeds=seeds, rounds=rounds)), out
        )
        seconds: list[dict[str, float]] = []
        theirs: list[float] = []
        sizes = []
        for _, experiment, finished in plain.left():
            seconds.append(_timed(experiment, finished))
            data = experiment.built.data
            theirs.append(scikit_learn(data, metric=setting.metric))
            sizes.append(data.sizes("train").numpy())
        runs = plain.finish()
        delta = suitable_delta(max(int(size.max()) for size in sizes))
        private = Repetition.begin(
            Experiment.read(
                experiment_of(name, private=True, delta=delta, seeds=seeds, rounds=rounds)
            ),
            folder / f"{out.name}-private",
        )
        spent = [_timed(experiment, finished) for _, experiment, finished in private.left()]
        strict = private.finish()
        about = {"data": name, "metric": setting.metric}
        for model, label in MODELS.items():
            taken = float(np.mean([second[model] for second in seconds]))
            parts.append(
                {**about, "model": label, **measured(runs, model, setting.metric), "seconds": taken}
            )
        parts.append(
            {
                **about,
                "model": "federated, epsilon 3",
                **measured(strict, "global", setting.metric),
                "epsilon": float(strict.clients.epsilon.max()),
                "delta": delta,
                "seconds": float(np.mean([second["global"] for second in spent])),
            }
        )
        pooled = runs.last(setting.metric, model="pooled")
        checks.append(
            {
                **about,
                "model": setting.model["name"],
                "clients": len(sizes[0]),
                "smallest": int(min(size.min() for size in sizes)),
                "median": float(np.median(np.concatenate(sizes))),
                "pooled": pooled,
                "scikit_learn": float(np.mean(theirs)),
                "points": 100 * (pooled - float(np.mean(theirs))),
                "same_family": setting.same_family,
            }
        )
        manifest = next(iter(runs.runs.values())).manifest
        told = Told(
            table=pd.DataFrame(parts), checks=pd.DataFrame(checks), manifest=manifest, seeds=seeds
        )
        keep(told)
        say(f"{name}: {time.perf_counter() - begun:.0f} s")
    return told


def scikit_learn(data: FederatedData, *, metric: str) -> float:
    """Logistic regression with scikit-learn's defaults on all training records, at all test records.

    Texts are counts of their hashed words [N, buckets].
    """
    pooled = data.pooled()
    x = pooled.x
    if pooled.vocabulary:
        ones = torch.ones(x.shape)
        x = torch.zeros(len(x), pooled.vocabulary).scatter_add_(1, x, ones)[:, 1:]  # 0 is padding
    features, label = x.numpy(), pooled.y.numpy()
    train, test = pooled.rows(0, "train"), pooled.rows(0, "test")
    model = LogisticRegression(max_iter=5000).fit(features[train], label[train])
    if metric == "roc_auc":
        return float(roc_auc_score(label[test], model.predict_proba(features[test])[:, 1]))
    return float(model.score(features[test], label[test]))


def measured(runs: SeedRuns, model: str, metric: str) -> dict[str, float]:
    """A model's mean over the seeds with its 95 % t-interval, and the mean of each seed's worst."""
    values = runs.last_values
    values = values[(values.model == model) & (values.split == "test")]
    whole = values[(values.scope == "global") & (values.metric == metric)]
    interval = t_interval(whole.value.to_numpy())
    client = values[values.scope == "client"]
    # A group's AUC is not measured: groups are compared by accuracy.
    group = values[(values.scope == "group") & values.key.str.match(r"^[^,]+=[^,]+$")]
    return {
        "value": interval.value,
        "half": interval.high - interval.value,
        "worst_client": worst(client, metric),
        "worst_group": worst(group, "accuracy"),
    }


def worst(values: pd.DataFrame, metric: str) -> float:
    """The mean over seeds of the smallest value among keys with `LEAST` test records; NaN without any."""
    wide = values.pivot_table(index=["seed", "key"], columns="metric", values="value")
    if metric not in wide:
        return float("nan")
    kept = wide[wide.num_records >= LEAST][metric].dropna()
    return float(kept.groupby("seed").min().mean())


def _timed(experiment: Experiment, rounds: Iterator) -> dict[str, float]:
    """Run to the end; seconds of the rounds, and of the references, the last with tables and report."""
    marks: list[float] = []

    def say(line: str) -> None:
        if line.startswith("reference:"):
            marks.append(time.perf_counter())

    experiment.say = say
    federated = sum(finished.seconds for finished in rounds)
    marks.append(time.perf_counter())
    pooled_and_local = np.diff(marks)
    return {"global": federated, **dict(zip(("pooled", "local"), pooled_and_local))}


if __name__ == "__main__":
    main()
