"""Which pairs of the replies enter a block: pure bookkeeping, no call is made here."""

import math
from collections import Counter, deque
from collections.abc import Sequence

from understudy.config.source import Dedup
from understudy.data.duplicates import rule_of
from understudy.data.screening import Drop, NewPair, Screen
from understudy.prompts import synthesis as prompt
from understudy.records import Coverage, Message, Synthetic
from understudy.services.base import Reply
from understudy.store.artifacts import Job
from understudy.synthesis.filters import Filters

WINDOW = 200  # pairs asked for over which the yield is taken
_LEAST_YIELD = 0.1  # a poor beginning does not let thousands of calls leave at once


class Acceptance:
    """The accepted rows of a block, and why the other pairs are not in it.

    Replies are given in call order, so nothing depends on the order of their arrival.
    """

    def __init__(self, job: Job, screen: Screen, filters: Filters) -> None:
        settings = job.config.synthesis
        assert settings.service is not None, "synthesis.kind=service has a service"
        self._screen, self._filters = screen, filters
        self._teacher, self._pairs_per_call = settings.service.name, settings.pairs_per_call
        self._block: int = job.params["block"]
        self.wanted: int = job.params["rows"]
        self.calls = 0
        self.rows: list[Synthetic] = []
        self.drops: list[Drop] = []
        self.unread: Counter[str] = Counter()  # replies and pairs of which nothing can be kept
        self.complaint = ""  # what the teacher said instead of pairs
        self._recent: deque[int] = deque(maxlen=max(1, WINDOW // self._pairs_per_call))

    @property
    def missing(self) -> int:
        """Rows still wanted."""
        return self.wanted - len(self.rows)

    @property
    def dropped(self) -> Counter[str]:
        """How many were refused, by reason."""
        return self.unread + Counter(drop.reason for drop in self.drops)

    @property
    def recent_yield(self) -> float | None:
        """Share of the pairs lately asked for that were accepted; None before a full window."""
        if len(self._recent) < (self._recent.maxlen or 0):
            return None
        return sum(self._recent) / (len(self._recent) * self._pairs_per_call)

    def expected(self, calls: int) -> int:
        """How many rows that many more calls will give, by the yield so far."""
        per_call = len(self.rows) / self.calls if self.rows else self._pairs_per_call
        return math.floor(calls * max(per_call, _LEAST_YIELD * self._pairs_per_call))

    def add(self, call: int, seed: Coverage, reply: Reply) -> int:
        """Accept what is new in a reply; returns the number of accepted rows."""
        before = len(self.rows)
        self.calls += 1
        if reply.finish != "stop":
            self.unread[reply.finish] += 1
            self.complaint = reply.text
        else:
            self._add_pairs(call, seed, reply.text)
        self._recent.append(len(self.rows) - before)
        return len(self.rows) - before

    def name(self, call: int, index: int) -> str:
        """The id of a reply's pair."""
        return f"s{self._block:02d}-{call:07d}-{index:02d}"

    def _add_pairs(self, call: int, seed: Coverage, text: str) -> None:
        parsed = prompt.parse(text)
        self.unread.update(parsed.rejected)
        pairs: list[NewPair] = []
        for index, (instruction, response) in enumerate(parsed.pairs):
            row_id = self.name(call, index)
            if reason := self._filters.objection(instruction, response, seed):
                self.drops.append(Drop(row_id, reason, "filter", None, seed.id))
            else:
                pairs.append(NewPair(row_id, instruction, response, seed.id, seed.group_id))
        sifted = self._screen.sift(iter(pairs))
        looked_at = 0
        while self.missing and looked_at < len(pairs):
            pair, drop = next(sifted)
            looked_at += 1
            if drop is not None:
                self.drops.append(drop)
            else:
                self.rows.append(self._row(pair, call, seed))
        self.unread += Counter(surplus=len(pairs) - looked_at)

    def _row(self, pair: NewPair, call: int, seed: Coverage) -> Synthetic:
        system: list[Message] = [m for m in seed.messages if m["role"] == "system"]
        return Synthetic(
            id=pair.id,
            group_id=seed.group_id,
            messages=[
                *system,
                {"role": "user", "content": pair.instruction},
                {"role": "assistant", "content": pair.response},
            ],
            task=seed.task,
            licence=seed.licence,
            source=f"synthesis:{self._teacher}",
            split="train",
            seed_id=seed.id,
            block=self._block,
            call_id=call,
            depth=seed.depth + 1 if isinstance(seed, Synthetic) else 1,
            teacher=self._teacher,
        )

    def sentence(self) -> str:
        """How far the block is, and what became of the rest."""
        reasons = ", ".join(f"{count} {name}" for name, count in self.dropped.most_common())
        said = f"; the teacher said: {self.complaint}" if self.complaint else ""
        return (
            f"block {self._block} of the synthetic pool has {len(self.rows)} of {self.wanted} rows "
            f"after {self.calls} calls (dropped: {reasons or 'nothing'}){said}"
        )


def screen_of(
    human: Sequence[Coverage], blocks: Sequence[Sequence[Synthetic]], dedup: Dedup
) -> Screen:
    """What the pairs of a block must not repeat."""
    screen = Screen(human, rule_of(dedup))
    for rows in blocks:
        screen.add(rows)
    return screen
