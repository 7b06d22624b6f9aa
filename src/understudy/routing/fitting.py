"""Fit a predictor that survives a handful of labels.

A learner's deviations from the per-LLM means are trusted as far as cross-validation on the labels
bears them out (the calibration slope, shrunk to 0 where it is not above 0 at 5 %): what all LLMs
share of a deviation apart from what sets one LLM off from the others, since only the second can
route.

The learner is chosen by the second, too. Those whose error in it is within one standard error of
the least (Breiman, Friedman, Olshen and Stone 1984) cannot be told apart by error. Of them those
count whose slope is within one standard error of the largest, since what a slope lacks to 1 is
noise in the predictions, which misroutes even where its size is shrunk. Of these the smoothest is
taken.

The means themselves are shrunk to their common mean (empirical Bayes: Efron and Morris 1975). Where
labels prove nothing the means are left, and the router chooses among single LLMs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from understudy.errors import BadInput
from understudy.routing.features import fit_projection
from understudy.routing.predict import (
    FITS,
    Array,
    Estimate,
    Fit,
    Predictor,
    Queries,
    Trust,
    as_bags,
    candidates,
    features,
    optimistic,
    parts,
    shrink,
)
from understudy.routing.splits import Cut, codes, duplicates, folds
from understudy.routing.value import brier, curve, ece, gain, zero_router

ALPHAS = (-1.0, -0.5, 0.0, 0.5, 1.0)  # as published
_FOLDS = 5
_ENOUGH = 4000  # queries to cross-validate on; more take minutes and change nothing
_Z95 = 1.645  # the normal quantile, one-sided


class Quality(NamedTuple):
    """Cross-validated on the labelled queries, by whole groups; NaN with too few to split."""

    labels: int
    brier: float
    brier_of_means: float  # of predicting each LLM's mean success
    ece: float
    learners: dict[str, float]  # the Brier score of each kind, at its best smoothness
    gains: dict[float, float]  # alpha -> mean accuracy above the zero router


def fit(
    queries: Queries,
    success: Array,
    cost: Array,
    *,
    groups: Sequence[str] | None = None,
    kind: str = "auto",
    alpha: float | None = None,
    seed: int = 0,
) -> tuple[Predictor, Quality]:
    """Fit on n labelled queries; success and cost are (n, M), cost in USD.

    `kind` is a learner, or "auto" for the smoothest of those that cross-validation does not show to
    be worse, or noisier, in what sets one LLM off from the others. `alpha` None chooses it by
    routing value: 0, unless another one gains significantly more (5 %, over the folds).
    `groups` None takes equal texts as one. Raises BadInput for an unknown learner or no label.
    """
    if kind != "auto" and kind not in FITS:
        raise BadInput(f"{kind} is no learner; choose auto, {', '.join(FITS)}")
    if len(success) == 0:
        raise BadInput("no query is labelled, so there is nothing to learn from")
    projection = None
    if not isinstance(queries, np.ndarray):
        if groups is None and all(isinstance(one, str) for one in queries):
            groups = duplicates([str(one) for one in queries])
        queries = as_bags(queries)
        projection = fit_projection(queries, seed=seed)
    dense = features(queries, projection)
    names = groups if groups is not None else [str(row) for row in range(len(success))]
    some = np.sort(np.random.default_rng(seed).permutation(len(success))[:_ENOUGH])
    tried, usd, outcome = dense[some], cost[some], success[some]
    cuts = list(folds(codes([names[row] for row in some]), _FOLDS, seed))
    ways = candidates(kind, len(tried))
    means = shrunk_means(success)
    if not cuts:  # a single query or group: nothing can be proved
        name, way = ways[-1]
        unknown = float("nan")
        learner = way(dense, success, seed)
        predictor = Predictor(name, learner, means, Trust(0, 0), alpha or 0.0, projection)
        return predictor, Quality(len(success), unknown, unknown, unknown, {}, {})
    trials = [_Trial.run(way, tried, outcome, cuts, seed) for _, way in ways]
    scores: dict[str, float] = {}
    for (name, _), trial in zip(ways, trials, strict=True):
        score = brier(trial.estimate.mean, outcome)
        scores[name] = min(score, scores.get(name, score))
    chosen = _smoothest([trial.errors for trial in trials], [trial.contrast for trial in trials])
    (name, way), trial = ways[chosen], trials[chosen]
    gains = {one: trial.gains(one, usd, cuts) for one in ALPHAS}
    predictor = Predictor(
        name,
        way(dense, success, seed),
        means,
        trial.trust,
        _best_alpha(gains) if alpha is None else alpha,
        projection,
    )
    return predictor, Quality(
        len(success),
        brier(trial.estimate.mean, outcome),
        brier(trial.means, outcome),
        ece(trial.estimate.mean, outcome),
        scores,
        {one: float(parts.mean()) for one, parts in gains.items()},
    )


def shrunk_means(success: Array) -> Array:
    """Each LLM's mean success, shrunk to the common mean as far as noise explains their spread."""
    n, llms = success.shape
    means: Array = success.mean(axis=0)
    if n < 2 or llms < 2:
        return means
    noise = float(np.mean(success.var(axis=0, ddof=1)) / n)
    spread = float(means.var(ddof=1))
    keep = max(0.0, 1 - noise / spread) if spread > 0 else 0.0
    shrunk: Array = means.mean() + keep * (means - means.mean())
    return shrunk


