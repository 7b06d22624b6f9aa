"""Baselines stay below the exact front, and the metrics measure what their sources define."""

import sys

import numpy as np
import pytest

from support.files import needs_real_data
from support.routing_tables import random_tables, real_tables, recount
from understudy.errors import BadInput, EnvironmentFailed
from understudy.routing.baselines import hull, nsga2, random, shuffled, singles
from understudy.routing.exact import front
from understudy.routing.metrics import delta, hypervolume, igd
from understudy.routing.points import Points, non_dominated

TRUE = np.array([0.0, 2.0, 4.0]), np.array([0.2, 0.6, 0.8])
FOUND = np.array([4.0, 0.0, 1.0]), np.array([0.7, 0.2, 0.3])


def all_baselines(p: np.ndarray, c: np.ndarray) -> dict[str, Points]:
    return {
        "singles": singles(p, c),
        "random": random(p, c, count=20),
        "shuffled": shuffled(p, c, front(p, c).knee().assignment, count=20),
        "nsga2": nsga2(p, c, generations=5, population=12),
        "nsga2 seeded": nsga2(p, c, is_seeded=True, generations=5, population=12),
    }


def are_below(p: np.ndarray, c: np.ndarray, found: Points) -> bool:
    exact = front(p, c)
    line = np.interp(found.cost, exact.cost, exact.accuracy)
    is_paid = (found.cost >= exact.cost[0] * (1 - 1e-12)).all()
    return bool((found.accuracy <= line + 1e-9).all() and is_paid)


@pytest.mark.parametrize("seed", range(6))
def test_no_baseline_lies_above_the_exact_front(seed: int) -> None:
    p, c = random_tables(seed, n=80, m=5)
    for name, found in all_baselines(p, c).items():
        assert are_below(p, c, found), name
        for k, assignment in enumerate(found.assignments):
            assert recount(p, c, assignment) == pytest.approx((found.cost[k], found.accuracy[k]))


@needs_real_data
def test_no_baseline_lies_above_the_exact_front_of_a_published_table() -> None:
    _, success, cost = real_tables("overruling")
    for name, found in all_baselines(success, cost).items():
        assert are_below(success, cost, found), name


def test_the_zero_router_is_the_hull_of_the_single_llms() -> None:
    zero = hull(cost=[1.0, 2.0, 3.0, 5.0], accuracy=[0.5, 0.4, 0.8, 0.9])
    np.testing.assert_allclose(zero.cost, [1, 3, 5])  # the second is worse than a mix
    np.testing.assert_allclose(zero.accuracy, [0.5, 0.8, 0.9])
    p, c = random_tables(1, n=60, m=6)
    alone, exact = singles(p, c), front(p, c)
    zero = hull(alone.cost, alone.accuracy)
    mixed = np.interp(zero.cost, exact.cost, exact.accuracy)
    assert (zero.accuracy <= mixed + 1e-9).all()


def test_the_zero_router_of_one_llm_or_of_no_number() -> None:
    assert hull([2.0], [0.5]).cost.tolist() == [2.0]
    with pytest.raises(BadInput, match="p has the shape"):
        hull([], [])
    with pytest.raises(BadInput, match="is nan"):
        hull([1.0, np.nan], [0.5, 0.5])


@pytest.mark.parametrize("seed", range(5))
def test_the_shuffled_control_costs_what_the_router_costs(seed: int) -> None:
    p, c = random_tables(seed, n=300, m=5)
    plan = front(p, c).knee()
    control = shuffled(p, c, plan.assignment, count=30, seed=seed)
    assert (control.cost <= plan.cost * (1 + 1e-12)).all()
    assert (control.cost > plan.cost - c.max()).all()
    assert control.accuracy.mean() < plan.accuracy


def test_the_shuffled_control_keeps_the_shares_where_costs_are_alike() -> None:
    p, c = random_tables(1, n=200, m=4)
    c[:] = [1.0, 2.0, 3.0, 4.0]
    plan = front(p, c).knee()
    for dealt in shuffled(p, c, plan.assignment, count=5).assignments:
        np.testing.assert_array_equal(np.bincount(dealt), np.bincount(plan.assignment))


def test_a_seed_fixes_what_is_drawn() -> None:
    p, c = random_tables(2, n=50, m=4)
    for draw in (
        lambda seed: random(p, c, count=5, seed=seed),
        lambda seed: shuffled(p, c, front(p, c).knee().assignment, count=5, seed=seed),
        lambda seed: nsga2(p, c, generations=3, population=8, seed=seed),
    ):
        np.testing.assert_array_equal(draw(1).assignments, draw(1).assignments)
        assert not np.array_equal(draw(1).cost, draw(2).cost)


