"""Sets of assignments as points of cost and accuracy, for everything the exact front is held to."""

from typing import NamedTuple

import numpy as np

from understudy.routing.tables import Floats, Integers


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
