"""Ask a service many things at once: nothing that was paid for is lost, nothing is paid twice.

The life of an online call: find it, reserve its price, note it, send it, note the reply, settle.
Once an exchange is stopped nothing new leaves; calls in flight are finished and kept.
"""

import asyncio
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType

from understudy.config import Service
from understudy.errors import BadInput
from understudy.services import money
from understudy.services.account import Account, Ledger, Repair, open_ledger
from understudy.services.base import CallFailed, Fate, Provider, Reply, Request
from understudy.services.limits import Limits, Pace, back_off, gives_up, silent, stopped
from understudy.services.segment import PaidCall


def ask(
    service: Service,
    requests: Iterable[Request],
    account: Account,
    repair: Repair | None = None,
) -> Iterator[tuple[int, Reply]]:
    """Yield (position of the request, reply) as replies arrive.

    A reply that `repair` answers with a request is replaced by the reply to that request, once.
    Raises BadInput (a bad key or model), BudgetSpent, EnvironmentFailed (nobody answers) or
    KeyboardInterrupt, each after what was in flight has been handed out.
    """
    if service.provider == "offline":
        return _ask_offline(service, requests)
    from understudy.services import providers

    if service.mode == "batch":
        from understudy.services.batch import ask_in_batches

        opened = providers.open_batch(service, account.rehearsal_url)
        return ask_in_batches(service, opened, requests, account, repair)
    provider = providers.open_provider(service, account.rehearsal_url)
    return ask_provider(service, provider, requests, account, repair)


def ask_provider(
    service: Service,
    provider: Provider,
    requests: Iterable[Request],
    account: Account,
    repair: Repair | None = None,
) -> Iterator[tuple[int, Reply]]:
    """Like `ask`, of this provider; at most `service.concurrency` requests are taken ahead."""
    waiting = enumerate(requests)
    with ExitStack() as stack:
        ledger = stack.enter_context(open_ledger(service, account, "online"))
        runner = stack.enter_context(asyncio.Runner())  # cancels what is open on the way out
        exchange = OnlineExchange(ledger, provider, repair)
        loop = runner.get_loop()
        with _finishing_at_ctrl_c(exchange, loop):
            try:
                while True:
                    while (
                        not exchange.is_stopped
                        and exchange.open < exchange.ahead
                        and (following := next(waiting, None))
                    ):
                        exchange.start(loop, *following)
                    if not exchange.open:
                        break
                    yield from runner.run(exchange.arrivals())
            finally:
                if not exchange.is_dropped:
                    runner.run(exchange.finish())
                    runner.run(provider.close())
        if exchange.failure:
            raise exchange.failure


def _ask_offline(service: Service, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
    """Ask the program that plays a service: free, at once, and not worth writing down."""
    from understudy.services.providers.offline.calls import Offline

    provider = Offline(service)
    for position, request in enumerate(requests):
        yield position, provider.answer(request)


@contextmanager
def _finishing_at_ctrl_c(
    exchange: "OnlineExchange", loop: asyncio.AbstractEventLoop
) -> Iterator[None]:
    """The first Ctrl-C lets what is in flight finish, the second ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_pressed = False

    def interrupt() -> None:
        raise KeyboardInterrupt

    def press(_signal: int, _frame: FrameType | None) -> None:
        nonlocal is_pressed
        if is_pressed:
            exchange.is_dropped = True
            if not loop.is_running():
                raise KeyboardInterrupt
            # Raised here, amid a task's step, it could leave a task that nothing wakes again.
            loop.call_soon_threadsafe(interrupt)
            return
        is_pressed = True
        text = "\n  finishing the calls in flight, which are paid for; Ctrl-C again drops them"
        print(text, file=sys.stderr, flush=True)
        loop.call_soon_threadsafe(exchange.stop, KeyboardInterrupt())

    before = signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class OnlineExchange:
    """Answers requests; `arrivals` hands the replies out, `failure` says why it stopped."""

    def __init__(self, ledger: Ledger, provider: Provider, repair: Repair | None = None) -> None:
        service = ledger.service
        # Half as many again as may be open: the next calls are reserved and on the disk when a
        # place becomes free. Without them, group commits turn the calls into lock-step batches.
        self.ahead = service.concurrency + service.concurrency // 2
        self.limits = Limits(
            service.concurrency, service.requests_per_minute, service.tokens_per_minute
        )
        self.failure: BaseException | None = None
        self.is_stopped = False
        self.is_dropped = False  # not even what is in flight is waited for
        self._service, self._counts = service, ledger.account.counts
        self._ledger, self._provider, self._repair = ledger, provider, repair
        self._pace = Pace(service)
        self._batched = ledger.journal.batched(ledger.endpoint)
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
        self._counts["waited_s"] += round(self.limits.paused_s)
        self._counts["cuts"] += self.limits.cuts

    def stop(self, why: BaseException | None) -> None:
        """Let nothing leave any more; the first reason given is the one that counts."""
        self.failure = self.failure or why
        self.is_stopped = True
        self._stopping.set()
        self.limits.stop()
        self._ledger.purse.refuse()

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
        key = self._ledger.key(request)
        if found := self._ledger.find(key):
            return found
        if key in self._batched:
            raise BadInput(
                f"service {self._service.name} has a batch under way with calls of this stage; "
                "collect it with mode=batch before going on with mode=online"
            )
        if other := self._in_flight.get(key):
            self._counts["shared"] += 1
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
        ledger = self._ledger
        call, size = ledger.call(key, request), money.most_input(request)
        tokens = self._pace.expected(size)
        number: int | None = None  # of the note that covers the next attempt
        failures: Counter[Fate] = Counter()
        started = time.monotonic()
        if not await self._reserve(call):
            return None
        while True:
            if number is None:
                number = await ledger.segment.sent(call)
            ticket = await self.limits.enter(tokens, is_again=bool(failures))
            if ticket is None:
                await ledger.withdraw(number, call, failures.total())
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
                ledger.settle(call, call.reserved)
                number = None
            is_silent = self._last_answer < started
            if failed.fate == "stop" or gives_up(
                failed, failures, self._service.attempts, is_silent
            ):
                if not failed.is_uncertain:
                    await ledger.withdraw(number, call, failures.total())
                return self._give_up(failed, is_silent)
            if failed.is_uncertain and not await self._reserve(call):
                return None
            if failed.fate == "heal":
                await self._sleep(max(back_off(failures["heal"]), failed.retry_after_s or 0.0))
        return await ledger.keep(number, call, reply, latency_s, 1 + failures.total())

    async def _reserve(self, call: PaidCall) -> bool:
        if self.is_stopped:
            return False
        is_reserved = await self._ledger.purse.reserve(call.reserved)
        if not is_reserved and not self.is_stopped:
            self.stop(self._ledger.spent())
        return is_reserved

    def _note_failure(self, failed: CallFailed, ticket: int) -> None:
        self.limits.learn(failed.room)
        self._ledger.count_failure(failed)
        if failed.fate == "wait":
            self._counts["busy"] += 1
            self.limits.busy(ticket, failed.retry_after_s)

    def _give_up(self, failed: CallFailed, is_silent: bool) -> Reply | None:
        """An error reply where only this call is at fault; else everything stops."""
        if failed.fate == "stop":
            self.stop(stopped(failed))
            return None
        if is_silent and failed.fate != "row":
            self.stop(silent(self._service, failed))
            return None
        return self._ledger.give_up(failed)

    async def _sleep(self, seconds: float) -> None:
        """Back off, or less when the exchange stops."""
        with suppress(TimeoutError):  # which is how a whole back-off ends
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
