"""Means and ratios with 95 % intervals that respect clusters (conversations, documents, users)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

CONFIDENCE = 0.95
BOOTSTRAP_DRAWS = 2000


class Interval(NamedTuple):
    """A mean and its limits; None where the data cannot say."""

    mean: float | None
    low: float | None
    high: float | None


def cluster_mean(values: Sequence[float], groups: Sequence[str]) -> Interval:
    """The mean and its cluster-robust t interval with G - 1 degrees of freedom.

    SE = sqrt(sum over clusters of (sum of residuals)^2) / n * sqrt(G / (G - 1))
    (Miller 2024, arXiv 2411.00640, eq. 4, with the small-sample factor).
    """
    if not values:
        return Interval(None, None, None)
    mean, error, clusters = _mean_and_error(values, groups)
    if error is None:
        return Interval(mean, None, None)
    from scipy.special import stdtrit  # here, as a plan needs no scipy

    margin = float(stdtrit(clusters - 1, (1 + CONFIDENCE) / 2)) * error
    return Interval(mean, mean - margin, mean + margin)


def cluster_rate(passed: Sequence[bool], groups: Sequence[str]) -> Interval:
    """A share from 0 to 1 with its Clopper-Pearson interval at the effective sample size.

    n_eff = rate (1 - rate) / SE^2 with the cluster-robust SE, at most n (Korn and Graubard 1998);
    where nobody or everybody passed, SE says nothing and n_eff is the number of clusters.
    """
    if not passed:
        return Interval(None, None, None)
    rate, error, clusters = _mean_and_error(passed, groups)
    if error is None:
        return Interval(rate, None, None)
    from scipy.special import betaincinv

    size = min(len(passed), rate * (1 - rate) / error**2) if error > 0 else clusters
    hits, tail = rate * size, (1 - CONFIDENCE) / 2
    low = float(betaincinv(hits, size - hits + 1, tail)) if rate > 0 else 0.0
    high = float(betaincinv(hits + 1, size - hits, 1 - tail)) if rate < 1 else 1.0
    return Interval(rate, low, high)


def _mean_and_error(
    values: Sequence[float], groups: Sequence[str]
) -> tuple[float, float | None, int]:
    """Mean, cluster-robust standard error (None for a single cluster), number of clusters."""
    data = np.asarray(values, dtype=float)
    mean = float(data.mean())
    totals = _totals(data - mean, groups)
    clusters = len(totals)
    if clusters < 2:
        return mean, None, clusters
    error = np.sqrt((totals**2).sum()) / len(data) * np.sqrt(clusters / (clusters - 1))
    return mean, float(error), clusters


def ratio_of_means(
    a: Sequence[float], b: Sequence[float], groups: Sequence[str], seed: int = 0
) -> Interval:
    """100 * mean(a) / mean(b) over the same prompts: P-Match in %.

    The interval is the percentile interval of a paired bootstrap that draws whole clusters.
    """
    if not a or sum(b) <= 0:
        return Interval(None, None, None)
    ours, theirs = _totals(a, groups), _totals(b, groups)
    value = 100 * float(ours.sum() / theirs.sum())
    clusters = len(ours)
    if clusters < 2:
        return Interval(value, None, None)
    rng = np.random.default_rng(seed)
    shares = np.full(clusters, 1 / clusters)
    counts = rng.multinomial(clusters, shares, size=BOOTSTRAP_DRAWS)  # (draws, G)
    below = counts @ theirs
    if not below.all():  # some draw has no service score at all, so its ratio has no limit
        return Interval(value, None, None)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(100 * (counts @ ours) / below, [tail, 1 - tail])
    return Interval(value, float(low), float(high))


def _totals(values: ArrayLike, groups: Sequence[str]) -> NDArray[np.float64]:
    """The sum of the values of each cluster."""
    _, cluster = np.unique(np.asarray(groups), return_inverse=True)
    return np.bincount(cluster, weights=np.asarray(values, dtype=float)).astype(float)
