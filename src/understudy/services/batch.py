"""Ask a service through its batch API: half the price, within a day, never submitted twice.

A batch is noted with its calls before it is submitted and with its id afterwards. After a kill a
noted batch without an id is looked for at the provider, and submitted again only where it is not
there. Items that expired or failed go into a batch of their own.
"""

import asyncio
import secrets
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TypeVar

from understudy.config import Service
from understudy.errors import UnderstudyError
from understudy.services import money
from understudy.services.account import Account, Ledger, Repair, open_ledger
from understudy.services.base import BatchProvider, BatchState, CallFailed, Reply, Request
from understudy.services.limits import back_off, silent, stopped
from understudy.services.segment import NotedBatch, PaidCall

_ENVELOPE = 1000  # bytes around the messages of a request, at most
_SETTLED_S = 5.0  # a batch that was submitted at a kill may take as long to be listed
_CLOCKS_S = 60.0  # by which the provider's clock may be behind ours
_FIRST_POLL_S = 0.25
_LAST_POLL_S = 60.0
_GROUP = 500  # results that are noted in one commit

ItemOutcome = tuple[bytes, Reply | CallFailed]
T = TypeVar("T")


@dataclass(slots=True)
class WantedReply:
    """A request and where its reply goes."""

    request: Request
    positions: list[int]
    may_repair: bool = True


@dataclass(slots=True)
class OpenBatch:
    """A batch at the provider, with the calls in it that have no reply yet."""

    batch: NotedBatch
    calls: dict[bytes, tuple[int, PaidCall]]


def ask_in_batches(
    service: Service,
    provider: BatchProvider,
    requests: Iterable[Request],
    account: Account,
    repair: Repair | None = None,
) -> Iterator[tuple[int, Reply]]:
    """Like `client.ask`; takes all requests first."""
    with ExitStack() as stack:
        ledger = stack.enter_context(open_ledger(service, account, "batch"))
        runner = stack.enter_context(asyncio.Runner())
        batches = BatchExchange(ledger, provider, repair)
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


class BatchExchange:
    """The requests that wait for a batch, and the batches that are at the provider."""

    def __init__(self, ledger: Ledger, provider: BatchProvider, repair: Repair | None) -> None:
        self.failure: UnderstudyError | None = None
        self._ledger, self._provider, self._repair = ledger, provider, repair
        self._wanted: dict[bytes, WantedReply] = {}
        self._fresh: deque[bytes] = deque()  # keys that no batch holds
        self._open: list[OpenBatch] = []
        self._arrived: list[tuple[int, Reply]] = []
        self._failures: Counter[bytes] = Counter()
        self._api = PatientApi(ledger.service, provider)
        self._ids: set[str] = set()  # of all batches that are known to be ours

    @property
    def is_open(self) -> bool:
        """Whether there is anything left to do, or to hand out."""
        return bool(self._arrived or self._open or (self._fresh and not self.failure))

    def want(self, request: Request, position: int, may_repair: bool = True) -> None:
        """Take a request; what the journal has arrives at once."""
        key = self._ledger.key(request)
        if key in self._wanted:
            self._wanted[key].positions.append(position)
            return
        self._wanted[key] = WantedReply(request, [position], may_repair)
        if found := self._ledger.find(key):
            self._hand_out(key, found)
        else:
            self._fresh.append(key)

    async def resume(self) -> None:
        """Take over the batches of an earlier process that hold any of our requests."""
        ledger = self._ledger
        known = ledger.journal.batches(ledger.endpoint)
        self._ids = {batch.batch_id for _, batch in known if batch.batch_id}
        for at, batch in known:
            calls = ledger.journal.calls_of(batch.label)
            if batch.state in ("done", "dropped") or not calls.keys() & self._wanted.keys():
                continue
            for _, call in calls.values():
                if call.purse == ledger.account.purse:
                    ledger.purse.reopen(call.reserved)
            self._fresh = deque(key for key in self._fresh if key not in calls)
            one = OpenBatch(batch, calls)
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
                self.failure = self._ledger.spent()
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
            bound = money.bound(request, self._ledger.service, "batch")
            if not fits or not self._ledger.purse.take(bound):
                break
            chunk.append(self._fresh.popleft())
        return chunk

    async def _submit(self, chunk: list[bytes]) -> None:
        ledger, label = self._ledger, f"understudy-{secrets.token_hex(8)}"
        batch = NotedBatch(label, ledger.service.name, ledger.endpoint, len(chunk), "intent")
        calls = [ledger.call(key, self._wanted[key].request, label) for key in chunk]
        at = time.time()
        numbers = await self._ledger.segment.batch(batch, calls)
        one = OpenBatch(batch, dict(zip(chunk, zip(numbers, calls, strict=True), strict=True)))
        items = [(key, self._wanted[key].request) for key in chunk]
        try:
            batch_id = await self._api.submit(items, batch, at, self._ids)
        except CallFailed as failed:
            await self._drop(one)
            self.failure = stopped(failed)
        else:
            await self._note(one, batch_id)

    async def _note(self, one: OpenBatch, batch_id: str) -> None:
        """The batch is at the provider."""
        one.batch = replace(one.batch, state="submitted", batch_id=batch_id)
        await self._ledger.segment.batch(one.batch)
        self._ids.add(batch_id)
        self._open.append(one)

    async def _drop(self, one: OpenBatch) -> None:
        """Forget a batch that the provider never got; its calls may go into another."""
        gone = one.calls.values()
        await asyncio.gather(*(self._ledger.withdraw(number, call, 0) for number, call in gone))
        self._fresh.extend(key for key in one.calls if key in self._wanted)
        await self._ledger.segment.batch(replace(one.batch, state="dropped"))

    async def _collect(self, one: OpenBatch) -> None:
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
        await self._ledger.segment.batch(replace(one.batch, state="done"))

    async def _take(self, number: int, call: PaidCall, outcome: Reply | CallFailed) -> None:
        """Note what became of an item, and hand it out or try it again."""
        ledger, key = self._ledger, call.key
        if isinstance(outcome, Reply):
            attempts = 1 + self._failures[key]
            self._hand_out(key, await ledger.keep(number, call, outcome, None, attempts))
            return
        if outcome.is_uncertain:
            ledger.settle(call, call.reserved)
        else:
            await ledger.withdraw(number, call, 1)
        ledger.count_failure(outcome)
        self._failures[key] += 1
        if outcome.fate == "stop":
            self.failure = self.failure or stopped(outcome)
        elif outcome.fate == "row" or self._failures[key] >= ledger.service.attempts:
            self._hand_out(key, ledger.give_up(outcome))
        elif key in self._wanted:
            self._fresh.append(key)

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


