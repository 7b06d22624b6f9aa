"""Score against data size, averaged over four families of curves, none of which is known to hold.

    saturating   a - b / (1 + n / h)
    power        a - b / (1 + n / h)^c
    log-linear   a + b log(1 + n / h)
    logistic     a + b / (1 + (m / n)^s)        logistic in log n

Each family has a grid of its bend (h, c, m, s). Given the bend, a curve is linear in its scores at
the smallest and the largest size; these two are fitted by generalised least squares. The errors of
the points are those of the prompts, with what the sizes share (hard prompts), and one more per
training, whose size is unknown: a grid, too. With equal odds of the families, of the bends within
a family, and of the errors per training, the posterior is a mixture of Gaussians (Bayesian model
averaging: Hoeting et al. 1999, Statist. Sci. 14:382), from which curves are drawn. A curve
never falls, and its limit is at most 100.

The band goes from the lowest to the highest limit of the families that the points leave at least
5 % of the odds: that several families agree is no evidence that the next one does.
"""

from typing import NamedTuple

import numpy as np

from understudy.evaluation.statistics.intervals import CONFIDENCE, Codes, Floats

FAMILIES = ("saturating", "power", "log-linear", "logistic")
DRAWS = 2000
TOP = 100.0
_TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
_PLAUSIBLE = 0.05
# Standard deviation between trainings on as many rows, in points.
_TRAININGS = np.array([0.1, 0.3, 1.0, 3.0])


class Bends(NamedTuple):
    """All candidate curves, from 0 at the first size to 1 at the last."""

    family: Codes  # (F,) into FAMILIES
    here: Floats  # (F, S) at the sizes
    there: Floats  # (F, X) at the sizes asked for
    limit: Floats  # (F,) for n without end; 1 for a family without limit


class Posterior(NamedTuple):
    """Curves drawn from the mixture, and what would be measured at the last size asked for."""

    curves: Floats  # (D, X)
    ahead: Floats  # (D,)
    family: Codes  # (D,) into FAMILIES

    @property
    def odds(self) -> dict[str, float]:
        """The share of each family."""
        return {name: float((self.family == n).mean()) for n, name in enumerate(FAMILIES)}

    def band(self, values: Floats) -> tuple[Floats, Floats]:
        """The limits of values (D, …) over the plausible families."""
        ends = []
        for number, odds in enumerate(self.odds.values()):
            if odds >= _PLAUSIBLE:
                ends.append(np.quantile(values[self.family == number], _TAILS, axis=0))
        low, high = np.min(ends, axis=0)[0], np.max(ends, axis=0)[1]
        return low, high


def bends(sizes: Floats, at: Floats) -> Bends:
    """The grid for these sizes; the first may be 0."""
    first, last = sizes[sizes > 0][0], sizes[-1]
    n = np.concatenate([sizes, at, [np.inf]])
    with np.errstate(divide="ignore", invalid="ignore"):
        h = np.geomspace(first / 100, 100 * last, 121)[:, None]
        saturating = 1 - 1 / (1 + n / h)
        h = first * np.array([0.01, 0.3, 3.0])[:, None, None]
        c = np.geomspace(0.03, 2, 41)[:, None]
        power = (1 - (1 + n / h) ** -c).reshape(-1, len(n))
        h = np.geomspace(first / 100, last / 3, 61)[:, None]
        linear = np.log1p(n / h)
        m = np.geomspace(first / 10, 30 * last, 61)[:, None, None]
        s = np.geomspace(0.4, 4, 17)[:, None]
        logistic = (1 / (1 + (m / n) ** s)).reshape(-1, len(n))
    linear[:, -1] = linear[:, len(sizes) - 1]  # no limit to hold below 100
    shapes = (saturating, power, linear, logistic)
    whole = np.concatenate(shapes)
    start = whole[:, :1]
    whole = (whole - start) / (whole[:, len(sizes) - 1 : len(sizes)] - start)
    family = np.repeat(np.arange(len(shapes)), [len(one) for one in shapes])
    return Bends(family, whole[:, : len(sizes)], whole[:, len(sizes) : -1], whole[:, -1])


def posterior(sizes: Floats, values: Floats, drawn: Floats, at: Floats, seed: int = 0) -> Posterior:
    """Draw curves through values (S,), whose errors are those of bootstrap draws (B, S)."""
    grid, rng = bends(sizes, at), np.random.default_rng(seed)
    prompts = np.cov(drawn.T)
    count = np.bincount(grid.family)[grid.family]
    fits = [_least_squares(grid.here, values, prompts, training) for training in _TRAININGS]
    log_odds = np.stack([fit[2] - np.log(count) for fit in fits])  # (T, F)
    odds = np.exp(log_odds - log_odds.max()).ravel()
    pick = rng.choice(odds.size, DRAWS, p=odds / odds.sum())
    training, bend = np.divmod(pick, len(grid.family))
    ends, spread, flat = (np.stack([fit[n] for fit in fits]) for n in (0, 1, 3))
    noise = rng.standard_normal((DRAWS, 2))
    y = ends[training, bend] + np.einsum("dij,dj->di", spread[training, bend], noise)
    falls = y[:, 1] < y[:, 0]  # then the curve that does not is flat
    level = flat[training, 0] + flat[training, 1] * noise[:, 0]
    y = np.where(falls[:, None], level[:, None], y)
    rise = y[:, 1] - y[:, 0]
    keep = y[:, 0] + rise * grid.limit[bend] <= TOP
    if keep.mean() < _PLAUSIBLE:  # at the end of the scale, which cuts the curves off
        keep[:] = True
    y, rise, bend, training = y[keep], rise[keep], bend[keep], training[keep]
    curves = np.clip(y[:, :1] + rise[:, None] * grid.there[bend], 0, TOP)
    # Of a size's own error, the part that it does not share with the other sizes.
    shared = (prompts.sum() - np.trace(prompts)) / (prompts.size - len(prompts))
    own = max(float(np.diagonal(prompts).mean() - shared), 0.0)
    error = np.sqrt(own + _TRAININGS[training] ** 2) * rng.standard_normal(len(curves))
    return Posterior(curves, np.clip(curves[:, -1] + error, 0, TOP), grid.family[bend])


def _least_squares(
    here: Floats, values: Floats, prompts: Floats, training: float
) -> tuple[Floats, Floats, Floats, Floats]:
    """Ends (F, 2), the Cholesky factor of their covariance (F, 2, 2), log odds (F,), flat fit (2,).

    The flat fit is the mean of a curve that neither rises nor falls, and its error.
    """
    errors = prompts + training**2 * np.eye(len(values))
    weight = np.linalg.inv(errors)
    basis = np.stack([1 - here, here], axis=1)  # (F, 2, S)
    weighted = basis @ weight
    covariance = np.linalg.inv(weighted @ basis.swapaxes(1, 2))
    right = weighted @ values
    ends = (covariance @ right[:, :, None])[:, :, 0]
    squares = values @ weight @ values - (ends * right).sum(1)
    log_odds = np.linalg.slogdet(covariance)[1] - np.linalg.slogdet(errors)[1] - squares
    whole = weight.sum()
    flat = np.array([(weight @ values).sum() / whole, 1 / np.sqrt(whole)])
    return ends, np.linalg.cholesky(covariance), 0.5 * log_odds, flat
