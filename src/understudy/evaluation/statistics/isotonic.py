"""A judge's scale bent to the humans': the monotone curve from its scores to theirs.

The curve is isotonic least squares (pool adjacent violators; Barlow et al. 1972), straight between
the scores that were labelled, so it keeps the judge's order and the humans' mean on the labels.
Cross-fitted, no label is predicted by a curve that it drew itself (Chernozhukov et al. 2018), so
the curve can stand for the judge in a prediction-powered mean.

A curve is of one judge, version, wording and scale, on the systems that were labelled. `transport`
says how far it holds on another: there the mean of human - curve must be 0.
"""

from typing import NamedTuple

import numpy as np

from understudy.evaluation.statistics.intervals import (
    CONFIDENCE,
    Codes,
    Floats,
    Interval,
    cluster_mean,
)

_FOLDS = 5


class HumanScale(NamedTuple):
    """From a judge's scores to the humans'; flat beyond the first and the last."""

    scores: Floats  # (P,), rising
    human: Floats  # (P,), not falling

    def __call__(self, scores: Floats) -> Floats:
        """What humans say of answers with these scores."""
        found: Floats = np.interp(scores, self.scores, self.human)
        return found


def curve(judge: Floats, human: Floats, weight: Floats | None = None) -> HumanScale:
    """Fit to the labelled answers (A,); equal scores are one point."""
    from scipy.optimize import isotonic_regression

    weight = np.ones(len(judge)) if weight is None else weight
    points, code = np.unique(judge, return_inverse=True)
    mass = np.bincount(code, weight)
    means = np.bincount(code, weight * human) / mass
    return HumanScale(points, np.asarray(isotonic_regression(means, weights=mass).x, dtype=float))


def cross_fitted(judge: Floats, human: Floats, cluster: Codes) -> Floats:
    """What curves say of every answer (A,); `human` is NaN without a label.

    Labelled clusters are predicted by the curve of the other folds, the rest by the folds' mean.
    """
    labelled = ~np.isnan(human)
    known = np.unique(cluster[labelled])
    folds = min(_FOLDS, len(known))
    if folds < 2:
        return judge
    order = np.random.default_rng(0).permutation(len(known))
    fold = np.full(int(cluster.max()) + 1, -1)
    fold[known] = order % folds
    of = fold[cluster]
    said = np.array([
        curve(judge[rest], human[rest])(judge)
        for number in range(folds)
        if (rest := labelled & (of != number)).any()
    ])  # fmt: skip
    found: Floats = said.mean(0)
    for number in range(folds):
        found[of == number] = said[number][of == number]
    return found


class Transport(NamedTuple):
    """How far a curve holds elsewhere."""

    off: Interval  # mean of human - curve, on the humans' scale
    holds: bool  # whether 0 is inside

    @property
    def within(self) -> float | None:
        """By how much it can be off, at 95 %."""
        ends = (self.off.low, self.off.high)
        return None if None in ends else max(abs(end) for end in ends if end is not None)


def transport(
    judge: Floats, human: Floats, cluster: Codes, probe_judge: Floats, probe_human: Floats,
    probe_cluster: Codes,
) -> Transport:  # fmt: skip
    """Fit on the labelled answers of one kind, and test on the labelled answers of another.

    The error is that of the probe's mean and that of the curve's own.
    """
    from scipy.special import stdtrit

    fitted = curve(judge, human)
    probe = cluster_mean(probe_human - fitted(probe_judge), probe_cluster, draws=1)
    own = cluster_mean(human - cross_fitted(judge, human, cluster), cluster, draws=1)
    if probe.mean is None or probe.error is None or own.error is None:
        return Transport(probe._replace(low=None, high=None), False)
    error = float(np.hypot(probe.error, own.error))
    reach = -float(stdtrit(probe.clusters - 1, (1 - CONFIDENCE) / 2)) * error
    off = Interval(probe.mean, probe.mean - reach, probe.mean + reach, error, probe.clusters, "t")
    return Transport(off, probe.mean - reach <= 0 <= probe.mean + reach)
