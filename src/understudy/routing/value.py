"""What predictions and routers are worth: calibration, and true accuracy against single LLMs."""

from typing import NamedTuple

import numpy as np

from understudy.routing.exact import front
from understudy.routing.predict import Array

_POINTS = 400


class Curve(NamedTuple):
    """Total cost in USD, rising, and accuracy at that cost; both (K,)."""

    cost: Array
    accuracy: Array


class Value(NamedTuple):
    """A router beside the best single LLM and the zero router, on the same queries."""

    curve: Curve
    zero: Curve  # the hull of single LLMs: mixing two of them at random reaches any point of it
    best: int  # column of the most accurate single LLM; of equals the cheapest
    saving: float  # of cost at that LLM's accuracy; NaN when the router never reaches it
    highest: float  # the most accurate point of the router
    gain: float  # mean accuracy above the zero router between its cheapest and dearest end
    igd: float  # in USD and accuracy, as published, to the exact front of the true labels
    delta: float  # spread, as published


def curve(p: Array, c: Array, y: Array) -> Curve:
    """The accuracy under y of up to 800 points of the exact front of p; all tables (N, M)."""
    path = front(p, c)
    at = np.linspace(0, len(path) - 1, _POINTS)
    even = np.searchsorted(path.cost, np.linspace(path.cost[0], path.cost[-1], _POINTS))
    points = np.unique(np.concatenate([at.astype(int), np.minimum(even, len(path) - 1)]))
    rows = np.arange(len(y))
    accuracy = [y[rows, path.assignment(int(k))].mean() for k in points]
    return Curve(path.cost[points], np.array(accuracy))


def zero_router(c: Array, y: Array) -> Curve:
    """The hull of single LLMs (RouterBench, arXiv 2403.12031): total USD and mean accuracy.

    Its points are corners, which mixing two LLMs at random connects by straight lines.
    """
    mixed = front(y.mean(axis=0)[None], c.sum(axis=0)[None])
    return Curve(mixed.cost, mixed.accuracy)


def value(path: Curve, c: Array, y: Array) -> Value:
    """What a router's true curve saves and gains on queries that cost c and succeed by y."""
    zero = zero_router(c, y)
    oracle = front(y, c)
    at = np.unique(np.linspace(0, len(oracle) - 1, _POINTS).astype(int))
    true = Curve(oracle.cost[at], oracle.accuracy[at])
    single, usd = y.mean(axis=0), c.sum(axis=0)
    best = int(np.lexsort((usd, -single))[0])
    reaches = path.accuracy >= single[best] - 1e-12
    cheapest = path.cost[reaches].min() if reaches.any() else np.nan
    saving = float(1 - cheapest / usd[best]) if usd[best] > 0 else float("nan")
    return Value(
        path,
        zero,
        best,
        0.0 if abs(saving) < 1e-12 else saving,  # of LLMs that cost the same, sums round apart
        float(path.accuracy.max()),
        gain(path, zero),
        igd(true, path),
        delta(true, path),
    )


def gain(path: Curve, zero: Curve) -> float:
    """Mean accuracy of a path above the zero router over the zero router's range of costs."""
    costs = np.linspace(zero.cost[0], zero.cost[-1], _POINTS)
    above = np.interp(costs, path.cost, path.accuracy) - np.interp(costs, zero.cost, zero.accuracy)
    return float(above.mean())


def igd(true: Curve, found: Curve) -> float:
    """Inverted generational distance: mean distance from the front's points to the nearest found.

    As published, on raw USD and accuracy, so that it is nearly a distance in cost.
    """
    from scipy.spatial import KDTree

    return float(KDTree(np.stack(found, axis=1)).query(np.stack(true, axis=1))[0].mean())


def delta(true: Curve, found: Curve) -> float:
    """Spread (Deb 2002): 0 is even spacing that reaches both ends of the front; NaN for one point.

    (d_f + d_l + sum |d_i - m|) / (d_f + d_l + (n - 1) m) with d_f and d_l the distances between
    the first and the last points of both lists, m the mean distance of consecutive found points
    and d_i the distance of a found point to its nearest neighbour. As published, the list is taken
    as it comes and the axes are raw.
    """
    from scipy.spatial import KDTree

    front, others = np.stack(true, axis=1), np.stack(found, axis=1)  # (n, 2)
    if len(others) < 2:
        return float("nan")
    ends = np.hypot(*(front[0] - others[0])) + np.hypot(*(front[-1] - others[-1]))
    mean = np.hypot(*np.diff(others, axis=0).T).mean()
    nearest = KDTree(others).query(others, k=2)[0][:, 1]
    whole = ends + (len(others) - 1) * mean
    return float((ends + np.abs(nearest - mean).sum()) / whole) if whole else float("nan")


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
