"""Data sets of texts that come with fedmodel."""

from __future__ import annotations

import html

import numpy as np
import pandas as pd

from fedmodel.data.files import read_shipped
from fedmodel.data.records import Records
from fedmodel.types import Card

__all__ = ["vader_tweets"]

TWEETS_CARD = Card(
    name="vader_tweets",
    title="Sentiment of tweets",
    source="Ground truth of VADER, https://github.com/cjhutto/vaderSentiment",
    licence="MIT, Copyright (c) 2016 C.J. Hutto",
    citation=(
        "Hutto, C.J., Gilbert, E. (2014). VADER: A Parsimonious Rule-based Model for Sentiment "
        "Analysis of Social Media Text. ICWSM-14, Ann Arbor, MI."
    ),
    harms=(
        "People's own words, written for other readers than these. The authors are not named, "
        "but a search may find them: quote no tweet."
    ),
    cautions=(
        "The label is a mean of human ratings: tweets that raters found neutral are left out, "
        "which makes the task easier than it is.",
        "It does not say who wrote a tweet, so that no group fairness can be measured.",
    ),
)


def vader_tweets(*, max_tokens: int = 32, buckets: int = 4096) -> Records:
    """3,432 English tweets of the early 2010s that people rated clearly positive or negative.

    Clearly: a mean rating of at least 0.5 in size, on a scale from -4 to 4. No natural clients.
    """
    frame = read_shipped("vader_tweets")
    frame = frame[frame["mean_score"].abs() >= 0.5]
    sign = np.where(frame["mean_score"] > 0, "positive", "negative")
    return Records(
        card=TWEETS_CARD,
        label=pd.Series(pd.Categorical(sign, categories=["negative", "positive"])),
        text=frame["text"].map(html.unescape),
        max_tokens=max_tokens,
        buckets=buckets,
    )
