"""Batches of calls: what was submitted, and what has become of it when the batch ends."""

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from understudy.rehearsal.bill import Turn
from understudy.rehearsal.desk import Desk, hash_of
from understudy.rehearsal.wire import Asked, Refused, Said, Wire


class Item(NamedTuple):
    """One request of a batch."""

    custom_id: str
    asked: Asked
    body: str  # hash


class Outcome(NamedTuple):
    """What became of an item: an answer, or the ITEM fault that struck it."""

    custom_id: str
    id: str
    said: Said | None
    fault: str | None


@dataclass(slots=True)
class Batch:
    """A submitted batch; `outcomes` is filled when it ends."""

    id: str
    wire: Wire
    key: str
    items: Sequence[Item]
    facts: dict[str, Any]  # what the protocol keeps beside the items
    created: float = field(default_factory=time.time)  # seconds since the epoch
    ended: float | None = None
    outcomes: list[Outcome] = field(default_factory=list)

    def count(self, fault: str | None) -> int:
        """The number of outcomes with this fault; None = answered."""
        return sum(outcome.fault == fault for outcome in self.outcomes)


class Batches:
    """All batches, newest last."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._all: dict[str, Batch] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(
        self, wire: Wire, id_: str, key: str, items: Sequence[Item], facts: dict[str, Any]
    ) -> Batch:
        """Take a batch; raises Refused without items, unique ids or a model for batches."""
        for model in {item.asked.model for item in items}:
            prices = self.desk.speaker.facts(model, wire.family).prices
            if prices is not None and prices.batch is None:
                raise Refused(400, "bad_request", f"{model} has no batch API.")
        if not items or len({item.custom_id for item in items}) < len(items):
            message = "A batch needs requests, each with a custom id of its own."
            raise Refused(400, "bad_request", message)
        batch = self._all[id_] = Batch(id_, wire, key, items, facts)
        task = asyncio.get_running_loop().create_task(self._work(batch))
        self._tasks.add(task)  # the loop itself keeps weak references only
        task.add_done_callback(self._tasks.discard)
        return batch

    def get(self, id_: str, key: str) -> Batch:
        """The key's batch with this id; raises Refused when there is none."""
        batch = self._all.get(id_)
        if batch is None or batch.key != key:
            raise Refused(404, "no_path", f"There is no batch {id_}.")
        return batch

    def page(self, key: str, after: str | None, limit: int) -> tuple[list[Batch], bool]:
        """Up to `limit` batches of the key older than `after`, newest first, and if more follow."""
        mine = [batch for batch in reversed(self._all.values()) if batch.key == key]
        ids = [batch.id for batch in mine]
        start = ids.index(after) + 1 if after in ids else 0
        return mine[start : start + limit], start + limit < len(mine)

    async def _work(self, batch: Batch) -> None:
        await asyncio.sleep(self.desk.settings.batch_s)
        outcomes = [await self._outcome(batch, item) for item in batch.items]
        batch.outcomes, batch.ended = outcomes, time.time()

    async def _outcome(self, batch: Batch, item: Item) -> Outcome:
        desk, id_ = self.desk, self.desk.new_id("item")
        attempt = desk.arrival(item.body)
        if fault := desk.script.of_item(item.body, attempt):
            desk.bill.faults[fault] += 1
            return Outcome(item.custom_id, id_, None, fault)
        turn = Turn(item.body, attempt, batch.key, id_, "batch")
        return Outcome(item.custom_id, id_, await desk.answer(batch.wire, item.asked, turn), None)


def item_of(wire: Wire, custom_id: str, body: dict[str, Any], model: str | None = None) -> Item:
    """The item that a request body makes, inside `reading`."""
    asked = wire.asked(body, model)
    path = f"{wire.name}/{asked.model}"
    return Item(custom_id, asked, hash_of(path, json.dumps(body).encode()))
