"""Means, shares, ratios and differences with intervals that respect clusters.

A cluster is a conversation, document or user (`group_id`), else a prompt. Repeated verdicts and
repeated samples are averaged within their prompt first, so they shrink the judge's noise and never
the variance between prompts. Every quantity here is a ratio of two totals over clusters,

    R = sum_c a_c / sum_c b_c        SE = sqrt(G / (G - 1) sum_c (a_c - R b_c)^2) / sum_c b_c

with b = number of values for a mean or a difference and b = the service's scores for a ratio
(Miller 2024, arXiv 2411.00640, eq. 4, with the small-sample factor). The form of the limits follows
from the number of clusters G and is stated in the result:

    few carry it  of a mean whose scale has ends: the score test of few.py, on each side on which
                  fewer than `few` clusters carry what lies beyond the mean
    G < 10        t with G - 1 degrees of freedom: too few clusters to draw from
    10 .. 999     on each side the wider of t and the studentised cluster bootstrap (Hall 1988,
                  Ann. Statist. 16:927). Scores crowd at the ceiling: there the lower t limit lies
                  above the truth up to three times as often as it says, the bootstrap does not.
                  On symmetric differences with rare large values it is the other way round.
    G >= 1000     t: skewness no longer matters

A share has Clopper-Pearson's limits at the effective number of answers (`cluster_rate`), a ratio of
scores those above. Both are widened by the score test where few clusters carry what lies beyond
them: 20 groups of which one failed say too little of how many fail.

Where the scale has ends, clusters of unequal size count as what they are worth, G' = (sum n)^2 /
sum n^2: t has G' - 1 degrees of freedom, and the error is at least that of G' clusters of equal
size whose means scatter as these do, since the few that are large show too little of it.
With `excess` the bootstrap's limit on the side of the long tail is moved by what draws lack there.

Any other statistic that is a function of sums over items, as agreement coefficients are, gets a
percentile interval by `bootstrap`. A draw of whole clusters only weighs the clusters' sums, so all
draws of one statistic are one matrix product.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from understudy.evaluation.statistics import few as score

CONFIDENCE = 0.95
BOOTSTRAP_DRAWS = 2000 - 1  # (draws + 1) times a tail is a whole number, so no draw is interpolated
BOOTSTRAP_CLUSTERS = range(10, 1000)
RATIO_MOST = 1000.0  # %; where a service is near 0, a ratio to it has no end
T_FORM = "t"
BOOTSTRAP_FORM = "wider of t and studentised bootstrap"
SCORE_FORM = "score test, as few clusters carry the spread"
FORMS = (T_FORM, BOOTSTRAP_FORM, SCORE_FORM)
# For a shown interval. Of groups of several values it is a quarter of them, up to few.FEW: at 5 of
# 40, limits held the truth in .81 to .89 of samples with rare failures, as lone ones passed for the
# whole groups that fail and were not drawn; a quarter of 20 or fewer is no more than 5.
SHOWN_FEW = 5.0
EXACT_FORM = "Clopper-Pearson"
PERCENTILE_FORM = "percentile cluster bootstrap"
DRAWS = 2000  # of the percentile bootstrap
# Of SE, the least that SE* of a draw counts as: where three of 64 prompts failed, one draw in
# twenty has none of them and next to no spread, and its studentised value would be a limit of 0.
_LEAST_SPREAD = 1 / 3
_HALVINGS = 40  # of the search for a limit of a ratio

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Codes = NDArray[np.intp]
Statistic = Callable[[Floats], Floats]  # sums (..., P) -> values (...)


class Scale(NamedTuple):
    """What a value can be, and when few clusters say too little of it."""

    least: float
    most: float
    few: float = SHOWN_FEW  # for the lower limit
    few_above: float = SHOWN_FEW
    excess: float = 0.0  # kurtosis beyond 3/2 skewness^2 that draws are to allow for, / skewness^2


SCORES, DIFFERENCES, RATES = Scale(0.0, 100.0), Scale(-100.0, 100.0), Scale(0.0, 1.0)


class Interval(NamedTuple):
    """An estimate and its limits; None where the data cannot say."""

    mean: float | None
    low: float | None
    high: float | None
    error: float | None = None  # cluster-robust standard error
    clusters: int = 0
    form: str | None = None  # how the limits were made


def cluster_mean(
    values: ArrayLike,
    groups: ArrayLike,
    confidence: float = CONFIDENCE,
    draws: int = BOOTSTRAP_DRAWS,
    scale: Scale | None = None,
) -> Interval:
    """The mean over all values, of scores or of paired differences between two systems."""
    data = np.asarray(values, dtype=float)
    return cluster_ratio(data, np.ones(len(data)), groups, confidence, draws, scale=scale)


def ratio_of_means(a: ArrayLike, b: ArrayLike, groups: ArrayLike, seed: int = 0) -> Interval:
    """100 * mean(a) / mean(b) over the same prompts, from 0 to 1000: a ratio to a service in %."""
    ours, theirs = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    found = cluster_ratio(100 * ours, theirs, groups, seed=seed)
    ends = list(found[:3])
    if found.mean is not None and found.low is not None:
        tops, bottoms, counts = cluster_totals(groups, ours, theirs, np.ones(len(ours)))
        tail = (1 - CONFIDENCE) / 2
        limits_of = ratio_limits(tops, bottoms, counts, tail, BOOTSTRAP_DRAWS, seed)
        below, above = (100 * float(end) for end in limits_of)
        # An interval of no width misses its own mean by rounding.
        ends[1:] = min(below, found.mean), max(above, found.mean)
    mean, low, high = (None if end is None else min(max(end, 0.0), RATIO_MOST) for end in ends)
    return found._replace(mean=mean, low=low, high=high)


def cluster_ratio(
    top: ArrayLike,
    bottom: ArrayLike,
    groups: ArrayLike,
    confidence: float = CONFIDENCE,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
    scale: Scale | None = None,
) -> Interval:
    """sum(top) / sum(bottom), say of hits and trials counted per answer.

    `scale` is for a mean, where `bottom` counts the values.
    """
    if not np.sum(bottom) > 0:
        return Interval(None, None, None)
    tops, bottoms = cluster_totals(groups, top, bottom)
    clusters = len(tops)
    if clusters < 2:
        return Interval(float(tops.sum() / bottoms.sum()), None, None, None, clusters)
    ratio, error = ratio_and_error(tops, bottoms)
    low, high, form = limits(tops, bottoms, (1 - confidence) / 2, draws, seed, scale)
    limit_form = FORMS[int(form)]
    return Interval(float(ratio), float(low), float(high), float(error), clusters, limit_form)


def cluster_rate(passed: Sequence[bool] | Mask, groups: ArrayLike) -> Interval:
    """A share from 0 to 1 with its Clopper-Pearson interval at the effective sample size.

    n_eff = rate (1 - rate) / SE^2 with the cluster-robust SE, at most n (Korn and Graubard 1998);
    where none or all passed, SE says nothing and n_eff is the number of clusters. SE itself rests
    on G clusters, so n_eff shrinks by (t(n_eff - 1) / t(G - 1))^2, where that is below 1.
    """
    data = np.asarray(passed, dtype=float)
    if not len(data):
        return Interval(None, None, None)
    top, bottom = cluster_totals(groups, data, np.ones(len(data)))
    clusters = len(top)
    if clusters < 2:
        return Interval(float(data.mean()), None, None, None, clusters)
    low, high = rate_limits(top, bottom)
    rate, error = map(float, ratio_and_error(top, bottom))
    return Interval(rate, float(low), float(high), error, clusters, EXACT_FORM)


def rate_limits(top: Floats, bottom: Floats) -> tuple[Floats, Floats]:
    """The limits of `cluster_rate` from the hits and trials of each cluster (..., G).

    Where few clusters carry what lies beyond the rate, they are the wider of these and few.py's.
    """
    from scipy.special import betaincinv, stdtrit

    tail = (1 - CONFIDENCE) / 2
    rate, error, _ = _t(top, bottom, tail, RATES)
    clusters = score.effective(bottom)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.minimum(bottom.sum(-1), rate * (1 - rate) / error**2)
    size = np.where(error > 0, size, clusters)
    of_size, of_clusters = (np.maximum(one - 1, 1) for one in (size, clusters))
    shrunk = (stdtrit(of_size, tail) / stdtrit(of_clusters, tail)) ** 2
    size = np.where(size > clusters, size * shrunk, size)
    hits = rate * size
    low = np.where(rate > 0, betaincinv(np.maximum(hits, 1e-9), size - hits + 1, tail), 0.0)
    missed = np.maximum(size - hits, 1e-9)
    high = np.where(rate < 1, betaincinv(hits + 1, missed, 1 - tail), 1.0)
    means = top / bottom
    weights = np.broadcast_to(bottom, means.shape)
    for sign, end, side in ((1.0, RATES.least, low), (-1.0, RATES.most, high)):
        few = score.failing(sign * means, weights) < _enough(weights)
        few &= (
            (rate > 0) & (rate < 1) & (clusters < bottom.sum(-1))
        )  # of single answers it is exact
        if few.any():
            found = score.limit(sign * means[few], weights[few], sign * end, tail)
            side[few] = sign * np.minimum(found, sign * side[few])
    return low, high


def ratio_limits(
    top: Floats, bottom: Floats, count: Floats, tail: float, draws: int, seed: int = 0
) -> tuple[Floats, Floats]:
    """Limits of a ratio of scores from 0 to 100, of clusters (..., G) that hold `count` prompts.

    Where few clusters carry what lies beyond it, they are the score test of few.py: r is a limit
    where the mean of `top - r bottom` is just not shown to be other than 0.
    """
    from scipy.special import stdtrit

    low, high, _ = limits(top, bottom, tail, draws, seed)
    ratio = np.asarray(top.sum(-1) / bottom.sum(-1))
    count = np.broadcast_to(count, top.shape)
    residuals = (top - ratio[..., None] * bottom) / count
    # As in `_t`: few large clusters show too little of how clusters differ.
    size = score.effective(count)
    per_value = bottom.sum(-1) / count.sum(-1)
    error = np.sqrt((residuals**2).sum(-1) / (top.shape[-1] - 1) / size) / per_value
    reach = -stdtrit(np.maximum(size - 1, 1), tail) * error
    low = np.array(np.minimum(low, ratio - reach))
    high = np.array(np.maximum(high, ratio + reach))
    for sign, side in ((1.0, low), (-1.0, high)):
        few = score.failing(sign * residuals, count) < _enough(count)
        if few.any():
            counts, inside = count[few], ratio[few]
            tops, bottoms = top[few] / counts, bottom[few] / counts
            outside = np.full(inside.shape, 0.0 if sign > 0 else RATIO_MOST / 100)
            for _ in range(_HALVINGS):
                middle = (inside + outside) / 2
                values = sign * (tops - middle[:, None] * bottoms)
                end = -100 * middle if sign > 0 else np.full(middle.shape, -100.0)
                shown = score.above(values, counts, 0.0, end, tail)
                # What is shown to be beyond the bound leaves the limit on the far side of it.
                outside, inside = np.where(shown, middle, outside), np.where(shown, inside, middle)
            side[few] = sign * np.minimum(sign * outside, sign * side[few])
    return low, high


def _enough(count: Floats) -> Floats:
    """(...,): below how many failing clusters of so many values (..., G) the score test stands."""
    quarter = np.clip(score.effective(count) / 4, SHOWN_FEW, score.FEW)
    found: Floats = np.where(count.max(-1) > 1, quarter, SHOWN_FEW)
    return found


def cluster_totals(groups: ArrayLike, *values: ArrayLike) -> list[Floats]:
    """The sums of each array over each cluster, (G,) each, clusters in sorted order."""
    _, codes = np.unique(np.asarray(groups), return_inverse=True)
    return [np.bincount(codes, np.asarray(one, dtype=float)).astype(float) for one in values]


def ratio_and_error(top: Floats, bottom: Floats) -> tuple[Floats, Floats]:
    """R and its standard error from cluster totals (..., G)."""
    clusters, whole = top.shape[-1], bottom.sum(-1)
    ratio = top.sum(-1) / whole
    residuals = top - ratio[..., None] * bottom
    squares: Floats = (residuals**2).sum(-1) * clusters / (clusters - 1)
    return ratio, np.sqrt(squares) / whole


def limits(
    top: Floats,
    bottom: Floats,
    tail: float,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
    scale: Scale | None = None,
) -> tuple[Floats, Floats, Codes]:
    """Limits of R that each miss with probability `tail`, and the place of their form in FORMS.

    Takes cluster totals (..., G), `bottom` also as (G,) for all. Where almost all clusters are
    equal, the draws have no limit, and without a scale t is left.
    """
    low, high, margin, form = _wider(top, bottom, tail, draws, seed, scale)
    if scale is None:
        return low, high, form
    means, ratio = top / bottom, np.asarray(top.sum(-1) / bottom.sum(-1))
    weights = np.broadcast_to(bottom, means.shape)
    sides = ((1.0, scale.least, scale.few, low), (-1.0, scale.most, scale.few_above, high))
    for sign, end, enough, side in sides:
        few = score.failing(sign * means, weights) < np.maximum(enough, _enough(weights))
        if few.any():
            found = score.limit(sign * means[few], weights[few], sign * end, tail)
            t = sign * ratio[few] - margin[few]
            side[few] = sign * np.minimum(found, t)
            form[few] = FORMS.index(SCORE_FORM)
    return low, high, form


def exceeds(
    top: Floats, bottom: Floats, bound: float, tail: float, draws: int, scale: Scale
) -> Mask:
    """(...,): whether the lower limit is above the bound, without the search for that limit.

    No limit is above t's, so draws are made only where t's is above the bound.
    """
    means = top / bottom
    weights = np.broadcast_to(bottom, means.shape)
    ratio, _, margin = _t(top, bottom, tail, scale)
    found: Mask = np.asarray(ratio - margin > bound)
    few, drawn = np.zeros_like(found), np.zeros_like(found)
    few[found] = score.failing(means[found], weights[found]) < scale.few
    drawn[found] = ~few[found]
    found[few] = score.above(means[few], weights[few], bound, scale.least, tail)
    if drawn.any():
        shared = bottom if bottom.ndim == 1 else bottom[drawn]
        low = _wider(top[drawn], shared, tail, draws, 0, scale)[0]
        found[drawn] = low > bound
    return found


def _t(
    top: Floats, bottom: Floats, tail: float, scale: Scale | None
) -> tuple[Floats, Floats, Floats]:
    """R, its error, and the distance of t's limits from it."""
    from scipy.special import stdtrit

    clusters = top.shape[-1]
    ratio, error = ratio_and_error(top, bottom)
    freedom = np.asarray(float(clusters - 1))
    if scale is not None:
        size = score.effective(bottom)
        freedom = np.maximum(size - 1, 1)
        scatter = ((top / bottom - ratio[..., None]) ** 2).sum(-1) / (clusters - 1)
        error = np.maximum(error, np.sqrt(scatter / size))
    return ratio, error, np.asarray(-stdtrit(freedom, tail) * error)