def test_a_seeded_genetic_search_knows_both_ends() -> None:
    p, c = random_tables(4, n=200, m=5)
    exact = front(p, c)
    seeded = nsga2(p, c, is_seeded=True, generations=5, population=12)
    plain = nsga2(p, c, generations=5, population=12)
    assert seeded.cost[0] == pytest.approx(exact.cost[0])
    assert seeded.accuracy[-1] == pytest.approx(exact.accuracy[-1])
    assert plain.cost[0] > exact.cost[0]
    assert plain.accuracy[-1] < exact.accuracy[-1]


def test_a_missing_pymoo_is_a_sentence_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pymoo.algorithms.moo.nsga2", None)
    with pytest.raises(EnvironmentFailed, match=r"pip install 'understudy\[routing\]'"):
        nsga2([[0.1, 0.2]], [[1, 2]])


def test_one_query_one_llm_and_llms_that_are_always_wrong() -> None:
    for p, c in (([[0.3]], [[2.0]]), (np.zeros((3, 2)), [[2.0, 1.0]] * 3)):
        p, c = np.array(p), np.array(c)
        for name, found in all_baselines(p, c).items():
            assert are_below(p, c, found), name


def test_non_dominated_keeps_the_best_of_each_cost_once() -> None:
    cost, accuracy = np.array([2.0, 1.0, 1.0, 1.0, 3.0]), np.array([0.5, 0.4, 0.3, 0.4, 0.5])
    kept = non_dominated(Points(np.arange(5)[:, None], cost, accuracy))
    assert kept.assignments.tolist() == [[1], [0]]


def test_inverted_generational_distance() -> None:
    raw = np.mean([0.0, np.hypot(1, 0.3), 0.1])
    assert igd(TRUE, FOUND) == pytest.approx(raw)
    shares = np.mean([0.0, np.hypot(0.5, 1 / 6), 1 / 6])
    assert igd(TRUE, FOUND, is_normalised=True) == pytest.approx(shares)
    assert igd(TRUE, TRUE) == 0
    from pymoo.indicators.igd import IGD

    assert igd(TRUE, FOUND) == pytest.approx(IGD(np.stack(TRUE, 1))(np.stack(FOUND, 1)))


def test_delta_takes_the_list_as_it_comes_unless_normalised() -> None:
    first, last = np.hypot(4, 0.5), np.hypot(3, 0.5)  # the list is not sorted: its ends are these
    gaps = np.hypot(4, 0.5), np.hypot(1, 0.1)
    mean = np.mean(gaps)
    nearest = np.array([np.hypot(3, 0.4), gaps[1], gaps[1]])
    published = (first + last + np.abs(nearest - mean).sum()) / (first + last + 2 * mean)
    assert delta(TRUE, FOUND) == pytest.approx(published)
    even = np.array([0.0, 2.0, 4.0]), np.array([0.2, 0.5, 0.8])
    assert delta(even, even, is_normalised=True) == pytest.approx(0)
    assert delta(TRUE, FOUND, is_normalised=True) == delta(
        TRUE, (np.sort(FOUND[0]), np.sort(FOUND[1])), is_normalised=True
    )
    assert np.isnan(delta(TRUE, (FOUND[0][:1], FOUND[1][:1])))


def test_hypervolume_is_the_dominated_share_of_the_box() -> None:
    area = 1.0 * 0 + 3.0 * 0.1 + 0.0
    assert hypervolume(TRUE, FOUND, is_normalised=False) == pytest.approx(area)
    assert hypervolume(TRUE, FOUND) == pytest.approx(area / (4 * 0.6))
    best = np.array([0.0]), np.array([0.8])
    assert hypervolume(TRUE, best) == pytest.approx(1)
    assert hypervolume(TRUE, (np.array([9.0]), np.array([0.8]))) == 0  # beyond the box
    assert np.isnan(hypervolume((np.ones(1), np.ones(1)), FOUND))
    from pymoo.indicators.hv import HV

    loss = np.stack([FOUND[0], -FOUND[1]], axis=1)
    reference = HV(ref_point=np.array([TRUE[0][-1], -TRUE[1][0]]))(loss)
    assert hypervolume(TRUE, FOUND, is_normalised=False) == pytest.approx(reference)
