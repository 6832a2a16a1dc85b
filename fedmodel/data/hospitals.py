"""Records of hospitals that come with fedmodel: an outcome of care, a test, a trial."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fedmodel.data.files import read_shipped
from fedmodel.data.records import Range, Records
from fedmodel.data.sensitive import chosen, in_bins
from fedmodel.types import Card

__all__ = ["covid_testing", "indo_rct", "support2"]

# Limits of measurements are round figures of our own choice within which the seriously ill lie;
# those of scores, and the categories, are the codebook's.
SUPPORT_RANGES: dict[str, Range] = {
    "num_age": (18.0, 100.0),  # years
    "num_num_co": (0.0, 9.0),  # further illnesses
    "num_edu": (0.0, 30.0),  # years of education
    "num_scoma": (0.0, 100.0),  # coma score of the third day
    "num_hday": (1.0, 60.0),  # day in hospital at which the study began
    "num_sps": (0.0, 100.0),  # physiology score of the third day
    "num_meanbp": (0.0, 200.0),  # mean blood pressure, mm Hg
    "num_wblc": (0.0, 100.0),  # white blood cells, thousands/mm3
    "num_hrt": (0.0, 250.0),  # heart rate, beats a minute
    "num_resp": (0.0, 60.0),  # breaths a minute
    "num_temp": (30.0, 43.0),  # degrees Celsius
    "num_pafi": (0.0, 900.0),  # oxygen in arterial blood over oxygen breathed in, mm Hg
    "num_alb": (0.5, 6.0),  # albumin, g/dl
    "num_bili": (0.0, 50.0),  # bilirubin, mg/dl
    "num_crea": (0.0, 20.0),  # creatinine, mg/dl
    "num_sod": (100.0, 180.0),  # sodium, mEq/l
    "num_ph": (6.8, 7.8),  # of arterial blood
    "num_glucose": (0.0, 1_000.0),  # mg/dl
    "num_bun": (0.0, 200.0),  # urea nitrogen, mg/dl
    "num_urine": (0.0, 9_000.0),  # ml a day
    "num_adlp": (0.0, 7.0),  # needs help in daily life, as the patient says
    "num_adls": (0.0, 7.0),  # the same, as somebody close says
    "fac_sex": ("female", "male"),
    "fac_dzgroup": (
        "ARF/MOSF w/Sepsis", "CHF", "COPD", "Cirrhosis", "Colon Cancer", "Coma", "Lung Cancer",
        "MOSF w/Malig",
    ),
    "fac_race": ("asian", "black", "hispanic", "other", "white"),
    "fac_diabetes": (0.0, 1.0),
    "fac_dementia": (0.0, 1.0),
    "fac_ca": ("no", "yes", "metastatic"),
    "fac_income": ("under $11k", "$11-$25k", "$25-$50k", ">$50k"),  # dollars a year
}  # fmt: skip

SUPPORT_CARD = Card(
    name="support2",
    title="Survival of seriously ill adults",
    source="UCI Machine Learning Repository, id 880; https://hbiostat.org/data",
    licence="CC BY 4.0",
    citation=(
        "Knaus, W.A., Harrell, F.E., Lynn, J., et al. (1995). The SUPPORT prognostic model. Annals "
        "of Internal Medicine 122, 191-203."
    ),
    harms=(
        "Who is predicted to die may be treated less, and then dies. Five American hospitals, "
        "1989 to 1994, patients chosen for being gravely ill; a third of the incomes and the "
        "education of one in five are missing. No model of these records may guide the care of "
        "anybody."
    ),
    cautions=(
        "fac_dnr is left out: 84 % of those whose order not to resuscitate was written during the "
        "stay died, because it was written when they were dying. With it the AUC is 0.06 higher.",
        "Some measurements are missing for half of the patients, and for a reason: what was "
        "measured tells how ill somebody seemed.",
        "79 patients are Asian and 42 have no race on record: a gap between these groups has no "
        "meaning without an interval.",
    ),
)

# The codebook's days and categories; the limit of age is our own.
COVID_RANGES: dict[str, Range] = {
    "gender": ("female", "male"),
    "age": (0.0, 100.0),  # years
    "pan_day": (4.0, 107.0),  # day of the pandemic
    "demo_group": ("patient", "misc adult", "client", "other adult", "unidentified"),
    "drive_thru_ind": (0.0, 1.0),
    "orderset": (0.0, 1.0),
    "payor_group": (
        "charity care", "commercial", "government", "medical assistance", "other", "self pay",
        "unassigned",
    ),
    "patient_class": (
        "admit after surgery-ip", "admit after surgery-obs", "day surgery", "emergency",
        "inpatient", "not applicable", "observation", "outpatient", "recurring outpatient",
    ),
}  # fmt: skip

COVID_CARD = Card(
    name="covid_testing",
    title="COVID-19 tests at the clinics of a children's hospital",
    source="R package medicaldata, https://higgi13425.github.io/medicaldata",
    licence="MIT, Copyright (c) 2020 Peter Higgins",
    citation=(
        "Obstfeld, A. (2020), in: Higgins, P. (2021). medicaldata: Data Package for Medical Datasets."
    ),
    harms=(
        "Who was tested early in 2020 depended on means, on work and on symptoms: a positive rate "
        "by group says who came, not who was ill. No model of these records may replace a test."
    ),
    cautions=(
        "40 of the 88 clinics have fewer than 10 tests, 51 have no positive one, and two of them "
        "hold 71 % of all: an average over clinics is mostly of clinics with next to no records.",
        "12,301 people were tested 15,223 times, 713 of them at several clinics: a guarantee for "
        "a record is none for a person.",
        "5.7 % are positive, so that saying no to everybody is right 94 % of the time: look at "
        "the AUC.",
        "Names are removed, and ages, dates and records were altered; five ages are 119 or more. "
        "Payer and class are missing for nearly half.",
    ),
)

# What was done (1) or found (1) before and during the examination; the codebook's names.
INDO_FLAGS = (
    "sod", "pep", "recpanc", "psphinc", "precut", "difcan", "pneudil", "amp", "paninj", "acinar",
    "brush", "asa81", "asa325", "asa", "prophystent", "therastent", "pdstent", "sodsom", "bsphinc",
    "bstent", "chole", "pbmal", "train",
)  # fmt: skip
INDO_RANGES: dict[str, Range] = {
    "age": (18.0, 90.0),  # years
    "risk": (0.0, 6.0),  # points
    "gender": ("female", "male"),
    **dict.fromkeys(INDO_FLAGS, (0.0, 1.0)),
    "status": ("inpatient", "outpatient"),
    "type": ("no SOD", "type 1", "type 2", "type 3"),
    "rx": ("placebo", "indomethacin"),
}
INDO_SITES = {"1_UM": "Michigan", "2_IU": "Indiana", "3_UK": "Kentucky", "4_Case": "Case Western"}

INDO_CARD = Card(
    name="indo_rct",
    title="A trial of indomethacin against pancreatitis after ERCP",
    source="R package medicaldata, https://higgi13425.github.io/medicaldata",
    licence="MIT, Copyright (c) 2020 Peter Higgins",
    citation=(
        "Elmunzer, B.J., Scheiman, J.M., Lehman, G.A., et al. (2012). A randomized trial of rectal "
        "indomethacin to prevent post-ERCP pancreatitis. New England Journal of Medicine 366, "
        "1414-1422."
    ),
    harms=(
        "Four in five are women, and all were at high risk: the model says little about others. "
        "The trial answers whether the drug helps by its random draw, not by a model's weight."
    ),
    cautions=(
        "79 of 602 patients had pancreatitis, and a logistic regression finds little (AUC about "
        "0.6): differences between methods are mostly chance.",
        "Case Western has 3 patients and Kentucky 22: what is measured at these sites has no "
        "meaning without an interval, and a model of theirs may tell their records.",
        "bleed is left out: it happened after the examination, as the outcome did.",
    ),
)


def support2(*, sensitive: tuple[str, ...] = ("sex", "race")) -> Records:
    """9,105 seriously ill adults: who dies within 180 days?

    There are no natural clients: partition by `dirichlet`, or `natural` with the column
    fac_dzgroup, the illness. Left out: num_surv2m, num_surv6m (the prognosis of the study's own
    model), fac_sfdm2 (holds the outcome), fac_dnr (see the card), fac_dzclass and fac_num_co
    (repeat other columns). `sensitive` may name sex, race, income and age (under 45, 45-64, 65-79,
    80 and over).

    Raises:
        FedmodelError: a sensitive attribute that this data set does not have.
    """
    frame = read_shipped("support2")
    features = frame[list(SUPPORT_RANGES)]
    features = features.where(features != "missing")
    died = np.where((frame["event"] == 1) & (frame["time"] <= 180), "died", "survived")
    incomes = list(SUPPORT_RANGES["fac_income"])
    return Records(
        card=SUPPORT_CARD,
        label=pd.Series(pd.Categorical(died, categories=["survived", "died"])),
        features=features,
        sensitive=chosen(
            sensitive,
            {
                "sex": features["fac_sex"],
                "race": features["fac_race"],
                "income": pd.Series(pd.Categorical(features["fac_income"], categories=incomes)),
                "age": in_bins(features["num_age"].floordiv(1), [45, 65, 80]),
            },
        ),
        ranges=SUPPORT_RANGES,
    )


def covid_testing(*, sensitive: tuple[str, ...] = ("gender",)) -> Records:
    """15,223 tests at 88 clinics of a children's hospital, the natural clients: is it positive?

    Left out: 301 tests without a result, the cycle threshold ct_result, which is the result, the
    hours of handling, the kind of test (all but two alike) and the person's number. `sensitive`
    may name gender and age (under 5, 5-12, 13-17, 18 and over).

    Raises:
        FedmodelError: a sensitive attribute that this data set does not have.
    """
    frame = read_shipped("covid_testing")
    frame = frame[frame["result"] != "invalid"].reset_index(drop=True)
    return Records(
        card=COVID_CARD,
        label=pd.Series(pd.Categorical(frame["result"], categories=["negative", "positive"])),
        features=frame[list(COVID_RANGES)],
        sensitive=chosen(
            sensitive,
            {"gender": frame["gender"], "age": in_bins(frame["age"], [5, 13, 18])},
        ),
        clients=frame["clinic_name"],
        ranges=COVID_RANGES,
    )


def indo_rct(*, sensitive: tuple[str, ...] = ("gender",)) -> Records:
    """602 patients of a trial at 4 sites, the natural clients: pancreatitis after the examination?

    Left out: the patient's number, and bleed, which came afterwards. `sensitive` may name gender
    and age (under 45, 45-59, 60 and over).

    Raises:
        FedmodelError: a sensitive attribute that this data set does not have.
    """
    frame = read_shipped("indo_rct")
    features = frame[list(INDO_RANGES)].copy()
    for name in ("gender", "status", "type", "rx"):  # "2_male" is male
        features[name] = features[name].str.split("_", n=1).str[1]
    for name in INDO_FLAGS:
        features[name] = features[name].map({"0_no": 0.0, "1_yes": 1.0}).astype(float)
    outcome = np.where(frame["outcome"] == "1_yes", "pancreatitis", "no pancreatitis")
    return Records(
        card=INDO_CARD,
        label=pd.Series(pd.Categorical(outcome, categories=["no pancreatitis", "pancreatitis"])),
        features=features,
        sensitive=chosen(
            sensitive,
            {"gender": features["gender"], "age": in_bins(frame["age"], [45, 60])},
        ),
        clients=frame["site"].map(INDO_SITES),
        ranges=INDO_RANGES,
    )
