"""Least squares with one absorbed fixed effect and cluster-robust errors, in numpy.

Demeaning everything within the absorbed groups gives the coefficients and residuals of the model
with one dummy per group (Frisch-Waugh-Lovell), so thousands of items cost nothing.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from understudy.evaluation.panel import Codes
from understudy.evaluation.statistics.intervals import CONFIDENCE, T_FORM, Floats, Interval

_RANK = 1e-8  # a column that the others explain to this share of its length says nothing of its own


class Fit(NamedTuple):
    """A coefficient with its interval per term; all None for a term the data cannot tell apart."""

    terms: dict[str, Interval]
    rows: int


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
