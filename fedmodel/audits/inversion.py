"""Audit by gradient inversion: how much of a client's records can be read from one update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from pandas import DataFrame
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor

from fedmodel import randomness
from fedmodel.audits.closed_form import behind_first_layer, labels_of
from fedmodel.audits.columns import Columns, columns_of, image_of
from fedmodel.audits.finding import Finding
from fedmodel.audits.inversion_section import section
from fedmodel.audits.likeness import Likeness, aligned, likeness
from fedmodel.audits.matching import Search, match
from fedmodel.audits.scope import check_record_level
from fedmodel.audits.victims import Setting, client_named, held_by, sent, settings, training_under
from fedmodel.errors import FedmodelError
from fedmodel.experiment import Experiment
from fedmodel.scheduling import behaviour_in

__all__ = ["gradient_inversion"]

Attack = Literal["bayes", "dlg", "idlg", "cosine", "closed_form"]
TYPICAL = 256  # records of other clients that an attacker takes for typical


def gradient_inversion(
    experiment: Experiment,
    *,
    client: str | None = None,
    attack: Attack = "bayes",
    epsilons: Sequence[PositiveFloat] | None = None,
    batch_sizes: Sequence[PositiveInt] = (1, 2, 8),
    batches: PositiveInt = 8,
    restarts: PositiveInt = 1,
    iterations: PositiveInt = 200,
    smoothness: NonNegativeFloat = 0.005,
) -> Finding:
    """Reconstruct records of one client (default: the largest) from the update after one step.

    1. Draw `batches` batches of each size from the client's training records. The client's own
       behaviour takes one step on each from the initial model, with the clip and the noise that a
       client of its size gets under each privacy setting: none, the experiment's, `epsilons`
       (default: 10 and 1 where the experiment has [privacy]).
    2. The attacker divides the update by the learning rate and infers labels and records.
    3. Compare with the originals, with guessing the mean of other clients' records, and with
       guessing other records of theirs.

    The attacker is the server, or whoever reads the update: it knows the model, the mechanism, the
    batch size, the encoding, and other clients' records on the whole. `attack`: "bayes" matches the
    squared distance with how usual a record is (Balunovic et al., ICLR 2022), "dlg" without that and
    without labels (Zhu et al., NeurIPS 2019), "idlg" with inferred labels (Zhao et al., 2020),
    "cosine" by direction (Geiping et al., NeurIPS 2020), "closed_form" divides the gradients of a
    first linear layer (Phong et al., 2018). Images add `smoothness` times total variation under
    "cosine".

    Raises:
        FedmodelError: records of text; a client behaviour whose first step is not the gradient's;
            a batch larger than the client; "closed_form" without a first linear layer.
    """
    check_record_level(experiment)
    built = experiment.built
    data, model, start = built.data, built.model, built.model.initial
    victim = client_named(data, client)
    records = data.x[data.rows(victim, "train")]
    _check(experiment, num_records=len(records), largest=max(batch_sizes))
    columns, image = columns_of(data, victim), image_of(data)
    private = built.plans is not None
    tried = settings(experiment, ([10.0, 1.0] if private else []) if epsilons is None else epsilons)
    results = []
    for size in batch_sizes:
        chosen = _batches(experiment, victim, size=size, batches=batches)
        original = data.x[chosen]
        typical = _typical(experiment, victim)
        for setting in tried:
            seen, clip, noise = _gradient(experiment, setting, chosen, size=size, n=len(records))
            labels = labels_of(model, start, seen, typical, batch_size=size)
            if attack == "closed_form":
                found = behind_first_layer(model, seen, batch_size=size)
                if found is None:
                    raise FedmodelError(
                        "closed_form needs a model that begins with a linear layer with bias",
                        where="attack",
                        fix='Choose attack = "bayes".',
                    )
                found = found.clamp(columns.low, columns.high)
            else:
                search = Search(
                    distance="cosine" if attack == "cosine" else "squared",
                    iterations=iterations,
                    low=columns.low,
                    high=columns.high,
                    image=image,
                    smoothness=smoothness if image and attack == "cosine" else 0.0,
                    expected=(columns.mean, columns.deviation) if attack == "bayes" else None,
                )
                begin = _beginnings(experiment, columns, restarts, batches, size)
                known = None if attack == "dlg" else labels
                found, _ = match(model, start, seen, begin, known, search, clip=clip, noise=noise)
            results.append(_Result(setting, size, original, found))
        for name, guess in _guesses(experiment, victim, columns, original).items():
            results.append(_Result(Setting(name, None), size, original, guess))
    return _finding(experiment, victim, results, tried, columns, records, attack)


@dataclass(frozen=True)
class _Result:
    setting: Setting
    batch_size: int
    original: Float[Tensor, "V B p"]
    found: Float[Tensor, "V B p"]


def _check(experiment: Experiment, *, num_records: int, largest: int) -> None:
    data, behaviour = experiment.built.data, experiment.built.workload.behaviour
    if data.vocabulary or data.x.dim() != 2:
        raise FedmodelError(
            "gradient inversion reads tables and images, and these records are texts",
            where="[data]",
            fix="Audit an experiment with a table; for texts use the membership audit.",
        )
    if getattr(behaviour, "optimiser", "sgd") != "sgd" or not hasattr(behaviour, "learning_rate"):
        raise FedmodelError(
            "the first step of this client is not its gradient times a learning rate",
            where="[client]",
            fix='Audit it with client.optimiser = "sgd", or with client.name = "sgd" or "dp_sgd".',
        )
    if largest > num_records:
        raise FedmodelError(
            f"the attacked client has {num_records} training records, fewer than a batch of {largest}",
            where="batch_sizes",
            fix="Choose smaller batch sizes, or a larger client.",
        )


def _batches(experiment: Experiment, victim: int, *, size: int, batches: int) -> Int[Tensor, "V B"]:
    """Rows of the attacked batches, each drawn without replacement from the client's records."""
    rows = experiment.built.data.rows(victim, "train")
    draw = randomness.stream(experiment.config.seed, victim, size, "inversion batches")
    chosen = [draw.permutation(rows.stop - rows.start)[:size] for _ in range(batches)]
    return torch.from_numpy(np.stack(chosen)) + rows.start


