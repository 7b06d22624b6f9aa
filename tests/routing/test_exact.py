"""The exact front against brute force, HiGHS, duality and the data sets at hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array, kron, vstack

from support.files import needs_real_data
from support.routing_tables import random_tables, real_tables, recount
from understudy.errors import BadInput
from understudy.routing.exact import Front, assign, front


def every_assignment(p: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cost and accuracy of all M^N assignments."""
    n, m = p.shape
    choices = np.array(list(itertools.product(range(m), repeat=n)))
    rows = np.arange(n)
    return c[rows, choices].sum(axis=1), p[rows, choices].mean(axis=1)


def best_by_highs(
    p: np.ndarray, c: np.ndarray, budget: float, integer: bool = False
) -> tuple[float, np.ndarray]:
    """Mean accuracy of the best (fractional) assignment within the budget."""
    n, m = p.shape
    one_each = kron(csr_array(np.eye(n)), csr_array(np.ones((1, m))))
    rows = vstack([one_each, csr_array(c.reshape(1, -1))]).tocsr()
    if integer:
        limits = LinearConstraint(rows, np.r_[np.ones(n), -np.inf], np.r_[np.ones(n), budget])
        exactly = {"mip_rel_gap": 0.0}
        found = milp(
            -p.ravel(), constraints=limits, integrality=1, bounds=Bounds(0, 1), options=exactly
        )
    else:
        found = linprog(
            -p.ravel(), A_ub=rows[[n]], b_ub=[budget], A_eq=rows[:n], b_eq=np.ones(n), bounds=(0, 1)
        )
    assert found.status == 0
    return -found.fun / n, found.x.reshape(n, m)


def is_monotone_and_concave(found: Front) -> bool:
    slopes = np.diff(found.accuracy) / np.maximum(np.diff(found.cost), 1e-300)
    rising = (np.diff(found.cost) >= 0).all() and (np.diff(found.accuracy) >= 0).all()
    clear = np.diff(found.cost) > 1e-9  # slopes of the smallest steps are rounding
    return bool(rising and (np.diff(slopes[clear]) <= 1e-6 * slopes[clear][1:] + 1e-9).all())


@pytest.mark.parametrize("seed", range(300))
def test_every_point_of_a_tiny_front_is_what_brute_force_finds(seed: int) -> None:
    p, c = random_tables(seed, n=1 + seed % 5, m=1 + seed % 4)
    cost, accuracy = every_assignment(p, c)
    found = front(p, c)
    assert found.cost[0] == pytest.approx(cost.min(), abs=1e-9)
    assert found.accuracy[-1] == pytest.approx(accuracy.max(), abs=1e-9)
    for k in range(len(found)):
        best = accuracy[cost <= found.cost[k] + 1e-9].max()
        assert found.accuracy[k] == pytest.approx(best, abs=1e-9)
        assert recount(p, c, found.assignment(k)) == pytest.approx(
            (found.cost[k], found.accuracy[k]), abs=1e-9
        )
    for budget in np.linspace(cost.min(), cost.max(), 7):
        plan = found.at_budget(budget)
        best = accuracy[cost <= budget + 1e-12].max()
        assert plan.accuracy <= best + 1e-9
        assert best <= plan.certificate.bound + 1e-9
        assert 0 <= plan.certificate.gap <= plan.certificate.step
    # No assignment lies above the broken line through the points: none supported is missing.
    line = np.interp(cost, found.cost, found.accuracy)
    assert (accuracy <= line + 1e-9).all()


@pytest.mark.parametrize("seed", range(50))
def test_the_bound_is_the_optimum_of_the_linear_programme(seed: int) -> None:
    p, c = random_tables(seed + 1000, n=200, m=12)
    found = front(p, c)
    share = (seed + 1) / 52
    budget = found.cost[0] + share * (found.cost[-1] - found.cost[0])
    best, _ = best_by_highs(p, c, budget)
    plan = found.at_budget(budget)
    assert plan.certificate.bound == pytest.approx(best, abs=1e-9)
    assert plan.certificate.gap == pytest.approx(best - plan.accuracy, abs=1e-9)
    assert plan.certificate.gap <= plan.certificate.step < 1 / 200
    assert is_monotone_and_concave(found)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_best_integer_assignment_is_less_than_one_step_away(seed: int) -> None:
    p, c = random_tables(seed, n=60, m=6)
    found = front(p, c)
    budget = found.cost[0] + 0.37 * (found.cost[-1] - found.cost[0])
    best, _ = best_by_highs(p, c, budget, integer=True)
    plan = found.at_budget(budget)
    assert plan.accuracy <= best + 1e-9
    assert best - plan.accuracy < plan.certificate.step


