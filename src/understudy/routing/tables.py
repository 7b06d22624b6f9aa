"""The two tables of a routing problem, checked: p (success) and c (USD), one row per query."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from understudy.errors import BadInput

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]
Bools = NDArray[np.bool_]


class Tables(NamedTuple):
    """N queries, M LLMs; None stands for all pairs allowed and for equal weights."""

    p: Floats  # (N, M) expected success, any finite number
    c: Floats  # (N, M) USD
    allowed: Bools | None  # (N, M)
    weights: Floats | None  # (N,) how often a query occurs, > 0

    @property
    def weight(self) -> Floats:
        """The (N,) weights, ones where none were given."""
        return np.ones(len(self.p)) if self.weights is None else self.weights

    @property
    def usable(self) -> Bools:
        """The (N, M) pairs that may be used, all where none were forbidden."""
        return np.ones(self.p.shape, dtype=bool) if self.allowed is None else self.allowed

    def rows(self, chosen: slice) -> "Tables":
        """These queries only."""
        allowed = None if self.allowed is None else self.allowed[chosen]
        weights = None if self.weights is None else self.weights[chosen]
        return Tables(self.p[chosen], self.c[chosen], allowed, weights)


def tables(
    p: ArrayLike, c: ArrayLike, allowed: ArrayLike | None = None, weights: ArrayLike | None = None
) -> Tables:
    """Check the tables of N queries and M LLMs.

    `allowed` is (N, M), or (M,) for all queries alike. Raises BadInput for ragged or empty tables,
    shapes that differ, numbers that are missing or infinite, negative costs, weights that are not
    positive, and queries without any allowed LLM.
    """
    success, usd = _matrix(p, "p"), _matrix(c, "c")
    if success.shape != usd.shape:
        raise BadInput(f"p is {_shape(success)} but c is {_shape(usd)}: they must be equal")
    _finite(success, "p")
    _finite(usd, "c")
    if usd.min() < 0:
        query, llm = np.argwhere(usd < 0)[0]
        raise BadInput(f"c[{query}, {llm}] is {usd[query, llm]:g} USD: a cost is 0 or more")
    return Tables(success, usd, _allowed(allowed, usd.shape), _weights(weights, len(usd)))


def _matrix(table: ArrayLike, name: str) -> Floats:
    try:
        matrix = np.ascontiguousarray(table, dtype=float)
    except (TypeError, ValueError):
        raise BadInput(f"{name} {_why_not_a_matrix(table)}: {_WANTED}") from None
    if matrix.ndim != 2 or not matrix.size:
        raise BadInput(f"{name} has the shape {np.shape(table)}: {_WANTED}")
    return matrix


_WANTED = "it must hold one row per query and one number per LLM in every row"


def _why_not_a_matrix(table: Any) -> str:
    try:
        lengths = [len(row) for row in table]
    except TypeError:
        return "is not a table"
    odd = next((i for i, length in enumerate(lengths) if length != lengths[0]), None)
    if odd is None:
        return "holds something that is not a number"
    return f"has {lengths[0]} entries in row 0 and {lengths[odd]} in row {odd}"


def _finite(table: Floats, name: str) -> None:
    if not np.isfinite(table.min() + table.max()):  # NaN and infinities survive min and max
        bad = np.argwhere(~np.isfinite(table))
        if len(bad):
            at = ", ".join(map(str, bad[0]))
            raise BadInput(f"{name}[{at}] is {table[tuple(bad[0])]}: every entry must be a number")


def _allowed(allowed: ArrayLike | None, shape: tuple[int, ...]) -> Bools | None:
    if allowed is None:
        return None
    try:
        mask = np.asarray(allowed)
    except ValueError:
        mask = np.zeros(())
    if mask.dtype != np.bool_ or mask.shape not in (shape, shape[1:]):
        raise BadInput(
            f"allowed must be true or false for every LLM, shape {shape[1:]}, or for every query "
            f"and LLM, shape {shape}: it is {mask.dtype}, shape {mask.shape}"
        )
    mask = np.broadcast_to(mask, shape)
    if not mask.any(axis=1).all():
        raise BadInput(f"query {int(mask.any(axis=1).argmin())} has no allowed LLM: allow one")
    return mask


def _weights(weights: ArrayLike | None, queries: int) -> Floats | None:
    if weights is None:
        return None
    try:
        vector = np.asarray(weights, dtype=float)
    except (TypeError, ValueError):
        raise BadInput("weights holds something that is not a number") from None
    if vector.shape != (queries,):
        raise BadInput(f"weights has the shape {vector.shape}: it must be ({queries},)")
    _finite(vector, "weights")
    if vector.min() <= 0:
        query = int(vector.argmin())
        raise BadInput(f"weights[{query}] is {vector[query]:g}: a weight is more than 0")
    return vector


def _shape(table: Floats) -> str:
    return " x ".join(map(str, table.shape))
