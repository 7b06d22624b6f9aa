"""From verdicts to means, coverage and ratios to a service with intervals, in arrays.

Two ratios have two names. `service_ratio` is a local model's mean over that of its service, on the
prompts of both. `P-Match` is the paper's: of a column (task, judge, metric, statistic) the best
local model over the best service. Both are in % and end at 0 and 1000; where the service is near 0
they say nothing, and the tables warn.

Seeds are replicates: a row each, and one of them all, whose interval is between seeds.

The numbers are those of `understudy.evaluation.scores`: repeats are averaged first, then the
samples of a prompt; clusters are `group_id`s.
"""

import itertools
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from understudy.evaluation.scores import COVERAGE_AT, METRICS
from understudy.evaluation.statistics.intervals import (
    CONFIDENCE,
    RATIO_MOST,
    SCORES,
    Interval,
    cluster_mean,
    cluster_rate,
    ratio_of_means,
)

from .evaluations import Data, Evaluation, Floats, Names, judge_name

NEAR_ZERO = 5.0  # points, or % of coverage
PARTS = ("mean", "low", "high")
STATISTICS = ("mean", *(f"coverage@{cut}" for cut in COVERAGE_AT))


class Prompts(NamedTuple):
    """One metric's mean per prompt; a prompt nobody scored is left out."""

    prompt: Names  # (P,) sorted
    cluster: Names
    mean: Floats


def answer_means(evaluation: Evaluation, metric: str) -> Floats:
    """(A,): the mean over the valid verdicts of each answer, NaN where there is none."""
    values = evaluation.scores(metric)
    known = ~np.isnan(values)
    size = len(evaluation.system.prompt)
    count = np.bincount(evaluation.answer[known], minlength=size)
    total = np.bincount(evaluation.answer[known], values[known], minlength=size)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def prompt_means(evaluation: Evaluation, metric: str) -> Prompts:
    """The mean over the scored answers of each prompt."""
    return _by_prompt(evaluation, answer_means(evaluation, metric))


def _by_prompt(evaluation: Evaluation, means: Floats) -> Prompts:
    keep = ~np.isnan(means)
    system = evaluation.system
    prompts, first, codes = np.unique(system.prompt[keep], return_index=True, return_inverse=True)
    mean = np.bincount(codes, means[keep]) / np.bincount(codes)
    return Prompts(prompts, system.cluster[keep][first], mean)


def on_scale(found: Interval, top: float = 100.0) -> Interval:
    """Limits that end where the scale does."""
    if found.low is None or found.high is None:
        return found
    return found._replace(low=max(found.low, 0.0), high=min(found.high, top))


@lru_cache(maxsize=4096)  # tables and figures ask for the same
def statistic(evaluation: Evaluation, metric: str, name: str) -> Interval:
    """`mean`, or `coverage@K` as a percentage."""
    if name == "mean":
        prompts = prompt_means(evaluation, metric)
        return on_scale(cluster_mean(prompts.mean, prompts.cluster, scale=SCORES))
    means = answer_means(evaluation, metric)
    keep = ~np.isnan(means)
    cut = float(name.partition("@")[2])
    found = cluster_rate(means[keep] >= cut, evaluation.system.cluster[keep])
    mean, low, high = (None if end is None else 100 * end for end in found[:3])
    return found._replace(mean=mean, low=low, high=high)


def service_ratio(local: Evaluation, service: Evaluation, metric: str) -> Interval:
    """Local over service in %, over the prompts that both have a score of."""
    ours, theirs = prompt_means(local, metric), prompt_means(service, metric)
    _, a, b = np.intersect1d(ours.prompt, theirs.prompt, return_indices=True)
    if not len(a):
        return Interval(None, None, None)
    return ratio_of_means(ours.mean[a], theirs.mean[b], ours.cluster[a])


