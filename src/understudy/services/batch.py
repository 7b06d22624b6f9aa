"""Ask a service through its batch API: half the price, within a day, never submitted twice.

A batch is noted with its calls before it is submitted and with its id afterwards. After a kill a
noted batch without an id is looked for at the provider, and submitted again only where it is not
there. Items that expired or failed go into a batch of their own.
"""

import asyncio
import secrets
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

from understudy.config import Service
from understudy.errors import BudgetSpent, UnderstudyError
from understudy.services import money
from understudy.services.account import Account
from understudy.services.base import BatchProvider, CallFailed, Reply, Request
from understudy.services.batch_api import BatchApi
from understudy.services.client import alone
from understudy.services.exchange import Repair
from understudy.services.journal import Journal, identity, key_of, open_journal
from understudy.services.retry import stopped
from understudy.services.segment import Batch, Call, Segment
from understudy.store.artifacts import fingerprint

_ENVELOPE = 1000  # bytes around the messages of a request, at most


@dataclass(slots=True)
class Wanted:
    """A request and where its reply goes."""

    request: Request
    positions: list[int]
    may_repair: bool = True


@dataclass(slots=True)
class Open:
    """A batch at the provider, with the calls in it that have no reply yet."""

    batch: Batch
    calls: dict[bytes, tuple[int, Call]]


def ask_in_batches(
    service: Service,
    provider: BatchProvider,
    requests: Iterable[Request],
    account: Account,
    repair: Repair | None = None,
) -> Iterator[tuple[int, Reply]]:
    """Like `client.ask`; takes all requests first."""
    with ExitStack() as stack:
        stack.enter_context(alone(service, account))
        journal = stack.enter_context(open_journal(account.journal))
        segment = Segment(account.journal)
        stack.callback(segment.close)
        runner = stack.enter_context(asyncio.Runner())
        batches = Batches(service, provider, account, journal, segment, repair)
        try:
            for position, request in enumerate(requests):
                batches.want(request, position)
            runner.run(batches.resume())
            while batches.is_open:
                yield from runner.run(batches.step())
        finally:
            runner.run(provider.close())
        if batches.failure:
            raise batches.failure


