"""Worlds at a known true difference local - service, as arrays: what a decision has to survive.

    values   gaussian: SD 15 · skew: minus an exponential, SD 15, skewness -2 · ties: 60 % of the
             prompts are 100 on both sides, the rest lose 12.5 on average · perfect: 0/100 scores,
             the service is always right · one, two, ten: 0/100 scores, so many per cent of the
             prompts are right by the local model alone, and as many and the loss by the service
    prompts  n50: each its own cluster · g20: 20 groups of 10 · z40: 40 groups whose sizes fall like
             1 / rank (Zipf), 400 prompts
    missing  none · some: 5 % of the bad answers (below 70) of both sides · local: 30 % of the local
             model's bad answers · judge: one of three judges is silent on half of the prompts

A child (prompt of a group, answer of a prompt, verdict on an answer) has the marginal law of its
parent and correlates with its siblings: 0.5 in a group, 0.5 in a prompt, 0.8 in an answer. Gaussian
values are sums of shares; all others copy the parent with probability sqrt(correlation), so the
mean and the law of one verdict are the same in all worlds of one kind.
"""

import zlib
from typing import Any, NamedTuple

import numpy as np

from understudy.evaluation import decision
from understudy.evaluation.statistics import intervals

MARGIN = 5.0
SHARES = {"perfect": 0.0, "one": 0.01, "two": 0.02, "ten": 0.10}
VALUES = ("gaussian", "skew", "ties", *SHARES)
PROMPTS = (
    *("n50", "n60", "n100", "n200", "n400"),
    *("g6", "g10", "g20", "g40", "z20", "z40"),
)
MISSING = ("none", "some", "local", "judge")
BAD = 70.0
SERVICE = {"gaussian": 75.0, "skew": 90.0}  # else 100: where it is right
GROUP, PROMPT, ANSWER = 0.5, 0.5, 0.8


class World(NamedTuple):
    """One cell of the grid."""

    values: str
    prompts: str
    k: int = 1
    m: int = 1
    missing: str = "none"

    @property
    def name(self) -> str:
        return f"{self.values}-{self.prompts}-k{self.k}-m{self.m}-{self.missing}"

    @property
    def seed(self) -> int:
        return zlib.crc32(self.name.encode())

    @property
    def sizes(self) -> Any:
        """Prompts of each cluster, (G,)."""
        kind, count = self.prompts[0], int(self.prompts[1:])
        if kind == "z":
            shares = 1 / np.arange(1, count + 1)
            return np.maximum(np.rint(10 * count * shares / shares.sum()), 1).astype(int)
        return np.full(count, 10 if kind == "g" else 1)


class Scores(NamedTuple):
    """What judges said, (loops, prompts, K, judges) each; NaN where a score is missing."""

    local: Any
    service: Any
    cluster: Any  # (prompts,)


def grid() -> list[World]:
    """All cells."""
    return [
        World(values, prompts, k, m, missing)
        for values in VALUES
        for prompts in PROMPTS
        for k in (1, 4)
        for m in (1, 10)
        for missing in MISSING
    ]


def draw(world: World, loops: int, rng: Any, mean: float = -MARGIN) -> Scores:
    """So many samples of the world whose true difference is `mean`."""
    sizes = world.sizes
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    judges = 3 if world.missing == "judge" else 1
    rows = (loops, len(cluster))
    found = _fresh(world, (loops, len(sizes)), rng, mean)[:, cluster]
    if len(cluster) > len(sizes):
        found = _children(world, found, rows, GROUP, rng, mean)
    found = found[..., None]
    if world.k > 1:
        found = _children(world, found, (*rows, world.k), PROMPT, rng, mean)
    found = found[..., None]
    if world.m * judges > 1:
        shape = (*rows, world.k, judges)
        said = [_children(world, found, shape, ANSWER, rng, mean) for _ in range(world.m)]
        sides = [_sides(world, one) for one in said]
        local, service = (sum(side) / world.m for side in zip(*sides, strict=True))
    else:
        local, service = _sides(world, found)
    return Scores(*_lose(world, local, service, rng), cluster)


def _fresh(world: World, shape: Any, rng: Any, mean: float) -> Any:
    """Differences of one verdict, drawn anew."""
    if world.values == "gaussian":
        return mean + 15 * rng.standard_normal(shape)
    if world.values == "skew":
        return mean + 15 * (1 - rng.standard_exponential(shape))
    uniform = rng.random(shape)
    if world.values == "ties":
        return np.where(uniform < 0.6, 0.0, mean / 0.4 * rng.standard_exponential(shape))
    wins = SHARES[world.values]
    losses = wins - mean / 100
    return 100.0 * (uniform < wins) - 100.0 * (uniform > 1 - losses)


