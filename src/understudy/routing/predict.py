"""Predicted success of every LLM on a query: three learners, shrunk to the means of the LLMs.

The learners are fitted with scikit-learn and scored with numpy. Each predicts all LLMs at once
and takes graded successes in [0, 1], so labels of a single class are no special case. `sigma` is
its uncertainty about the mean, in the same units. Their fields are plain arrays: the router
artifact stores them. `fitting` makes a `Predictor` of one of them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from understudy.routing.features import Bag, Projection, bags

Array = NDArray[np.float64]
Queries = Sequence[str] | Sequence[Bag] | Array  # texts, their bags, or features (N, d)
_TREES = 100
_NEIGHBOURS = 8
_RIDGE = 0.3  # precision of the coefficients' normal prior; the features have unit length
_ROWS = 1024  # scored at a time, to bound memory


class Estimate(NamedTuple):
    """Predicted success and its standard deviation, each (N, M)."""

    mean: Array
    sigma: Array


class Learner(Protocol):
    """What is fitted: a frozen dataclass whose fields are arrays."""

    def __call__(self, features: Array) -> Estimate: ...


@dataclass(frozen=True)
class Forest:
    """A random forest with one leaf value per LLM; sigma is the deviation between its trees."""

    feature: NDArray[np.int32]  # (nodes,), of all trees one after the other
    threshold: NDArray[np.float32]
    left: NDArray[np.int32]  # a leaf is its own child
    right: NDArray[np.int32]
    value: NDArray[np.float32]  # (nodes, M)
    roots: NDArray[np.int32]  # (trees,)
    depth: NDArray[np.int32]  # ()

    def __call__(self, features: Array) -> Estimate:
        """Estimates for features of shape (N, d)."""
        return _in_parts(self._score, features, self.value.shape[1])

    def _score(self, features: Array) -> Estimate:
        values = features.astype(np.float32)
        node = np.broadcast_to(self.roots, (len(values), len(self.roots)))  # (N, trees)
        rows = np.arange(len(values))[:, None]
        for _ in range(int(self.depth)):
            goes_left = values[rows, self.feature[node]] <= self.threshold[node]
            node = np.where(goes_left, self.left[node], self.right[node])
        leaves = self.value[node]  # (N, trees, M)
        return Estimate(leaves.mean(axis=1, dtype=float), leaves.std(axis=1, dtype=float))


@dataclass(frozen=True)
class Neighbours:
    """The mean over the nearest labelled queries, closer ones counting more."""

    known: NDArray[np.float32]  # (n, d)
    success: NDArray[np.float32]  # (n, M)
    count: NDArray[np.int32] = field(default_factory=lambda: np.array(_NEIGHBOURS, np.int32))  # ()

    def __call__(self, features: Array) -> Estimate:
        """Estimates for features of shape (N, d)."""
        return _in_parts(self._score, features, self.success.shape[1])

    def _score(self, features: Array) -> Estimate:
        k = min(int(self.count), len(self.known))
        known = self.known.astype(float)  # in 32 bits one query and a batch of them round apart
        square = (known**2).sum(axis=1)
        distance = square - 2 * features @ known.T + (features**2).sum(axis=1)[:, None]
        near = np.argpartition(distance, k - 1, axis=1)[:, :k]
        weight = 1 / (np.maximum(np.take_along_axis(distance, near, axis=1), 0) + 1e-2)
        weight = (weight / weight.sum(axis=1, keepdims=True)).astype(float)
        success = self.success[near].astype(float)  # (N, k, M)
        mean = np.einsum("nk,nkm->nm", weight, success)
        spread = np.einsum("nk,nkm->nm", weight**2, (success - mean[:, None]) ** 2)
        return Estimate(mean, np.sqrt(spread))


@dataclass(frozen=True)
class Logistic:
    """A logistic regression per LLM with a normal prior; sigma by the Laplace approximation."""

    centre: Array  # (d,)
    weights: Array  # (d + 1, M), the intercept last
    covariance: Array  # (M, d + 1, d + 1)

    def __call__(self, features: Array) -> Estimate:
        """Estimates for features of shape (N, d)."""
        design = _design(features - self.centre)
        mean = _sigmoid(design @ self.weights)
        spread = np.stack([((design @ one) * design).sum(axis=1) for one in self.covariance], 1)
        return Estimate(mean, mean * (1 - mean) * np.sqrt(np.maximum(spread, 0)))


def fit_forest(features: Array, success: Array, seed: int) -> Forest:
    """A forest of fully grown trees on bootstrap samples, a third of the features per split."""
    from sklearn.ensemble import RandomForestRegressor

    forest = RandomForestRegressor(_TREES, max_features=1 / 3, random_state=seed)
    labels = success[:, 0] if success.shape[1] == 1 else success  # one column draws a warning
    trees = [tree.tree_ for tree in forest.fit(features, labels).estimators_]
    starts = np.cumsum([0, *(tree.node_count for tree in trees)])[:-1].astype(np.int32)
    own = [np.arange(tree.node_count) for tree in trees]

    def children(side: str) -> NDArray[np.int32]:
        ends = [getattr(tree, f"children_{side}") for tree in trees]
        kept = [np.where(end < 0, node, end) for end, node in zip(ends, own, strict=True)]
        return np.concatenate([k + s for k, s in zip(kept, starts, strict=True)]).astype(np.int32)

    return Forest(
        np.maximum(np.concatenate([tree.feature for tree in trees]), 0).astype(np.int32),
        np.concatenate([tree.threshold for tree in trees]).astype(np.float32),
        children("left"),
        children("right"),
        np.concatenate([tree.value[:, :, 0] for tree in trees]).astype(np.float32),
        starts,
        np.array(max(tree.max_depth for tree in trees), np.int32),
    )


def fit_neighbours(
    features: Array, success: Array, seed: int, count: int = _NEIGHBOURS
) -> Neighbours:
    """Remember the labelled queries, of which `count` are looked at."""
    known, labels = features.astype(np.float32), success.astype(np.float32)
    return Neighbours(known, labels, np.array(count, np.int32))


def fit_logistic(features: Array, success: Array, seed: int) -> Logistic:
    """Newton's method on the penalised log-likelihood; an unpenalised intercept would diverge."""
    centre = features.mean(axis=0)
    design = _design(features - centre)
    prior = np.full(design.shape[1], _RIDGE)
    prior[-1] = 1e-2
    columns, covariances = [], []
    for labels in success.T:
        weight = np.zeros(design.shape[1])
        for _ in range(30):
            mean = _sigmoid(design @ weight)
            bend = (design * (mean * (1 - mean))[:, None]).T @ design + np.diag(prior)
            step = np.linalg.solve(bend, design.T @ (labels - mean) - prior * weight)
            weight += step
            if np.abs(step).max() < 1e-6:
                break
        columns.append(weight)
        covariances.append(np.linalg.inv(bend))
    return Logistic(centre, np.stack(columns, axis=1), np.stack(covariances))


