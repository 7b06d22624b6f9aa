"""From verdicts to means, coverage and P-Match with intervals, in arrays.

The numbers are those of `understudy.evaluation.scores`: repeats are averaged first, then the
samples of a prompt; clusters are `group_id`s.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from understudy.evaluation.scores import COVERAGE_AT, METRICS
from understudy.evaluation.statistics.intervals import (
    SCORES,
    Interval,
    cluster_mean,
    cluster_rate,
    ratio_of_means,
)

from .evaluations import Data, Evaluation, Floats, Names

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
    means = answer_means(evaluation, metric)
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


def p_match(local: Evaluation, service: Evaluation, metric: str) -> Interval:
    """Local over service in %, over the prompts that both have a score of."""
    ours, theirs = prompt_means(local, metric), prompt_means(service, metric)
    _, a, b = np.intersect1d(ours.prompt, theirs.prompt, return_indices=True)
    if not len(a):
        return Interval(None, None, None)
    return ratio_of_means(ours.mean[a], theirs.mean[b], ours.cluster[a])


def service_of(local: Evaluation, evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """What P-Match compares with: the teacher itself where the judge saw it, else the first."""
    system = local.system
    rivals = [
        other
        for other in evaluations
        if other.system.role == "baseline"
        and (other.judge, other.system.task) == (local.judge, system.task)
        and np.isin(other.system.prompt, system.prompt).any()
    ]
    taught = [other for other in rivals if other.system.model == system.teacher]
    return next(iter(taught or rivals), None)


def table(data: Data) -> pd.DataFrame:
    """One row per system and judge: every number of Table 1, with the limits beside it."""
    rows = []
    for one in data.evaluations:
        system = one.system
        row = identity(one) | {
            "prompts": len(np.unique(system.prompt)),
            "answers": len(system.prompt),
            "verdicts": len(one.answer),
            "unscored": int(np.isnan(one.precision).sum()),
            **system.contamination._asdict(),
        }
        service = service_of(one, data.evaluations) if system.role == "local" else None
        row["p_match_with"] = service.system.model if service else None
        for metric in METRICS:
            for name in STATISTICS:
                row |= _flat(f"{metric}.{name}", statistic(one, metric, name))
            nothing = Interval(None, None, None)
            match = p_match(one, service, metric) if service else nothing
            row |= _flat(f"{metric}.p_match", match)
        rows.append(row)
    return pd.DataFrame(rows)


def identity(one: Evaluation) -> dict[str, object]:
    """What tells an evaluation from the others."""
    system = one.system
    return {
        **{"task": system.task, "role": system.role, "model": system.model},
        **{"trainer": system.trainer, "teacher": system.teacher, "data_size": system.data_size},
        **{"seed": system.seed, "judge": judge_name(one)},
    }


def judge_name(one: Evaluation, with_order: bool = True) -> str:
    """Return the judge, and how it was asked where that is not the usual way."""
    unusual = [one.prompt_variant] if one.prompt_variant not in ("default", "unknown") else []
    if with_order and one.order not in ("reference_first", "unknown"):
        unusual.append(one.order.replace("_", " "))
    return f"{one.judge} ({', '.join(unusual)})" if unusual else one.judge


def _flat(name: str, found: Interval) -> dict[str, float | None]:
    return {f"{name}.{part}": getattr(found, part) for part in PARTS}
