"""Would another judge rank the systems alike, and how many judges is a panel worth?"""

import itertools
from typing import NamedTuple

import numpy as np

from understudy.evaluation.panel import Panel
from understudy.evaluation.statistics.intervals import (
    DRAWS,
    Floats,
    Interval,
    draw_sums,
    interval,
    sums_of,
)
from understudy.evaluation.statistics.jackknife import CORRELATION, widest


class Ranking(NamedTuple):
    """Systems ranked by their mean, judge by judge; None with fewer than two systems or judges."""

    means: dict[str, dict[str, float | None]]  # judge -> system -> mean
    tau_b: dict[str, Interval]  # "judge / judge" -> Kendall's tau-b
    same_best: float | None  # share of bootstrap draws in which all judges have the same best
    same_order: float | None  # and in which they have the same order


def ranking(panel: Panel, draws: int = DRAWS) -> Ranking:
    """Kendall's tau-b of the systems' means between judges, over draws of clusters."""
    judges, systems = len(panel.judges), len(panel.systems)
    scores = panel.means
    of = panel.system[:, None] == np.arange(systems)  # (A, S)
    known = ~np.isnan(scores)
    hits = (known[:, :, None] & of[:, None, :]).reshape(len(scores), -1)
    values = np.repeat(np.where(known, scores, 0.0), systems, axis=1) * hits
    sums = sums_of(np.concatenate([values, hits], axis=1), panel.cluster)

    def means(sums: Floats) -> Floats:
        """(..., J, S) of sums (..., 2 J S)."""
        total, count = np.split(sums, 2, axis=-1)
        with np.errstate(invalid="ignore"):
            return (total / count).reshape(*sums.shape[:-1], judges, systems)

    found = means(sums.sum(0))
    table = {
        judge: {
            system: None if np.isnan(mean) else float(mean)
            for system, mean in zip(panel.systems, row, strict=True)
        }
        for judge, row in zip(panel.judges, found, strict=True)
    }
    if judges < 2 or systems < 2 or np.isnan(found).any():
        return Ranking(table, {}, None, None)
    drawn = means(draw_sums(sums, draws))  # (draws, J, S)
    point, sampled = _signs(found), _signs(drawn)
    taus = {
        f"{panel.judges[a]} / {panel.judges[b]}": interval(
            float(_tau_b(point, a, b)), _tau_b(sampled, a, b), len(sums)
        )
        for a, b in itertools.combinations(range(judges), 2)
    }
    best = drawn.argmax(-1)  # NaN, a draw without a system, counts as the best of it
    same_best = (best == best[:, :1]).all(1).mean()
    same_order = (sampled == sampled[:, :1]).all((1, 2)).mean()
    return Ranking(table, taus, float(same_best), float(same_order))


def _signs(means: Floats) -> Floats:
    """(..., J, pairs of systems): which of the two is better, for every judge."""
    first, second = np.triu_indices(means.shape[-1], 1)
    return np.sign(means[..., first] - means[..., second])


def _tau_b(signs: Floats, a: int, b: int) -> Floats:
    """Concordant minus discordant pairs over the geometric mean of those untied (Kendall 1945)."""
    first, second = signs[..., a, :], signs[..., b, :]
    untied = (first**2).sum(-1) * (second**2).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        tau: Floats = (first * second).sum(-1) / np.sqrt(untied)
    return tau


class EffectiveJudges(NamedTuple):
    """Kish's n_eff = k / (1 + (k - 1) rho) with rho the mean correlation of the judges' errors.

    Without a known truth the errors are unknown. Scores share the truth beside the errors, so they
    correlate at least as much, and their correlation within a system gives a lower bound.
    """

    value: Interval
    correlation: float | None
    is_bound: bool


def effective_judges(panel: Panel, draws: int = DRAWS) -> EffectiveJudges:
    """How many independent judges the panel is worth, at most its number."""
    scores, k = panel.means, len(panel.judges)
    is_bound = bool(np.isnan(panel.truth).all())
    errors = scores if is_bound else scores - panel.truth[:, None]
    keep = ~np.isnan(errors).any(1)
    errors, system, cluster = errors[keep], panel.system[keep], panel.cluster[keep]
    if k < 2 or len(errors) < 2:
        return EffectiveJudges(Interval(None, None, None), None, is_bound)
    if is_bound:
        for one in np.unique(system):
            errors[system == one] -= errors[system == one].mean(0)
    errors = errors - errors.mean(0)
    products = errors[:, :, None] * errors[:, None, :]
    items = np.concatenate([np.ones((len(errors), 1)), errors, products.reshape(-1, k * k)], axis=1)

    def rho(sums: Floats) -> Floats:
        n, total = sums[..., :1, None], sums[..., 1 : k + 1]
        with np.errstate(divide="ignore", invalid="ignore"):  # a draw may hold no item at all
            covariance = sums[..., k + 1 :].reshape(*sums.shape[:-1], k, k) / n
            covariance -= total[..., :, None] * total[..., None, :] / n**2
            sd = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
            correlation = covariance / (sd[..., :, None] * sd[..., None, :])
        first, second = np.triu_indices(k, 1)
        mean: Floats = correlation[..., first, second].mean(-1)
        return mean

    def kish(correlation: float) -> float:
        return float(k / (1 + (k - 1) * max(correlation, 0.0)))

    found = widest(items, cluster, rho, CORRELATION, draws)
    if found.mean is None:
        return EffectiveJudges(found, None, is_bound)
    if found.low is None or found.high is None:
        value = found._replace(mean=kish(found.mean))
    else:  # the more alike their errors, the fewer they are
        ends = kish(found.high), kish(found.low)
        value = Interval(kish(found.mean), *ends, None, found.clusters, found.form)
    return EffectiveJudges(value, found.mean, is_bound)
