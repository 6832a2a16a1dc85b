"""What a nominal epsilon of 1 really costs at the four hospitals of UCI heart disease.

    python -m experiments.reproductions.four_hospitals

The benchmark FLamby (Ogier du Terrail et al., NeurIPS 2022, Datasets and Benchmarks) trains on the
four hospitals with differential privacy: noise is calibrated for 15 epochs of batches of 4, at a
sample rate of 1 / ceil(n / 4) and delta = 1e-3, and then every hospital takes 15 rounds of 100 steps.

1. What each hospital spends then, by our accountant, and the noise that would have kept to 1.
2. The same training with a budget that holds, on our copy of the data: 1,500 steps of batch 4, noise
   calibrated for as many.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

import fedmodel
from fedmodel.privacy import epsilon_of, noise_for

SIZES = {"Cleveland": 199, "Hungary": 172, "Switzerland": 30, "VA Long Beach": 85}
NOMINAL, DELTA, BATCH, EPOCHS, ROUNDS, STEPS = 1.0, 1e-3, 4, 15, 15, 100

CONFIG = {
    "name": "four-hospitals",
    "seed": 1,
    "rounds": ROUNDS,
    "data": {"name": "heart_disease", "encode": "public", "sensitive": ["sex"], "test": 0.34},
    "model": {"name": "logistic"},
    "client": {"name": "dp_sgd", "learning_rate": 0.05, "batch_size": BATCH, "steps": STEPS},
    "privacy": {"epsilon": NOMINAL, "delta": DELTA, "clip": 1.0},
    "evaluation": {"every": ROUNDS, "references": ["non_private"]},
}


@dataclass(frozen=True, kw_only=True)
class Hospital:
    """One row of the first table; epsilons are by PRV."""

    records: int
    sample_rate: float
    planned: int  # steps that the noise was calibrated for
    noise: float
    spent: float  # epsilon after the steps that are run
    enough: float  # noise with which those steps keep to the nominal epsilon


def audit(records: int) -> Hospital:
    """What a hospital with so many training records spends in the published protocol."""
    batches = math.ceil(records / BATCH)
    setting = {"sample_rate": 1 / batches, "delta": DELTA}
    noise = noise_for(epsilon=NOMINAL, steps=EPOCHS * batches, **setting)
    return Hospital(
        records=records,
        sample_rate=1 / batches,
        planned=EPOCHS * batches,
        noise=noise,
        spent=epsilon_of(noise_multiplier=noise, steps=ROUNDS * STEPS, **setting),
        enough=noise_for(epsilon=NOMINAL, steps=ROUNDS * STEPS, **setting),
    )


def main() -> None:
    """Print both tables."""
    print(f"Calibrated for {EPOCHS} epochs, run for {ROUNDS * STEPS:,} steps; delta = {DELTA:g}")
    print(f"{'hospital':15}{'records':>8}{'rate':>8}{'planned':>9}{'noise':>8}{'nominal':>9}"
          f"{'spent':>8}{'noise that holds':>18}")  # fmt: skip
    for name, records in SIZES.items():
        row = audit(records)
        print(f"{name:15}{row.records:8}{row.sample_rate:8.3f}{row.planned:9}{row.noise:8.2f}"
              f"{NOMINAL:9.1f}{row.spent:8.2f}{row.enough:18.2f}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        run = fedmodel.run(CONFIG, out=Path(folder) / "run")
        accuracy, plain = run.last("accuracy"), run.last("accuracy", model="non_private")
        clients = run.clients
    print("\nA budget that holds, on our copy of the data")
    print(f"{'hospital':15}{'records':>8}{'rate':>8}{'noise':>8}{'spent':>8}{'accuracy':>10}")
    for row in clients.itertuples():
        print(f"{row.client:15}{row.num_train:8}{row.sample_rate:8.3f}{row.noise_multiplier:8.2f}"
              f"{row.epsilon:8.2f}{row.accuracy:10.3f}")  # fmt: skip
    print(f"all: accuracy {accuracy:.3f}; without privacy {plain:.3f}")


if __name__ == "__main__":
    main()
