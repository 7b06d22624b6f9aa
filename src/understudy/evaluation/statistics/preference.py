"""Does a judge prefer its own family, or what its family taught? Told once scales are corrected.

Judges use the scale differently: one spreads, one stops at 85. Where the systems of a judge's
family are better or worse than the rest, such a use of the scale looks like a preference. So each
judge j is compared with another judge x through a curve that maps x's scale to j's,

    s_j = f(s_x) + b1 own family + b2 taught by the family + other terms + error

f is a cubic, estimated by instrumental variables: x's scores have noise, which would flatten f, so
the powers of s_x are instrumented by those of a third judge's, s_z, whose noise is another
(two-stage least squares; Hausman et al. 1991, J. Econometrics 50:273, for polynomials). Other terms
are an intercept, the length, and x's own relations to systems: x may prefer, too. An estimate is
the mean over all x and z. Errors are clustered, with t on G - 1 degrees of freedom, G clusters.

A preference is *proved* where the quadratic and the cubic f both exclude 0, at 5 % for all
preferences of the panel together (Holm). It is *not identified* with fewer than three judges,
without a system that neither judge is related to, or where the other judges do not agree on what is
good. What two judges like and the third does not counts as quality: nothing here can tell it apart.
"""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from understudy.evaluation.panel import Panel
from understudy.evaluation.statistics.families import holm, p_value
from understudy.evaluation.statistics.intervals import (
    CONFIDENCE,
    T_FORM,
    Codes,
    Floats,
    Interval,
    Mask,
)

PROVED, OPEN, UNKNOWN = "proved", "not proved", "not identified"
ASSOCIATION, MEASURED = "association", "measured"  # of length, and of position where swapped
TERMS = ("self_family", "teacher_family")
_DEGREES = (2, 3)
_WEAK = 10.0  # F of the instrument below which two-stage least squares is not to be trusted
_RANK = 1e-8  # a column that the others explain to this share of its length says nothing of its own
_NOTHING = Interval(None, None, None)


class Finding(NamedTuple):
    """An effect in points of the judge's own scale, and what may be said of it."""

    value: Interval
    claim: str
    because: str | None = None  # why it is not identified, or what the pooled value hides


class Effect(NamedTuple):
    """The mean over judges, and every judge that has one."""

    pooled: Finding
    judges: dict[str, Finding]


class ClusterEstimate(NamedTuple):
    """An estimate and what each cluster adds to its error."""

    value: float
    influence: Floats  # (G,), 0 for a cluster without an answer
    clusters: int  # with an answer

    @property
    def interval(self) -> Interval:
        """As `cluster_mean` has it: sandwich times G / (G - 1), t with G - 1 df."""
        clusters = self.clusters
        if clusters < 2:
            return Interval(self.value, None, None, None, clusters)
        from scipy.special import stdtrit

        error = float(np.sqrt((self.influence**2).sum() * clusters / (clusters - 1)))
        margin = float(stdtrit(clusters - 1, (1 + CONFIDENCE) / 2)) * error
        low, high = self.value - margin, self.value + margin
        return Interval(self.value, low, high, error, clusters, T_FORM)


