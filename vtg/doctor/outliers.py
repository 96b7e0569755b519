"""Rows far from the others: clips, moments and queries of an unusual length."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from vtg.annotations.sample import Problem
from vtg.doctor.row_facts import RowFacts

# Of fewer rows it cannot be told what is usual.
MIN_ROWS = 50

# In units of a normal distribution's deviation, of logarithms: of ordinary lengths, 1 in 2 million are further away.
FAR = 5.0
# Lengths that hardly differ (clips all cut to 30 s) would make outliers of rounding: at least a fifth counts as usual.
MIN_SPREAD = np.log(1.2)


def measures(facts: RowFacts, words: NDArray[np.int64]) -> dict[str, tuple[NDArray[np.float64], str]]:
    """Of every row: name → (N,) values above zero, or nan where a row has none, and their unit."""
    duration_s, start_s, end_s = (
        np.frombuffer(column, np.float32).astype(np.float64)
        for column in (facts.duration_s, facts.start_s, facts.end_s)
    )
    length_s = np.where(end_s > start_s, end_s - start_s, np.nan)
    return {
        "clip": (duration_s, "s"),
        "moment": (length_s, "s"),
        "query": (np.where(words > 0, words, np.nan).astype(np.float64), "words"),
    }


def outliers(facts: RowFacts, words: NDArray[np.int64]) -> Iterator[Problem]:
    """Notes on rows whose clip, moment or query is much longer or shorter than those of the same file's other rows."""
    fields = {"clip": "duration", "moment": "timestamp", "query": "sentence"}
    of_file = np.frombuffer(facts.file, np.uint16)
    for name, (values, unit) in measures(facts, words).items():
        for file, path in enumerate(facts.files):
            rows = np.flatnonzero((of_file == file) & np.isfinite(values))
            if len(rows) < MIN_ROWS:
                continue
            logs = np.log(values[rows])
            low, middle, high = np.percentile(logs, [25, 50, 75])
            # A quartile of a normal distribution is 0.6745 deviations from its middle.
            spread = max(MIN_SPREAD, float(high - low) / 2 / 0.6745)
            for row in rows[np.abs(logs - middle) > FAR * spread].tolist():
                usual = f"{np.exp(low):.3g} to {np.exp(high):.3g} {unit}"
                text = f"the {name} is {values[row]:.4g} {unit} long, half of this file's are {usual}; look at it"
                yield Problem(path, facts.line[row], fields[name], text, "note", f"{name}-unusual", facts.nth[row])