def _children(
    world: World, parent: Any, shape: Any, correlation: float, rng: Any, mean: float
) -> Any:
    fresh = _fresh(world, shape, rng, mean)
    if world.values == "gaussian":
        share = np.sqrt(correlation) * (parent - mean)
        return mean + share + np.sqrt(1 - correlation) * (fresh - mean)
    return np.where(rng.random(shape) < np.sqrt(correlation), parent, fresh)


def _sides(world: World, difference: Any) -> tuple[Any, Any]:
    """Scores of local model and service with this difference."""
    if world.values in SERVICE:
        service = np.full(difference.shape, SERVICE[world.values])
        return service + difference, service
    return 100 + np.minimum(difference, 0), 100 - np.maximum(difference, 0)


def _lose(world: World, local: Any, service: Any, rng: Any) -> tuple[Any, Any]:
    """Take the scores out that this world does not show."""
    if world.missing == "judge":
        silent = np.zeros(local.shape, bool)
        silent[..., -1] = rng.random(local.shape[:2])[..., None] < 0.5
        return np.where(silent, np.nan, local), np.where(silent, np.nan, service)
    share = {"none": 0.0, "some": 0.05, "local": 0.3}[world.missing]
    if share:
        gone = (local < BAD) & (rng.random(local.shape) < share)
        local = np.where(gone, np.nan, local)
    if world.missing == "some":
        gone = (service < BAD) & (rng.random(service.shape) < share)
        service = np.where(gone, np.nan, service)
    return local, service


def differences(scores: Scores) -> tuple[Any, Any]:
    """(loops, prompts): local - service over what is scored, and with what is missing at worst.

    As `decision.pair` makes them: samples are averaged within a judge, then judges that scored both
    sides; a prompt that no judge scored on both is NaN in the first.
    """
    local, service = (_known_mean(side, -2) for side in scores[:2])
    panel = _known_mean(local - service, -1)
    worst = np.where(np.isnan(scores.local), 0.0, scores.local)
    worst = worst - np.where(np.isnan(scores.service), 100.0, scores.service)
    return panel, worst.mean((-2, -1))


def _known_mean(values: Any, axis: int) -> Any:
    known = ~np.isnan(values)
    count = known.sum(axis)
    total = np.where(known, values, 0.0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def totals(values: Any, cluster: Any) -> tuple[Any, Any]:
    """(loops, G): sums over each cluster, and how many values are known; NaN counts as neither."""
    starts = np.flatnonzero(np.diff(cluster, prepend=-1))
    known = ~np.isnan(values)
    return (
        np.add.reduceat(np.where(known, values, 0.0), starts, axis=-1),
        np.add.reduceat(known.astype(float), starts, axis=-1),
    )


DRAWS = 1999  # of the bootstrap; a decision has 9,999, and the level is the same to .002


def migrates(
    world: World, loops: int, mean: float = -MARGIN, level: float = 0.05, seed: int = 0
) -> int:
    """How many of so many samples say MIGRATE at this level: `decide`'s rule, on arrays."""
    if len(world.sizes) < decision.MIN_CLUSTERS or world.sizes.sum() < decision.MIN_PROMPTS:
        return 0
    rng = np.random.default_rng((world.seed, seed))
    chunk = max(1, min(loops, 1_000_000 // (int(world.sizes.sum()) * world.k)))
    said = 0
    for start in range(0, loops, chunk):
        scores = draw(world, min(chunk, loops - start), rng, mean)
        said += int(yes(scores, level).sum())
    return said


def yes(scores: Scores, level: float, draws: int = DRAWS) -> Any:
    """(loops,): whether both the mean and the mean at worst are shown to be above the margin."""
    panel, worst = (totals(one, scores.cluster) for one in differences(scores))
    found = intervals.exceeds(*worst, -MARGIN, level, draws, decision.SCALE)
    # What is complete needs no second test; a cluster without any score leaves the mean.
    left = found & (np.abs(panel[0] - worst[0]).sum(-1) > 1e-9)
    for loop in np.flatnonzero(left):
        keep = panel[1][loop] > 0
        one = (side[loop : loop + 1, keep] for side in panel)
        found[loop] = intervals.exceeds(*one, -MARGIN, level, draws, decision.SCALE)[0]
    return found
