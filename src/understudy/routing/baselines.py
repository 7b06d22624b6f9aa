"""Two plain routers to measure ours against: nearest neighbours, and k-means with scores a cluster.

Both predict a success for each query and LLM from the labelled queries, in the features that ours
has, and are routed like ours: by success - price x USD. Their one size is chosen by the Brier score
of a cross-validation over whole groups of the labelled queries.
"""

from collections.abc import Callable, Sequence

import numpy as np

from understudy.routing.predict import Array
from understudy.routing.splits import codes, folds
from understudy.routing.value import brier

Predict = Callable[[Array], Array]
Fit = Callable[[int, Array, Array], Predict]
NEIGHBOURS = (5, 10, 20, 40, 80)
CLUSTERS = (4, 8, 15, 30, 60)  # 60 as published
_NEAR = 4  # clusters that a query's score is summed over, as published
_FOLDS = 5


def knn(known: Array, success: Array, asked: Array, groups: Sequence[str], seed: int) -> Array:
    """Success by the mean of the nearest labelled queries (scikit-learn), shape (N, M)."""
    from sklearn.neighbors import KNeighborsRegressor

    def fit(k: int, x: Array, y: Array) -> Predict:
        made = KNeighborsRegressor(min(k, len(x))).fit(x, y)
        return lambda queries: np.asarray(made.predict(queries), float)

    return _tuned(fit, NEIGHBOURS, known, success, groups, seed)(asked)


def clusters(known: Array, success: Array, asked: Array, groups: Sequence[str], seed: int) -> Array:
    """Success by the mean scores of the nearest clusters of labelled queries, shape (N, M).

    Avengers-Pro (arXiv 2508.12631): k-means, a score per cluster and LLM, summed over the four
    nearest clusters. Its trade-off of normalised accuracy and cost is here the price, as in ours.
    """
    from sklearn.cluster import KMeans

    def fit(k: int, x: Array, y: Array) -> Predict:
        count = min(k, len(np.unique(x, axis=0)))
        made = KMeans(count, n_init=4, random_state=seed).fit(x)
        member = np.eye(count)[made.labels_]  # (n, clusters)
        score = member.T @ y / member.sum(axis=0)[:, None]  # (clusters, M)

        def predict(queries: Array) -> Array:
            near = np.argsort(made.transform(queries), axis=1)[:, :_NEAR]
            return np.asarray(score[near].mean(axis=1), float)

        return predict

    return _tuned(fit, CLUSTERS, known, success, groups, seed)(asked)


def _tuned(
    fit: Fit, sizes: Sequence[int], known: Array, success: Array, groups: Sequence[str], seed: int
) -> Predict:
    """Fit with the size whose cross-validated predictions are nearest to the labels."""
    cuts = list(folds(codes(groups), _FOLDS, seed))
    possible = [size for size in sizes if size < len(known)] or [1]

    def error(size: int) -> float:
        parts = []
        for seen, unseen in cuts:
            found = fit(size, known[seen], success[seen])(known[unseen])
            parts.append(brier(found, success[unseen]) * len(unseen))
        return sum(parts)

    return fit(min(possible, key=error), known, success)
