"""What a prediction is worth as a router: true accuracy along its front, against single LLMs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy.routing.baselines import hull
from understudy.routing.exact import front
from understudy.routing.metrics import delta, igd

Array = NDArray[np.float64]
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
    """The hull of single LLMs (RouterBench, arXiv 2403.12031): total USD and mean accuracy."""
    mixed = hull(c.sum(axis=0), y.mean(axis=0))
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
    return Value(
        path,
        zero,
        best,
        float(1 - cheapest / usd[best]) if usd[best] > 0 else float("nan"),
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
