"""Ridge regression on products of two kinds of features, from sums over rows: no table of all of them is held."""

import numpy as np


class BilinearRidge:
    """Least squares of y on q ⊗ z with a penalty on the squared weights (Hoerl and Kennard, 1970).

    Every (q, z) pair has one product feature for each of their pairs, so that which latents tell of a moment depends on
    the query's words.
    """

    def __init__(self, words: int, features: int) -> None:
        size = words * features
        self._shape = words, features
        self._gram, self._moment, self._rows = np.zeros((size, size)), np.zeros(size), 0

    def add(self, q: np.ndarray, z: np.ndarray, y: np.ndarray) -> None:
        """Rows of one query: its words (words,), latents (T, features), and what is to be said of each, (T,)."""
        there = np.flatnonzero(q)
        features = self._shape[1]
        at = (there[:, None] * features + np.arange(features)).ravel()
        # Words that are not there have no product: the sums of most rows touch a few blocks only.
        self._gram[np.ix_(at, at)] += np.kron(np.outer(q[there], q[there]), z.T @ z)
        self._moment[at] += np.kron(q[there], z.T @ y)
        self._rows += len(y)

    def weights(self, penalty: float) -> np.ndarray:
        """(words, features), of the mean squared error plus `penalty` times the squared weights; score = q @ w @ z."""
        mean = self._gram / max(1, self._rows)
        mean[np.diag_indices_from(mean)] += penalty
        return np.linalg.solve(mean, self._moment / max(1, self._rows)).reshape(self._shape)
