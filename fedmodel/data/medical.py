"""Medical data sets that come with fedmodel."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fedmodel.data.files import read_shipped
from fedmodel.data.records import Range, Records
from fedmodel.data.sensitive import chosen, in_bins
from fedmodel.types import Card

__all__ = ["heart_disease"]

# Categories are the codebook's. The limits of measurements are round figures of our own choice
# within which adults in a clinic lie; they were not taken from the records.
HEART_RANGES: dict[str, Range] = {
    "age": (20.0, 90.0),  # years
    "sex": ("Female", "Male"),
    "cp": ("typical angina", "atypical angina", "non-anginal", "asymptomatic"),
    "trestbps": (80.0, 220.0),  # resting blood pressure, mm Hg
    "chol": (100.0, 600.0),  # serum cholesterol, mg/dl
    "fbs": (0.0, 1.0),  # fasting blood sugar above 120 mg/dl
    "restecg": ("normal", "st-t abnormality", "lv hypertrophy"),
    "thalch": (60.0, 220.0),  # highest heart rate reached, beats a minute
    "exang": (0.0, 1.0),  # angina on exertion
    "oldpeak": (-3.0, 7.0),  # ST depression on exertion, mm
    "slope": ("upsloping", "flat", "downsloping"),
    "ca": (0.0, 3.0),  # major vessels seen under fluoroscopy
    "thal": ("normal", "fixed defect", "reversable defect"),
}

HEART_CARD = Card(
    name="heart_disease",
    title="Heart disease at four hospitals",
    source="UCI Machine Learning Repository, id 45, https://doi.org/10.24432/C52P4X",
    licence="CC BY 4.0",
    citation=(
        "Janosi, A., Steinbrunn, W., Pfisterer, M., Detrano, R. (1988). Heart Disease. UCI. Data "
        "collected by Andras Janosi, M.D., Budapest; William Steinbrunn, M.D., Zurich; Matthias "
        "Pfisterer, M.D., Basel; Robert Detrano, M.D., Ph.D., Long Beach and Cleveland."
    ),
    harms=(
        "Patients already referred for angiography in the 1980s, four in five of them men: a "
        "model of these records says little about women or about people who feel well, and none "
        "may guide the care of anybody."
    ),
    cautions=(
        "The VA has 6 women and Switzerland 10: a gap by sex at one of these hospitals has no "
        "meaning without an interval.",
        "36 % of the patients in Hungary are ill, and 93 % in Switzerland.",
        "ca, thal and slope are mostly missing outside Cleveland, so that what is missing tells "
        "the hospital, and the hospital tells much of the label.",
        "A cholesterol of 0 means missing; all of Switzerland lacks it.",
    ),
)


def heart_disease(*, sensitive: tuple[str, ...] = ("sex",)) -> Records:
    """920 patients of 4 hospitals, the natural clients: are the coronary arteries narrowed?

    `sensitive` may name sex and age (under 45, 45-59, 60 and over).

    Raises:
        FedmodelError: a sensitive attribute that this data set does not have.
    """
    frame = read_shipped("heart_disease")
    features = frame[list(HEART_RANGES)].copy()
    for name in ("chol", "trestbps"):  # 0 was written where it was not measured
        features[name] = features[name].where(features[name] != 0)
    for name in ("fbs", "exang"):
        features[name] = features[name].map({"False": 0.0, "True": 1.0}).astype(float)
    ill = np.where(frame["num"] > 0, "disease", "no disease")
    return Records(
        card=HEART_CARD,
        label=pd.Series(pd.Categorical(ill, categories=["no disease", "disease"])),
        features=features,
        sensitive=chosen(
            sensitive,
            {"sex": frame["sex"], "age": in_bins(frame["age"], [45, 60])},
        ),
        clients=frame["dataset"],
        ranges=HEART_RANGES,
    )
