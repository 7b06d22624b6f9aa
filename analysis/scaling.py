"""Score against data size: a saturating curve, its band, and what the next doubling is worth.

    score(n) = a - b / (1 + n / h)         0 <= a <= 100, b >= 0

a is the score that no amount of rows passes, a - b the score without synthetic rows, and h the
rows that close half of the gap. Given h the curve is linear in a and b, so h is searched on a grid
and all draws are fitted at once. A draw takes clusters of prompts with replacement, the same for
all sizes, so that what the sizes share (hard prompts) does not blur how they differ.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from understudy.evaluation.scores import COVERAGE_AT
from understudy.evaluation.statistics.intervals import CONFIDENCE, cluster_draws

from . import scores
from .evaluations import Data, Evaluation, Floats, Names
from .frame import UNCOUNTED, Contamination

DRAWS = 1999
_HALVES = 121  # candidates for h
_TOP = 100.0
_TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


class Curve(NamedTuple):
    """One judge on the models of one name that learned from one teacher; S sizes."""

    task: str
    model: str
    teacher: str | None
    judge: str
    metric: str
    statistic: str  # "mean" | "coverage@K"
    sizes: Floats  # (S,) rising
    steps: list[float]  # the optimiser's, NaN = not known
    values: Floats  # (S,) 0 to 100
    low: Floats
    high: Floats
    drawn: Floats  # (draws, S)
    contamination: Contamination = UNCOUNTED  # of the largest size


class Fit(NamedTuple):
    """The curve through the points, and what is to be expected at twice the largest size."""

    at: Floats  # (X,) sizes
    centre: Floats  # (X,)
    low: Floats
    high: Floats
    asymptote: tuple[float, float, float]  # with its interval
    doubling: float  # rows of the next doubling
    expected: tuple[float, float, float]  # score there; the interval is predictive
    ahead: Floats  # (draws,) of it

    def chance(self, bar: float) -> float:
        """The probability that the score at twice the largest size reaches the bar."""
        return float((self.ahead >= bar).mean())


def curves(data: Data, metric: str) -> list[Curve]:
    """Every curve, for the mean and each coverage; a size judged under several seeds is one point.

    The model without synthetic rows is the first point of every teacher's curve.
    """
    found: defaultdict[tuple[str, str, str], list[Evaluation]] = defaultdict(list)
    for one in data.evaluations:
        system = one.system
        is_point = system.role == "local" and system.trainer != "none"
        if is_point and system.data_size == system.data_size:
            found[system.task, system.model, scores.judge_name(one)].append(one)
    made = []
    for (task, model, judge), group in found.items():
        teachers = {one.system.teacher for one in group if one.system.data_size > 0} or {None}
        for teacher in sorted(teachers, key=lambda name: name or ""):
            mine = [one for one in group if one.system.teacher in (teacher, None)]
            for statistic in ("mean", *(f"coverage@{cut}" for cut in COVERAGE_AT)):
                head = (task, model, teacher, judge, metric, statistic)
                made.append(_curve(head, mine))
    return made


def _curve(head: tuple[str, str, str | None, str, str, str], group: Sequence[Evaluation]) -> Curve:
    metric, statistic = head[-2:]
    by_size: defaultdict[float, list[Evaluation]] = defaultdict(list)
    for one in group:
        by_size[one.system.data_size].append(one)
    sizes = sorted(by_size)
    # Clusters of all sizes under one numbering, so that a draw takes the same ones everywhere.
    clusters = np.unique(np.concatenate([one.system.cluster for one in group]))
    weights = cluster_draws(len(clusters), DRAWS, 0)
    totals = np.zeros((2, len(sizes), len(clusters)))
    for place, size in enumerate(sizes):
        for one in by_size[size]:
            values, names = _values(one, metric, statistic)
            codes = np.searchsorted(clusters, names)
            totals[0, place] += np.bincount(codes, values, len(clusters))
            totals[1, place] += np.bincount(codes, minlength=len(clusters))
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = (weights @ totals[0].T) / (weights @ totals[1].T)
        centre = totals[0].sum(1) / totals[1].sum(1)
    ends = np.nanquantile(drawn, _TAILS, axis=0)
    if len(clusters) < 2:
        ends = np.full_like(ends, np.nan)
    if all(len(by_size[size]) == 1 for size in sizes):  # then the table's own interval
        table = [scores.statistic(by_size[size][0], metric, statistic) for size in sizes]
        ends = np.array([[np.nan if v is None else v for v in one[1:3]] for one in table]).T
    steps = [_mean_known([one.system.steps for one in by_size[size]]) for size in sizes]
    largest = by_size[sizes[-1]][0].system.contamination
    return Curve(*head, np.array(sizes), steps, centre, ends[0], ends[1], drawn, largest)


def _mean_known(values: Sequence[float]) -> float:
    known = [value for value in values if value == value]
    return sum(known) / len(known) if known else float("nan")


def _values(one: Evaluation, metric: str, statistic: str) -> tuple[Floats, Names]:
    if statistic == "mean":
        prompts = scores.prompt_means(one, metric)
        return prompts.mean, prompts.cluster
    means = scores.answer_means(one, metric)
    keep = ~np.isnan(means)
    cut = float(statistic.partition("@")[2])
    return np.where(means[keep] >= cut, 100.0, 0.0), one.system.cluster[keep]


def fit(curve: Curve) -> Fit | None:
    """The curve with its band, of means; None below four sizes: three numbers would explain all.

    Coverage jumps where the mean passes its cut, and no curve of this form follows it.
    """
    if curve.statistic != "mean" or len(curve.sizes) < 4:
        return None
    if np.isnan(curve.drawn).any() or np.isnan(curve.low).any():
        return None
    largest, smallest = curve.sizes[-1], curve.sizes[curve.sizes > 0][0]
    halves = np.geomspace(smallest / 100, largest * 10, _HALVES)
    doubling = 2 * largest
    at = np.geomspace(smallest, doubling, 100)
    if curve.sizes[0] == 0:
        at = np.concatenate([np.linspace(0, smallest, 20)[:-1], at])
    centre, top, residual = _least_squares(curve.sizes, curve.values[None], halves, at)
    drawn, tops, _ = _least_squares(curve.sizes, curve.drawn, halves, at)
    low, high = np.quantile(drawn, _TAILS, axis=0)
    # What is measured at the next size scatters about the curve as the points did.
    freedom = len(curve.sizes) - 3
    rng = np.random.default_rng(0)
    scatter = rng.standard_t(freedom, DRAWS) * float(np.sqrt(residual[0] / freedom))
    ahead = np.clip(drawn[:, -1] + scatter, 0, _TOP)
    return Fit(
        *(at, centre[0], low, high),
        _with_ends(top[0], tops),
        float(doubling),
        _with_ends(centre[0, -1], ahead),
        ahead,
    )


def _with_ends(value: float, drawn: Floats) -> tuple[float, float, float]:
    low, high = np.quantile(drawn, _TAILS)
    return float(value), float(low), float(high)


def _least_squares(
    sizes: Floats, values: Floats, halves: Floats, at: Floats
) -> tuple[Floats, Floats, Floats]:
    """Curves (D, X), a (D,) and sums of squares (D,) of the best fit to each row of values."""
    best = np.full(len(values), np.inf)
    tops, gaps, half = np.zeros(len(values)), np.zeros(len(values)), np.zeros(len(values))
    for one in halves:
        x = 1 / (1 + sizes / one)
        centred = x - x.mean()
        b = np.clip(-(values @ centred) / (centred @ centred), 0, None)
        a = values.mean(1) + b * x.mean()
        # Above the end of the scale a is the end, and b is fitted alone.
        over = a > _TOP
        b = np.where(over, np.clip(((_TOP - values) @ x) / (x @ x), 0, None), b)
        a = np.minimum(a, _TOP)
        squares = ((values - a[:, None] + b[:, None] * x) ** 2).sum(1)
        better = squares < best
        best = np.where(better, squares, best)
        tops, gaps, half = (
            np.where(better, new, old) for new, old in ((a, tops), (b, gaps), (one, half))
        )
    found = np.clip(tops[:, None] - gaps[:, None] / (1 + at / half[:, None]), 0, _TOP)
    return found, tops, best
