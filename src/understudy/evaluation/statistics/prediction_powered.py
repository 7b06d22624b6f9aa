"""A mean on the humans' scale from a judge's scores of all prompts and humans' scores of some.

    theta = lambda mean(f) + mean_w(y - lambda g)

f is what the judge says of every prompt, g what it says of the very answers that a human scored, y
what the human says, and the second mean is over the labelled prompts, weighed by 1 / (probability
of being labelled). Whatever the judge, the second term takes its bias off, so theta is a mean of
human scores: prediction-powered inference (Angelopoulos et al. 2023, Science 382:669), with the
power tuning of PPI++ (Angelopoulos, Duchi and Zrnic 2023, arXiv 2311.01453, ex. 6.1),

    lambda = cov_w(y, g) / var(f)        kept at 0 or more, so a useless judge is left out

Theirs is of all labels. Where scores are skewed, such a lambda is small just where large losses are
not among the labels, and theta is too high by their third moment / (n var(f)): 200 prompts of
skewness -2 with 50 labels said MIGRATE falsely in .060 at .05. So each labelled cluster gets the
lambda of all others.

Labelled prompts stand in both means, which is the same estimator as theirs of two separate samples
(there lambda is smaller by 1 + n / N and the first mean is over the N others). Each prompt's part
of the error is added up within its cluster before it is squared, as in intervals.py:

    SE^2 = G / (G - 1) sum_c (sum_{i in c} lambda (f_i - mean f) / N + w_i (r_i - theta))^2

with r = y - lambda (g - mean f) and weights that add up to 1. The limits are the widest, on each
side, of t and the studentised cluster bootstrap of intervals.py, and of t with the labelled
clusters' degrees of freedom, less one for lambda. Where few labelled clusters carry the losses,
their part gets the score test of few.py: fifty labels without a failure do not show that there is
none.
"""

from typing import NamedTuple

import numpy as np

from understudy.evaluation.statistics import few as score
from understudy.evaluation.statistics.intervals import (
    BOOTSTRAP_DRAWS,
    DIFFERENCES,
    Codes,
    Floats,
    Interval,
    Mask,
    Scale,
    limits,
)

FORM = "prediction-powered, wider of t and studentised bootstrap"
FEW_FORM = "prediction-powered, with the score test, as few labels carry the losses"
FORMS = (FORM, FEW_FORM)


class Powered(NamedTuple):
    """Estimates (...,) and what each prompt adds to their error, (..., N)."""

    mean: Floats
    tuning: Floats  # lambda: the weight of the judge's word
    influence: Floats  # adds up to 0
    of_judge: Floats  # the part of it that is of the judge's mean
    rectified: Floats  # y - lambda (g - mean f) where there is a label, else 0


def powered(
    judge: Floats,
    human: Floats,
    weight: Floats,
    cluster: Codes,
    shown: Floats | None = None,
    tuning: float | None = None,
    is_apart: bool = False,
) -> Powered:
    """Estimate the mean human score of all prompts (..., N).

    `weight` is 1 / (probability of a label), up to a factor; 0 where there is none. `shown` is g,
    by default f. `is_apart`: labels are of another sample than the one that the mean is of.
    """
    shown = judge if shown is None else shown
    weight = np.broadcast_to(weight, judge.shape)
    labelled = weight > 0
    y, g = np.where(labelled, human, 0.0), np.where(labelled, shown, 0.0)
    of_all = (~labelled if is_apart else np.ones_like(judge)).astype(float)
    share, others = _shares(weight), _shares(of_all)
    mean_f = (others * judge).sum(-1, keepdims=True)
    apart = score.effective(weight) / of_all.sum(-1) if is_apart else np.zeros(judge.shape[:-1])
    scale = judge.var(-1, ddof=1) * (1 + apart)
    whole = _covariance(*((weight * one).sum(-1) for one in (np.ones_like(y), y, g, y * g)))
    lam = np.full(judge.shape[:-1], tuning) if tuning is not None else _tuned(whole, scale)
    own = lam[..., None]
    if tuning is None:
        sums = [_cluster_sums(weight * one, cluster) for one in (np.ones_like(y), y, g, y * g)]
        rest = _covariance(*(one.sum(-1, keepdims=True) - one for one in sums))
        own = _tuned(rest, scale[..., None])[..., np.unique(cluster, return_inverse=True)[1]]
    rectified = y - own * (g - mean_f)
    mean = (share * rectified).sum(-1)
    off = rectified - mean[..., None]
    of_judge = lam[..., None] * others * (judge - mean_f)
    return Powered(mean, lam, of_judge + share * off, of_judge, np.where(labelled, rectified, 0.0))