def _wider(
    top: Floats, bottom: Floats, tail: float, draws: int, seed: int, scale: Scale | None
) -> tuple[Floats, Floats, Floats, Codes]:
    """The wider of t and the studentised bootstrap on each side, t's own reach, and the form."""
    clusters = top.shape[-1]
    ratio, error, margin = _t(top, bottom, tail, scale)
    low, high = np.array(ratio - margin), np.array(ratio + margin)
    form = np.zeros(ratio.shape, dtype=np.intp)
    if clusters in BOOTSTRAP_CLUSTERS:
        residuals = top - ratio[..., None] * bottom
        below, above = _studentised(residuals, bottom, tail, draws, seed)
        if scale is not None and scale.excess:
            more, is_left = _unseen(residuals, bottom, tail, scale.excess)
            below, above = below - np.where(is_left, 0, more), above + np.where(is_left, more, 0)
        drawn = np.isfinite(below) & np.isfinite(above)
        low = np.where(drawn, ratio - np.maximum(np.where(drawn, above, 0) * error, margin), low)
        high = np.where(drawn, ratio + np.maximum(np.where(drawn, -below, 0) * error, margin), high)
        form = np.where(drawn, FORMS.index(BOOTSTRAP_FORM), form)
    return low, high, margin, form


def _studentised(
    residuals: Floats, bottom: Floats, tail: float, draws: int, seed: int
) -> tuple[Floats, Floats]:
    """Quantiles `tail` and 1 - `tail` of (R* - R) / SE* over draws of whole clusters.

    Sums of squares in a draw are expanded, so a draw costs four dot products and no copy.
    """
    # The most extreme draw stands for a tail finer than the draws show.
    place = max(int((draws + 1) * tail + 1e-9) - 1, 0)
    clusters = residuals.shape[-1]
    counts = cluster_draws(clusters, draws, seed).T  # (G, draws)
    whole = bottom @ counts
    with np.errstate(divide="ignore", invalid="ignore"):
        studentised = (residuals @ counts) / whole
        squares, cross = residuals**2 @ counts, (residuals * bottom) @ counts
        # In place, as these are large where many samples are drawn for at once.
        cross *= 2 * studentised
        squares -= cross
        np.multiply(studentised, studentised, out=cross)
        cross *= bottom**2 @ counts
        squares += cross
        # A draw of equal clusters has no spread; rounding must not make one up.
        scale = (residuals**2).sum(-1, keepdims=True)
        equal = squares <= 1e-12 * scale
        np.maximum(squares, _LEAST_SPREAD**2 * scale, out=squares)
        squares[equal] = 0.0
        squares *= clusters / (clusters - 1)
        studentised *= np.abs(whole)
        studentised /= np.sqrt(squares, out=squares)
    ends = place, draws - 1 - place
    studentised.partition(ends, axis=-1)  # NaN comes last
    return studentised[..., ends[0]], studentised[..., ends[1]]


