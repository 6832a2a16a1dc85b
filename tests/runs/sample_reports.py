"""Reports of made-up runs, and a reader of their pages."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
from pandas import DataFrame

from fedmodel.runs.page import Figure, Page, Section
from fedmodel.runs.report import ReportData, compose
from fedmodel.types import Card

CARD = Card(
    name="heart",
    title="Heart disease at four hospitals",
    source="UCI Machine Learning Repository, https://doi.org/10.24432/C52P4X",
    licence="CC BY 4.0",
    citation="Janosi, Steinbrunn, Pfisterer, Detrano (1988). Heart Disease. doi:10.24432/C52P4X",
    harms="Sex is recorded as binary, and women are a fifth of the records.",
    cautions=("Collected in the 1980s.", "Missing values are not missing at random."),
)
CONFIG_TOML = """name = "heart, privately"
seed = 7
rounds = 50

[data]
name = "heart"
sensitive = ["sex"]

[partition]
name = "natural"

[client]
name = "dp_sgd"
learning_rate = 0.1

[privacy]
epsilon = 3.0
delta = 1e-5
"""
MANIFEST = {
    "engine": "inline",
    "started": "2026-03-02T10:15:00+00:00",
    "seconds": 41.3,
    "seed": 7,
    "versions": {"fedmodel": "0.1.0", "torch": "2.13.0", "flwr": "1.42.0", "python": "3.13.1"},
    "data": {"fingerprint": "sha256:4f0c" + "9a" * 30, "records": 920},
    "git": {"commit": "1c2d3e4f", "dirty": False},
    "hardware": {"processor": "x86_64", "cores": 2, "memory": "8 GB"},
}


def rows(values: dict, *, round=0, model="global", scope="global", key="", split="test"):
    return [
        {"round": round, "split": split, "model": model, "scope": scope, "key": key}
        | {"metric": name, "value": value}
        for name, value in values.items()
    ]


def federation(
    names, *, rounds, top, private, attackers=0, attributes, seed=0, validation=False
) -> ReportData:
    """A run as it might have been: learning that saturates, clients and groups that differ."""
    draw = np.random.default_rng(seed)
    train = draw.lognormal(4.7, 0.7, len(names)).astype(int) + 20
    test = train // 4 + 2
    ease = draw.normal(0, 0.035, len(names))
    dishonest = np.arange(len(names)) < attackers
    table, spent = [], []
    for round in range(rounds + 1):
        level = top - (top - 0.5) * math.exp(-5 * round / rounds) + draw.normal(0, 0.003)
        own = (level + ease + draw.normal(0, 0.006, len(names))).clip(0, 1)
        everywhere = float(np.average(own, weights=test))
        performance = {
            "num_records": test.sum(), "accuracy": everywhere, "balanced_accuracy": everywhere - 0.03,
            "loss": 0.25 + 1.2 * (1 - everywhere), "roc_auc": min(everywhere + 0.06, 1.0),
            "demographic_parity_difference": 0.12 + 0.1 * (everywhere - 0.5),
            "demographic_parity_ratio": 0.71, "equalized_odds_difference": 0.14 + draw.normal(0, 0.01),
            "equalized_odds_ratio": 0.62, "accuracy_difference": 0.06 + draw.normal(0, 0.005), "accuracy_mean": own.mean(),
            "accuracy_std": own.std(), "accuracy_jain": own.mean() ** 2 / (own**2).mean(),
            "accuracy_gini": 0.021, "accuracy_worst_decile": np.quantile(own, 0.05),
        }  # fmt: skip
        table += rows(performance, round=round)
        if validation:
            table += rows(
                {"accuracy": everywhere + draw.normal(0, 0.004)}, round=round, split="validation"
            )
        for place, (attribute, levels) in enumerate(attributes.items()):
            for step, level_name in enumerate(levels):
                shift = 0.03 * step + 0.02 * place
                rates = {"num_records": 400 // (step + 1), "accuracy": everywhere - shift / 2,
                         "selection_rate": 0.3 + 2 * shift, "true_positive_rate": 0.7 - shift,
                         "false_positive_rate": math.nan if step == 3 else 0.1 + shift}  # fmt: skip
                table += rows(rates, round=round, scope="group", key=f"{attribute}={level_name}")
            if len(attributes) > 1:
                gaps = {
                    "demographic_parity_difference": 0.08 + 0.03 * place,
                    "equalized_odds_difference": 0.06 + 0.03 * place,
                    "accuracy_difference": 0.03,
                }
                gaps = {name: gap + draw.normal(0, 0.004) for name, gap in gaps.items()}  # fmt: skip
                table += rows(gaps, round=round, scope="group", key=attribute)
        for name, value in zip(names, own):
            gap = abs(draw.normal(0.1, 0.08))
            table += rows({"accuracy": value, "loss": 0.25 + 1.2 * (1 - value),
                           "demographic_parity_difference": gap}, round=round, scope="client", key=name)  # fmt: skip
        if attackers:
            honest = float(np.average(own[~dishonest], weights=test[~dishonest]))
            table += rows({"honest_accuracy": honest + 0.01}, round=round)
            for name, liar in zip(names, dishonest):
                if liar and round:
                    share = {"aggregate_share": abs(draw.normal(0.03, 0.01))}
                    table += rows(share, round=round, scope="client", key=name)
        if private and round:
            for name, size in zip(names, train):
                figure = 3.0 * math.sqrt(round / rounds) * min(1, 160 / size) ** 0.2
                spent.append({"round": round, "client": name, "epsilon": figure, "delta": 1e-5,
                              "accountant": "prv" if round == rounds else "rdp"})  # fmt: skip
    references = {"pooled": 0.03, "local": -0.06} | ({"non_private": 0.02} if private else {})
    for model, gain in references.items():
        for name, value in zip(names, own):
            table += rows({"accuracy": min(value + gain + draw.normal(0, 0.02), 1)}, round=rounds, model=model, scope="client", key=name)  # fmt: skip
        overall = {
            n: v + gain * (n in ("accuracy", "balanced_accuracy", "roc_auc"))
            for n, v in performance.items()
        }
        overall |= {"loss": performance["loss"] - gain}
        table += rows(overall, round=rounds, model=model)
    clients = DataFrame(
        {"client": names, "num_train": train, "num_validation": 0, "num_test": test, "rounds": rounds,
         "declined": 0, "dropped": 0, "dishonest": dishonest, "accuracy": own,
         "loss": 0.25 + 1.2 * (1 - own)}
    )  # fmt: skip
    if private:
        final = {row["client"]: row["epsilon"] for row in spent}
        clients = clients.assign(sample_rate=(32 / train).clip(max=1), noise_multiplier=1.1,
                                 epsilon=[final[name] for name in names])  # fmt: skip
    share = draw.dirichlet([1.2, 1.2], len(names))
    partition = [
        {"client": name, "split": split, "class": label, "count": round_half(size * part)}
        for name, parts, *sizes in zip(names, share, train, test)
        for split, size in zip(("train", "test"), sizes)
        for label, part in zip(("healthy", "heart disease"), parts)
    ]
    return ReportData(
        title="Heart disease, privately",
        config_toml=CONFIG_TOML,
        manifest=MANIFEST,
        card=CARD,
        metrics=DataFrame(table),
        clients=clients,
        epsilon=DataFrame(spent),
        partition=DataFrame(partition),
        statement=STATEMENT if private else None,
        notes=["In round 31 one client was lost and its round repeated without it."] if private else [],
        rounds=rounds,
    )  # fmt: skip


def round_half(value: float) -> int:
    return int(value + 0.5)


STATEMENT = {
    "sentences": [
        "Every single training record of a client is protected (record-level differential privacy): "
        "whoever sees all updates of that client learns almost the same with the record as without it.",
        "Two data sets are neighbours if one has one record more than the other.",
        "The noise is drawn from the experiment's seed: this is a simulation, and who knows the seed "
        "can subtract the noise.",
    ],
    "outside": [
        "The scales of the features, which were fitted on all training records.",
        "The number of records of each client, which weighs its update.",
    ],
    "unit": "record",
    "mode": "noise at each client",
    "target_epsilon": 3.0,
    "epsilon": {"min": 2.89, "median": 3.0, "max": 3.0},
    "warnings": [],
    "delta": 1e-5,
    "clip": 1.0,
}


@cache
def hospitals() -> ReportData:
    """Four hospitals with differential privacy."""
    names = ["Cleveland", "Budapest", "Zurich and Basel", "Long Beach"]
    return federation(
        names,
        rounds=50,
        top=0.83,
        private=True,
        attributes={"sex": ("Female", "Male")},
        validation=True,
    )


@cache
def crowd() -> ReportData:
    """Two hundred clients, a tenth of them dishonest, two sensitive attributes."""
    attributes = {"sex": ("Female", "Male"), "race": ("White", "Black", "Asian", "Other")}
    data = federation(
        [f"client_{number}" for number in range(200)],
        rounds=12, top=0.86, private=False, attackers=20, attributes=attributes,
    )  # fmt: skip
    return replace(data, title="Income under attack", card=replace(CARD, title="Census income"))


def bare() -> ReportData:
    """A run of which nothing is known yet."""
    return replace(
        hospitals(), metrics=DataFrame(), clients=DataFrame(), epsilon=DataFrame(),
        partition=DataFrame(), statement=None, config_toml="", manifest={},
    )  # fmt: skip


@cache
def page(make) -> Page:
    return compose(make())


def figures(page: Page) -> list[Figure]:
    return [b for section in page.sections for b in section.blocks if isinstance(b, Figure)]


def section(page: Page, title: str) -> Section:
    return next(section for section in page.sections if section.title == title)


def titles(page: Page) -> list[str]:
    return [section.title for section in page.sections]


def first(kind: type, section: Section):
    return next(block for block in section.blocks if isinstance(block, kind))


def drawn(figure: Figure) -> list[dict]:
    """All rows of a figure's data."""
    return [row for rows in figure.spec["datasets"].values() for row in rows]


class Elements(HTMLParser):
    """The elements of a page, and its texts by element."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict]] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        if self.elements:
            self.texts.setdefault(self.elements[-1][0], []).append(data)

    def every(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]