class PatientApi:
    """A provider's batch API, whose calls are tried again when they fail, and none twice.

    Raises CallFailed where trying again is vain, EnvironmentFailed where nobody answers.
    """

    def __init__(self, service: Service, provider: BatchProvider) -> None:
        self._service, self._provider = service, provider
        self._failures = 0  # in a row
        self._poll_s = _FIRST_POLL_S

    async def submit(
        self, items: list[tuple[bytes, Request]], batch: NotedBatch, at: float, taken: set[str]
    ) -> str:
        """Submit a batch that was noted at `at`; its id. One that got lost is looked for first."""
        self._poll_s = _FIRST_POLL_S
        named = [(key.hex(), request) for key, request in items]
        while True:
            try:
                return await self._provider.submit(named, batch.label)
            except CallFailed as failed:
                keys = {key for key, _ in items}
                if failed.is_uncertain and (found := await self.find(batch, keys, at, taken)):
                    return found
                await self._back_off(failed)

    async def find(
        self, batch: NotedBatch, keys: set[bytes], at: float, taken: set[str]
    ) -> str | None:
        """The id of a batch that was about to be submitted at `at`; `taken` are those of others.

        By its label, or, where the provider keeps none, by its size and the names in its results.
        """
        while True:
            for state in await self._patiently(lambda: self._provider.recent(at - _CLOCKS_S)):
                if state.label == batch.label:
                    return state.id
                is_free = state.label is None and state.id not in taken
                if is_free and await self._holds(state, batch, keys):
                    return state.id
            if time.time() - at > _SETTLED_S:
                return None
            await asyncio.sleep(_SETTLED_S / 5)

    async def is_ended(self, batch_id: str) -> bool:
        """Whether all results of a batch are there."""
        return (await self._patiently(lambda: self._provider.poll(batch_id))).is_ended

    async def wait(self) -> None:
        """Wait a while for batches, longer each time."""
        await asyncio.sleep(self._poll_s)
        self._poll_s = min(_LAST_POLL_S, 1.5 * self._poll_s)

    async def results(self, batch_id: str) -> AsyncIterator[list[ItemOutcome]]:
        """What became of the items of an ended batch, in groups.

        A connection that breaks off ends them early: they begin anew with the next call.
        """
        group: list[ItemOutcome] = []
        try:
            async for name, outcome in self._provider.results(batch_id):
                group.append((bytes.fromhex(name), outcome))
                if len(group) == _GROUP:
                    yield group
                    group = []
        except CallFailed as failed:
            yield group
            await self._back_off(failed)
            raise
        self._failures = 0
        yield group

    async def _holds(self, state: BatchState, batch: NotedBatch, keys: set[bytes]) -> bool:
        if state.requests not in (None, batch.requests):
            return False
        while not await self.is_ended(state.id):
            await self.wait()
        async for group in self.results(state.id):
            return any(key in keys for key, _ in group)
        return False

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                answer = await call()
            except CallFailed as failed:
                await self._back_off(failed)
            else:
                self._failures = 0
                return answer

    async def _back_off(self, failed: CallFailed) -> None:
        """Wait before the next try; raises where there should be none."""
        if failed.fate in ("row", "stop"):
            raise failed
        self._failures += 1
        if self._failures >= self._service.attempts:
            raise silent(self._service, failed)
        await asyncio.sleep(max(back_off(self._failures), failed.retry_after_s or 0.0))
