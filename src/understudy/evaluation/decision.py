"""Is the local model as good as the service LLM? Non-inferiority, paired by prompt, over a panel.

    d_i = mean over the judges of (local - service) on prompt i, each over samples and repeats

Leniency that a judge has for both sides cancels. With limits of the mean difference that each miss
with probability `level`, and a margin in points:

    MIGRATE        lower limit > -margin, also if every missing score is the worst for the local
                   model, on at least 50 prompts
    NOT YET        upper limit < -margin
    INCONCLUSIVE   else, and how many prompts or verdicts more would decide it

Rounds screen on the test split, as often as they like. The decision is one test on the holdout, at
the level that its look has (looks.py): all looks together decide falsely with probability <= alpha.

Precision decides and similarity stands beside it: where the references are logs of the
service itself, the service is compared with its own words.

On very skewed losses (skewness -2) the level of 5 % is really 5.2 % on 200 prompts, 5.3 % on 100
and 5.5 % on 50; with t alone it would be 6.7, 7.4 and 8.7 % (tests/evaluation/test_decision.py).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np

from understudy.evaluation.scores import METRICS, Metric, pool, scored
from understudy.evaluation.statistics.intervals import Interval, cluster_mean
from understudy.records import Verdict

MARGIN = 5.0  # points
ALPHA = 0.05
MIN_PROMPTS = 50
MIN_CLUSTERS = 20
POWER = 0.8  # with which the prompts or verdicts that are still needed would decide
DRAWS = 10_000 - 1  # so that drawing moves the level by 0.2 points at most (one standard error)

Word = Literal["MIGRATE", "NOT YET", "INCONCLUSIVE"]
Judged = Mapping[str, Sequence[Verdict]]  # judge -> verdicts on one generator


@dataclass(frozen=True)
class Pairs:
    """Local minus service per prompt on one metric, in points."""

    panel: dict[str, float]  # prompt -> mean over the judges that scored both
    judges: dict[str, dict[str, float]]  # judge -> prompt -> difference
    worst: dict[str, float]  # every prompt; a missing local score is 0, a service's 100
    noise: float | None  # variance of the panel's mean that more verdicts would shrink
    repeats: float | None  # verdicts per answer


def pair(local: Judged, service: Judged, prompts: Sequence[str], metric: Metric) -> Pairs:
    """The differences on these prompts; a prompt without a score of both sides is left out."""
    ours = {judge: pool(found, metric).prompts for judge, found in local.items()}
    theirs = {judge: pool(service[judge], metric).prompts for judge in local}
    judges = {
        judge: {
            prompt: ours[judge][prompt] - theirs[judge][prompt]
            for prompt in prompts
            if prompt in ours[judge] and prompt in theirs[judge]
        }
        for judge in local
    }
    panel, worst = dict[str, float](), dict[str, float]()
    for prompt in prompts:
        if found := [one[prompt] for one in judges.values() if prompt in one]:
            panel[prompt] = worst[prompt] = fmean(found)
        else:
            worst[prompt] = _mean(ours, prompt, 0.0) - _mean(theirs, prompt, 100.0)
    sides = [side[judge] for side in (local, service) for judge in local]
    repeats = [len(scores) for side in sides for scores in scored(side, metric).values()]
    noise = [_noise(side, metric, panel) for side in sides]
    known = [one for one in noise if one is not None]
    return Pairs(
        panel,
        judges,
        worst,
        sum(known) / len(judges) ** 2 if panel and len(known) == len(noise) else None,
        fmean(repeats) if repeats else None,
    )


def _mean(scores: Mapping[str, Mapping[str, float]], prompt: str, missing: float) -> float:
    """Over the judges that scored the prompt, else `missing`."""
    return fmean([one[prompt] for one in scores.values() if prompt in one] or [missing])


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
    missing: int  # prompts without a score of both sides
    difference: Interval
    worst_low: float | None
    judges: dict[str, Interval]
    beside: dict[str, Interval]  # the other metric
    more_prompts: int | None  # null: none needed, or beyond any reasonable number
    verdicts_per_answer: int | None  # null: no number of them would decide it
    warnings: list[str]

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        values = asdict(self) | {"difference": self.difference._asdict()}
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
    warnings: Sequence[str] = (),
) -> Decision:
    """Decide on one metric of these pairs; `groups` maps every prompt to its cluster.

    `level` is what the look has of alpha; None: all of it, as a screen has.
    """
    level = alpha if level is None else level

    def limits(differences: Mapping[str, float]) -> Interval:
        clusters = [groups[prompt] for prompt in differences]
        return cluster_mean(list(differences.values()), clusters, 1 - 2 * level, DRAWS)

    deciding = pairs[metric]
    panel, worst = limits(deciding.panel), limits(deciding.worst)
    n, missing = len(deciding.panel), len(deciding.worst) - len(deciding.panel)
    word, reason = _word(panel, worst, margin, n, missing)
    judges = {judge: limits(found) for judge, found in deciding.judges.items()}
    return Decision(
        decision=word,
        reason=reason,
        metric=metric,
        margin=margin,
        alpha=alpha,
        look=look,
        level=level,
        prompts=n,
        missing=missing,
        difference=panel,
        worst_low=worst.low,
        judges=judges,
        beside={other: limits(pairs[other].panel) for other in METRICS if other != metric},
        more_prompts=_more_prompts(panel, margin, level, n) if word == "INCONCLUSIVE" else None,
        verdicts_per_answer=(
            _verdicts(deciding, panel, margin, level) if word == "INCONCLUSIVE" else None
        ),
        warnings=[*warnings, *_against(judges, word, margin)],
    )


def _word(
    panel: Interval, worst: Interval, margin: float, prompts: int, missing: int
) -> tuple[Word, str]:
    if panel.mean is None:
        return "INCONCLUSIVE", "No prompt has a score of both sides."
    if panel.low is None or panel.high is None:
        return "INCONCLUSIVE", "All prompts are one cluster, so there is no interval."
    said = f"local - service is {panel.mean:+.2f} points, at least {panel.low:+.2f}"
    if panel.high < -margin:
        least = f"at most {panel.high:+.2f}"
        return "NOT YET", f"local - service is {panel.mean:+.2f} points, {least} < {-margin:g}."
    if panel.low <= -margin:
        return "INCONCLUSIVE", f"{said} <= {-margin:g} and at most {panel.high:+.2f}."
    if prompts < MIN_PROMPTS:
        return "INCONCLUSIVE", f"{said}, but {prompts} prompts are below {MIN_PROMPTS}."
    assert worst.low is not None, "the worst case has every prompt of the panel"
    if worst.low <= -margin:
        many = f"the {missing} prompts without scores of both sides"
        return "INCONCLUSIVE", f"{said}, but {worst.low:+.2f} if {many} are the worst they can be."
    return "MIGRATE", f"{said} > {-margin:g}."


def _more_prompts(panel: Interval, margin: float, level: float, prompts: int) -> int | None:
    """Prompts to add until the limit clears the margin with POWER, if the estimate is the truth.

    n (z SE / |d + margin|)^2 in all (design.py's formula with the cluster-robust SE).
    """
    if panel.mean is None or panel.error is None or panel.mean == -margin:
        return None
    needed = math.ceil(prompts * (_z(level) * panel.error / (panel.mean + margin)) ** 2)
    needed = max(needed, MIN_PROMPTS)
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
    from scipy.special import ndtri

    return float(ndtri(1 - level) + ndtri(POWER))


def _against(judges: Mapping[str, Interval], word: Word, margin: float) -> list[str]:
    """Judges that by themselves find the contrary of a MIGRATE."""
    return [
        f"{judge} by itself finds the local model worse: at most {found.high:+.2f} points"
        for judge, found in judges.items()
        if word == "MIGRATE" and found.high is not None and found.high < -margin
    ]


def family_warnings(
    judges: Mapping[str, str], teacher: tuple[str, str] | None, service: tuple[str, str] | None
) -> list[str]:
    """One sentence per gate judge of the family of the teacher or the service (name, family)."""
    return [
        f"judge {judge} is of the family {family}, as is the {role} {other[0]}: "
        f"it may prefer {'its own words' if role == 'service' else 'a model taught by it'}"
        for judge, family in judges.items()
        for role, other in (("teacher", teacher), ("service", service))
        if other is not None and other[1] == family != "unknown"
    ]
