"""How many human labels buy how much power: of a holdout, before anything is paid.

With n of N prompts labelled and a judge that correlates with humans by rho (`gate.rho`), the
prediction-powered difference has

    SE^2 = deff sd^2 ((1 - rho^2) / n + rho^2 / N)

which is what the best linear use of the judge leaves (PPI++, arXiv 2311.01453, section 6), and the
t of n labelled clusters less two. n = N needs no judge; rho = 0 leaves humans alone.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from understudy.config import GateConfig
from understudy.evaluation import looks
from understudy.evaluation.decision import MIN_CLUSTERS, POWER

COUNTS = (25, 50, 75, 100, 150, 200, 300, 500)


class LabelPlan(NamedTuple):
    """What so many labelled prompts (both answers each) can show at the first look."""

    labels: int
    usd: float  # of labels and judges; of labels alone where a judge has no price
    power: float  # to say MIGRATE where there is no difference
    excludes: float  # points: the smallest loss that is excluded with POWER


def label_plans(
    groups: Sequence[str], gate: GateConfig, judging_usd: float, label_usd: float
) -> list[LabelPlan]:
    """Plans of a holdout with these clusters, from COUNTS up to all of its prompts."""
    sizes, prompts = Counter(groups), len(groups)
    if len(sizes) < MIN_CLUSTERS:
        return []
    spread = sum(size**2 for size in sizes.values()) / prompts
    level = looks.level(gate.alpha, 1)
    found = []
    for labels in [*(n for n in COUNTS if n < prompts), prompts]:
        effect = 1 + (min(spread, labels) - 1) * gate.icc
        rest = (1 - gate.rho**2) / labels + gate.rho**2 / prompts
        error = gate.sd * math.sqrt(effect * rest)
        freedom = max(min(labels, len(sizes)) - 2, 1)
        cost = judging_usd + label_usd * labels
        found.append(LabelPlan(labels, cost, *_shows(error, freedom, level, gate.margin)))
    return found


def _shows(error: float, freedom: int, level: float, margin: float) -> tuple[float, float]:
    """The power at no difference, and the loss that is excluded with POWER."""
    from scipy.special import stdtr, stdtrit

    # As calibrated limits are: a new observation's t, for lambda is estimated too.
    reach = -float(stdtrit(freedom, level)) * math.sqrt((freedom + 1) / freedom)
    power = float(stdtr(freedom, margin / error - reach))
    return power, (reach + float(stdtrit(freedom, POWER))) * error
