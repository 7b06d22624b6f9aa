"""What a client bought, held against what was billed."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support import paid
from understudy.errors import UnderstudyError
from understudy.services.account import Account
from understudy.services.base import Reply
from understudy.services.client import ask_provider
from understudy.services.journal import open_journal

Arrived = list[tuple[int, Reply]]


def drain(stream: Iterator[tuple[int, Reply]]) -> tuple[Arrived, BaseException | None]:
    """Everything that is handed out, and the error that follows it."""
    arrived: Arrived = []
    try:
        for item in stream:
            arrived.append(item)
    except (UnderstudyError, KeyboardInterrupt) as error:
        return arrived, error
    return arrived, None


def buy(
    root: Path,
    provider: Any,
    count: int,
    repair: Any = None,
    budget_usd: Any = None,
    **service: Any,
) -> tuple[Arrived, BaseException | None, Account]:
    """Buy replies to so many requests of a scripted provider; `service` are facts about it."""
    account = paid.account(root, budget_usd=budget_usd)
    requests = paid.requests(count)
    stream = ask_provider(paid.service(**service), provider, requests, account, repair)
    return (*drain(stream), account)


def rows(root: Path, sql: str) -> list[Any]:
    found = []
    for path in sorted((root / "journal").glob("*.sqlite")):
        database = sqlite3.connect(path)
        found += database.execute(sql).fetchall()
        database.close()
    return found


def check_books(root: Path, account: Account) -> None:
    """The account says what the journal says, and no key was answered twice."""
    with open_journal(root / "journal") as journal:
        assert account.spent == journal.purse_total(account.purse)
    keys = rows(root, "SELECT key FROM replies WHERE key IS NOT NULL")
    assert len(keys) == len(set(keys))
