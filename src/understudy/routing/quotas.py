"""Routing under a budget with at most so many queries per LLM, priced by one number per LLM.

The linear programme of the front gains one row per quota, whose dual is that LLM's price mu: query
i goes to argmax over j of p_ij - lambda c_ij - mu_j. The programme is solved exactly; the few
queries that it splits between LLMs are then solved as whole ones.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from understudy.errors import BadInput
from understudy.routing.relaxation import NEARLY, Relaxed, loads, one_each, relaxation, scores
from understudy.routing.tables import Floats, Integers, Tables, tables

_STEEPEST = 1e9  # successes per mean cost; above, rounding is all that is over the limit
_SPLIT = 1e-6  # a query whose largest share is below 1 by more is split


class QuotaPlan(NamedTuple):
    """An assignment within the budget and the quotas."""

    assignment: Integers  # (N,) column of the LLM of each query
    cost: float  # USD, total
    accuracy: float  # expected, weighted mean over queries
    price: float  # lambda, successes per USD
    quota_prices: Floats  # (M,) mu, successes per query of that LLM; 0 where the quota is slack
    bound: float  # accuracy of the LP relaxation: no assignment is better
    gap: float  # bound - accuracy; at most M + 1 queries are split in the relaxation


def with_quotas(
    p: ArrayLike,
    c: ArrayLike,
    quotas: ArrayLike,
    usd: float = np.inf,
    allowed: ArrayLike | None = None,
    weights: ArrayLike | None = None,
) -> QuotaPlan:
    """The most accurate assignment within `usd` that sends LLM j at most quotas[j] queries.

    `quotas` is (M,), in queries (or their weights), infinite where there is no limit. Raises
    BadInput as `tables` does, for quotas that cannot hold all queries, and for a budget below the
    cheapest assignment within the quotas.
    """
    given = tables(p, c, allowed, weights)
    scale = float(given.c.mean()) or 1.0  # so that one price fits the units of all limits
    checked = given._replace(c=given.c / scale)
    limits = np.append(_checked(quotas, checked), np.inf)
    reach = np.ptp(checked.c) * (limits.size + 1) + 1  # no quota is worth more, by any exchange
    cheapest = relaxation(checked, -checked.c, limits, reach)
    tolerance = NEARLY * float(checked.weight.sum())
    if cheapest.overflow > tolerance:
        raise BadInput(f"the quotas leave {cheapest.overflow:g} queries without an LLM: raise them")
    least = -cheapest.bound
    if not usd / scale * (1 + NEARLY) >= least:
        raise BadInput(
            f"a budget of {usd:g} USD is below {least * scale:g} USD, the least within the quotas: "
            "raise it"
        )
    limits[-1] = usd / scale
    reach = np.ptp(checked.p) + 1
    best = relaxation(checked, checked.p, limits, reach)
    while best.overflow > tolerance and reach < _STEEPEST:
        reach *= 10  # something keeps to all limits, so some finite price finds it
        best = relaxation(checked, checked.p, limits, reach)
    assignment = _rounded(checked, limits, best)
    rows, weight = np.arange(len(assignment)), given.weight
    accuracy = float(given.p[rows, assignment] @ weight / weight.sum())
    bound = max(best.bound / float(weight.sum()), accuracy)
    return QuotaPlan(
        assignment,
        float(given.c[rows, assignment] @ weight),
        accuracy,
        float(best.prices[-1]) / scale,
        best.prices[:-1],
        bound,
        bound - accuracy,
    )


def _checked(quotas: ArrayLike, checked: Tables) -> Floats:
    llms = checked.p.shape[1]
    try:
        limits = np.array(quotas, dtype=float)
    except (TypeError, ValueError):
        limits = np.full(llms, np.nan)
    if limits.shape != (llms,) or not (limits >= 0).all():
        raise BadInput(f"quotas is {quotas!r}: it must hold {llms} numbers of queries, 0 or more")
    return limits


def _rounded(checked: Tables, limits: Floats, best: Relaxed) -> Integers:
    """Solve the split queries, and the nearest others until all fit, as whole queries."""
    score = np.sort(scores(checked, checked.p, best.prices), axis=1)
    margin = score[:, -1] - score[:, -2] if score.shape[1] > 1 else np.zeros(len(score))
    is_split = best.shares.max(axis=1) < 1 - _SPLIT
    order = np.lexsort((margin, ~is_split))  # the split ones come first
    assignment: Integers = best.shares.argmax(axis=1)
    count = int(is_split.sum())
    while not _fits(checked, limits, assignment, order[:count]):
        if count == len(order):
            raise BadInput("no assignment of whole queries keeps to the budget and the quotas")
        count = min(len(order), 2 * count + 8)
    return assignment


def _fits(checked: Tables, limits: Floats, assignment: Integers, free: Integers) -> bool:
    """Assign the free queries the best way, in place, when whole ones can keep to the limits."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    finite = np.isfinite(limits)
    limits = limits + NEARLY * (1 + np.abs(np.where(finite, limits, 0.0)))
    fixed = np.setdiff1d(np.arange(len(assignment)), free)
    left = (limits - loads(checked, fixed, assignment[fixed]).sum(axis=1))[finite]
    if not len(free):
        return bool((left >= 0).all())
    is_free = np.zeros((len(assignment), 1), dtype=bool)
    is_free[free] = True
    query, llm = np.nonzero(is_free & checked.usable)
    found = milp(
        -checked.weight[query] * checked.p[query, llm],
        constraints=[
            LinearConstraint(loads(checked, query, llm)[finite], ub=left),
            LinearConstraint(one_each(query), 1, 1),
        ],
        integrality=1,
        bounds=Bounds(0, 1),
    )
    if found.x is None:
        return False
    chosen = found.x > 0.5
    assignment[query[chosen]] = llm[chosen]
    return True
