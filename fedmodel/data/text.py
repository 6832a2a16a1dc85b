"""Data sets of texts that come with fedmodel."""

from __future__ import annotations

import html

import numpy as np
import pandas as pd

from fedmodel.data.files import read_shipped
from fedmodel.data.records import Records
from fedmodel.types import Card

__all__ = ["vader_amazon", "vader_tweets"]

CLEAR = 0.5  # a mean rating this far from 0 is clear

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


AMAZON_CARD = Card(
    name="vader_amazon",
    title="Sentiment of sentences in product reviews",
    source="Ground truth of VADER, https://github.com/cjhutto/vaderSentiment",
    licence="MIT, Copyright (c) 2016 C.J. Hutto",
    citation=(
        "Hutto, C.J., Gilbert, E. (2014). VADER: A Parsimonious Rule-based Model for Sentiment "
        "Analysis of Social Media Text. ICWSM-14, Ann Arbor, MI. Reviews: Hu, M., Liu, B. (2004). "
        "Mining and Summarizing Customer Reviews. KDD-04, Seattle, WA."
    ),
    harms=(
        "Customers' own words, written for other readers than these. The authors are not named, "
        "but a search may find them: quote no sentence."
    ),
    cautions=(
        "Half of the reviews have 8 sentences or fewer, and 65 fewer than 5: with next to no test "
        "records each, figures by client are coarse, and a client's guarantee dear.",
        "The reviews are of five products of the early 2000s, whose names tell much: the model "
        "need not carry over to others.",
        "The label is a mean of human ratings: sentences that raters found neutral are left out, "
        "two reviews with them, which makes the task easier than it is.",
        "It does not say who wrote a review, so that no group fairness can be measured.",
    ),
)


def vader_tweets(*, max_tokens: int = 32, buckets: int = 4096) -> Records:
    """3,432 English tweets of the early 2010s that people rated clearly positive or negative.

    Clearly: a mean rating of at least 0.5 in size, on a scale from -4 to 4. No natural clients.
    """
    return _rated("vader_tweets", TWEETS_CARD, max_tokens=max_tokens, buckets=buckets)


def vader_amazon(*, max_tokens: int = 32, buckets: int = 4096) -> Records:
    """2,985 sentences of 298 product reviews, the natural clients, rated positive or negative.

    Of the published 3,708 sentences of 300 reviews those with a clear rating: a mean of at least
    0.5 in size, on a scale from -4 to 4.
    """
    return _rated("vader_amazon", AMAZON_CARD, max_tokens=max_tokens, buckets=buckets)


def _rated(name: str, card: Card, *, max_tokens: int, buckets: int) -> Records:
    """The clearly rated texts of a ground truth of VADER; `doc` is the client, where there is one."""
    frame = read_shipped(name)
    frame = frame[frame["mean_score"].abs() >= CLEAR]
    sign = np.where(frame["mean_score"] > 0, "positive", "negative")
    return Records(
        card=card,
        label=pd.Series(pd.Categorical(sign, categories=["negative", "positive"])),
        text=frame["text"].map(html.unescape),
        clients=frame.get("doc"),
        max_tokens=max_tokens,
        buckets=buckets,
    )
