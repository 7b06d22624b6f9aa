"""What a client bought, held against what was billed."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from understudy.errors import UnderstudyError
from understudy.services.account import Account
from understudy.services.base import Reply
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
