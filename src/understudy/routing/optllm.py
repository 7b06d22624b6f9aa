"""OptLLM as published (arXiv 2405.15130), as a baseline: its search, M and S, and its predictor.

The search walks along the front by destruction, which jumps one grid step, and reconstruction,
which exchanges upgrades and downgrades until the best gain per USD is at most the least loss per
USD: the optimality condition of the exact front, reached move by move. Written from a description;
the moves of each query are kept, and only queries that moved are looked at again.

Walking up in accuracy and down in cost are one algorithm: on the tables (-c, -p) in place of (p, c)
an upgrade is a downgrade and accuracy is cost. So the code speaks of `gain` and `pay`.

The predictor, written from its description, is a forest per LLM. A hundred bootstrap samples of the
training queries each train one forest per LLM; their predictions are averaged with weights, and
alpha times their deviation is added. The original needs both classes in every bootstrap sample of
every LLM and fails on small data without them; here a forest that saw one class predicts it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from understudy.errors import BadInput
from understudy.routing.exact import Floats, Integers, tables
from understudy.routing.predict import Array, Estimate

GRID = 50  # the value that the times of the paper's main tables match
BOOTSTRAPS = 100
ALPHA = 1.0  # of the published main table; above 0 it is optimistic
_TREES, _DEPTH = 100, 10


class Points(NamedTuple):
    """n assignments of N queries."""

    assignments: Integers  # (n, N) column of the LLM of each query
    cost: Floats  # (n,) USD, total
    accuracy: Floats  # (n,) mean over queries


def points(p: Floats, c: Floats, assignments: Integers) -> Points:
    """Cost and accuracy of (n, N) assignments by the (N, M) tables p and c."""
    queries = np.arange(len(p))
    cost = np.array([c[queries, assignment].sum() for assignment in assignments])
    accuracy = np.array([p[queries, assignment].mean() for assignment in assignments])
    return Points(assignments, cost, accuracy)


def non_dominated(found: Points) -> Points:
    """The points that no other beats, from cheap to dear, equals once."""
    order = np.lexsort((-found.accuracy, found.cost))
    accuracy = found.accuracy[order]
    before = np.maximum.accumulate(np.concatenate([[-np.inf], accuracy[:-1]]))
    kept = order[accuracy > before]
    return Points(found.assignments[kept], found.cost[kept], found.accuracy[kept])


def search(p: ArrayLike, c: ArrayLike, grid: int = GRID, robust: ArrayLike | None = None) -> Points:
    """OptLLM-M: at most 2 `grid` assignments that do not dominate one another.

    As published, the walk up from the cheapest assignment reads p, the walk down from the most
    accurate one reads `robust` (mean prediction plus alpha sigma; default p), and the filter
    compares the accuracies of both. Raises BadInput as `tables` does, and for a grid below 1.
    """
    p, c = tables(p, c)
    robust = p if robust is None else tables(robust, c)[0]
    if grid < 1:
        raise BadInput(f"a grid of {grid} steps is not possible: use 1 or more")
    cheapest, best = _highest(-c, -p), _highest(robust, c)
    upwards = _walk(-c, -p, cheapest, best, grid)
    downwards = _walk(robust, c, best, cheapest, grid)
    both = (points(p, c, np.array(upwards)), points(robust, c, np.array(downwards)))
    return non_dominated(Points(*(np.concatenate(part) for part in zip(*both, strict=True))))


def within_budget(p: ArrayLike, c: ArrayLike, usd: float) -> Points:
    """OptLLM-S: one accurate assignment whose total cost is at most `usd`.

    Raises BadInput as `tables` does, and for a budget below the cheapest assignment.
    """
    p, c = tables(p, c)
    found = _single(p, c, usd)
    if found is None:
        raise BadInput(f"a budget of {usd:g} USD is below the cost of the cheapest assignment")
    return points(p, c, found[None])


def for_accuracy(p: ArrayLike, c: ArrayLike, accuracy: float) -> Points:
    """OptLLM-S: one cheap assignment with an expected accuracy of at least `accuracy`.

    Raises BadInput as `tables` does, and for a target above the most accurate assignment.
    """
    p, c = tables(p, c)
    found = _single(-c, -p, -accuracy * len(p))
    if found is None:
        raise BadInput(f"an accuracy of {accuracy:g} is above that of the most accurate assignment")
    return points(p, c, found[None])


def _highest(gain: Floats, pay: Floats) -> Integers:
    """Per query the LLM of the most gain, ties to the least pay."""
    tied = gain == gain.max(axis=1, keepdims=True)
    choice: Integers = np.where(tied, pay, np.inf).argmin(axis=1)
    return choice


def _walk(gain: Floats, pay: Floats, start: Integers, end: Integers, grid: int) -> list[Integers]:
    moves = _Moves(gain, pay, start)
    step = (moves.total(start) - moves.total(end)) / grid
    found = [start]
    for _ in range(grid - 1):
        if step <= 0 or not moves.destruct(step):
            break
        moves.reconstruct()
        found.append(moves.at.copy())
    return found


def _single(gain: Floats, pay: Floats, limit: float) -> Integers | None:
    """The most gain for a total pay of at most `limit`, or None where nothing is so cheap."""
    best = _highest(gain, pay)
    moves = _Moves(gain, pay, best)
    least = pay.min(axis=1).sum()
    if limit < least - 1e-12 * abs(least):  # what rounding makes of the least total itself
        return None
    excess = moves.total(best) - limit
    if excess > 0:
        moves.destruct(excess)
        moves.reconstruct()
        moves.refine(limit)
    return moves.at


class _Moves:
    """An assignment of N queries and, per query, its best free move, upgrade and downgrade.

    A free move gains, or saves, at no loss and counts before any other. An upgrade has the most
    gain per pay, a downgrade the least loss per pay saved; `rise` and `fall` hold these ratios.
    """

    def __init__(self, gain: Floats, pay: Floats, start: Integers) -> None:
        self.gain, self.pay, self.at = gain, pay, start.copy()
        self.rows = np.arange(len(start))
        self.floor = _highest(-pay, -gain)  # what destruction falls to
        self.free, self.up, self.down = (np.empty_like(start) for _ in range(3))  # -1: no free move
        self.rise, self.fall = np.empty(len(start)), np.empty(len(start))
        self.look(self.rows)

    def total(self, assignment: Integers) -> float:
        return float(self.pay[self.rows, assignment].sum())

    def look(self, rows: Integers, slack: float = np.inf) -> None:
        """Compute the moves of these queries; upgrades only where the slack pays for them."""
        pick = np.arange(len(rows))
        gain, pay, at = self.gain[rows], self.pay[rows], self.at[rows]  # (n, M), (n, M), (n,)
        gain -= gain[pick, at][:, None]
        pay -= pay[pick, at][:, None]
        is_free = (pay <= 0) & (gain >= 0) & ((pay < 0) | (gain > 0))
        free = _highest(np.where(is_free, gain, -np.inf), pay)
        self.free[rows] = np.where(is_free[pick, free], free, -1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = gain / pay
        rise = np.where((pay > 0) & (gain > 0) & (pay <= slack), ratio, -np.inf)
        fall = np.where((pay < 0) & (gain < 0), ratio, np.inf)
        self.up[rows], self.down[rows] = _highest(rise, -gain), fall.argmin(axis=1)
        self.rise[rows], self.fall[rows] = rise[pick, self.up[rows]], fall[pick, self.down[rows]]

    def move(self, rows: Integers, to: Integers) -> None:
        """Move these queries, then take the free moves that this opens."""
        self.at[rows] = to
        self.look(rows)
        freed = rows[self.free[rows] >= 0]
        if len(freed):
            self.at[freed] = self.free[freed]
            self.look(freed)

    def destruct(self, step: float) -> bool:
        """Let queries fall to their least pay, the largest savings first, until a step is saved."""
        saving = self.pay[self.rows, self.at] - self.pay[self.rows, self.floor]
        order = np.argsort(-saving, kind="stable")
        enough = int(np.searchsorted(np.cumsum(saving[order]), step))
        if enough == len(order):
            return False
        rows = order[: enough + 1]
        self.at[rows] = self.floor[rows]
        self.look(rows)
        return True

    def reconstruct(self) -> None:
        """Exchange until no upgrade gains more per pay than some downgrade loses."""
        freed = np.flatnonzero(self.free >= 0)
        self.move(freed, self.free[freed])
        for _ in range(self.gain.size):  # far above what it needs: a cycle must not hang
            best, least = self.rise.max(), self.fall.min()
            if not least < best:
                return
            up, down = np.flatnonzero(self.rise == best), np.flatnonzero(self.fall == least)
            self.at[up] = self.up[up]
            self.at[down] = self.down[down]
            rows = np.union1d(up, down)
            self.move(rows, self.at[rows])

    def refine(self, limit: float) -> None:
        """Downgrade until the limit holds, then buy the best upgrades that still fit."""
        while (total := self.total(self.at)) > limit:
            row = self.fall.argmin()
            if not np.isfinite(self.fall[row]):
                return
            self.move(np.array([row]), self.down[[row]])
        while True:
            row = self.rise.argmax()
            if not np.isfinite(self.rise[row]):
                return
            paid, slack = self.pay[row, self.at[row]], limit - total
            if self.pay[row, self.up[row]] - paid > slack:
                self.look(np.array([row]), slack)  # slack only shrinks: no need to try it again
                continue
            self.move(np.array([row]), self.up[[row]])
            total += float(self.pay[row, self.at[row]] - paid)


class Labelled(NamedTuple):
    """Features (n, d) and 0/1 labels (n, M)."""

    features: Array
    success: Array


class Forecast(NamedTuple):
    """The published predictions for N queries and M LLMs."""

    plain: Array  # (N, M), one forest per LLM on all training queries: the cheap end's table
    bootstrap: Estimate  # weighted mean and unweighted population deviation over the samples

    def robust(self, alpha: float = ALPHA) -> Array:
        """The accurate end's table: mean + alpha sigma, not kept within 0 and 1."""
        return self.bootstrap.mean + alpha * self.bootstrap.sigma


