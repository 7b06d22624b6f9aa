"""Score against data size: its points, a band around them, and what the next doubling is worth.

A draw takes clusters of prompts with replacement, the same for all sizes, so that what the sizes
share (hard prompts) does not blur how they differ. Where seeds repeat a size, the point is their
mean and its interval is between them. The curves are those of `shapes`.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from understudy.evaluation.scores import COVERAGE_AT
from understudy.evaluation.statistics.intervals import CONFIDENCE, cluster_draws

from . import scores, setups, shapes
from .evaluations import Data, Evaluation, Floats, Names, Setup, judge_name
from .frame import UNCOUNTED, Contamination

DRAWS = 1999
SIZES = 4  # three numbers would fit every curve
_LARGEST = 0.05  # in so many draws the last step may be the largest
_TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


class Curve(NamedTuple):
    """One judge on the models of one name, teacher and setup; S sizes, R seeds."""

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
    setup: Setup = ()
    seeds: tuple[int, ...] = ()
    of_seeds: Floats = np.empty((0, 0))  # (R, S) NaN where a seed lacks a size

    @property
    def is_repeated(self) -> bool:
        """Whether a size has several seeds, and so an interval between them."""
        return bool((~np.isnan(self.of_seeds)).sum(0).max(initial=0) > 1)


class Fit(NamedTuple):
    """The curve through the points, and what is to be expected at twice the largest size."""

    at: Floats  # (X,) sizes
    centre: Floats  # (X,)
    low: Floats
    high: Floats
    odds: dict[str, float]  # by family
    doubling: float  # rows of the next doubling
    expected: tuple[float, float, float]  # score there; the interval is predictive
    ahead: Floats  # (draws,) of it
    is_steepest_last: bool  # the last step is, or may well be, the largest

    def chance(self, bar: float) -> float | None:
        """The probability that the score at twice the largest size reaches the bar.

        None while the last step is the largest: where an S-curve begins, no curve knows the end.
        """
        return None if self.is_steepest_last else float((self.ahead >= bar).mean())


class Series(NamedTuple):
    """The points of one curve."""

    task: str
    model: str
    teacher: str | None
    judge: str
    setup: Setup
    points: list[Evaluation]


def series(data: Data) -> list[Series]:
    """What is a curve each; the model without synthetic rows begins every one that it fits."""
    found: defaultdict[tuple[str, str, str], list[Evaluation]] = defaultdict(list)
    for one in data.evaluations:
        system = one.system
        is_point = system.role == "local" and system.trainer != "none"
        if is_point and system.data_size == system.data_size:
            found[system.task, system.model, judge_name(one)].append(one)
    return [
        Series(task, model, teacher, judge, setup, mine)
        for (task, model, judge), group in found.items()
        for (teacher, setup), mine in _series(group).items()
    ]


def curves(data: Data, metric: str) -> list[Curve]:
    """Every curve, for the mean and each coverage; the seeds of a size are one point."""
    return [
        _curve((*one[:4], metric, statistic), one.points)._replace(setup=one.setup)
        for one in series(data)
        for statistic in ("mean", *(f"coverage@{cut}" for cut in COVERAGE_AT))
    ]


def _series(group: Sequence[Evaluation]) -> dict[tuple[str | None, Setup], list[Evaluation]]:
    """The points of each curve by teacher and setup, in the order of tables."""
    found: dict[tuple[str | None, Setup], list[Evaluation]] = {}
    for one in group:
        if one.system.data_size > 0:
            found.setdefault((one.system.teacher, one.system.setup), []).append(one)
    for one in group:
        if one.system.data_size > 0:
            continue
        at = [key for key in found if setups.fits(one.system.setup, key[1])]
        for key in at or [(None, one.system.setup)]:
            found.setdefault(key, []).append(one)
    return dict(sorted(found.items(), key=lambda pair: pair[0][0] or ""))


def _curve(head: tuple[str, str, str | None, str, str, str], group: Sequence[Evaluation]) -> Curve:
    metric, statistic = head[-2:]
    by_size: defaultdict[float, list[Evaluation]] = defaultdict(list)
    for one in group:
        by_size[one.system.data_size].append(one)
    sizes = sorted(by_size)
    seeds, of_seeds = _of_seeds(group, sizes, metric, statistic)
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
    ends = np.full((2, len(sizes)), np.nan)
    is_known = ~np.isnan(drawn).all(axis=0)  # a grader may not measure this metric
    if len(clusters) >= 2 and is_known.any():
        ends[:, is_known] = np.nanquantile(drawn[:, is_known], _TAILS, axis=0)
    for place, size in enumerate(sizes):
        repeated = of_seeds[~np.isnan(of_seeds[:, place]), place]
        if len(repeated) > 1:
            found = scores.on_scale(scores.between(repeated.tolist()))
            centre[place] = repeated.mean()
        elif len(by_size[size]) == 1:  # then the table's own interval
            found = scores.statistic(by_size[size][0], metric, statistic)
        else:
            continue
        ends[:, place] = [np.nan if end is None else end for end in found[1:3]]
    steps = [_mean_known([one.system.steps for one in by_size[size]]) for size in sizes]
    largest = by_size[sizes[-1]][0].system.contamination
    made = Curve(*head, np.array(sizes), steps, centre, ends[0], ends[1], drawn, largest)
    return made._replace(seeds=seeds, of_seeds=of_seeds)


def _of_seeds(
    group: Sequence[Evaluation], sizes: Sequence[float], metric: str, statistic: str
) -> tuple[tuple[int, ...], Floats]:
    """The seeds, and (R, S): the score of each at every size."""
    seeds = sorted({one.system.seed for one in group if one.system.seed is not None})
    found = np.full((len(seeds), len(sizes)), np.nan)
    for one in group:
        mean = scores.statistic(one, metric, statistic).mean
        if one.system.seed is not None and mean is not None:
            found[seeds.index(one.system.seed), sizes.index(one.system.data_size)] = mean
    return tuple(seeds), found


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
    """The curve with its band, of means; None below four sizes.

    Coverage jumps where the mean passes its cut, and no curve of these families follows it.
    """
    if curve.statistic != "mean" or len(curve.sizes) < SIZES:
        return None
    if np.isnan(curve.drawn).any() or np.isnan(curve.low).any():
        return None
    smallest, doubling = curve.sizes[curve.sizes > 0][0], 2 * curve.sizes[-1]
    at = np.geomspace(smallest, doubling, 100)
    if curve.sizes[0] == 0:
        at = np.concatenate([np.linspace(0, smallest, 20)[:-1], at])
    found = shapes.posterior(curve.sizes, curve.values, curve.drawn, at)
    low, high = found.band(found.curves)
    centre = found.curves.mean(0)
    ends = found.band(found.ahead)
    expected = float(centre[-1]), float(ends[0]), float(ends[1])
    is_steepest_last = _is_steepest_last(curve)
    return Fit(
        at, centre, low, high, found.odds, float(doubling), expected, found.ahead, is_steepest_last
    )


def _is_steepest_last(curve: Curve) -> bool:
    """Whether the last step per doubling is the largest, or is so in too many draws of prompts.

    The step from no synthetic rows to some is left out: it shows what any rows are worth.
    """
    rows = curve.sizes > 0
    doublings = np.diff(np.log2(curve.sizes[rows]))
    steps = np.diff(np.vstack([curve.values, curve.drawn])[:, rows], axis=1) / doublings
    is_last = steps[:, -1] >= steps.max(1)
    return bool(is_last[0] or is_last[1:].mean() > _LARGEST)
