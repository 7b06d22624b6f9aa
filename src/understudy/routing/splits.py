"""Which queries are labelled and which are judged, and whether the two share a query."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from understudy.errors import BadInput

Places = NDArray[np.int64]


class Cut(NamedTuple):
    """Row numbers, sorted."""

    labelled: Places
    test: Places


def draw(
    n: int,
    share: float,
    seed: int,
    groups: Sequence[str] | None = None,
    withheld: float = 0.0,
) -> Cut:
    """Draw `share` of all n queries as labelled; the test queries are the others.

    With `groups`, a query is tested only if no query of its group is labelled. `withheld` is the
    share of groups that are kept from labelling, for groups so few that chance would label all.
    """
    if not 0 < share < 1:
        raise BadInput(f"the labelled share {share:g} is not between 0 and 1")
    rng = np.random.default_rng(seed)
    number = codes(groups) if groups is not None else np.arange(n)
    may = np.ones(n, bool)
    if withheld:
        count = int(number.max()) + 1
        may = ~np.isin(number, rng.permutation(count)[: round(withheld * count)])
    wanted = max(2, round(share * n))
    labelled = np.sort(rng.permutation(np.flatnonzero(may))[:wanted])
    test = np.flatnonzero(~np.isin(number, number[labelled]))
    if len(test) == 0:
        raise BadInput(f"all {int(number.max()) + 1} groups got a label, so none is left to test")
    return Cut(labelled, test)


def halves(n: int, share: float, seed: int, groups: Sequence[str] | None = None) -> Cut:
    """Cut n queries in two by whole groups; `test` gets about `share` of the groups.

    Of the groups, not of the queries: to stop at a number of queries leaves out a large group
    more often than a small one, and what is measured on `test` is then not that of all groups.
    """
    rng = np.random.default_rng(seed)
    number = codes(groups) if groups is not None else np.arange(n)
    count = int(number.max()) + 1
    taken = rng.permutation(count)[: max(1, round(share * count))]
    is_test = np.isin(number, taken)
    return Cut(np.flatnonzero(~is_test), np.flatnonzero(is_test))


def folds(number: Places, count: int, seed: int) -> Iterator[Cut]:
    """Cross-validation by whole groups: every row is tested once, in one of `count` folds."""
    rng = np.random.default_rng(seed)
    fold = rng.permutation(int(number.max()) + 1)[number] % count
    for part in range(count):
        if (is_test := fold == part).any() and not is_test.all():
            yield Cut(np.flatnonzero(~is_test), np.flatnonzero(is_test))


def codes(groups: Sequence[str]) -> Places:
    """A number from 0 for each group, in order of the names."""
    return np.unique(np.asarray(groups, dtype=object), return_inverse=True)[1].astype(np.int64)


def duplicates(texts: Sequence[str]) -> list[str]:
    """A key that equal texts share, whatever their case and white space."""
    return [" ".join(text.casefold().split()) for text in texts]


def leak(texts: Sequence[str] | None, cut: Cut) -> str | None:
    """A warning when test queries repeat labelled ones: their accuracy is partly recall."""
    if texts is None:
        return None
    keys = np.asarray(duplicates(texts), dtype=object)
    seen = np.isin(keys[cut.test].astype(str), keys[cut.labelled].astype(str))
    if not seen.any():
        return None
    return (
        f"{seen.sum():,} of the {len(cut.test):,} queries repeat a labelled query word for word: "
        "their accuracy is partly recall, and new queries will get less"
    )
