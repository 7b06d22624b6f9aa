"""Where the local model is weak: clusters of train rows whose out-of-fold answers judge badly.

A row's need is the shortfall of its mean score plus the spread between its judges:

    need = 100 - mean + sd        in points; mean and population sd over the judges' means

A judge's mean is over its scored verdicts of similarity and precision. A row without a scored
verdict says nothing. A cluster is weak when its mean need is above that of all rows.
"""

import re
import zlib
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, pstdev
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy.records import Coverage, Verdict

_DIMENSIONS = 2048
_COMMON = 0.05  # share of the texts that a term must be in
_ROUNDS = 25  # of Lloyd's algorithm; it has settled long before
_STARTS = 4
Matrix = NDArray[np.float64]


class Weak(NamedTuple):
    """The train rows of weak clusters, in their order, and what was found, for meta.json."""

    rows: list[Coverage]
    note: dict[str, Any]


def find(train: Sequence[Coverage], verdicts: Sequence[Verdict], seed: int) -> Weak:
    """The rows of clusters that need more than the average; all where none stands out."""
    needs = needs_of(verdicts)
    labels = clusters(features([row.instruction for row in train]), seed)
    known: dict[int, list[float]] = defaultdict(list)
    for row, label in zip(train, labels, strict=True):
        if row.id in needs:
            known[label].append(needs[row.id])
    average = fmean(needs[row.id] for row in train if row.id in needs) if known else 0.0
    means = {label: fmean(values) for label, values in known.items()}
    weak = {label for label, mean in means.items() if mean > average}
    rows = [row for row, label in zip(train, labels, strict=True) if label in weak]
    note = {
        "clusters": len(set(labels)),
        "weak": len(weak),
        "rows": len(rows) or len(train),
        "need": round(average, 2),
        "need_of_weak": round(fmean([needs[r.id] for r in rows if r.id in needs]), 2)
        if rows
        else None,
        "rows_without_verdict": sum(row.id not in needs for row in train),
    }
    return Weak(rows or list(train), note)


def needs_of(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """The need of every prompt that has a scored verdict, in points."""
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for verdict in verdicts:
        # A grader may measure precision alone; a judge that is asked gives both or neither.
        given = [one for one in (verdict.similarity, verdict.precision) if one is not None]
        if given:
            scores[verdict.prompt_id][verdict.judge].append(fmean(given))
    needs = {}
    for prompt, by_judge in scores.items():
        means = [fmean(values) for values in by_judge.values()]
        needs[prompt] = 100 - fmean(means) + pstdev(means)
    return needs


def features(texts: Sequence[str]) -> Matrix:
    """Hashed words and word pairs, weighted by rarity (tf-idf), rows of length 1: (n, 2048).

    Terms of few texts are names and numbers; they say nothing about kinds of tasks.
    """
    counts = np.zeros((len(texts), _DIMENSIONS))
    for number, text in enumerate(texts):
        words = re.findall(r"\w+", text.casefold())
        for term in (*words, *map(" ".join, pairwise(words))):
            counts[number, zlib.crc32(term.encode("utf-8", "replace")) % _DIMENSIONS] += 1
    texts_with = (counts > 0).sum(axis=0)
    rarity = np.log((1 + len(texts)) / (1 + texts_with)) + 1
    return _normalized(np.log1p(counts) * rarity * (texts_with >= _COMMON * len(texts)))


def clusters(points: Matrix, seed: int) -> list[int]:
    """Spherical k-means (Dhillon and Modha 2001) with k = sqrt(n / 2); the best of four starts."""
    count = max(1, round((len(points) / 2) ** 0.5))
    rng = np.random.default_rng(seed)
    best, best_fit = np.zeros(len(points), np.int64), -np.inf
    for _ in range(_STARTS):
        centres = _spread(points, count, rng)
        for _ in range(_ROUNDS):
            labels = (points @ centres.T).argmax(axis=1)
            sums = np.zeros_like(centres)
            np.add.at(sums, labels, points)
            is_empty = np.all(sums == 0, axis=1, keepdims=True)
            centres = np.where(is_empty, centres, _normalized(sums))
        fit = float((points * centres[labels]).sum())
        if fit > best_fit:
            best, best_fit = labels, fit
    return [int(label) for label in best]


def _spread(points: Matrix, count: int, rng: np.random.Generator) -> Matrix:
    """First centres, each drawn by its distance to those before (Arthur and Vassilvitskii 2007)."""
    chosen = [int(rng.integers(len(points)))]
    while len(chosen) < count:
        far = np.clip(1 - (points @ points[chosen].T).max(axis=1), 0, None)
        if not far.sum():
            break
        chosen.append(int(rng.choice(len(points), p=far / far.sum())))
    return points[chosen]


def _normalized(rows: Matrix) -> Matrix:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(lengths > 0, lengths, 1)
