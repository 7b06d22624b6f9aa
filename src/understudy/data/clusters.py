"""Near-duplicate instructions: exact Jaccard similarity of word shingles, without all pairs.

Two sets with Jaccard >= t share one of the first n - ceil(t n) + 1 shingles when all are sorted
by rarity (the prefix filter of AllPairs), so an index of these prefixes finds every candidate.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence

THRESHOLD = 0.8
_SHINGLE = 3  # words


def same(instruction: str) -> str:
    """The form in which two instructions are exact duplicates: case and spacing do not count."""
    return " ".join(instruction.casefold().split())


def clusters(texts: Sequence[str], threshold: float = THRESHOLD) -> list[int]:
    """The index of the first text of each text's cluster; chains of pairs are one cluster."""
    sets = _rarest_first([_shingles(text) for text in texts])
    parents = list(range(len(texts)))

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    first: dict[tuple[int, ...], int] = {}
    index: defaultdict[int, list[int]] = defaultdict(list)
    for number, shingles in enumerate(sets):
        twin = first.setdefault(tuple(shingles), number)
        if twin != number:  # an exact duplicate needs no index
            parents[root(number)] = root(twin)
            continue
        size, members = len(shingles), set(shingles)
        prefix = shingles[: size - math.ceil(threshold * size) + 1]
        for other in {other for shingle in prefix for other in index[shingle]}:
            if root(other) != root(number) and _are_near(members, sets[other], threshold):
                low, high = sorted((root(other), root(number)))
                parents[high] = low
        for shingle in prefix:
            index[shingle].append(number)
    return [root(number) for number in range(len(texts))]


def _are_near(members: set[int], other: list[int], threshold: float) -> bool:
    small, large = sorted((len(members), len(other)))
    if small < threshold * large:
        return False
    shared = sum(shingle in members for shingle in other)
    return shared >= threshold * (small + large - shared)


def _shingles(text: str) -> set[str]:
    words = re.findall(r"\w+", text.casefold()) or [same(text)]
    return {
        " ".join(words[start : start + _SHINGLE])
        for start in range(max(1, len(words) - _SHINGLE + 1))
    }


def _rarest_first(sets: list[set[str]]) -> list[list[int]]:
    """Shingles as their rank: the rarer, the smaller."""
    counts = Counter(shingle for shingles in sets for shingle in shingles)
    rank = {
        shingle: number
        for number, (shingle, _) in enumerate(sorted(counts.items(), key=lambda i: (i[1], i[0])))
    }
    return [sorted(rank[shingle] for shingle in shingles) for shingles in sets]
