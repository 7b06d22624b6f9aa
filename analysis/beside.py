"""What stands beside a printed cell: the same from released rows, and from one's own runs.

Table 1 has one number for each task, model, judge, metric and statistic. Of several evaluations of
it those count that the paper's prompt asked for, and of them those on the most rows; of several
seeds the mean counts, with its interval between them. Rehearsals and made-up sets stand beside
nothing.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from understudy.evaluation.scores import METRICS
from understudy.evaluation.statistics.intervals import Interval

from . import labels, scores
from .evaluations import Data, Evaluation

CELL = ("task", "model", "judge", "metric", "statistic")
ORIGINS = ("released", "ours")
_NOTHING = Interval(None, None, None)
_PAPERS = ("paper", "unknown")  # prompts; a released row does not say

Cell = tuple[str, ...]


class Side(NamedTuple):
    """All cells of one origin."""

    evaluations: list[Evaluation]
    final: list[Evaluation]  # that the cells are of
    cells: dict[Cell, Interval]  # by CELL
    p_matches: dict[Cell, Interval]  # by CELL without the model


Sides = dict[str, Side]  # by origin
NONE: Sides = {origin: Side([], [], {}, {}) for origin in ORIGINS}


def sides(data: Data) -> Sides:
    """The cells of released rows and of runs."""
    if data.is_rehearsal:
        return NONE
    mine = {run.name for run in data.runs}
    parts: dict[str, list[Evaluation]] = {origin: [] for origin in ORIGINS}
    for one in data.evaluations:
        parts["ours" if one.system.run in mine else "released"].append(one)
    return {origin: _side(part, data) for origin, part in parts.items()}


def flat(side: Side, key: Cell, name: str) -> dict[str, float | None]:
    """A cell's value and limits as columns `name`.mean, .low and .high; None where it has none."""
    found = (side.cells if len(key) == len(CELL) else side.p_matches).get(key, _NOTHING)
    return {f"{name}.{part}": getattr(found, part) for part in scores.PARTS}


def _side(evaluations: list[Evaluation], data: Data) -> Side:
    groups: defaultdict[Cell, list[Evaluation]] = defaultdict(list)
    for one in evaluations:
        names = (one.system.task, one.system.model, one.judge)
        groups[tuple(labels.canonical(name) for name in names)].append(one)
    final = {key: _final(group) for key, group in groups.items()}
    cells = {
        (*key, metric, name): _value(group, metric, name)
        for key, group in final.items()
        for metric in METRICS
        for name in scores.STATISTICS
    }
    matches = scores.p_matches(Data(evaluations, data.runs)).to_dict("records")
    p_matches = {
        tuple(str(row[name]) for name in CELL if name != "model"): Interval(
            *(row[f"p_match.{part}"] for part in scores.PARTS)
        )
        for row in matches
    }
    return Side(evaluations, [one for group in final.values() for one in group], cells, p_matches)


def _final(group: Sequence[Evaluation]) -> list[Evaluation]:
    """Those asked as in the paper, where there are any, on the most rows."""
    usual = [one for one in group if one.prompt_variant in _PAPERS] or list(group)

    def rows(one: Evaluation) -> float:
        size = one.system.data_size
        return size if size == size else -1.0

    most = max(rows(one) for one in usual)
    return [one for one in usual if rows(one) == most]


def _value(final: Sequence[Evaluation], metric: str, name: str) -> Interval:
    found = [scores.statistic(one, metric, name) for one in final]
    if len(found) == 1:
        return found[0]
    known = [one.mean for one in found if one.mean is not None]
    return scores.on_scale(scores.between(known)) if known else _NOTHING
