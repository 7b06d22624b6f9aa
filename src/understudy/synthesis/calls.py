"""The calls of a block: what number n asks for, from which train row. Nothing is sent here.

A row seeds without replacement until all were used, then in a new order. Calls of a finished block
can be looked at again: `prompts` renders what the teacher was asked for its rows.
"""

import bisect
import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from understudy import config
from understudy.errors import BadInput
from understudy.prompts import synthesis as prompt
from understudy.prompts.synthesis import Wish
from understudy.records import Coverage, Synthetic, Verdict, read_rows
from understudy.services.base import Request
from understudy.store.artifacts import Job, StageDir
from understudy.synthesis import weak

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


class BlockCalls:
    """Numbered requests; `first` is the first of this block."""

    def __init__(
        self, job: Job, train: Sequence[Coverage], blocks: Sequence[Sequence[Synthetic]]
    ) -> None:
        settings = job.config.synthesis
        self._settings, self._task = settings, job.config.task
        nexts = [int(job.summary(f"block.{n}")["next_call"]) for n in range(len(blocks))]
        self.first = nexts[-1] if nexts else 0
        self._wishes = Wishes(settings.topics, settings.lengths, str(settings.seed))
        self._seeds = Seeds(
            _human_seeds(job, train),
            [
                Later(call, [row for row in rows if row.depth < settings.depth])
                for call, rows in zip(nexts, blocks, strict=True)
            ],
            str(settings.seed),
        )

    def seed(self, number: int) -> Coverage:
        """The row that a call's pairs are made after."""
        return self._seeds[number]

    def wish(self, number: int) -> Wish:
        """What a call asks for beside that."""
        return self._wishes(number, self.seed(number))

    def request(self, number: int) -> Request:
        """What is sent."""
        seed, settings = self.seed(number), self._settings
        messages = prompt.render(
            seed.instruction,
            seed.response,
            self._task.topic,
            settings.pairs_per_call,
            self._task.name,
            self.wish(number),
        )
        return Request(messages, index=number, schema=prompt.SCHEMA)

    def counts(self, numbers: Iterable[int]) -> dict[str, Any]:
        """How many rows came from how many seeds, and of each topic."""
        rows = list(numbers)
        seeds = Counter(self.seed(number).id for number in rows)
        topics = Counter(self.wish(number).subject for number in rows)
        return {
            "seeds": len(seeds),
            "most_rows_of_a_seed": max(seeds.values(), default=0),
            "topics": {str(topic): count for topic, count in sorted(topics.items()) if topic},
        }


def _human_seeds(job: Job, train: Sequence[Coverage]) -> list[Coverage]:
    """The train rows that may seed: all, or those of weak clusters."""
    if not train:
        raise BadInput("the train split is empty, so synthesis has no seed: lower coverage.split")
    if job.config.synthesis.seeds == "uniform":
        return list(train)
    verdicts = [
        row for role in job.inputs if role.startswith("probe.") for row in job.rows(role, Verdict)
    ]
    found = weak.find(train, verdicts, job.config.synthesis.seed)
    job.notes["weak"] = found.note
    return found.rows


def rows_by_id(blocks: Sequence[Path]) -> dict[str, Synthetic]:
    """The rows of these stage directories."""
    files = [block / "out" / "rows.jsonl" for block in blocks]
    return {row.id: row for file in files for row in read_rows(file, Synthetic)}


def prompts(blocks: Sequence[Path], ids: Collection[str]) -> dict[str, str]:
    """By row id the rendered prompt; a ready-made set's is not known."""
    found = {}
    for block in blocks:
        if StageDir(block).read("config.json")["hashed"]["stage"] == "synthesis":
            calls = _calls(block)
            for row in read_rows(block / "out" / "rows.jsonl", Synthetic):
                if row.id in ids:
                    found[row.id] = calls.request(row.call_id).messages[-1]["content"]
    return found


def _calls(block: Path) -> BlockCalls:
    stage, root = StageDir(block), block.parents[1]
    frozen = stage.read("config.json")
    above = stage.read("inputs.json")["inputs"]
    inputs = {role: root / path / "out" for role, path in above.items()}
    job = Job(
        config.build(frozen["config"]), frozen["hashed"]["params"], inputs, stage.out, stage.out
    )
    train = [row for row in job.rows("split", Coverage) if row.split == "train"]
    earlier = [job.rows(role, Synthetic) for role in inputs if role.startswith("block.")]
    return BlockCalls(job, train, earlier)