Fit = Callable[[Array, Array, int], Learner]
FITS: dict[str, Fit] = {
    "forest": fit_forest,
    "neighbours": fit_neighbours,
    "logistic": fit_logistic,
}
_MORE_NEIGHBOURS = (80, 40, 20)


def candidates(kind: str, labels: int) -> list[tuple[str, Fit]]:
    """The learners of a kind, or of all where it is "auto", the smoothest first.

    What sets one LLM off from another is often a small part of a success: then a mean over many
    neighbours tells it, where one over few is mostly noise. As many as a quarter of the labels are
    looked at, so a handful of labels has few candidates for chance to choose among.
    """
    counts = [count for count in _MORE_NEIGHBOURS if 4 * count <= labels]
    found: list[tuple[str, Fit]] = [
        ("neighbours", partial(fit_neighbours, count=count)) for count in counts
    ]
    found += [(one, FITS[one]) for one in ("neighbours", "logistic", "forest")]
    return [(one, way) for one, way in found if kind in ("auto", one)]


KINDS = {"forest": Forest, "neighbours": Neighbours, "logistic": Logistic}


def _in_parts(score: Callable[[Array], Estimate], features: Array, llms: int) -> Estimate:
    """Score `_ROWS` queries at a time."""
    parts = [score(features[n : n + _ROWS]) for n in range(0, len(features), _ROWS)]
    if not parts:
        return Estimate(*np.empty((2, 0, llms)))
    return Estimate(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _design(features: Array) -> Array:
    return np.column_stack([features, np.ones(len(features))])


def _sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-np.clip(values, -35, 35)))


class Trust(NamedTuple):
    """How far a learner's deviations from the means are believed, each from 0 to 1."""

    common: float  # that a query is easy or hard for all LLMs; moves no assignment
    contrast: float  # that it is easier for one LLM than for another


@dataclass(frozen=True)
class Predictor:
    """A learner, shrunk towards the per-LLM means."""

    kind: str
    learner: Learner
    means: Array  # (M,)
    trust: Trust
    alpha: float  # success is taken as mean + alpha sigma; above 0 is optimistic
    projection: Projection | None  # None: the features are the user's own

    def estimate(self, queries: Queries) -> Estimate:
        """Mean and sigma, each (N, M)."""
        return shrink(self.learner(features(queries, self.projection)), self.means, self.trust)

    def __call__(self, queries: Queries) -> Array:
        """The values to route by: mean + alpha sigma, shape (N, M)."""
        return optimistic(self.estimate(queries), self.alpha)


def features(queries: Queries, projection: Projection | None) -> Array:
    """Dense features, shape (N, d)."""
    if isinstance(queries, np.ndarray):
        return queries.astype(float)
    assert projection is not None, "texts need the projection that was fitted with them"
    return projection(as_bags(queries)).astype(float)


def as_bags(queries: Sequence[str] | Sequence[Bag]) -> list[Bag]:
    """The bags of texts; bags stay as they are."""
    texts = [one for one in queries if isinstance(one, str)]
    return bags(texts) if texts else [one for one in queries if isinstance(one, Bag)]


def shrink(raw: Estimate, means: Array, trust: Trust) -> Estimate:
    """Move predictions towards the per-LLM means."""
    common, contrast = parts(raw.mean - means)
    return Estimate(
        means + trust.common * common + trust.contrast * contrast, trust.contrast * raw.sigma
    )


def parts(deviation: Array) -> tuple[Array, Array]:
    """What all LLMs share of a deviation, (N, 1), and what is each one's own, (N, M)."""
    common: Array = deviation.mean(axis=1, keepdims=True)
    return common, deviation - common


def optimistic(estimate: Estimate, alpha: float) -> Array:
    """The paper's robust value, mean + alpha sigma; like there, not kept within 0 and 1."""
    return estimate.mean + alpha * estimate.sigma
