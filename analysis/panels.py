"""Evaluations as the arrays that `understudy.evaluation.reliability` reports on, task by task."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from understudy.evaluation.panel import Panel
from understudy.evaluation.reliability import report
from understudy.evaluation.scores import METRICS
from understudy.evaluation.statistics.intervals import DRAWS

from . import labels, setups
from .evaluations import Codes, Data, Evaluation, Names, System, judge_name

# Published averages do not say in which order the judge read; it was the paper's one order.
_ORDERS = {"reference_first": ("reference_first", "unknown"), "swapped": ("candidate_first",)}


def panel(evaluations: Sequence[Evaluation], metric: str, order: str) -> Panel | None:
    """All judges' verdicts on the answers of one task, asked in one order; None without any."""
    asked = [one for one in evaluations if one.order in _ORDERS[order]]
    if not asked:
        return None
    judges = sorted({judge_name(one, with_order=False) for one in asked}, key=labels.rank)
    families = {judge_name(one, with_order=False): one.judge_family for one in asked}
    systems = {system_name(one.system): one.system for one in evaluations}
    place: dict[tuple[str, str, int], int] = {}
    for name, system in systems.items():
        for prompt, k in zip(system.prompt.tolist(), system.k.tolist(), strict=True):
            place[name, prompt, k] = len(place)
    repeats = 1 + max(int(one.repeat.max(initial=0)) for one in asked)
    found = np.full((len(place), len(judges), repeats), np.nan)
    for one in asked:
        name = system_name(one.system)
        answers = zip(one.system.prompt.tolist(), one.system.k.tolist(), strict=True)
        # A set of another judge may hold other answers of the system; they are not compared.
        rows = np.array([place.get((name, *answer), -1) for answer in answers])[one.answer]
        here = rows >= 0
        column = judges.index(judge_name(one, with_order=False))
        found[rows[here], column, one.repeat[here]] = one.scores(metric)[here]
    length = np.concatenate([system.length for system in systems.values()])
    spread = float(length.std())
    sizes = [len(system.prompt) for system in systems.values()]
    return Panel(
        scores=found,
        judges=judges,
        judge_families=[families[judge] for judge in judges],
        systems=list(systems),
        system_families=[system.family for system in systems.values()],
        system=np.repeat(np.arange(len(systems)), sizes),
        prompt=_codes([system.prompt for system in systems.values()]),
        cluster=_codes([system.cluster for system in systems.values()]),
        length=np.tanh(length / spread) if spread > 0 else np.full(len(length), np.nan),
        truth=np.full(len(length), np.nan),
    )


def system_name(system: System) -> str:
    """Published sets of several judges hold the same answers, and are one system."""
    size = "" if system.data_size != system.data_size else f"{system.data_size:.0f}"
    parts = [system.model, size, system.teacher, system.trainer, setups.words(system.setup)]
    parts += [] if system.seed is None else [str(system.seed)]
    return " ".join(part for part in parts if part)


def _codes(names: Sequence[Names]) -> Codes:
    return np.unique(np.concatenate(names), return_inverse=True)[1]


def reports(data: Data, draws: int = DRAWS) -> dict[tuple[str, str], dict[str, Any]]:
    """(task, metric) -> the judge report."""
    tasks: defaultdict[str, list[Evaluation]] = defaultdict(list)
    for one in data.evaluations:
        tasks[one.system.task].append(one)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for task, here in tasks.items():
        teachers = {
            system_name(one.system): one.system.teacher_family
            for one in here
            if one.system.teacher_family is not None
        }
        for metric in METRICS:
            first, second = (panel(here, metric, order) for order in _ORDERS)
            asked = first or second
            assert asked is not None, "every evaluation was asked in some order"
            is_pair = first is not None and second is not None and first.judges == second.judges
            found[task, metric] = report(asked, second if is_pair else None, teachers, draws)
    return found
