"""Is the local model as good as the service LLM? Non-inferiority, paired by prompt, over a panel.

    d_i = mean over the judges of (local - service) on prompt i, each over samples and repeats

Leniency that a judge has for both sides cancels. With limits of the mean difference that each miss
with probability `level`, and a margin in points:

    MIGRATE        lower limit > -margin, also if every missing score is the worst for the local
                   model, on at least 50 prompts in at least 20 clusters
    NOT YET        upper limit < -margin
    INCONCLUSIVE   else, and how many prompts or verdicts more would decide it

Rounds screen on the test split, as often as they like. The decision is one test on the holdout, at
the level that its look has (looks.py): all looks together decide falsely with probability <= alpha.

A score is missing per prompt, sample and judge: one silent judge of three, or one unscored sample
of four, is at its worst although the prompt has other scores.

The limit is the wider of t and the studentised bootstrap over clusters, moved by what draws lack on
the side of a long tail (Hall 1988, Ann. Statist. 16:927; statistics/intervals.py). Where the losses
are carried by few clusters (statistics/few.py), draws without a failure would promise what nobody
has seen; there it is a score test whose variance is that of the bound: mass at the worst value is
allowed for. Its level in each world is in docs/evaluation.md; `make soak` measures them all.

The level is conditional on this panel of judges. `judges="random"` takes them as a sample of the
judges that could have been asked, and widens the limits by their means (statistics/over_judges.py).

A `tail` is a second margin: the share of answers that score at least 70 may fall by at most so
many points. MIGRATE needs both, each at the whole level: an intersection of two rejections errs no
more often than either.

Precision decides and similarity stands beside it: where the references are logs of the
service itself, the service is compared with its own words.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal, NamedTuple

import numpy as np

from understudy.evaluation.calibration import Vouching, calibrated
from understudy.evaluation.scores import METRICS, Metric, pool, scored
from understudy.evaluation.statistics.design import smallest_loss
from understudy.evaluation.statistics.few import FEW, effective
from understudy.evaluation.statistics.intervals import (
    DIFFERENCES,
    SCORE_FORM,
    Interval,
    Scale,
    cluster_mean,
)
from understudy.evaluation.statistics.over_judges import widened
from understudy.records import Verdict

MARGIN = 5.0  # points
ALPHA = 0.05
MIN_PROMPTS = 50
MIN_CLUSTERS = 20
TAIL_CUT = 70.0  # the paper's coverage@70
JUDGES_FORM = "over prompts and, by t, over judges"
# Measured on skewed differences of 100 prompts: with excess 0 the level .05 is .055 (skewness -2,
# K = 4) and .064 (lognormal, -3.7), with 1 .052 and .058; symmetric differences lose no power.
SCALE = DIFFERENCES._replace(few=FEW, excess=1.0)
POWER = 0.8  # with which the prompts or verdicts that are still needed would decide
_LEVELS = (1e-7, 0.5)  # between which a p value is told
DRAWS = 10_000 - 1  # so that drawing moves the level by 0.2 points at most (one standard error)

Word = Literal["MIGRATE", "NOT YET", "INCONCLUSIVE"]
Judges = Literal["fixed", "random"]
Judged = Mapping[str, Sequence[Verdict]]  # judge -> verdicts on one generator
_Answers = Mapping[tuple[str, int], float]  # (prompt, k) -> mean over its valid verdicts


@dataclass(frozen=True)
class Pairs:
    """Local minus service per prompt on one metric, in points."""

    panel: dict[str, float]  # prompt -> mean over the judges that scored both
    judges: dict[str, dict[str, float]]  # judge -> prompt -> difference
    worst: dict[str, float]  # every prompt; a missing local score is 0, a service's 100
    noise: float | None  # variance of the panel's mean that more verdicts would shrink
    repeats: float | None  # verdicts per answer
    missing: int = 0  # scores of (prompt, sample, judge, side)
    incomplete: int = 0  # prompts that lack one of them
    humans: Vouching | None = None  # labels, which then decide


def pair(
    local: Judged,
    service: Judged,
    prompts: Sequence[str],
    metric: Metric,
    cut: float | None = None,
) -> Pairs:
    """The differences on these prompts; a prompt without a score of both sides is left out.

    With a `cut` an answer counts 100 where its mean reaches it, else 0: points of coverage.
    """
    ours = {judge: _answers(found, metric, cut) for judge, found in local.items()}
    theirs = {judge: _answers(service[judge], metric, cut) for judge in local}
    judges = {judge: _differences(ours[judge], theirs[judge], prompts) for judge in local}
    panel = {
        prompt: fmean(found)
        for prompt in prompts
        if (found := [one[prompt] for one in judges.values() if prompt in one])
    }
    lowest, ours_missing = _filled(local, ours, prompts, 0.0)
    highest, theirs_missing = _filled(service, theirs, prompts, 100.0)
    sides = [side[judge] for side in (local, service) for judge in local]
    repeats = [len(scores) for side in sides for scores in scored(side, metric).values()]
    noise = [_noise(side, metric, panel) if cut is None else None for side in sides]
    known = [one for one in noise if one is not None]
    return Pairs(
        panel,
        judges,
        {prompt: lowest[prompt] - highest[prompt] for prompt in prompts},
        sum(known) / len(judges) ** 2 if panel and len(known) == len(noise) else None,
        fmean(repeats) if repeats else None,
        (ours_missing + theirs_missing).total(),
        len(ours_missing | theirs_missing),
    )


def pairs_of(
    local: Judged,
    service: Judged,
    prompts: Sequence[str],
    measures: Mapping[str, Sequence[Metric]],
) -> dict[Metric, Pairs]:
    """The differences on each metric that any judge measures, by those that do."""
    by_metric = {m: [judge for judge in local if m in measures[judge]] for m in METRICS}
    return {
        metric: pair({judge: local[judge] for judge in judges}, service, prompts, metric)
        for metric, judges in by_metric.items()
        if judges
    }


def tail_pairs(local: Judged, service: Judged, prompts: Sequence[str]) -> Pairs:
    """The differences of coverage@70 in points of precision, for a `tail`."""
    return pair(local, service, prompts, "precision", TAIL_CUT)


def _answers(verdicts: Sequence[Verdict], metric: Metric, cut: float | None) -> _Answers:
    answers = pool(verdicts, metric).answers
    if cut is None:
        return answers
    return {key: 100.0 if score >= cut else 0.0 for key, score in answers.items()}


def _differences(ours: _Answers, theirs: _Answers, prompts: Sequence[str]) -> dict[str, float]:
    """Mean over our samples minus mean over theirs, of the prompts that have both."""
    means = []
    for answers in (ours, theirs):
        samples: dict[str, list[float]] = {}
        for (prompt, _), score in answers.items():
            samples.setdefault(prompt, []).append(score)
        means.append({prompt: fmean(scores) for prompt, scores in samples.items()})
    return {p: means[0][p] - means[1][p] for p in prompts if p in means[0] and p in means[1]}


def _filled(
    verdicts: Judged, answers: Mapping[str, _Answers], prompts: Sequence[str], missing: float
) -> tuple[dict[str, float], Counter[str]]:
    """Mean over judges and samples of each prompt with `missing` for what is, and how many are."""
    samples = sorted({verdict.k for judge in answers for verdict in verdicts[judge]}) or [0]
    means, lacking = dict[str, float](), Counter[str]()
    for prompt in prompts:
        keys = [(judge, (prompt, k)) for judge in answers for k in samples]
        means[prompt] = fmean(answers[judge].get(key, missing) for judge, key in keys)
        if absent := sum(key not in answers[judge] for judge, key in keys):
            lacking[prompt] = absent
    return means, lacking


def _noise(
    verdicts: Sequence[Verdict], metric: Metric, prompts: Mapping[str, float]
) -> float | None:
    """Variance of the mean over these prompts from the judge's repeats; None without repeats."""
    repeats = {key: scores for key, scores in scored(verdicts, metric).items() if key[0] in prompts}
    spare = sum(len(scores) - 1 for scores in repeats.values())
    if not spare:
        return None
    within = sum(float(np.var(scores)) * len(scores) for scores in repeats.values()) / spare
    samples: dict[str, list[float]] = {}
    for (prompt, _), scores in repeats.items():
        samples.setdefault(prompt, []).append(within / len(scores))
    return sum(sum(one) / len(one) ** 2 for one in samples.values()) / len(prompts) ** 2


