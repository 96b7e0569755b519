"""Bins for a histogram of any measure."""

import numpy as np
from numpy.typing import NDArray

BINS = 16

# Beyond it lie the few values that would squeeze all others into one bin: they count in the last.
LAST_PERCENTILE = 99.0


def value_edges(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(B + 1,) the edges of a histogram's bins: even parts of shares (by the measure's name), whole numbers of counts.

    Args:
        values: (N,) at least one, all finite.
    """
    if "share" in name:
        return np.linspace(0.0, 1.0, BINS + 1)
    low, high = float(values.min()), float(np.percentile(values, LAST_PERCENTILE))
    if not np.any(values % 1):  # counts: bins of whole numbers
        step = max(1.0, np.ceil((high - low + 1) / BINS))
        return np.arange(low, high + 1 + step, step)
    low = 0.0 if 0 <= low < high / 2 else low
    return np.linspace(low, high if high > low else low + 1.0, BINS + 1)
