"""A stage's account with a service: what it may spend, and the ledger of its calls.

The ledger finds the replies that are in the journal, reserves the price of all others, writes down
what leaves and what comes back, and settles. Online calls and batches share it.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from understudy.config.service import Service
from understudy.errors import BadInput, BudgetSpent
from understudy.services import money
from understudy.services.base import CallFailed, Reply, Request
from understudy.services.journal import Journal, identity, key_of, open_journal
from understudy.services.money import MICRO, Mode, Purse
from understudy.services.segment import PaidCall, Segment, make_private
from understudy.store import locks
from understudy.store.artifacts import Job, fingerprint

_NOTED_S = 0.1  # a shorter wait is none
Repair = Callable[[Request, Reply], Request | None]


@dataclass
class Account:
    """One stage's account; `budget_usd` caps what its purse has spent, in all commands ever."""

    journal: Path  # directory of the call journal
    stage: str  # e.g. evaluation/0123456789abcdef
    purse: str  # the run or sweep that pays
    budget_usd: float | None = None
    rehearsal_url: str | None = None
    spent: int = 0  # micro-dollars of the purse so far, this stage's included
    counts: Counter[str] = field(default_factory=Counter)  # of this stage's calls
    waited_s: float = 0.0  # for others that asked the endpoint, or spent from the purse

    @property
    def note(self) -> str:
        """The running cost, for the progress bar; empty while nothing was paid."""
        return f"${self.spent / MICRO:.4f}" if self.spent else ""

    def summary(self) -> dict[str, Any]:
        """What the stage's calls took, for meta.json; empty where nothing was paid for."""
        waited = {"waited_seconds": round(self.waited_s, 1)} if self.waited_s >= _NOTED_S else {}
        return waited | ({"calls": dict(sorted(self.counts.items()))} if self.counts else {})

    def open_purse(self, service: Service, journal: Journal) -> Purse:
        """The purse with what it has spent so far; BadInput where its cap cannot be kept."""
        self.spent = journal.purse_total(self.purse)
        if self.budget_usd is None:
            return Purse(self.spent, None)
        if service.prices is None:
            raise BadInput(
                f"budget.usd={self.budget_usd:g} cannot be kept: service {service.name} has no "
                "prices; give it prices (of 0 where it is free), or budget.usd=null"
            )
        return Purse(self.spent, int(Fraction(str(self.budget_usd)) * MICRO))


def account_of(job: Job) -> Account:
    """The account that a stage's job charges."""
    return Account(
        journal=job.root / "journal",
        stage=job.stage,
        purse=job.purse,
        budget_usd=job.config.budget.usd,
        rehearsal_url=job.config.rehearsal.url,
    )


def leases(journal: Path) -> list[Path]:
    """Return the locks of endpoints and purses that `open_ledger` holds or waits for."""
    return [*journal.glob("service-*.lock"), *journal.glob("purse-*.lock")]


@contextmanager
def open_ledger(service: Service, account: Account, mode: Mode) -> Iterator["Ledger"]:
    """Wait until no other process asks this endpoint, or spends from this purse under a budget.

    Only so limits, single flight and the budget hold for all processes together.
    """
    make_private(account.journal)
    names = [f"service-{fingerprint(identity(service))}"]
    if account.budget_usd is not None:
        names.append(f"purse-{fingerprint(account.purse)}")  # always second: no deadlock
    with ExitStack() as stack:
        began = time.monotonic()
        for name in names:
            lock = account.journal / f"{name}.lock"
            stack.enter_context(locks.hold(lock, give_up=lambda: False))
        account.waited_s += time.monotonic() - began
        journal = stack.enter_context(open_journal(account.journal))
        segment = Segment(account.journal)
        stack.callback(segment.close)
        yield Ledger(service, account, mode, journal, segment)


class Ledger:
    """A stage's calls to one service, from being found or reserved to being settled."""

    def __init__(
        self, service: Service, account: Account, mode: Mode, journal: Journal, segment: Segment
    ) -> None:
        self.service, self.account, self.mode = service, account, mode
        self.journal, self.segment = journal, segment
        self.endpoint = fingerprint(identity(service))
        self.purse = account.open_purse(service, journal)

    def key(self, request: Request) -> bytes:
        """What the reply to a request is filed under."""
        return key_of(self.service, request)

    def find(self, key: bytes) -> Reply | None:
        """The reply to a call, where it was paid for before."""
        if found := self.journal.find(key):
            self.account.counts["from_journal"] += 1
        return found

    def call(self, key: bytes, request: Request, batch: str | None = None) -> PaidCall:
        """What is noted of a call before it leaves, with the most that it can cost."""
        service, account = self.service, self.account
        place = (account.stage, account.purse, service.name, service.model, self.mode)
        return PaidCall(key, *place, money.bound(request, service, self.mode), batch)

    def spent(self) -> BudgetSpent:
        """Why nothing more is bought, and how to go on."""
        account = self.account
        return BudgetSpent(
            f"{account.purse} has spent ${account.spent / MICRO:.6f} and the next call does not "
            f"fit into budget.usd={account.budget_usd:g}; the same command with a higher "
            "budget.usd goes on"
        )

    async def keep(
        self, number: int, call: PaidCall, reply: Reply, latency_s: float | None, attempts: int
    ) -> Reply:
        """Put a reply on the disk, and only then settle it and hand it on."""
        account, usage, price = self.account, reply.usage, call.reserved
        if self.service.prices is not None and usage is not None:  # else the most it can have cost
            price = money.cost(usage, self.service.prices, self.mode)
        await self.segment.answered(number, call, reply, price, latency_s, attempts)
        self.journal.add(call.key, self.segment.database, number)
        self.settle(call, price)
        account.counts["calls"] += 1
        account.counts["microusd"] += price
        if usage is not None:
            for name in usage.__slots__:
                account.counts[f"{name}_tokens"] += getattr(usage, name)
        return replace(reply, room=None)

    async def withdraw(self, number: int | None, call: PaidCall, attempts: int) -> None:
        """Give the reservation of a call back that was certainly not billed."""
        if number is not None:
            await self.segment.void(number, call, attempts)
        self.settle(call, 0)

    def count_failure(self, failed: CallFailed) -> None:
        """Take a failed try into the sums."""
        self.account.counts["retries"] += 1
        self.account.counts["uncertain"] += failed.is_uncertain

    def give_up(self, failed: CallFailed) -> Reply:
        """The reply of a call that nobody answers."""
        self.account.counts["given_up"] += 1
        return Reply(str(failed), "error")

    def settle(self, call: PaidCall, microusd: int) -> None:
        """Book what was spent of a reservation; other purses' calls are theirs."""
        if call.purse == self.account.purse:
            self.purse.settle(call.reserved, microusd)
            self.account.spent = self.purse.spent
