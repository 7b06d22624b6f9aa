"""Ask a service many things at once: nothing that was paid for is lost, nothing is paid twice."""

import asyncio
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from understudy.config import Service
from understudy.services.account import Account
from understudy.services.base import Provider, Reply, Request
from understudy.services.exchange import Exchange, Repair
from understudy.services.journal import identity, open_journal
from understudy.services.segment import Segment, make_private
from understudy.store import locks
from understudy.store.artifacts import fingerprint


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
        stack.enter_context(alone(service, account))
        journal = stack.enter_context(open_journal(account.journal))
        segment = Segment(account.journal)
        stack.callback(segment.close)
        runner = stack.enter_context(asyncio.Runner())  # cancels what is open on the way out
        exchange = Exchange(service, provider, account, journal, segment, repair)
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


@contextmanager
def alone(service: Service, account: Account) -> Iterator[None]:
    """Wait until no other process asks this endpoint, or spends from this purse under a budget.

    Only so limits, single flight and the budget hold for all processes together.
    """
    make_private(account.journal)
    names = [f"service-{fingerprint(identity(service))}"]
    if account.budget_usd is not None:
        names.append(f"purse-{fingerprint(account.purse)}")  # always second: no deadlock
    with ExitStack() as stack:
        for name in names:
            lock = account.journal / f"{name}.lock"
            stack.enter_context(locks.hold(lock, give_up=lambda: False))
        yield


@contextmanager
def _finishing_at_ctrl_c(exchange: Exchange, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """The first Ctrl-C lets what is in flight finish, the second ends it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    is_pressed = False

    def press(_signal: int, _frame: FrameType | None) -> None:
        nonlocal is_pressed
        if is_pressed:
            exchange.is_dropped = True
            raise KeyboardInterrupt
        is_pressed = True
        text = "\n  finishing the calls in flight, which are paid for; Ctrl-C again drops them"
        print(text, file=sys.stderr, flush=True)
        loop.call_soon_threadsafe(exchange.stop, KeyboardInterrupt())

    before = signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _ask_offline(service: Service, requests: Iterable[Request]) -> Iterator[tuple[int, Reply]]:
    """Ask the program that plays a service: free, at once, and not worth writing down."""
    from understudy.services.providers.offline.calls import Offline

    provider = Offline(service)
    for position, request in enumerate(requests):
        yield position, provider.answer(request)
