"""The upper concave hulls of all queries' (cost, success) points, as one list of steps by slope."""

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy.routing.tables import Bools, Floats, Integers, Tables

_CHUNK = 8192  # queries whose working arrays fit the cache of a core
_THREADS = 2  # numpy lets go of the interpreter lock
_CLOSEST = 1e-300  # USD; keeps slopes finite between LLMs of almost equal cost


class Steps(NamedTuple):
    """K edges of hulls: each moves one query from an LLM to the next on its hull."""

    query: NDArray[np.int32]
    to: NDArray[np.int16]  # column of the LLM
    slope: Floats  # success per USD
    cost: Floats  # USD
    gain: Floats  # success


_NONE = Steps(np.zeros(0, np.int32), np.zeros(0, np.int16), *3 * [np.zeros(0)])


def walk(checked: Tables) -> tuple[Integers, Steps]:
    """The cheapest LLM of each query (the better of equally cheap ones), and the steps from there.

    The slopes fall; equal ones stand in the order of the query's own steps, then of the queries.
    """
    chunks = [slice(at, at + _CHUNK) for at in range(0, len(checked.p), _CHUNK)]
    with ThreadPoolExecutor(min(_THREADS, len(chunks))) as pool:
        hulls = list(pool.map(lambda rows: _walk(checked, rows), chunks))
        start = np.concatenate([first for first, _ in hulls])
        deepest = max(len(steps) for _, steps in hulls)
        parts = [
            steps[depth] for depth in range(deepest) for _, steps in hulls if depth < len(steps)
        ]
        steps = Steps(*pool.map(np.concatenate, zip(_NONE, *parts, strict=True)))
        order = _descending(steps.slope, pool)
        return start, Steps(*pool.map(lambda column: column[order], steps))


def _walk(checked: Tables, rows: slice) -> tuple[Integers, list[Steps]]:
    """Walk the hulls of a chunk of n queries, all of them one edge at a time.

    From its present LLM each query goes to the one with the steepest gain per USD, the farthest of
    equally steep ones, which leaves dominated, LP-dominated and collinear LLMs out. No LLM that
    gains is cheaper than the present one, so a positive gain is the only condition.
    """
    p, c = np.ascontiguousarray(checked.p[rows].T), np.ascontiguousarray(checked.c[rows].T)
    if checked.allowed is not None:
        forbidden = ~checked.allowed[rows].T
        p[forbidden], c[forbidden] = -np.inf, np.inf  # (M, n)
    query = np.arange(rows.start, rows.start + p.shape[1], dtype=np.int32)
    usd = c.min(axis=0)
    start, success = _best(p, c == usd)
    last = np.full(len(query), np.inf)
    steps: list[Steps] = []
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
        steps.append(Steps(query, to.astype(np.int16), last, paid - usd, reached - success))
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
