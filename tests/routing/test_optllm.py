"""OptLLM as published: what its moves do, that it never passes the exact front, its predictor."""

import numpy as np
import pytest

from support.files import needs_real_data
from support.routing_tables import random_tables, real_tables, recount
from understudy.errors import BadInput
from understudy.routing.exact import front
from understudy.routing.optllm import (
    Labelled,
    Points,
    for_accuracy,
    forecast,
    non_dominated,
    search,
    within_budget,
)

# Two queries, two LLMs: the first upgrade is worth .8 for a dollar, the second .2 for two.
P, C = [[0.1, 0.9], [0.2, 0.4]], [[1.0, 2.0], [1.0, 3.0]]


def height(p: np.ndarray, c: np.ndarray, found: Points) -> np.ndarray:
    """How far the points lie above the broken line through the exact front."""
    exact = front(p, c)
    return found.accuracy - np.interp(found.cost, exact.cost, exact.accuracy)


def test_destruction_takes_the_largest_steps_first() -> None:
    found = search(P, C, grid=2)
    np.testing.assert_array_equal(found.assignments, [[0, 0], [1, 0], [1, 1]])
    np.testing.assert_allclose(found.cost, [2, 3, 5])
    np.testing.assert_allclose(found.accuracy, [0.15, 0.55, 0.65])


def test_reconstruction_sells_dear_accuracy_and_buys_cheap() -> None:
    p, c = [[0.0, 0.9], [0.0, 0.1]], [[0.0, 2.0], [0.0, 1.0]]
    found = search(p, c, grid=3)  # a step of one dollar drops the first query, which saves two
    np.testing.assert_array_equal(found.assignments, [[0, 0], [1, 0], [1, 1]])


def test_dominated_llms_are_left_at_no_cost() -> None:
    found = search([[0.5, 0.9, 0.4]], [[2.0, 1.0, 1.5]])
    np.testing.assert_array_equal(found.assignments, [[1]])


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("grid", [1, 10, 50])
def test_no_point_lies_above_the_exact_front(seed: int, grid: int) -> None:
    p, c = random_tables(seed, n=150, m=6)
    found = search(p, c, grid)
    assert len(found.cost) <= 2 * grid
    assert (np.diff(found.cost) > 0).all()
    assert (np.diff(found.accuracy) > 0).all()
    assert (height(p, c, found) <= 1e-9).all()
    for k, assignment in enumerate(found.assignments):
        assert recount(p, c, assignment) == pytest.approx((found.cost[k], found.accuracy[k]))


def test_without_ties_every_exchange_ends_on_the_exact_front() -> None:
    p, c = random_tables(4, n=400, m=8)
    found = search(p, c)
    assert len(found.cost) > 50
    assert np.abs(height(p, c, found)).max() < 1e-9


def test_robust_predictions_rule_the_walk_down_only() -> None:
    p, c = random_tables(5, n=100, m=5)
    found = search(p, c, grid=10, robust=p + 0.3)
    assert found.accuracy[-1] == pytest.approx(p.max(axis=1).mean() + 0.3)
    assert found.accuracy[0] == pytest.approx(recount(p, c, c.argmin(axis=1))[1])


@pytest.mark.parametrize("seed", range(12))
def test_a_single_answer_uses_its_budget_and_no_more(seed: int) -> None:
    p, c = random_tables(seed, n=150, m=6)
    exact = front(p, c)
    for share in (0.0, 0.1, 0.5, 0.9, 1.1):
        usd = exact.cost[0] + share * (exact.cost[-1] - exact.cost[0])
        found, plan = within_budget(p, c, usd), exact.at_budget(usd)
        assert found.cost[0] <= usd * (1 + 1e-12)
        assert found.accuracy[0] <= plan.certificate.bound + 1e-9
        assert found.accuracy[0] >= plan.certificate.bound - 3 / 150


@pytest.mark.parametrize("seed", range(12))
def test_a_single_answer_reaches_its_accuracy_at_little_cost(seed: int) -> None:
    p, c = random_tables(seed, n=150, m=6)
    exact = front(p, c)
    for share in (-0.1, 0.0, 0.1, 0.5, 0.9, 1.0):
        target = exact.accuracy[0] + share * (exact.accuracy[-1] - exact.accuracy[0])
        found, plan = for_accuracy(p, c, target), exact.at_accuracy(target)
        assert found.accuracy[0] >= target - 1e-12
        assert plan.certificate.bound - 1e-9 <= found.cost[0]
        assert found.cost[0] <= plan.certificate.bound + 3 * c.max()


def test_an_impossible_search_is_a_sentence() -> None:
    with pytest.raises(BadInput, match="a grid of 0 steps"):
        search(P, C, grid=0)
    with pytest.raises(BadInput, match="a budget of 1 USD is below"):
        within_budget(P, C, 1)
    with pytest.raises(BadInput, match=r"an accuracy of 0\.7 is above"):
        for_accuracy(P, C, 0.7)
    with pytest.raises(BadInput, match=r"c\[0, 0\] is -1"):
        search(P, [[-1, 1], [1, 1]])


def test_one_query_one_llm_and_llms_that_are_always_wrong() -> None:
    assert search([[0.3]], [[2.0]]).cost.tolist() == [2.0]
    assert search(np.zeros((3, 2)), [[2.0, 1.0]] * 3).cost.tolist() == [3.0]


@needs_real_data
@pytest.mark.parametrize("name", ["overruling", "routerbench"])
def test_no_point_lies_above_the_exact_front_of_a_published_table(name: str) -> None:
    _, success, cost = real_tables(name)
    found = search(success, cost, grid=50)
    assert (height(success, cost, found) <= 1e-9).all()
    smooth = 0.8 * success + 0.2 * success.mean(axis=0)  # what a shrunk predictor looks like
    assert (height(smooth, cost, search(smooth, cost, grid=10)) <= 1e-9).all()


def test_non_dominated_keeps_the_best_of_each_cost_once() -> None:
    cost, accuracy = np.array([2.0, 1.0, 1.0, 1.0, 3.0]), np.array([0.5, 0.4, 0.3, 0.4, 0.5])
    kept = non_dominated(Points(np.arange(5)[:, None], cost, accuracy))
    assert kept.assignments.tolist() == [[1], [0]]


@pytest.mark.slow
def test_the_published_predictor_survives_a_single_class() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((12, 3))
    success = np.column_stack([np.ones(12), np.zeros(12), features[:, 0] > 0]).astype(float)
    train = Labelled(features[:8], success[:8])
    check = Labelled(features[8:], success[8:])
    found = forecast(train, check, features, seed=0, bootstraps=3)
    np.testing.assert_array_equal(found.plain[:, 0], 1)
    np.testing.assert_array_equal(found.bootstrap.mean[:, 1], 0)
    assert found.bootstrap.sigma[:, 2].max() > 0
    np.testing.assert_allclose(
        found.robust(0.5), found.bootstrap.mean + 0.5 * found.bootstrap.sigma
    )
