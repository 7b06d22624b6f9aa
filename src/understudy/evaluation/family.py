"""Several workloads decided together: may they all migrate, with one probability of an error?

A look at one workload has a p value, the least alpha of all its looks at which it says MIGRATE:

    p = least one-sided level at which this look says MIGRATE / the share of alpha that the look has

Where the local model loses the margin, any look at the workload has p <= a with probability at most
a, since the shares of all looks add up to 1 (looks.py). So Holm's step-down (1979) over W workloads
holds for all their looks: the i-th smallest p is held against alpha / (W - i + 1). At the first
false MIGRATE only workloads that may migrate have been set aside, so it is held against at most
alpha / (the number of those that may not), and by the union bound one or more of these migrate with
probability at most alpha, however the workloads depend on each other.
"""

from collections.abc import Sequence
from typing import NamedTuple

from understudy.evaluation.decision import Word
from understudy.evaluation.statistics import families


class Member(NamedTuple):
    """A workload of the family, by itself."""

    word: Word | None  # None: its holdout is not judged yet
    p: float  # 1 where nothing is known, which counts it in


class FamilyWord(NamedTuple):
    """What holds of it together with the others."""

    p: float  # adjusted for all workloads
    word: Word | None


def together(members: Sequence[Member], alpha: float) -> list[FamilyWord]:
    """The words of all, of which one or more MIGRATE falsely with probability at most `alpha`."""
    adjusted = families.holm([one.p for one in members]).values
    return [
        FamilyWord(float(p), "INCONCLUSIVE" if one.word == "MIGRATE" and p > alpha else one.word)
        for one, p in zip(members, adjusted, strict=True)
    ]
