"""The linear programme of routing within limits, solved by column generation.

Maximise sum w_i v_ij x_ij with every query's shares x summing to one, at most so many queries per
LLM, and at most so much cost. HiGHS sees the few options that are nearly the best at the present
prices; more are added until the prices prove the answer optimal among all of them.
"""

from typing import Any, NamedTuple

import numpy as np

from understudy.routing.tables import Bools, Floats, Integers, Tables

NEARLY = 1e-9  # relative rounding of the solver
_SMALL = 400  # queries; so many are solved with all options at once
_THINNING = 8  # the prices of every eighth query are the first guess for all


class Relaxed(NamedTuple):
    """The optimum when queries may be split between LLMs."""

    prices: Floats  # (M + 1,) of the quotas and of the budget
    bound: float  # optimum of the dual
    overflow: float  # by how much the limits are broken, where nothing keeps to them
    shares: Floats  # (N, M) of each query, all 0 or 1 but for a few


def relaxation(checked: Tables, value: Floats, limits: Floats, reach: float) -> Relaxed:
    """Maximise the weighted sum of `value`; a unit above a limit costs `reach`."""
    if len(value) <= _SMALL:
        options = checked.usable.copy()
    else:
        thin = slice(None, None, _THINNING)
        some = checked.rows(thin)
        share = some.weight.sum() / checked.weight.sum()
        guess = relaxation(some, value[thin], limits * share, reach)
        score = scores(checked, value, guess.prices)
        margin = score.max(axis=1, keepdims=True) - score
        near = min(margin.size, len(value) + int(16 * np.sqrt(_THINNING * len(value)))) - 1
        options = np.zeros(margin.shape, dtype=bool)
        options.ravel()[np.argpartition(margin, near, axis=None)[: near + 1]] = True
        options &= checked.usable
        options[np.arange(len(score)), score.argmax(axis=1)] = True
    while True:
        prices, overflow, shares = _master(checked, value, limits, reach, options)
        score = scores(checked, value, prices)
        known = np.where(options, score, -np.inf).max(axis=1)
        top = score.max(axis=1)
        better = np.flatnonzero(top - known > NEARLY * (1 + np.abs(top)))
        if not len(better):
            break
        options[better, score[better].argmax(axis=1)] = True
    finite = np.isfinite(limits)
    bound = top @ checked.weight + prices[finite] @ limits[finite]
    return Relaxed(prices, float(bound), overflow, shares)


def scores(checked: Tables, value: Floats, prices: Floats) -> Floats:
    """What each LLM is worth to each query at the prices, (N, M); -inf where forbidden."""
    score: Floats = value - prices[:-1] - prices[-1] * checked.c
    return score if checked.allowed is None else np.where(checked.allowed, score, -np.inf)


def loads(checked: Tables, query: Integers, llm: Integers) -> Any:
    """What each pair takes of each limit: a sparse (M + 1, pairs) matrix."""
    from scipy.sparse import csr_array

    pairs, llms = np.arange(len(query)), checked.p.shape[1]
    weight = checked.weight[query]
    data = np.concatenate([weight, weight * checked.c[query, llm]])
    rows = np.concatenate([llm, np.full(len(query), llms)])
    return csr_array((data, (rows, np.tile(pairs, 2))), shape=(llms + 1, len(query)))


def one_each(query: Integers) -> Any:
    """The rows of equal query sum up to one: a sparse (queries, pairs) matrix."""
    from scipy.sparse import csr_array

    which = np.unique(query, return_inverse=True)[1]
    return csr_array((np.ones(len(query)), (which, np.arange(len(query)))))


def _master(
    checked: Tables, value: Floats, limits: Floats, reach: float, options: Bools
) -> tuple[Floats, float, Floats]:
    """The linear programme over the options: prices, overflow, shares."""
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, eye_array, hstack

    query, llm = np.nonzero(options)
    shares = options.astype(float)
    is_open = options.sum(axis=1)[query] > 1  # queries with one option are constants
    taken = loads(checked, query[~is_open], llm[~is_open]).sum(axis=1)
    query, llm = query[is_open], llm[is_open]
    finite = np.flatnonzero(np.isfinite(limits))
    slack = -eye_array(len(finite))
    whole = one_each(query)
    found = linprog(
        np.concatenate([-checked.weight[query] * value[query, llm], np.full(len(finite), reach)]),
        A_ub=hstack([loads(checked, query, llm)[finite], slack]),
        b_ub=(limits - taken)[finite],
        A_eq=hstack([whole, csr_array((whole.shape[0], len(finite)))]),
        b_eq=np.ones(whole.shape[0]),
        bounds=(0, None),
    )
    assert found.status == 0, f"HiGHS ended with {found.message}"
    prices = np.zeros(len(limits))
    prices[finite] = -found.ineqlin.marginals
    shares[query, llm] = found.x[: len(query)]
    return prices, float(found.x[len(query) :].sum()), shares
