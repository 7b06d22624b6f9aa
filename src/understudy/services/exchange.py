"""The life of a paid call: find it, reserve its price, note it, send it, note the reply, settle.

One exchange serves one stage's calls to one service, on one event loop. Once it is stopped nothing
new leaves; calls in flight are finished and kept.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from understudy.config.service import Service
from understudy.errors import BadInput, BudgetSpent
from understudy.services import money
from understudy.services.account import Account
from understudy.services.base import CallFailed, Fate, Provider, Reply, Request
from understudy.services.journal import Journal, identity, key_of
from understudy.services.limits import Limits
from understudy.services.pace import Pace
from understudy.services.retry import back_off, gives_up, silent, stopped
from understudy.services.segment import Call, Segment
from understudy.store.artifacts import fingerprint

Repair = Callable[[Request, Reply], Request | None]


class Exchange:
    """Answers requests; `arrivals` hands the replies out, `failure` says why it stopped."""

    def __init__(
        self,
        service: Service,
        provider: Provider,
        account: Account,
        journal: Journal,
        segment: Segment,
        repair: Repair | None = None,
    ) -> None:
        # Half as many again as may be open: the next calls are reserved and on the disk when a
        # place becomes free. Without them, group commits turn the calls into lock-step batches.
        self.ahead = service.concurrency + service.concurrency // 2
        self.limits = Limits(
            service.concurrency, service.requests_per_minute, service.tokens_per_minute
        )
        self.failure: BaseException | None = None
        self.is_stopped = False
        self.is_dropped = False  # not even what is in flight is waited for
        self._service, self._provider, self._account = service, provider, account
        self._journal, self._segment, self._repair = journal, segment, repair
        self._purse = account.open_purse(service, journal)
        self._pace = Pace(service)
        self._batched = journal.batched(fingerprint(identity(service)))
        self._stopping = asyncio.Event()
        self._in_flight: dict[bytes, asyncio.Future[Reply | None]] = {}
        self._last_answer = 0.0
        self._arrived: list[tuple[int, Reply]] = []
        self._bell: asyncio.Future[None] | None = None
        self._running = 0
        self._tasks: set[asyncio.Task[None]] = set()  # else nobody holds them

    def start(self, loop: asyncio.AbstractEventLoop, position: int, request: Request) -> None:
        """Take a request; its reply will be among the arrivals, unless the exchange stops."""
        task = loop.create_task(self._answer(position, request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._running += 1

    @property
    def open(self) -> int:
        """The number of requests that are taken and not handed out."""
        return self._running + len(self._arrived)

    async def arrivals(self) -> list[tuple[int, Reply]]:
        """What has arrived since the last call, at least one reply; empty when nothing is open."""
        if not self._arrived and self._running:
            self._bell = asyncio.get_running_loop().create_future()
            await self._bell
        arrived, self._arrived = self._arrived, []
        return arrived

    async def finish(self) -> None:
        """Finish what is in flight and keep it, handing nothing out."""
        self.stop(None)
        while self._tasks:
            await asyncio.wait(self._tasks)
        self._account.counts["waited_s"] += round(self.limits.paused_s)
        self._account.counts["cuts"] += self.limits.cuts

    def stop(self, why: BaseException | None) -> None:
        """Let nothing leave any more; the first reason given is the one that counts."""
        self.failure = self.failure or why
        self.is_stopped = True
        self._stopping.set()
        self.limits.stop()
        self._purse.refuse()

    async def _answer(self, position: int, request: Request) -> None:
        try:
            reply = await self._find_or_buy(request)
            if reply and self._repair and (again := self._repair(request, reply)):
                reply = await self._find_or_buy(again)
            if reply:
                self._arrived.append((position, reply))
        except Exception as error:
            self.stop(error)
        finally:
            self._running -= 1
            if self._bell and not self._bell.done() and (self._arrived or not self._running):
                self._bell.set_result(None)

    async def _find_or_buy(self, request: Request) -> Reply | None:
        """A reply from the journal, from the same call in flight, or from the service."""
        key = key_of(self._service, request)
        if found := self._journal.find(key):
            self._account.counts["from_journal"] += 1
            return found
        if key in self._batched:
            raise BadInput(
                f"service {self._service.name} has a batch under way with calls of this stage; "
                "collect it with mode=batch before going on with mode=online"
            )
        if other := self._in_flight.get(key):
            self._account.counts["shared"] += 1
            return await other
        mine = self._in_flight[key] = asyncio.get_running_loop().create_future()
        reply = None
        try:
            reply = await self._buy(key, request)
        finally:
            del self._in_flight[key]
            if not mine.done():  # cancelled with a task that waits for it
                mine.set_result(reply)
        return reply

    async def _buy(self, key: bytes, request: Request) -> Reply | None:
        """Send a call until it is answered or given up; None when the exchange stopped before."""
        service, account = self._service, self._account
        call = Call(
            key,
            account.stage,
            account.purse,
            service.name,
            service.model,
            "online",
            money.bound(request, service),
        )
        size = money.most_input(request)
        tokens = self._pace.expected(size)
        number: int | None = None  # of the note that covers the next attempt
        failures: Counter[Fate] = Counter()
        started = time.monotonic()
        if not await self._reserve(call):
            return None
        while True:
            if number is None:
                number = await self._segment.sent(call)
            ticket = await self.limits.enter(tokens, is_again=bool(failures))
            if ticket is None:
                await self._withdraw(number, call, failures)
                return None
            try:
                began = time.monotonic()
                reply = await self._provider.complete(request)
            except CallFailed as error:
                failed = error
            else:
                latency_s = time.monotonic() - began
                self._last_answer = time.monotonic()
                self.limits.answered(ticket)
                self.limits.learn(reply.room)
                self.limits.correct(tokens, self._pace.learn(size, reply))
                break
            finally:
                self.limits.leave()

            failures[failed.fate] += 1
            self._note_failure(failed, ticket)
            if failed.is_uncertain:
                self._settle(call, call.reserved)
                number = None
            is_silent = self._last_answer < started
            if failed.fate == "stop" or gives_up(failed, failures, service.attempts, is_silent):
                if not failed.is_uncertain:
                    await self._withdraw(number, call, failures)
                return self._give_up(failed, is_silent)
            if failed.is_uncertain and not await self._reserve(call):
                return None
            if failed.fate == "heal":
                await self._sleep(max(back_off(failures["heal"]), failed.retry_after_s or 0.0))

        price = self._price(call, reply)
        attempts = 1 + failures.total()
        await self._segment.answered(number, call, reply, price, latency_s, attempts)
        self._journal.add(key, self._segment.database, number)
        self._settle(call, price)
        account.count(reply, price)
        return replace(reply, room=None)

    async def _reserve(self, call: Call) -> bool:
        if self.is_stopped:
            return False
        is_reserved = await self._purse.reserve(call.reserved)
        if not is_reserved and not self.is_stopped:
            self.stop(BudgetSpent(self._account.spent_sentence()))
        return is_reserved

    def _settle(self, call: Call, microusd: int) -> None:
        self._purse.settle(call.reserved, microusd)
        self._account.spent = self._purse.spent

    async def _withdraw(self, number: int | None, call: Call, failures: Counter[Fate]) -> None:
        """Give the reservation of a call back that was certainly not billed."""
        if number is not None:
            await self._segment.void(number, call, failures.total())
        self._settle(call, 0)

    def _price(self, call: Call, reply: Reply) -> int:
        """What a reply cost; where no usage is told, the most that it can have."""
        if self._service.prices is None or reply.usage is None:
            return call.reserved
        return money.cost(reply.usage, self._service.prices)

    def _note_failure(self, failed: CallFailed, ticket: int) -> None:
        counts = self._account.counts
        self.limits.learn(failed.room)
        counts["retries"] += 1
        counts["uncertain"] += failed.is_uncertain
        if failed.fate == "wait":
            counts["busy"] += 1
            self.limits.busy(ticket, failed.retry_after_s)

    def _give_up(self, failed: CallFailed, is_silent: bool) -> Reply | None:
        """An error reply where only this call is at fault; else everything stops."""
        if failed.fate == "stop":
            self.stop(stopped(failed))
            return None
        if is_silent and failed.fate != "row":
            self.stop(silent(self._service, failed))
            return None
        self._account.counts["given_up"] += 1
        return Reply(str(failed), "error")

    async def _sleep(self, seconds: float) -> None:
        """Back off, or less when the exchange stops."""
        with suppress(TimeoutError):  # which is how a whole back-off ends
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
