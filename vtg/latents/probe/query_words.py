"""A query as the words that are in it."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

WORD = re.compile(r"\w+")

# With more words the normal equations of the probe would not fit into memory; the rest are rare.
MAX_WORDS = 64


class QueryWords:
    """The most frequent words of training queries, `MAX_WORDS` at most."""

    def __init__(self, queries: Iterable[str]) -> None:
        counts = Counter(word for query in queries for word in set(_words(query)))
        # By name among equals: the same file gives the same probe.
        self.words = tuple(sorted(counts, key=lambda word: (-counts[word], word))[:MAX_WORDS])
        self._at = {word: at for at, word in enumerate(self.words)}

    def features(self, query: str) -> np.ndarray:
        """(V + 1,) float64: 1 for each word that is there, and a last 1."""
        found = np.zeros(len(self.words) + 1)
        found[[self._at[word] for word in _words(query) if word in self._at]] = 1
        found[-1] = 1
        return found


def _words(query: str) -> list[str]:
    return WORD.findall(query.lower())


def nearest(query: np.ndarray, others: Sequence[np.ndarray]) -> list[int]:
    """The indices of those with the highest cosine to a query's words; several where they are equally near."""
    stacked = np.stack(others)[:, :-1]
    lengths = np.linalg.norm(stacked, axis=1)
    cosines = stacked @ query[:-1] / np.where(lengths > 0, lengths, 1)
    return np.flatnonzero(cosines >= cosines.max() - 1e-9).tolist()
