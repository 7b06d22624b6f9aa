"""The calls of a block: what number n asks for, from which seed. Nothing is sent here."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from understudy.errors import BadInput
from understudy.prompts import synthesis as prompt
from understudy.records import Coverage, Synthetic, Verdict
from understudy.services.base import Request
from understudy.store.artifacts import Job
from understudy.synthesis import weak
from understudy.synthesis.seeds import Later, Seeds, Wishes


class Calls:
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

    def wish(self, number: int) -> prompt.Wish:
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
