"""Predicted success of every LLM on a query, with numpy alone; `fitting` makes the predictor."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy.routing.features import Bag, Projection, bags
from understudy.routing.learners import Estimate, Learner

Array = NDArray[np.float64]
Queries = Sequence[str] | Sequence[Bag] | Array  # texts, their bags, or features (N, d)


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
