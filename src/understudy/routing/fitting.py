"""Fit a predictor that survives a handful of labels.

A learner's deviations from the per-LLM means are trusted as far as cross-validation on the labels
proves them (the lower 95 % limit of the calibration slope, from 0 to 1): what all LLMs share of a
deviation apart from what sets one LLM off from the others, since only the second can route. The
means themselves are shrunk to their common mean (empirical Bayes: Efron and Morris 1975). Where
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
    Predictor,
    Queries,
    Trust,
    as_bags,
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
    learners: dict[str, float]  # the Brier score of each candidate
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

    `kind` is a learner or "auto" (the best cross-validated Brier score). `alpha` None chooses it
    by routing value: 0, unless another one gains significantly more (5 %, over the folds).
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
    candidates = list(FITS) if kind == "auto" else [kind]
    means = shrunk_means(success)
    if not cuts:  # a single query or group: nothing can be proved
        learner = FITS[candidates[0]](dense, success, seed)
        unknown = float("nan")
        predictor = Predictor(candidates[0], learner, means, Trust(0, 0), alpha or 0.0, projection)
        return predictor, Quality(len(success), unknown, unknown, unknown, {}, {})
    trials = {one: _Trial.run(one, tried, outcome, cuts, seed) for one in candidates}
    scores = {one: brier(trial.estimate.mean, outcome) for one, trial in trials.items()}
    chosen = min(scores, key=lambda one: scores[one])
    trial = trials[chosen]
    gains = {one: trial.gains(one, usd, cuts) for one in ALPHAS}
    predictor = Predictor(
        chosen,
        FITS[chosen](dense, success, seed),
        means,
        trial.trust,
        _best_alpha(gains) if alpha is None else alpha,
        projection,
    )
    return predictor, Quality(
        len(success),
        scores[chosen],
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


@dataclass(frozen=True)
class _Trial:
    """What a learner predicts for queries that it has not seen, fold by fold."""

    raw: Estimate  # each (n, M)
    means: Array  # (n, M), of the other folds
    success: Array
    trust: Trust

    @classmethod
    def run(
        cls, kind: str, dense: Array, success: Array, cuts: Sequence[Cut], seed: int
    ) -> "_Trial":
        mean, sigma, means = (np.full(success.shape, np.nan) for _ in range(3))
        for known, unseen in cuts:
            learner = FITS[kind](dense[known], success[known], seed)
            mean[unseen], sigma[unseen] = learner(dense[unseen])
            means[unseen] = shrunk_means(success[known])
        pairs = zip(parts(mean - means), parts(success - means), strict=True)
        trust = Trust(*(_slope(deviation, outcome) for deviation, outcome in pairs))
        return cls(Estimate(mean, sigma), means, success, trust)

    @property
    def estimate(self) -> Estimate:
        """The shrunk prediction."""
        return shrink(self.raw, self.means, self.trust)

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


def _slope(deviation: Array, outcome: Array) -> float:
    """The one-sided lower 95 % limit of the regression of outcomes on predicted deviations; 0 to 1.

    Its standard error is robust to dependence between the LLMs of one query.
    """
    square = float((deviation**2).sum())
    if square <= 0:
        return 0.0
    slope = float((deviation * outcome).sum()) / square
    residual = ((outcome - slope * deviation) * deviation).sum(axis=1)  # (n,)
    error = float(np.sqrt((residual**2).sum())) / square
    return float(np.clip(slope - _Z95 * error, 0, 1))


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
