"""Which synthetic pairs may enter the pool: none that repeats a held-out, human or accepted one."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from understudy.data.clusters import same
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
    reason: str
    rule: str
    value: float | None
    against: str


class Screen:
    """What is held out and what is known, growing with every accepted pair."""

    def __init__(self, human: Sequence[Coverage]) -> None:
        self._held_out = {same(row.instruction): row.id for row in human if row.split != "train"}
        self._known: dict[str, str] = {}
        self.add(row for row in human if row.split == "train")

    def add(self, rows: Iterable[Coverage]) -> None:
        """Rows that are in the training set already; they are not judged."""
        for row in rows:
            self._known.setdefault(same(row.instruction), row.id)

    def sift(self, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, Drop | None]]:
        """Each pair with its objection; one without is known from then on."""
        for pair in pairs:
            instruction = same(pair.instruction)
            if instruction in self._held_out:
                reason, against = "held_out_instruction", self._held_out[instruction]
            elif instruction in self._known:
                reason, against = "duplicate_instruction", self._known[instruction]
            else:
                self._known[instruction] = pair.id
                yield pair, None
                continue
            yield pair, Drop(pair.id, reason, "jaccard", 1.0, against)


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
