"""The exact accuracy-cost front of a routing problem, from tables of success and cost.

Giving each query one LLM is a multiple-choice knapsack. Its LP relaxation is solved by walking the
upper concave hull of every query's (cost, success) points in the order of their slopes (Sinha and
Zoltners 1979; Zemel 1984; Kellerer, Pferschy and Pisinger 2004, ch. 11): every prefix of that walk
is an assignment, is optimal at its cost, and together they are all supported Pareto points.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from understudy.errors import BadInput
from understudy.routing.hulls import walk
from understudy.routing.tables import Floats, Integers, tables

_ROUNDING = 1e-12  # relative; a target missed by less counts as met


class Certificate(NamedTuple):
    """How far an answer can be from the best: `gap` is 0, or less than the one `step` left out."""

    quantity: Literal["accuracy", "cost"]  # what was optimised, hence the unit: mean or USD
    bound: float  # optimum of the LP relaxation: no assignment is better
    gap: float  # |bound - the plan's value|
    step: float  # change of the value by the step that the target cuts; 0 at the end of the front


class Plan(NamedTuple):
    """One point of the front."""

    assignment: Integers  # (N,) column of the LLM of each query
    cost: float  # USD, total
    accuracy: float  # expected, mean over queries
    price: float  # lambda; see Front
    certificate: Certificate


@dataclass(frozen=True, eq=False)
class Front:
    """All K supported Pareto points, from the cheapest assignment to the most accurate one.

    `cost` (K,) is the total in USD and `accuracy` (K,) the mean expected success, both weighted.
    `price` (K,), lambda, is in expected successes per USD: argmax over j of p_ij - lambda c_ij,
    ties to the cheaper LLM, is the point's assignment, query by query, and so the rule for queries
    yet to come. It is the mean of the slopes of the steps before and after the point (d accuracy /
    d cost = slope / weight). Neighbours that share a price lie on one straight edge: there the rule
    gives the cheap end, and the points between move the tied queries one at a time, lower numbers
    first.
    """

    cost: Floats
    accuracy: Floats
    price: Floats
    slope: Floats  # (K - 1,) successes per USD of the step from each point to the next
    weight: float  # sum of the weights of the queries; N without weights
    _start: Integers  # (N,) the cheapest assignment
    _query: NDArray[np.int32]  # (K - 1,) the query that the step moves
    _to: NDArray[np.int16]  # (K - 1,) the LLM that it moves to

    def __len__(self) -> int:
        return len(self.cost)

    def assignment(self, k: int) -> Integers:
        """The (N,) columns of the LLMs at point k; 0 is the cheapest, -1 the most accurate.

        Raises BadInput for a point that does not exist.
        """
        if not -len(self) <= k < len(self):
            raise BadInput(f"the front has no point {k}: choose 0 to {len(self) - 1}")
        assignment = self._start.copy()
        steps = slice(0, k % len(self))
        assignment[self._query[steps]] = self._to[steps]  # a query's last step wins
        return assignment

    def at_budget(self, usd: float) -> Plan:
        """The most accurate point whose total cost is within the budget.

        Raises BadInput for a budget below the cheapest assignment.
        """
        if not usd * (1 + _ROUNDING) >= self.cost[0]:
            raise BadInput(
                f"a budget of {usd:g} USD is below {self.cost[0]:g} USD, the cost of the cheapest "
                "assignment: raise it"
            )
        k = int(np.searchsorted(self.cost, usd * (1 + _ROUNDING), side="right")) - 1
        if k == len(self) - 1:
            return self._plan(k)
        value, step = float(self.accuracy[k]), float(self.accuracy[k + 1] - self.accuracy[k])
        slack = max(usd - float(self.cost[k]), 0.0)
        gap = min(slack * float(self.slope[k]) / self.weight, step)
        return self._plan(k, certificate=Certificate("accuracy", value + gap, gap, step))

    def at_accuracy(self, accuracy: float) -> Plan:
        """The cheapest point that is expected to be at least this accurate.

        Raises BadInput for a target above the most accurate assignment.
        """
        if not accuracy - _ROUNDING <= self.accuracy[-1]:
            raise BadInput(
                f"an accuracy of {accuracy:g} is above {self.accuracy[-1]:g}, the most that any "
                "assignment is expected to reach: lower it"
            )
        k = int(np.searchsorted(self.accuracy, accuracy - _ROUNDING))
        if k == 0:
            return self._plan(0, certificate=Certificate("cost", float(self.cost[0]), 0.0, 0.0))
        value, step = float(self.cost[k]), float(self.cost[k] - self.cost[k - 1])
        excess = max(float(self.accuracy[k]) - accuracy, 0.0)
        gap = min(excess * self.weight / float(self.slope[k - 1]), step)
        return self._plan(k, certificate=Certificate("cost", value - gap, gap, step))

    def at_price(self, price: float) -> Plan:
        """The point that argmax p - price c reaches; `price` in successes per USD, 0 or more."""
        if not price >= 0:
            raise BadInput(f"a price of {price:g} successes per USD is not possible: use 0 or more")
        return self._plan(int(np.searchsorted(-self.slope, -price)), price=price)

    def knee(self) -> Plan:
        """The point farthest above the straight line between the two ends of the front."""
        cost, accuracy = self.cost - self.cost[0], self.accuracy - self.accuracy[0]
        return self._plan(int(np.argmax(accuracy * cost[-1] - cost * accuracy[-1])))

    def _plan(
        self, k: int, price: float | None = None, certificate: Certificate | None = None
    ) -> Plan:
        accuracy = float(self.accuracy[k])
        return Plan(
            self.assignment(k),
            float(self.cost[k]),
            accuracy,
            float(self.price[k]) if price is None else float(price),
            certificate or Certificate("accuracy", accuracy, 0.0, 0.0),
        )


def front(
    p: ArrayLike, c: ArrayLike, allowed: ArrayLike | None = None, weights: ArrayLike | None = None
) -> Front:
    """All supported Pareto points of the tables p (expected success) and c (USD), both (N, M).

    `allowed` forbids pairs where false, (N, M) or (M,); `weights` (N,) count each query more than
    once. Time N M log M + K log K. Raises BadInput as `tables` does.
    """
    checked = tables(p, c, allowed, weights)
    start, steps = walk(checked)
    weight, rows = checked.weight, np.arange(len(start))
    total = float(weight.sum())
    cost, gain = steps.cost, steps.gain
    if checked.weights is not None:
        cost, gain = cost * weight[steps.query], gain * weight[steps.query]
    around = np.concatenate([2 * steps.slope[:1], steps.slope, [0.0]])
    return Front(
        cost=_totals(float(checked.c[rows, start] @ weight), cost),
        accuracy=_totals(float(checked.p[rows, start] @ weight), gain) / total,
        price=(around[:-1] + around[1:]) / 2 if len(steps.slope) else np.zeros(1),
        slope=steps.slope,
        weight=total,
        _start=start,
        _query=steps.query,
        _to=steps.to,
    )


def assign(p: ArrayLike, c: ArrayLike, price: float, allowed: ArrayLike | None = None) -> Integers:
    """The rule of a price, query by query: argmax p - price c, ties to the cheaper, then the first.

    `price` is in expected successes per USD. Raises BadInput as `tables` does.
    """
    checked = tables(p, c, allowed)
    score = checked.p - price * checked.c  # (N, M)
    if checked.allowed is not None:
        score = np.where(checked.allowed, score, -np.inf)
    tied = score == score.max(axis=1, keepdims=True)
    choice: Integers = np.where(tied, checked.c, np.inf).argmin(axis=1)
    return choice


def _totals(first: float, changes: Floats) -> Floats:
    totals = np.empty(len(changes) + 1)
    totals[0] = first
    np.cumsum(changes, out=totals[1:])
    totals[1:] += first
    return totals
