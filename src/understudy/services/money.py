"""Money in whole micro-dollars: what a call may cost, what it did cost, and who still may pay.

USD per million tokens are micro-dollars per token, so no unit is ever converted.
"""

import asyncio
import math
from collections import deque
from fractions import Fraction
from functools import lru_cache
from typing import Literal

from understudy.config.service import Prices, Service
from understudy.records import written
from understudy.services.base import Request, Usage
from understudy.store.artifacts import canonical

Mode = Literal["online", "batch"]

_FRAMING = 64  # tokens at most around one message or call: role, separators, what a maker adds
_TOOLS = 1024  # where tools are offered; Anthropic's own prompt for them has up to 804 (its docs)
MICRO = 1_000_000


def cost(usage: Usage, prices: Prices, mode: Mode = "online") -> int:
    """What a call costs: exact, rounded up to the micro-dollar, as the makers' bills are."""
    cached = prices.input if prices.cached is None else prices.cached
    written = prices.input if prices.written is None else prices.written
    share = 1.0
    if mode == "batch":
        assert prices.batch is not None, "agreement.py lets no service without a batch price here"
        share = prices.batch
    rates, divisor = _whole(prices.input, cached, written, prices.output, share)
    plain = usage.input - usage.cached - usage.written
    tokens = (plain, usage.cached, usage.written, usage.output)
    total = sum(count * rate for count, rate in zip(tokens, rates, strict=True))
    return -(-total // divisor)  # rounded up


def bound(request: Request, service: Service, mode: Mode = "online") -> int:
    """The most that a call can cost: no token of a prompt is shorter than a byte of UTF-8.

    The output limit includes reasoning, with every maker. A service without prices costs nothing.
    """
    if service.prices is None:
        return 0
    heard = most_input(request)
    is_dearer = (service.prices.written or 0.0) > service.prices.input
    most = Usage(heard, output=service.max_output_tokens, written=heard if is_dearer else 0)
    return cost(most, service.prices, mode)


def most_input(request: Request) -> int:
    """No request has more tokens than this."""
    size = 0
    for message in request.messages:
        text = written(message).encode("utf-8", "surrogatepass")
        size += len(message["role"]) + len(text)
        size += _FRAMING * (1 + len(message.get("tool_calls", ())))
    if request.tools:
        size += _TOOLS + sum(len(canonical(tool)) + _FRAMING for tool in request.tools)
    return size if request.schema is None else size + len(canonical(request.schema)) + _FRAMING


@lru_cache(maxsize=256)
def _whole(*prices_and_share: float) -> tuple[tuple[int, ...], int]:
    """Prices times the share as whole numbers, and what to divide a sum of them by.

    Each is the decimal that the YAML file says, not its nearest binary fraction.
    """
    *prices, share = (Fraction(str(number)) for number in prices_and_share)
    exact = [price * share for price in prices]
    divisor = math.lcm(*(price.denominator for price in exact))
    return tuple(int(price * divisor) for price in exact), divisor


class Purse:
    """One purse's ledger: what is spent and what is reserved never pass the cap together."""

    def __init__(self, spent: int, cap: int | None) -> None:
        self.spent = spent  # settled, and the upper bound of what is uncertain
        self.cap = cap
        self.reserved = 0
        self._waiting: deque[tuple[int, asyncio.Future[bool]]] = deque()

    async def reserve(self, amount: int) -> bool:
        """Set an amount aside, waiting for what others give back; False when it can never be."""
        if not self._waiting and self.take(amount):
            return True
        if not self.reserved:
            return False
        place: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((amount, place))
        return await place

    def take(self, amount: int) -> bool:
        """Set an amount aside if it fits now."""
        if fits := self._fits(amount):
            self.reserved += amount
        return fits

    def reopen(self, amount: int) -> None:
        """Treat what counts as spent as reserved: its call may be settled yet."""
        self.spent -= amount
        self.reserved += amount

    def settle(self, reserved: int, spent: int) -> None:
        """Give a reservation back, and book what was spent of it."""
        self.reserved -= reserved
        self.spent += spent
        while self._waiting and self._fits(self._waiting[0][0]):
            amount, place = self._waiting.popleft()
            if not place.done():
                self.reserved += amount
                place.set_result(True)
        if not self.reserved:
            self.refuse()

    def refuse(self) -> None:
        """Tell everybody who waits that there is nothing left to wait for."""
        while self._waiting:
            _, place = self._waiting.popleft()
            if not place.done():
                place.set_result(False)

    def _fits(self, amount: int) -> bool:
        return self.cap is None or self.spent + self.reserved + amount <= self.cap
