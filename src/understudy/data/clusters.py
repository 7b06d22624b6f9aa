"""Clusters of near-duplicate instructions: what is near lies in one group, chains included."""

from collections.abc import Sequence

from understudy.data.duplicates import near_pairs
from understudy.data.near import Rule


def same(instruction: str) -> str:
    """The form in which two instructions are exact duplicates: case and spacing do not count."""
    return " ".join(instruction.casefold().split())


def clusters(texts: Sequence[str], rule: Rule | None = None) -> list[int]:
    """The index of the first text of each text's cluster; chains of pairs are one cluster."""
    first: dict[str, int] = {}
    parents = [first.setdefault(same(text), number) for number, text in enumerate(texts)]
    unique = list(first.values())

    def root(index: int) -> int:
        while parents[index] != index:
            parents[index] = parents[parents[index]]
            index = parents[index]
        return index

    for number, near in near_pairs([texts[number] for number in unique], rule):
        low, high = sorted((root(unique[number]), root(unique[near.row])))
        parents[high] = low
    return [root(number) for number in range(len(texts))]
