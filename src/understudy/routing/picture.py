"""Points to draw: accuracy against USD per 1,000 queries, of routers and of their yardsticks."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from understudy.routing.allocate import Allocation
from understudy.routing.data import Outcomes
from understudy.routing.exact import front
from understudy.routing.predict import Array
from understudy.routing.study import Row
from understudy.routing.value import Curve, zero_router

_DRAWN = 200  # points of a curve


def picture(allocation: Allocation, outcomes: Outcomes) -> dict[str, Any]:
    """An allocation's front, its plan with the band, and single LLMs by labels or predictions."""
    queries = len(allocation.plan.assignment)
    known = outcomes.rows(outcomes.is_labelled)
    drawn = {
        "curves": {
            "router (expected)": _points(
                Curve(allocation.path.cost, allocation.path.accuracy), queries
            )
        },
        "plan": {
            "cost": allocation.plan.cost * 1000 / queries,
            "accuracy": allocation.plan.accuracy,
        },
        "band": allocation.band._asdict(),
        **references(outcomes.llms, known.cost, known.success),
    }
    return drawn if allocation.learnt else drawn | {"oracle": None}  # that is the front itself


def study_picture(outcomes: Outcomes, rows: Sequence[Row]) -> dict[str, Any]:
    """The true curve of each router, its first seed, on the first split only.

    Other splits test other queries, on which single LLMs and their hull lie elsewhere.
    """
    curves: dict[str, Any] = {}
    for row in rows:
        if row.split == rows[0].split:
            curves.setdefault(row.router, _points(row.curve, row.tested))
    return {"curves": curves, **references(outcomes.llms, outcomes.cost, outcomes.success)}


def references(llms: list[str], c: Array, y: Array) -> dict[str, Any]:
    """Single LLMs, their hull, a uniform mix, the oracle; c and y are (N, M)."""
    n = len(y)
    usd, success = c.sum(axis=0), y.mean(axis=0)
    oracle, zero = front(y, c), zero_router(c, y)
    dearest = zero.cost[-1]
    costs = zero.cost
    if dearest > 0:  # a mix is a straight line in USD, which a logarithmic axis bends
        costs = np.geomspace(max(zero.cost[0], dearest * 1e-4), dearest, _DRAWN)
    mixed = Curve(costs, np.interp(costs, zero.cost, zero.accuracy))
    return {
        "singles": [
            {"llm": llm, "cost": float(u) * 1000 / n, "accuracy": float(s)}
            for llm, u, s in zip(llms, usd, success, strict=True)
        ],
        "zero": _points(mixed, n),
        "mix": {"cost": float(usd.mean()) * 1000 / n, "accuracy": float(success.mean())},
        "oracle": _points(Curve(oracle.cost, oracle.accuracy), n),
    }


def _points(path: Curve, queries: int) -> dict[str, list[float]]:
    at = np.unique(np.linspace(0, len(path.cost) - 1, _DRAWN).astype(int))
    cost = path.cost[at] * 1000 / queries
    return {"cost": cost.tolist(), "accuracy": path.accuracy[at].tolist()}
