"""How often the 95 % intervals of an evaluation hold the truth in the worlds of worlds.py.

One judge's mean, coverage@50, coverage@70 of the local model, and its ratio to the service. The
truth is what the same estimate is on very many prompts: of what the judge scored, since an interval
over prompts says nothing of what is missing.
"""

from typing import Any

import numpy as np

from support.worlds import Scores, World, draw, grid, totals
from understudy.evaluation import decision
from understudy.evaluation.scores import COVERAGE_AT
from understudy.evaluation.statistics import intervals

TAIL = (1 - intervals.CONFIDENCE) / 2
SHARES = tuple(f"coverage@{cut}" for cut in COVERAGE_AT)
NAMES = ("mean", *SHARES, "÷ service")
ENDS = {"mean": 100.0, **dict.fromkeys(SHARES, 1.0), "÷ service": 10.0}
Sums = tuple[Any, Any, Any]  # (loops, G) each: what is divided by what, and how many values


LEAST, MOST = 0.93, 0.98


def cells() -> list[World]:
    """One answer and verdict, many of both; and what is missing, on 100 prompts and 20 groups."""
    return [
        world
        for world in grid()
        if (world.k == 1) == (world.m == 1)
        and (world.missing == "none" or (world.prompts in ("n100", "g20") and world.k == 1))
    ]


def is_held(world: World, held: float, loops: int) -> bool:
    """Whether a share of so many samples is within the bounds but for chance (2 errors)."""
    chance = 2 * np.sqrt(LEAST * (1 - LEAST) / loops)
    most = 1.0 if len(world.sizes) < decision.MIN_CLUSTERS else MOST
    return bool(LEAST - chance <= held <= most + chance)


def sums(scores: Scores) -> dict[str, Sums]:
    """The sums over clusters that each interval is made of."""
    local, service = scores.local[..., -1], scores.service[..., -1]
    known = ~np.isnan(local)
    ours, theirs = _mean(local), _mean(service)
    both = np.isnan(ours) | np.isnan(theirs)
    total, count = totals(ours, scores.cluster)
    found = {"mean": (total, count, count)}
    trials = totals(known.sum(-1).astype(float), scores.cluster)[0]
    for name, cut in zip(SHARES, COVERAGE_AT, strict=True):
        passed = (np.where(known, local, -1.0) >= cut).sum(-1).astype(float)
        found[name] = totals(passed, scores.cluster)[0], trials, trials
    top, count = totals(np.where(both, np.nan, ours), scores.cluster)
    found["÷ service"] = top, totals(np.where(both, np.nan, theirs), scores.cluster)[0], count
    return found


def _mean(answers: Any) -> Any:
    known = ~np.isnan(answers)
    count = known.sum(-1)
    return np.where(count, np.where(known, answers, 0.0).sum(-1) / np.maximum(count, 1), np.nan)


def truth(world: World) -> dict[str, float]:
    """The estimates on 400,000 clusters or more (errors below a hundredth of an interval)."""
    whole = dict.fromkeys(NAMES, np.zeros(2))
    rng, size = np.random.default_rng((world.seed, 9)), len(world.sizes)
    for _ in range(20):
        found = sums(draw(world, 20_000 // size + 1, rng))
        whole = {name: whole[name] + [one.sum() for one in found[name][:2]] for name in NAMES}
    return {name: float(top / bottom) for name, (top, bottom) in whole.items()}


def coverages(world: World, loops: int) -> dict[str, tuple[float, float, float] | None]:
    """Shares of so many samples: the truth is inside, below and above; None where all are equal."""
    rng, known = np.random.default_rng((world.seed, 2)), truth(world)
    chunk = max(1, min(500, 250_000 // (int(world.sizes.sum()) * world.k * world.judges)))
    misses = {name: np.zeros(2) for name in NAMES}
    done = 0
    while done < loops:
        for name, found in sums(draw(world, min(chunk, loops - done), rng)).items():
            if 0 < known[name] < ENDS[name]:
                low, high = _limits(name, *found)
                misses[name] += (known[name] < low).sum(), (known[name] > high).sum()
        done += min(chunk, loops - done)
    shares = {name: one / done for name, one in misses.items()}
    return {
        name: (1 - sum(one), *one) if 0 < known[name] < ENDS[name] else None
        for name, one in shares.items()
    }


def _limits(name: str, top: Any, bottom: Any, count: Any) -> tuple[Any, Any]:
    """The limits of each sample, over its clusters that have a score."""
    low, high = np.empty(len(top)), np.empty(len(top))
    kept = count > 0
    clusters = kept.sum(-1)
    for size in np.unique(clusters):
        at = clusters == size
        of = [side[at][kept[at]].reshape(-1, size) for side in (top, bottom)]
        if name in SHARES:
            low[at], high[at] = intervals.rate_limits(*of)
        elif name == "mean":
            low[at], high[at], _ = intervals.limits(*of, TAIL, scale=intervals.SCORES)
        else:
            held = count[at][kept[at]].reshape(-1, size)
            low[at], high[at] = intervals.ratio_limits(*of, held, TAIL, intervals.BOOTSTRAP_DRAWS)
    return low, high
