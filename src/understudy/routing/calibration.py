"""How far predicted probabilities are from what happened."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def brier(p: Array, y: Array) -> float:
    """Mean squared difference of prediction and success (Brier 1950); 0 is perfect."""
    return float(np.mean((p - y) ** 2))


def ece(p: Array, y: Array, bins: int = 10) -> float:
    """Expected calibration error: mean |prediction - success| over bins of equal size.

    Adaptive bins (Nguyen and O'Connor 2015), all queries and LLMs pooled; equal predictions may
    fall in two bins, which only matters below a few dozen cells.
    """
    order = np.argsort(p, axis=None, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    flat_p, flat_y = p.ravel(), y.ravel()
    misses = [abs(flat_p[part].mean() - flat_y[part].mean()) * len(part) for part in parts]
    return float(sum(misses) / len(order))