def preferences(panel: Panel, teachers: Mapping[str, str] | None = None) -> dict[str, Effect]:
    """Both terms; `teachers` has the family of the teacher of each system that had one."""
    related = _related(panel, teachers or {})  # (2, J, A)
    found: dict[str, dict[str, list[ClusterEstimate] | str]] = {name: {} for name in TERMS}
    for judge in range(len(panel.judges)):
        by_term = _judge(panel, related, judge)
        for name, estimates in zip(TERMS, by_term, strict=True):
            if estimates is not None:
                found[name][panel.judges[judge]] = estimates
    told = {
        (name, judge): estimates
        for name, by_judge in found.items()
        for judge, estimates in by_judge.items()
        if not isinstance(estimates, str)
    }
    for name in TERMS:
        mine = [estimates for (term, _), estimates in told.items() if term == name]
        if mine:
            told[name, ""] = [mean(degree) for degree in zip(*mine, strict=True)]
    worst = [max(p_value(one.interval) for one in estimates) for estimates in told.values()]
    p = dict(zip(told, holm(worst).values, strict=True))

    def finding(name: str, judge: str) -> Finding:
        if (name, judge) not in told:
            reason = found[name].get(judge) or _none(name, found[name])
            return Finding(_NOTHING, UNKNOWN, str(reason))
        claim = PROVED if p[name, judge] <= 1 - CONFIDENCE else OPEN
        hidden = None
        if not judge:
            finals = [one[-1] for (term, of), one in told.items() if term == name and of]
            hidden = differ(finals)
        return Finding(told[name, judge][-1].interval, claim, hidden)

    return {
        name: Effect(finding(name, ""), {judge: finding(name, judge) for judge in found[name]})
        for name in TERMS
    }


def _none(name: str, reasons: Mapping[str, object]) -> str:
    if reasons:
        return str(next(iter(reasons.values())))
    what = "is of a judge's family" if name == TERMS[0] else "was taught by a judge's family"
    return f"no system {what}"


def mean(estimates: tuple[ClusterEstimate, ...] | list[ClusterEstimate]) -> ClusterEstimate:
    """Their mean, whose error knows that they share clusters."""
    influence: Floats = np.mean([one.influence for one in estimates], axis=0)
    value = float(np.mean([one.value for one in estimates]))
    return ClusterEstimate(value, influence, max(one.clusters for one in estimates))


def differ(estimates: list[ClusterEstimate]) -> str | None:
    """What the mean hides: that the judges are not alike (Holm over their distances from it)."""
    if len(estimates) < 2:
        return None
    centre = mean(estimates)
    apart = [
        ClusterEstimate(one.value - centre.value, one.influence - centre.influence, one.clusters)
        for one in estimates
    ]
    if not (holm([p_value(one.interval) for one in apart]).values <= 1 - CONFIDENCE).any():
        return None
    values = [one.value for one in estimates]
    return f"judges differ: from {min(values):+.1f} to {max(values):+.1f} points"


def _related(panel: Panel, teachers: Mapping[str, str]) -> Floats:
    """(2, J, A): 1 where the answer is of the judge's family, or was taught by it."""
    families = np.array(panel.judge_families)
    own = np.array(panel.system_families)[panel.system]
    taught = np.array([teachers.get(system, "") for system in panel.systems])[panel.system]
    return np.stack([families[:, None] == own, families[:, None] == taught]).astype(float)


def _judge(panel: Panel, related: Floats, judge: int) -> list[list[ClusterEstimate] | str | None]:
    """Per term the estimates by degree, the reason why there is none, or None: no such system."""
    is_silent = bool(np.isnan(panel.means[:, judge]).all())
    has = [bool(one.any()) and not is_silent for one in related[:, judge]]
    others = [other for other in range(len(panel.judges)) if other != judge]
    reasons = [f"a scale and a preference cannot be told apart by {_count(len(others) + 1)}"] * 2
    kept: list[list[list[ClusterEstimate]]] = [[], []]
    for x, z in itertools.permutations(others, 2):
        fits = _through(panel, related, (judge, x, z))
        for term, fit in enumerate(fits):
            if isinstance(fit, str):
                reasons[term] = fit
            else:
                kept[term].append(fit)
    return [
        None if not has[term]
        else [mean(degree) for degree in zip(*kept[term], strict=True)] if kept[term]
        else reasons[term]
        for term in range(len(TERMS))
    ]  # fmt: skip


def _count(judges: int) -> str:
    return "one judge" if judges == 1 else f"{judges} judges"


