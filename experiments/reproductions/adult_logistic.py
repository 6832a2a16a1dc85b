"""Federated logistic regression on Adult against scikit-learn's on the pooled records.

    python -m experiments.reproductions.adult_logistic

Both see the same encoded records and the same split. Without privacy the federation of 200 uneven
clients should be within one point of accuracy. Few local steps a round keep uneven clients together.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

import fedmodel
from fedmodel.experiment import Experiment

CONFIG = {
    "name": "adult-logistic",
    "seed": 1,
    "rounds": 150,
    "data": {"name": "adult", "encode": "pooled", "test": 0.2},
    "partition": {"name": "dirichlet", "clients": 200, "alpha": 0.3},
    "model": {"name": "logistic"},
    "client": {"name": "sgd", "learning_rate": 0.2, "batch_size": 64, "steps": 3},
    "strategy": {"name": "compose", "sample": 0.5},
    "evaluation": {"every": 50, "references": ["pooled"]},
}


def main() -> None:
    """Train both and print accuracy and AUC side by side."""
    experiment = Experiment.read(CONFIG)
    data = experiment.built.data
    index = {
        split: torch.cat([torch.arange(len(data.y))[data.rows(k, split)] for k in range(200)])
        for split in ("train", "test")
    }
    x, y = data.x.numpy(), data.y.numpy()
    train, test = index["train"].numpy(), index["test"].numpy()
    model = LogisticRegression(max_iter=2000).fit(x[train], y[train])
    with tempfile.TemporaryDirectory() as folder:
        run = fedmodel.run(experiment, out=Path(folder) / "run")
        rows = [
            ("scikit-learn, pooled", model.score(x[test], y[test]), auc(model, x[test], y[test])),
            (
                "pooled, same passes",
                run.last("accuracy", model="pooled"),
                run.last("roc_auc", model="pooled"),
            ),
            ("200 clients, 150 rounds", run.last("accuracy"), run.last("roc_auc")),
        ]
    print(f"{'':26}accuracy     AUC")
    for name, accuracy, area in rows:
        print(f"{name:26}{accuracy:8.4f}{area:8.4f}")
    print(f"difference in accuracy: {100 * (rows[2][1] - rows[0][1]):+.2f} points")


def auc(model: LogisticRegression, x, y) -> float:
    """Area under the ROC curve of a fitted scikit-learn model."""
    return float(roc_auc_score(y, model.predict_proba(x)[:, 1]))


if __name__ == "__main__":
    main()
