"""Percentile intervals of any statistic that is a function of sums over items.

Agreement coefficients are functions of a few sums. A bootstrap draw of whole clusters only weighs
the clusters' sums, so all draws of one statistic are one matrix product.
"""

from collections.abc import Callable

import numpy as np

from understudy.evaluation.panel import Codes
from understudy.evaluation.statistics.intervals import CONFIDENCE, Floats, Interval, cluster_draws

DRAWS = 2000
FORM = "percentile cluster bootstrap"

Statistic = Callable[[Floats], Floats]  # sums (..., P) -> values (...)


def bootstrap(
    items: Floats, cluster: Codes, statistic: Statistic, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """The statistic of the sums of `items` (A, P), and its interval; None where it has no value."""
    sums = sums_of(items, cluster)
    value = float(statistic(sums.sum(0)))
    if not np.isfinite(value):
        return Interval(None, None, None)
    drawn = draw_sums(sums, draws, seed)
    return interval(value, statistic(drawn), len(sums))


def interval(value: float, drawn: Floats, clusters: int) -> Interval:
    """The value with the quantiles of its draws, of which some may have no value."""
    known = drawn[np.isfinite(drawn)]
    if clusters < 2 or len(known) < 0.99 * len(drawn):
        return Interval(value, None, None, None, clusters)
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(value, float(low), float(high), float(known.std()), clusters, FORM)


def sums_of(items: Floats, cluster: Codes) -> Floats:
    """(G, P): the items of each cluster added up."""
    size = int(cluster.max()) + 1 if len(cluster) else 0
    columns = [np.bincount(cluster, column, size) for column in items.T]
    return np.array(columns, dtype=float).reshape(items.shape[1], size).T


def draw_sums(sums: Floats, draws: int = DRAWS, seed: int = 0) -> Floats:
    """(draws, P): the sums over each draw of clusters."""
    drawn: Floats = cluster_draws(len(sums), draws, seed) @ sums
    return drawn
