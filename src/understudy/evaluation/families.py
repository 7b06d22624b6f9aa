"""P values of a family of comparisons (model x task x judge x size), adjusted for its size.

Holm for claims: the chance of one false claim in the family stays at alpha. Benjamini-Hochberg for
exploration: the share of false finds stays at alpha. A missing p value is no member of the family.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from understudy.evaluation.statistics.intervals import Interval

_Rule = Callable[[NDArray[np.float64]], NDArray[np.float64]]


class Adjusted(NamedTuple):
    """Adjusted p values in the order given (NaN where missing), and the family's size."""

    values: NDArray[np.float64]
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
    return _adjust(p_values, lambda p: np.maximum.accumulate(p * np.arange(len(p), 0, -1)))


def benjamini_hochberg(p_values: ArrayLike) -> Adjusted:
    """Benjamini and Hochberg 1995: the i-th smallest of m times m / i, then made to rise."""

    def step_up(p: NDArray[np.float64]) -> NDArray[np.float64]:
        scaled = p * len(p) / np.arange(1, len(p) + 1)
        return np.minimum.accumulate(scaled[::-1])[::-1]

    return _adjust(p_values, step_up)


def _adjust(p_values: ArrayLike, rule: _Rule) -> Adjusted:
    given = np.asarray(p_values, dtype=float)
    known = np.flatnonzero(~np.isnan(given))
    order = known[np.argsort(given[known], kind="stable")]
    adjusted = np.full(given.shape, np.nan)
    adjusted[order] = np.minimum(rule(given[order]), 1)
    return Adjusted(adjusted, len(known))
