"""A limit of a mean where few clusters carry the losses: the score test with the null's variance.

Where almost all clusters are equal, draws of the clusters often hold no failure at all: they have
no spread, and a limit made of them says that there is none. So the variance is taken as it would be
if the mean were the bound that is tested, mu: the likelihood of the observed values is maximised
with mean mu, and mass may be given to the end of the scale although no cluster was seen there,

    max prod w_c   with   sum_c w_c + w_0 = 1,   sum_c w_c (x_c - mu) + w_0 (end - mu) = 0
    z = (mean - mu) / sqrt(V / G)     V = sum_c w_c (x_c - mu)^2 + w_0 (end - mu)^2

(Owen 1988, Biometrika 75:237, for the weights). For 0/100 scores of single prompts this is
Tango's score test of paired proportions (1998, Statist. Med. 17:891). z is compared with t.
Besides, where failures alone make mu, seeing as few of them must be rarer than the level: for 0/100
scores of a service that is always right the level is then exact.

x_c is the mean of a cluster, and G the number of equal clusters that are worth as much as these,
(sum n_c)^2 / sum n_c^2 (Kish 1965): one conversation that holds a fifth of the prompts can lose
the margin alone, and how often it would is only seen on the others.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
# Failing clusters (as many equal ones as carry the squares below the mean) under which draws lack
# failures too often. Measured: at 8 some worlds of 40 groups are at .07, at 11 none is.
FEW = 11.0
_STEPS = 60


def effective(weights: Floats) -> Floats:
    """(...,): the number of equal clusters worth as much as these weights (..., G)."""
    found: Floats = weights.sum(-1) ** 2 / (weights**2).sum(-1)
    return found


def failing(values: Floats, weights: Floats) -> Floats:
    """(...,): how many effective clusters carry what lies below the mean; 0 where all are equal."""
    mean = (values * weights).sum(-1) / weights.sum(-1)
    below = np.minimum(values - mean[..., None], 0)
    squares = (below**2).sum(-1)
    # Rounding of equal values must not pass for many small losses.
    known = squares > 1e-18 * (values**2).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        carried = below.sum(-1) ** 2 / squares
    found: Floats = np.where(known, carried, 0.0) * effective(weights) / values.shape[-1]
    return np.round(found, 9)  # eleven equal failures are eleven, in whatever order they are added


def above(
    values: Floats, weights: Floats, bound: Floats | float, end: Floats | float, tail: float
) -> Mask:
    """(...,): whether the mean is shown to be above `bound` at one-sided level `tail`.

    Takes the means of clusters (..., G) and their weights, also as (G,); `end` is the least value.
    """
    from scipy.special import betainc, stdtrit

    size = effective(weights)
    mean = (values * weights).sum(-1) / weights.sum(-1)
    bounds = np.broadcast_to(np.asarray(bound, dtype=float), mean.shape)
    centred = values - bounds[..., None]
    reach = bounds - end
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (mean - bounds) / np.sqrt(_variance(centred, reach) / size)
    found = (z > -stdtrit(np.maximum(size - 1, 1), tail)) & (mean > bounds) & (reach > 0)
    # A world whose values are the usual ones, but for failures at the end of the scale that bring
    # its mean down to the bound, shows no failure at all in this share of samples.
    median = np.median(values, axis=-1)
    usual = np.minimum(median, mean)
    rate = np.clip((usual - bounds) / np.maximum(usual - end, 1e-12), 0, 1)
    unseen = (1 - rate) ** size > tail
    # And one whose failures are more, but else as these, shows so few in this share. Squares count
    # a failure at the end as one, and what falls a little short as next to nothing.
    short, whole = np.maximum(median[..., None] - values, 0), np.maximum(median - end, 1e-12)
    lost = (short**2 * weights).sum(-1) / weights.sum(-1) / whole  # points of the mean
    rate, seen = np.clip((mean + lost - bounds) / whole, 0, 1), size * lost / whole
    often = betainc(np.maximum(size - seen, 1e-9), seen + 1, 1 - rate) > tail
    answer: Mask = found & ~unseen & ~often
    return answer


def _variance(centred: Floats, reach: Floats) -> Floats:
    """V of the module's formula for values minus the bound; NaN where the mean is not above it."""
    clusters = centred.shape[-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        # With mass at the end of the scale, the multiplier is at its largest: 1 / reach.
        weights = 1 / (clusters * (1 + centred / reach[..., None]))
        pull = (weights * centred).sum(-1)
        known = np.isfinite(weights).all(-1) & (reach > 0)
        at_end = known & (pull >= 0)
        variance = (weights * centred**2).sum(-1) + pull * reach
    found = np.where(at_end, variance, np.nan)
    rest = ~at_end & (centred.sum(-1) > 0) & (reach > 0)
    if rest.any():
        found[rest] = _inner(centred[rest])
    return found


def _inner(centred: Floats) -> Floats:
    """V without mass at the end: the multiplier solves sum u / (1 + m u) = 0.

    By Newton's steps, and by a half where one would leave the bracket.
    """
    low, high = np.zeros(len(centred)), -1 / centred.min(-1)
    found = low
    for step in range(_STEPS):
        with np.errstate(divide="ignore", invalid="ignore"):
            parts = centred / (1 + found[:, None] * centred)
            slope = parts.sum(-1)
            ahead = found + slope / (parts**2).sum(-1)
        low, high = np.where(slope > 0, found, low), np.where(slope > 0, high, found)
        is_inside = (ahead > low) & (ahead < high) & (step % 4 < 3)
        before, found = found, np.where(is_inside, ahead, (low + high) / 2)
        if (np.abs(found - before) <= 1e-14 * high).all():
            break
    weights = 1 / (1 + found[:, None] * centred)
    variance: Floats = (weights * centred**2).sum(-1) / weights.sum(-1)
    return variance


def limit(values: Floats, weights: Floats, end: float, tail: float) -> Floats:
    """(...,): the lower limit of the mean: the largest bound that `above` shows, by bisection."""
    high = (values * weights).sum(-1) / weights.sum(-1)
    low = np.full(high.shape, float(end))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        shown = above(values, weights, middle, end, tail)
        low, high = np.where(shown, middle, low), np.where(shown, high, middle)
    return low