class Batches:
    """The requests that wait for a batch, and the batches that are at the provider."""

    def __init__(
        self,
        service: Service,
        provider: BatchProvider,
        account: Account,
        journal: Journal,
        segment: Segment,
        repair: Repair | None,
    ) -> None:
        self.failure: UnderstudyError | None = None
        self._service, self._provider, self._account = service, provider, account
        self._journal, self._segment, self._repair = journal, segment, repair
        self._endpoint = fingerprint(identity(service))
        self._purse = account.open_purse(service, journal)
        self._wanted: dict[bytes, Wanted] = {}
        self._fresh: deque[bytes] = deque()  # keys that no batch holds
        self._open: list[Open] = []
        self._arrived: list[tuple[int, Reply]] = []
        self._failures: Counter[bytes] = Counter()
        self._api = BatchApi(service, provider)
        self._ids: set[str] = set()  # of all batches that are known to be ours

    @property
    def is_open(self) -> bool:
        """Whether there is anything left to do, or to hand out."""
        return bool(self._arrived or self._open or (self._fresh and not self.failure))

    def want(self, request: Request, position: int, may_repair: bool = True) -> None:
        """Take a request; what the journal has arrives at once."""
        key = key_of(self._service, request)
        if key in self._wanted:
            self._wanted[key].positions.append(position)
            return
        self._wanted[key] = Wanted(request, [position], may_repair)
        if found := self._journal.find(key):
            self._account.counts["from_journal"] += 1
            self._hand_out(key, found)
        else:
            self._fresh.append(key)

    async def resume(self) -> None:
        """Take over the batches of an earlier process that hold any of our requests."""
        known = self._journal.batches(self._endpoint)
        self._ids = {batch.batch_id for _, batch in known if batch.batch_id}
        for at, batch in known:
            calls = self._journal.calls_of(batch.label)
            if batch.state in ("done", "dropped") or not calls.keys() & self._wanted.keys():
                continue
            for _, call in calls.values():
                if call.purse == self._account.purse:
                    self._purse.reopen(call.reserved)
            self._fresh = deque(key for key in self._fresh if key not in calls)
            one = Open(batch, calls)
            if batch.state == "submitted":
                self._open.append(one)
            elif batch_id := await self._api.find(batch, set(calls), at, self._ids):
                await self._note(one, batch_id)
            else:
                await self._drop(one)

    async def step(self) -> list[tuple[int, Reply]]:
        """Submit what waits, poll what is open; the replies that have arrived."""
        if not self._arrived:
            while self._fresh and not self.failure and (chunk := self._chunk()):
                await self._submit(chunk)
            if self._fresh and not self._open and not self.failure:
                self.failure = BudgetSpent(self._account.spent_sentence())
            for one in list(self._open):
                await self._collect(one)
            if self._open and not self._arrived:
                await self._api.wait()
        arrived, self._arrived = self._arrived, []
        return arrived

    def _chunk(self) -> list[bytes]:
        """The next keys that fit into one batch and into the purse; they are reserved."""
        chunk: list[bytes] = []
        room = self._provider.most_bytes
        while self._fresh and len(chunk) < self._provider.most_requests:
            request = self._wanted[self._fresh[0]].request
            room -= money.most_input(request) + _ENVELOPE
            fits = not chunk or room >= 0
            if not fits or not self._purse.take(money.bound(request, self._service, "batch")):
                break
            chunk.append(self._fresh.popleft())
        return chunk

    async def _submit(self, chunk: list[bytes]) -> None:
        service, account = self._service, self._account
        label = f"understudy-{secrets.token_hex(8)}"
        batch = Batch(label, service.name, self._endpoint, len(chunk), "intent")
        calls = [
            Call(
                *(key, account.stage, account.purse, service.name, service.model, "batch"),
                money.bound(self._wanted[key].request, service, "batch"),
                label,
            )
            for key in chunk
        ]
        at = time.time()
        numbers = await self._segment.batch(batch, calls)
        one = Open(batch, dict(zip(chunk, zip(numbers, calls, strict=True), strict=True)))
        items = [(key, self._wanted[key].request) for key in chunk]
        try:
            batch_id = await self._api.submit(items, batch, at, self._ids)
        except CallFailed as failed:
            await self._drop(one)
            self.failure = stopped(failed)
        else:
            await self._note(one, batch_id)

    async def _note(self, one: Open, batch_id: str) -> None:
        """The batch is at the provider."""
        one.batch = replace(one.batch, state="submitted", batch_id=batch_id)
        await self._segment.batch(one.batch)
        self._ids.add(batch_id)
        self._open.append(one)

    async def _drop(self, one: Open) -> None:
        """Forget a batch that the provider never got; its calls may go into another."""
        gone = one.calls.values()
        await asyncio.gather(*(self._segment.void(number, call, 0) for number, call in gone))
        for _, call in gone:
            self._settle(call, 0)
        self._fresh.extend(key for key in one.calls if key in self._wanted)
        await self._segment.batch(replace(one.batch, state="dropped"))

    async def _collect(self, one: Open) -> None:
        """Take the results of a batch, once it has ended."""
        batch_id = one.batch.batch_id
        assert batch_id is not None, "an open batch was submitted"
        try:
            if not await self._api.is_ended(batch_id):
                return
            async for group in self._api.results(batch_id):
                found = [(one.calls.pop(key, None), outcome) for key, outcome in group]
                await asyncio.gather(*(self._take(*call, o) for call, o in found if call))
        except CallFailed as failed:
            if failed.fate not in ("row", "stop"):
                return  # the rest of the results comes with the next step
            self.failure = self.failure or stopped(failed)
        left = CallFailed("the batch ended without it", "heal")
        await asyncio.gather(*(self._take(*call, left) for call in one.calls.values()))
        self._open.remove(one)
        await self._segment.batch(replace(one.batch, state="done"))

    async def _take(self, number: int, call: Call, outcome: Reply | CallFailed) -> None:
        """Note what became of an item, and hand it out or try it again."""
        if isinstance(outcome, Reply):
            prices, usage = self._service.prices, outcome.usage
            assert prices is not None, "agreement.py lets no service without a batch price here"
            price = call.reserved if usage is None else money.cost(usage, prices, "batch")
            attempts = 1 + self._failures[call.key]
            await self._segment.answered(number, call, outcome, price, None, attempts)
            self._journal.add(call.key, self._segment.database, number)
            self._settle(call, price)
            self._account.count(outcome, price)
            self._hand_out(call.key, outcome)
            return
        if outcome.is_uncertain:
            self._account.counts["uncertain"] += 1
        else:
            await self._segment.void(number, call, 1)
        self._settle(call, call.reserved if outcome.is_uncertain else 0)
        self._account.counts["retries"] += 1
        self._failures[call.key] += 1
        if outcome.fate == "stop":
            self.failure = self.failure or stopped(outcome)
        elif outcome.fate == "row" or self._failures[call.key] >= self._service.attempts:
            self._account.counts["given_up"] += 1
            self._hand_out(call.key, Reply(str(outcome), "error"))
        elif call.key in self._wanted:
            self._fresh.append(call.key)

    def _hand_out(self, key: bytes, reply: Reply) -> None:
        """Let a reply arrive, or ask for its repair first; other stages' replies are theirs."""
        if (wanted := self._wanted.pop(key, None)) is None:
            return
        again = self._repair(wanted.request, reply) if self._repair and wanted.may_repair else None
        for position in wanted.positions:
            if again is None:
                self._arrived.append((position, reply))
            else:
                self.want(again, position, may_repair=False)

    def _settle(self, call: Call, microusd: int) -> None:
        if call.purse == self._account.purse:
            self._purse.settle(call.reserved, microusd)
            self._account.spent = self._purse.spent