def forecast(
    train: Labelled, validation: Labelled, queries: Array, seed: int, bootstraps: int = BOOTSTRAPS
) -> Forecast:
    """Predict the success of `queries` (N, d), with bootstrap samples weighed on `validation`.

    A sample's weight is the share of validation cells that its rounded prediction gets right.
    """
    rng = np.random.default_rng(seed)
    distinct, back = np.unique(queries, axis=0, return_inverse=True)
    asked = np.concatenate([validation.features, distinct])
    checks = len(validation.features)
    plain = _forests(train, asked, seed)[checks:]
    total, square, weighted, weights = (np.zeros_like(plain) for _ in range(4))
    for number in range(bootstraps):
        sample = rng.integers(0, len(train.features), len(train.features))
        one = Labelled(train.features[sample], train.success[sample])
        found = _forests(one, asked, seed + 1 + number)
        weight = float(np.mean(np.round(found[:checks]) == validation.success))
        p = found[checks:]
        total += p
        square += p**2
        weighted += weight * p
        weights += weight
    mean = np.divide(weighted, weights, out=total / bootstraps, where=weights > 0)
    sigma = np.sqrt(np.maximum(square / bootstraps - (total / bootstraps) ** 2, 0))
    rows = back.reshape(-1)
    return Forecast(plain[rows], Estimate(mean[rows], sigma[rows]))


def _forests(labelled: Labelled, asked: Array, seed: int) -> Array:
    """One binary forest per LLM; the probability of success of each query asked, (N, M)."""
    from sklearn.ensemble import RandomForestClassifier

    columns = []
    for labels in labelled.success.T:
        forest = RandomForestClassifier(_TREES, max_depth=_DEPTH, random_state=seed)
        forest.fit(labelled.features, labels)
        columns.append(forest.predict_proba(asked) @ forest.classes_)
    return np.stack(columns, axis=1)
