"""Membership inference: can somebody tell who was in the training data?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from pandas import DataFrame, concat
from pydantic import Field, PositiveInt
from scipy.stats import rankdata

from fedmodel.audits.finding import Finding
from fedmodel.audits.membership_section import section
from fedmodel.audits.roc import auc, auc_error, curve, hit_rate
from fedmodel.audits.scope import check_record_level
from fedmodel.audits.scores import scores
from fedmodel.audits.watching import POSITIONS, halves, shadow, watch
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.types import FederatedData

__all__ = ["membership"]

RATES = (0.001, 0.01, 0.1)  # false positive rates
RUN, LIKE = "this run", "runs like it"
STRONGEST = (LIKE, "server", "LiRA online")  # named beforehand, not chosen by its result
POINTS = 200  # of a ROC curve that is kept


def membership(
    experiment: Experiment,
    *,
    shadows: Annotated[int, Field(ge=6)] = 64,
    last: PositiveInt | None = None,
) -> Finding:
    """Tell training records from others by the models that a server or a peer client sees.

    1. Train `shadows` federations like this one, each on a random half of every client's records;
       each record is in half of them.
    2. Train the experiment itself again (the same seed gives the same models) and score all its
       records: members are the training records, the others its test and validation records.
    3. Attack also every shadow federation, with the help of the others: many more trials.

    A record's signal is its mean log odds over the `last` rounds, by default half of all. The
    attacker knows the experiment, its initial model, who was invited, and records like these.
    Attackers of the experiment are left out: their records do not train the model as others do.

    Carlini et al., S&P 2022 (LiRA); Zarifzadeh et al., ICML 2024 (RMIA); Yeom et al., CSF 2018 (loss).

    Raises:
        FedmodelError: an odd number of shadows, or nobody outside the training data.
    """
    check_record_level(experiment)
    if shadows % 2:
        raise FedmodelError(
            f"{shadows} shadow federations cannot hold each record in half of them",
            where="audit membership, shadows",
            fix=f"Choose an even number, e.g. {shadows + 1}.",
        )
    built, config = experiment.built, experiment.config
    last = last or max(1, config.rounds // 2)
    trained_on = _trained_on(built.data)
    experiment.say("membership: the experiment itself")
    target = watch(experiment, data=built.data, seed=config.seed, last=last)
    member = halves(built.data, number=shadows, seed=config.seed)
    seen = []
    for number in range(shadows):
        if number % 8 == 0:
            experiment.say(f"membership: shadow federation {number + 1} of {shadows}")
        seen.append(shadow(experiment, member[number], number=number, last=last))
    honest = _honest(built.data, built.dishonest)
    if not (honest & ~trained_on).any() or not (honest & trained_on).any():
        raise FedmodelError(
            "every record is a member, or none is: there is nothing to tell apart",
            where="[data] test",
            fix="Keep test records: they are the ones that were not trained on.",
        )
    trials, exposures = {}, {}
    client = _client_of(built.data)
    for position in POSITIONS:
        signals = np.array([signal.log_odds[position] for signal in seen])
        one = target.log_odds[position]
        known = honest & ~np.isnan(one) & ~np.isnan(signals).any(0)
        if not known.any():
            raise FedmodelError(
                "no honest client took part in any round, so there is nothing to see",
                where="[strategy]",
                fix="Run more rounds, or sample more clients.",
            )
        together = client[known] if position == "server" else np.zeros(known.sum(), np.int64)
        trials[position] = _Trials(
            known, one[known], signals[:, known], member[:, known], trained_on[known], together
        )
        exposures[position] = np.full(len(known), np.nan)
        exposures[position][known] = exposure(signals[:, known], member[:, known])
    table, roc = _attacked(trials)
    records = _records(built.data, trained_on, exposures)
    groups = _groups(built.data, records)
    notes = _notes(experiment, target.vector, trained_on)
    return Finding(
        name="membership",
        figures=_figures(table),
        section=section(table, roc, groups, shadows=shadows, last=last, notes=notes),
        tables={"attacks": table, "roc": roc, "groups": groups, "records": records},
        notes=notes,
    )


def exposure(
    signals: Float[np.ndarray, "S N"], member: Bool[np.ndarray, "S N"]
) -> Float[np.ndarray, " N"]:
    """How well each record's signal tells the models that were trained with it: an AUC of its own.

    0.5 says that nobody can tell by a record's signal whether it was there.

    >>> exposure(np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[True, True], [False, False]]))
    array([1., 0.])
    """
    inside = member.sum(0)
    ranks = np.where(member, rankdata(signals, axis=0), 0.0).sum(0)
    return (ranks - inside * (inside + 1) / 2) / (inside * (len(member) - inside))


@dataclass(frozen=True)
class _Trials:
    """What one position has to go by: n records that it can score, S shadows."""

    known: Bool[np.ndarray, " N"]
    target: Float[np.ndarray, " n"]
    signals: Float[np.ndarray, "S n"]
    member: Bool[np.ndarray, "S n"]
    trained_on: Bool[np.ndarray, " n"]
    together: np.ndarray  # [n]

    def run(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Scores of the experiment itself, and who is a member."""
        found = scores(self.target, self.signals, self.member, together=self.together)
        return found, self.trained_on

    def like(self) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Scores of each shadow as the target, the other pairs its shadows; and who is a member.

        Its own pair is left out whole: with one model less on the side of members than on the other,
        their mean would be less sure, and that alone would tell.
        """
        each = []
        for number in range(len(self.signals)):
            rest = np.arange(len(self.signals)) // 2 != number // 2
            each.append(
                scores(
                    self.signals[number],
                    self.signals[rest],
                    self.member[rest],
                    together=self.together,
                )
            )
        found = {name: np.concatenate([one[name] for one in each]) for name in each[0]}
        return found, self.member.ravel()


def _attacked(trials: dict[str, _Trials]) -> tuple[DataFrame, DataFrame]:
    """One row an attack, position and target; and the ROC curves."""
    rows, curves = [], []
    for position, trial in trials.items():
        ways: dict[str, Callable[[], tuple[dict[str, np.ndarray], np.ndarray]]]
        ways = {RUN: trial.run, LIKE: trial.like}
        for of, attack in ways.items():
            found, member = attack()
            for name, score in found.items():
                valid = ~np.isnan(score)
                score, inside = score[valid], member[valid]
                area = auc(score, inside)
                others = int((~inside).sum())
                row: dict[str, Any] = {"of": of, "position": position, "attack": name}
                error = auc_error(area, members=int(inside.sum()), others=others)
                rows.append(
                    {
                        **row,
                        "members": int(inside.sum()),
                        "non_members": others,
                        "auc": area,
                        "auc_error": error if of == RUN else np.nan,
                        **{f"tpr_at_{r:g}": hit_rate(score, inside, at=r) for r in RATES},
                    }
                )
                false, true = _thinned(*curve(score, inside))
                curves.append(DataFrame({**row, "false": false, "true": true}))
    return DataFrame(rows), concat(curves, ignore_index=True)


def _thinned(false: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The curve at thresholds that are even on a logarithmic axis."""
    if len(false) <= POINTS:
        return false, true
    least = false[false > 0].min()
    wanted = np.geomspace(least, 1.0, POINTS - 1)
    places = np.unique(np.searchsorted(false, wanted * (1 + 1e-12), side="right") - 1)
    return false[places], true[places]


