"""Decisions about loans, and what became of them: data sets that come with fedmodel."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fedmodel.data.files import read_shipped
from fedmodel.data.records import Range, Records
from fedmodel.data.sensitive import chosen, in_bins
from fedmodel.types import Card

__all__ = ["german_credit", "hmda_boston", "lending_club"]

# What the published codes mean, in a few words. "DM" are German marks.
GERMAN_CODES: dict[str, dict[str, str]] = {
    "status": {
        "A11": "below 0 DM", "A12": "0 to 200 DM", "A13": "200 DM or wages", "A14": "no account",
    },
    "credit_history": {
        "A30": "none taken", "A31": "all paid back here", "A32": "paid back so far",
        "A33": "delayed before", "A34": "critical",
    },
    "purpose": {
        "A40": "new car", "A41": "used car", "A42": "furniture", "A43": "television",
        "A44": "appliances", "A45": "repairs", "A46": "education", "A47": "holiday",
        "A48": "retraining", "A49": "business", "A410": "other",
    },
    "savings": {
        "A61": "below 100 DM", "A62": "100 to 500 DM", "A63": "500 to 1000 DM",
        "A64": "1000 DM or more", "A65": "unknown or none",
    },
    "employment": {
        "A71": "unemployed", "A72": "below 1 year", "A73": "1 to 4 years", "A74": "4 to 7 years",
        "A75": "7 years or more",
    },
    "personal_status": {
        "A91": "male, divorced", "A92": "female, not single", "A93": "male, single",
        "A94": "male, married", "A95": "female, single",
    },
    "other_debtors": {"A101": "none", "A102": "co-applicant", "A103": "guarantor"},
    "property": {
        "A121": "real estate", "A122": "building society or insurance", "A123": "car or other",
        "A124": "unknown or none",
    },
    "installment_plans": {"A141": "bank", "A142": "stores", "A143": "none"},
    "housing": {"A151": "rent", "A152": "own", "A153": "free"},
    "skill_level": {
        "A171": "unskilled, not resident", "A172": "unskilled", "A173": "skilled",
        "A174": "highly skilled",
    },
    "telephone": {"A191": "no", "A192": "yes"},
    "foreign_worker": {"A201": "yes", "A202": "no"},
}  # fmt: skip

# Limits are round figures of our own choice within which consumer loans lie.
GERMAN_RANGES: dict[str, Range] = {
    **{name: tuple(codes.values()) for name, codes in GERMAN_CODES.items()},
    "month": (0.0, 72.0),
    "credit_amount": (0.0, 20_000.0),  # marks
    "investment_as_income_percentage": (1.0, 4.0),  # four steps
    "residence_since": (1.0, 4.0),
    "age": (18.0, 80.0),  # years
    "number_of_credits": (1.0, 4.0),
    "people_liable_for": (1.0, 2.0),
}

GERMAN_CARD = Card(
    name="german_credit",
    title="Loans of a German bank in the 1970s",
    source="UCI Machine Learning Repository, id 144, https://doi.org/10.24432/C5NC77",
    licence="CC BY 4.0",
    citation="Hofmann, H. (1994). Statlog (German Credit Data). UCI Machine Learning Repository.",
    harms=(
        "Loans granted by people, fifty years ago, with far more bad ones than the bank had: who "
        "was refused is not here, so a model repeats the bank's choice and says nothing about "
        "anybody's creditworthiness today."
    ),
    cautions=(
        "sex is not what it seems: Groemping (2019) found the published codes wrong in part. A92, "
        "read as female, also holds single men, and A94, read as male, is single women. A gap by "
        "sex is one between these codes.",
        "By the same report foreign_worker is coded the wrong way round: 963 of 1,000 are marked "
        "as foreign. 37 are not, too few for a gap without an interval.",
        "1,000 records: the AUC differs by 0.03 and more from one split to the next.",
    ),
)

# Ratios are of monthly income and of the value of the property; their limits, and that of
# unemployment, are round figures of our own. Scores have the codebook's steps.
HMDA_RANGES: dict[str, Range] = {
    "pirat": (0.0, 1.0),  # all payments to income
    "hirat": (0.0, 1.0),  # housing expense to income
    "lvrat": (0.0, 1.5),  # loan to value
    "chist": (1.0, 6.0),  # credit history, 1 is best
    "mhist": (1.0, 4.0),  # mortgage payments, 1 is best
    "phist": ("no", "yes"),  # a public record of bad credit
    "unemp": (0.0, 15.0),  # % in the applicant's industry
    "selfemp": ("no", "yes"),
    "condomin": ("no", "yes"),
    "afam": ("no", "yes"),  # African American
    "single": ("no", "yes"),
    "hschool": ("no", "yes"),  # finished high school
}

HMDA_CARD = Card(
    name="hmda_boston",
    title="Mortgage applications in Boston in 1990",
    source=(
        "Federal Reserve Bank of Boston, as in Stock and Watson, Introduction to Econometrics; "
        "compiled in the R package AER"
    ),
    licence="public data of the Federal Reserve Bank of Boston",
    citation=(
        "Munnell, A.H., Tootell, G.M.B., Browne, L.E., McEneaney, J. (1996). Mortgage Lending in "
        "Boston: Interpreting HMDA Data. American Economic Review 86, 25-53."
    ),
    harms=(
        "The label is a lender's decision, not a borrower's default. The study was made because "
        "lenders were thought to discriminate: a model that is accurate here has learnt to do the "
        "same. Black and white applicants only."
    ),
    cautions=(
        "insurance is left out: 44 of the 48 applicants who were denied mortgage insurance were "
        "denied the mortgage, in the same breath. With it the AUC is 0.03 higher.",
        "28 % of Black applicants were denied and 9 % of the others. All applications by Black "
        "people were taken and a sample of the others, so that their share is not the city's.",
        "Other columns tell of race too: leaving afam out of the features hides little.",
    ),
)

LENDING_RANGES: dict[str, Range] = {
    "funded_amnt": (1_000.0, 40_000.0),  # dollars; what the lender offers
    "term": ("term_36", "term_60"),  # months
    "int_rate": (5.0, 31.0),  # % a year; what the lender offers
    "sub_grade": tuple(f"{grade}{step}" for grade in "ABCDEFG" for step in range(1, 6)),
    "verification_status": ("Not_Verified", "Source_Verified", "Verified"),
    # What follows are round figures of our own choice, but for the steps of emp_length.
    "annual_inc": (0.0, 300_000.0),  # dollars
    "emp_length": ("emp_lt_1", *(f"emp_{years}" for years in range(1, 10)), "emp_ge_10"),
    "delinq_2yrs": (0.0, 10.0),
    "inq_last_6mths": (0.0, 6.0),
    "revol_util": (0.0, 120.0),  # % of the credit line
    "acc_now_delinq": (0.0, 5.0),
    "open_il_6m": (0.0, 20.0),
    "open_il_12m": (0.0, 10.0),
    "open_il_24m": (0.0, 20.0),
    "total_bal_il": (0.0, 250_000.0),  # dollars
    "all_util": (0.0, 150.0),  # %
    "inq_fi": (0.0, 15.0),
    "inq_last_12m": (0.0, 20.0),
    "delinq_amnt": (0.0, 10_000.0),  # dollars
    "num_il_tl": (0.0, 50.0),
    "total_il_high_credit_limit": (0.0, 300_000.0),  # dollars
}

LENDING_CARD = Card(
    name="lending_club",
    title="Loans among private people in 50 states",
    source="R package modeldata, https://modeldata.tidymodels.org; LendingClub, early 2016",
    licence="MIT, Copyright (c) 2019 tidymodels",
    citation="Kuhn, M. (2024). modeldata: Data Sets Useful for Modeling Examples.",
    harms=(
        "The lender's own judgement is among the features, and who was refused is not here: a "
        "model repeats that judgement. No group is recorded, so nobody can see whom it wrongs."
    ),
    cautions=(
        "Good includes loans that are still being paid back: the longer the term left, the less "
        "is known, and some of the good ones went bad later.",
        "int_rate and sub_grade are the lender's own forecast of the label, and most of the signal.",
        "5.2 % are bad: saying good to everybody is right 95 % of the time, so look at the AUC. 7 "
        "states have no bad loan, and the smallest has 16 loans.",
    ),
)


def german_credit(*, sensitive: tuple[str, ...] = ("sex",)) -> Records:
    """1,000 loans of a German bank: which turned out bad? The positive class is bad.

    There are no natural clients: partition by `dirichlet`, or `natural` with a column such as
    purpose. `sensitive` may name sex (as the codes were published, see the card), foreign_worker
    and age (under 25, 25-39, 40-59, 60 and over).

    Raises:
        FedmodelError: a sensitive attribute that this data set does not have.
    """
    frame = read_shipped("german_credit")
    features = frame[list(GERMAN_RANGES)].copy()
    for name, codes in GERMAN_CODES.items():
        features[name] = features[name].map(codes)
    credit = np.where(frame["credit"] == 2, "bad", "good")
    return Records(
        card=GERMAN_CARD,
        label=pd.Series(pd.Categorical(credit, categories=["good", "bad"])),
        features=features,
        sensitive=chosen(
            sensitive,
            {
                "sex": features["personal_status"].str.split(",").str[0],
                "foreign_worker": features["foreign_worker"],
                "age": in_bins(frame["age"], [25, 40, 60]),
            },
        ),
        ranges=GERMAN_RANGES,
    )


def hmda_boston(*, sensitive: tuple[str, ...] = ("afam",)) -> Records:
    """2,380 applications for a mortgage in Boston in 1990: which did the lender deny?

    There are no natural clients: partition by `dirichlet`. Left out: insurance (see the card).
    `sensitive` may name afam (African American) and single.

    Raises:
        FedmodelError: a sensitive attribute that this data set does not have.
    """
    frame = read_shipped("hmda_boston")
    denied = np.where(frame["deny"] == "yes", "denied", "approved")
    return Records(
        card=HMDA_CARD,
        label=pd.Series(pd.Categorical(denied, categories=["approved", "denied"])),
        features=frame[list(HMDA_RANGES)],
        sensitive=chosen(sensitive, {"afam": frame["afam"], "single": frame["single"]}),
        ranges=HMDA_RANGES,
    )


def lending_club() -> Records:
    """9,857 loans of 50 American states, the natural clients: which went bad or fell behind?

    The positive class is bad. The state is no feature. It names no sensitive attribute.
    """
    frame = read_shipped("lending_club")
    features = frame[list(LENDING_RANGES)]
    return Records(
        card=LENDING_CARD,
        label=pd.Series(pd.Categorical(frame["Class"], categories=["good", "bad"])),
        features=features.where(features != "emp_unk"),
        clients=frame["addr_state"],
        ranges=LENDING_RANGES,
    )
