"""Differential privacy of an evaluation: noise on each client's counts before they leave it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fedmodel.privacy.accounting import Figure, epsilon_of_history
from fedmodel.privacy.calibration import noise_for
from fedmodel.privacy.updates import noise_rows
from fedmodel.privacy.wording import NOISE, count, finite
from fedmodel.types import Counts, Split

__all__ = ["CountNoise", "count_noise", "evaluation_statement"]

UNIT = "one test or validation record of one client"
OUTSIDE = (
    "The number of test and validation records of each client (clients.parquet, and the picture of "
    "labels by client, which counts them too).",
    "Noise on counts is drawn in floating point and rounded to whole numbers, which hides most of "
    "what the last bits could give away, not all (Mironov 2012).",
)


@dataclass(frozen=True, kw_only=True)
class CountNoise:
    """The Gaussian mechanism on the confusion counts of each client (Dwork and Roth 2014, appendix A).

    1. Add normal noise of standard deviation `noise_multiplier` to each count, and round.
    2. Leave out what one record can change by more than 1: the sum of losses, the histograms.

    One record is in one split, one group, one true and one predicted class: with or without it one
    count of one client differs, by 1. So the counts' L2 sensitivity is 1, whatever the number of
    groups, and every evaluation is charged as (`noise_multiplier`, sample rate 1, one step). A test
    record is not counted among the validation records, so evaluating both is one step for each.
    It holds against the server too, if no evaluated model was trained on the record.
    """

    noise_multiplier: float  # standard deviation, in records
    delta: float
    seed: int
    noise: str = "seeded"

    def __call__(
        self, counts: Counts, *, clients: Sequence[int] | np.ndarray, round: int, split: Split
    ) -> Counts:
        """What K clients send instead of their counts."""
        confusion = counts.confusion
        drawn = noise_rows(
            clients,
            confusion[0].numel(),
            seed=self.seed,
            round=round,
            purpose=f"evaluation noise, {split}",
            source=self.noise,
        )
        noised = confusion + self.noise_multiplier * drawn.double().reshape(confusion.shape)
        return Counts(
            confusion=noised.round().long(),
            loss=torch.full_like(counts.loss, torch.nan),
            histogram=counts.histogram[..., :0],
            # rounding adds the variance of a uniform error of one record's width
            noise=(self.noise_multiplier**2 + 1 / 12) ** 0.5,
        )

    def spent(self, evaluations: int) -> Figure:
        """Epsilon of so many evaluations: of each client that holds records, the same."""
        history = [(self.noise_multiplier, 1.0, evaluations)]
        return epsilon_of_history(history, delta=self.delta)


def count_noise(
    *,
    epsilon: float | None,
    noise_multiplier: float | None,
    delta: float,
    evaluations: int,
    seed: int,
    noise: str = "seeded",
) -> CountNoise:
    """The noise that keeps so many evaluations to epsilon, or the one that is given.

    Raises FedmodelError where no noise is enough.

    >>> made = count_noise(epsilon=1.0, noise_multiplier=None, delta=1e-5, evaluations=4, seed=0)
    >>> made.noise_multiplier > 7, made.spent(4).epsilon <= 1.0
    (True, True)
    """
    if noise_multiplier is None:
        assert epsilon is not None
        noise_multiplier = noise_for(
            epsilon=epsilon, sample_rate=1.0, steps=evaluations, delta=delta
        )
    return CountNoise(noise_multiplier=noise_multiplier, delta=delta, seed=seed, noise=noise)


def evaluation_statement(
    release: CountNoise, *, evaluations: int, target: float | None
) -> dict[str, object]:
    """What a run may claim about its evaluation records, whose ledger is apart from training's.

    `evaluations` is how often counts have left the clients. All values fit JSON.
    """
    spent = release.spent(evaluations)
    amount = f"{spent.epsilon:.3g}" if np.isfinite(spent.epsilon) else "infinite"
    return {
        "unit": UNIT,
        "neighbours": "the record is added or removed",
        "mechanism": "the Gaussian mechanism on each client's confusion counts",
        "sensitivity": 1.0,
        "noise_multiplier": release.noise_multiplier,
        "evaluations": evaluations,
        "target_epsilon": target,
        "epsilon": finite(spent.epsilon),
        "delta": release.delta,
        "accountant": spent.accountant,
        "noise": release.noise,
        "simulated": release.noise == "seeded",
        "outside": list(OUTSIDE),
        "sentences": [
            f"In evaluation, protected is {UNIT}, which was not trained on; its budget is apart from "
            "that of training records.",
            "Each client adds Gaussian noise of standard deviation "
            f"{release.noise_multiplier:.4g} to each of its confusion counts; losses and scores do "
            "not leave it. This holds against the server as well.",
            f"At delta = {release.delta:g}, {count(evaluations, 'evaluation')} spent epsilon = "
            f"{amount}, by {spent.accountant.upper()}.",
            *(
                [
                    f"That is more than the epsilon = {target:g} that was planned: evaluations that were "
                    "cut off are drawn anew, and both count."
                ]
                if target is not None and spent.epsilon > target
                else []
            ),
            NOISE[release.noise],
        ],
    }
