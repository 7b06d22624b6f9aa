"""The exact accuracy-cost front of a routing problem, from tables of success and cost.

Giving each query one LLM is a multiple-choice knapsack. Its LP relaxation is solved by walking the
upper concave hull of every query's (cost, success) points in the order of their slopes (Sinha and
Zoltners 1979; Zemel 1984; Kellerer, Pferschy and Pisinger 2004, ch. 11): every prefix of that walk
is an assignment, is optimal at its cost, and together they are all supported Pareto points.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from understudy.errors import BadInput

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]
Bools = NDArray[np.bool_]
_ROUNDING = 1e-12  # relative; a target missed by less counts as met
_ABOVE = 1 + 1e-9  # a price so little higher settles ties; slopes that differ by less are equal
_CHUNK = 8192  # queries whose working arrays fit the cache of a core
_THREADS = 2  # numpy lets go of the interpreter lock
_CLOSEST = 1e-300  # USD; keeps slopes finite between LLMs of almost equal cost


class Certificate(NamedTuple):
    """How far an answer can be from the best: `gap` is 0, or less than the one `step` left out."""

    quantity: Literal["accuracy", "cost"]  # what was optimised, hence the unit: mean or USD
    bound: float  # optimum of the LP relaxation: no assignment is better
    gap: float  # |bound - the plan's value|
    step: float  # change of the value by the step that the target cuts; 0 at the end of the front


class RoutePlan(NamedTuple):
    """One point of the front."""

    assignment: Integers  # (N,) column of the LLM of each query
    cost: float  # USD, total
    accuracy: float  # expected, mean over queries
    price: float  # lambda; see Front
    certificate: Certificate


@dataclass(frozen=True, eq=False)
class Front:
    """All K supported Pareto points, from the cheapest assignment to the most accurate one.

    `cost` (K,) is the total in USD and `accuracy` (K,) the mean expected success.
    `price` (K,), lambda, is in expected successes per USD: argmax over j of p_ij - lambda c_ij
    is the point's assignment, query by query, and so the rule for queries yet to come. It is the
    mean of the slopes of the steps before and after the point (d accuracy / d cost = slope / N),
    so it lies strictly between them, and neither rounding nor the order of LLMs decides anything.
    Points within a straight edge move its tied queries one at a time, lower numbers first; no
    price does that, and they have the price of the edge's cheap end.
    """

    cost: Floats
    accuracy: Floats
    price: Floats
    slope: Floats  # (K - 1,) successes per USD of the step from each point to the next
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

    def at_budget(self, usd: float) -> RoutePlan:
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
        gap = min(slack * float(self.slope[k]) / len(self._start), step)
        return self._plan(k, certificate=Certificate("accuracy", value + gap, gap, step))

    def at_accuracy(self, accuracy: float) -> RoutePlan:
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
        # within a straight edge, the rule of its dear end is as accurate as is wanted
        is_within = self.price[k] == self.price[k - 1]
        dear = int(np.searchsorted(-self.price, -self.price[k], side="right")) if is_within else k
        value, step = float(self.cost[k]), float(self.cost[k] - self.cost[k - 1])
        excess = max(float(self.accuracy[k]) - accuracy, 0.0)
        gap = min(excess * len(self._start) / float(self.slope[k - 1]), step)
        proof = Certificate("cost", value - gap, gap, step)
        return self._plan(k, float(self.price[dear]), proof)

    def at_price(self, price: float) -> RoutePlan:
        """The point that argmax p - price c reaches; `price` in successes per USD, 0 or more."""
        if not price >= 0:
            raise BadInput(f"a price of {price:g} successes per USD is not possible: use 0 or more")
        return self._plan(int(np.searchsorted(-self.slope, -price * _ABOVE)), price=price)

    def knee(self) -> RoutePlan:
        """The point farthest above the straight line between the two ends of the front."""
        cost, accuracy = self.cost - self.cost[0], self.accuracy - self.accuracy[0]
        return self._plan(int(np.argmax(accuracy * cost[-1] - cost * accuracy[-1])))

    def _plan(
        self, k: int, price: float | None = None, certificate: Certificate | None = None
    ) -> RoutePlan:
        accuracy = float(self.accuracy[k])
        return RoutePlan(
            self.assignment(k),
            float(self.cost[k]),
            accuracy,
            float(self.price[k]) if price is None else float(price),
            certificate or Certificate("accuracy", accuracy, 0.0, 0.0),
        )


def front(p: ArrayLike, c: ArrayLike) -> Front:
    """All supported Pareto points of the tables p (expected success) and c (USD), both (N, M).

    Time N M log M + K log K. Raises BadInput as `tables` does.
    """
    success, usd = tables(p, c)
    start, steps = _walk(success, usd)
    rows = np.arange(len(start))
    return Front(
        cost=_totals(float(usd[rows, start].sum()), steps.cost),
        accuracy=_totals(float(success[rows, start].sum()), steps.gain) / len(start),
        price=_between(steps.slope),
        slope=steps.slope,
        _start=start,
        _query=steps.query,
        _to=steps.to,
    )


def _between(slope: Floats) -> Floats:
    """A price for each of the K points around K - 1 falling slopes; see `Front`."""
    if not len(slope):
        return np.zeros(1)
    around = np.concatenate([2 * slope[:1], slope, [0.0]])
    is_within = np.concatenate([[False], slope[1:] * _ABOVE**2 >= slope[:-1], [False]])
    cheap_end = np.maximum.accumulate(np.where(is_within, 0, np.arange(len(is_within))))
    price: Floats = ((around[:-1] + around[1:]) / 2)[cheap_end]
    return price


def worth(p: Floats, c: Floats, price: float) -> Floats:
    """p - price c, which a rule compares; of two that tie, the cheaper is worth a little more."""
    return p - price * _ABOVE * c


def assign(p: ArrayLike, c: ArrayLike, price: float) -> Integers:
    """The rule of a price, query by query: argmax p - price c, ties to the cheaper, then the first.

    `price` is in expected successes per USD. Raises BadInput as `tables` does.
    """
    success, usd = tables(p, c)
    score = worth(success, usd, price)  # (N, M)
    tied = score == score.max(axis=1, keepdims=True)
    choice: Integers = np.where(tied, usd, np.inf).argmin(axis=1)
    return choice


def _totals(first: float, changes: Floats) -> Floats:
    totals = np.empty(len(changes) + 1)
    totals[0] = first
    np.cumsum(changes, out=totals[1:])
    totals[1:] += first
    return totals


class _Steps(NamedTuple):
    """K edges of hulls: each moves one query from an LLM to the next on its hull."""

    query: NDArray[np.int32]
    to: NDArray[np.int16]  # column of the LLM
    slope: Floats  # success per USD
    cost: Floats  # USD
    gain: Floats  # success


_NONE = _Steps(np.zeros(0, np.int32), np.zeros(0, np.int16), *3 * [np.zeros(0)])


def _walk(p: Floats, c: Floats) -> tuple[Integers, _Steps]:
    """The cheapest LLM of each query (the better of equally cheap ones), and the steps from there.

    The slopes fall; equal ones stand in the order of the query's own steps, then of the queries.
    """
    chunks = [slice(at, at + _CHUNK) for at in range(0, len(p), _CHUNK)]
    with ThreadPoolExecutor(min(_THREADS, len(chunks))) as pool:
        hulls = list(pool.map(lambda rows: _hulls(p[rows], c[rows], rows.start), chunks))
        start = np.concatenate([first for first, _ in hulls])
        deepest = max(len(steps) for _, steps in hulls)
        parts = [
            steps[depth] for depth in range(deepest) for _, steps in hulls if depth < len(steps)
        ]
        steps = _Steps(*pool.map(np.concatenate, zip(_NONE, *parts, strict=True)))
        order = _descending(steps.slope, pool)
        return start, _Steps(*pool.map(lambda column: column[order], steps))


def _hulls(p: Floats, c: Floats, first: int) -> tuple[Integers, list[_Steps]]:
    """Walk the upper hulls of a chunk of n queries, all of them one edge at a time.

    From its present LLM each query goes to the one with the steepest gain per USD, the farthest of
    equally steep ones, which leaves dominated, LP-dominated and collinear LLMs out. No LLM that
    gains is cheaper than the present one, so a positive gain is the only condition.
    """
    p, c = np.ascontiguousarray(p.T), np.ascontiguousarray(c.T)  # (M, n)
    query = np.arange(first, first + p.shape[1], dtype=np.int32)
    usd = c.min(axis=0)
    start, success = _best(p, c == usd)
    last = np.full(len(query), np.inf)
    steps: list[_Steps] = []
    while True:
        slopes = np.maximum(p - success, 0.0)
        slopes /= np.maximum(c - usd, _CLOSEST)
        slope = slopes.max(axis=0)
        going = np.flatnonzero(slope)
        if not len(going):
            return start, steps
        if len(going) < len(query):
            p, c, slopes = (table.take(going, axis=1) for table in (p, c, slopes))
            query, usd, success = query[going], usd[going], success[going]
            slope, last = slope[going], last[going]
        to, reached = _best(p, slopes == slope)
        paid = c[to, np.arange(len(to))]
        last = np.minimum(slope, last)  # rounding must not put a query's second step first
        steps.append(_Steps(query, to.astype(np.int16), last, paid - usd, reached - success))
        usd, success = paid, reached


def _best(p: Floats, among: Bools) -> tuple[Integers, Floats]:
    """Row and value of the largest entry of each column of p, (M, n), among the marked ones."""
    marked = np.where(among, p, -np.inf)
    at = marked.argmax(axis=0)
    return at, marked[at, np.arange(len(at))]


def _descending(slope: Floats, pool: ThreadPoolExecutor) -> Integers:
    """A stable order of falling slopes; each thread sorts one half."""
    if len(slope) < 2 * _CHUNK:
        return np.argsort(-slope, kind="stable")
    middle = np.median(slope[:: len(slope) // _CHUNK])
    halves = (np.flatnonzero(slope > middle), np.flatnonzero(slope <= middle))
    return np.concatenate(
        list(pool.map(lambda half: half[np.argsort(-slope[half], kind="stable")], halves))
    )


def tables(p: ArrayLike, c: ArrayLike) -> tuple[Floats, Floats]:
    """The checked tables of N queries and M LLMs: p (expected success) and c (USD), both (N, M).

    Raises BadInput for ragged or empty tables, shapes that differ, numbers that are missing or
    infinite, and negative costs.
    """
    success, usd = _matrix(p, "p"), _matrix(c, "c")
    if success.shape != usd.shape:
        shapes = [" x ".join(map(str, table.shape)) for table in (success, usd)]
        raise BadInput(f"p is {shapes[0]} but c is {shapes[1]}: they must be equal")
    if usd.min() < 0:
        query, llm = np.argwhere(usd < 0)[0]
        raise BadInput(f"c[{query}, {llm}] is {usd[query, llm]:g} USD: a cost is 0 or more")
    return success, usd


def _matrix(table: ArrayLike, name: str) -> Floats:
    wanted = "it must hold one row per query and one number per LLM in every row"
    try:
        matrix = np.ascontiguousarray(table, dtype=float)
    except (TypeError, ValueError):
        raise BadInput(f"{name} {_why_not_a_matrix(table)}: {wanted}") from None
    if matrix.ndim != 2 or not matrix.size:
        raise BadInput(f"{name} has the shape {np.shape(table)}: {wanted}")
    if not np.isfinite(matrix.min() + matrix.max()):  # NaN and infinities survive min and max
        bad = np.argwhere(~np.isfinite(matrix))
        if len(bad):
            at = ", ".join(map(str, bad[0]))
            raise BadInput(f"{name}[{at}] is {matrix[tuple(bad[0])]}: every entry must be a number")
    return matrix


def _why_not_a_matrix(table: Any) -> str:
    try:
        lengths = [len(row) for row in table]
    except TypeError:
        return "is not a table"
    odd = next((i for i, length in enumerate(lengths) if length != lengths[0]), None)
    if odd is None:
        return "holds something that is not a number"
    return f"has {lengths[0]} entries in row 0 and {lengths[odd]} in row {odd}"