class Tail(NamedTuple):
    """coverage@70 of the local model minus the service's, in points."""

    margin: float
    mean: float | None
    low: float | None
    worst_low: float | None  # with what is missing at its worst
    high: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the loss is shown to be below the margin, whatever is missing."""
        lows = (self.low, self.worst_low)
        return all(low is not None and low > -self.margin for low in lows)

    @property
    def least(self) -> float | None:
        """The smaller of both lower limits; None unless both are there."""
        lows = (self.low, self.worst_low)
        return None if None in lows else min(low for low in lows if low is not None)

    def __str__(self) -> str:
        mean = "missing" if self.mean is None else f"{self.mean:+.2f} points"
        least = "nothing shown" if self.least is None else f"at least {self.least:+.2f}"
        return f"{mean}, {least}"


@dataclass(frozen=True)
class Decision:
    """What was decided, on what, and what would change it."""

    decision: Word
    reason: str
    metric: Metric
    margin: float
    alpha: float
    look: int  # 1 is the first
    level: float  # one-sided, what the look has of alpha
    prompts: int
    missing: int  # prompts that lack a score of any sample, judge or side
    missing_scores: int
    difference: Interval
    worst_low: float | None
    worth: float | None  # equal clusters that are worth as much as these
    panel: Judges
    tail: Tail | None
    judges: dict[str, Interval]
    beside: dict[str, Interval]  # the other metric
    excludes: float | None  # points: the smallest loss shown with POWER if both are as good
    more_prompts: int | None  # null: none needed, or beyond any reasonable number
    verdicts_per_answer: int | None  # null: no number of them would decide it
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        values = asdict(self) | {"difference": self.difference._asdict()}
        values["tail"] = None if self.tail is None else self.tail._asdict()
        for name in ("judges", "beside"):
            values[name] = {key: one._asdict() for key, one in getattr(self, name).items()}
        return values


def decide(
    pairs: Mapping[Metric, Pairs],
    groups: Mapping[str, str],
    *,
    margin: float = MARGIN,
    alpha: float = ALPHA,
    look: int = 1,
    level: float | None = None,
    metric: Metric = "precision",
    judges: Judges = "fixed",
    tail: tuple[float, Pairs] | None = None,
    scale: Scale | None = SCALE,
    warnings: Sequence[str] = (),
) -> Decision:
    """Decide on one metric of these pairs; `groups` maps every prompt to its cluster.

    `level` is what the look has of alpha; None: all of it, as a screen has. `tail` is a margin in
    points of coverage@70 and its pairs (`pair` with `cut=TAIL_CUT`). `scale` None: limits that do
    not allow for failures that nobody has seen, for a screen that may err.
    """
    level = alpha if level is None else level

    def limits(differences: Mapping[str, float]) -> Interval:
        return _limits(differences, groups, level, scale)

    deciding = pairs[metric]
    panel, worst, second = _criteria(deciding, groups, level, judges, tail, scale)
    word, reason = _word(panel, worst, margin, deciding, second)
    n = len(deciding.panel)
    # More prompts or verdicts do not make more judges.
    is_short = word == "INCONCLUSIVE" and judges == "fixed" and deciding.humans is None
    of_judges = {judge: limits(found) for judge, found in deciding.judges.items()}
    return Decision(
        decision=word,
        reason=reason,
        metric=metric,
        margin=margin,
        alpha=alpha,
        look=look,
        level=level,
        prompts=n,
        missing=deciding.incomplete,
        missing_scores=deciding.missing,
        difference=panel,
        worst_low=worst.low,
        worth=_worth([groups[prompt] for prompt in deciding.panel]),
        panel=judges,
        tail=second,
        judges=of_judges,
        beside={other: limits(found.panel) for other, found in pairs.items() if other != metric},
        excludes=_excludes(panel, judges, level),
        more_prompts=_more_prompts(panel, margin, level, n) if is_short else None,
        verdicts_per_answer=_verdicts(deciding, panel, margin, level) if is_short else None,
        warnings=[*warnings, *_against(of_judges, word, margin)],
    )


def smallest_level(
    pairs: Pairs,
    groups: Mapping[str, str],
    *,
    margin: float = MARGIN,
    judges: Judges = "fixed",
    tail: tuple[float, Pairs] | None = None,
) -> float:
    """The least one-sided level at which `decide` says MIGRATE, to 0.1 %; 1 where none does.

    It is the p value of the look: limits move outwards as the level falls, so levels can be halved.
    """

    def migrates(level: float) -> bool:
        panel, worst, second = _criteria(pairs, groups, level, judges, tail, SCALE)
        return _word(panel, worst, margin, pairs, second)[0] == "MIGRATE"

    low, high = _LEVELS
    if not migrates(high):
        return 1.0
    if migrates(low):
        return low
    while high > 1.001 * low:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if migrates(middle) else (middle, high)
    return high


def _criteria(
    pairs: Pairs,
    groups: Mapping[str, str],
    level: float,
    judges: Judges,
    tail: tuple[float, Pairs] | None,
    scale: Scale | None,
) -> tuple[Interval, Interval, Tail | None]:
    """The limits of the panel, the same at worst, and those of the tail where one is asked for."""

    def both(found: Pairs) -> tuple[Interval, Interval]:
        if (humans := found.humans) is not None:
            terms = (groups, level)
            return (
                calibrated(humans, *terms, False, scale or SCALE, DRAWS),
                calibrated(humans, *terms, True, scale or SCALE, DRAWS),
            )
        shown = (_limits(one, groups, level, scale) for one in (found.panel, found.worst))
        panel, worst = (
            one if judges == "fixed" else _over_judges(one, found, level) for one in shown
        )
        return panel, worst

    panel, worst = both(pairs)
    if tail is None:
        return panel, worst, None
    found, least = both(tail[1])
    return panel, worst, Tail(tail[0], found.mean, found.low, least.low, found.high)


def _limits(
    differences: Mapping[str, float], groups: Mapping[str, str], level: float, scale: Scale | None
) -> Interval:
    """The mean of these differences, and limits that end where differences do."""
    clusters = [groups[prompt] for prompt in differences]
    found = cluster_mean(list(differences.values()), clusters, 1 - 2 * level, DRAWS, scale)
    if found.low is None or found.high is None:
        return found
    return found._replace(low=max(found.low, SCALE.least), high=min(found.high, SCALE.most))


def _over_judges(fixed: Interval, pairs: Pairs, level: float) -> Interval:
    """Limits that also hold over judges like these; one judge is no sample and has none."""
    means = np.array([fmean(found.values()) for found in pairs.judges.values() if found])
    if len(means) < 2 or fixed.mean is None or fixed.low is None or fixed.high is None:
        return fixed._replace(low=None, high=None, error=None)
    reaches = np.array([fixed.mean - fixed.low, fixed.high - fixed.mean])
    below, above = map(float, widened(reaches, np.stack([means, means]), level))
    error = float(np.hypot(fixed.error or 0.0, means.std(ddof=1) / math.sqrt(len(means))))
    low, high = fixed.mean - below, fixed.mean + above
    return fixed._replace(low=low, high=high, error=error, form=JUDGES_FORM)


def _worth(clusters: Sequence[str]) -> float | None:
    if not clusters:
        return None
    return float(effective(np.array(list(Counter(clusters).values()), dtype=float)))


def _word(
    panel: Interval, worst: Interval, margin: float, pairs: Pairs, tail: Tail | None
) -> tuple[Word, str]:
    prompts = len(pairs.panel)
    if panel.mean is None:
        return "INCONCLUSIVE", "No prompt has a score of both sides."
    if panel.low is None or panel.high is None:
        why = "All prompts are one cluster" if panel.clusters < 2 else "One judge is no sample"
        return "INCONCLUSIVE", f"{why}, so there is no interval."
    said = f"local - service is {panel.mean:+.2f} points, at least {panel.low:+.2f}"
    covered = f"coverage@{TAIL_CUT:g} is {tail}"
    if panel.high < -margin:
        least = f"at most {panel.high:+.2f}"
        return "NOT YET", f"local - service is {panel.mean:+.2f} points, {least} < {-margin:g}."
    if tail is not None and tail.high is not None and tail.high < -tail.margin:
        return "NOT YET", f"{said}, but {covered} and at most {tail.high:+.2f} < {-tail.margin:g}."
    if panel.low <= -margin:
        return "INCONCLUSIVE", f"{said} <= {-margin:g} and at most {panel.high:+.2f}."
    if prompts < MIN_PROMPTS:
        return "INCONCLUSIVE", f"{said}, but {prompts} prompts are below {MIN_PROMPTS}."
    if panel.clusters < MIN_CLUSTERS:
        few = f"{panel.clusters} clusters are below {MIN_CLUSTERS}"
        return "INCONCLUSIVE", f"{said}, but {few}, however many prompts they hold."
    if worst.low is None or worst.low <= -margin:
        many = f"the {pairs.missing} missing scores (of {pairs.incomplete} prompts)"
        least = "nothing is shown" if worst.low is None else f"{worst.low:+.2f}"
        return "INCONCLUSIVE", f"{said}, but {least} if {many} are the worst they can be."
    if tail is not None and not tail.is_met:
        return "INCONCLUSIVE", f"{said}, but {covered} <= {-tail.margin:g}."
    return "MIGRATE", f"{said} > {-margin:g}."


def _excludes(panel: Interval, judges: Judges, level: float) -> float | None:
    """The loss that is excluded with POWER; over judges, by the limit's own reach."""
    if not panel.error or panel.mean is None or panel.low is None:
        return None
    if judges == "random":
        return panel.mean - panel.low + _quantile(POWER) * panel.error
    return smallest_loss(panel.error, panel.clusters, level, POWER)


