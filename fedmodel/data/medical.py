"""Medical data sets that come with fedmodel."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fedmodel.data.files import read_shipped
from fedmodel.data.records import Range, Records
from fedmodel.data.sensitive import chosen, in_bins
from fedmodel.types import Card

__all__ = ["breast_cancer", "heart_disease"]

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

# Highest values of each measure, as mean over an image's nuclei, as its standard error, and as the
# mean of the three largest: round figures of our own choice above all that the published
# description tabulates. The lowest is 0.
BREAST_HIGHEST: dict[str, tuple[float, float, float]] = {
    "radius": (30.0, 3.0, 40.0),
    "texture": (40.0, 5.0, 50.0),
    "perimeter": (200.0, 25.0, 300.0),
    "area": (3_000.0, 600.0, 5_000.0),
    "smoothness": (0.2, 0.04, 0.3),
    "compactness": (0.4, 0.2, 1.5),
    "concavity": (0.5, 0.4, 1.5),
    "concave points": (0.25, 0.06, 0.3),
    "symmetry": (0.4, 0.1, 0.7),
    "fractal dimension": (0.1, 0.03, 0.25),
}
BREAST_RANGES: dict[str, Range] = {
    name: (0.0, highest)
    for measure, limits in BREAST_HIGHEST.items()
    for name, highest in zip((f"mean {measure}", f"{measure} error", f"worst {measure}"), limits)
}

BREAST_CARD = Card(
    name="breast_cancer",
    title="Breast tumours under the microscope",
    source="UCI Machine Learning Repository, id 17, https://doi.org/10.24432/C5DW2B",
    licence="CC BY 4.0",
    citation=(
        "Wolberg, W., Mangasarian, O., Street, N., Street, W. (1993). Breast Cancer Wisconsin "
        "(Diagnostic). UCI Machine Learning Repository."
    ),
    harms=(
        "Patients of one American surgeon around 1990; neither age nor origin is recorded, so "
        "nobody can see whom a model fails. It may guide the care of nobody."
    ),
    cautions=(
        "The task is easy (AUC about 0.99): differences between methods hardly show here.",
        "37 % are malignant, far more than among people who are screened: a predicted "
        "probability is none for them.",
        "A person outlined the nuclei, and the ten measures depend on each other.",
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


def breast_cancer() -> Records:
    """569 breast tumours, 30 measures of their cells' nuclei: is the tumour malignant?

    There are no natural clients and no sensitive attributes: partition by `dirichlet`.
    """
    frame = read_shipped("breast_cancer")
    return Records(
        card=BREAST_CARD,
        label=pd.Series(pd.Categorical(frame["diagnosis"], categories=["benign", "malignant"])),
        features=frame[list(BREAST_RANGES)],
        ranges=BREAST_RANGES,
    )
