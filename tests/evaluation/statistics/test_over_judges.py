"""The level of `decide --judges random`: judges are drawn anew in every sample."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from understudy.evaluation import decision
from understudy.evaluation.decision import Pairs
from understudy.evaluation.scores import METRICS
from understudy.evaluation.statistics import intervals
from understudy.evaluation.statistics.over_judges import widened

LEVEL, MARGIN = 0.05, 5.0


def drawn(kind: str, loops: int, prompts: int, judges: int, sd: float, rng: Any) -> Any:
    """(loops, prompts, judges): differences whose mean over prompts and judges is -MARGIN.

    `sd` is that of the judges' own means, in points.
    """
    own = sd * rng.standard_normal((loops, 1, judges))
    shape = (loops, prompts, judges)
    if kind == "gaussian":
        shared = 12 * rng.standard_normal((loops, prompts, 1))
        return -MARGIN + own + shared + 9 * rng.standard_normal(shape)
    alike = rng.random(shape) < np.sqrt(0.5)  # verdicts of 0 or 100 that two judges share
    uniform = np.where(alike, rng.random((loops, prompts, 1)), rng.random(shape))
    losses = np.clip(0.1 - own / 100, 0, 1)
    return 100.0 * (uniform < 0.05) - 100.0 * (uniform > 1 - losses)


def migrates(kind: str, judges: int, sd: float, loops: int, prompts: int = 60) -> float:
    """The share of samples in which the lower limit clears the margin."""
    rng = np.random.default_rng((judges, int(10 * sd), prompts))
    found = drawn(kind, loops, prompts, judges, sd, rng)
    panel, means = found.mean(2), found.mean(1)
    scale = decision.SCALE
    low, _, _ = intervals.limits(panel, np.ones_like(panel), LEVEL, 999, 0, scale)
    mean = panel.mean(1)
    return float((mean - widened(mean - low, means, LEVEL) > -MARGIN).mean())


def test_judges_that_differ_widely_migrate_no_more_often_than_they_may() -> None:
    assert migrates("gaussian", judges=2, sd=8, loops=1000) <= 0.06  # .08 by Satterthwaite's t


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gaussian", "0/100"])
@pytest.mark.parametrize("judges", [2, 3, 6])
@pytest.mark.parametrize("sd", [0, 4])
def test_the_level_holds_over_panels(kind: str, judges: int, sd: float) -> None:
    assert migrates(kind, judges, sd, 2000) <= 0.06


def test_both_reaches_are_squared_and_added() -> None:
    prompts = {f"p{n}": float(d) for n, d in enumerate(np.tile([-8.0, 8.0], 50))}
    judges = {name: {p: d + own for p, d in prompts.items()} for name, own in (("a", 1), ("b", -1))}
    pairs: Any = dict.fromkeys(METRICS, Pairs(prompts, judges, prompts, None, 1.0))
    groups = {prompt: prompt for prompt in prompts}
    fixed = decision.decide(pairs, groups).difference
    found = decision.decide(pairs, groups, judges="random")
    assert fixed.low is not None
    reach = np.hypot(fixed.low, stats.t.ppf(0.95, 1) * 1.0)  # SE of two means at +1 and -1
    assert found.difference.low == pytest.approx(-reach)
    assert found.more_prompts is None  # they make no judges
