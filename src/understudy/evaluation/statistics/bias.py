"""Length and position beside quality, how a judge departs from the panel, and what is missing.

Length is an association: longer answers may be better. Position is measured by swapping the order
of the same answers. Preference for a family is in `preference`.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from understudy.evaluation.panel import Panel
from understudy.evaluation.statistics.intervals import (
    Codes,
    Floats,
    Interval,
    cluster_mean,
    cluster_totals,
)
from understudy.evaluation.statistics.preference import (
    ASSOCIATION,
    MEASURED,
    UNKNOWN,
    ClusterEstimate,
    Effect,
    Finding,
    differ,
    mean,
    tell_apart,
)

SCALE = (0.0, 100.0)


class Fit(NamedTuple):
    """A coefficient with its interval per term; all None for a term the data cannot tell apart."""

    terms: dict[str, Interval]
    rows: int


class AgainstPanel(NamedTuple):
    """How a judge departs from the panel's mean on the same answer: d = a + b length + c level."""

    judge: str
    length: Interval  # points, for an answer whose length is 1 (much longer) instead of 0
    level: Interval  # points per point of the panel's mean: below 0 = spreads less than the panel


class Shift(NamedTuple):
    """One judge under two conditions (order, prompt, scale, successor) on the same answers."""

    judge: str
    mean: Interval  # second - first
    absolute: Interval  # |second - first|: what a mean of zero can hide
    answers: int


class Missing(NamedTuple):
    """Answers without a valid verdict, and what the mean would be at worst and at best."""

    system: str
    judge: str
    answers: int
    missing: int
    low: float  # every missing score 0
    mean: float | None
    high: float  # every missing score 100


def length(panel: Panel) -> Effect:
    """Points for an answer whose length is 1 (much longer) instead of 0, within prompt and system.

    An association: quality and preference cannot be told apart where lengths are not matched.
    """
    if np.isnan(panel.length).all():
        return unknown("the lengths are unknown")
    systems = np.eye(len(panel.systems))[panel.system]

    def slope(scores: Floats) -> Finding:
        terms = {"length": panel.length}
        found = fit(scores, terms, systems, panel.prompt, panel.cluster).terms["length"]
        if found.mean is None:
            return Finding(found, UNKNOWN, "length does not vary within prompts and systems")
        return Finding(found, ASSOCIATION)

    scores = panel.means
    judges = {judge: slope(scores[:, number]) for number, judge in enumerate(panel.judges)}
    return Effect(slope(scores.mean(1)), judges)


def position(panel: Panel, swapped: Panel | None) -> Effect:
    """Points for the candidate that stands first; `swapped` is the same answers in that order."""
    if swapped is None:
        return unknown("the order was not swapped")
    estimates = {}
    for number, judge in enumerate(panel.judges):
        difference = swapped.means[:, number] - panel.means[:, number]
        known = ~np.isnan(difference)
        if known.any():
            value = float(difference[known].mean())
            shares = np.where(known, difference - value, 0.0) / known.sum()
            (influence,) = cluster_totals(panel.cluster, shares)
            clusters = len(np.unique(panel.cluster[known]))
            estimates[judge] = ClusterEstimate(value, influence, clusters)
    if not estimates:
        return unknown("no answer was scored in both orders")
    all_judges = list(estimates.values())
    pooled = Finding(mean(all_judges).interval, MEASURED, differ(all_judges))
    return Effect(pooled, {name: Finding(e.interval, MEASURED) for name, e in estimates.items()})


def unknown(because: str) -> Effect:
    """An effect that these verdicts cannot show."""
    return Effect(Finding(Interval(None, None, None), UNKNOWN, because), {})


def against_panel(panel: Panel) -> list[AgainstPanel]:
    """What length and level add to each judge beyond the panel, answers held fixed."""
    scores = panel.means
    level = scores.mean(1)  # NaN unless all judges scored, and such rows are left out
    found = []
    for number, judge in enumerate(panel.judges):
        terms = {"length": panel.length, "level": level}
        nothing = np.empty((len(level), 0))
        one = fit(scores[:, number] - level, terms, nothing, None, panel.cluster)
        found.append(AgainstPanel(judge, one.terms["length"], one.terms["level"]))
    return found


def shifts(first: Panel, second: Panel) -> list[Shift]:
    """Second minus first of every judge, paired by answer; judges are matched by place.

    A bridge to successors is `shifts(panel.of(judges), panel.of(successors))`.
    """
    difference = second.means - first.means
    return [
        Shift(
            judge,
            _mean(difference[:, number], first),
            _mean(np.abs(difference[:, number]), first),
            int((~np.isnan(difference[:, number])).sum()),
        )
        for number, judge in enumerate(second.judges)
    ]


def _mean(values: Floats, panel: Panel) -> Interval:
    keep = ~np.isnan(values)
    return cluster_mean(values[keep], panel.cluster[keep])


def missing(panel: Panel) -> list[Missing]:
    """Every system under every judge."""
    found, means = [], panel.means
    for code, system in enumerate(panel.systems):
        for number, judge in enumerate(panel.judges):
            scores = means[panel.system == code, number]
            gone = np.isnan(scores)
            low, high = (float(np.where(gone, end, scores).mean()) for end in SCALE)
            mean = None if gone.all() else float(scores[~gone].mean())
            found.append(Missing(system, judge, len(scores), int(gone.sum()), low, mean, high))
    return found


def fit(
    y: Floats, terms: Mapping[str, Floats], nuisance: Floats, absorb: Codes | None, cluster: Codes
) -> Fit:
    """Regress y (N,) on the terms (N,) each, beside nuisance columns (N, P) and absorbed effects.

    Errors are clustered as in `cluster_mean`: sandwich times G / (G - 1), t with G - 1 df. Rows
    with a NaN anywhere are left out. Without `absorb`, an intercept is in.
    """
    columns = np.column_stack([*terms.values(), nuisance])
    keep = ~np.isnan(np.column_stack([y, columns])).any(1)
    y, columns, cluster = y[keep], columns[keep], cluster[keep]
    group = np.zeros(len(y), dtype=np.intp) if absorb is None else absorb[keep]
    if not len(y):
        return Fit(dict.fromkeys(terms, Interval(None, None, None)), 0)
    y, columns = _within(y[:, None], group)[:, 0], _within(columns, group)
    used, told_apart = tell_apart(columns, len(terms))
    design = columns[:, used]
    bread = np.linalg.pinv(design.T @ design)
    coefficients = bread @ (design.T @ y)
    scores = design * (y - design @ coefficients)[:, None]
    labels, codes = np.unique(cluster, return_inverse=True)
    sums = np.zeros((len(labels), len(used)))
    np.add.at(sums, codes, scores)
    influence = sums @ bread
    places = {column: number for number, column in enumerate(used)}
    found = {
        name: ClusterEstimate(float(coefficients[place]), influence[:, place], len(labels)).interval
        if number in told_apart and (place := places.get(number)) is not None
        else Interval(None, None, None)
        for number, name in enumerate(terms)
    }
    return Fit(found, len(y))


def _within(values: Floats, group: Codes) -> Floats:
    """The columns minus their means within each group."""
    count = np.bincount(group).astype(float)
    means = np.stack([np.bincount(group, column) for column in values.T], axis=1)
    inside: Floats = values - (means / np.maximum(count, 1)[:, None])[group]
    return inside
