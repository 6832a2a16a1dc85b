"""Financial data sets that come with fedmodel."""

from __future__ import annotations

import pandas as pd

from fedmodel.data.files import read_shipped
from fedmodel.data.records import Range, Records
from fedmodel.data.sensitive import chosen, in_bins
from fedmodel.types import Card

__all__ = ["adult"]

# Categories are the codebook's. So are the limits of education-num (16 levels), hours-per-week
# (who works at all; two digits) and capital-gain (five digits); age runs from the survey's 17 to
# 90, to which it lowers higher ages; the limit of capital-loss is a round figure of our own.
ADULT_RANGES: dict[str, Range] = {
    "age": (17.0, 90.0),
    "workclass": (
        "Private", "Self-emp-not-inc", "Self-emp-inc", "Federal-gov", "Local-gov", "State-gov",
        "Without-pay", "Never-worked",
    ),
    "education-num": (1.0, 16.0),
    "marital-status": (
        "Married-civ-spouse", "Divorced", "Never-married", "Separated", "Widowed",
        "Married-spouse-absent", "Married-AF-spouse",
    ),
    "occupation": (
        "Tech-support", "Craft-repair", "Other-service", "Sales", "Exec-managerial",
        "Prof-specialty", "Handlers-cleaners", "Machine-op-inspct", "Adm-clerical",
        "Farming-fishing", "Transport-moving", "Priv-house-serv", "Protective-serv",
        "Armed-Forces",
    ),
    "relationship": (
        "Wife", "Own-child", "Husband", "Not-in-family", "Other-relative", "Unmarried",
    ),
    "race": ("White", "Asian-Pac-Islander", "Amer-Indian-Eskimo", "Other", "Black"),
    "sex": ("Female", "Male"),
    "capital-gain": (0.0, 99_999.0),
    "capital-loss": (0.0, 5_000.0),
    "hours-per-week": (1.0, 99.0),
    "native-country": (
        "United-States", "Cambodia", "England", "Puerto-Rico", "Canada", "Germany",
        "Outlying-US(Guam-USVI-etc)", "India", "Japan", "Greece", "South", "China", "Cuba", "Iran",
        "Honduras", "Philippines", "Italy", "Poland", "Jamaica", "Vietnam", "Mexico", "Portugal",
        "Ireland", "France", "Dominican-Republic", "Laos", "Ecuador", "Taiwan", "Haiti",
        "Columbia", "Hungary", "Guatemala", "Nicaragua", "Scotland", "Thailand", "Yugoslavia",
        "El-Salvador", "Trinadad&Tobago", "Peru", "Hong", "Holand-Netherlands",
    ),
}  # fmt: skip

ADULT_CARD = Card(
    name="adult",
    title="Income in the US census of 1994",
    source="UCI Machine Learning Repository, id 2, https://doi.org/10.24432/C5XW20",
    licence="CC BY 4.0",
    citation="Becker, B., Kohavi, R. (1996). Adult. UCI Machine Learning Repository.",
    harms=(
        "50,000 dollars is an arbitrary threshold, and what a fairness measure says depends on "
        "it (Ding et al., NeurIPS 2021). Sex has two values and race five. A model of these "
        "records says nothing about anybody's creditworthiness today."
    ),
    cautions=(
        "relationship (Husband, Wife) gives away the sex: leaving sex out hides nothing.",
        "workclass and occupation are missing together, in 5.7 % of the records.",
        "One in ten women earns above the threshold, and three in ten men.",
    ),
)


def adult(*, sensitive: tuple[str, ...] = ("sex", "race")) -> Records:
    """32,561 people of the US census of 1994: who earns more than 50,000 dollars a year?

    There are no natural clients: partition by `dirichlet`, or `natural` with a column such as
    occupation. Left out: the survey weight fnlwgt, which describes the sample and not the
    person, and education, which education-num repeats. `sensitive` may name sex, race and age
    (under 30, 30-44, 45-59, 60 and over).

    Raises:
        FedmodelError: a sensitive attribute that this data set does not have.
    """
    frame = read_shipped("adult")
    features = frame[list(ADULT_RANGES)]
    return Records(
        card=ADULT_CARD,
        label=pd.Series(pd.Categorical(frame["income-per-year"], categories=["<=50K", ">50K"])),
        features=features.where(features != "?"),
        sensitive=chosen(
            sensitive,
            {
                "sex": frame["sex"],
                "race": frame["race"],
                "age": in_bins(frame["age"], [30, 45, 60]),
            },
        ),
        ranges=ADULT_RANGES,
    )
