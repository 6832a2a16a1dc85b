"""Texts as numbers without a vocabulary: each word is hashed into a bucket."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import pandas as pd
from jaxtyping import Int

__all__ = ["HashedText"]

_TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]+")


@dataclass(frozen=True, kw_only=True)
class HashedText:
    """Texts as token numbers: 0 is padding, a token's number a hash in 1 to buckets - 1.

    Nothing is fitted on records, so that it is inside any guarantee. A token is a word, in lower
    case, or a run of other signs, such as a smiley.

    >>> HashedText(max_tokens=4, buckets=100).transform(pd.Series(["Yes, yes!"])).shape
    (1, 4)
    """

    max_tokens: int
    buckets: int
    column: str = "text"  # where a table of further records has the texts

    def transform(self, text: pd.Series) -> Int[np.ndarray, "n max_tokens"]:
        """Token numbers, int64. A text without tokens counts as one empty token."""
        out = np.zeros((len(text), self.max_tokens), dtype=np.int64)
        number: dict[str, int] = {"": self._hash("")}
        for row, words in enumerate(text.fillna("").astype(str)):
            tokens = _TOKEN.findall(words.lower())[: self.max_tokens] or [""]
            for token in tokens:
                if token not in number:
                    number[token] = self._hash(token)
            out[row, : len(tokens)] = [number[token] for token in tokens]
        return out

    def _hash(self, token: str) -> int:
        digest = blake2b(token.encode(), digest_size=8).digest()
        return 1 + int.from_bytes(digest, "little") % (self.buckets - 1)
