"""Pass or fail: how a judge confuses them, and the true share of passes behind its word.

    p = (q + specificity - 1) / (sensitivity + specificity - 1)

(Rogan and Gladen 1978, Am. J. Epidemiol. 107:71) with q the share that the judge passes. Its error
has that of q and that of both rates, which are known from the labelled answers only (Lang and
Reiczigel 2014, Prev. Vet. Med. 113:13; for LLM judges arXiv 2511.21140):

    V = (V_q + p^2 V_sensitivity + (1 - p)^2 V_specificity) / (sensitivity + specificity - 1)^2

Unlike a prediction-powered mean it needs no random labels, but both rates must be the same on
labelled answers and on the others.
"""

import math
from typing import NamedTuple

import numpy as np

from understudy.evaluation.statistics.intervals import (
    DRAWS,
    Codes,
    Floats,
    Interval,
    Mask,
    cluster_mean,
    cluster_rate,
)
from understudy.evaluation.statistics.jackknife import CORRELATION, widest

FORM = "Rogan-Gladen, t"
NOTHING = Interval(None, None, None)


class Confusion(NamedTuple):
    """A judge's word beside a human's, on the same answers, as pass or fail."""

    answers: int
    base: float  # share that humans pass
    kappa: Interval  # Cohen's; low by itself where the base rate is near 0 or 1
    sensitivity: Interval  # share of what humans pass that the judge passes
    specificity: Interval  # share of what humans fail that the judge fails


def confusion(judge: Mask, human: Mask, cluster: Codes, draws: int = DRAWS) -> Confusion:
    """`judge`, `human` and `cluster` are (A,) of the labelled answers."""
    both = judge & human
    items = np.stack([np.ones(len(judge)), judge, human, both], axis=1).astype(float)

    def kappa(sums: Floats) -> Floats:
        n, j, h, both = np.moveaxis(sums, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            chance = (j * h + (n - j) * (n - h)) / n**2
            found: Floats = ((n - j - h + 2 * both) / n - chance) / (1 - chance)
        return found

    packed = np.unique(cluster, return_inverse=True)[1]
    return Confusion(
        len(judge), float(human.mean()) if len(human) else 0.0,
        widest(items, packed, kappa, CORRELATION, draws) if len(judge) > 2 else NOTHING,
        cluster_rate(judge[human], cluster[human]), cluster_rate(~judge[~human], cluster[~human]),
    )  # fmt: skip


class PassShare(NamedTuple):
    """The share that humans would pass, its error, and clusters with the rarer kind of label."""

    share: float
    error: float
    fewest: int


def pass_share(judge: Mask, human: Floats, cluster: Codes) -> PassShare | None:
    """Estimate the share of answers (A,) that humans pass; `human` is 1, 0, or NaN unlabelled.

    None where the labels lack passes or failures, or show a judge no better than chance.
    """
    passed, failed = human == 1, human == 0
    if not passed.any() or not failed.any():
        return None
    (q, v_q), (sensitivity, v_se), (wrong, v_sp) = (
        _rate(judge[kind], cluster[kind]) for kind in (np.ones_like(passed), passed, failed)
    )
    span = sensitivity - wrong
    if span <= 0:
        return None
    share = (q - wrong) / span
    error = math.sqrt(v_q + share**2 * v_se + (1 - share) ** 2 * v_sp) / span
    fewest = min(len(np.unique(cluster[kind])) for kind in (passed, failed))
    return PassShare(share, error, fewest)


def rogan_gladen(local: PassShare | None, service: PassShare | None, tail: float) -> Interval:
    """Local - service in points; limits are as if both sides were apart, so they are too wide."""
    from scipy.special import stdtrit

    if local is None or service is None:
        return NOTHING
    mean = 100 * (local.share - service.share)
    error = 100 * math.hypot(local.error, service.error)
    fewest = min(local.fewest, service.fewest)
    reach = -float(stdtrit(max(fewest - 1, 1), tail)) * error
    return Interval(mean, max(mean - reach, -100.0), min(mean + reach, 100.0), error, fewest, FORM)


def _rate(passed: Mask, cluster: Codes) -> tuple[float, float]:
    """A share and its variance: by clusters, and at least that of as many answers and two halves.

    Where all of ten labelled passes were found, a sensitivity of 1 is not without error.
    """
    n = len(passed)
    found = cluster_mean(passed.astype(float), cluster, draws=1)
    smooth = (passed.sum() + 1) / (n + 2)
    return float(passed.mean()), max((found.error or 0.0) ** 2, float(smooth * (1 - smooth) / n))