def _gradient(
    experiment: Experiment, setting: Setting, chosen: Int[Tensor, "V B"], *, size: int, n: int
) -> tuple[Float[Tensor, "V d"], float, float]:
    """What the attacker takes for the gradient of each batch, the clip, the noise's deviation.

    A made-up client holds just the batch, so that the step takes all of it; its noise is that of a
    client with `n` records, of which `size` are expected in a batch.
    """
    built = experiment.built
    behaviour, start = behaviour_in(built.workload.behaviour, 1), built.model.initial
    training = training_under(setting, experiment, np.full(len(chosen), n), batch_size=size)
    training = replace(training, num_steps=np.ones(len(chosen), dtype=np.int64))
    delta = sent(experiment, held_by(built.data, list(chosen)), training, start)
    seen = -delta / behaviour.learning_rate - getattr(behaviour, "weight_decay", 0.0) * start
    noise = 0.0
    if training.noise_multiplier is not None:
        noise = training.clip * float(training.noise_multiplier[0]) / size
    return seen, training.clip, noise


def _elsewhere(experiment: Experiment, victim: int) -> Int[Tensor, " m"]:
    """Rows of the other clients' training records, in random order; of all where there are none."""
    data = experiment.built.data
    others = [k for k in range(data.num_clients) if k != victim] or [victim]
    rows = [data.rows(k, "train") for k in others]
    index = np.concatenate([np.arange(part.start, part.stop) for part in rows])
    draw = randomness.stream(experiment.config.seed, victim, 0, "inversion others")
    return torch.from_numpy(draw.permutation(index))


def _typical(experiment: Experiment, victim: int) -> Float[Tensor, "M p"]:
    return experiment.built.data.x[_elsewhere(experiment, victim)[:TYPICAL]]


def _beginnings(
    experiment: Experiment, columns: Columns, restarts: int, batches: int, size: int
) -> Float[Tensor, "R V B p"]:
    """Where the searches begin: normal values with the columns' mean and deviation."""
    width = len(columns.mean)
    keys = randomness.stream_keys(
        experiment.config.seed, range(restarts * batches * size), size, "inversion starts"
    )
    drawn = torch.from_numpy(randomness.normals(keys, width))
    begin = (columns.mean + columns.deviation * drawn).clamp(columns.low, columns.high)
    return begin.view(restarts, batches, size, width)


def _guesses(
    experiment: Experiment, victim: int, columns: Columns, original: Float[Tensor, "V B p"]
) -> dict[str, Float[Tensor, "V B p"]]:
    """What somebody guesses who has seen no update."""
    number = original.shape[0] * original.shape[1]
    others = _elsewhere(experiment, victim)
    some = others[torch.arange(number) % len(others)]
    return {
        "guess: the mean": columns.mean.expand_as(original),
        "guess: a record": experiment.built.data.x[some].view_as(original),
    }


def _finding(
    experiment: Experiment,
    victim: int,
    results: list[_Result],
    tried: list[Setting],
    columns: Columns,
    records: Float[Tensor, "n p"],
    attack: Attack,
) -> Finding:
    measured: list[tuple[_Result, Likeness]] = [
        (result, likeness(result.original, result.found, columns, records)) for result in results
    ]
    errors = DataFrame(
        {
            "setting": result.setting.name,
            "epsilon": result.setting.epsilon,
            "batch_size": result.batch_size,
            "rmse": like.rmse,
            "categories": like.categories,
            "identified": like.identified,
            "mse": like.mse,
            "psnr": like.psnr,
        }
        for result, like in measured
    )
    by_column = DataFrame(
        {
            "setting": result.setting.name,
            "batch_size": result.batch_size,
            "column": name,
            "value": value,
        }
        for result, like in measured
        for name, value in like.by_column.items()
    )
    smallest = min(result.batch_size for result in results)
    first = {
        result.setting.name: aligned(result.original, result.found, columns)[:, 0]
        for result in results
        if result.batch_size == smallest
    }
    original = next(r.original for r in results if r.batch_size == smallest)[:, 0]
    shown = {"original": original, **first}
    image = image_of(experiment.built.data)
    at_smallest = {r.setting.name: like for r, like in measured if r.batch_size == smallest}
    own = at_smallest[tried[-1].name]
    figures = {
        "inversion_rmse": own.rmse,
        "inversion_identified": own.identified,
        "inversion_rmse_without_privacy": at_smallest[tried[0].name].rmse,
        "inversion_rmse_of_guess": at_smallest["guess: the mean"].rmse,
    }
    if image:
        figures["inversion_psnr"] = own.psnr
    return Finding(
        name="gradient_inversion",
        figures=figures,
        section=section(
            errors,
            shown=shown if image else {name: columns.readable(x) for name, x in shown.items()},
            image=image,
            client=experiment.built.data.clients[victim],
            num_records=len(records),
            settings=[setting.name for setting in tried],
            attack=attack,
        ),
        tables={"errors": errors, "columns": by_column},
        notes=(
            "One update of one step from the initial model is attacked. A client sends one a round, "
            "of several steps: what is not recovered here may be recovered by other means.",
        ),
    )
