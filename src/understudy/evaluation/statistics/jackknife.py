"""Intervals of agreement over few items: the widest of three that each err where another does not.

A percentile interval over 16 to 25 items is too short: draws of so few hold too little spread, and
a coefficient near its end is skewed. A jackknife leaves each cluster out once,

    SE^2 = (G - 1) / G sum_c (x_c - mean)^2        limits = x +- t_{G-1} SE

(Efron and Tibshirani 1993, ch. 11), on the coefficient's own scale, which is right where few items
carry the disagreement, and on a bent one, arctanh of a correlation or log of a spread, which is
right where the coefficient is near its end. Coverage in simulated panels is in docs/evaluation.md.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from understudy.evaluation.statistics.intervals import (
    DRAWS,
    Codes,
    Floats,
    Interval,
    Statistic,
    bootstrap,
    sums_of,
)

WIDEST_FORM = "widest of percentile cluster bootstrap and jackknife t"
_CONFIDENCE = 0.95


class Bend(NamedTuple):
    """A scale on which a coefficient is nearer to normal, and back; NaN where it has no value."""

    to: Callable[[Floats], Floats]
    back: Callable[[Floats], Floats]
    most: float  # that the coefficient can be


def _arctanh(values: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = np.arctanh(values)
    return found


def _log(values: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = np.log(values)
    return found


CORRELATION = Bend(_arctanh, np.tanh, 1.0)
SPREAD = Bend(_log, np.exp, np.inf)
_STRAIGHT = Bend(np.asarray, np.asarray, np.inf)


def widest(
    items: Floats, cluster: Codes, statistic: Statistic, bend: Bend, draws: int = DRAWS
) -> Interval:
    """The statistic of the sums of `items` (A, P), and the widest of its three intervals."""
    found = bootstrap(items, cluster, statistic, draws)
    if found.mean is None or found.low is None or found.high is None:
        return found
    sums = sums_of(items, cluster)
    left_out = statistic(sums.sum(0) - sums)
    lows, highs = [found.low], [found.high]
    for scale in (_STRAIGHT, bend):
        value, values = scale.to(np.array(found.mean)), scale.to(left_out)
        if np.isfinite(value) and np.isfinite(values).all():
            reach = _reach(values)
            lows.append(float(scale.back(value - reach)))
            highs.append(min(float(scale.back(value + reach)), bend.most))
    return found._replace(low=min(lows), high=max(highs), form=WIDEST_FORM)


def _reach(left_out: Floats) -> Floats:
    """From the values without each cluster."""
    from scipy.special import stdtrit

    clusters = len(left_out)
    squares = ((left_out - left_out.mean()) ** 2).sum()
    t = -stdtrit(clusters - 1, (1 - _CONFIDENCE) / 2)
    reach: Floats = t * np.sqrt((clusters - 1) / clusters * squares)
    return reach