def _covariance(weight: Floats, y: Floats, g: Floats, product: Floats) -> Floats:
    """From sums over labels; 0 where there are none."""
    known = np.maximum(weight, 1e-300)
    found: Floats = np.where(weight > 1e-12, product / known - y * g / known**2, 0.0)
    return found


def _tuned(covariance: Floats, scale: Floats) -> Floats:
    found: Floats = np.where(scale > 0, np.maximum(covariance, 0) / np.maximum(scale, 1e-300), 0.0)
    return found


def _shares(weight: Floats) -> Floats:
    found: Floats = weight / weight.sum(-1, keepdims=True)
    return found


class PoweredLimits(NamedTuple):
    """PoweredLimits (S,) that each miss with the tail's probability."""

    low: Floats
    high: Floats
    error: Floats
    is_few: Mask  # whether few labelled clusters carry the losses


def powered_limits(
    found: Powered,
    weight: Floats,
    cluster: Codes,
    tail: float,
    draws: int = BOOTSTRAP_DRAWS,
    scale: Scale = DIFFERENCES,
) -> PoweredLimits:
    """The limits of estimates (S,); `weight` is (S, N) or (N,), `cluster` (N,) of 0 to G - 1."""
    from scipy.special import stdtrit

    weight = np.broadcast_to(weight, found.influence.shape)
    size = np.bincount(cluster).astype(float)  # (G,)
    groups = len(size)
    parts = _cluster_sums(found.influence, cluster)  # (S, G)
    error = np.sqrt((parts**2).sum(-1) * groups / (groups - 1))
    top = parts * size.sum() + found.mean[:, None] * size
    low, high, _ = limits(top, size, tail, draws)
    # Two numbers are estimated from the labels: their mean and lambda.
    of_labels = _cluster_sums(weight, cluster)
    freedom = np.maximum(score.effective(of_labels) - 2, 1.0)
    reach = -stdtrit(freedom, tail) * error * np.sqrt((freedom + 1) / freedom)
    low, high = np.minimum(low, found.mean - reach), np.maximum(high, found.mean + reach)
    judges = np.sqrt((_cluster_sums(found.of_judge, cluster) ** 2).sum(-1) * groups / (groups - 1))
    judges *= -stdtrit(groups - 1, tail)
    is_few = np.zeros(len(low), dtype=bool)
    rectified = _cluster_sums(found.rectified * weight, cluster)
    for sample, weights in enumerate(of_labels):
        x, w = rectified[sample][weights > 0], weights[weights > 0]
        if len(x) < 2:
            low[sample], high[sample] = scale.least, scale.most
            continue
        x = x / w
        sides = ((1.0, scale.least, scale.few, low), (-1.0, scale.most, scale.few_above, high))
        for sign, end, enough, side in sides:
            if score.failing(sign * x[None], w[None])[0] < enough:
                own = sign * (x @ w) / w.sum()
                bound = score.limit(sign * x[None], w[None], sign * end, tail)[0]
                least = sign * found.mean[sample] - np.hypot(own - bound, judges[sample])
                side[sample] = sign * min(sign * side[sample], least)
                is_few[sample] |= sign > 0
    return PoweredLimits(low, high, error, is_few)


def powered_interval(
    judge: Floats,
    human: Floats,
    weight: Floats,
    cluster: Codes,
    tail: float,
    shown: Floats | None = None,
    draws: int = BOOTSTRAP_DRAWS,
    scale: Scale = DIFFERENCES,
) -> Interval:
    """The estimate of (N,) with its limits, which end where the scale does; None without labels."""
    if not (weight > 0).any():
        return Interval(None, None, None)
    g = judge if shown is None else shown
    found = powered(judge[None], human[None], weight, cluster, g[None])
    groups = int(cluster.max()) + 1
    mean = float(found.mean[0])
    if groups < 2:
        return Interval(mean, None, None, None, groups)
    low, high, error, is_few = powered_limits(found, weight, cluster, tail, draws, scale)
    ends = max(float(low[0]), scale.least), min(float(high[0]), scale.most)
    return Interval(mean, *ends, float(error[0]), groups, FEW_FORM if is_few[0] else FORM)


def _cluster_sums(values: Floats, cluster: Codes) -> Floats:
    """(..., N) to (..., G)."""
    order = np.argsort(cluster, kind="stable")
    starts = np.flatnonzero(np.diff(cluster[order], prepend=-1))
    found: Floats = np.add.reduceat(values[..., order], starts, axis=-1)
    return found