def _unseen(residuals: Floats, bottom: Floats, tail: float, excess: float) -> tuple[Floats, Mask]:
    """What draws lack of the limit on the side of the long tail, in errors; whether that is left.

    The tail probability of the studentised bootstrap errs by z (1 + 2 z^2) / 6 (k - 3/2 g^2) phi(z)
    / G, with skewness g and excess kurtosis k (Hall 1988). A sample that lacks the large losses has
    next to no k, so it is taken to be (3/2 + excess) g^2.
    """
    from scipy.special import ndtri

    z = -ndtri(tail)
    squares, cubes = (residuals**2).mean(-1), (residuals**3).mean(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        skewness = np.where(squares > 0, cubes / squares**1.5, 0.0)
    more = z * (1 + 2 * z**2) / 6 * excess * skewness**2 / score.effective(bottom)
    return more, skewness < 0


@lru_cache(maxsize=2)
def cluster_draws(clusters: int, draws: int, seed: int) -> Floats:
    """How often each cluster is in each bootstrap draw, (draws, G)."""
    rng = np.random.default_rng(seed)
    counts = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=draws)
    found = counts.astype(float)
    found.flags.writeable = False  # shared by all callers of the same draws
    return found


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
    return Interval(value, float(low), float(high), float(known.std()), clusters, PERCENTILE_FORM)


def sums_of(items: Floats, cluster: Codes) -> Floats:
    """(G, P): the items of each cluster added up."""
    size = int(cluster.max()) + 1 if len(cluster) else 0
    columns = [np.bincount(cluster, column, size) for column in items.T]
    return np.array(columns, dtype=float).reshape(items.shape[1], size).T


def draw_sums(sums: Floats, draws: int = DRAWS, seed: int = 0) -> Floats:
    """(draws, P): the sums over each draw of clusters."""
    drawn: Floats = cluster_draws(len(sums), draws, seed) @ sums
    return drawn
