"""Which synthetic pairs may enter the pool: none that repeats a held-out, human or accepted one.

Pairs are decided in call order, each against all before it, so the same pairs in the same order
give the same pool however they are cut into batches.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from understudy.data.contamination import HeldOut, Leak, LeakRule
from understudy.data.duplicates import CHUNK, PairBatch, PairIndex, PairRule, chunks, sketch_parts
from understudy.records import Coverage, dumps


class Pair(NamedTuple):
    """A pair that somebody's model wrote, and what it was written after."""

    id: str
    instruction: str
    response: str
    seed_id: str | None = None
    group_id: str | None = None


@dataclass(frozen=True)
class Drop:
    """A row of the report: why a pair was refused, and because of which row."""

    id: str
    reason: str  # "held_out_…" or "duplicate_…"
    rule: str
    value: float | None
    against: str


class Screen:
    """What is held out and what is known, growing with every accepted pair.

    Memory: 2.7 KiB per accepted pair of 110 words, all told (646 MiB for 244,000); refused ones
    leave nothing.
    """

    def __init__(
        self,
        human: Sequence[Coverage],
        pairs: PairRule | None = None,
        leaks: LeakRule | None = None,
    ) -> None:
        self._held_out = HeldOut(human, leaks)
        self._known = PairIndex(pairs)
        self.add(row for row in human if row.split == "train")

    def add(self, rows: Iterable[Coverage]) -> None:
        """Rows that are in the training set already; they are not judged."""
        self._known.add((row.id, row.instruction, row.response) for row in rows)

    def sift(self, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, Drop | None]]:
        """Each pair with its objection; one without is known from then on.

        Lazy: a pair that the caller does not come to is not added.
        """
        for chunk in chunks(pairs, CHUNK):
            sketches = sketch_parts([(pair.instruction, pair.response) for pair in chunk])
            held_out = self._held_out.near.batch(sketches)
            leaks = self._held_out.leaks(sketches)
            known = self._known.batch(sketches)
            for number, pair in enumerate(chunk):
                drop = _held_out(pair, number, self._held_out, held_out, leaks)
                drop = drop or _near(pair, known, number, "duplicate")
                if drop is None:
                    known.add(number, pair.id)
                yield pair, drop


def _held_out(
    pair: Pair, number: int, held_out: HeldOut, near: PairBatch, leaks: Mapping[int, Leak]
) -> Drop | None:
    """Of a pair of a batch, the held-out row that it repeats or comes from."""
    for name in (pair.seed_id, pair.group_id):
        if name in held_out.lineage:
            return Drop(pair.id, "held_out_lineage", "lineage", None, held_out.lineage[name])
    drop = _near(pair, near, number, "held_out")
    if drop is None and (leak := leaks.get(number)):
        value = round(leak.value, 4)
        drop = Drop(pair.id, f"held_out_{leak.rule}", leak.rule, value, leak.of)
    return drop


def _near(pair: Pair, batch: PairBatch, number: int, kind: str) -> Drop | None:
    found = batch.duplicate(number)
    if found is None:
        return None
    near = found.near
    return Drop(pair.id, f"{kind}_{found.part}", near.rule, round(near.value, 4), found.of)


def audit(rows: Iterable[Coverage], human: Sequence[Coverage]) -> list[Drop]:
    """Which rows of a training set repeat a held-out row: the contamination of a finished set."""
    screen = HeldOut(human)
    found = []
    for chunk in chunks(rows, CHUNK):
        sketches = sketch_parts([(row.instruction, row.response) for row in chunk])
        near, leaks = screen.near.batch(sketches), screen.leaks(sketches)
        for number, row in enumerate(chunk):
            pair = Pair(row.id, row.instruction, row.response, group_id=row.group_id)
            if drop := _held_out(pair, number, screen, near, leaks):
                found.append(drop)
    return found


def contamination(counts: Counter[str] | dict[str, int]) -> int:
    """How many pairs were refused because of a held-out row."""
    return sum(count for reason, count in counts.items() if reason.startswith("held_out_"))


def write_report(path: Path, drops: Iterable[Drop]) -> Counter[str]:
    """Write one line per refused pair; returns how many of each reason."""
    counts: Counter[str] = Counter()
    with path.open("w", encoding="utf-8") as file:
        for drop in drops:
            counts[drop.reason] += 1
            file.write(dumps(asdict(drop)) + "\n")
    return counts
