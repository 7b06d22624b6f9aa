"""Numbers about raters from arrays of their scores, in points of their own scale."""

import math
from typing import NamedTuple

import numpy as np

from understudy.evaluation.panel import nan_mean
from understudy.evaluation.statistics.agreement import correlation, lin_ccc
from understudy.evaluation.statistics.intervals import (
    DRAWS,
    Codes,
    Floats,
    Interval,
    Mask,
    cluster_mean,
    cluster_rate,
)
from understudy.evaluation.statistics.jackknife import CORRELATION, widest
from understudy.evaluation.statistics.preference import ClusterEstimate

NOTHING = Interval(None, None, None)
TOLERANCE = 0.01  # of the scale, for means that a bridge restores
RELIABLE = 0.9  # wanted of the mean of repeats on one answer
WIDER = 1.05  # the interval of a mean may be this much wider than with endless repeats
_Z = 1.959964
_TOPS = (1, 2, 3, 4, 5, 6, 7, 10, 20, 100)
_SWEEPS, _STILL = 500, 1e-11  # of taking means off in turn
_RARE = 0.001  # share of scores outside the scale that does not make it wider


class ScaleEnds(NamedTuple):
    """From where to where a rater scores, and how many scores are outside."""

    low: float
    top: float
    outside: int

    @property
    def span(self) -> float:
        """The points between its ends."""
        return self.top - self.low

    def __str__(self) -> str:
        return f"{self.low:g}–{self.top:g}"


def scale_ends(
    scores: Floats, top: float | None = None, told: tuple[float, float] | None = None
) -> ScaleEnds | None:
    """The narrowest usual scale that holds all scores but one in a thousand; None without any.

    `top` is what cells say (8/10), `told` what the user says.
    """
    known = scores[~np.isnan(scores)]
    if not len(known):
        return None
    if told is None:
        allowed = int(_RARE * len(known))
        ordered = np.sort(known)
        high, least = float(ordered[len(known) - 1 - allowed]), float(ordered[allowed])
        if top is None:
            top = next((float(one) for one in _TOPS if one >= high), high)
        told = (1.0 if least >= 1 and 1 < top <= 10 else min(0.0, least)), top
    return ScaleEnds(*told, int(((known < told[0]) | (known > told[1])).sum()))


class Heap(NamedTuple):
    """The score that a judge gives most often, and how much of its scale it uses."""

    value: float
    share: Interval
    distinct: int
    effective: float  # exp of the entropy: as many equally frequent values would be as uneven
    ties: float  # the chance that two answers get the same score


def heap(scores: Floats, cluster: Codes) -> Heap | None:
    """`scores` (A, M) of one judge."""
    known = ~np.isnan(scores)
    if not known.any():
        return None
    values, counts = np.unique(scores[known], return_counts=True)
    mode = float(values[counts.argmax()])
    rows = np.nonzero(known)[0]
    shares = counts / counts.sum()
    return Heap(
        value=mode,
        share=cluster_rate(scores[known] == mode, cluster[rows]),
        distinct=len(values),
        effective=float(np.exp(-(shares * np.log(shares)).sum())),
        ties=float((counts * (counts - 1.0)).sum() / max(counts.sum() * (counts.sum() - 1.0), 1.0)),
    )


class Retest(NamedTuple):
    """What repeated verdicts of one judge on the same answers show."""

    icc: Interval  # ICC(1): of the variance of single verdicts, the part between answers
    sd: float  # of repeats on one answer, points
    between: float  # SD of answers, without the noise of repeats
    answers: int
    same: Interval  # share of answers whose first two verdicts are equal
    for_answers: int | None  # repeats whose mean has a reliability of .9
    for_means: int | None  # with which the interval of a mean is at most 5 % wider


