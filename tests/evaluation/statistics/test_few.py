"""The score test of a mean: Tango's formula, exact binomials, and agreement of limit and test."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import optimize, special, stats

from support.worlds import World, differences, draw, totals
from understudy.evaluation.decision import SCALE
from understudy.evaluation.statistics import few, intervals


def paired(losses: int, wins: int, prompts: int) -> Any:
    values = np.zeros((1, prompts))
    values[0, :losses] = -100
    values[0, prompts - wins :] = 100
    return values


def tango(losses: int, wins: int, prompts: int, bound: float) -> float:
    """z of Tango (1998): the likelihood of losses and wins is maximised where they differ by it."""

    def unlikely(share: float) -> float:
        ties = prompts - losses - wins
        logs = special.xlogy([losses, wins, ties], [share + bound, share, 1 - 2 * share - bound])
        return -float(logs.sum())

    end = (1 - bound) / 2
    share = optimize.minimize_scalar(unlikely, bounds=(0, end), options={"xatol": 1e-10}).x
    variance = 2 * share + bound - bound**2
    return (wins - losses + prompts * bound) / math.sqrt(prompts * float(variance))


@pytest.mark.parametrize(("losses", "wins"), [(0, 0), (1, 0), (1, 1), (2, 4), (9, 7), (0, 3)])
def test_on_paired_right_and_wrong_answers_it_is_tangos_test(losses: int, wins: int) -> None:
    centred = paired(losses, wins, 100) + 5.0
    variance = few._variance(centred, np.array([95.0]))
    z = centred.mean() / math.sqrt(float(variance[0]) / 100)
    assert z == pytest.approx(tango(losses, wins, 100, 0.05), abs=1e-4)


def test_the_exact_level_with_a_perfect_service_is_kept_whatever_the_number_of_prompts() -> None:
    for prompts in (20, 50, 60, 75, 88, 100, 129, 200, 400):
        said = [
            losses
            for losses in range(prompts // 10)
            if few.above(paired(losses, 0, prompts), np.ones((1, prompts)), -5.0, -100.0, 0.05)[0]
        ]
        wrong = stats.binom.cdf(max(said, default=-1), prompts, 0.05)
        assert wrong <= 0.062, f"{prompts} prompts"


def test_clusters_of_unequal_size_count_as_what_they_are_worth() -> None:
    assert few.effective(np.array([3.0, 3.0, 3.0])) == pytest.approx(3)
    assert few.effective(np.array([98.0, 1.0, 1.0])) == pytest.approx(1.04, abs=0.01)
    values, ones = np.zeros((1, 100)), np.ones((1, 100))
    assert few.above(values, ones, -5.0, -100.0, 0.05)[0]
    one_giant = np.where(np.arange(100) == 0, 100.0, 1.0)
    assert not few.above(values, one_giant[None], -5.0, -100.0, 0.05)[0]


@pytest.mark.parametrize("values", ["gaussian", "ties", "one"])
@pytest.mark.parametrize("prompts", ["n60", "g40", "z20"])
def test_the_limit_is_above_a_bound_exactly_where_the_test_says_so(
    values: str, prompts: str
) -> None:
    world = World(values, prompts)
    scores = draw(world, 20, np.random.default_rng(1))
    top, bottom = totals(differences(scores)[1], scores.cluster)
    low, _, _ = intervals.limits(top, bottom, 0.05, 499, scale=SCALE)
    for bound in (-20.0, -10.0, -5.0, -1.0):
        found = intervals.exceeds(top, bottom, bound, 0.05, 499, SCALE)
        assert (found == (low > bound)).all()