@pytest.mark.parametrize("seed", [1, 2, 4, 5])
def test_the_rule_of_a_points_price_gives_its_assignment(seed: int) -> None:
    p, c = random_tables(seed, n=200, m=12)
    found = front(p, c)
    assert (np.diff(found.price) <= 0).all()
    for k in range(len(found)):
        np.testing.assert_array_equal(assign(p, c, found.price[k]), found.assignment(k))


def test_tied_steps_share_a_price_and_its_rule_takes_none_of_them() -> None:
    p, c = np.tile([0.0, 1.0], (4, 1)), np.tile([1.0, 3.0], (4, 1))
    found = front(p, c)
    np.testing.assert_array_equal(found.price, [0.75, 0.75, 0.75, 0.75, 0.25])
    np.testing.assert_array_equal(assign(p, c, 0.5), found.at_price(0.5).assignment)
    np.testing.assert_array_equal(found.at_price(0.5).assignment, 0)
    assert found.at_budget(8).price == 0.75  # its rule keeps the budget
    assert found.at_accuracy(0.5).price == 0.25  # and this one the accuracy
    np.testing.assert_array_equal(found.assignment(2), [1, 1, 0, 0])  # lower numbers first


@pytest.mark.parametrize("seed", [0, 3, 6])  # full of ties
def test_prices_lie_so_far_from_slopes_that_rounding_and_order_decide_nothing(seed: int) -> None:
    p, c = random_tables(seed, n=200, m=12)
    rng = np.random.default_rng(seed)
    mixed = rng.permutation(12)
    shaken = p * (1 + 1e-13 * rng.standard_normal(p.shape)), c  # as another order of sums would
    found = front(p, c)
    for price in np.unique(found.price):
        assert np.abs(found.slope - price).min() > 1e-9 * price
        chosen = assign(p, c, price)
        taken = c[np.arange(200), chosen]
        for other in (assign(*shaken, price), mixed[assign(p[:, mixed], c[:, mixed], price)]):
            np.testing.assert_array_equal(c[np.arange(200), other], taken)
            np.testing.assert_array_equal(p[np.arange(200), other], p[np.arange(200), chosen])


@pytest.mark.parametrize("seed", [0, 3, 7])
def test_any_price_bounds_every_assignment_of_a_cost(seed: int) -> None:
    p, c = random_tables(seed, n=5, m=4)
    cost, accuracy = every_assignment(p, c)
    found = front(p, c)
    for price in (0.0, *found.price, 10.0):
        plan = found.at_price(price)
        dual = (p - price * c).max(axis=1).sum() + price * cost  # weak duality
        assert (accuracy <= dual / len(p) + 1e-9).all()
        assert plan.accuracy * len(p) - price * plan.cost == pytest.approx(
            (p - price * c).max(axis=1).sum(), abs=1e-9
        )


grid = st.integers(0, 4).map(lambda i: i / 4)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 6), st.integers(1, 5))
def test_the_order_of_the_llms_changes_nothing(data: st.DataObject, n: int, m: int) -> None:
    p = data.draw(arrays(float, (n, m), elements=grid))
    c = data.draw(arrays(float, (n, m), elements=grid))
    order = data.draw(st.permutations(range(m)))
    one, other = front(p, c), front(p[:, order], c[:, order])
    np.testing.assert_array_equal(one.cost, other.cost)
    np.testing.assert_array_equal(one.accuracy, other.accuracy)
    np.testing.assert_array_equal(one.price, other.price)
    assert is_monotone_and_concave(one)


def test_many_chunks_give_the_same_front_as_one() -> None:
    p, c = random_tables(1, n=9000, m=3)  # more than a chunk, so both threads work
    found = front(p, c)
    halves = [front(p[rows], c[rows]) for rows in (slice(0, 4000), slice(4000, 9000))]
    slopes = np.sort(np.concatenate([half.slope for half in halves]))[::-1]
    np.testing.assert_array_equal(found.slope, slopes)
    k = len(found) // 2
    assert recount(p, c, found.assignment(k)) == pytest.approx((found.cost[k], found.accuracy[k]))


def test_answers_to_a_budget_a_target_and_the_knee() -> None:
    p, c = np.array([[0.1, 0.9], [0.2, 0.4]]), np.array([[1.0, 2.0], [1.0, 3.0]])
    found = front(p, c)
    np.testing.assert_allclose(found.cost, [2, 3, 5])
    np.testing.assert_allclose(found.accuracy, [0.15, 0.55, 0.65])
    assert found.at_budget(4).cost == 3
    assert found.at_budget(4).certificate.bound == pytest.approx(0.6)
    assert found.at_budget(99).certificate.gap == 0
    cheapest = found.at_accuracy(0.6)
    assert (cheapest.cost, cheapest.certificate.bound) == pytest.approx((5, 4))
    assert found.at_accuracy(0.0).cost == 2
    assert found.knee().cost == 3
    np.testing.assert_array_equal(found.assignment(-1), [1, 1])
    for k in range(len(found)):  # a point's own cost and accuracy lead back to it
        assert found.at_budget(found.cost[k]).cost == found.cost[k]
        assert found.at_accuracy(found.accuracy[k]).accuracy == found.accuracy[k]


