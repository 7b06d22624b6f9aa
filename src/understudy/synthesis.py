"""A block of the synthetic pool: ask a teacher for pairs like a train row, accept the clean ones.

Seeds and call numbers run on from block to block. Replies are on disk before they are read, and
are accepted in call order whatever the order of arrival, so an interrupted block and an
uninterrupted one hold the same rows.
"""

import math
import random
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from understudy.artifacts import Job, RowLog, whole_lines
from understudy.data.clusters import same
from understudy.errors import BadInput
from understudy.progress import track
from understudy.prompts import synthesis as prompt
from understudy.records import Coverage, Message, Synthetic, dumps
from understudy.service.account import Account, account_of
from understudy.service.base import Reply, Request
from understudy.service.client import ask


def run(job: Job) -> None:
    """Write `params.rows` accepted rows of block `params.block`."""
    seeds = [row for row in job.rows("split", Coverage) if row.split == "train"]
    first_call = _first_call(job)
    acceptance = Acceptance(job, seeds)
    account = account_of(job)
    replies = ReplyLog(job.scratch / "replies.jsonl")
    call, most = first_call, first_call + _most_calls(job)
    with track(f"synthesis block {job.params['block']}", job.params["rows"]) as advance:
        while acceptance.missing:
            if call >= most:
                raise BadInput(acceptance.failure(call - first_call))
            wave = range(call, min(call + acceptance.calls_needed(), most))
            _ask_missing(job, seeds, wave, replies, account)
            for number in wave:
                if acceptance.missing:
                    seed = _seed(job, seeds, number)
                    advance(acceptance.add(number, seed, replies[number]), account.note)
                    call = number + 1
    job.notes.update(account.summary())
    log = RowLog(job.out, Synthetic)
    log.append(row for row in acceptance.rows if row.key not in log.rows)
    log.finish()
    job.write_summary(
        {
            "rows": len(acceptance.rows),
            "calls": call - first_call,
            "next_call": call,
            "dropped": dict(sorted(acceptance.dropped.items())),
        }
    )


def _first_call(job: Job) -> int:
    block = job.params["block"]
    return int(job.summary(f"block.{block - 1}")["next_call"]) if block else 0


def _most_calls(job: Job) -> int:
    return math.ceil(int(job.params["rows"]) * job.config.synthesis.max_calls_per_row)


def _seed(job: Job, seeds: list[Coverage], call: int) -> Coverage:
    """Without replacement until all train rows were used, then a new order."""
    epoch, position = divmod(call, len(seeds))
    order = list(range(len(seeds)))
    random.Random(f"{job.config.synthesis.seed}:{epoch}").shuffle(order)
    return seeds[order[position]]


def _ask_missing(
    job: Job,
    seeds: list[Coverage],
    calls: Iterable[int],
    replies: "ReplyLog",
    account: Account,
) -> None:
    config = job.config
    assert config.synthesis.service is not None, "synthesis.kind=service has a service"
    missing = [call for call in calls if call not in replies]
    requests = [
        Request(
            prompt.render(
                (seed := _seed(job, seeds, call)).instruction,
                seed.response,
                config.task.topic,
                config.synthesis.pairs_per_call,
            ),
            index=call,
            schema=prompt.SCHEMA,
        )
        for call in missing
    ]
    for position, reply in ask(config.synthesis.service, requests, account):
        replies.add(missing[position], reply)


class ReplyLog:
    """Raw replies by call number; each is on disk before anything reads it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._replies: dict[int, Reply] = {}
        for values in whole_lines(path):
            call = values.pop("call")
            self._replies[call] = Reply(**values)

    def __contains__(self, call: int) -> bool:
        return call in self._replies

    def __getitem__(self, call: int) -> Reply:
        return self._replies[call]

    def add(self, call: int, reply: Reply) -> None:
        """Write, then remember."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(dumps({"call": call, "text": reply.text, "finish": reply.finish}) + "\n")
        self._replies[call] = reply


class Acceptance:
    """Which pairs enter the pool: pure bookkeeping, no call is made here."""

    def __init__(self, job: Job, seeds: list[Coverage]) -> None:
        self._job = job
        self._pairs_per_call = job.config.synthesis.pairs_per_call
        self.rows: list[Synthetic] = []
        self.dropped: Counter[str] = Counter()
        self._calls = 0
        self._complaint = ""
        human = job.rows("split", Coverage)
        self._held_out = {same(row.instruction) for row in human if row.split != "train"}
        self._known = {same(row.instruction) for row in seeds}
        for role in job.inputs:
            if role.startswith("block."):
                self._known |= {same(row.instruction) for row in job.rows(role, Synthetic)}

    @property
    def missing(self) -> int:
        """Rows still wanted."""
        return int(self._job.params["rows"]) - len(self.rows)

    def calls_needed(self) -> int:
        """An estimate from the yield so far; at least one."""
        per_call = len(self.rows) / self._calls if self.rows else self._pairs_per_call
        return max(1, math.ceil(self.missing / max(per_call, 0.1)))

    def add(self, call: int, seed: Coverage, reply: Reply) -> int:
        """Accept what is new in a reply; returns the number of accepted rows."""
        self._calls += 1
        if reply.finish != "stop":
            self.dropped[reply.finish] += 1
            self._complaint = reply.text
            return 0
        parsed = prompt.parse(reply.text)
        self.dropped.update(parsed.rejected)
        before = len(self.rows)
        for index, (instruction, response) in enumerate(parsed.pairs):
            if reason := self._objection(instruction):
                self.dropped[reason] += 1
                continue
            self._known.add(same(instruction))
            self.rows.append(self._row(call, index, seed, instruction, response))
        return len(self.rows) - before

    def _objection(self, instruction: str) -> str | None:
        if not self.missing:
            return "surplus"
        if same(instruction) in self._held_out:
            return "held_out_instruction"
        return "duplicate_instruction" if same(instruction) in self._known else None

    def _row(
        self, call: int, index: int, seed: Coverage, instruction: str, response: str
    ) -> Synthetic:
        service = self._job.config.synthesis.service
        assert service is not None, "synthesis.kind=service has a service"
        block = self._job.params["block"]
        system: list[Message] = [m for m in seed.messages if m["role"] == "system"]
        return Synthetic(
            id=f"s{block:02d}-{call:07d}-{index:02d}",
            group_id=seed.group_id,
            messages=[
                *system,
                {"role": "user", "content": instruction},
                {"role": "assistant", "content": response},
            ],
            task=seed.task,
            licence=seed.licence,
            source=f"synthesis:{service.name}",
            split="train",
            seed_id=seed.id,
            block=block,
            call_id=call,
            depth=1,
            teacher=service.name,
        )

    def failure(self, calls: int) -> str:
        """One sentence about a block that cannot be filled."""
        reasons = ", ".join(f"{count} {name}" for name, count in self.dropped.most_common())
        said = f"; the teacher said: {self._complaint}" if self._complaint else ""
        return (
            f"synthesis gave {len(self.rows)} of {self._job.params['rows']} rows in {calls} calls"
            f" (dropped: {reasons or 'nothing'}){said}"
        )
