"""Which train row a call starts from: without replacement until all were used, then a new order."""

import bisect
import random
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from understudy.prompts.synthesis import Wish
from understudy.records import Coverage

T = TypeVar("T")


class Later(NamedTuple):
    """Rows that may seed from a call number on: those of a finished block."""

    call: int
    rows: Sequence[Coverage]


class Cycle(Generic[T]):
    """An endless sequence of epochs, each holding all items once, in an order of its own."""

    def __init__(self, items: Sequence[T], key: str) -> None:
        self._items, self._key = items, key
        self._epoch, self._order = -1, list[T]()

    def __getitem__(self, number: int) -> T:
        epoch, position = divmod(number, len(self._items))
        if epoch != self._epoch:
            self._epoch, self._order = epoch, _shuffled(self._items, f"{self._key}:{epoch}")
        return self._order[position]


class Seeds:
    """The seed of every call; an epoch goes through all the rows that may seed when it begins."""

    def __init__(self, human: Sequence[Coverage], later: Sequence[Later], key: str) -> None:
        self._human, self._later, self._key = human, later, key
        self._starts = [0]  # the call at which each epoch begins, and the end of the last
        self._orders: list[list[Coverage]] = []

    def __getitem__(self, call: int) -> Coverage:
        while call >= self._starts[-1]:
            self._begin()
        epoch = bisect.bisect_right(self._starts, call) - 1
        return self._orders[epoch][call - self._starts[epoch]]

    def _begin(self) -> None:
        start = self._starts[-1]
        rows = [*self._human]
        for later in self._later:
            rows += later.rows if later.call <= start else []
        self._orders.append(_shuffled(rows, f"{self._key}:{len(self._orders)}"))
        self._starts.append(start + len(rows))


class Wishes:
    """What a call asks for beyond its seed: every topic and every length equally often."""

    def __init__(self, topics: Sequence[str], lengths: Sequence[float], key: str) -> None:
        self._topics = Cycle(topics, f"{key}:topic") if topics else None
        self._lengths = Cycle(lengths, f"{key}:length") if lengths else None

    def __call__(self, call: int, seed: Coverage) -> Wish:
        words = max(1, len(seed.instruction.split()))
        return Wish(
            subject=None if self._topics is None else self._topics[call],
            words=None if self._lengths is None else max(1, round(words * self._lengths[call])),
        )


def _shuffled(items: Sequence[T], key: str) -> list[T]:
    """A string seeds through SHA-512, so every process draws the same order."""
    order = list(items)
    random.Random(key).shuffle(order)
    return order
