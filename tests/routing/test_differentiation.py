"""Whether LLMs differ so that routing can win, and whether a router does."""

import numpy as np
import pytest

from understudy.routing.differentiation import differentiation

ROWS = np.arange(400)


def labels(seed: int = 0) -> np.ndarray:
    """Each of two LLMs is right on its half, but for one query in twenty."""
    rng = np.random.default_rng(seed)
    right = np.stack([ROWS % 2 == 0, ROWS % 2 == 1], axis=1)
    return np.where(rng.random((400, 2)) < 0.05, ~right, right).astype(float)


def test_a_router_that_tells_queries_apart_is_a_go() -> None:
    y = labels()
    found = differentiation(y, np.zeros((400, 2)), 0.0, held=(ROWS, ROWS % 2))
    assert found.verdict == "go"
    assert found.accuracy == found.oracle
    assert found.accuracy.mean == pytest.approx(y.max(axis=1).mean() - y.mean(axis=0).max())
    assert found.router is not None
    assert found.router.low is not None
    assert found.router.low > 0.3
    assert "400 groups" in found.sentence


def test_equal_llms_leave_nothing_to_route() -> None:
    y = np.repeat(labels()[:, :1], 2, axis=1)
    found = differentiation(y, np.ones((400, 2)), 0.1, held=(ROWS, np.zeros(400, np.int64)))
    assert (found.verdict, found.oracle.mean) == ("no-go", pytest.approx(0, abs=1e-9))
    assert "not even an oracle" in found.sentence


def test_costs_alone_are_something_to_route_by() -> None:
    y = np.stack([ROWS % 2 == 0, np.ones(400)], axis=1).astype(float)
    c = np.tile([0.0, 1.0], (400, 1))
    found = differentiation(y, c, 0.5, held=(ROWS, ROWS % 2))
    assert found.accuracy.mean == 0  # one LLM is always right, but dear
    assert found.oracle.mean == pytest.approx(0.25)
    assert found.verdict == "go"


def test_luck_is_no_go() -> None:
    rng = np.random.default_rng(1)
    y = (rng.random((400, 2)) < 0.5).astype(float)
    blind = differentiation(y, np.zeros((400, 2)), 0.0, held=(ROWS, ROWS % 2))
    assert blind.accuracy.mean is not None
    assert blind.accuracy.mean > 0.15  # an oracle would be lucky
    assert blind.verdict == "open"
    single = differentiation(
        y, np.zeros((400, 2)), 0.0, held=(ROWS, y.mean(axis=0).argmax() + 0 * ROWS)
    )
    assert single.verdict == "no-go"
    assert differentiation(y, np.zeros((400, 2)), 0.0).verdict == "open"  # no router to judge


def test_few_groups_say_nothing() -> None:
    groups = [f"g{row // 40}" for row in ROWS]
    found = differentiation(labels(), np.zeros((400, 2)), 0.0, groups, (ROWS, ROWS % 2))
    assert found.verdict == "open"
    assert "10 groups of labelled queries say nothing, it takes 20" in found.sentence


@pytest.mark.slow
def test_a_useless_router_is_called_a_go_in_at_most_5_percent() -> None:
    rng = np.random.default_rng(2)
    wrong = 0
    for _ in range(200):
        y = (rng.random((200, 2)) < 0.8).astype(float)
        held = (np.arange(200), rng.integers(0, 2, 200))
        wrong += differentiation(y, np.zeros((200, 2)), 0.0, held=held).verdict == "go"
    assert wrong / 200 <= 0.05
