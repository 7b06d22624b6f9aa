"""Verdicts cut into boards: what can be compared, as matrices of answers, raters and repeats.

A dimension (coherence, fluency) is a board of its own, and so is a subset whose scores end
elsewhere than those of the others.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from understudy.evaluation.panel import Panel, nan_mean
from understudy.evaluation.statistics.intervals import Codes, Floats, Mask
from understudy.judges import measure
from understudy.judges.verdicts import Verdicts

_ANOTHER_SCALE = 1.5  # times the top: 4 and 5 are one scale that nobody used up, 5 and 10 are two


class Board(NamedTuple):
    """The verdicts on one dimension, and on one subset where scales differ."""

    head: dict[str, Any]  # table, and board where there are several
    found: Verdicts
    rows: Codes  # into the verdicts

    def matrix(self, raters: Sequence[int]) -> tuple[Codes, Floats, Mask]:
        """The answers (A,) that these raters were asked about, their scores (A, J, M), asked."""
        mine = self.rows[np.isin(self.found.rater[self.rows], raters)]
        answers, place = np.unique(self.found.answer[mine], return_inverse=True)
        repeat = self.found.repeat[mine]
        number = np.full(len(self.found.raters), -1)
        number[list(raters)] = np.arange(len(raters))
        shape = (len(answers), len(raters), int(repeat.max(initial=0)) + 1)
        scores, asked = np.full(shape, np.nan), np.zeros(shape, dtype=bool)
        at = (place, number[self.found.rater[mine]], repeat)
        scores[at], asked[at] = self.found.score[mine], True
        return answers, scores, asked

    def raters(self) -> list[int]:
        """Those with verdicts here."""
        return [int(one) for one in np.unique(self.found.rater[self.rows])]


def boards(name: str, found: Verdicts, is_one_scale: bool = False) -> Iterator[Board]:
    """Every dimension, cut by subset where the subsets' scales differ."""
    of_judges = ~np.array([rater.is_human for rater in found.raters])[found.rater]
    for code, dimension in enumerate(found.dimensions):
        rows = np.flatnonzero(found.dimension == code)
        if not of_judges[rows].any():
            continue
        head: dict[str, Any] = {"table": name} if name else {}
        if len(found.dimensions) > 1:
            head["board"] = dimension
        subset = found.subset[found.answer[rows]]
        tops = {}
        for one in np.unique(subset):
            scores = found.score[rows[(subset == one) & of_judges[rows]]]
            if (ends := measure.scale_ends(scores)) is not None:
                tops[int(one)] = ends.top
        if (
            not is_one_scale
            and found.top is None
            and tops
            and max(tops.values()) > _ANOTHER_SCALE * min(tops.values())
        ):
            for one in tops:
                board = ": ".join(filter(None, (head.get("board", ""), found.subsets[one])))
                yield Board(head | {"board": board}, found, rows[subset == one])
        else:
            yield Board(head, found, rows)


class Humans(NamedTuple):
    """Humans of one kind (experts, crowd workers), whose mean counts."""

    kind: str
    names: list[str]
    answers: Codes  # (A,)
    scores: Floats  # (A, H)


def humans_of(board: Board, numbers: Sequence[int]) -> list[Humans]:
    """The humans among raters by their kind: expert_1 and expert_2 are experts."""
    kinds: dict[str, list[int]] = {}
    for number in numbers:
        name = board.found.raters[number].judge
        kinds.setdefault(re.sub(r"[\W_]*[a-z]?\d+$", "", name) or name, []).append(number)
    made = []
    for kind, members in kinds.items():
        answers, scores, _ = board.matrix(members)
        names = [board.found.raters[n].judge for n in members]
        made.append(Humans(kind, names, answers, nan_mean(scores)))
    return made


def aligned(humans: Humans, answers: Codes) -> Floats:
    """(A,): the humans' mean on each of these answers, or NaN."""
    means = nan_mean(humans.scores)
    place = np.searchsorted(humans.answers, answers).clip(max=len(humans.answers) - 1)
    return np.where(humans.answers[place] == answers, means[place], np.nan)


def as_panel(board: Board, answers: Codes, scores: Floats, judges: Sequence[int]) -> Panel:
    """The panel of these judges on these answers, families and lengths unknown."""
    found = board.found
    names = [found.raters[n].judge for n in judges]
    return Panel(
        scores=scores, judges=names, judge_families=[""] * len(names), systems=found.systems,
        system_families=[""] * len(found.systems), system=found.system[answers],
        prompt=np.unique(found.item[answers], return_inverse=True)[1],
        cluster=np.unique(found.cluster[answers], return_inverse=True)[1],
        length=np.full(len(answers), np.nan), truth=np.full(len(answers), np.nan),
    )  # fmt: skip
