"""Do judges give the same scores? Coefficients of agreement in closed form.

All take a matrix of items x judges, NaN = no score, and are functions of sums over items, so that
`jackknife.widest` gives their intervals. ICC and CCC use the items that all judges scored.
"""

from typing import Literal, NamedTuple

import numpy as np

from understudy.evaluation.statistics.intervals import (
    DRAWS,
    Codes,
    Floats,
    Interval,
    cluster_mean,
)
from understudy.evaluation.statistics.jackknife import CORRELATION, widest

Level = Literal["interval", "ordinal"]


class Icc(NamedTuple):
    """Two-way intraclass correlations (McGraw and Wong 1996)."""

    a1: Interval  # ICC(A,1): absolute agreement of one judge
    ak: Interval  # ICC(A,k): of the panel's mean
    c1: Interval  # ICC(C,1): consistency, whatever the judges' leniency


class BlandAltman(NamedTuple):
    """Differences of two judges on the same items (Bland and Altman 1999)."""

    bias: Interval  # mean of first - second
    sd: float | None
    lower: float | None  # bias - 1.96 sd
    upper: float | None
    slope: float | None  # of the difference on the mean: unequal spread, or a ceiling


def krippendorff_alpha(
    scores: Floats, cluster: Codes, level: Level = "interval", draws: int = DRAWS
) -> Interval:
    """Krippendorff's alpha; items with fewer than two scores do not count.

    1 - D_o / D_e with squared differences (Krippendorff 2011, "Computing Krippendorff's
    Alpha-Reliability"). Ordinal alpha is interval alpha of the mid-ranks, which the draws keep.
    """
    paired = np.isnan(scores).sum(1) <= scores.shape[1] - 2
    values = np.where(paired[:, None], scores, np.nan)
    if level == "ordinal":
        values = _mid_ranks(values)
    known = ~np.isnan(values)
    # Far from zero the sums of squares would cancel; alpha does not depend on the origin.
    values = np.where(known, values - (np.nanmean(values) if known.any() else 0.0), 0.0)
    count, total, squares = known.sum(1), values.sum(1), (values**2).sum(1)
    within = np.where(paired, 2 * (count * squares - total**2) / np.maximum(count - 1, 1), 0.0)
    items = np.stack([count, total, squares, within], axis=1).astype(float)
    return widest(items, cluster, _alpha, CORRELATION, draws)


def _alpha(sums: Floats) -> Floats:
    n, total, squares, within = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        alpha: Floats = 1 - (n - 1) * within / (2 * (n * squares - total**2))
    return alpha


def _mid_ranks(values: Floats) -> Floats:
    """How many scores are below each, plus half of those equal to it."""
    known = ~np.isnan(values)
    _, code, count = np.unique(values[known], return_inverse=True, return_counts=True)
    ranks = np.full(values.shape, np.nan)
    ranks[known] = (np.cumsum(count) - count / 2)[code]
    return ranks


def icc(scores: Floats, cluster: Codes, draws: int = DRAWS) -> Icc:
    """ICC(A,1), ICC(A,k) and ICC(C,1) of the two-way mean squares."""
    values, cluster = _complete(scores, cluster)
    one = np.ones((len(values), 1))
    sums = [values, (values**2).sum(1, keepdims=True), values.sum(1, keepdims=True) ** 2]
    items = np.concatenate([one, *sums], axis=1)

    def a1(sums: Floats) -> Floats:
        rows, columns, error, n, k = _mean_squares(sums)
        return (rows - error) / (rows + (k - 1) * error + k / n * (columns - error))

    def ak(sums: Floats) -> Floats:
        rows, columns, error, n, _ = _mean_squares(sums)
        return (rows - error) / (rows + (columns - error) / n)

    def c1(sums: Floats) -> Floats:
        rows, _, error, _, k = _mean_squares(sums)
        return (rows - error) / (rows + (k - 1) * error)

    with np.errstate(divide="ignore", invalid="ignore"):
        return Icc(*(widest(items, cluster, one, CORRELATION, draws) for one in (a1, ak, c1)))


def _mean_squares(sums: Floats) -> tuple[Floats, Floats, Floats, Floats, int]:
    """Mean squares of rows, columns and error, the number of items and of judges."""
    n, columns, squares, rows = sums[..., 0], sums[..., 1:-2], sums[..., -2], sums[..., -1]
    k = columns.shape[-1]
    grand = columns.sum(-1) ** 2 / (n * k)
    of_rows, of_columns = rows / k - grand, (columns**2).sum(-1) / n - grand
    error = squares - grand - of_rows - of_columns
    return of_rows / (n - 1), of_columns / (k - 1), error / ((n - 1) * (k - 1)), n, k


def lin_ccc(first: Floats, second: Floats, cluster: Codes, draws: int = DRAWS) -> Interval:
    """Lin's concordance correlation 2 s_xy / (s_x^2 + s_y^2 + (mean x - mean y)^2) (1989)."""
    values, cluster = _complete(np.stack([first, second], axis=1), cluster)
    x, y = values.T
    items = np.stack([np.ones(len(x)), x, y, x**2 + y**2, x * y], axis=1)

    def ccc(sums: Floats) -> Floats:
        n, x, y, squares, product = np.moveaxis(sums, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = 2 * (n * product - x * y) / (n * squares - 2 * x * y)
        return found

    return widest(items, cluster, ccc, CORRELATION, draws)


def bland_altman(first: Floats, second: Floats, cluster: Codes) -> BlandAltman:
    """Bias with its interval, 95 % limits of agreement, slope of the difference on the mean."""
    both = ~np.isnan(first + second)
    difference, mean = (first - second)[both], ((first + second) / 2)[both]
    bias = cluster_mean(difference, cluster[both])
    if len(difference) < 2 or bias.mean is None:
        return BlandAltman(bias, None, None, None, None)
    sd = float(difference.std(ddof=1))
    centred = mean - mean.mean()
    scale = float(centred @ centred)
    slope = float(centred @ difference) / scale if scale > 0 else None
    return BlandAltman(bias, sd, bias.mean - 1.96 * sd, bias.mean + 1.96 * sd, slope)


def _complete(scores: Floats, cluster: Codes) -> tuple[Floats, Codes]:
    """The items that all judges scored, moved to a mean of zero where that changes nothing."""
    keep = ~np.isnan(scores).any(1)
    kept = scores[keep]
    return kept - (kept.mean() if len(kept) else 0.0), cluster[keep]


def correlation(
    x: Floats, y: Floats, cluster: Codes, is_ranks: bool = True, draws: int = DRAWS
) -> Interval:
    """Spearman's rho, or Pearson's r, of the answers that have both, with its interval.

    Ranks are those among all answers, which the draws keep.
    """
    from scipy.stats import rankdata

    both = ~np.isnan(x + y)
    x, y, cluster = x[both], y[both], cluster[both]
    if len(x) < 3 or x.min() == x.max() or y.min() == y.max():
        return Interval(None, None, None)
    if is_ranks:
        x, y = rankdata(x), rankdata(y)
    x, y = x - x.mean(), y - y.mean()
    items = np.stack([np.ones(len(x)), x, y, x**2, y**2, x * y], axis=1)

    def statistic(sums: Floats) -> Floats:
        n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = (xy - x * y / n) / np.sqrt((xx - x**2 / n) * (yy - y**2 / n))
        return found

    return widest(items, np.unique(cluster, return_inverse=True)[1], statistic, CORRELATION, draws)
