"""P values of a family of paired differences by sign flips, adjusted by the largest of them.

Where two systems are equally good, the sign of a cluster's difference is a coin toss. A draw tosses
once per cluster for all comparisons of the family, so whatever they share (the prompts, the judge)
is kept, and their adjusted p values are smaller than Holm's where they are alike. The statistic is
T = mean / cluster-robust SE; adjusted: step-down max T (Westfall and Young 1993, algorithm 2.8).
All 2^G tosses are taken where they are no more than `draws`; then the p values are exact.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from understudy.evaluation.statistics.intervals import Floats

DRAWS = 10_000 - 1
_CHUNK = 1 << 22  # tosses held at once
_TIE = 1 - 1e-9  # equal up to rounding is as extreme


class Paired(NamedTuple):
    """One comparison: differences of P prompts and the cluster of each."""

    differences: ArrayLike  # (P,)
    groups: ArrayLike  # (P,) names; equal names of two comparisons are the same cluster


class Flipped(NamedTuple):
    """Two-sided p values in the order given; NaN for a comparison of fewer than two clusters."""

    single: Floats  # (H,)
    adjusted: Floats  # (H,), for the whole family
    is_exact: bool


def sign_flips(family: Sequence[Paired], draws: int = DRAWS, seed: int = 0) -> Flipped:
    """Test every comparison against no difference."""
    names = np.unique(np.concatenate([np.asarray(one.groups) for one in family]))
    top: Floats = np.zeros((len(family), len(names)))
    bottom: Floats = np.zeros((len(family), len(names)))
    for number, one in enumerate(family):
        codes = np.searchsorted(names, np.asarray(one.groups))
        top[number] = np.bincount(codes, np.asarray(one.differences, dtype=float), len(names))
        bottom[number] = np.bincount(codes, minlength=len(names))
    nothing = np.full(len(family), np.nan)
    known = np.flatnonzero((bottom > 0).sum(1) > 1)
    is_exact = len(names) < 60 and 2 ** len(names) <= draws
    if not len(known):
        return Flipped(nothing, nothing.copy(), is_exact)
    top, bottom = top[known], bottom[known]
    seen = _statistics(np.ones((1, len(names)), dtype=np.float64), top, bottom)[0]
    order = np.argsort(-seen, kind="stable")
    single, step = np.zeros((2, len(known)))
    count = 2 ** len(names) if is_exact else draws
    rng = np.random.default_rng(seed)
    for start in range(0, count, max(1, _CHUNK // len(names))):
        size = min(count - start, max(1, _CHUNK // len(names)))
        if is_exact:
            bits = np.arange(start, start + size)[:, None] >> np.arange(len(names)) & 1
        else:
            bits = rng.integers(0, 2, (size, len(names)), dtype=np.int8)
        drawn = _statistics(2 * bits.astype(np.float64) - 1, top, bottom)
        single += (drawn >= seen * _TIE).sum(0)
        # The largest of those that are no more extreme than the one in question.
        largest = np.maximum.accumulate(drawn[:, order[::-1]], axis=1)[:, ::-1]
        step += (largest >= seen[order] * _TIE).sum(0)
    extra = 0 if is_exact else 1  # what was seen is a draw, too
    adjusted = np.empty(len(known))
    adjusted[order] = np.maximum.accumulate((step + extra) / (count + extra))
    found = Flipped(nothing, nothing.copy(), is_exact)
    found.single[known], found.adjusted[known] = (single + extra) / (count + extra), adjusted
    return found


def _statistics(signs: Floats, top: Floats, bottom: Floats) -> Floats:
    """|T| of every draw and comparison, (draws, H), from cluster totals (H, G).

    The sum of squared residuals is expanded, so a draw costs two dot products.
    """
    whole, clusters = bottom.sum(1), (bottom > 0).sum(1)
    mean = signs @ top.T / whole
    squares = (top**2).sum(1) - 2 * mean * (signs @ (top * bottom).T)
    squares = (squares + mean**2 * (bottom**2).sum(1)) * clusters / (clusters - 1)
    # Differences that are all the same have no spread; rounding must not make one up.
    error = np.sqrt(np.where(squares > 1e-12 * (top**2).sum(1), squares, 0)) / whole
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.where(mean == 0, 0.0, np.abs(mean) / error)
    return found
