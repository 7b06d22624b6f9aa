"""P values of a family of comparisons (model x task x judge x size), adjusted for its size.

Holm for claims: the chance of one false claim in the family stays at alpha. Benjamini-Hochberg for
exploration: the share of false finds stays at alpha. A missing p value is no member of the family.

Sign flips test a family of paired differences together. Where two systems are equally good, the
sign of a cluster's difference is a coin toss. A draw tosses once per cluster for all comparisons of
the family, so whatever they share (the prompts, the judge) is kept, and their adjusted p values are
smaller than Holm's where they are alike. The statistic is T = mean / cluster-robust SE; adjusted:
step-down max T (Westfall and Young 1993, algorithm 2.8). All 2^G tosses are taken where they are no
more than `draws`; then the p values are exact.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from understudy.evaluation.statistics.intervals import Floats, Interval

FLIPS = 10_000 - 1
_CHUNK = 1 << 22  # tosses held at once
_TIE = 1 - 1e-9  # equal up to rounding is as extreme


class Adjusted(NamedTuple):
    """Adjusted p values in the order given (NaN where missing), and the family's size."""

    values: Floats
    size: int


def p_value(found: Interval, null: float = 0.0) -> float:
    """The two-sided p value of the estimate against `null`, by t with G - 1 df; NaN if missing.

    A difference without any spread has p = 0 unless it is the null itself.
    """
    if found.mean is None or found.error is None:
        return float("nan")
    if found.error == 0:
        return float(found.mean == null)
    from scipy.special import stdtr

    return float(2 * stdtr(found.clusters - 1, -abs(found.mean - null) / found.error))


def holm(p_values: ArrayLike) -> Adjusted:
    """Holm 1979: the i-th smallest of m is multiplied by m - i + 1, then made to rise."""

    def step_down(known: Floats) -> Floats:
        order = np.argsort(known, kind="stable")
        adjusted = np.empty(len(known))
        adjusted[order] = np.maximum.accumulate(known[order] * np.arange(len(known), 0, -1))
        return np.minimum(adjusted, 1)

    return _adjust(p_values, step_down)


def benjamini_hochberg(p_values: ArrayLike) -> Adjusted:
    """Benjamini and Hochberg 1995: the i-th smallest of m times m / i, then made to rise."""
    from scipy.stats import false_discovery_control

    return _adjust(p_values, false_discovery_control)


def _adjust(p_values: ArrayLike, rule: Callable[[Floats], Floats]) -> Adjusted:
    given = np.asarray(p_values, dtype=float)
    known = ~np.isnan(given)
    adjusted = np.full(given.shape, np.nan)
    if known.any():
        adjusted[known] = rule(given[known])
    return Adjusted(adjusted, int(known.sum()))


class Paired(NamedTuple):
    """One comparison: differences of P prompts and the cluster of each."""

    differences: ArrayLike  # (P,)
    groups: ArrayLike  # (P,) names; equal names of two comparisons are the same cluster


class Flipped(NamedTuple):
    """Two-sided p values in the order given; NaN for a comparison of fewer than two clusters."""

    single: Floats  # (H,)
    adjusted: Floats  # (H,), for the whole family
    is_exact: bool


def sign_flips(family: Sequence[Paired], draws: int = FLIPS, seed: int = 0) -> Flipped:
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
