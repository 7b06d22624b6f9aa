"""The paper's predictor (OptLLM, arXiv 2405.15130), from its description: a forest per LLM.

A hundred bootstrap samples of the training queries each train one forest per LLM; their
predictions are averaged with weights, and alpha times their deviation is added. The original
needs both classes in every bootstrap sample of every LLM and fails on small data without them;
here a forest that saw one class predicts that class.
"""

from typing import NamedTuple

import numpy as np

from understudy.routing.learners import Estimate
from understudy.routing.predict import Array

BOOTSTRAPS = 100
ALPHA = 1.0  # of the published main table; above 0 it is optimistic
_TREES, _DEPTH = 100, 10


class Labelled(NamedTuple):
    """Features (n, d) and 0/1 labels (n, M)."""

    features: Array
    success: Array


class Published(NamedTuple):
    """Predictions for N queries and M LLMs."""

    plain: Array  # (N, M), one forest per LLM on all training queries: the cheap end's table
    bootstrap: Estimate  # weighted mean and unweighted population deviation over the samples

    def robust(self, alpha: float = ALPHA) -> Array:
        """The accurate end's table: mean + alpha sigma, not kept within 0 and 1."""
        return self.bootstrap.mean + alpha * self.bootstrap.sigma


def predict(
    train: Labelled, validation: Labelled, queries: Array, seed: int, bootstraps: int = BOOTSTRAPS
) -> Published:
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
    return Published(plain[rows], Estimate(mean[rows], sigma[rows]))


def _forests(labelled: Labelled, asked: Array, seed: int) -> Array:
    """One binary forest per LLM; the probability of success of each query asked, (N, M)."""
    from sklearn.ensemble import RandomForestClassifier

    columns = []
    for labels in labelled.success.T:
        forest = RandomForestClassifier(_TREES, max_depth=_DEPTH, random_state=seed)
        forest.fit(labelled.features, labels)
        columns.append(forest.predict_proba(asked) @ forest.classes_)
    return np.stack(columns, axis=1)