def retest(scores: Floats, cluster: Codes, draws: int = DRAWS) -> Retest | None:
    """`scores` (A, M) of one judge; None where no answer has two.

    One-way analysis of variance with unequal numbers of repeats (McGraw and Wong 1996).
    """
    known = ~np.isnan(scores)
    count = known.sum(1)
    keep = count >= 2
    if keep.sum() < 2:
        return None
    scores, known, count, cluster = scores[keep], known[keep], count[keep], cluster[keep]
    values = np.where(known, scores - scores[known].mean(), 0.0)
    total = values.sum(1)
    columns = [np.ones(len(count)), count, count**2, total, total**2 / count, (values**2).sum(1)]
    items = np.stack(columns, axis=1).astype(float)

    def parts(sums: Floats) -> tuple[Floats, Floats, Floats]:
        n, k, k2, total, between, squares = np.moveaxis(sums, -1, 0)
        size = (k - k2 / k) / (n - 1)
        of_answers = (between - total**2 / k) / (n - 1)
        return of_answers, (squares - between) / (k - n), size

    def icc(sums: Floats) -> Floats:
        with np.errstate(divide="ignore", invalid="ignore"):
            of_answers, noise, size = parts(sums)
            found: Floats = (of_answers - noise) / (of_answers + (size - 1) * noise)
        return found

    found = widest(items, _packed(cluster), icc, CORRELATION, draws)
    of_answers, noise, size = parts(items.sum(0))
    between = max(float((of_answers - noise) / size), 0.0)
    two = known[:, :2].all(1)
    return Retest(
        icc=found, sd=math.sqrt(max(float(noise), 0.0)), between=math.sqrt(between),
        answers=len(count),
        same=cluster_rate(scores[two, 0] == scores[two, 1], cluster[two]),
        for_answers=_repeats(RELIABLE / (1 - RELIABLE), float(noise), between),
        for_means=_repeats(1 / (WIDER**2 - 1), float(noise), between),
    )  # fmt: skip


def _repeats(factor: float, noise: float, between: float) -> int | None:
    """The least m with m >= factor * noise / between; None where answers do not differ."""
    return None if between <= 0 else max(1, math.ceil(factor * noise / between - 1e-9))


def reliability(icc: float, repeats: int) -> float:
    """Of the mean of so many repeats, by Spearman and Brown."""
    return repeats * icc / (1 + (repeats - 1) * icc)


class Move(NamedTuple):
    """From one rater to another on the answers that both scored."""

    answers: int
    first: float
    second: float
    shift: Interval  # second - first
    sd: float | None  # of the difference, answer by answer
    rho: Interval
    ccc: Interval
    same: Interval  # share of equal scores
    tau: float | None  # Kendall's tau-b of the systems' means
    systems: int
    of_systems: float | None  # SD of the systems' own shifts, beyond chance
    bridge: (
        int | None
    )  # answers judged by both with which the mean shift is known to 1 % of the scale


def move(
    first: Floats, second: Floats, system: Codes, cluster: Codes, span: float, draws: int = DRAWS
) -> Move | None:
    """`first` and `second` (A,) are means over repeats; None where no two answers have both."""
    both = ~np.isnan(first + second)
    if both.sum() < 2:
        return None
    x, y, system, cluster = first[both], second[both], system[both], cluster[both]
    difference = y - x
    sd = float(difference.std(ddof=1))
    tau, of_systems, systems = _of_systems(x, y, system)
    # The error of a mean of n differences drawn at random is sd / sqrt(n).
    bridge = math.ceil((_Z * sd / (TOLERANCE * span)) ** 2) if span > 0 else None
    return Move(
        len(x), float(x.mean()), float(y.mean()), cluster_mean(difference, cluster), sd,
        correlation(x, y, cluster, draws=draws), lin_ccc(x, y, _packed(cluster), draws),
        cluster_rate(np.isclose(difference, 0), cluster), tau, systems, of_systems, bridge,
    )  # fmt: skip


def _of_systems(x: Floats, y: Floats, system: Codes) -> tuple[float | None, float | None, int]:
    from scipy.stats import kendalltau

    codes = _packed(system)
    count = np.bincount(codes)
    if len(count) < 3 or count.min() < 2:
        return None, None, len(count)
    means = [np.bincount(codes, values) / count for values in (x, y)]
    tau = float(kendalltau(*means).statistic)
    difference = y - x
    shifts = means[1] - means[0]
    noise = np.bincount(codes, (difference - shifts[codes]) ** 2) / (count - 1) / count
    spread = float(shifts.var(ddof=1)) - float(noise.mean())
    return None if math.isnan(tau) else tau, math.sqrt(max(spread, 0.0)), len(count)