def _more_prompts(panel: Interval, margin: float, level: float, prompts: int) -> int | None:
    """Prompts to add until the limit clears the margin with POWER, if the estimate is the truth.

    n (z SE / |d + margin|)^2 in all (design.py's formula with the cluster-robust SE; where few
    clusters carry the losses SE says too little, and the limit's own distance stands for it).
    """
    if panel.mean is None or panel.error is None or panel.low is None or panel.mean == -margin:
        return None
    error = panel.error
    if panel.form == SCORE_FORM:
        error = max(error, (panel.mean - panel.low) / -_quantile(level))
    needed = math.ceil(prompts * (_z(level) * error / (panel.mean + margin)) ** 2)
    enough = max(MIN_PROMPTS, math.ceil(prompts * MIN_CLUSTERS / panel.clusters))
    needed = max(needed, enough)
    return max(needed - prompts, 0) if needed <= 1000 * MIN_PROMPTS else None


def _verdicts(pairs: Pairs, panel: Interval, margin: float, level: float) -> int | None:
    """Verdicts per answer that would do it on the same prompts; None where none do.

    Repeats shrink the judge's part of the variance, so SE^2 = rest + noise * M / M'.
    """
    known = (panel.mean, panel.error, pairs.noise, pairs.repeats)
    mean, error, noise, repeats = known
    if mean is None or error is None or noise is None or repeats is None:
        return None
    if len(pairs.panel) < MIN_PROMPTS:
        return None
    room = ((mean + margin) / _z(level)) ** 2 - (error**2 - noise)
    if room <= 0 or not noise:
        return None
    return max(math.ceil(noise * repeats / room), math.ceil(repeats))


def _z(level: float) -> float:
    return _quantile(1 - level) + _quantile(POWER)


def _quantile(probability: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(probability))


def _against(judges: Mapping[str, Interval], word: Word, margin: float) -> list[str]:
    """Judges that by themselves find the contrary of a MIGRATE."""
    return [
        f"{judge} by itself finds the local model worse: at most {found.high:+.2f} points"
        for judge, found in judges.items()
        if word == "MIGRATE" and found.high is not None and found.high < -margin
    ]
