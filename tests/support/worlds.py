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

`draw` makes the mean of an answer's M verdicts at once, by how many of them copy, win or lose;
`verdicts` makes them one by one. Both have the same law.
"""

import zlib
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

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
    def judges(self) -> int:
        return 3 if self.missing == "judge" else 1

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
    """So many samples of the world whose true difference is `mean`; scores are means over M."""
    answers = _answers(world, loops, rng, mean)
    if world.m == 1 and world.judges == 1:
        local, service = _sides(world, answers)
    else:
        local, service = _verdict_means(world, answers, rng, mean)
    return _scores(world, *_lose(world, local, service, rng))


def verdicts(world: World, loops: int, rng: Any, mean: float = -MARGIN) -> Scores:
    """The same with each verdict by itself: (loops, prompts, K, judges, M)."""
    found = _answers(world, loops, rng, mean)
    if world.m * world.judges > 1:
        found = _children(world, found, (world.m, *found.shape), ANSWER, rng, mean)
    else:
        found = found[None]
    local, service = _sides(world, found)
    gone = [np.isnan(side) for side in _lose(world, local.mean(0), service.mean(0), rng)]
    return _scores(world, np.where(gone[0], np.nan, local), np.where(gone[1], np.nan, service))


def _scores(world: World, local: Any, service: Any) -> Scores:
    """The axes in their order; they are drawn the other way round, as sums are faster so."""
    ahead = local.ndim - 2
    axes = (ahead, ahead + 1, *reversed(range(ahead)))
    return Scores(local.transpose(axes), service.transpose(axes), _cluster(world))


def _cluster(world: World) -> Any:
    return np.repeat(np.arange(len(world.sizes)), world.sizes)


def _answers(world: World, loops: int, rng: Any, mean: float) -> Any:
    """Differences of answers, (judges, K, loops, prompts): equal for all judges."""
    cluster = _cluster(world)
    found = _fresh(world, (loops, len(world.sizes)), rng, mean)
    if len(cluster) > len(world.sizes):
        shape = (loops, len(cluster))
        found = _children(world, found[:, cluster], shape, GROUP, rng, mean)
    found = found[None]
    if world.k > 1:
        found = _children(world, found, (world.k, *found.shape[1:]), PROMPT, rng, mean)
    return np.broadcast_to(found, (world.judges, *found.shape))


def _verdict_means(world: World, answers: Any, rng: Any, mean: float) -> tuple[Any, Any]:
    """Means of local model and service over the M verdicts on each answer.

    A verdict is a copy, or fresh; a fresh one of 0/100 scores is a win, a loss or a tie, one of
    ties is a loss or a tie, and the sum of so many fresh exponentials is one of a gamma law.
    """
    m, copy = world.m, np.sqrt(ANSWER)
    if world.values == "gaussian":
        fresh = 15 * np.sqrt((1 - ANSWER) / m) * rng.standard_normal(answers.shape)
        return _sides(world, mean + copy * (answers - mean) + fresh)
    wins = SHARES.get(world.values, 0.0)
    losses = {"skew": 1.0, "ties": 0.4}.get(world.values, wins - mean / 100)
    shares = (copy, (1 - copy) * losses, (1 - copy) * wins)
    copies, lost, won = _counts(m, shares, answers, rng)
    if world.values == "skew":
        total = copies * answers + lost * (mean + 15) - 15 * _gamma(lost, rng)
        return _sides(world, total / m)
    size = 100 * lost if world.values in SHARES else -mean / 0.4 * _gamma(lost, rng)
    local = 100 + (copies * np.minimum(answers, 0) - size) / m
    if not wins:
        return local, np.full(local.shape, 100.0)
    return local, 100 - (copies * np.maximum(answers, 0) + 100 * won) / m


BINS = 1 << 13


def _counts(m: int, shares: tuple[float, ...], like: Any, rng: Any) -> list[Any]:
    """How many of m fall to each share, arrays like `like`; the rest fall to none."""
    outcomes = [one for one in product(range(m + 1), repeat=len(shares)) if sum(one) <= m]
    whole = np.array([(*one, m - sum(one)) for one in outcomes])
    rest = max(1 - sum(shares), 0.0)
    chances = stats.multinomial.pmf(whole, m, np.array([*shares, rest]) / (sum(shares) + rest))
    order = np.argsort(-chances)[: np.count_nonzero(chances > 1e-12)]
    ends = np.cumsum(chances[order])
    ends[-1] = 1.0
    # Most bins of the unit interval are within one outcome; only in the others is it searched.
    first, last = (
        ends.searchsorted((np.arange(BINS) + one) / BINS, "right") for one in (0, 1 - 1e-9)
    )
    uniform = rng.random(like.shape)
    bins = (uniform * BINS).astype(np.intp)
    place = first[bins]
    mixed = (first != last)[bins]
    place[mixed] = ends.searchsorted(uniform[mixed], "right")
    return [column.astype(float)[place] for column in whole[order, : len(shares)].T]


def _gamma(shape: Any, rng: Any) -> Any:
    found = np.zeros(shape.shape)
    some = shape > 0
    found[some] = rng.standard_gamma(shape[some])
    return found


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
    """Take the scores (judges, K, loops, prompts) out that this world does not show."""
    if world.missing == "judge":
        silent = np.zeros(local.shape, bool)
        silent[-1] = rng.random(local.shape[2:]) < 0.5
        return np.where(silent, np.nan, local), np.where(silent, np.nan, service)
    share = {"none": 0.0, "some": 0.05, "local": 0.3}[world.missing]
    if share:
        local = np.where((local < BAD) & (rng.random(local.shape) < share), np.nan, local)
    if world.missing == "some":
        service = np.where((service < BAD) & (rng.random(service.shape) < share), np.nan, service)
    return local, service


def differences(scores: Scores) -> tuple[Any, Any]:
    """(loops, prompts): local - service over what is scored, and with what is missing at worst.

    As `decision.pair` makes them: samples are averaged within a judge, then judges that scored both
    sides; a prompt that no judge scored on both is NaN in the first.
    """
    gone = [np.isnan(side) for side in scores[:2]]
    if not gone[0].any() and not gone[1].any():
        whole = (scores.local - scores.service).mean(-1).mean(-1)
        return whole, whole
    local, service = (_known_mean(side, -2) for side in scores[:2])
    panel = _known_mean(local - service, -1)
    worst = np.where(gone[0], 0.0, scores.local) - np.where(gone[1], 100.0, scores.service)
    return panel, worst.mean(-1).mean(-1)


def _known_mean(values: Any, axis: int) -> Any:
    if values.shape[axis] == 1:
        return np.take(values, 0, axis)
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


class Totals(NamedTuple):
    """Sums and counts over the clusters of many samples, (loops, G) each."""

    panel: tuple[Any, Any]
    worst: tuple[Any, Any]


def totals_of(scores: Scores) -> Totals:
    """The sums that a decision is made of."""
    panel, worst = differences(scores)
    found = totals(worst, scores.cluster)
    return Totals(found if panel is worst else totals(panel, scores.cluster), found)


PART = 4000  # samples that are decided at once
DRAWS = 1999  # of the bootstrap; a decision has 9,999, and the level is the same to .002


def migrates(
    world: World, loops: int, mean: float = -MARGIN, level: float = 0.05, seed: int = 0
) -> int:
    """How many of so many samples say MIGRATE at this level: `decide`'s rule, on arrays."""
    if len(world.sizes) < decision.MIN_CLUSTERS:
        return 0
    rng = np.random.default_rng((world.seed, seed))
    chunk, said = max(1, 250_000 // (int(world.sizes.sum()) * world.k * world.judges)), 0
    for start in range(0, loops, PART):
        left = min(PART, loops - start)
        sizes = [min(chunk, left - at) for at in range(0, left, chunk)]
        found = [totals_of(draw(world, size, rng, mean)) for size in sizes]
        said += int(yes(_joined(found), level).sum())
    return said


def _joined(parts: list[Totals]) -> Totals:
    panel, worst = (
        tuple(np.concatenate(side) for side in zip(*of, strict=True))
        for of in zip(*parts, strict=True)
    )
    return Totals(panel, worst)


def yes(found: Totals, level: float, draws: int = DRAWS) -> Any:
    """(loops,): whether both the mean and the mean at worst are shown to be above the margin."""

    def shown(top: Any, bottom: Any) -> Any:
        bottom = bottom[0] if len(bottom) and (bottom == bottom[0]).all() else bottom
        return intervals.exceeds(top, bottom, -MARGIN, level, draws, decision.SCALE)

    kept = found.panel[1] > 0  # a cluster without any score leaves the mean
    clusters = kept.sum(-1)
    said = (clusters >= decision.MIN_CLUSTERS) & (found.panel[1].sum(-1) >= decision.MIN_PROMPTS)
    said[said] = shown(*(side[said] for side in found.worst))
    # What is complete needs no second test.
    left = said & (np.abs(found.panel[0] - found.worst[0]).sum(-1) > 1e-9)
    for size in np.unique(clusters[left]):
        at = left & (clusters == size)
        said[at] = shown(*(side[at][kept[at]].reshape(-1, size) for side in found.panel))
    return said