def between(values: Sequence[float]) -> Interval:
    """The mean of replicates with Student's t interval; without limits below two of them."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None, None)
    from scipy.stats import t

    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return Interval(mean, mean - half, mean + half, error, len(values), "between seeds")


def service_of(local: Evaluation, evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """What a local model is compared with: its teacher where the judge saw it, else the first.

    Of several on other data or asked in another way, the one made most like it.
    """
    system = local.system
    rivals = [
        other
        for other in evaluations
        if other.system.role == "baseline"
        and (other.judge, other.system.task) == (local.judge, system.task)
        and np.isin(other.system.prompt, system.prompt).any()
    ]
    taught = [other for other in rivals if other.system.model == system.teacher]
    return min(taught or rivals, key=lambda other: _unlike(local, other), default=None)


def _unlike(one: Evaluation, other: Evaluation) -> int:
    """How many leaves both have read and found different."""
    mine, theirs = (
        {
            name: text
            for some in (*e.system.leaves.values(), e.leaves)
            for name, text in some.items()
        }
        for e in (one, other)
    )
    return sum(theirs.get(name, text) != text for name, text in mine.items())


def table(data: Data) -> pd.DataFrame:
    """One row per system and judge: every number of Table 1, with the limits beside it.

    Where seeds repeat a system, `seeds` names them, and a row of all follows those of each.
    """
    rows = [_row(one, data) for one in data.evaluations]
    groups: defaultdict[tuple[object, ...], list[dict[str, Any]]] = defaultdict(list)
    for one, row in zip(data.evaluations, rows, strict=True):
        row["seeds"] = "" if one.system.seed is None else str(one.system.seed)
        groups[replicate_of(one)].append(row)
    if all(len({row["seed"] for row in group}) < 2 for group in groups.values()):
        for row in rows:
            del row["seeds"]
        return pd.DataFrame(rows)
    found = []
    for group in groups.values():
        found += group
        if len({row["seed"] for row in group}) > 1:
            found.append(_together(group))
    return pd.DataFrame(found)


def replicate_of(one: Evaluation) -> tuple[object, ...]:
    """What evaluations have in common that differ in their seed only."""
    system = one.system
    size = None if system.data_size != system.data_size else system.data_size
    head = (system.task, system.role, system.model, system.trainer, system.teacher, size)
    alone = system.run if system.seed is None else None  # nobody knows of what it is a replicate
    return (*head, system.setup, judge_name(one), alone)


def _row(one: Evaluation, data: Data) -> dict[str, Any]:
    system = one.system
    row: dict[str, Any] = identity(one) | {
        "prompts": len(np.unique(system.prompt)),
        "clusters": len(np.unique(system.cluster)),
        "answers": len(system.prompt),
        "verdicts": len(one.answer),
        "unscored": int(np.isnan(one.precision).sum()),
        **system.contamination._asdict(),
    }
    service = service_of(one, data.evaluations) if system.role == "local" else None
    row["service"] = service.system.model if service else None
    for metric in METRICS:
        for name in STATISTICS:
            row |= _flat(f"{metric}.{name}", statistic(one, metric, name))
        nothing = Interval(None, None, None)
        ratio = service_ratio(one, service, metric) if service else nothing
        row |= _flat(f"{metric}.service_ratio", ratio)
        row[f"{metric}.near_zero"] = service is not None and is_near_zero(
            statistic(service, metric, "mean")
        )
    return row


def _together(group: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row of all seeds: means of theirs, each with its spread and interval between seeds."""
    row = dict(group[0])
    seeds = sorted({int(one["seed"]) for one in group})
    row |= {"seed": None, "seeds": ", ".join(map(str, seeds))}
    for name in ("verdicts", "unscored", "answers"):
        row[name] = sum(one[name] for one in group)
    for metric in METRICS:
        for name in (*STATISTICS, "service_ratio"):
            values = [v for one in group if (v := one[f"{metric}.{name}.mean"]) is not None]
            found = between(values) if values else Interval(None, None, None)
            row |= _flat(
                f"{metric}.{name}", on_scale(found, RATIO_MOST if "ratio" in name else 100)
            )
            row[f"{metric}.{name}.sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return row


def is_near_zero(service: Interval) -> bool:
    """Whether a ratio to this says next to nothing: less than 5 of 100, or not above 0 for sure."""
    low = service.mean if service.low is None else service.low
    return service.mean is not None and (service.mean < NEAR_ZERO or low is None or low <= 0)


def p_matches(data: Data) -> pd.DataFrame:
    """The paper's P-Match, a row per task, judge, metric and statistic; empty without a service.

    The interval is that of the pair that was chosen; being the best of several flatters both.
    """
    columns: defaultdict[tuple[str, str], list[Evaluation]] = defaultdict(list)
    for one in data.evaluations:
        columns[one.system.task, judge_name(one)].append(one)
    rows = []
    for (task, judge), group in columns.items():
        for metric, name in itertools.product(METRICS, STATISTICS):
            best = {role: _best(group, role, metric, name) for role in ("local", "baseline")}
            local, service = best["local"], best["baseline"]
            if local is None or service is None:
                continue
            rows.append(
                {"task": task, "judge": judge, "metric": metric, "statistic": name}
                | {"local": local.system.model, "service": service.system.model}
                | _flat("p_match", found := _ratio(local, service, metric, name))
                | {"clusters": found.clusters}
                | {"near_zero": is_near_zero(statistic(service, metric, name))}
            )
    return pd.DataFrame(rows)


def _best(group: Sequence[Evaluation], role: str, metric: str, name: str) -> Evaluation | None:
    known = [
        (value, -place, one)
        for place, one in enumerate(group)
        if one.system.role == role and (value := statistic(one, metric, name).mean) is not None
    ]
    return max(known)[2] if known else None  # places differ, so no evaluations are compared


def _ratio(local: Evaluation, service: Evaluation, metric: str, name: str) -> Interval:
    """The ratio of two statistics; its interval over the prompts that both have."""
    ours, theirs = (statistic(one, metric, name).mean for one in (local, service))
    if not ours or not theirs:
        return Interval(None if not theirs else 0.0, None, None)
    value = min(100 * ours / theirs, RATIO_MOST)
    sides = [_per_prompt(one, metric, name) for one in (local, service)]
    _, a, b = np.intersect1d(sides[0].prompt, sides[1].prompt, return_indices=True)
    if not len(a):
        return Interval(value, None, None)
    paired = ratio_of_means(sides[0].mean[a], sides[1].mean[b], sides[0].cluster[a])
    return paired._replace(mean=value)


def _per_prompt(one: Evaluation, metric: str, name: str) -> Prompts:
    """One statistic's mean per prompt."""
    if name == "mean":
        return prompt_means(one, metric)
    means, cut = answer_means(one, metric), float(name.partition("@")[2])
    hits = np.where(np.isnan(means), np.nan, np.where(means >= cut, 100.0, 0.0))
    return _by_prompt(one, hits)


def identity(one: Evaluation) -> dict[str, object]:
    """What tells an evaluation from the others."""
    system = one.system
    return {
        **{"task": system.task, "role": system.role, "model": system.model},
        **{"trainer": system.trainer, "teacher": system.teacher, "data_size": system.data_size},
        **{"seed": system.seed, "judge": judge_name(one)},
        **{f"leaf.{setting.name}": setting.value for setting in system.setup},
    }


def _flat(name: str, found: Interval) -> dict[str, float | None]:
    return {f"{name}.{part}": getattr(found, part) for part in PARTS}
