"""Quotas per LLM: optimal by HiGHS on all options at once, by brute force, and by their prices."""

import itertools

import numpy as np
import pytest
from scipy.optimize import linprog

from understudy.errors import BadInput
from understudy.routing.exact import front
from understudy.routing.quotas import QuotaPlan, with_quotas


def random_tables(seed: int, n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    success = rng.random((n, m))
    if seed % 2:
        success = (success < 0.6).astype(float)  # labels: most queries are tied
    return success, rng.random((n, m)) * np.geomspace(1e-6, 1e-4, m)


def keeps_to(plan: QuotaPlan, c: np.ndarray, quotas: np.ndarray, usd: float) -> bool:
    sent = np.bincount(plan.assignment, minlength=len(quotas))
    spent = c[np.arange(len(c)), plan.assignment].sum()
    return bool((sent <= quotas).all() and spent <= usd * (1 + 1e-8))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [60, 900])  # 900 is past the size that is solved at once
def test_the_bound_is_the_optimum_over_all_options(seed: int, n: int) -> None:
    p, c = random_tables(seed, n, m=5)
    quotas = np.array([n // 3, n // 4, n // 5, n // 5, np.inf])
    free = front(p, c)
    usd = 0.6 * free.cost[0] + 0.4 * free.cost[-1] + c.sum() / 20
    plan = with_quotas(p, c, quotas, usd)
    query, llm = np.divmod(np.arange(p.size), 5)
    found = linprog(
        -p.ravel(),
        A_ub=np.vstack([llm == j for j in range(4)] + [c.ravel() / usd]),
        b_ub=[*quotas[:4], 1.0],
        A_eq=np.equal.outer(np.arange(n), query),
        b_eq=np.ones(n),
    )
    assert plan.bound == pytest.approx(-found.fun / n, abs=1e-9)
    assert 0 <= plan.gap < 6 / n
    assert keeps_to(plan, c, quotas, usd)
    assert plan.quota_prices[4] == 0


def test_the_best_whole_assignment_is_found_on_tiny_tables() -> None:
    for seed in range(20):
        p, c = random_tables(seed, n=5, m=3)
        quotas, rows = np.array([2, 2, 3]), np.arange(5)
        every = [
            np.array(s)
            for s in itertools.product(range(3), repeat=5)
            if (np.bincount(s, minlength=3) <= quotas).all()
        ]
        usd = float(np.median([c[rows, s].sum() for s in every]))
        best = max(p[rows, s].mean() for s in every if c[rows, s].sum() <= usd)
        plan = with_quotas(p, c, quotas, usd)
        assert keeps_to(plan, c, quotas, usd)
        assert plan.accuracy <= best + 1e-9 <= plan.bound + 2e-9


def test_the_prices_alone_route_all_but_a_few_queries() -> None:
    p, c = random_tables(0, n=2000, m=6)
    quotas = np.full(6, 400)
    plan = with_quotas(p, c, quotas, front(p, c).knee().cost)
    by_price = (p - plan.price * c - plan.quota_prices).argmax(axis=1)
    assert (by_price != plan.assignment).sum() <= 40


def test_quotas_that_do_not_bind_give_the_front() -> None:
    p, c = random_tables(2, n=300, m=4)
    usd = front(p, c).knee().cost
    plan = with_quotas(p, c, np.full(4, np.inf), usd)
    exact = front(p, c).at_budget(usd)
    assert plan.bound == pytest.approx(exact.certificate.bound, abs=1e-9)
    assert plan.accuracy >= exact.accuracy - 1e-9
    np.testing.assert_array_equal(plan.quota_prices, 0)


def test_forbidden_pairs_and_weights_count() -> None:
    p, c = random_tables(4, n=50, m=3)
    allowed = np.ones((50, 3), dtype=bool)
    allowed[:25, 2] = False
    weights = np.tile([1.0, 3.0], 25)
    plan = with_quotas(p, c, [40, 40, 40], allowed=allowed, weights=weights)
    assert allowed[np.arange(50), plan.assignment].all()
    assert (np.bincount(plan.assignment, weights) <= 40).all()
    chosen = p[np.arange(50), plan.assignment]
    assert plan.accuracy == pytest.approx((chosen * weights).sum() / 100)
    assert plan.gap < 0.05


@pytest.mark.parametrize(
    ("quotas", "usd", "sentence"),
    [
        ([1, 1], 9.0, "the quotas leave 1 queries without an LLM"),
        ([3], 9.0, "it must hold 2 numbers"),
        ([3, -1], 9.0, "it must hold 2 numbers"),
        ([np.nan, 3], 9.0, "it must hold 2 numbers"),
        (["a", 3], 9.0, r"quotas is \['a', 3\]: it must hold 2 numbers"),
        ([1, 3], 4.0, "a budget of 4 USD is below 5 USD"),
    ],
)
def test_impossible_quotas_are_a_sentence(quotas: list[float], usd: float, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        with_quotas([[0.1, 0.9]] * 3, [[1.0, 2.0]] * 3, quotas, usd)