def _records(
    data: FederatedData, trained_on: np.ndarray, exposures: dict[str, np.ndarray]
) -> DataFrame:
    """One row a record: whose it is, its group and label, and how exposed."""
    frame = DataFrame({"client": np.array(data.clients)[_client_of(data)]})
    for column, (name, levels) in enumerate(data.attributes.items()):
        frame[name] = np.array(levels)[data.group[:, column].numpy()]
    frame["label"] = np.array(data.classes)[data.y.numpy()]
    frame["member"] = trained_on
    for position, values in exposures.items():
        frame[f"exposure_{position.replace(' ', '_')}"] = values
    return frame


def _groups(data: FederatedData, records: DataFrame) -> DataFrame:
    """Mean exposure of each group, label and client, with the 95 % interval of the mean."""
    rows = []
    for position in POSITIONS:
        column = f"exposure_{position.replace(' ', '_')}"
        for by in (*data.attributes, "label", "client"):
            for name, values in records.dropna(subset=[column]).groupby(by)[column]:
                mean = float(values.mean())
                half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
                rows.append(
                    {"position": position, "by": by, "name": str(name), "records": len(values),
                     "exposure": mean, "low": mean - half, "high": mean + half}
                )  # fmt: skip
    return DataFrame(rows)


def _figures(table: DataFrame) -> dict[str, float]:
    """What the strongest attack reached; then the same as a peer client, and on this very run."""
    of, position, attack = STRONGEST
    figures = {}
    for prefix, place in (
        ("", STRONGEST),
        ("peer_client_", (of, "peer client", attack)),
        ("this_run_", (RUN, position, attack)),
    ):
        found = (table["of"] == place[0]) & (table.position == place[1])
        row = table[found & (table.attack == place[2])].to_dict("records")[0]
        for name in ("auc", *(f"tpr_at_{rate:g}" for rate in RATES)):
            figures[prefix + name] = float(row[name])
    return figures


def _notes(experiment: Experiment, vector: torch.Tensor, trained_on: np.ndarray) -> list[str]:
    built = experiment.built
    notes = []
    if experiment.folder is not None:
        saved = built.model.join(
            {n: p.detach() for n, p in experiment.run.model.named_parameters()}
        )
        if not torch.allclose(saved, vector, rtol=1e-3, atol=1e-4):
            notes.append(
                "Trained again, the experiment does not give the saved model (secure noise, or draws "
                "outside the experiment's seed): this is an audit of a repetition."
            )
    if built.dishonest is not None:
        notes.append("Records of the experiment's attackers are not scored.")
    if built.data.outside:
        notes.append(
            "Shadow federations use the features as the experiment encoded them, so what encoding "
            "gives away of the records is not measured."
        )
    few = int((~trained_on).sum())
    if few < 10 / min(RATES):
        notes.append(
            f"Only {few} records were not trained on: of this run, small false positive rates are not "
            "measurable."
        )
    return notes


def _trained_on(data: FederatedData) -> Bool[np.ndarray, " N"]:
    mask = np.zeros(len(data.y), dtype=bool)
    for client in range(data.num_clients):
        mask[data.rows(client, "train")] = True
    return mask


def _client_of(data: FederatedData) -> np.ndarray:
    sizes = (data.bounds[:, -1] - data.bounds[:, 0]).numpy()
    return np.repeat(np.arange(data.num_clients), sizes)


def _honest(data: FederatedData, dishonest: np.ndarray | None) -> Bool[np.ndarray, " N"]:
    if dishonest is None:
        return np.ones(len(data.y), dtype=bool)
    return ~dishonest[_client_of(data)]
