"""How a judge uses the scale: leniency, spread, heaping, the ceiling; does it repeat itself?

Everything relative is relative to the panel: the mean of all judges on the answers all scored.
"""

from typing import NamedTuple

import numpy as np

from understudy.evaluation.panel import Panel
from understudy.evaluation.statistics.agreement import krippendorff_alpha
from understudy.evaluation.statistics.intervals import (
    DRAWS,
    Floats,
    Interval,
    Mask,
    cluster_mean,
    cluster_ratio,
)
from understudy.evaluation.statistics.jackknife import SPREAD, widest

MULTIPLES_OF_5 = 21 / 101  # their share of the whole numbers 0 to 100


class ScaleUse(NamedTuple):
    """One judge; shares are from 0 to 1, the rest is in points."""

    judge: str
    verdicts: int
    unscored: int  # answers without a valid verdict
    mean: Interval
    leniency: Interval  # its mean minus the panel's
    spread: Interval  # SD of its scores over answers
    heaping: Interval  # share of verdicts on multiples of 5
    heaping_index: float | None  # 0 = as often as whole numbers fall there, 1 = all
    ceiling: Interval  # share of verdicts at 100
    top: float | None  # the highest score it gave
    at_top: Interval  # share of verdicts there
    distinct: int  # different values given
    retest_sd: Interval  # SD of repeated verdicts on the same answer
    retest_alpha: Interval  # Krippendorff's alpha of its repeats


def scale_use(panel: Panel, draws: int = DRAWS) -> list[ScaleUse]:
    """One entry per judge."""
    scores = panel.means
    deviation = scores - scores.mean(1, keepdims=True)  # NaN unless all judges scored
    return [_one(panel, number, scores, deviation, draws) for number in range(len(panel.judges))]


def _one(panel: Panel, number: int, means: Floats, deviation: Floats, draws: int) -> ScaleUse:
    verdicts, cluster = panel.scores[:, number], panel.cluster  # (A, M)
    known = ~np.isnan(verdicts)
    count = known.sum(1)

    def share(hits: Mask) -> Interval:
        return _within(cluster_ratio((hits & known).sum(1), count, cluster), 1.0)

    def mean(values: Floats) -> Interval:
        keep = ~np.isnan(values)
        return cluster_mean(values[keep], cluster[keep])

    heaping = share(verdicts % 5 == 0)
    top = float(verdicts[known].max()) if known.any() else None
    return ScaleUse(
        judge=panel.judges[number],
        verdicts=int(count.sum()),
        unscored=int((count == 0).sum()),
        mean=mean(means[:, number]),
        leniency=mean(deviation[:, number]),
        spread=_spread(means[:, number], panel, draws),
        heaping=heaping,
        heaping_index=(
            None if heaping.mean is None else (heaping.mean - MULTIPLES_OF_5) / (1 - MULTIPLES_OF_5)
        ),
        ceiling=share(verdicts == 100),
        top=top,
        at_top=share(verdicts == top),
        distinct=len(np.unique(verdicts[known])),
        retest_sd=_retest(verdicts, known, panel),
        retest_alpha=krippendorff_alpha(verdicts, cluster, draws=draws),
    )


def _spread(values: Floats, panel: Panel, draws: int) -> Interval:
    keep = ~np.isnan(values)
    values = values[keep] - (values[keep].mean() if keep.any() else 0.0)
    items = np.stack([np.ones(len(values)), values, values**2], axis=1)

    def sd(sums: Floats) -> Floats:
        n, total, squares = np.moveaxis(sums, -1, 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            found: Floats = np.sqrt(np.maximum(squares - total**2 / n, 0) / (n - 1))
        return found

    return widest(items, panel.cluster[keep], sd, SPREAD, draws)


def _retest(verdicts: Floats, known: Mask, panel: Panel) -> Interval:
    """The root of the pooled variance within answers, and of its limits."""
    count = known.sum(1)
    values = np.where(known, verdicts, 0.0)
    centre = values.sum(1) / np.maximum(count, 1)
    squares = np.where(known, (verdicts - centre[:, None]) ** 2, 0.0).sum(1)
    found = _within(cluster_ratio(squares, np.maximum(count - 1, 0), panel.cluster), np.inf)
    mean, low, high = (None if end is None else float(np.sqrt(end)) for end in found[:3])
    return Interval(mean, low, high, None, found.clusters, found.form)


def _within(found: Interval, most: float) -> Interval:
    """Limits that end where the scale does."""
    if found.low is None or found.high is None:
        return found
    return found._replace(low=max(found.low, 0.0), high=min(found.high, most))
