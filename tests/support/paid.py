"""A paid service that is never paid, and providers that play a script."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import configs
from understudy.config import Prices, Service
from understudy.services.account import Account
from understudy.services.base import Reply, Request, Usage

PRICES = Prices(input=2.5, output=10.0, date="2026-11-21", source="test", cached=1.25, batch=0.5)
USAGE = Usage(input=100, output=20)  # 450 micro-dollars


def service(**changed: Any) -> Service:
    facts: dict[str, Any] = {
        "name": "paid",
        "provider": "openai",
        "model": "gpt-test",
        "family": "openai",
        "terms": None,
        "temperature": None,
        "max_output_tokens": 100,
        "rehearsal": True,
        "prices": PRICES,
        "concurrency": 8,
    }
    return configs.service(**facts | changed)


def account(root: Path, **changed: Any) -> Account:
    facts: dict[str, Any] = {"stage": "evaluation/0", "purse": "run/test"}
    return Account(root / "journal", **facts | changed)


def requests(count: int, text: str = "hello") -> list[Request]:
    return [Request(({"role": "user", "content": text},), index) for index in range(count)]


class Scripted:
    """Answers request n, or raises, as `script(n, how often it came before)` says."""

    def __init__(
        self, script: Callable[[int, int], Reply | Exception | None] = lambda n, tries: None
    ) -> None:
        self.script = script
        self.log: list[int] = []  # every call that left, by index
        self.open = self.most_open = self.cancelled = 0
        self.is_closed = False

    async def complete(self, request: Request) -> Reply:
        index = request.index
        tries = self.log.count(index)
        self.log.append(index)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self.work(index)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.open -= 1
        outcome = self.script(index, tries)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome or Reply(f"reply {index}", usage=USAGE)

    async def work(self, index: int) -> None:
        """Take a while."""
        await asyncio.sleep(0)

    async def close(self) -> None:
        self.is_closed = True