def _through(
    panel: Panel, related: Floats, through: tuple[int, int, int]
) -> list[list[ClusterEstimate] | str]:
    """Both terms of judge j by way of x and z; the estimates by degree, or why there are none."""
    j, x, _ = through
    scores = panel.means[:, through]
    keep: Mask = np.logical_not(np.isnan(scores).any(axis=1))
    length = panel.length if not np.isnan(panel.length).any() else np.zeros(len(panel.length))
    columns = [*related[:, j], np.ones(len(keep)), *related[:, x], length]
    outside = np.stack(columns, axis=1)[keep]
    y, by, instead = scores[keep].T
    if not len(y) or min(by.std(), instead.std()) == 0:
        return ["the other judges give one score to everything"] * 2
    by, instead = ((one - one.mean()) / one.std() for one in (by, instead))
    used, told_apart = tell_apart(outside, len(TERMS))
    place = {column: number for number, column in enumerate(used)}
    cluster = panel.cluster[keep]
    size = int(panel.cluster.max()) + 1
    fits = [
        two_stages(y, outside[:, used], by, instead, degree, cluster, size) for degree in _DEGREES
    ]
    weak = "the other judges do not agree on what is good"
    result: list[list[ClusterEstimate] | str] = []
    for term in range(len(TERMS)):
        if term not in told_apart:
            result.append("no system is left that none of the judges compared is related to")
        elif any(fit is None for fit in fits):
            result.append(weak)
        else:
            result.append([fit[place[term]] for fit in fits if fit is not None])
    return result


def two_stages(
    y: Floats, outside: Floats, x: Floats, z: Floats, degree: int, cluster: Codes, size: int
) -> list[ClusterEstimate] | None:
    """Coefficients of the columns outside (N, P) in y = f(x) + outside, powers of z for those of x.

    None where z says too little about x, or f does not rise over the middle nine tenths of x.
    """
    powers = np.arange(1, degree + 1)
    regressors = np.hstack([outside, x[:, None] ** powers])
    instruments = np.hstack([outside, z[:, None] ** powers])
    # First stage: x on z beside the columns outside.
    first = np.hstack([outside, z[:, None]])
    bread = np.linalg.pinv(first.T @ first)
    slope = bread @ (first.T @ x)
    sums = _sums(first * (x - first @ slope)[:, None], cluster, size) @ bread
    if slope[-1] <= 0 or slope[-1] ** 2 < _WEAK * (sums[:, -1] ** 2).sum():
        return None
    bread = np.linalg.pinv(instruments.T @ regressors)
    coefficients = bread @ (instruments.T @ y)
    ends = np.quantile(x, [0.05, 0.95])[:, None] ** powers @ coefficients[-degree:]
    if ends[1] <= ends[0]:
        return None
    residual = y - regressors @ coefficients
    influence = _sums(instruments * residual[:, None], cluster, size) @ bread.T
    clusters = len(np.unique(cluster))
    return [
        ClusterEstimate(float(coefficients[column]), influence[:, column], clusters)
        for column in range(outside.shape[1])
    ]


def _sums(values: Floats, cluster: Codes, size: int) -> Floats:
    return np.stack([np.bincount(cluster, column, size) for column in values.T], axis=1)


def tell_apart(columns: Floats, terms: int) -> tuple[list[int], set[int]]:
    """Columns to fit, none explained by the rest, and the terms that no other column explains.

    The terms stand first. Of terms that explain one another one is fitted, so that the rest is
    unbiased, and none is told.
    """
    used: list[int] = []
    for number in [*range(terms, columns.shape[1]), *range(terms)]:
        if _left(columns, number, used) > _RANK:
            used.append(number)
    return used, {
        number
        for number in range(terms)
        if _left(columns, number, [n for n in range(columns.shape[1]) if n != number]) > _RANK
    }


def _left(columns: Floats, number: int, others: list[int]) -> float:
    """The share of a column's length that these others do not explain."""
    column = columns[:, number]
    length = float(np.linalg.norm(column))
    if length <= _RANK:
        return 0.0
    if not others:
        return 1.0
    explained = columns[:, others] @ np.linalg.lstsq(columns[:, others], column, rcond=None)[0]
    return float(np.linalg.norm(column - explained)) / length