def test_one_query_one_llm_and_llms_that_are_always_wrong() -> None:
    alone = front([[0.3]], [[2.0]])
    assert (len(alone), alone.knee().cost, alone.at_price(0).accuracy) == (1, 2.0, 0.3)
    wrong = front(np.zeros((3, 2)), [[2.0, 1.0]] * 3)
    np.testing.assert_array_equal(wrong.at_accuracy(0).assignment, 1)
    assert (len(wrong), wrong.cost[0]) == (1, 3.0)
    free = front([[0.2, 0.9]], [[0.0, 0.0]])
    assert (len(free), free.accuracy[0], free.price[0]) == (1, 0.9, 0.0)


@pytest.mark.parametrize(
    ("p", "c", "sentence"),
    [
        ([[0.1, np.nan]], [[1, 1]], r"p\[0, 1\] is nan"),
        ([[0.1, 0.2]], [[1, np.inf]], r"c\[0, 1\] is inf"),
        ([[0.1, 0.2]], [[1, -2]], r"c\[0, 1\] is -2 USD"),
        ([[0.1, 0.2], [0.3]], [[1, 1], [1, 1]], "p has 2 entries in row 0 and 1 in row 1"),
        ([[0.1, 0.2]], [[1, 1], [1, 1]], "p is 1 x 2 but c is 2 x 2"),
        ([["a"]], [[1]], "p holds something that is not a number"),
        ([0.1], [1], r"p has the shape \(1,\)"),
        ([], [], "p has the shape"),
        (None, [[1]], "p has the shape"),
        ([[0.1, None]], [[1, 1]], r"p\[0, 1\] is nan"),
    ],
)
def test_a_bad_table_is_a_sentence(p: object, c: object, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        front(p, c)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda f: f.at_budget(1), "a budget of 1 USD is below 2 USD"),
        (lambda f: f.at_budget(np.nan), "a budget of nan USD"),
        (lambda f: f.at_accuracy(0.9), "an accuracy of 0.9 is above 0.5"),
        (lambda f: f.at_price(-1), "a price of -1 successes per USD"),
        (lambda f: f.assignment(2), "no point 2: choose 0 to 1"),
    ],
)
def test_an_impossible_wish_is_a_sentence(ask: object, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        ask(front([[0.1, 0.5]], [[2.0, 3.0]]))  # type: ignore[operator]


@needs_real_data
@pytest.mark.parametrize(
    ("name", "best", "accuracy", "usd", "oracle", "oracle_usd", "usd_for_best"),
    [
        ("logpai", "Mixtral_8x7B", 0.5911, 3.756, 0.8252, 1.603, 0.841),
        ("overruling", "gpt-4", 0.9505, 19.325, 0.9991, 0.485, 0.404),
        ("routerbench", "gpt-4-1106-preview", 0.8799, 15.868, 0.9757, 0.663, 0.335),
    ],
)
def test_the_oracles_of_the_published_tables(
    name: str,
    best: str,
    accuracy: float,
    usd: float,
    oracle: float,
    oracle_usd: float,
    usd_for_best: float,
) -> None:
    llms, success, cost = real_tables(name)
    at = int(success.mean(axis=0).argmax())
    assert llms[at] == best
    assert success[:, at].mean() == pytest.approx(accuracy, abs=5e-5)
    assert cost[:, at].sum() == pytest.approx(usd, abs=5e-4)
    found = front(success, cost)
    assert found.accuracy[-1] == pytest.approx(oracle, abs=5e-5)
    assert found.cost[-1] == pytest.approx(oracle_usd, abs=5e-4)
    same = found.at_accuracy(success[:, at].mean())
    assert same.cost == pytest.approx(usd_for_best, abs=5e-4)
    assert recount(success, cost, same.assignment) == pytest.approx((same.cost, same.accuracy))
    assert is_monotone_and_concave(found)


@needs_real_data
def test_mixtral_on_98_percent_of_logpai_costs_what_the_paper_prints() -> None:
    llms, _, cost = real_tables("logpai")
    assert 0.98 * cost[:, llms.index("Mixtral_8x7B")].sum() == pytest.approx(3.681, abs=5e-4)