class _Slope(NamedTuple):
    """A calibration slope; 1 is a prediction without noise, and above 1 it is too careful."""

    value: float
    error: float  # its standard error

    @property
    def trust(self) -> float:
        """The slope less what of it may be chance, value (1 - (z / t)^2), from 0 to 1.

        The non-negative garrote (Breiman 1995, "Better subset regression using the nonnegative
        garrote"): 0 where the t statistic, value / error, is below its one-sided 5 % limit z.
        """
        if self.value <= _Z95 * self.error:
            return 0.0
        return min(1.0, self.value - (_Z95 * self.error) ** 2 / self.value)


@dataclass(frozen=True)
class _Trial:
    """What a learner predicts for queries that it has not seen, fold by fold."""

    raw: Estimate  # each (n, M)
    means: Array  # (n, M), of the other folds
    success: Array
    common: _Slope
    contrast: _Slope

    @classmethod
    def run(
        cls, way: Fit, dense: Array, success: Array, cuts: Sequence[Cut], seed: int
    ) -> "_Trial":
        mean, sigma, means = (np.full(success.shape, np.nan) for _ in range(3))
        for known, unseen in cuts:
            learner = way(dense[known], success[known], seed)
            mean[unseen], sigma[unseen] = learner(dense[unseen])
            means[unseen] = shrunk_means(success[known])
        pairs = zip(parts(mean - means), parts(success - means), strict=True)
        slopes = [_slope(deviation, outcome) for deviation, outcome in pairs]
        return cls(Estimate(mean, sigma), means, success, *slopes)

    @property
    def trust(self) -> Trust:
        """How far its deviations from the means are believed."""
        return Trust(self.common.trust, self.contrast.trust)

    @property
    def estimate(self) -> Estimate:
        """The shrunk prediction."""
        return shrink(self.raw, self.means, self.trust)

    @property
    def errors(self) -> Array:
        """The squared error of each query in what sets one LLM off from the others, (n,)."""
        found, wanted = parts(self.estimate.mean)[1], parts(self.success)[1]
        error: Array = ((found - wanted) ** 2).sum(axis=1)
        return error

    def gains(self, alpha: float, cost: Array, cuts: Sequence[Cut]) -> Array:
        """Mean accuracy above the zero router in each fold, routing by mean + alpha sigma."""
        p = optimistic(self.estimate, alpha)
        return np.array(
            [
                gain(
                    curve(p[rows], cost[rows], self.success[rows]),
                    zero_router(cost[rows], self.success[rows]),
                )
                for _, rows in cuts
            ]
        )


def _smoothest(errors: Sequence[Array], slopes: Sequence[_Slope]) -> int:
    """The first whose error and slope are within one standard error of the least and the largest.

    Each error is (n,), compared query by query; the smoothest learner comes first.
    """
    best = min(errors, key=lambda one: float(one.mean()))
    more = [one - best for one in errors]
    near = [n for n, one in enumerate(more) if one.mean() <= one.std() / np.sqrt(len(one))]
    most = max((slopes[n] for n in near), key=lambda one: one.value)
    return next(n for n in near if slopes[n].value >= min(most.value, 1) - most.error)


def _slope(deviation: Array, outcome: Array) -> _Slope:
    """The regression of outcomes on predicted deviations, each (n, M) or (n, 1), without intercept.

    The standard error is robust to dependence between the LLMs of one query.
    """
    square = float((deviation**2).sum())
    if square <= 0:
        return _Slope(0, 0)
    slope = float((deviation * outcome).sum()) / square
    residual = ((outcome - slope * deviation) * deviation).sum(axis=1)  # (n,)
    return _Slope(slope, float(np.sqrt((residual**2).sum())) / square)


def _best_alpha(gains: dict[float, Array]) -> float:
    """The alpha of the largest gain, among 0 and those better than 0 by a paired t test."""
    from scipy.special import stdtrit

    best = 0.0
    for alpha, found in gains.items():
        more = found - gains[0.0]
        error = more.std(ddof=1) / np.sqrt(len(more))
        if more.mean() > stdtrit(len(more) - 1, 0.95) * error and found.mean() > gains[best].mean():
            best = alpha
    return best
