"""What else than quality moves a judge's score: family, length, position; and what is missing.

    score = item + system + judge + b1 self-family + b2 teacher-family + b3 length + b4 position

Items (prompts) are absorbed: demeaning within them gives the coefficients and residuals of the
model with a dummy for each (Frisch-Waugh-Lovell), so thousands of items cost nothing. Self-family
is 1 where judge and system are of one family; it can be told from leniency and quality only with
two judges and two systems (Spiliopoulou et al. 2025, arXiv 2508.06709). Teacher-family is 1 where
the judge is of the family of the teacher that wrote the system's training data.
Length is `Panel.length`, and its b3 is preference of all judges plus
whatever longer answers are worth; what one judge has beyond the panel is in `against_panel`.
Position is 1 where the candidate stood first.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from understudy.evaluation.panel import Panel
from understudy.evaluation.statistics.intervals import (
    CONFIDENCE,
    T_FORM,
    Codes,
    Floats,
    Interval,
    cluster_mean,
)

SCALE = (0.0, 100.0)
_RANK = 1e-8  # a column that the others explain to this share of its length says nothing of its own


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


def bias_model(
    panel: Panel, swapped: Panel | None = None, teachers: Mapping[str, str] | None = None
) -> Fit:
    """b1 to b4, clustered; None where the panel cannot tell (no such pair, or explained by others).

    `swapped` has the same answers judged with the candidate first, `teachers` the family of the
    teacher of each system that had one.
    """
    teachers = teachers or {}
    judges, systems = len(panel.judges), len(panel.systems)
    same = np.equal.outer(np.array(panel.system_families), np.array(panel.judge_families))
    of_teacher = np.array([teachers.get(system, "") for system in panel.systems])
    taught = np.equal.outer(of_teacher, np.array(panel.judge_families))
    panels = [panel] if swapped is None else [panel, swapped]
    scores = np.concatenate([one.means.ravel() for one in panels])
    system = np.tile(np.repeat(panel.system, judges), len(panels))
    judge = np.tile(np.arange(judges), len(panel.system) * len(panels))
    answers = np.tile(np.repeat(np.arange(len(panel.system)), judges), len(panels))
    unknown = np.isnan(panel.length).all()  # then the term says nothing, and the rows stay
    length = np.zeros(len(panel.length)) if unknown else panel.length
    terms = {
        "self_family": same[system, judge].astype(float),
        "teacher_family": taught[system, judge].astype(float),
        "length": length[answers],
        "position": np.repeat(np.arange(len(panels), dtype=float), len(panel.system) * judges),
    }
    dummies = np.concatenate([np.eye(systems)[system], np.eye(judges)[judge]], axis=1)
    return fit(scores, terms, dummies, panel.prompt[answers], panel.cluster[answers])


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
    used, told_apart = _independent(columns, len(terms))
    design = columns[:, used]
    bread = np.linalg.pinv(design.T @ design)
    coefficients = bread @ (design.T @ y)
    scores = design * (y - design @ coefficients)[:, None]
    labels, codes = np.unique(cluster, return_inverse=True)
    sums = np.zeros((len(labels), len(used)))
    np.add.at(sums, codes, scores)
    errors = np.sqrt(np.diagonal(bread @ (sums.T @ sums) @ bread).clip(0))
    places = {column: number for number, column in enumerate(used)}
    found = {
        name: _interval(float(coefficients[place]), float(errors[place]), len(labels))
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


def _independent(columns: Floats, terms: int) -> tuple[list[int], set[int]]:
    """Columns to fit, none explained by the rest, and the terms that no other column explains.

    Of terms that explain one another one is fitted, so that the rest is unbiased, and none is told.
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


def _interval(value: float, error: float, clusters: int) -> Interval:
    if clusters < 2:
        return Interval(value, None, None, None, clusters)
    from scipy.special import stdtrit

    error *= float(np.sqrt(clusters / (clusters - 1)))
    margin = float(stdtrit(clusters - 1, (1 + CONFIDENCE) / 2)) * error
    return Interval(value, value - margin, value + margin, error, clusters, T_FORM)
