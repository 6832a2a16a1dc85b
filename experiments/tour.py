"""Every shipped data set: pooled, each client alone, federated, and federated with epsilon 3.

    python -m experiments.tour
    python -m experiments.tour --only heart_disease adult --rounds 10 --out here

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
from fedmodel.errors import FedmodelError
from fedmodel.evaluation.repeated import t_interval
from fedmodel.experiment import Experiment
from fedmodel.runs.seeds import SeedRuns
from fedmodel.seeds import Repetition
from fedmodel.terminal import tell
from fedmodel.types import FederatedData

__all__ = ["LEAST", "comparable", "scikit_learn", "tour", "worst_group"]

# Test records of a client or group, of each class where it is AUC, below which it cannot be the worst.
LEAST = 10
MODELS = {"pooled": "pooled", "local": "local", "global": "federated"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is asked for, print the tables, and keep them where `--out` says."""
    parser = argparse.ArgumentParser(
        prog="python -m experiments.tour",
        description=__doc__,
        epilog="left out:\n"
        + "\n".join(f"  {name}, which {reason}" for name, reason in NEEDS_A_FILE.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only",
        action="extend",
        nargs="+",
        choices=SETTINGS,
        metavar="NAME",
        help="these data sets instead of all: " + ", ".join(map(repr, SETTINGS)),
    )
    parser.add_argument("--rounds", type=int, help="at most so many rounds, to see that it works")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write tour-DATE.md and the figures as CSV there, anew after each data set",
    )
    asked = parser.parse_args(arguments)
    if asked.rounds is not None and asked.rounds < 1:
        parser.error("--rounds: give 1 or more")
    command = " ".join(["experiments.tour", *(sys.argv[1:] if arguments is None else arguments)])
    finished: list[Told] = []

    def keep(told: Told) -> None:
        finished[:] = [told]
        if asked.out is not None:
            save(told, asked.out, command=command)

    names, stopped = dict.fromkeys(asked.only or SETTINGS), None
    with tempfile.TemporaryDirectory() as folder:
        try:
            say = partial(print, file=sys.stderr, flush=True)
            tour(tuple(names), Path(folder), rounds=asked.rounds, say=say, keep=keep)
        except KeyboardInterrupt:
            stopped = "stopped: the tables hold the data sets that were finished"
        except FedmodelError as error:
            tell(error)
            stopped = "failed: the tables hold the data sets that were finished"
    if finished:
        _show(finished[0], asked.out)
    if stopped:
        print(stopped if finished else stopped.partition(":")[0], file=sys.stderr)
        raise SystemExit(1)


def _show(told: Told, out: Path | None) -> None:
    console = Console()
    if not console.is_terminal:  # a file or a pipe takes lines of any length
        console = Console(width=140)
    for table in printed(told):
        console.print(table)
    for name, reason in NEEDS_A_FILE.items():
        console.print(f"left out: {name}, which {reason}", highlight=False)
    if out is not None:
        console.print(f"written to {out}", highlight=False)


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
        say(f"{name} ({len(checks) + 1} of {len(names)}) ...")
        out = folder / name.replace(", ", "-")
        plain = Repetition.begin(
            Experiment.read(experiment_of(name, seeds=seeds, rounds=rounds)), out
        )
        seconds: list[dict[str, float]] = []
        theirs: list[float] = []
        sizes, enough = [], set()
        for seed, experiment, finished in plain.left():
            seconds.append(_timed(experiment, finished))
            data = experiment.built.data
            theirs.append(scikit_learn(data, metric=setting.metric))
            sizes.append(data.sizes("train").numpy())
            enough |= {(seed, name) for name in comparable(data, metric=setting.metric)}
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
                {
                    **about,
                    "model": label,
                    **measured(runs, model, setting.metric, enough),
                    "seconds": taken,
                }
            )
        parts.append(
            {
                **about,
                "model": "federated, epsilon 3",
                **measured(strict, "global", setting.metric, enough),
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


def comparable(data: FederatedData, *, metric: str) -> list[str]:
    """The clients with `LEAST` test records, of each class where they are compared by AUC."""
    names = []
    for number, name in enumerate(data.clients):
        labels = data.y[data.rows(number, "test")]
        classes = torch.bincount(labels, minlength=len(data.classes))
        if int(classes.min() if metric == "roc_auc" else classes.sum()) >= LEAST:
            names.append(name)
    return names


def measured(
    runs: SeedRuns, model: str, metric: str, enough: set[tuple[int, str]]
) -> dict[str, float]:
    """A model's mean over the seeds with its 95 % t-interval, and the mean of each seed's worst.

    `enough` are the clients, by seed and name, of which one can be the worst.
    """
    values = runs.last_values
    values = values[(values.model == model) & (values.split == "test")]
    whole = values[(values.scope == "global") & (values.metric == metric)]
    interval = t_interval(whole.value.to_numpy())
    client = values[(values.scope == "client") & (values.metric == metric)]
    client = client[[pair in enough for pair in zip(client.seed, client.key)]]
    # A group's AUC is not measured: groups are compared by accuracy.
    group = values[(values.scope == "group") & values.key.str.match(r"^[^,]+=[^,]+$")]
    return {
        "value": interval.value,
        "half": interval.high - interval.value,
        "worst_client": float(client.groupby("seed").value.min().mean()),
        "worst_group": worst_group(group),
    }


def worst_group(values: pd.DataFrame) -> float:
    """The mean over seeds of the least accuracy in a group of `LEAST` test records; NaN without any."""
    wide = values.pivot_table(index=["seed", "key"], columns="metric", values="value")
    if "accuracy" not in wide:
        return float("nan")
    kept = wide[wide.num_records >= LEAST].accuracy.dropna()
    return float(kept.groupby("seed").min().mean())


def _timed(experiment: Experiment, rounds: Iterator) -> dict[str, float]:
    """Run to the end; the seconds of the rounds, and of each reference."""
    marks: list[float] = []

    def say(line: str) -> None:
        if line.startswith(("reference:", "writing")):
            marks.append(time.perf_counter())

    experiment.say = say
    federated = sum(finished.seconds for finished in rounds)
    return {"global": federated, **dict(zip(("pooled", "local"), np.diff(marks)))}


if __name__ == "__main__":
    main()
