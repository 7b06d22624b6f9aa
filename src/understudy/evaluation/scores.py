"""From verdicts to the numbers of a summary: repeats, then samples, then prompts are averaged."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any, Literal, NamedTuple

from understudy import playground
from understudy.errors import Internal
from understudy.evaluation.statistics.intervals import SCORES, Interval, cluster_mean, cluster_rate
from understudy.records import Answer, Coverage, Verdict
from understudy.store.artifacts import Job

Metric = Literal["similarity", "precision"]
METRICS: tuple[Metric, ...] = ("similarity", "precision")
COVERAGE_AT = (50, 70)  # the paper's cut-offs (its Figure 2)
INTERVAL = "95 %, over prompts, cluster-robust by group_id; means: {form}; shares: Clopper-Pearson"


def measured(summary: Mapping[str, Any]) -> tuple[Metric, ...]:
    """What the verdicts of an evaluation hold, by its summary; a judge that is asked: both."""
    return tuple(metric for metric in METRICS if metric in summary.get("measures", METRICS))


def asked_of(job: Job, rows: Iterable[Coverage]) -> tuple[dict[str, Coverage], list[Answer]]:
    """The prompts of the split that a stage evaluates, by id, and one generator's answers."""
    split = job.params["split"]
    prompts = {row.id: row for row in rows if row.split == split}
    answers = [answer for answer in job.rows("answers", Answer) if answer.prompt_id in prompts]
    if len({answer.generator for answer in answers}) != 1:
        raise Internal(
            f"an evaluation needs one generator's answers to the {split} split, "
            f"but {job.inputs['answers']} has {sorted({a.generator for a in answers})}"
        )
    return prompts, answers


class Pooled(NamedTuple):
    """One metric's scores; a missing answer, without a valid verdict, is in neither."""

    answers: dict[tuple[str, int], float]  # (prompt_id, k) -> mean over its valid verdicts
    prompts: dict[str, float]  # prompt_id -> mean over its answers


def scored(verdicts: Sequence[Verdict], metric: Metric) -> dict[tuple[str, int], list[float]]:
    """The valid scores of each answer: (prompt_id, k) -> its repeats."""
    repeats: dict[tuple[str, int], list[float]] = defaultdict(list)
    for verdict in verdicts:
        score = getattr(verdict, metric)
        if verdict.status == "scored" and score is not None:
            repeats[verdict.prompt_id, verdict.k].append(score)
    return repeats


def pool(verdicts: Sequence[Verdict], metric: Metric) -> Pooled:
    """Average the scored verdicts of each answer, then the answers of each prompt."""
    repeats = scored(verdicts, metric)
    answers = {key: fmean(repeats[key]) for key in sorted(repeats)}
    samples: dict[str, list[float]] = defaultdict(list)
    for (prompt_id, _), score in answers.items():
        samples[prompt_id].append(score)
    return Pooled(answers, {prompt_id: fmean(scores) for prompt_id, scores in samples.items()})


def worst_mean(verdicts: Sequence[Verdict], metric: Metric) -> float | None:
    """The mean over prompts with a score of 0 for every verdict without one."""
    repeats: dict[str, dict[int, list[float]]] = {}
    for verdict in verdicts:
        score = getattr(verdict, metric) if verdict.status == "scored" else None
        samples = repeats.setdefault(verdict.prompt_id, {})
        samples.setdefault(verdict.k, []).append(0.0 if score is None else score)
    prompts = [fmean(map(fmean, samples.values())) for samples in repeats.values()]
    return fmean(prompts) if prompts else None


def mean_over_prompts(pooled: Pooled, groups: Mapping[str, str]) -> Interval:
    """The mean and its interval, whose limits end where the scale does."""
    prompts = pooled.prompts
    clusters = [groups[prompt] for prompt in prompts]
    found = cluster_mean(list(prompts.values()), clusters, scale=SCORES)
    if found.low is None or found.high is None:
        return found
    return found._replace(low=max(found.low, 0.0), high=min(found.high, 100.0))


def coverage(pooled: Pooled, groups: Mapping[str, str], cut: float) -> Interval:
    """The share of answers scoring at least `cut`, as 0 to 1."""
    answers = pooled.answers
    passed = [score >= cut for score in answers.values()]
    return cluster_rate(passed, [groups[prompt] for prompt, _ in answers])


def describe(pooled: Pooled, groups: Mapping[str, str]) -> dict[str, float | None]:
    """Mean over prompts and coverage@k = share of answers scoring at least k, with intervals."""
    found = mean_over_prompts(pooled, groups)
    described = {"mean": found.mean, "low": found.low, "high": found.high}
    shares = {f"coverage@{cut}": coverage(pooled, groups, cut) for cut in COVERAGE_AT}
    described |= {name: share.mean for name, share in shares.items()}
    for name, share in shares.items():
        described |= {f"{name}.low": share.low, f"{name}.high": share.high}
    return described


def summarize(answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Counts and both metrics of one judge on one generator's answers."""
    groups = {answer.prompt_id: answer.group_id for answer in answers}
    unscored = Counter(v.status for v in verdicts if v.status != "scored")
    pooled = {metric: pool(verdicts, metric) for metric in METRICS}
    return {
        "k": max(Counter(answer.prompt_id for answer in answers).values()),
        "n_prompts": len(groups),
        "n_groups": len(set(groups.values())),
        "n_answers": len(answers),
        "n_verdicts": len(verdicts),
        "n_unscored": unscored.total(),
        "unscored": dict(sorted(unscored.items())),
        "n_missing_answers": len(answers) - len(pooled["precision"].answers),
        **{metric: describe(pooled[metric], groups) for metric in METRICS},
        "interval": INTERVAL.format(form=mean_over_prompts(pooled["precision"], groups).form),
    }


def rule(answers: Sequence[Answer], prompts: Mapping[str, Coverage]) -> dict[str, Any] | None:
    """The pass rate (0 to 1) under the playground's rule; None where it knows no prompt.

    An answer that was never given (finish "error") is missing, not failed.
    """
    given = [answer for answer in answers if answer.finish != "error"]
    grades = [playground.grade(prompts[a.prompt_id].instruction, a.text) for a in given]
    known = [(a, grade) for a, grade in zip(given, grades, strict=True) if grade is not None]
    if not known:
        return None
    passed = [grade.passed for _, grade in known]
    found = cluster_rate(passed, [answer.group_id for answer, _ in known])
    limits = {"rate": found.mean, "low": found.low, "high": found.high}
    return {"n": len(known), "passed": sum(passed), **limits}
