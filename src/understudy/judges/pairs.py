"""What verdicts on pairs of answers show: who is right, which place wins, who agrees."""

from typing import NamedTuple

import numpy as np

from understudy.evaluation.statistics.agreement import krippendorff_alpha
from understudy.evaluation.statistics.intervals import (
    DRAWS,
    Codes,
    Floats,
    Interval,
    Mask,
    cluster_mean,
    cluster_rate,
)
from understudy.judges.measure import NOTHING
from understudy.judges.verdicts import Contests


class PairJudge(NamedTuple):
    """One judge asked in one way; shares are from 0 to 1."""

    verdicts: int  # that name a winner or a tie
    unscored: int
    tied: float | None
    right: Interval  # of verdicts; a tie is half right
    right_twice: Interval  # of pairs shown in both orders: right in both
    same: Interval  # of pairs shown in both orders: the same winner
    place: Interval  # share of verdicts for the answer shown first, ties as halves
    both_orders: int  # pairs


def judges(found: Contests) -> list[PairJudge]:
    """One entry per rater."""
    return [_judge(found, number) for number in range(len(found.raters))]


def _judge(found: Contests, number: int) -> PairJudge:
    mine = found.rater == number
    wins, swapped, right = found.wins[mine], found.is_swapped[mine], found.right[mine]
    pair, cluster = found.pair[mine], found.cluster[mine]
    known = ~np.isnan(wins)
    shown_first = np.where(swapped, 1 - wins, wins)
    judged = known & ~np.isnan(right) & (right != 0.5)
    agreed = 1 - np.abs(wins - right)
    straight, turned = _by_pair(wins, pair, known & ~swapped), _by_pair(wins, pair, known & swapped)
    both = np.flatnonzero(~np.isnan(straight + turned))
    _, first = np.unique(pair, return_index=True)
    row = np.full(int(pair.max(initial=-1)) + 1, -1)
    row[pair[first]] = first
    truth = right[row[both]]
    sure = ~np.isnan(truth) & (truth != 0.5)
    twice = (straight[both] == truth) & (turned[both] == truth)
    return PairJudge(
        verdicts=int(known.sum()),
        unscored=int((~known).sum()),
        tied=float((wins[known] == 0.5).mean()) if known.any() else None,
        right=_mean(agreed[judged], cluster[judged]),
        right_twice=cluster_rate(twice[sure], cluster[row[both]][sure]) if sure.any() else NOTHING,
        same=cluster_rate(straight[both] == turned[both], cluster[row[both]])
        if len(both)
        else NOTHING,
        place=_mean(shown_first[known], cluster[known]),
        both_orders=len(both),
    )


def _by_pair(wins: Floats, pair: Codes, chosen: Mask) -> Floats:
    """The mean verdict of each pair among those chosen, by its number; NaN without one."""
    size = int(pair.max(initial=-1)) + 1
    where = np.flatnonzero(chosen)
    count = np.bincount(pair[where], minlength=size)
    total = np.bincount(pair[where], wins[where], minlength=size)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: Floats = total / count
    return found


def _mean(values: Floats, cluster: Codes) -> Interval:
    return cluster_mean(values, cluster) if len(values) else NOTHING


def alpha(found: Contests, asked: str, draws: int = DRAWS) -> tuple[Interval, int]:
    """Krippendorff's alpha of the raters asked in one way, a tie between two wins; and how many."""
    numbers = [n for n, rater in enumerate(found.raters) if rater.asked == asked]
    if len(numbers) < 2:
        return NOTHING, len(numbers)
    pairs, code = np.unique(found.pair, return_inverse=True)
    _, first = np.unique(code, return_index=True)
    scores = np.stack(
        [
            np.resize(
                _by_pair(found.wins, code, (found.rater == n) & ~np.isnan(found.wins)), len(pairs)
            )
            for n in numbers
        ],
        axis=1,
    )
    cluster = np.unique(found.cluster[first], return_inverse=True)[1]
    return krippendorff_alpha(scores, cluster, draws=draws), len(numbers)


class SystemWins(NamedTuple):
    """How often a system wins its pairs, ties as halves, in the eyes of one rater."""

    system: str
    rater: int
    verdicts: int
    wins: Interval


def standings(found: Contests) -> list[SystemWins]:
    """Every system that verdicts name, under every rater."""
    rows = []
    for number in range(len(found.raters)):
        mine = (found.rater == number) & ~np.isnan(found.wins)
        for code, system in enumerate(found.systems):
            first, second = mine & (found.first == code), mine & (found.second == code)
            values = np.concatenate([found.wins[first], 1 - found.wins[second]])
            if len(values):
                cluster = np.concatenate([found.cluster[first], found.cluster[second]])
                rows.append(SystemWins(system, number, len(values), cluster_mean(values, cluster)))
    return rows
