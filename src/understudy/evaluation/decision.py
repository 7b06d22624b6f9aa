"""Is the local model as good as the service LLM? Non-inferiority, paired by prompt, over a panel.

With limits of the mean difference (local - service, see pairs.py) that each miss with probability
`level`, and a margin in points:

    MIGRATE        lower limit > -margin, also if every missing score is the worst for the local
                   model, on at least 50 prompts
    NOT YET        upper limit < -margin
    INCONCLUSIVE   else, and how many prompts or verdicts more would decide it

Rounds screen on the test split, as often as they like. The decision is one test on the holdout at
level alpha. Whoever looks again, with another model, margin or panel, gets alpha / 2, then
alpha / 4, ...: so any number of looks decides falsely with probability < 2 alpha, and one look with
alpha. Precision decides and similarity stands beside it: where the references are logs of the
service itself, the service is compared with its own words.

On very skewed losses (skewness -2) the level of 5 % is really 5.2 % on 200 prompts, 5.3 % on 100
and 5.5 % on 50; with t alone it would be 6.7, 7.4 and 8.7 % (tests/test_decision.py).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from understudy.evaluation.pairs import Pairs
from understudy.evaluation.scores import METRICS, Metric
from understudy.evaluation.statistics.intervals import Interval, cluster_mean

MARGIN = 5.0  # points
ALPHA = 0.05
MIN_PROMPTS = 50
POWER = 0.8  # with which the prompts or verdicts that are still needed would decide
DRAWS = 10_000 - 1  # so that drawing moves the level by 0.2 points at most (one standard error)

Word = Literal["MIGRATE", "NOT YET", "INCONCLUSIVE"]


@dataclass(frozen=True)
class Decision:
    """What was decided, on what, and what would change it."""

    decision: Word
    reason: str
    metric: Metric
    margin: float
    alpha: float
    look: int  # 1 is the first
    level: float  # alpha / 2^(look - 1), one-sided
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
    metric: Metric = "precision",
    warnings: Sequence[str] = (),
) -> Decision:
    """Decide on one metric of these pairs; `groups` maps every prompt to its cluster."""
    level = alpha / 2 ** (look - 1)

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