class HumanAgreement(NamedTuple):
    """A rater beside the mean of humans on the same answers."""

    answers: int
    rho: Interval
    r: Interval
    bias: Interval  # rater - humans; nothing where they are on different scales
    distance: float | None  # mean of |rater - humans|
    of_systems: float | None  # Spearman's rho of the systems' means
    systems: int


def beside_humans(
    rater: Floats, humans: Floats, system: Codes, cluster: Codes, is_same_scale: bool,
    draws: int = DRAWS,
) -> HumanAgreement | None:  # fmt: skip
    """(A,) each; None where no three answers have both."""
    from scipy.stats import spearmanr

    both = ~np.isnan(rater + humans)
    if both.sum() < 3:
        return None
    x, y, system, cluster = rater[both], humans[both], system[both], cluster[both]
    codes = _packed(system)
    count = np.bincount(codes)
    of_systems = None
    if len(count) > 3:
        means = [np.bincount(codes, values) / count for values in (x, y)]
        if all(one.min() < one.max() for one in means):
            of_systems = float(spearmanr(*means).statistic)
    return HumanAgreement(
        len(x), correlation(x, y, cluster, draws=draws), correlation(x, y, cluster, False, draws),
        cluster_mean(x - y, cluster) if is_same_scale else NOTHING,
        float(np.abs(x - y).mean()) if is_same_scale else None, of_systems, len(count),
    )  # fmt: skip


class RightWins(NamedTuple):
    """How often the right answer of an item gets the highest score."""

    right: Interval  # ties and unscored right answers count as wrong
    tied: float  # share of items where it is highest together with others
    items: int


def choice(
    scores: Floats, asked: Mask, item: Codes, right: Mask, cluster: Codes
) -> RightWins | None:
    """`scores` (A,) of one judge; an item counts where its right answer was to be scored."""
    chosen = np.flatnonzero(right & asked)
    others = np.flatnonzero(~right & asked)
    if not len(chosen) or not len(others):
        return None
    best = np.full(int(item.max()) + 1, -np.inf)
    against = others[~np.isnan(scores[others])]
    np.maximum.at(best, item[against], scores[against])
    chosen = chosen[np.isfinite(best[item[chosen]])]
    if not len(chosen):
        return None
    wins = scores[chosen] > best[item[chosen]]
    tied = scores[chosen] == best[item[chosen]]
    return RightWins(cluster_rate(wins, cluster[chosen]), float(tied.mean()), len(chosen))


def length_slope(
    scores: Floats, lengths: Floats, item: Codes, system: Codes, cluster: Codes
) -> Interval:
    """Points for twice the length, between answers of alike items and systems: an association.

    Ordinary least squares on log2 of the length with an effect of each item and each system, which
    means are taken off in turn until nothing is left of them (Frisch, Waugh and Lovell).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        logs = np.where(lengths > 0, np.log2(lengths), np.nan)
    known = ~np.isnan(scores + logs)
    groups = [_packed(one[known]) for one in (item, system)]
    values = np.stack([scores[known], logs[known]])
    if values.shape[1] < 3:
        return NOTHING
    values -= values.mean(1, keepdims=True)
    for _ in range(_SWEEPS):
        before = values.copy()
        for group in groups:
            count = np.bincount(group)
            values -= np.stack([np.bincount(group, one) / count for one in values])[:, group]
        if np.abs(values - before).max() < _STILL:
            break
    y, x = values
    scale = float(x @ x)
    if scale < _STILL * len(x):
        return NOTHING
    slope = float(x @ y) / scale
    codes = _packed(cluster[known])
    influence = np.bincount(codes, x * (y - slope * x)) / scale
    return ClusterEstimate(slope, influence, len(influence)).interval


def first_mean(scores: Floats, repeats: int) -> Floats:
    """(..., M) → (...): the mean of the first so many verdicts that there are scores of."""
    return nan_mean(scores[..., :repeats])


def _packed(codes: Codes) -> Codes:
    return np.unique(codes, return_inverse=True)[1]
