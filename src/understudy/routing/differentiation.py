"""Is there anything to route? How far LLMs differ query by query, and what of it a router gets.

At a price lambda, an LLM's worth on a query is its success less lambda times its USD. Routing can
win at most the mean of the best worth of each query less the best mean worth of an LLM; that is
the oracle's advantage, of which luck is a part. Mixing LLMs at random wins nothing.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy.evaluation.statistics.intervals import CONFIDENCE, Interval, cluster_mean
from understudy.routing.exact import worth
from understudy.routing.guarantee import LEAST

Array = NDArray[np.float64]
_NOTHING = 0.01  # successes per query; an oracle that wins less leaves a router nothing


class Differentiation(NamedTuple):
    """Advantages over the best single LLM, in successes per query, with 95 % intervals."""

    verdict: Literal["go", "no-go", "open"]
    accuracy: Interval  # of an oracle, costs aside
    oracle: Interval  # at the price
    router: Interval | None  # at the price, on queries that it was not fitted on
    sentence: str


def differentiation(
    y: Array,
    c: Array,
    price: float,
    groups: Sequence[str] | None = None,
    held: tuple[NDArray[np.int64], NDArray[np.intp]] | None = None,
) -> Differentiation:
    """Compare an oracle, and a router's choices, with single LLMs on n labelled queries.

    y and c are true success and USD, (n, M); `groups` None takes each query for one. `held` has
    the row numbers that a router was not fitted on and the columns it chooses there.
    """
    names = np.arange(len(y)) if groups is None else np.asarray(groups, dtype=object).astype(str)
    values = worth(y, c, price)
    accuracy = _above_singles(y.max(axis=1), y, names)
    oracle = _above_singles(values.max(axis=1), values, names)
    router = None
    if held is not None:
        rows, chosen = held
        router = _above_singles(values[rows, chosen], values[rows], names[rows])
    verdict, why = _verdict(oracle, router)
    sentence = f"an oracle is right {_points(accuracy)} more often than the best single LLM"
    if price > 0:
        sentence += f", with costs at the price it is worth {_points(oracle)} more"
    if router is not None:
        sentence += f"; this router {_points(router)}"
    return Differentiation(verdict, accuracy, oracle, router, f"{verdict}: {why}; {sentence}")


def _verdict(
    oracle: Interval, router: Interval | None
) -> tuple[Literal["go", "no-go", "open"], str]:
    fewest = (router or oracle).clusters
    if fewest < LEAST:
        return "open", f"{fewest} groups of labelled queries say nothing, it takes {LEAST}"
    if oracle.high is not None and oracle.high < _NOTHING:
        return "no-go", "not even an oracle would win a point over the best single LLM"
    if router is None:
        return "open", "the LLMs differ, but whether a query's text tells them apart is not known"
    if router.low is not None and router.low > 0:
        return "go", "the router beats every single LLM and every mix of them"
    if router.high is not None and router.high <= 0:
        return "no-go", "the router is no better than the best single LLM: use that"
    return "open", "it is not shown that the router beats the best single LLM"


def _above_singles(values: Array, singles: Array, groups: NDArray[np.generic]) -> Interval:
    """The mean of values (n,) less the best mean of a column of singles, (n, M).

    The advantage over the best column is the least of those over all columns. So it is above the
    least of their lower limits, whichever is the best; the upper ones share their error.
    """
    columns = singles.T
    tails = CONFIDENCE, 1 - (1 - CONFIDENCE) / len(columns)
    both = [[cluster_mean(values - one, groups, share) for one in columns] for share in tails]
    least = min(both[0], key=lambda found: found.mean or 0.0)
    lows, highs = [one.low for one in both[0]], [one.high for one in both[1]]
    return least._replace(
        low=None if None in lows else min(low for low in lows if low is not None),
        high=None if None in highs else min(high for high in highs if high is not None),
    )


def _points(found: Interval) -> str:
    assert found.mean is not None, "an advantage over no query"
    if found.low is None or found.high is None or found.clusters < LEAST:
        return f"an unknown number of points (of {found.clusters} groups)"
    return (
        f"{100 * found.mean:.1f} points ({CONFIDENCE:.0%}: {100 * found.low:.1f} to "
        f"{100 * found.high:.1f}, {found.clusters:,} groups)"
    )
